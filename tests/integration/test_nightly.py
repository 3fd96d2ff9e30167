"""From an archive on S3 to tables that DuckDB, Polars and pandas read: the whole main path with a tiny segmenter."""

import datetime as dt
import io
import json
import subprocess
import sys

import cv2
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from jobs.nightly_audit import main
from scrapray import lake, schema
from scrapray.audit.manifest import index_archive
from scrapray.audit.nightly import run_audit
from scrapray.config import read_config
from scrapray.registry import Registry
from scrapray.screen import query_line
from scrapray.storage import Storage, join

pytestmark = [
    # Ray warns of its own settings when it makes its context.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    # A night of one block cannot keep two tasks busy, and need not.
    pytest.mark.filterwarnings("ignore:The maximum number of concurrent tasks:UserWarning"),
]

NIGHT = dt.date(2026, 11, 20)
SITE = "yard"
SETTINGS = """
[quality]
min_sharpness = 0.0
max_color_cast = 1.0

[cameras.north]
bed_polygon_px = [[0, 0], [160, 0], [160, 96], [0, 96]]

[cameras.south]  # a bed smaller than the smallest detection: nothing can be found in it
bed_polygon_px = [[20, 20], [23, 20], [23, 23], [20, 23]]

[segment]
overlap_px = 16
map_stride_px = 4
min_area_px = 100
thresholds = { motor = 0.999, cable = 0.999, "spray can" = 0.01 }  # cans everywhere

[resources]
actors = 1
cpus_per_actor = 1
frames_per_block = 4

[storage]
region = "us-east-1"
endpoint_url = """


