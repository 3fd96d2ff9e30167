import datetime as dt
import os
import random
import tempfile
import tomllib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from scrapray import schema
from scrapray.audit import manifest as manifest_module
from scrapray.audit.manifest import IndexSummary, index_archive, read_manifest
from scrapray.config import ArchiveConfig, AuditConfig, GateLogConfig
from scrapray.errors import ConfigurationError, SchemaError, StorageError
from scrapray.storage import Storage, StoredObject

BY_CAMERA = "{site}/{date}/{camera_id}_{time}.jpg"
NIGHT = dt.date(2026, 11, 20)

RAILCAR = """
[archive]
key_pattern = "{kind}_{date}_{time}_pick-{pick}_cam-{camera_id}_crane-{crane}_{side}_wide.jpg"
time_format = "%H-%M-%S"
time_zone = "Europe/Rome"
site = "north"

[gate_log]
uri = "GATE_LOG"
join_on = "crane"
columns = { camera = "crane", from = "from_local", until = "until_local" }
"""
"""The settings for the railcar frames, as their operator would write them."""


class Archive(Storage):
    """Local storage with an archive on S3 that holds what the test says: key -> (etag, size in bytes)."""

    uri = "s3://archive"

    def __init__(self, objects):
        super().__init__()
        self.objects = objects

    def list_pages(self, uri, suffixes=()):
        if uri != self.uri:
            yield from super().list_pages(uri, suffixes)
            return
        keys = sorted(self.objects, key=str.encode)
        for start in range(0, len(keys), 3):
            yield [self._stored(key) for key in keys[start : start + 3]]

    def _stored(self, key):
        etag, size = self.objects[key]
        return StoredObject(f"{self.uri}/{key}", key, etag, size, dt.datetime(2026, 11, 22, 23, 30, tzinfo=dt.UTC))


def archive_of(*keys, **named):
    """An archive of different pictures."""
    return Archive({key: (f"{number:032x}", 1000 + number) for number, key in enumerate(keys)} | named)


def index(storage, folder, pattern=BY_CAMERA, gate_log=None, date=None, progress=None, **archive):
    """Index, and give the summary and the rows by key."""
    summary = index_archive(
        Archive.uri,
        str(folder),
        storage=storage,
        archive=ArchiveConfig(key_pattern=pattern, **archive),
        gate_log=gate_log,
        date=date,
        progress=progress,
    )
    rows = read_manifest(str(folder), storage).to_pylist()
    return summary, {row["uri"].removeprefix(Archive.uri + "/"): row for row in rows}


# ---- what keys tell ---------------------------------------------------------------------------------------------


def test_a_key_with_a_load_needs_no_gate_log(tmp_path):
    key = "north/2026-11-20/0007/L1/cam1_063005.jpg"
    summary, rows = index(archive_of(key), tmp_path, ArchiveConfig().key_pattern)
    assert rows[key] | {"frame_id": "*"} == {
        "frame_id": "*",
        "uri": f"s3://archive/{key}",
        "etag": "0" * 32,
        "size_bytes": 1000,
        "site": "north",
        "date": NIGHT,
        "camera_id": "cam1",
        "taken_utc": dt.datetime(2026, 11, 20, 6, 30, 5, tzinfo=dt.UTC),
        "truck_id": "0007",
        "load_id": "L1",
        "supplier": None,
        "load_source": "key",
        "reject_stage": None,
        "reject_reason": None,
        "duplicate_of": None,
    }
    assert (summary.num_frames, summary.num_loads, summary.num_trucks, summary.dates) == (1, 1, 1, [NIGHT])


def test_every_ending_of_a_picture_fits_the_default_pattern(tmp_path):
    keys = [f"north/2026-11-20/7/L1/c_06300{n}{end}" for n, end in enumerate((".jpg", ".JPG", ".jpeg", ".Png"))]
    summary, rows = index(archive_of(*keys), tmp_path, ArchiveConfig().key_pattern)
    assert (summary.rejected, {row["camera_id"] for row in rows.values()}) == ({}, {"c"})


