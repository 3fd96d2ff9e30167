"""Who is told of a night, and by which way: the section ``[alerts]`` of an audit's settings.

Secrets never stand in a file of settings: keys that end in ``_env`` name environment variables.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import ConfigDict

from scrapray.settings import STRICT, require

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = r"[A-Za-z0-9!#$%&'*+/=^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"{_WORD}(?:\.{_WORD})*@{_LABEL}(?:\.{_LABEL})*")
"""What RFC 5322 allows without quotes, less the question mark, with which a header would begin an encoded word."""
_HOST = re.compile(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:]+")
_LAST_PORT = 65535


def _require_variable(key: str, name: str) -> None:
    # The value is left out of the message: it may be the secret itself.
    require(
        _VARIABLE.fullmatch(name) is not None,
        f"{key} must be the name of an environment variable, such as SCRAPRAY_{key.removesuffix('_env').upper()}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """``[alerts.webhook]``: environment variables that hold the address to post to and the secret to sign with."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    url_env: str
    secret_env: str

    def __post_init__(self) -> None:
        _require_variable("url_env", self.url_env)
        _require_variable("secret_env", self.secret_env)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailConfig:
    """``[alerts.email]``: the SMTP server that takes the mail, who sends it and who gets it.

    ``security`` is ``starttls`` (a plain greeting first, usual on port 587), ``tls`` (from the first byte, usual on
    465) or ``none``. The server is asked for no user where ``user_env`` and ``password_env`` are left out.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    host: str
    sender: str
    recipients: tuple[str, ...]
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user_env: str | None = None
    password_env: str | None = None

    def __post_init__(self) -> None:
        require(_HOST.fullmatch(self.host) is not None, f"host is {self.host!r}, must be a name or address of a server")
        require(1 <= self.port <= _LAST_PORT, f"port is {self.port}, must be 1 to {_LAST_PORT}")
        require(bool(self.recipients), "recipients is empty; name one, or leave the section out")
        for address in (self.sender, *self.recipients):
            require(_ADDRESS.fullmatch(address) is not None, f"{address!r} is no address such as yard@example.com")
        require(
            (self.user_env is None) == (self.password_env is None),
            "user_env and password_env go together; give both or neither",
        )
        if self.user_env is not None and self.password_env is not None:
            _require_variable("user_env", self.user_env)
            _require_variable("password_env", self.password_env)
            require(self.security != "none", 'a password needs security = "starttls" or "tls", or all can read it')


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsConfig:
    """``[alerts]``: ways by which people and programs are told of a night; without any, nobody is.

    ``file`` gets one line of JSON for each message. A server that does not answer within ``timeout_s`` is tried
    ``max_attempts`` times, with pauses of 1, 2, 4, ... seconds between.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    webhook: WebhookConfig | None = None
    email: EmailConfig | None = None
    file: str | None = None
    max_attempts: int = 4
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        require(
            self.file is None or (bool(self.file.strip()) and "://" not in self.file and "\0" not in self.file),
            f"file is {self.file!r}, must be a path on this machine: lines cannot be added to an object in a store",
        )
        require(
            self.file is None or not self.file.startswith("~"),
            f"file is {self.file!r}, must be written out: ~ stands for a home in a shell only",
        )
        require(1 <= self.max_attempts <= 10, f"max_attempts is {self.max_attempts}, must be 1 to 10")
        require(0 < self.timeout_s <= 600, f"timeout_s is {self.timeout_s}, must be above 0 and at most 600")
