from pathlib import Path
from threading import Event

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrapray.audit.ledger import Ledger
from scrapray.errors import SchemaError, StorageError
from scrapray.storage import Storage

WANTED = pa.chunked_array([["a", "b", "c", "d"]])


def commit(folder: Path, name: str, *frame_ids: str) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"frame_id": frame_ids}), folder / name)


def test_without_a_checkpoint_nothing_is_done(tmp_path: Path) -> None:
    ledger = Ledger(f"{tmp_path}/checkpoint", Storage(), WANTED)
    assert (ledger.num_done(), ledger.num_total) == (0, 4)


def test_committed_frames_count_once_and_pending_ones_not_at_all(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), Storage(), WANTED)
    commit(tmp_path, "1.parquet", "a")
    assert ledger.num_done() == 1
    commit(tmp_path, "2.pending.parquet", "b")
    assert ledger.num_done() == 1
    (tmp_path / "2.pending.parquet").rename(tmp_path / "2.parquet")
    commit(tmp_path, "3.parquet", "a", "c")
    assert ledger.num_done() == 3


def test_frames_of_other_nights_do_not_count(tmp_path: Path) -> None:
    commit(tmp_path, "1.parquet", "a", "x", "y", "z", "w", "v")
    assert Ledger(str(tmp_path), Storage(), WANTED).num_done() == 1


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.parquet").write_bytes(b"")
    with pytest.raises(SchemaError, match=r"1\.parquet is not readable as Parquet"):
        Ledger(str(tmp_path), Storage(), WANTED).num_done()


def test_each_file_is_read_once(tmp_path: Path) -> None:
    read: list[str] = []

    class Counting(Storage):
        def read_bytes(self, uri: str) -> bytes:
            read.append(uri)
            return super().read_bytes(uri)

    ledger = Ledger(str(tmp_path), Counting(), WANTED)
    commit(tmp_path, "1.parquet", "a")
    ledger.num_done()
    commit(tmp_path, "2.parquet", "b")
    assert ledger.num_done() == 2
    assert [Path(uri).name for uri in read] == ["1.parquet", "2.parquet"]


def test_what_is_done_is_reported_while_work_goes_on(tmp_path: Path) -> None:
    commit(tmp_path, "1.parquet", "a", "b")
    reports: list[tuple[int, int]] = []
    reported = Event()

    def progress(done: int, total: int) -> None:
        reports.append((done, total))
        reported.set()

    with Ledger(str(tmp_path), Storage(), WANTED).reported(progress):
        assert reported.wait(timeout=30)
    assert reports[0] == (2, 4)


def test_a_store_that_does_not_answer_for_a_while_stops_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapray.audit.ledger._PAUSE_S", 0.01)
    reported = Event()

    class AwayAtFirst(Storage):
        num_asked = 0

        def list_names(self, uri: str) -> list[str]:
            self.num_asked += 1
            if self.num_asked < 3:
                raise StorageError("away", reason="unreachable")
            return super().list_names(uri)

    with Ledger(str(tmp_path), AwayAtFirst(), WANTED).reported(lambda done, total: reported.set()):
        assert reported.wait(timeout=30)
