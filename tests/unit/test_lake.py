import datetime as dt
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrapray import schema
from scrapray.errors import SchemaError, StorageError
from scrapray.lake import (
    conform,
    month_uri,
    partition_uri,
    publish_run,
    published_run,
    published_sites,
    read_as_written,
    read_partition,
    read_table,
    write_month,
    write_table,
)
from scrapray.storage import Storage, join

DAY = dt.date(2026, 11, 20)
SITE = "north"
MOMENT = dt.datetime(2026, 11, 20, 6, tzinfo=dt.UTC)

MASK = {"height_px": 9, "width_px": 9, "counts": "abc"}
BBOX = {"x_min_px": 1, "y_min_px": 1, "x_max_px": 3, "y_max_px": 4}
DETECTION = {
    "class_name": "motor",
    "score": 0.5,
    "severity": 2,
    "bbox": BBOX,
    "area_px": 6,
    "area_frac": 0.01,
    "mask": MASK,
}


@pytest.fixture
def storage():
    return Storage()


def run_row(run_id, **changes):
    texts = ("model_uri", "model_name", "model_version", "weights_sha256", "config_json", "config_sha256")
    counts = ("num_frames", "num_used", "num_rejected", "num_loads", "num_computed")
    row = dict.fromkeys(texts, "x") | dict.fromkeys(counts, 0)
    row |= {"run_id": run_id, "site": SITE, "date": DAY, "code_version": "1", "segment_s": 0.0}
    return row | {"started_utc": MOMENT, "finished_utc": MOMENT} | changes


def frame_row(run_id, frame_id, **changes):
    row = {"run_id": run_id, "frame_id": frame_id, "uri": f"s3://a/{frame_id}", "etag": "e", "size_bytes": 1}
    return row | {"site": SITE, "date": DAY, "status": "used"} | changes


def tables_of(run_id, num_frames=2):
    tables = {name: columns.empty_table() for name, columns in schema.PUBLISHED.items()}
    frames = [frame_row(run_id, f"frame{number}") for number in range(num_frames)]
    tables["frames"] = pa.Table.from_pylist(frames, schema.FRAMES)
    tables["runs"] = pa.Table.from_pylist([run_row(run_id)], schema.RUNS)
    return tables


def published(lake, storage):
    """What a reader sees: the run of every table that is there, and the bytes."""
    uris = {name: partition_uri(lake, name, DAY, SITE) for name in schema.PUBLISHED}
    return {name: storage.read_bytes(uri) for name, uri in uris.items() if storage.exists(uri)}


class FailsAtCopy(Storage):
    """Storage that gives up at the n-th copies, counted from 0."""

    def __init__(self, *failing):
        super().__init__()
        self.failing = failing
        self.num_copies = 0

    def copy(self, source, target):
        self.num_copies += 1
        if self.num_copies - 1 in self.failing:
            raise StorageError(f"cannot write {target}: the disk is full", reason="disk_full")
        super().copy(source, target)


# ---- columns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", schema.PUBLISHED)
def test_an_empty_table_comes_back_with_all_its_types(name, storage, tmp_path):
    columns = schema.PUBLISHED[name]
    uri = str(tmp_path / "t.parquet")
    write_table(columns.empty_table(), columns, uri, storage)
    assert read_table(uri, columns, storage).schema.equals(columns)


def test_columns_take_the_order_and_types_of_the_schema(storage, tmp_path):
    columns = pa.schema([("a", pa.int32()), ("b", pa.string())])
    table = conform(pa.table({"b": ["x"], "a": pa.array([1], pa.int64())}), columns, "t")
    assert table.schema.equals(columns)
    assert table.to_pylist() == [{"a": 1, "b": "x"}]


def test_a_missing_and_an_unknown_column_are_both_named():
    columns = pa.schema([("a", pa.int32()), ("b", pa.string())])
    with pytest.raises(SchemaError, match="manifest x misses b and has unknown c, d; write it anew"):
        conform(pa.table({"a": [1], "c": [1], "d": [1]}), columns, "manifest x")


