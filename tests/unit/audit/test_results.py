from pathlib import Path

import pyarrow as pa
import pytest

from scrapray import lake
from scrapray.audit.results import find_results, read_results
from scrapray.errors import SchemaError, StorageError
from scrapray.schema import RESULTS
from scrapray.storage import Storage
from tests.fixtures.services import KEPT_BACK, store_that_keeps_back


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def folder(tmp_path: Path, storage: Storage) -> Path:
    """Three files: of a, which was read, and b, which was not; of c; of d."""
    for number, reasons in enumerate([{"a": None, "b": "missing"}, {"c": "forbidden"}, {"d": None}]):
        rows = [
            dict.fromkeys(RESULTS.names)
            | {
                "frame_id": frame_id,
                "status": "rejected" if reason else "used",
                "reject_stage": "download" if reason else None,
                "reject_reason": reason,
            }
            for frame_id, reason in reasons.items()
        ]
        path = tmp_path / f"part-{number}.parquet"
        lake.write_table(pa.Table.from_pylist(rows, schema=RESULTS), RESULTS, str(path), storage)
    return tmp_path


def ids(*names: str) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(names, pa.string())])


def test_every_result_is_found_with_its_stage_and_file(folder: Path, storage: Storage) -> None:
    found = find_results(str(folder), storage).to_pylist()
    assert [(row["frame_id"], row["reject_stage"], Path(row["uri"]).name) for row in found] == [
        ("a", None, "part-0.parquet"),
        ("b", "download", "part-0.parquet"),
        ("c", "download", "part-1.parquet"),
        ("d", None, "part-2.parquet"),
    ]


def test_frames_are_read_from_their_own_files_only(folder: Path, storage: Storage) -> None:
    """Else a year that is audited at once would be read 365 times."""
    stored = find_results(str(folder), storage)
    (folder / "part-1.parquet").unlink()
    assert sorted(read_results(stored, ids("b", "d", "unknown"), storage)["frame_id"].to_pylist()) == ["b", "d"]


def test_without_results_there_are_typed_empty_tables(tmp_path: Path, storage: Storage) -> None:
    found = read_results(find_results(f"{tmp_path}/nothing", storage), ids("a"), storage)
    assert (found.num_rows, found.schema) == (0, RESULTS)


@pytest.mark.parametrize("num_bytes", [0, 100])
def test_a_torn_file_is_named_with_what_to_do(num_bytes: int, folder: Path, storage: Storage) -> None:
    path = folder / "part-1.parquet"
    path.write_bytes(path.read_bytes()[:num_bytes])
    message = r"part-1\.parquet is not readable as Parquet.*; delete the folder of unfinished work and run again"
    with pytest.raises(SchemaError, match=message):
        find_results(str(folder), storage)


@pytest.mark.parametrize(("status", "reason"), KEPT_BACK)
def test_a_store_that_keeps_results_back_is_told_as_it_is(status: int, reason: str) -> None:
    with (
        store_that_keeps_back("results/0.parquet", status) as config,
        pytest.raises(StorageError, match=r"cannot read s3://bucket/results/0\.parquet: ") as caught,
    ):
        find_results("s3://bucket/results", Storage(config))
    assert caught.value.reason == reason
