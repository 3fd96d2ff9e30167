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
from contextlib import contextmanager, suppress
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
        """All calls that wait, the oldest first; a line that is damaged, such as a last one cut off, is left out."""
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [call for line in lines if line.endswith("\n") and (call := _call_in(line))]

    def keep(self, call: Call) -> None:
        """Add a call; the file or folder at its ``path``, where it has one, is copied under the same name."""
        with self._locked():
            if "path" in call:
                call = call | {"path": str(self._copy(Path(call["path"])))}
            self._cut_torn_line()
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(call) + "\n")

    def drop(self, sent: Sequence[Call]) -> None:
        """Forget calls; after the last, nothing is left on disk."""
        gone = set(map(json.dumps, sent))
        with self._locked():
            left = [line for line in map(json.dumps, self.calls()) if line not in gone]
            if not left:
                shutil.rmtree(self.folder)
                return
            unfinished = self._file.with_suffix(".unfinished")
            unfinished.write_text("".join(f"{line}\n" for line in left), encoding="utf-8")
            unfinished.replace(self._file)

    def _cut_torn_line(self) -> None:
        """Take away what a crash left behind the last whole line, lest the next call be written onto it."""
        with suppress(FileNotFoundError), self._file.open("rb+") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            if file.read() not in (b"", b"\n"):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)

    def _copy(self, path: Path) -> Path:
        place = self.folder / "files" / uuid4().hex
        place.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, place / path.name)
        else:
            shutil.copyfile(path, place / path.name)
        return place / path.name

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone with the folder, which is there: whoever drops the last call takes it away."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.folder.mkdir(exist_ok=True)
            yield


def _call_in(line: str) -> Call | None:
    with suppress(json.JSONDecodeError):
        call: Call = json.loads(line)
        return call
    return None