def test_a_value_that_does_not_fit_its_type_is_an_error_with_the_column():
    with pytest.raises(SchemaError, match="column a is int64, must be int8"):
        conform(pa.table({"a": [1000]}), pa.schema([("a", pa.int8())]), "t")


def test_a_null_in_a_required_column_is_refused():
    frames = pa.Table.from_pylist([frame_row("r", None)], loosened(schema.FRAMES))
    with pytest.raises(SchemaError, match="t: frame_id is null in at least one row"):
        conform(frames, schema.FRAMES, "t")


@pytest.mark.parametrize(
    "changed",
    [{"bbox": None}, {"mask": None}, {"class_name": None}, {"bbox": BBOX | {"x_min_px": None}}],
)
def test_a_null_deep_in_a_detection_is_refused(changed):
    loose = loosened(schema.RESULTS)
    good = {"frame_id": "f", "status": "used", "detections": [DETECTION]}
    assert conform(pa.Table.from_pylist([good], loose), schema.RESULTS, "t").num_rows == 1
    bad = good | {"detections": [DETECTION, DETECTION | changed]}
    with pytest.raises(SchemaError, match="detections"):
        conform(pa.Table.from_pylist([good, bad], loose), schema.RESULTS, "t")


def loosened(columns):
    """The same columns with null allowed everywhere."""

    def loose(kind):
        if pa.types.is_struct(kind):
            return pa.struct([pa.field(part.name, loose(part.type)) for part in kind])
        if pa.types.is_list(kind):
            return pa.list_(pa.field("element", loose(kind.value_type)))
        return kind

    return pa.schema([pa.field(field.name, loose(field.type)) for field in columns])


def test_no_detections_and_unknown_detections_stay_apart(storage, tmp_path):
    rows = [{"frame_id": f"{i}", "status": "used", "detections": d} for i, d in enumerate([[], None, [DETECTION]])]
    uri = str(tmp_path / "t.parquet")
    write_table(pa.Table.from_pylist(rows, schema.RESULTS), schema.RESULTS, uri, storage)
    assert read_table(uri, schema.RESULTS, storage)["detections"].to_pylist() == [[], None, [DETECTION]]


# ---- files ------------------------------------------------------------------------------------------------------


def test_equal_tables_give_equal_bytes_however_they_were_put_together(storage, tmp_path):
    frames = tables_of("r", num_frames=5)["frames"]
    pieces = pa.concat_tables([frames.slice(0, 1), frames.slice(1, 3), frames.slice(4)])
    shuffled = pieces.select(list(reversed(pieces.column_names)))
    for name, table in (("whole", frames), ("pieces", shuffled)):
        write_table(table, schema.FRAMES, str(tmp_path / name), storage, class_names=["motor"])
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()


def test_the_footer_says_how_to_read_the_table(storage, tmp_path):
    uri = str(tmp_path / "t.parquet")
    write_table(schema.DETECTIONS.empty_table(), schema.DETECTIONS, uri, storage, class_names=("motor", "cable"))
    footer = json.loads(pq.read_metadata(uri).metadata[b"scrapray"])
    assert footer == {
        "schema_version": schema.SCHEMA_VERSION,
        "table": "detections",
        "classes": ["motor", "cable"],
        "mask_encoding": "coco-rle",
        "coordinate_frame": "frame pixels, origin top left, half-open",
    }


def test_files_are_compressed_with_zstd(storage, tmp_path):
    uri = str(tmp_path / "t.parquet")
    write_table(tables_of("r")["frames"], schema.FRAMES, uri, storage)
    group = pq.read_metadata(uri).row_group(0)
    assert {group.column(index).compression for index in range(group.num_columns)} == {"ZSTD"}


@pytest.mark.parametrize("content", [b"", b"not parquet at all", b"PAR1" + b"\0" * 20 + b"PAR1"])
def test_a_file_that_is_not_parquet_is_named(content, storage, tmp_path):
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(SchemaError, match=r"t\.parquet is not readable as Parquet"):
        read_table(str(tmp_path / "t.parquet"), schema.RUNS, storage)