def test_frames_that_match_nothing_are_kept_with_a_reason_and_counted(tmp_path):
    storage = archive_of(
        "n/2026-11-20/c_063005.jpg",
        "n/2026-11-20/c_993005.jpg",
        "stray.jpg",
        "notes.txt",
        **{"n/2026-11-20/c_063105.jpg": ("0" * 31 + "f", 0)},
    )
    summary, rows = index(storage, tmp_path, time_zone="Europe/Rome", site="yard")
    reasons = {key: row["reject_reason"] for key, row in rows.items()}
    assert reasons == {
        "n/2026-11-20/c_063005.jpg": None,
        "n/2026-11-20/c_063105.jpg": "empty_object",
        "n/2026-11-20/c_993005.jpg": "bad_time",
        "stray.jpg": "key_mismatch",
    }
    assert all((row["reject_stage"] == "manifest") == (row["reject_reason"] is not None) for row in rows.values())
    assert summary.rejected == {"empty_object": 1, "bad_time": 1, "key_mismatch": 1}
    assert (summary.num_frames, summary.num_other_keys) == (4, 1)
    assert rows["n/2026-11-20/c_993005.jpg"]["date"] == NIGHT, "the date is read though the time is none"
    assert rows["stray.jpg"]["date"] == dt.date(2026, 11, 23), "local date of its last change"
    assert rows["stray.jpg"]["site"] == "yard"


@pytest.mark.parametrize(("date", "num_undated"), [(None, 0), (NIGHT, 2), (dt.date(2026, 11, 22), 0)])
def test_frames_of_no_date_that_one_night_leaves_out_are_counted(date, num_undated, tmp_path):
    undated = {"stray.jpg", "n/2026-13-45/c_063005.jpg"}
    storage = archive_of("n/2026-11-20/c_063005.jpg", "n/2026-11-20/c_993005.jpg", *undated)
    summary, rows = index(storage, tmp_path, date=date)
    assert (summary.num_undated, undated <= set(rows)) == (num_undated, num_undated == 0)
    assert ("left out: 2 frames whose keys tell no date" in str(summary)) == (num_undated > 0)
    assert summary.rejected["bad_time"] == {None: 2, NIGHT: 1}.get(date, 1)


@pytest.mark.parametrize(
    "key", ["a b/2026-11-20/c d_063005.jpg", "s=1/2026-11-20/c=2_063005.jpg", "ü/2026-11-20/日本_063005.jpg"]
)
def test_keys_with_spaces_equal_signs_and_any_letters_are_indexed(key, tmp_path):
    _, rows = index(archive_of(key), tmp_path)
    assert rows[key]["reject_reason"] is None
    assert rows[key]["site"] == key.split("/")[0]


def test_a_replaced_object_is_a_new_frame(tmp_path):
    key = "n/2026-11-20/c_063005.jpg"
    ids = [index(Archive({key: (etag, 9)}), tmp_path)[1][key]["frame_id"] for etag in ("a" * 32, "b" * 32, "a" * 32)]
    assert ids[0] == ids[2] != ids[1]


def test_a_pattern_that_cannot_work_is_refused_before_the_archive_is_listed(tmp_path):
    with pytest.raises(ConfigurationError, match="brace without its partner"):
        index(archive_of(), tmp_path, "{site}/{date}/{time")
    assert not list(tmp_path.iterdir())


# ---- loads by time ----------------------------------------------------------------------------------------------


def loads(rows):
    """Keys of each load."""
    found = {}
    for key, row in rows.items():
        found.setdefault(row["load_id"], set()).add(key)
    return found


def test_a_pause_longer_than_the_gap_begins_a_new_load(tmp_path):
    keys = [f"n/2026-11-20/c_{time}.jpg" for time in ("060000", "061500", "063001", "064500")]
    _, rows = index(archive_of(*keys), tmp_path, max_gap_s=900, time_zone="Europe/Rome")
    assert loads(rows) == {"c-20261120T060000+0100": set(keys[:2]), "c-20261120T063001+0100": set(keys[2:])}
    assert {row["load_source"] for row in rows.values()} == {"time_gap"}
    assert {row["truck_id"] for row in rows.values()} == {None}


