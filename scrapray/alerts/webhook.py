"""One message, signed, to a URL: HTTP POST as the Standard Webhooks specification has it.

Reference: Standard Webhooks 1.0, symmetric signatures (https://www.standardwebhooks.com).
"""

import asyncio
import base64
import binascii
import hmac
import socket
import time
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from scrapray.alerts.deadline import beside
from scrapray.alerts.messages import Message, as_json
from scrapray.config import environment
from scrapray.errors import AlertError

SECRET_PREFIX = "whsec_"
_LEAST_SECRET_BYTES = 24
_PROXIES = "http_proxy or https_proxy"
_HOW_TO_MAKE_ONE = 'make one with: echo "whsec_$(openssl rand -base64 32)"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Names of the environment variables that hold address and secret, and how long all of one request may take."""

    url_env: str
    secret_env: str
    timeout_s: float

    name: ClassVar[str] = "webhook"

    def send(self, message: Message) -> str:
        """Deliver one message; any status of 200 to 299 says that it was taken.

        Raises:
            AlertError: It was not taken.
        """
        url, body, timestamp = self._url(), as_json(message), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "scrapray",
            "webhook-id": message["id"],
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._secret(), message["id"], timestamp, body),
        }
        status = self._request("POST", url, body, headers)
        if not 200 <= status < 300:
            what = f"{_host(url)} answered {status}"
            mend = f"; correct the address in {self.url_env}, redirects are not followed" * (300 <= status < 400)
            raise AlertError(what + mend, is_temporary=status >= 500 or status == 429)
        return ""

    def check(self) -> str:
        """See to it that a message could be sent, without sending one; says what is there.

        Raises:
            AlertError: It could not.
        """
        url = self._url()
        self._secret()
        self._request("HEAD", url, None, {"User-Agent": "scrapray"})
        return f"{_host(url)} answers"

    def _url(self) -> str:
        url = (environment(self.url_env) or "").strip()
        if not url:
            raise AlertError(f"the environment variable {self.url_env} is not set; put the webhook's address into it")
        try:
            parts = urlsplit(url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable:
            raise AlertError(f"{self.url_env} holds no address such as https://alerts.example.com/scrap; correct it")
        return url

    def _secret(self) -> bytes:
        text = (environment(self.secret_env) or "").strip()
        if not text:
            raise AlertError(f"the environment variable {self.secret_env} is not set; {_HOW_TO_MAKE_ONE}")
        try:
            secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):  # the latter of letters that are not ASCII
            secret = b""
        if len(secret) < _LEAST_SECRET_BYTES:
            raise AlertError(
                f"{self.secret_env} holds no secret of {_LEAST_SECRET_BYTES} bytes or more in base64; "
                f"{_HOW_TO_MAKE_ONE}"
            )
        return secret

    def _request(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> int:
        host = _host(url)
        try:
            return asyncio.run(_status(method, url, body, headers, self.timeout_s))
        except TimeoutError as error:
            what = f"{host} did not answer within {self.timeout_s:g} s; check it and the network"
            raise AlertError(what, is_temporary=True) from error
        except aiohttp.ClientSSLError as error:
            raise AlertError(f"the TLS certificate of {host} is not accepted; correct it, or the address") from error
        except (aiohttp.InvalidURL, ValueError) as error:
            what = f"the address in {self.url_env}, or of a proxy in {_PROXIES}, cannot be used; correct it"
            raise AlertError(what) from error
        except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as error:
            what = f"the proxy in {_PROXIES} lets nobody through to {host}; check it and the network"
            raise AlertError(what, is_temporary=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise AlertError(f"{host} cannot be reached; check it and the network", is_temporary=True) from error


async def _status(method: str, url: str, body: bytes | None, headers: dict[str, str], timeout_s: float) -> int:
    """One request, its answer's body left unread. The time limit holds for the whole, however slowly it trickles."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with (
        aiohttp.TCPConnector(resolver=_Names()) as connector,
        aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as session,
        session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer,
    ):
        return answer.status


class _Names(AbstractResolver):
    """Asks the system for addresses as aiohttp does, but beside: asyncio waits for its own threads however late."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.wrap_future(beside(lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)))
        return [
            ResolveResult(hostname=host, host=str(place[0]), port=int(place[1]), family=kind, proto=proto, flags=0)
            for kind, _, proto, _, place in found
        ]

    async def close(self) -> None:
        pass


def _host(url: str) -> str:
    """All of an address that may be shown: path and query can be as good as a password."""
    return urlsplit(url).hostname or "the webhook"


def sign(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``: HMAC-SHA256 over id, timestamp and body, joined by full stops."""
    digest = hmac.digest(secret, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"
