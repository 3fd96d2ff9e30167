"""Which frames of a run are done: Ray's checkpoint, read from outside."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic

import pyarrow as pa

from scrapray.audit.results import read_work
from scrapray.audit.retries import DONE
from scrapray.errors import SchemaError, StorageError
from scrapray.storage import Storage

Progress = Callable[[int, int], None]
"""Takes the number of finished frames and of all frames."""

_PENDING = ".pending.parquet"
"""Ending of Ray's checkpoint files as long as their rows may be unwritten; committed ones end in ``.parquet``."""
_PAUSE_S = 2.0
_NUM_READERS = 16
"""A resumed run finds thousands of small files."""


class Ledger:
    """Counts the frames of a manifest whose rows are safely written. Reads each checkpoint file once."""

    def __init__(self, checkpoint_uri: str, storage: Storage, frame_ids: pa.ChunkedArray) -> None:
        self._uri = checkpoint_uri
        self._storage = storage
        self._left = set(frame_ids.to_pylist())
        self._read: set[str] = set()
        self.num_total = len(self._left)

    def num_done(self) -> int:
        """How many are done by now.

        Raises:
            SchemaError: A file of the checkpoint is damaged.
            StorageError: The checkpoint cannot be read.
        """
        committed = [uri for uri in self._storage.list_names(self._uri) if _is_committed(uri)]
        new = [uri for uri in committed if uri not in self._read]
        with ThreadPoolExecutor(_NUM_READERS) as pool:
            for uri, done in zip(new, pool.map(lambda uri: read_work(uri, DONE, self._storage), new), strict=True):
                self._left.difference_update(done["frame_id"].to_pylist())
                self._read.add(uri)
        return self.num_total - len(self._left)

    @contextmanager
    def reported(self, progress: Progress) -> Iterator[None]:
        """Report what is done every few seconds from a thread, for as long as the block runs."""
        stop = Event()
        thread = Thread(target=self._report, args=(progress, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _report(self, progress: Progress, stop: Event) -> None:
        pause_s = 0.0
        while not stop.wait(pause_s):
            started_s = monotonic()
            with suppress(SchemaError, StorageError):  # the run meets it too, and says so
                progress(self.num_done(), self.num_total)
            # A slow store with many files is not asked all the time.
            pause_s = max(_PAUSE_S, 10 * (monotonic() - started_s))


def _is_committed(uri: str) -> bool:
    return uri.endswith(".parquet") and not uri.endswith(_PENDING)
