"""One message as a line of JSON at the end of a file of this machine, for a program that watches it."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from scrapray.alerts.messages import Message, as_json
from scrapray.errors import AlertError


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The file; it and its folder are made when they are not there, so another program may move it away."""

    path: Path

    name: ClassVar[str] = "file"

    def send(self, message: Message) -> str:
        """Add one line. What a crash has left of a line before stays a line of its own.

        Raises:
            AlertError: The file cannot be written.
        """
        self._append(as_json(message) + b"\n")
        return ""

    def check(self) -> str:
        """See to it that lines could be added; says what is there.

        Raises:
            AlertError: They could not.
        """
        self._append(b"")
        return f"{self.path} can be written"

    def _append(self, line: bytes) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # a long line of another writer may be seen half written
                file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
                is_torn = file.read(1) not in (b"", b"\n")
                file.write(b"\n" * (is_torn and bool(line)) + line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise AlertError(f"{self.path} cannot be written: {error.strerror or error}; give another path") from error
