import dataclasses
import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from scrapray import lake, schema
from scrapray.audit.publish import Published, Run, build_tables, nights_of, publish
from scrapray.audit.results import find_results
from scrapray.errors import SchemaError, StorageError
from scrapray.storage import Storage
from tests.unit.statistics.frames import NIGHT, at, reading

SITE = "yard"
RUN = Run(
    run_id="00000000000000aa",
    started_utc=at(0),
    finished_utc=at(60),
    model_uri="models/scrap-3",
    model_name="scrap",
    model_version="3",
    weights_sha256="0" * 64,
    config_json="{}",
    config_sha256="1" * 64,
    code_version="0.1.0",
    num_computed=3,
    segment_s=12.5,
)


def manifest(*rows):
    """Rows given as ``(frame id, changes)``; the id is also the second of exposure."""
    whole = [
        {
            "frame_id": name,
            "uri": f"archive/{name}.jpg",
            "etag": "e",
            "size_bytes": 10,
            "site": SITE,
            "date": NIGHT,
            "camera_id": "north",
            "taken_utc": at(int(name)),
            "truck_id": "0007",
            "load_id": "L1",
            "load_source": "key",
            **changes,
        }
        for name, changes in rows
    ]
    return pa.Table.from_pylist(whole, schema=schema.MANIFEST)


def detection(class_name="spray can", severity=3, area_px=100, score=0.75):
    return {
        "class_name": class_name,
        "score": score,
        "severity": severity,
        "bbox": {"x_min_px": 0, "y_min_px": 0, "x_max_px": 10, "y_max_px": 10},
        "area_px": area_px,
        "area_frac": area_px / 1000,
        "mask": {"height_px": 40, "width_px": 60, "counts": "0"},
    }


def result(name, *detections, **changes):
    return {
        "frame_id": name,
        "status": "used",
        "content_sha256": f"sha of {name}",
        "bed_area_px": 1000,
        "seen_area_px": 1000,
        "coverage_frac": 1.0,
        "contaminated_area_px": sum(each["area_px"] for each in detections),
        "classes": [
            {
                "class_name": each["class_name"],
                "area_px": each["area_px"],
                "num_detections": 1,
                "max_score": each["score"],
                "peak_score": each["score"],
            }
            for each in detections
        ],
        "detections": list(detections),
        **changes,
    }


def rejected(name, stage, reason):
    return {"frame_id": name, "status": "rejected", "reject_stage": stage, "reject_reason": reason}


def results(*rows):
    return pa.Table.from_pylist(list(rows), schema=schema.RESULTS)


def build(some_manifest, some_results, run=RUN):
    return build_tables(
        NIGHT, SITE, some_manifest, some_results, run=run, reading=reading(), max_frozen_difference=0.002
    )


def column(table, name):
    return table[name].to_pylist()


@pytest.fixture
def storage():
    return Storage()


@pytest.fixture
def published(tmp_path, storage):
    """Publishes results into a lake; returns the lake and the function."""
    store = tmp_path / "work"
    lake_uri = str(tmp_path / "lake")

    def write_and_publish(some_manifest, *batches, run=RUN, nights=None):
        for number, batch in enumerate(batches):
            lake.write_table(batch, schema.RESULTS, f"{store}/part-{number}.parquet", storage)
        return publish(
            nights_of(some_manifest) if nights is None else nights,
            some_manifest,
            find_results(str(store), storage),
            lake_uri,
            run=run,
            reading=reading(),
            max_frozen_difference=0.002,
            storage=storage,
        )

    return lake_uri, write_and_publish


def test_every_frame_of_the_manifest_is_a_row_whatever_happened_to_it():
    tables = build(
        manifest(
            ("1", {}),
            ("2", {}),
            ("3", {"reject_stage": "manifest", "reject_reason": "no_load", "load_id": None, "truck_id": None}),
        ),
        results(rejected("2", "decode", "truncated"), result("1", detection())),
    )
    frames = tables["frames"]
    assert frames.schema == schema.FRAMES
    assert column(frames, "frame_id") == ["1", "2", "3"]
    assert column(frames, "status") == ["used", "rejected", "rejected"]
    assert column(frames, "reject_stage") == [None, "decode", "manifest"]
    assert column(frames, "reject_reason") == [None, "truncated", "no_load"]
    assert column(tables["loads"], "num_frames") == [2]


def test_all_tables_are_exactly_of_their_schema():
    tables = build(manifest(("1", {}), ("2", {})), results(result("1", detection()), result("2", detection())))
    assert set(tables) == set(schema.PUBLISHED)
    for name, table in tables.items():
        assert lake.conform(table, schema.PUBLISHED[name], name).schema == schema.PUBLISHED[name]
        assert table.num_rows > 0


def test_a_detection_knows_its_frame_and_load():
    tables = build(
        manifest(("1", {}), ("2", {"truck_id": "0002"})),
        results(result("1", detection("motor", 2), detection("cable", 1)), result("2", detection())),
    )
    found = tables["detections"]
    assert column(found, "detection_id") == ["2-000", "1-000", "1-001"]
    assert column(found, "class_name") == ["spray can", "motor", "cable"]
    assert column(found, "truck_id") == ["0002", "0007", "0007"]
    assert column(found, "mask")[0] == {"height_px": 40, "width_px": 60, "counts": "0"}


def test_a_repeated_frame_is_rejected_before_the_statistics():
    frozen = [result(name, detection(), content_sha256="same") for name in ("1", "2", "3")]
    tables = build(manifest(("1", {}), ("2", {}), ("3", {})), results(*frozen))
    assert column(tables["frames"], "reject_stage") == [None, "frozen", "frozen"]
    assert column(tables["frames"], "duplicate_of") == [None, "1", "1"]
    assert column(tables["loads"], "num_used") == [1]
    assert column(tables["detections"], "frame_id") == ["1"]


