"""What Ray runs as tasks: reading the bytes of frames. Imports nothing of the segmenter, so its workers start fast."""

import pyarrow as pa

from scrapray.errors import StorageError
from scrapray.storage import Storage

FETCHED = pa.schema(
    [
        pa.field("frame_id", pa.string(), nullable=False),
        pa.field("camera_id", pa.string()),
        pa.field("data", pa.large_binary()),
        pa.field("download_fault", pa.string()),
    ]
)
"""What goes from the tasks to the actors: the file as it was archived, 2 MB for a frame that decodes to 25 MB."""

_FAULTS_OF_ONE_FRAME = ("missing", "forbidden")


def fetch(batch: pa.Table, storage: Storage) -> pa.Table:
    """Read the bytes of frames: rows with ``frame_id``, ``uri`` and ``camera_id`` become ``FETCHED``.

    A frame that is gone, or that alone may not be read, is a row with a reason. Anything else (no bucket, no
    connection after all retries, a wrong secret, an archive that may no longer be listed) is no fault of a frame: it
    stops the run, since a night of rejected frames would count as done.

    Raises:
        StorageError: The archive cannot be read.
    """
    fetched = [_fetch_one(uri, storage) for uri in batch["uri"].to_pylist()]
    columns = [
        batch["frame_id"],
        batch["camera_id"],
        pa.array([data for data, _ in fetched], pa.large_binary()),
        pa.array([fault for _, fault in fetched], pa.string()),
    ]
    return pa.table(columns, schema=FETCHED)


def _fetch_one(uri: str, storage: Storage) -> tuple[bytes | None, str | None]:
    try:
        return storage.read_bytes(uri), None
    except StorageError as error:
        if error.reason not in _FAULTS_OF_ONE_FRAME:
            raise
        if error.reason == "forbidden":
            next(iter(storage.list_pages(uri.rpartition("/")[0])), None)
        return None, error.reason
