"""What a server should have been told while it did not answer, on this machine's disk until it does.

<folder>/calls.jsonl    one call per line, in order
<folder>/files/<n>/     copies of the files and folders that calls speak of, since the originals may be temporary
<folder>/../.lock       held by whoever changes a journal
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

Call = dict[str, Any]
"""Name of the call under ``call``, and its arguments; plain values for JSON."""


class Journal:
    """Calls that wait. One process may keep calls while another sends them; nothing is there while nothing waits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._file = self.folder / "calls.jsonl"

    def calls(self) -> list[Call]:
        """All calls that wait, the oldest first; a last line that was cut off by a crash is left out."""
        if not self._file.exists():
            return []
        lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def keep(self, call: Call) -> None:
        """Add a call."""
        with self._locked(), self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(call) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_copy(self, path: Path) -> Path:
        """Copy a file or a whole folder into the journal; gives the place of the copy, whose name is the same."""
        place = self.folder / "files" / uuid4().hex
        place.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, place / path.name)
        else:
            shutil.copyfile(path, place / path.name)
        return place / path.name

    def drop(self, sent: Sequence[Call]) -> None:
        """Forget calls; after the last, nothing is left on disk."""
        with self._locked():
            left = [call for call in self.calls() if call not in sent]
            if not left:
                shutil.rmtree(self.folder)
                return
            unfinished = self._file.with_suffix(".unfinished")
            unfinished.write_text("".join(json.dumps(call) + "\n" for call in left), encoding="utf-8")
            unfinished.replace(self._file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.folder.mkdir(exist_ok=True)  # the one before may have taken it away
            yield