def test_frames_are_sorted_by_truck_load_and_time():
    rows = manifest(
        ("4", {"truck_id": "2", "load_id": "L1"}),
        ("3", {"truck_id": "1", "load_id": "L2"}),
        ("2", {"truck_id": "1", "load_id": "L1", "taken_utc": at(50)}),
        ("1", {"truck_id": "1", "load_id": "L1", "taken_utc": at(60)}),
        ("0", {"truck_id": None, "load_id": None, "reject_stage": "manifest", "reject_reason": "no_load"}),
    )
    tables = build(rows, results(*(result(name) for name in "4321")))
    assert column(tables["frames"], "frame_id") == ["2", "1", "3", "4", "0"]


def test_a_frame_without_a_result_stops_the_publishing():
    with pytest.raises(SchemaError, match="1 frames of the manifest have no result; run the audit again"):
        build(manifest(("1", {}), ("2", {})), results(result("1")))


def test_two_results_of_one_frame_stop_the_publishing():
    with pytest.raises(SchemaError, match="more than one result"):
        build(manifest(("1", {})), results(result("1"), result("1")))


def test_a_night_without_findings_has_typed_empty_detections():
    tables = build(manifest(("1", {}), ("2", {})), results(result("1"), result("2")))
    assert tables["detections"].num_rows == 0
    assert tables["detections"].schema == schema.DETECTIONS
    assert column(tables["loads"], "verdict") == ["accept"]


def test_a_night_without_frames_has_typed_empty_tables_and_its_run(published, storage):
    lake_uri, write_and_publish = published
    summary = write_and_publish(manifest(), nights=[(NIGHT, SITE)])
    assert summary == Published()
    for name, columns in schema.PUBLISHED.items():
        table = lake.read_partition(lake_uri, name, NIGHT, SITE, storage)
        assert table.schema.equals(columns)
        assert table.num_rows == (1 if name == "runs" else 0)


def test_results_in_any_order_and_files_publish_the_same_bytes(published, storage):
    lake_uri, write_and_publish = published
    rows = [result("1", detection()), result("2", detection()), rejected("3", "decode", "truncated")]
    some = manifest(("1", {}), ("2", {}), ("3", {}))

    def content():
        names = [name for name in storage.list_names(lake_uri) if "/runs/" not in name]
        return {name: storage.read_bytes(name) for name in names}

    write_and_publish(some, results(*rows))
    first = content()
    write_and_publish(
        some.take([2, 0, 1]),
        results(rows[2]),
        results(rows[1], rows[0]),
        run=dataclasses.replace(RUN, started_utc=at(99), segment_s=1.0),
    )
    assert content() == first
    assert len(first) == 2 * (len(schema.PUBLISHED) - 1)


def test_late_frames_update_the_tables_and_the_run_before_stays_readable(published, storage):
    lake_uri, write_and_publish = published
    write_and_publish(manifest(("1", {}), ("2", {})), results(result("1"), result("2")))
    late_run = dataclasses.replace(RUN, run_id="00000000000000bb")
    late = [result(name, detection()) for name in ("3", "4")]
    write_and_publish(
        manifest(*((name, {}) for name in "1234")), results(result("1"), result("2")), results(*late), run=late_run
    )
    now = lake.read_partition(lake_uri, "loads", NIGHT, SITE, storage)
    before = lake.read_partition(lake_uri, "loads", NIGHT, SITE, storage, RUN.run_id)
    assert (column(now, "num_used"), column(now, "verdict")) == ([4], ["reject"])
    assert (column(before, "num_used"), column(before, "verdict")) == ([2], ["accept"])
    assert lake.published_run(lake_uri, NIGHT, SITE, storage) == late_run.run_id


def test_each_date_and_site_is_published_apart_and_summed_up(published, storage):
    lake_uri, write_and_publish = published
    other = NIGHT + dt.timedelta(days=1)
    some = manifest(("1", {}), ("2", {}), ("3", {"site": "dock"}), ("4", {"date": other}))
    summary = write_and_publish(
        some, results(result("1"), result("2")), results(result("3"), rejected("4", "decode", "empty"))
    )
    assert nights_of(some) == [(NIGHT, "dock"), (NIGHT, SITE), (other, SITE)]
    assert (len(summary.loads), summary.num_used, summary.rejected) == (3, 3, {("decode", "empty"): 1})
    assert column(lake.read_partition(lake_uri, "runs", NIGHT, "dock", storage), "num_frames") == [1]
    assert column(lake.read_partition(lake_uri, "loads", other, SITE, storage), "num_rejected") == [1]


def test_a_fault_in_a_later_night_leaves_the_earlier_one_whole(published, storage):
    lake_uri, write_and_publish = published
    other = NIGHT + dt.timedelta(days=1)
    with pytest.raises(SchemaError, match="no result"):
        write_and_publish(manifest(("1", {}), ("2", {"date": other})), results(result("1")))
    assert lake.read_partition(lake_uri, "frames", NIGHT, SITE, storage).num_rows == 1
    with pytest.raises(StorageError):
        lake.read_partition(lake_uri, "frames", other, SITE, storage)


def test_a_truck_number_keeps_its_zeros(published, storage):
    lake_uri, write_and_publish = published
    write_and_publish(manifest(("1", {}), ("2", {})), results(result("1"), result("2")))
    trucks = lake.read_partition(lake_uri, "trucks", NIGHT, SITE, storage)
    assert pc.unique(trucks["truck_id"]).to_pylist() == ["0007"]