def test_each_camera_has_its_own_loads(tmp_path):
    keys = ["n/2026-11-20/a_060000.jpg", "n/2026-11-20/b_060001.jpg", "s/2026-11-20/a_060002.jpg"]
    _, rows = index(archive_of(*keys), tmp_path)
    assert len(loads(rows)) == 3


def test_another_truck_in_the_key_begins_a_new_load_and_keeps_its_name(tmp_path):
    keys = [f"n/2026-11-20/{truck}/c_0600{second:02d}.jpg" for second, truck in enumerate(["7", "7", "8"])]
    _, rows = index(archive_of(*keys), tmp_path, "{site}/{date}/{truck_id}/{camera_id}_{time}.jpg")
    assert [rows[key]["truck_id"] for key in keys] == ["7", "7", "8"]
    assert len(loads(rows)) == 2


def gate_log_of(folder, *lines):
    path = folder / "gate_log.csv"
    path.write_text("\n".join(["truck_id,load_id,supplier,site,camera,from,until", *lines]))
    return GateLogConfig(uri=str(path))


def test_the_gate_log_names_truck_load_and_supplier(tmp_path):
    gate_log = gate_log_of(tmp_path, "0007,L1,Acme,n,c,2026-11-20T06:00:00,2026-11-20T06:10:00")
    keys = ["n/2026-11-20/c_060500.jpg", "n/2026-11-20/c_061100.jpg"]
    summary, rows = index(archive_of(*keys), tmp_path / "m", gate_log=gate_log)
    first, second = (rows[key] for key in keys)
    assert [first[name] for name in ("truck_id", "load_id", "supplier", "load_source")] == [
        "0007",
        "L1",
        "Acme",
        "gate_log",
    ]
    assert [second[name] for name in ("truck_id", "load_source")] == [None, "time_gap"]
    assert summary.load_sources == {"gate_log": 1, "time_gap": 1}


def test_a_recorded_load_between_two_frames_parts_them(tmp_path):
    gate_log = gate_log_of(tmp_path, "7,L1,,n,c,2026-11-20T06:05:00,2026-11-20T06:06:00")
    keys = [f"n/2026-11-20/c_060{minute}00.jpg" for minute in (4, 5, 7)]
    _, rows = index(archive_of(*keys), tmp_path / "m", gate_log=gate_log)
    assert len(loads(rows)) == 3


def test_a_load_over_midnight_stays_whole_in_the_date_of_its_record(tmp_path):
    gate_log = gate_log_of(tmp_path, "7,L1,,n,c,2026-11-20T23:50:00,2026-11-21T00:10:00")
    keys = ["n/2026-11-20/c_235500.jpg", "n/2026-11-21/c_000500.jpg"]
    _, rows = index(archive_of(*keys), tmp_path / "m", gate_log=gate_log, date=NIGHT)
    assert {row["date"] for row in rows.values()} == {NIGHT}
    assert loads(rows) == {"L1": set(keys)}


LATE_RECORD = "7,L1,,n,c,2026-11-20T23:50:00,2026-11-21T00:10:00"
AROUND_MIDNIGHT = ["n/2026-11-20/c_235500.jpg", "n/2026-11-21/c_000500.jpg"]


