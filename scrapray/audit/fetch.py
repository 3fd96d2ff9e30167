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


def fetch(batch: pa.Table, archive_uri: str, storage: Storage) -> pa.Table:
    """Read the bytes of frames: rows with ``frame_id``, ``uri`` and ``camera_id`` become ``FETCHED``.

    A frame that is gone, or that alone may not be read, is a row with a reason. Anything else (no bucket, a folder
    that is not mounted, no connection after all retries, a wrong secret, an archive that may no longer be listed) is
    no fault of a frame: it stops the run, since a night of rejected frames would count as done.

    Args:
        batch: Frames to read.
        archive_uri: A folder that all frames of the run lie in.
        storage: Opens both.

    Raises:
        StorageError: The archive cannot be read.
    """
    fetched = [_fetch_one(uri, archive_uri, storage) for uri in batch["uri"].to_pylist()]
    columns = [
        batch["frame_id"],
        batch["camera_id"],
        pa.array([data for data, _ in fetched], pa.large_binary()),
        pa.array([fault for _, fault in fetched], pa.string()),
    ]
    return pa.table(columns, schema=FETCHED)


def _fetch_one(uri: str, archive_uri: str, storage: Storage) -> tuple[bytes | None, str | None]:
    try:
        return storage.read_bytes(uri), None
    except StorageError as error:
        if not error.is_of_one_object:
            raise
        if not next(storage.list_pages(archive_uri), None):
            raise StorageError(
                f"cannot read {uri}: there is nothing at all below {archive_uri}; see whether it is mounted, or index "
                "what is there now, then run again",
                reason="missing",
            ) from error
        return None, error.reason
