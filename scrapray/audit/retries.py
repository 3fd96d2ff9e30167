"""What an earlier run has left that is not done for good: half a write, and frames that must be done again.

Shape of the folders: see ``pipeline``.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scrapray.audit.results import NUM_FILES_AT_ONCE, find_results, parquet_files, read_work
from scrapray.schema import RESULTS
from scrapray.storage import Storage

DONE = pa.schema([pa.field("frame_id", pa.string(), nullable=False)])
"""What Ray's checkpoint holds: the frames whose rows are written."""
_PENDING = ".pending.parquet"
"""How Ray calls the checkpoint of a write that has begun; what is written bears the name that stands before it."""


def forget_unfinished_writes(results_uri: str, checkpoint_uri: str, storage: Storage) -> int:
    """Remove what a writer that was killed, or whose disk was full, has left, perhaps half a file of rows.

    Ray does the same, but only when its pipeline starts, and the rows are read before.

    Returns:
        Number of these writes.

    Raises:
        StorageError: The work folder cannot be read or written.
    """
    pending = [uri for uri in parquet_files(checkpoint_uri, storage) if uri.endswith(_PENDING)]
    begun = tuple(_name(uri).removesuffix(_PENDING) for uri in pending)
    unfinished = [uri for uri in parquet_files(results_uri, storage) if begun and _name(uri).startswith(begun)]
    for uri in (*unfinished, *pending):
        storage.delete(uri)
    return len(pending)


def forget_outdated(results_uri: str, checkpoint_uri: str, todo: pa.Table, storage: Storage) -> int:
    """Take frames out of what is done that must be done again.

    These are the ones whose download failed, and those that are said to be of another camera by now, as after
    ``[archive] key_pattern`` was corrected: they were given its bed. First out of the checkpoint, then out of the
    results: cut off between the two, the next call ends it.

    Args:
        results_uri: Folder of the results.
        checkpoint_uri: Folder of the ids of frames that are done.
        todo: All frames of the run, ``schema.WORK_LIST``.
        storage: Opens both.

    Returns:
        Number of these frames.

    Raises:
        SchemaError: A file there is damaged.
        StorageError: The work folder cannot be read or written.
    """
    stored = find_results(results_uri, storage)
    again = stored.filter(pc.or_(_equal(stored["reject_stage"], "download"), _of_another_camera(stored, todo)))
    if again.num_rows:
        frame_ids = again["frame_id"].combine_chunks()
        drop = partial(_drop_rows, frame_ids=frame_ids, storage=storage)
        with ThreadPoolExecutor(NUM_FILES_AT_ONCE) as pool:
            list(pool.map(partial(drop, columns=DONE), parquet_files(checkpoint_uri, storage)))
            list(pool.map(partial(drop, columns=RESULTS), pc.unique(again["uri"]).to_pylist()))
    return len(again)


def _of_another_camera(stored: pa.Table, todo: pa.Table) -> pa.ChunkedArray:
    """Which rows were computed for another camera than the one that ``todo`` has for their frame."""
    places = pc.index_in(stored["frame_id"], value_set=todo["frame_id"].combine_chunks())
    now = todo["camera_id"].take(places)
    is_same = pc.or_(_equal(stored["camera_id"], now), pc.and_(pc.is_null(stored["camera_id"]), pc.is_null(now)))
    return pc.and_(pc.is_valid(places), pc.invert(is_same))


def _equal(left: pa.ChunkedArray, right: pa.ChunkedArray | str) -> pa.ChunkedArray:
    """Where both are there and equal."""
    return pc.fill_null(pc.equal(left, right), False)


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]


def _drop_rows(uri: str, columns: pa.Schema, frame_ids: pa.Array, storage: Storage) -> None:
    """Write a file again without some frames; one that holds no others is removed."""
    table = read_work(uri, columns, storage)
    kept = table.filter(pc.invert(pc.is_in(table["frame_id"], frame_ids)))
    if kept.num_rows == 0:
        storage.delete(uri)
    elif kept.num_rows < table.num_rows:
        buffer = pa.BufferOutputStream()
        pq.write_table(kept, buffer)
        storage.write_bytes(uri, buffer.getvalue().to_pybytes())