@pytest.fixture(scope="module")
def config_path(s3, tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "audit.toml"
    path.write_text(f'{SETTINGS}"{s3.endpoint_url}"\n')
    return path


def frame(seed):
    """A small JPEG of noise, different for each seed."""
    picture = np.random.default_rng(seed).integers(30, 220, size=(96, 160, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def key(truck, load, second, site=SITE, camera="north"):
    return f"{site}/{NIGHT}/{truck}/{load}/{camera}_0800{second:02d}.jpg"


@pytest.fixture(scope="module")
def yard(s3, engine, tiny_bundle, config_path):
    """An archive of two loads and a dock with one, audited once by a segmenter that finds cans everywhere."""
    bucket = s3.make_bucket("night")
    place = Yard(
        s3,
        config_path,
        archive=join(bucket, "archive"),
        lake=join(bucket, "lake"),
        bundle=join(bucket, "models", "tiny"),
    )
    for path in tiny_bundle.iterdir():
        place.storage.write_bytes(join(place.bundle, path.name), path.read_bytes())
    for second in range(3):
        place.put(key("0007", "L1", second), frame(second))
    for second in range(10, 12):
        place.put(key("0008", "L2", second), frame(second))
    for second in range(20, 22):
        place.put(key("0001", "D1", second, "dock", "south"), frame(second))
    place.put(key("0008", "L2", 12), frame(12)[:4000])
    place.put(key("0008", "L2", 13), b"")
    place.first = place.audit()
    yield place
    s3.remove_bucket("night")


class Yard:
    """One archive, its lake and how they are used."""

    def __init__(self, s3, config_path, archive, lake, bundle):
        self.s3, self.archive, self.lake, self.bundle = s3, archive, lake, bundle
        self.config = read_config(config_path)
        self.storage = Storage(self.config.storage)

    def put(self, name, data):
        self.storage.write_bytes(join(self.archive, name), data)

    def audit(self, date=NIGHT):
        manifest = join(self.lake, "_manifest")
        index_archive(self.archive, manifest, storage=self.storage, archive=self.config.archive, date=date)
        return run_audit(manifest, self.lake, self.bundle, config=self.config, date=date)

    def table(self, name, *, date=NIGHT, site=SITE, run_id=None):
        return lake.read_partition(self.lake, name, date, site, self.storage, run_id)

    def published(self):
        """Content of all published files but those of ``runs``, by name."""
        names = [name for table in schema.PUBLISHED for name in self.storage.list_names(join(self.lake, table))]
        return {name: self.storage.read_bytes(name) for name in names if "/runs/" not in name}


def test_a_night_ends_in_verdicts_for_its_loads(yard):
    summary = yard.first
    assert [(load["truck_id"], load["load_id"], load["verdict"]) for load in summary.loads] == [
        ("0007", "L1", "reject"),
        ("0008", "L2", "reject"),
        ("0001", "D1", "accept"),
    ]
    assert (summary.num_frames, summary.num_used, summary.num_computed) == (9, 7, 8)
    assert summary.rejected == {("decode", "truncated"): 1, ("manifest", "empty_object"): 1}
    assert summary.exit_code == 3
    assert summary.frames_per_s > 0


def test_duckdb_polars_and_pandas_read_the_same_tables(yard):
    columns = ["truck_id", "load_id", "verdict", "num_used"]
    expected = [("0001", "D1", "accept", 2), ("0007", "L1", "reject", 3), ("0008", "L2", "reject", 2)]
    files = yard.storage.list_names(join(yard.lake, "loads"))
    filesystem = yard.s3.filesystem()

    connection = duckdb.connect()
    connection.register_filesystem(filesystem)
    query = f"select {', '.join(columns)} from read_parquet(?) order by truck_id"
    assert connection.execute(query, [f"{yard.lake}/loads/*/*/*.parquet"]).fetchall() == expected

    of_polars = pl.read_parquet([io.BytesIO(yard.storage.read_bytes(name)) for name in files])
    assert of_polars.select(columns).rows() == expected

    of_pandas = pd.read_parquet(f"{yard.lake}/loads".removeprefix("s3://"), filesystem=filesystem, partitioning=None)
    assert list(of_pandas.sort_values("truck_id")[columns].itertuples(index=False, name=None)) == expected


def test_the_printed_query_answers_from_s3_and_shows_no_endpoint(yard, config_path):
    line = query_line(f"{yard.lake}/loads", config_path)
    assert yard.s3.endpoint_url not in line
    answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=False)
    assert "0007" in answer.stdout, answer.stderr


def test_nested_columns_can_be_queried(yard):
    connection = duckdb.connect()
    connection.register_filesystem(yard.s3.filesystem())
    (found,) = connection.execute(
        "select count(*) from (select unnest(classes, recursive := true) from read_parquet(?)) where count >= 1",
        [f"{yard.lake}/loads/*/*/*.parquet"],
    ).fetchone()
    assert found == 2
    boxes = connection.execute(
        "select bbox.x_min_px, bbox.x_max_px, mask.width_px from read_parquet(?)",
        [f"{yard.lake}/detections/*/*/*.parquet"],
    ).fetchall()
    assert len(boxes) == 5
    assert all(0 <= left < right <= width == 160 for left, right, width in boxes)


def test_every_row_can_be_traced_to_its_run(yard):
    (run,) = yard.table("runs").to_pylist()
    assert (run["run_id"], run["model_name"], run["model_uri"]) == (yard.first.run_id, "tiny", yard.bundle)
    assert (run["num_frames"], run["num_used"], run["num_rejected"], run["num_loads"]) == (7, 5, 2, 2)
    for name in schema.PUBLISHED:
        assert set(yard.table(name)["run_id"].to_pylist()) == {yard.first.run_id}
    assert yard.s3.endpoint_url not in run["config_json"]


def test_the_same_night_again_computes_nothing_and_publishes_the_same_bytes(yard):
    before = yard.published()
    again = yard.audit()
    assert (again.run_id, again.num_computed, again.frames_per_s) == (yard.first.run_id, 0, None)
    assert yard.published() == before
    assert len(before) == 2 * (len(schema.PUBLISHED) - 1)


def test_the_job_of_the_night_does_the_same_and_tells_who_must_know(yard, config_path, tmp_path, capsys):
    before = yard.published()
    with_alerts, told = tmp_path / "audit.toml", tmp_path / "alerts.jsonl"
    with_alerts.write_text(f'{config_path.read_text()}\n[alerts]\nfile = "{told}"\n')
    assert main(yard.archive, yard.lake, yard.bundle, with_alerts, NIGHT) == 3
    assert yard.published() == before
    said = capsys.readouterr().out
    assert "reject\t0007\tL1\tspray can (severity 3): 1 or more seen" in said
    assert "alerts: file: 4 sent\n" in said
    messages = [json.loads(line) for line in told.read_text().splitlines()]
    loads = sorted(message["load_id"] for message in messages if message["kind"] == "load")
    nights = sorted(message["site"] for message in messages if message["kind"] == "night")
    assert (loads, nights) == (["L1", "L2"], ["dock", SITE])
    records = yard.storage.list_names(join(yard.lake, "_alerts"))
    assert {uri.rpartition("/")[2] for uri in records} == {f"{message['id']}.json" for message in messages}
    assert not [uri for uri in records if "/waiting/" in uri]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s3://a", "s3://l", "demo"], "arguments are required: config"),
        (["s3://a", "s3://l", "demo", "audit.toml", "20.11."], "argument date"),
        (["s3://a", "s3://l", "demo", "nowhere.toml"], "scrapray: nowhere.toml: no such configuration file\n"),
    ],
)
def test_a_job_that_is_given_nonsense_ends_in_code_2_without_a_traceback(arguments, message):
    command = [sys.executable, "jobs/nightly_audit.py", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 2
    assert message in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.slow
def test_a_model_that_was_named_by_its_alias_stands_in_the_tables_by_its_version(yard, registry_folder, tiny_bundle):
    registry = Registry()
    with registry.start_run("tiny") as run:
        version = run.register_bundle(tiny_bundle)
    registry.promote(version, comparison=None)
    other_lake = join(yard.lake, "_with-the-champion")
    summary = run_audit(
        join(yard.lake, "_manifest"), other_lake, "models:/scrap-segmenter@champion", config=yard.config, date=NIGHT
    )
    assert [load["verdict"] for load in summary.loads] == [load["verdict"] for load in yard.first.loads]
    (row,) = lake.read_partition(other_lake, "runs", NIGHT, SITE, yard.storage).to_pylist()
    assert (row["model_uri"], row["model_name"], row["model_version"]) == (
        "models:/scrap-segmenter/1",
        "scrap-segmenter",
        "1",
    )
    copied = yard.storage.list_names(join(other_lake, "_models", version.bundle_sha256))
    assert [name.rpartition("/")[2] for name in copied] == ["card.json", "weights.safetensors"]


def test_a_site_without_findings_publishes_typed_empty_detections(yard):
    found = yard.table("detections", site="dock")
    assert found.num_rows == 0
    assert found.schema.equals(schema.DETECTIONS)
    (load,) = yard.table("loads", site="dock").to_pylist()
    assert (load["contamination_frac"], load["worst_severity"], load["evidence_frame_ids"]) == (0.0, 0, [])


def test_a_night_without_frames_publishes_typed_empty_tables(yard):
    quiet = NIGHT + dt.timedelta(days=1)
    summary = yard.audit(date=quiet)
    assert (summary.num_frames, summary.loads, summary.exit_code) == (0, (), 0)
    for name, columns in schema.PUBLISHED.items():
        table = yard.table(name, date=quiet, site="unknown")
        assert table.schema.equals(columns)
        assert table.num_rows == (1 if name == "runs" else 0)


@pytest.mark.slow
def test_late_frames_update_the_night_and_only_they_are_computed(yard):
    yard.put(key("0007", "L1", 40), frame(40))
    yard.put(key("0009", "L3", 50), frame(50))
    summary = yard.audit()
    assert (summary.num_frames, summary.num_computed) == (11, 2)
    assert summary.run_id != yard.first.run_id
    now = {load["load_id"]: load["num_used"] for load in yard.table("loads").to_pylist()}
    assert now == {"L1": 4, "L2": 2, "L3": 1}
    before = yard.table("loads", run_id=yard.first.run_id)
    assert dict(zip(before["load_id"].to_pylist(), before["num_used"].to_pylist(), strict=True)) == {"L1": 3, "L2": 2}


@pytest.mark.slow
def test_the_job_of_the_next_night_brings_in_what_came_late_for_the_one_before(yard, config_path):
    yard.audit()
    yard.put(key("0012", "L4", 55), frame(55))
    assert main(yard.archive, yard.lake, yard.bundle, config_path, NIGHT + dt.timedelta(days=1)) == 3
    assert "L4" in yard.table("loads")["load_id"].to_pylist()


def test_files_say_how_to_read_them(yard):
    uri = lake.partition_uri(yard.lake, "detections", NIGHT, SITE)
    footer = pq.read_metadata(io.BytesIO(yard.storage.read_bytes(uri))).metadata[lake.FOOTER_KEY]
    assert b'"classes": ["motor", "cable", "spray can"]' in footer