@pytest.mark.parametrize(
    ("site", "folder"),
    [("north", "site=north"), ("a/b", "site=a%2Fb"), ("Süd 1=2", "site=S%C3%BCd%201%3D2"), ("..", "site=..")],
)
def test_any_site_makes_one_folder(site, folder):
    uri = partition_uri("s3://lake/", "loads", DAY, site)
    assert uri == f"s3://lake/loads/date=2026-11-20/{folder}/part-0.parquet"
    assert partition_uri("s3://lake", "loads", DAY, site, "r1") == uri.replace("lake/", "lake/_runs/r1/", 1)


# ---- publishing -------------------------------------------------------------------------------------------------


def test_a_run_is_published_and_stays_readable_after_the_next(storage, tmp_path):
    lake = str(tmp_path)
    assert published_run(lake, DAY, SITE, storage) is None
    publish_run(lake, "r1", DAY, SITE, tables_of("r1", 2), storage, class_names=["motor"])
    publish_run(lake, "r2", DAY, SITE, tables_of("r2", 3), storage, class_names=["motor"])
    assert published_run(lake, DAY, SITE, storage) == "r2"
    assert read_partition(lake, "frames", DAY, SITE, storage).num_rows == 3
    assert read_partition(lake, "frames", DAY, SITE, storage, run_id="r1").num_rows == 2


def test_a_run_touches_no_other_date_or_site(storage, tmp_path):
    lake = str(tmp_path)
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), storage)
    before = published(lake, storage)
    other = {name: columns.empty_table() for name, columns in schema.PUBLISHED.items()}
    other["runs"] = pa.Table.from_pylist([run_row("r2", site="south")], schema.RUNS)
    publish_run(lake, "r2", DAY, "south", other, storage)
    assert published(lake, storage) == before


def test_loads_are_replaced_last(storage, tmp_path, monkeypatch):
    targets = []
    monkeypatch.setattr(storage, "copy", lambda source, target: targets.append(target))
    publish_run(str(tmp_path), "r1", DAY, SITE, tables_of("r1"), storage)
    assert [target.split("/")[-4] for target in targets] == list(schema.PUBLISHED)
    assert targets[-1].split("/")[-4] == "loads"


@pytest.mark.parametrize("failing", range(len(schema.PUBLISHED)))
def test_a_failed_replacement_puts_the_run_before_back(failing, tmp_path):
    lake = str(tmp_path)
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), Storage())
    before = published(lake, Storage())
    with pytest.raises(StorageError, match="the disk is full") as caught:
        publish_run(lake, "r2", DAY, SITE, tables_of("r2"), FailsAtCopy(failing))
    assert caught.value.reason == "disk_full"
    assert published(lake, Storage()) == before


@pytest.mark.parametrize("failing", range(len(schema.PUBLISHED)))
def test_a_failed_first_publication_leaves_nothing_published(failing, tmp_path):
    with pytest.raises(StorageError):
        publish_run(str(tmp_path), "r1", DAY, SITE, tables_of("r1"), FailsAtCopy(failing))
    assert published(str(tmp_path), Storage()) == {}


@pytest.mark.parametrize("failing", range(len(schema.PUBLISHED)))
def test_an_interruption_puts_the_run_before_back_too(failing, tmp_path):
    class Interrupted(FailsAtCopy):
        def copy(self, source, target):
            try:
                super().copy(source, target)
            except StorageError:
                raise KeyboardInterrupt from None

    lake = str(tmp_path)
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), Storage())
    before = published(lake, Storage())
    with pytest.raises(KeyboardInterrupt):
        publish_run(lake, "r2", DAY, SITE, tables_of("r2"), Interrupted(failing))
    assert published(lake, Storage()) == before


def test_a_damaged_table_of_the_run_before_does_not_stop_the_next(tmp_path):
    lake = str(tmp_path)
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), Storage())
    path = Path(partition_uri(lake, "runs", DAY, SITE))
    content = path.read_bytes()[:100]
    path.unlink()
    path.write_bytes(content)
    assert published_run(lake, DAY, SITE, Storage()) is None
    publish_run(lake, "r2", DAY, SITE, tables_of("r2"), Storage())
    assert published_run(lake, DAY, SITE, Storage()) == "r2"


