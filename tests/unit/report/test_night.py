import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.lake_year import draw_lake, draw_night
from scrapray.errors import SchemaError, StorageError
from scrapray.lake import partition_uri
from scrapray.lake_care.compact import compact
from scrapray.report.night import Tally, by_supplier, read_before, read_night
from tests.fixtures.older_lakes import OLDER, write_older_night
from tests.unit.report.nights import CAN, MOTOR, NIGHT, SITE, STORAGE, Yard, two_loads


def read(yard: Yard):
    return read_night(yard.lake, yard.date, STORAGE)


def test_loads_of_all_sites_stand_in_one_row_worst_first(tmp_path: Path) -> None:
    two_loads(tmp_path).publish()
    dock = Yard(tmp_path, site="dock", run_id="run-d")
    dock.add_load("0009", "L3", [[MOTOR], [MOTOR]])
    dock.publish()
    night = read(dock)
    assert [load.key for load in night.loads] == [(SITE, "0008", "L2"), ("dock", "0009", "L3"), (SITE, "0007", "L1")]
    assert [load.is_alert for load in night.loads] == [True, False, False]
    assert night.notices == []


def test_a_load_has_its_own_frames_in_time_and_its_detections_worst_first(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    yard.rows["frames"].reverse()
    yard.publish()
    worst, clean = read(yard).loads
    assert [frame["frame_id"] for frame in worst.frames] == ["north-2", "north-3", "north-4", "north-5"]
    assert [row["class_name"] for row in worst.detections] == ["spray can", "spray can", "motor", "cable"]
    assert [frame["frame_id"] for frame in clean.frames] == ["north-0", "north-1"]
    assert [each["class_name"] for each in worst.found] == ["spray can", "motor", "cable"]
    assert worst.rule == {"name": "highest_severity", "verdict": "reject", "min_severity": 3, "min_count": None}
    assert clean.rule is None
    assert worst.zone.key == "Europe/Rome"


def test_rejected_frames_are_counted_by_camera_and_reason(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    for stage, reason, camera in (("quality", "blurred", "crane-1"), ("decode", "truncated", None)):
        yard.add_rejected(stage, reason, camera)
    yard.publish()
    assert read(yard).rejected == [
        (SITE, "crane-1", 7, {("quality", "blurred"): 1}),
        (SITE, None, 1, {("decode", "truncated"): 1}),
    ]


def test_an_empty_lake_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nothing is published for 2026-11-20 in .*; it has no night at all"):
        read_night(str(tmp_path / "lake"), NIGHT, STORAGE)


def test_a_night_that_is_not_there_names_the_last_one_that_is(tmp_path: Path) -> None:
    draw_lake(str(tmp_path), dates=[NIGHT], sites=[SITE], num_loads=1)
    with pytest.raises(StorageError, match=r"for 2026-11-21 in .*; the last night there is 2026-11-20"):
        read_night(str(tmp_path), NIGHT + dt.timedelta(days=1), STORAGE)
    compact(str(tmp_path), dt.date(2026, 12, 1), STORAGE, today=dt.date(2026, 12, 1))
    with pytest.raises(StorageError, match=r"for 2026-11-21 in .*; the last month there is 2026-11"):
        read_night(str(tmp_path), NIGHT + dt.timedelta(days=1), STORAGE)


def test_a_night_that_was_put_into_its_month_reads_as_before(tmp_path: Path) -> None:
    draw_lake(str(tmp_path), dates=[NIGHT - dt.timedelta(days=1), NIGHT], sites=[SITE, "a/b"], num_loads=3)
    before = read_night(str(tmp_path), NIGHT, STORAGE), read_before(str(tmp_path), NIGHT, STORAGE)
    compacted = compact(str(tmp_path), dt.date(2026, 12, 1), STORAGE, today=dt.date(2026, 12, 1))
    assert (compacted.num_nights, compacted.faults) == (4, ())
    assert (read_night(str(tmp_path), NIGHT, STORAGE), read_before(str(tmp_path), NIGHT, STORAGE)) == before


def test_a_night_without_loads_is_a_night(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_rejected("manifest", "key_mismatch", None)
    yard.publish()
    night = read(yard)
    assert (night.loads, night.notices, len(night.sites[0].frames)) == ([], [], 1)


# ---- half-published ---------------------------------------------------------------------------------------------


def half_published(folder: Path, tables: tuple[str, ...]) -> Yard:
    """Two runs, the second of which has replaced only some tables."""
    two_loads(folder, run_id="run-a").publish()
    later = two_loads(folder, run_id="run-b")
    later.add_load("0009", "L9", [[CAN], [CAN]])
    before = {name: Path(partition_uri(later.lake, name, NIGHT, SITE)).read_bytes() for name in ("loads", "runs")}
    later.publish()
    for name in {"loads", "runs"} - set(tables):
        path = Path(partition_uri(later.lake, name, NIGHT, SITE))
        path.unlink()  # the same file has a second name in the folder of its run
        path.write_bytes(before[name])
    return later


@pytest.mark.parametrize("tables", [("runs",), ()])
def test_tables_of_two_runs_are_not_mixed(tables: tuple[str, ...], tmp_path: Path) -> None:
    night = read(half_published(tmp_path, tables))
    assert {frame["run_id"] for site in night.sites for frame in site.frames} == {"run-a"}
    assert [load.key[2] for load in night.loads] == ["L2", "L1"]
    (notice,) = night.notices
    assert "frames of run run-b" in notice
    assert "loads of run run-a" in notice
    assert "shows what run run-a has made; run the audit again" in notice


def test_a_site_whose_run_is_gone_is_left_out_with_a_word(tmp_path: Path) -> None:
    yard = half_published(tmp_path, ())
    STORAGE.delete_folder(f"{yard.lake}/_runs/run-a")
    night = read(yard)
    assert night.loads == []
    assert "shows nothing of this site" in night.notices[0]


def test_what_has_no_table_of_loads_yet_is_not_shown(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    yard.publish()
    STORAGE.delete(partition_uri(yard.lake, "loads", NIGHT, SITE))
    night = read(yard)
    assert (night.loads, night.sites[0].frames, len(night.notices)) == ([], (), 1)
    assert "no table loads)" in night.notices[0]


def test_a_name_cannot_steer_the_screen_by_a_notice(tmp_path: Path) -> None:
    yard = two_loads(tmp_path, site="x\x1b[31m\n" + "y" * 100, run_id="run\x1b[2J")
    yard.publish()
    STORAGE.delete(partition_uri(yard.lake, "frames", NIGHT, yard.site))
    (notice,) = read(yard).notices
    assert notice.startswith("x\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}yyy")
    assert "loads of run run\N{REPLACEMENT CHARACTER}[2J" in notice
    assert notice.isprintable()
    assert notice.index(":") == 80


def test_a_missing_row_is_noticed_by_the_counts_of_the_run(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    yard.publish()
    path = Path(partition_uri(yard.lake, "loads", NIGHT, SITE))
    table = pq.ParquetFile(path).read()
    path.unlink()
    pq.write_table(table.slice(1), path)
    night = read(yard)
    assert len(night.notices) == 1
    assert len(night.loads) == 2


# ---- nights before ----------------------------------------------------------------------------------------------


def test_the_nights_before_are_read_as_far_as_they_are_published(tmp_path: Path) -> None:
    for days in (0, 1, 3, 30, 31):
        yard = two_loads(tmp_path, date=NIGHT - dt.timedelta(days=days), run_id=f"run-{days}")
        yard.publish()
    nights, unreadable = read_before(yard.lake, NIGHT, STORAGE)
    assert [(NIGHT - day).days for day in nights] == [30, 3, 1]
    assert {len(rows) for rows in nights.values()} == {2}
    assert unreadable == []


def test_a_night_of_another_version_is_left_out_and_named(tmp_path: Path) -> None:
    day = NIGHT - dt.timedelta(days=2)
    yard = two_loads(tmp_path, date=day)
    yard.publish()
    path = Path(partition_uri(yard.lake, "loads", day, SITE))
    table = pq.ParquetFile(path).read()
    path.unlink()
    pq.write_table(table.drop_columns(["verdict_rule"]), path)
    assert read_before(yard.lake, NIGHT, STORAGE) == ({}, [day])
    with pytest.raises(SchemaError, match="misses verdict_rule"):
        read(yard)


def load(frac: float | None, seen: int, low: float | None = 0.0, **changes: object) -> dict[str, object]:
    high = None if low is None else 2 * (frac or 0)
    row = {"contamination_frac": frac, "contamination_low": low, "contamination_high": high, "seen_area_px": seen}
    return row | {"verdict": "accept", "num_frames": 4, "num_rejected": 1, "supplier": "Alba"} | changes


def test_loads_are_pooled_by_what_was_seen_of_them() -> None:
    tally = Tally.of([load(0.01, 300), load(0.05, 100, verdict="reject"), load(None, 0, None)])
    assert (tally.frac, tally.low, tally.high) == pytest.approx((0.02, 0.0, 0.04))
    assert (tally.num_loads, tally.num_frames, tally.num_rejected) == (3, 12, 3)
    assert tally.verdicts == {"accept": 2, "reject": 1}


def test_one_load_without_an_interval_leaves_them_all_without() -> None:
    tally = Tally.of([load(0.01, 300), load(0.05, 100, None)])
    assert (tally.frac, tally.low, tally.high) == (pytest.approx(0.02), None, None)
    assert Tally.of([]).frac is None


def test_suppliers_come_by_name_and_nobody_last() -> None:
    grouped = by_supplier([load(0, 1, supplier=name) for name in (None, "Bora", "Alba", "Bora")])
    assert [(name, len(rows)) for name, rows in grouped.items()] == [("Alba", 1), ("Bora", 2), (None, 1)]


@pytest.mark.parametrize("version", OLDER)
def test_nights_of_older_versions_are_left_out_and_named_and_none_of_them_is_shown(
    version: int, tmp_path: Path
) -> None:
    day_before = NIGHT - dt.timedelta(days=1)
    tables = draw_night("run-then", day_before, SITE, 2, np.random.default_rng(1))
    write_older_night(tmp_path / "lake", version, day_before, SITE, tables)
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[]])
    yard.publish()
    assert read_before(yard.lake, NIGHT, STORAGE) == ({}, [day_before])
    with pytest.raises(SchemaError, match=rf"has version {version} of the tables, .* audit 2026-11-19 {SITE} again"):
        read_night(yard.lake, day_before, STORAGE)
