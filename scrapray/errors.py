"""Errors that a user can mend, as one tree.

    ScraprayError
    ├── ConfigurationError   a setting, argument or file of settings is wrong
    ├── FrameError           one frame cannot be used; becomes a rejected row, never a stop
    ├── SchemaError          a table or manifest does not have the columns it must have
    ├── AlertError           one message cannot be delivered now; becomes a line of the summary, never a stop
    ├── ModelError           a bundle or its weights cannot be used
    ├── RegistryError        the registry of runs and models cannot be reached, or refuses what was asked
    └── StorageError         object storage or a folder cannot be reached, read or written

Every message says what is wrong, where, and how to mend it. The command line prints it as one line and
exits with 2; anything that is not a ``ScraprayError`` is a fault of ours and keeps its traceback.
"""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pydantic import ValidationError

EXIT_USAGE = 2
EXIT_STOPPED = 130


class ScraprayError(Exception):
    """Root of all errors that a user can mend."""


class ConfigurationError(ScraprayError):
    """A setting, an argument or a configuration file is wrong."""


class FrameError(ScraprayError):
    """One frame cannot be used.

    Attributes:
        stage: Where it was found out: ``manifest``, ``download``, ``decode``, ``bed``, ``quality``, ``segment``; of
            annotated frames also ``annotation``, ``mask``, ``cut``.
        reason: Short word for tables, for example ``truncated``.
    """

    def __init__(self, stage: str, reason: str, detail: str = "") -> None:
        super().__init__(stage, reason, detail)
        self.stage = stage
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


class SchemaError(ScraprayError):
    """A table does not have exactly the columns and types that its schema names."""


class AlertError(ScraprayError):
    """One message could not be delivered by one way; the message names neither secret nor address in full.

    Attributes:
        is_temporary: Whether the same may go well in a few seconds.
    """

    def __init__(self, message: str, *, is_temporary: bool = False) -> None:
        super().__init__(message)
        self.is_temporary = is_temporary


class ModelError(ScraprayError):
    """A bundle, its card or its weights cannot be used."""


class DivergedError(ModelError):
    """Training left the numbers that lead anywhere; from the same checkpoint it would do so again."""


class RegistryError(ScraprayError):
    """The registry of runs and models cannot be reached, does not know what was asked for, or refuses it.

    Attributes:
        reason: ``unreachable`` when the server does not answer, else ``refused``.
    """

    def __init__(self, message: str, reason: str = "refused") -> None:
        super().__init__(message)
        self.reason = reason


class StorageError(ScraprayError):
    """Object storage or a folder cannot be reached, read or written.

    Attributes:
        reason: Short word for tables: ``missing``, ``no_bucket``, ``forbidden``, ``credentials``, ``unreachable``,
            ``disk_full`` or ``failed``.
    """

    def __init__(self, message: str, reason: str = "failed") -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def is_of_one_object(self) -> bool:
        """Whether it may say something of this object alone, and nothing of those beside it."""
        return self.reason in ("missing", "forbidden")


@contextmanager
def in_one_line(command: str) -> Iterator[None]:
    """End the process with one line instead of a traceback where a user can mend it, or has stopped it.

    Args:
        command: What was called, such as ``python jobs/finetune.py``; its arguments are in ``sys.argv``.

    Raises:
        SystemExit: With ``EXIT_USAGE`` or ``EXIT_STOPPED``.
    """
    try:
        yield
    except ScraprayError as error:
        _end(" ".join(str(error).split()), EXIT_USAGE)
    except OSError as error:  # a path that was given, and not through the storage
        if not error.filename:
            raise
        _end(f"cannot use {error.filename}: {error.strerror}; give another path", EXIT_USAGE)
    except KeyboardInterrupt:
        again = f"{command} {shlex.join(sys.argv[1:])}"
        print(file=sys.stderr)
        _end(f"stopped; nothing half-done was published. To go on: {again}", EXIT_STOPPED)


def _end(line: str, exit_code: int) -> NoReturn:
    print(f"scrapray: {line}", file=sys.stderr)
    raise SystemExit(exit_code) from None


def first_fault(error: "ValidationError", whole: str = "the file") -> str:
    """Where the first thing is that does not fit, and why; ``whole`` names the place of what is wrong altogether."""
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc'])) or whole}: {fault['msg']}"