def test_a_record_that_comes_late_and_moves_frames_to_the_night_before_is_told(tmp_path):
    archive, nights = archive_of(*AROUND_MIDNIGHT), tmp_path / "m"
    first, rows = index(archive, nights, gate_log=gate_log_of(tmp_path), date=NIGHT)
    assert (list(rows), first.outdated) == ([AROUND_MIDNIGHT[0]], {})

    complete = gate_log_of(tmp_path, LATE_RECORD)
    second, rows = index(archive, nights, gate_log=complete, date=NIGHT + dt.timedelta(days=1))
    assert AROUND_MIDNIGHT[1] not in rows
    assert second.outdated == {NIGHT: (1, 0, 1)}
    assert "2026-11-20 has changed since it was indexed: 1 frames have come, 0 have gone" in str(second)

    third, rows = index(archive, nights, gate_log=complete, date=NIGHT)
    assert (set(rows), third.outdated) == (set(AROUND_MIDNIGHT), {})


def test_a_record_that_gives_a_night_before_another_truck_is_told(tmp_path):
    archive, nights = archive_of(*AROUND_MIDNIGHT), tmp_path / "m"
    index(archive, nights, gate_log=gate_log_of(tmp_path), date=NIGHT)
    corrected = gate_log_of(tmp_path, "7,L1,,n,c,2026-11-20T23:50:00,2026-11-20T23:59:00")
    summary, _ = index(archive, nights, gate_log=corrected, date=NIGHT + dt.timedelta(days=1))
    assert summary.outdated == {NIGHT: (0, 0, 1)}
    assert "1 are told otherwise (of another truck or load, for instance)" in str(summary)


@pytest.mark.parametrize("date", [dt.date.min, dt.date.max])
def test_a_date_at_the_end_of_the_calendar_has_none_beside_it(date, tmp_path):
    summary, rows = index(archive_of(*AROUND_MIDNIGHT), tmp_path, date=date)
    assert (rows, summary.outdated) == ({}, {})


def test_a_frame_that_a_corrected_record_leaves_in_two_nights_is_told_and_refused(tmp_path):
    archive, nights = archive_of(*AROUND_MIDNIGHT), tmp_path / "m"
    index(archive, nights, gate_log=gate_log_of(tmp_path, LATE_RECORD), date=NIGHT)
    options = {"storage": archive, "archive": ArchiveConfig(key_pattern=BY_CAMERA), "gate_log": gate_log_of(tmp_path)}
    next_night = NIGHT + dt.timedelta(days=1)
    summary = index_archive(archive.uri, str(nights), date=next_night, **options)
    assert summary.outdated == {NIGHT: (0, 1, 1)}
    assert read_manifest(str(nights), archive, next_night).num_rows == 1
    message = r"c_000500\.jpg stands there twice, at 2026-11-20 and 2026-11-21: .*; index again without --date"
    with pytest.raises(SchemaError, match=message):
        read_manifest(str(nights), archive)

    index_archive(archive.uri, str(nights), **options)
    assert read_manifest(str(nights), archive).num_rows == 2


def test_a_night_before_that_another_version_indexed_is_to_be_indexed_again(tmp_path):
    archive = archive_of(*AROUND_MIDNIGHT)
    index(archive, tmp_path, date=NIGHT)
    path = tmp_path / f"date={NIGHT}" / "part-0.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["supplier"]), path)
    options = {"storage": archive, "archive": ArchiveConfig(key_pattern=BY_CAMERA)}
    summary = index_archive(archive.uri, str(tmp_path), date=NIGHT + dt.timedelta(days=1), **options)
    assert summary.outdated == {NIGHT: (1, 0, 0)}


def test_faults_of_the_gate_log_are_told_in_the_summary(tmp_path):
    good = "7,L2,,n,c,2026-11-20T08:00:00,2026-11-20T08:10:00"
    gate_log = gate_log_of(tmp_path, "7,L1,,n,c,2026-11-20T06:10:00,2026-11-20T06:00:00", good)
    summary, rows = index(archive_of("n/2026-11-20/c_060500.jpg"), tmp_path / "m", gate_log=gate_log)
    assert len(summary.gate_log_faults) == 1
    assert "gate log: record 1 left out: from" in str(summary)
    assert rows["n/2026-11-20/c_060500.jpg"]["load_source"] == "time_gap"


