"""One message as an e-mail, handed to an SMTP server."""

import datetime as dt
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import SMTP
from typing import ClassVar, TypeVar

from scrapray.alerts.deadline import beside
from scrapray.alerts.messages import Message, letter_of
from scrapray.config import environment
from scrapray.errors import AlertError
from scrapray.recipients import EmailConfig

T = TypeVar("T")

_LONGEST_ANSWER = 120
_ONE_LINE = SMTP.clone(max_line_length=998)
"""Keeps a subject on the line of its name, where ``SMTP`` would begin it on the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """The server, who sends and who gets it, and how long all that is said for one message may take."""

    config: EmailConfig
    timeout_s: float

    name: ClassVar[str] = "email"

    def send(self, message: Message) -> str:
        """Hand one message to the server, for all recipients at once; says for whom it was refused.

        Raises:
            AlertError: The server did not take it for any recipient.
        """
        letter = _written(message, self.config.sender, self.config.recipients)
        refused = self._talk(lambda server: server.sendmail(self.config.sender, self.config.recipients, letter))
        return f"not for {', '.join(sorted(refused))}, whom {self.config.host} refuses" if refused else ""

    def check(self) -> str:
        """See to it that a message could be sent, without sending one; says what is there.

        Raises:
            AlertError: It could not.
        """
        self._talk(lambda server: None)
        return f"{self.config.host} takes mail"

    def _talk(self, say: Callable[[smtplib.SMTP], T]) -> T:
        """Connect and say something, all within the time limit: what smtplib limits is the wait for the next bytes."""
        deadline = time.monotonic() + self.timeout_s

        def conversation() -> T:
            with self._connection() as server:
                if time.monotonic() > deadline:  # counted as not sent by now, so it must not go
                    raise TimeoutError
                return say(server)

        with self._explained():
            return beside(conversation).result(self.timeout_s)

    @contextmanager
    def _connection(self) -> Iterator[smtplib.SMTP]:
        """Greeted, encrypted and logged in. How the server says good-bye does not matter: it has the mail by then."""
        config, trust = self.config, ssl.create_default_context()
        user, password = self._login()
        server = (
            smtplib.SMTP_SSL(config.host, config.port, timeout=self.timeout_s, context=trust)
            if config.security == "tls"
            else smtplib.SMTP(config.host, config.port, timeout=self.timeout_s)
        )
        try:
            if config.security == "starttls":
                server.starttls(context=trust)
            if user:
                server.login(user, password)
            yield server
            with suppress(OSError):
                server.quit()
        finally:
            server.close()

    def _login(self) -> tuple[str, str]:
        names = (self.config.user_env, self.config.password_env)
        values = [(environment(name) or "").strip() if name else "" for name in names]
        for name, value in zip(names, values, strict=True):
            if name and not value:
                raise AlertError(f"the environment variable {name} is not set; the mail server wants it")
            if not value.isascii():
                raise AlertError(
                    f"the environment variable {name} holds letters beyond ASCII, which no mail server takes"
                )
        return values[0], values[1]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        host = self.config.host
        try:
            yield
        except smtplib.SMTPRecipientsRefused as error:
            code, answer = next(iter(error.recipients.values()))
            raise _refusal(host, code, answer) from error
        except smtplib.SMTPResponseException as error:
            raise _refusal(host, error.smtp_code, error.smtp_error) from error
        except smtplib.SMTPNotSupportedError as error:
            raise AlertError(f"{host} does not offer what security or user need: {error}") from error
        except ssl.SSLError as error:
            raise AlertError(f"the TLS certificate of {host} is not accepted; correct it, host or security") from error
        except (OSError, ValueError) as error:  # SMTPException is an OSError; a ValueError comes of strange answers
            # What smtplib raises hides a TimeoutError that it met.
            is_late = isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)
            what = f"did not answer within {self.timeout_s:g} s" if is_late else "cannot be reached"
            raise AlertError(f"{host} {what}; check it and the network", is_temporary=True) from error


def _refusal(host: str, code: int, answer: bytes | str) -> AlertError:
    """What a server says in words, on one line; 4xx asks to come again."""
    words = answer.decode("ascii", "replace") if isinstance(answer, bytes) else answer
    shown = "".join(each if each.isprintable() else " " for each in words)
    return AlertError(
        f"{host} answered {code} {' '.join(shown.split())[:_LONGEST_ANSWER]}", is_temporary=400 <= code < 500
    )


def _written(message: Message, sender: str, recipients: tuple[str, ...]) -> bytes:
    """The letter as it goes over the wire. Made before there is a connection, so that no server is blamed for it."""
    try:
        return envelope_of(message, sender, recipients).as_bytes()
    except (MessageError, ValueError, LookupError, TypeError, AttributeError) as error:  # all that its library raises
        raise AlertError(f"no letter can be made of message {message['id']}; look at its record in the lake") from error


def envelope_of(message: Message, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """The e-mail, in ASCII on the wire; the same ``Message-ID`` whenever it is sent again."""
    letter = EmailMessage(policy=SMTP)
    # Else a truck named =?utf-8?q?=0ABcc:...?= is decoded as RFC 2047 has it, line ends and all.
    letter["Subject"] = f"scrapray: {message['text']}".replace("=?", "= ?")
    letter["From"] = sender
    letter["To"] = ", ".join(recipients)
    letter["Date"] = dt.datetime.fromisoformat(message["created_utc"])
    letter["Message-ID"] = f"<{message['id']}@{sender.rpartition('@')[2]}>"
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(letter_of(message), cte="quoted-printable")
    if message["text"].isascii():
        letter.policy = _ONE_LINE
    return letter
