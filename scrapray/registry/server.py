"""One MLflow server, or the SQLite file that takes its place: how it is reached, and what its errors mean."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from scrapray.config import environment, set_default_environment
from scrapray.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)

_SQLITE = "sqlite:///"
_CLIENT_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Its own 7 tries with growing pauses hold a training up for four minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
_BY_CODE = {
    "UNAUTHENTICATED": f"it does not know this user or password; {_CREDENTIALS}",
    "PERMISSION_DENIED": f"this user has no right to; grant it, or {_CREDENTIALS}",
    "ENDPOINT_NOT_FOUND": "what answers there is no MLflow server; correct MLFLOW_TRACKING_URI",
}
_BY_STATUS = {401: _BY_CODE["UNAUTHENTICATED"], 403: _BY_CODE["PERMISSION_DENIED"]}
_MOST_CHARACTERS = 300


class Server:
    """Where runs and models are kept. Connects at first use."""

    def __init__(self, tracking_uri: str | None = None) -> None:
        """Take note of the address: ``http(s)://`` or ``sqlite:///``; ``MLFLOW_TRACKING_URI`` when not given.

        Raises:
            RegistryError: The address is of another kind, or holds a password.
        """
        named = tracking_uri or environment("MLFLOW_TRACKING_URI")
        uri = named or f"{_SQLITE}mlflow.db"
        parts = urlsplit(uri)
        # The address is left out of the messages: it may hold a secret.
        if "@" in parts.netloc:
            raise RegistryError(f"the tracking URI holds a user name; leave it out and {_CREDENTIALS}")
        if not (parts.scheme in ("http", "https") and parts.netloc) and not uri.startswith(_SQLITE):
            raise RegistryError(
                "the tracking URI is of no kind that scrapray knows; give http(s)://host:port or sqlite:///file.db"
            )
        self.file = Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None
        """Of the database; None on a real server."""
        # Absolute, since workers have other working folders.
        self.uri = f"{_SQLITE}{self.file}" if self.file else uri
        self._is_named = bool(named)

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's own; it makes the database if there is none."""
        if self.file:
            # On a cluster, where submitted jobs find its address in RAY_ADDRESS, the file goes with a job or a node.
            if not self._is_named and environment("RAY_ADDRESS") and not self.file.exists():
                _log.warning(
                    "scrapray: runs and models go into a new file, %s, though Ray is a cluster; to keep them, set "
                    "MLFLOW_TRACKING_URI to the address of an MLflow server",
                    self.file,
                )
            self.file.parent.mkdir(parents=True, exist_ok=True)
        set_default_environment(**_CLIENT_SETTINGS)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # a line for each retry: we say it once
        from mlflow import MlflowClient

        return MlflowClient(self.uri, registry_uri=self.uri)

    @property
    def reader(self) -> "MlflowClient":
        """The same, where reading from a database that is not there must not make one.

        Raises:
            RegistryError: It is not there.
        """
        if self.file and not self.file.exists():
            raise RegistryError(
                f"there is no registry at {self.uri}; set MLFLOW_TRACKING_URI to the address of a server, "
                f"or work in the folder that holds mlflow.db"
            )
        return self.client

    @contextmanager
    def explained(self, action: str) -> Iterator[None]:
        """Turn what MLflow raises into a ``RegistryError`` of one line."""
        try:
            yield
        except RegistryError:
            raise
        except Exception as error:
            explanation = _explain(error)
            if explanation is None:
                raise
            what, reason = explanation
            raise RegistryError(f"cannot {action} at {self.uri}: {what}", reason=reason) from error


def _explain(error: Exception) -> tuple[str, str] | None:
    """What went wrong and the short word for it; None for what is a fault of ours."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DBAPIError

    # MLflow wraps what its HTTP library raised.
    causes = [error, error.__cause__, error.__context__]
    request = next((cause for cause in causes if isinstance(cause, requests.RequestException)), None)
    status = request.response.status_code if request is not None and request.response is not None else None
    if request is not None and (status is None or status >= 500):
        return "it does not answer; check MLFLOW_TRACKING_URI, the network and the server", "unreachable"
    if status in _BY_STATUS:
        return _BY_STATUS[status], "refused"
    if isinstance(error, MlflowException):
        if "not in a valid JSON format" in error.message:
            return _BY_CODE["ENDPOINT_NOT_FOUND"], "refused"
        return _BY_CODE.get(error.error_code) or _one_line(error.message), "refused"
    if isinstance(error, DBAPIError):
        return _one_line(str(error.orig)), "refused"
    return (_one_line(str(error)), "refused") if isinstance(error, OSError) else None


def _one_line(message: str) -> str:
    words = re.sub(r"^[A-Z_]+: ", "", " ".join(message.split())).rstrip(".")[:_MOST_CHARACTERS]
    return f"{words}; scrapray models list shows what there is" if words.endswith("not found") else words