def test_of_many_faults_the_summary_tells_the_first_and_how_many_more():
    lines = str(IndexSummary(gate_log_faults=[f"record {number}" for number in range(12)])).splitlines()
    assert lines[-2:] == ["gate log: record 9", "gate log: 2 faults more"]


# ---- repeats ----------------------------------------------------------------------------------------------------


def marks(rows):
    """Key of each repeat -> (stage, reason, key of what it repeats)."""
    key_of = {row["frame_id"]: key for key, row in rows.items()}
    return {
        key: (row["reject_stage"], row["reject_reason"], key_of[row["duplicate_of"]])
        for key, row in rows.items()
        if row["duplicate_of"]
    }


def test_the_same_content_again_is_marked_and_the_first_in_time_stays(tmp_path):
    first, second, other = (f"n/2026-11-20/c_06000{second}.jpg" for second in (1, 2, 3))
    storage = Archive({second: ("a" * 32, 5), first: ("a" * 32, 5), other: ("a" * 32, 6)})
    summary, rows = index(storage, tmp_path)
    assert marks(rows) == {second: ("frozen", "same_bytes", first)}
    assert rows[second]["load_id"] == rows[first]["load_id"]
    assert summary.rejected == {"same_bytes": 1}


BY_TRUCK = "{site}/{date}/{truck_id}/{load_id}/{camera_id}_{time}.jpg"


@pytest.mark.parametrize(
    ("other", "repeat"),
    [
        ("b/2026-11-20/1/L1/c_060005.jpg", None),
        ("a/2026-11-20/2/L1/d_060005.jpg", None),
        ("a/2026-11-20/1/L2/d_060005.jpg", None),
        ("a/2026-11-20/1/L1/d_060005.jpg", ("duplicate", "same_bytes")),
        ("a/2026-11-20/2/L2/c_060005.jpg", ("frozen", "same_bytes")),
        ("a/2026-11-20/2/L2/c_060000.jpg", ("manifest", "duplicate_key")),
    ],
)
def test_content_repeats_within_a_load_or_camera_only(other, repeat, tmp_path):
    first = "a/2026-11-20/1/L1/c_060000.jpg"
    _, rows = index(Archive(dict.fromkeys([first, other], ("a" * 32, 5))), tmp_path, BY_TRUCK)
    assert marks(rows) == ({other: (*repeat, first)} if repeat else {})


def test_content_uploaded_in_parts_is_compared_too(tmp_path):
    keys = [f"n/2026-11-20/c_06000{second}.jpg" for second in (1, 2)]
    _, rows = index(Archive(dict.fromkeys(keys, ("a" * 32 + "-3", 5))), tmp_path)
    assert marks(rows) == {keys[1]: ("frozen", "same_bytes", keys[0])}


def test_an_etag_that_is_no_hash_of_content_marks_nothing(tmp_path):
    keys = [f"n/2026-11-20/c_06000{second}.jpg" for second in (1, 2)]
    _, rows = index(Archive(dict.fromkeys(keys, ("5-17c0ffee", 5))), tmp_path)
    assert marks(rows) == {}


def test_the_same_camera_and_time_again_is_marked_and_the_first_key_stays(tmp_path):
    keys = [f"n/2026-11-20/{copy}/c_060000.jpg" for copy in ("b", "a")]
    _, rows = index(archive_of(*keys), tmp_path, "{site}/{date}/{copy}/{camera_id}_{time}.jpg")
    assert marks(rows) == {keys[0]: ("manifest", "duplicate_key", keys[1])}


def test_a_rejected_frame_is_no_original(tmp_path):
    keys = [f"n/2026-11-20/{copy}/c_060000.jpg" for copy in ("a", "b")]
    storage = Archive({keys[0]: ("a" * 32, 0), keys[1]: ("b" * 32, 5)})
    _, rows = index(storage, tmp_path, "{site}/{date}/{copy}/{camera_id}_{time}.jpg")
    assert marks(rows) == {}
    assert rows[keys[1]]["reject_stage"] is None


# ---- files ------------------------------------------------------------------------------------------------------


