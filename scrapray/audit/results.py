"""The rows that the workers of an audit have written, in files of a few frames each; a night's lie anywhere in them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from scrapray.errors import SchemaError
from scrapray.lake import read_table
from scrapray.schema import RESULTS
from scrapray.storage import Storage

NUM_FILES_AT_ONCE = 16
_TOLD = ("frame_id", "camera_id", "reject_stage")
_STORED = pa.schema([*(RESULTS.field(name) for name in _TOLD), pa.field("uri", pa.string())])


def find_results(results_uri: str, storage: Storage) -> pa.Table:
    """Which frames have a result, and the file that holds it, so that only the files concerned are opened again.

    Returns:
        Columns ``frame_id``, ``camera_id``, ``reject_stage`` and ``uri``, in the order of the files.

    Raises:
        SchemaError: A file is damaged.
        StorageError: One cannot be read.
    """
    uris = parquet_files(results_uri, storage)
    found = read_files(uris, lambda rows: rows.select(_TOLD), storage)
    stored = [
        rows.append_column(_STORED.field("uri"), pa.repeat(uri, rows.num_rows))
        for uri, rows in zip(uris, found, strict=True)
    ]
    return pa.concat_tables([_STORED.empty_table(), *stored])


def read_results(stored: pa.Table, frame_ids: pa.ChunkedArray, storage: Storage) -> pa.Table:
    """The results of some frames, in any order; frames without a result are left out.

    Args:
        stored: As ``find_results`` returns it.
        frame_ids: Of the frames.
        storage: Opens the files.

    Raises:
        SchemaError: A file is damaged.
        StorageError: One cannot be read.
    """
    wanted = frame_ids.combine_chunks()
    uris = pc.unique(stored["uri"].filter(pc.is_in(stored["frame_id"], wanted))).to_pylist()
    found = read_files(uris, lambda rows: rows.filter(pc.is_in(rows["frame_id"], wanted)), storage)
    return pa.concat_tables([RESULTS.empty_table(), *found])


def read_files(uris: Sequence[str], keep: Callable[[pa.Table], pa.Table], storage: Storage) -> list[pa.Table]:
    """Read files of results, some at once.

    Args:
        uris: The files.
        keep: What is kept of each of them, so that memory need not hold them all.
        storage: Opens them.

    Raises:
        SchemaError: One is damaged.
        StorageError: One cannot be read.
    """
    with ThreadPoolExecutor(NUM_FILES_AT_ONCE) as pool:
        return list(pool.map(lambda uri: keep(read_work(uri, RESULTS, storage)), uris))


def read_work(uri: str, columns: pa.Schema, storage: Storage) -> pa.Table:
    """Read one file of the work folder.

    Raises:
        SchemaError: It is damaged.
        StorageError: It cannot be read.
    """
    try:
        return read_table(uri, columns, storage)
    except SchemaError as error:
        raise SchemaError(f"{error}; delete the folder of unfinished work and run again") from error


def parquet_files(uri: str, storage: Storage) -> list[str]:
    """URIs of the Parquet files below a URI."""
    return storage.list_names(uri, (".parquet",))