def test_when_even_going_back_fails_the_message_says_what_to_do(tmp_path):
    lake = str(tmp_path)
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), Storage())
    with pytest.raises(StorageError, match=r"stopped half-way and could not be undone.*run the audit again"):
        publish_run(lake, "r2", DAY, SITE, tables_of("r2"), FailsAtCopy(2, 3))
    publish_run(lake, "r2", DAY, SITE, tables_of("r2"), Storage())
    assert published_run(lake, DAY, SITE, Storage()) == "r2"


def test_tables_of_an_older_version_are_replaced_and_come_back_when_that_fails(storage, tmp_path):
    lake = str(tmp_path)
    publish_run(lake, "old", DAY, SITE, tables_of("old"), storage)
    for run_id in (None, "old"):
        uri = partition_uri(lake, "runs", DAY, SITE, run_id)
        older = pq.ParquetFile(uri).read().drop_columns(["segment_s"])
        Path(uri).unlink()
        pq.write_table(older, uri)
    before = published(lake, storage)
    with pytest.raises(StorageError):
        publish_run(lake, "new", DAY, SITE, tables_of("new"), FailsAtCopy(4))
    assert published(lake, storage) == before
    publish_run(lake, "new", DAY, SITE, tables_of("new"), storage)
    assert published_run(lake, DAY, SITE, storage) == "new"


def test_publishing_the_same_run_again_gives_the_same_bytes(storage, tmp_path):
    lake = str(tmp_path)
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), storage)
    before = published(lake, storage)
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), storage)
    assert published(lake, storage) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tables: tables.pop("trucks"), "a run has the tables"),
        (lambda tables: tables.update(frames=schema.LOADS.empty_table()), "frames misses"),
        (lambda tables: tables.update(frames=tables_of("r2")["frames"]), "frames: column run_id"),
        (
            lambda tables: tables.update(runs=pa.Table.from_pylist([run_row("r1", site="south")], schema.RUNS)),
            "runs: column site",
        ),
    ],
)
def test_a_run_that_does_not_fit_changes_nothing(change, message, storage, tmp_path):
    tables = tables_of("r1")
    change(tables)
    with pytest.raises(SchemaError, match=message):
        publish_run(str(tmp_path), "r1", DAY, SITE, tables, storage)
    assert storage.list_names(str(tmp_path)) == []


def test_a_full_disk_on_publish_leaves_the_run_before(storage, small_disk):
    lake = join(str(small_disk), "lake")
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), storage)
    before = published(lake, storage)
    long_names = tables_of("r2", num_frames=0)
    rows = [frame_row("r2", os.urandom(16).hex(), uri=os.urandom(500).hex()) for _ in range(2000)]
    long_names["frames"] = pa.Table.from_pylist(rows, schema.FRAMES)
    with pytest.raises(StorageError, match="the disk is full; make room"):
        publish_run(lake, "r2", DAY, SITE, long_names, storage)
    assert published(lake, storage) == before
    assert published_run(lake, DAY, SITE, storage) == "r1"


STRAYS = [".DS_Store", "site=copy/note.txt", "site=c (copy)/part-0.parquet", "site=a/old/part-0.parquet"]


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("name", ["lake", "site=milan/lake", "date=now/lake"])
def test_sites_are_those_with_a_file_at_its_place_whatever_else_lies_there(name, stray, storage, tmp_path):
    lake = str(tmp_path / name)
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), storage)
    rows = read_as_written(partition_uri(lake, "loads", DAY, SITE), storage)
    write_month(lake, "loads", "of a month", {DAY: ("r1", rows)}, storage)
    for place in (partition_uri, month_uri):
        folder = place(lake, "loads", DAY, "").rpartition("/site=")[0]
        storage.write_bytes(join(folder, stray), b"x")
    assert published_sites(lake, DAY, storage) == sorted([SITE, "of a month"])


def test_a_night_of_another_version_says_so_and_what_to_do(storage, tmp_path, monkeypatch):
    lake = str(tmp_path)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION - 1)
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), storage)
    monkeypatch.undo()
    for run_id in (None, "r1"):
        with pytest.raises(SchemaError, match=rf"has version 2 of the tables, .* needs 3; audit {DAY} {SITE} again"):
            read_partition(lake, "loads", DAY, SITE, storage, run_id)