def test_rows_are_in_the_order_of_time_and_key_with_the_exact_schema(tmp_path):
    keys = [f"n/2026-11-20/c_{hour:02d}0000.jpg" for hour in range(10)]
    shuffled = random.Random(1).sample(keys, len(keys))
    _, rows = index(archive_of(*shuffled, "stray_2026.jpg"), tmp_path, site="n")
    assert [key for key in rows if key.startswith("n/")] == keys
    assert pq.read_schema(tmp_path / "date=2026-11-20" / "part-0.parquet").equals(schema.MANIFEST)


def test_indexing_again_gives_the_same_bytes_however_much_fits_in_memory(tmp_path, monkeypatch):
    keys = [f"n/2026-11-{day}/c_06{minute:02d}00.jpg" for day in (20, 21, 22) for minute in range(20)]
    storage = archive_of(*keys)
    index(storage, tmp_path / "once")
    monkeypatch.setattr(manifest_module, "_ROWS_IN_MEMORY", 7)
    index(storage, tmp_path / "again")
    paths = sorted(path.relative_to(tmp_path / "once") for path in (tmp_path / "once").rglob("*.parquet"))
    assert len(paths) == 3
    for path in paths:
        assert (tmp_path / "once" / path).read_bytes() == (tmp_path / "again" / path).read_bytes()


def test_loads_of_two_trucks_with_one_name_are_two(tmp_path):
    keys = [f"north/2026-11-20/{truck}/L1/cam1_06300{number}.jpg" for number, truck in enumerate(("T1", "T2"))]
    summary, _ = index(archive_of(*keys), tmp_path, ArchiveConfig().key_pattern)
    assert (summary.num_loads, summary.num_trucks) == (2, 2)


def test_one_date_is_replaced_and_the_others_stay(tmp_path):
    keys = ["n/2026-11-20/c_060000.jpg", "n/2026-11-21/c_060000.jpg"]
    index(archive_of(*keys), tmp_path)
    summary, rows = index(archive_of(keys[0], "n/2026-11-20/c_070000.jpg"), tmp_path, date=NIGHT)
    assert (summary.num_frames, summary.dates) == (2, [NIGHT])
    assert summary.outdated == {NIGHT + dt.timedelta(days=1): (0, 1, 0)}
    assert set(rows) == {*keys, "n/2026-11-20/c_070000.jpg"}
    assert read_manifest(str(tmp_path), Storage(), NIGHT).num_rows == 2


def test_dates_that_the_archive_has_no_more_are_removed_and_nothing_else(tmp_path):
    index(archive_of("n/2026-11-20/c_060000.jpg"), tmp_path)
    (tmp_path / "date=2026-11-20" / "notes.txt").write_text("mine")
    _, rows = index(archive_of("n/2026-11-21/c_060000.jpg"), tmp_path)
    assert list(rows) == ["n/2026-11-21/c_060000.jpg"]
    assert (tmp_path / "date=2026-11-20" / "notes.txt").exists()


def test_an_empty_archive_gives_a_typed_manifest_without_rows(tmp_path):
    summary, _ = index(archive_of(), tmp_path)
    assert summary.num_frames == 0
    table = read_manifest(str(tmp_path), Storage())
    assert table.num_rows == 0
    assert table.schema.equals(schema.MANIFEST)


def test_a_date_without_frames_gives_a_typed_manifest_without_rows(tmp_path):
    summary, _ = index(archive_of("n/2026-11-21/c_060000.jpg"), tmp_path, date=NIGHT)
    assert (summary.num_frames, summary.dates) == (0, [NIGHT])
    assert read_manifest(str(tmp_path), Storage(), NIGHT).schema.equals(schema.MANIFEST)


def test_the_first_frames_end_the_empty_manifest(tmp_path):
    index(archive_of(), tmp_path)
    index(archive_of("n/2026-11-20/c_060000.jpg"), tmp_path, date=NIGHT)
    assert [path.name for path in tmp_path.iterdir()] == ["date=2026-11-20"]


