from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrapray.audit.retries import forget_outdated, forget_unfinished_writes
from scrapray.errors import SchemaError, StorageError
from scrapray.schema import RESULTS, WORK_LIST
from scrapray.storage import Storage
from tests.fixtures.services import KEPT_BACK, store_that_keeps_back


def results(camera_id: str | None = None, **reasons: str | None) -> pa.Table:
    """Rows of frames of a camera, each with why it could not be downloaded, or None where it was read."""
    rows = [
        dict.fromkeys(RESULTS.names)
        | {
            "frame_id": frame_id,
            "camera_id": camera_id,
            "status": "rejected" if reason else "used",
            "reject_stage": "download" if reason else None,
            "reject_reason": reason,
        }
        for frame_id, reason in reasons.items()
    ]
    return pa.Table.from_pylist(rows, schema=RESULTS)


def write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def ids(folder: Path) -> list[str]:
    found = [pq.read_table(path)["frame_id"].to_pylist() for path in sorted(folder.glob("*.parquet"))]
    return sorted(frame_id for names in found for frame_id in names)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for number, table in enumerate([results(a=None, b="missing"), results(c="forbidden"), results(d=None)]):
        write(table, tmp_path / "results" / f"{number}.parquet")
        write(table.select(["frame_id"]), tmp_path / "checkpoint" / f"{number}.parquet")
    return tmp_path


def forget(work: Path, **cameras: str | None) -> int:
    """Forget what must be done again, where some frames are said to be of these cameras."""
    rows = [{"frame_id": frame_id, "uri": frame_id, "camera_id": camera} for frame_id, camera in cameras.items()]
    todo = pa.Table.from_pylist(rows, schema=WORK_LIST)
    return forget_outdated(str(work / "results"), str(work / "checkpoint"), todo, Storage())


def test_frames_that_could_not_be_downloaded_are_no_longer_done(work: Path) -> None:
    assert forget(work) == 2
    assert ids(work / "checkpoint") == ids(work / "results") == ["a", "d"]
    assert pq.read_table(work / "results" / "0.parquet").schema.equals(RESULTS)
    assert forget(work) == 0


@pytest.mark.parametrize("num_bytes", [0, 4, 200, None])
def test_half_a_write_is_forgotten_and_the_rest_stays(work: Path, num_bytes: int | None) -> None:
    """Ray writes rows under their final name, between a pending checkpoint and a finished one."""
    torn, pending = work / "results" / "9-0.parquet", work / "checkpoint" / "9.pending.parquet"
    write(results(e=None), torn)
    write(results(e=None).select(["frame_id"]), pending)
    torn.write_bytes(torn.read_bytes()[:num_bytes])
    pending.write_bytes(pending.read_bytes()[:num_bytes])
    assert forget_unfinished_writes(str(work / "results"), str(work / "checkpoint"), Storage()) == 1
    assert not torn.exists() and not pending.exists()
    assert forget(work) == 2
    assert ids(work / "checkpoint") == ids(work / "results") == ["a", "d"]
    assert forget_unfinished_writes(str(work / "results"), str(work / "checkpoint"), Storage()) == 0


def test_nothing_is_touched_where_every_frame_was_read(tmp_path: Path) -> None:
    path = tmp_path / "results" / "0.parquet"
    write(results(a=None, b=None), path)
    before = path.stat().st_mtime_ns
    assert forget(tmp_path) == 0
    assert path.stat().st_mtime_ns == before


def test_work_that_has_not_begun_has_nothing_to_forget(tmp_path: Path) -> None:
    assert forget(tmp_path) == 0


def test_cut_off_in_between_the_next_call_ends_it(work: Path) -> None:
    """The checkpoint has forgotten the frames, and their old rows are still there."""
    for number in (0, 1):
        kept = [frame_id for frame_id in ids(work / "checkpoint") if frame_id == "a" and number == 0]
        write(pa.table({"frame_id": pa.array(kept, pa.string())}), work / "checkpoint" / f"{number}.parquet")
    assert forget(work) == 2
    assert ids(work / "checkpoint") == ids(work / "results") == ["a", "d"]


def test_frames_that_are_of_another_camera_now_are_no_longer_done(tmp_path: Path) -> None:
    north, nameless = results("north", a=None, b=None, c=None, other=None), results(None, d=None, e=None)
    for number, table in enumerate([north, nameless]):
        write(table, tmp_path / "results" / f"{number}.parquet")
        write(table.select(["frame_id"]), tmp_path / "checkpoint" / f"{number}.parquet")
    now = {"a": "north", "b": "south", "c": None, "d": "north", "e": None}
    assert forget(tmp_path, **now) == 3
    assert ids(tmp_path / "checkpoint") == ids(tmp_path / "results") == ["a", "e", "other"]
    assert forget(tmp_path, **now) == 0


@pytest.mark.parametrize("folder", ["results", "checkpoint"])
@pytest.mark.parametrize("num_bytes", [0, 100])
def test_a_torn_file_is_named_with_what_to_do(folder: str, num_bytes: int, work: Path) -> None:
    """A power cut may tear files that were whole for Ray."""
    torn = work / folder / "1.parquet"
    torn.write_bytes(torn.read_bytes()[:num_bytes])
    message = rf"{folder}/1\.parquet is not readable as Parquet.*; delete the folder of unfinished work and run again"
    with pytest.raises(SchemaError, match=message):
        forget(work)


@pytest.mark.parametrize(("status", "reason"), KEPT_BACK)
def test_a_store_that_keeps_results_back_is_told_as_it_is(status: int, reason: str) -> None:
    with (
        store_that_keeps_back("unfinished/results/0.parquet", status) as config,
        pytest.raises(StorageError, match=r"cannot read s3://bucket/unfinished/results/0\.parquet: ") as caught,
    ):
        forget_outdated(
            "s3://bucket/unfinished/results", "s3://bucket/unfinished/done", WORK_LIST.empty_table(), Storage(config)
        )
    assert caught.value.reason == reason