@pytest.mark.parametrize("date", [None, NIGHT])
def test_a_folder_without_a_manifest_says_to_index_first(date, tmp_path):
    with pytest.raises(StorageError, match=r"there is no manifest .*run scrapray index first"):
        read_manifest(str(tmp_path), Storage(), date)


def test_a_manifest_with_missing_columns_is_refused_by_their_names(tmp_path):
    path = tmp_path / "date=2026-11-20" / "part-0.parquet"
    path.parent.mkdir()
    pq.write_table(schema.MANIFEST.empty_table().drop_columns(["etag", "site"]), path)
    with pytest.raises(SchemaError, match=r"part-0\.parquet misses etag, site"):
        read_manifest(str(tmp_path), Storage())


def test_a_manifest_can_lie_in_a_folder_named_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = archive_of("n/2026-11-20/c_060000.jpg")
    index(storage, "manifest/")
    _, rows = index(storage, "manifest/")
    assert len(rows) == 1


def test_progress_counts_all_keys_listed_so_far(tmp_path):
    told = []
    index(archive_of(*(f"n/2026-11-20/c_06000{second}.jpg" for second in range(7))), tmp_path, progress=told.append)
    assert told == [3, 6, 7]


def test_a_full_disk_for_the_listing_says_which_and_leaves_the_manifest_as_it_was(tmp_path, small_disk, monkeypatch):
    index(archive_of("n/2026-11-20/c_060000.jpg"), tmp_path / "m")
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    keys = [
        f"n/2026-11-20/c{camera}_{hour:02d}{minute:02d}00.jpg"
        for camera in "abc"
        for hour in range(24)
        for minute in range(60)
    ]
    with pytest.raises(StorageError, match=r"cannot put the listing aside in .*small-disk.*; set TMPDIR"):
        index(archive_of(*keys), tmp_path / "m")
    assert read_manifest(str(tmp_path / "m"), Storage()).num_rows == 1


def test_the_supplier_of_the_key_stays_where_the_gate_log_names_none(tmp_path):
    gate_log = gate_log_of(tmp_path, "7,L1,,n,c,2026-11-20T06:00:00,2026-11-20T06:10:00")
    key = "n/Acme/2026-11-20/c_060500.jpg"
    _, rows = index(archive_of(key), tmp_path / "m", "{site}/{supplier}/{date}/{camera_id}_{time}.jpg", gate_log)
    assert rows[key]["supplier"] == "Acme"


def test_a_missing_archive_is_an_error_and_leaves_the_manifest_as_it_was(tmp_path):
    with pytest.raises(StorageError, match="no such file or folder"):
        index_archive(str(tmp_path / "none"), str(tmp_path / "m"), storage=Storage(), archive=ArchiveConfig())
    assert not (tmp_path / "m").exists()


# ---- real frames ------------------------------------------------------------------------------------------------


def railcar_settings(folder):
    values = tomllib.loads(RAILCAR.replace("GATE_LOG", f"{folder}/gate_log.csv"))
    return TypeAdapter(AuditConfig).validate_python(values)


def test_the_railcar_frames_are_14_loads_and_none_is_lost(shared, tmp_path):
    folder = str(shared / "data" / "railcar")
    settings = railcar_settings(folder)
    summary = index_archive(
        folder, str(tmp_path), storage=Storage(), archive=settings.archive, gate_log=settings.gate_log
    )
    assert (summary.num_frames, summary.num_loads, summary.num_trucks) == (47, 14, 6)
    assert summary.load_sources == {"gate_log": 47}
    assert summary.rejected == {}
    table = read_manifest(str(tmp_path), Storage())
    assert set(table["uri"].to_pylist()) == {entry.path for entry in os.scandir(folder) if entry.name.endswith(".jpg")}
    assert set(table["truck_id"].to_pylist()) == {"0007", "0010", "0013", "0016", "0019", "0022"}
    assert pa.compute.count_distinct(table["load_id"]).as_py() == 14
