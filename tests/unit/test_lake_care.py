"""A lake that is whole, in every state in which a crash may leave it, and without its old runs."""

import datetime as dt
import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from benchmarks.lake_year import draw_night
from scrapray import cli, schema
from scrapray.errors import SchemaError, StorageError
from scrapray.lake import partition_uri, publish_run, published_run, read_partition
from scrapray.lake_care.retire import Retired, retire
from scrapray.lake_care.verify import verify
from scrapray.storage import Storage, join
from tests.fixtures.older_lakes import OLDER, write_older_night
from tests.unit.test_lake import FailsAtCopy

FRIDAY = dt.date(2026, 11, 20)
SATURDAY = FRIDAY + dt.timedelta(days=1)
SITE = "north yard/2"


@pytest.fixture
def storage():
    return Storage()


@pytest.fixture
def lake(tmp_path):
    return str(tmp_path / "lake")


@cache
def night(run_id, date=FRIDAY, site=SITE, num_loads=15, finished=None):
    tables = draw_night(run_id, date, site, num_loads, np.random.default_rng(1))
    if finished is not None:
        moment = dt.datetime(2026, 11, 22, tzinfo=dt.UTC) + dt.timedelta(hours=finished)
        tables["runs"] = with_values(tables["runs"], finished_utc=moment)
    return tables


def with_values(table, row=0, **values):
    """The same table with other values in one row."""
    found = table.to_pylist()
    found[row] |= values
    return pa.Table.from_pylist(found, table.schema)


def publish(lake, run_id, storage, tables=None, date=FRIDAY, site=SITE):
    publish_run(lake, run_id, date, site, tables or night(run_id, date, site), storage, class_names=["motor"])


def path_of(lake, table, run_id=None):
    return Path(partition_uri(lake, table, FRIDAY, SITE, run_id))


def replace_file(path, content):
    """Another file in its place: the published one is a second name for that of the run."""
    path.unlink()
    path.write_bytes(content)


def faults(lake):
    return [f"{fault.place}: {fault.what}" for fault in verify(lake, Storage()).faults]


def run_folders(lake):
    return sorted({path.parts[-5] for path in Path(lake, "_runs").glob("*/*/*/*/*.parquet")})


# ---- verify -----------------------------------------------------------------------------------------------------


def test_what_audits_publish_is_whole(lake, storage):
    publish(lake, "r1", storage)
    publish(lake, "r2", storage)
    publish(lake, "r3", storage, date=SATURDAY)
    verified = verify(lake, storage)
    assert verified.faults == ()
    assert verified.num_nights == 2
    assert verified.num_rows == 2 * sum(table.num_rows for table in night("r1").values())


@pytest.mark.parametrize("version", OLDER)
def test_what_earlier_versions_published_is_whole(version, tmp_path):
    write_older_night(tmp_path, version, FRIDAY, SITE, night("r1"))
    write_older_night(tmp_path / "_runs" / "r1", version, FRIDAY, SITE, night("r1"))
    assert faults(str(tmp_path)) == []


@pytest.mark.parametrize(("table", "column"), [("frames", "status"), ("runs", "num_loads"), ("loads", "num_used")])
def test_a_table_of_an_earlier_version_without_a_column_is_named(table, column, tmp_path):
    write_older_night(tmp_path, 1, FRIDAY, SITE, night("r1"))
    path = path_of(str(tmp_path), table)
    pq.write_table(pq.ParquetFile(path).read().drop_columns(column), path)
    assert f"{path}: misses {column}" in faults(str(tmp_path))


def test_a_night_without_anything_is_whole(lake, storage):
    tables = {name: columns.empty_table() for name, columns in schema.PUBLISHED.items()}
    counts = dict.fromkeys(("num_frames", "num_used", "num_rejected", "num_loads"), 0)
    publish(lake, "r1", storage, tables | {"runs": with_values(night("r1")["runs"], **counts)})
    assert faults(lake) == []


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        ("runs", lambda table: with_values(table, num_frames=7), "runs says num_frames = 7, the tables hold 45"),
        ("runs", lambda table: with_values(table, num_loads=7), "runs says num_loads = 7, the tables hold 15"),
        ("runs", lambda table: with_values(table, num_used=7), "runs says num_used = 7"),
        ("runs", lambda table: table.slice(0, 0), "has 0 rows in runs, so that its rows cannot be traced"),
        ("frames", lambda table: table.slice(1), "the tables hold 44"),
        ("frames", lambda table: with_values(table, frame_id=table["frame_id"][1].as_py()), "a frame stands twice"),
        (
            "loads",
            lambda table: with_values(table, evidence_frame_ids=["x", "y"]),
            "loads are not in frames: x and 1 more",
        ),
        ("loads", lambda table: with_values(table, load_id="other"), "loads of frames are not in loads: L000"),
        ("detections", lambda table: with_values(table, frame_id="x"), "are not in frames with status used: x"),
        ("detections", lambda table: pa.concat_tables([table, table.slice(0, 1)]), "a detection stands twice"),
        ("detections", lambda table: table.slice(1), "detections are not as many as frames say: r1-"),
        ("detections", lambda table: with_values(table, class_name="x"), "detections are not as many as frames say"),
        ("detections", lambda table: with_values(table, load_id="x"), "name another truck or load than their frame"),
        ("loads", lambda table: with_values(table, num_frames=9), "other numbers of frames than they say: L000"),
        ("loads", lambda table: with_values(table, num_used=9), "other numbers of frames than they say: L000"),
        ("loads", lambda table: with_values(table, load_id="other"), "loads have no frame: other"),
        ("loads", lambda table: pa.concat_tables([table, table.slice(0, 1)]), "a load stands twice in loads"),
        ("trucks", lambda table: table.slice(1), "trucks of loads are not in trucks: "),
        ("loads", lambda table: with_values(table, site="elsewhere"), "loads hold rows of another date or site"),
        ("loads", lambda table: with_values(table, run_id="r2"), "is half published"),
    ],
)
def test_rows_that_do_not_fit_together_are_named(table, change, words, lake, storage):
    publish(lake, "r1", storage)
    path = path_of(lake, table)
    changed = change(pq.ParquetFile(path).read())
    path.unlink()
    pq.write_table(changed, path)
    found = faults(lake)
    assert any(words in fault for fault in found), found
    assert all(fault.startswith(f"{FRIDAY} {SITE}: ") for fault in found)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not readable as Parquet"),
        (None, "is missing"),
        ({}, "has no footer that says what it is"),
        ({"table": "frames"}, "has no footer that says what it is"),
        ({"table": "frames", "schema_version": 3}, "is a table of frames"),
        ({"table": "trucks", "schema_version": 99}, "has schema version 99, this scrapray knows 1 to 3"),
        ({"table": "trucks", "schema_version": 3}, "trucks misses supplier"),
    ],
)
def test_files_that_are_not_what_they_must_be_are_named(content, words, lake, storage):
    publish(lake, "r1", storage)
    path = path_of(lake, "trucks")
    table = pq.ParquetFile(path).read().drop_columns("supplier")
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        footer = {"scrapray": json.dumps(content)} if content else None
        pq.write_table(table.replace_schema_metadata(footer), path)
    (fault,) = faults(lake)
    assert fault.startswith(str(path))
    assert words in fault or words.replace("trucks misses", "misses") in fault


@pytest.mark.parametrize("num_replaced", range(len(schema.PUBLISHED)))
def test_a_crash_while_tables_are_replaced_is_named_with_what_to_do(num_replaced, lake, storage):
    publish(lake, "r1", storage)
    with pytest.raises(StorageError):  # neither forwards nor back
        publish_run(lake, "r2", FRIDAY, SITE, night("r2"), FailsAtCopy(num_replaced, num_replaced + 1))
    found = verify(lake, storage).faults
    if num_replaced == 0:
        assert found == ()
    else:
        (fault,) = found
        assert "is half published: " in fault.what
        assert "audit that night again" in fault.mend
    publish(lake, "r2", storage)
    assert faults(lake) == []


@pytest.mark.parametrize("num_written", range(1, len(schema.PUBLISHED)))
def test_a_crash_while_a_run_is_written_is_named(num_written, lake, storage):
    publish(lake, "r1", storage)
    publish(lake, "r2", storage)
    publish(lake, "r1", storage)
    for table in list(schema.PUBLISHED)[num_written:]:
        shutil.rmtree(Path(lake, "_runs", "r2", table))
    (fault,) = verify(lake, storage).faults
    assert fault.place == f"{lake}/_runs/r2, {FRIDAY} {SITE}"
    assert fault.what.startswith("lacks ")


def test_what_lies_there_without_a_use_is_named(lake, storage):
    publish(lake, "r1", storage)
    publish(lake, "r2", storage, date=SATURDAY)
    for table in schema.PUBLISHED:
        shutil.rmtree(Path(lake, table, f"date={SATURDAY}"))
    storage.write_bytes(join(lake, "loads", "notes.txt"), b"x")
    storage.write_bytes(join(lake, "loads", "date=2026-06-31", "site=a", "part-0.parquet"), b"x")
    found = faults(lake)
    assert len(found) == 3
    assert "belongs to a night of which nothing is published" in found[2]
    assert all("is no table of a night" in fault for fault in found[:2])


@pytest.mark.parametrize(
    "place",
    [
        "loads/loads/date=2026-11-20/site=a",
        "loads/date=2026-11-20/backup/site=a",
        "loads/date=2026-11-20/site=a/site=a",
        "loads/date=2026-11-20/site=%61",
        "loads/date=20261120/site=a",
        "_runs/r1/old/loads/date=2026-11-20/site=a",
        "_runs/r1/loads/date=2026-11-20/site=%61",
    ],
)
def test_a_copy_of_a_table_at_another_place_is_named(place, lake, storage, monkeypatch):
    publish(lake, "r1", storage, site="a")
    copy = Path(lake, place, "part-0.parquet")
    storage.copy(partition_uri(lake, "loads", FRIDAY, "a"), str(copy))
    assert faults(lake) == [f"{copy}: is no table of a night"]
    monkeypatch.chdir(Path(lake).parent)
    assert faults("lake/") == [f"{copy}: is no table of a night"]


def test_a_published_run_without_its_folder_cannot_be_gone_back_to(lake, storage):
    publish(lake, "r1", storage)
    shutil.rmtree(Path(lake, "_runs", "r1"))
    (fault,) = faults(lake)
    assert fault.startswith(f"{FRIDAY} {SITE}: r1 is published and not in _runs: once another run is, nobody can")


@pytest.mark.parametrize("folder", ["reviews", "_review_queues"])
def test_a_review_that_cannot_be_read_is_named(folder, lake, storage):
    publish(lake, "r1", storage)
    storage.write_bytes(join(lake, folder, "a.parquet"), b"no Parquet")
    (fault,) = faults(lake)
    assert fault.startswith(f"{lake}/{folder}/a.parquet: is not readable as Parquet")


def test_one_night_can_be_looked_at_alone(lake, storage):
    publish(lake, "r1", storage)
    publish(lake, "r2", storage, date=SATURDAY)
    path_of(lake, "trucks").unlink()
    assert len(verify(lake, storage, FRIDAY).faults) == 1
    assert verify(lake, storage, SATURDAY).faults == ()


# ---- retire -----------------------------------------------------------------------------------------------------


def publish_five(lake, storage):
    """Runs that end one after the other; the one that is published is the second."""
    for number in range(5):
        publish(lake, f"r{number}", storage, night(f"r{number}", finished=number))
    publish(lake, "r1", storage, night("r1", finished=1))


@pytest.mark.parametrize(
    ("keep", "stays"), [(1, ["r1", "r4"]), (2, ["r1", "r3", "r4"]), (9, ["r0", "r1", "r2", "r3", "r4"])]
)
def test_the_newest_runs_and_the_published_one_stay(keep, stays, lake, storage):
    publish_five(lake, storage)
    assert retire(lake, keep, storage) == Retired(num_deleted=5 - len(stays), num_in_review=0, faults=())
    assert run_folders(lake) == stays
    assert sorted(path.name for path in Path(lake, "_runs").iterdir()) == stays
    assert published_run(lake, FRIDAY, SITE, storage) == "r1"
    assert read_partition(lake, "loads", FRIDAY, SITE, storage).num_rows == 15
    assert faults(lake) == []


def test_each_date_and_site_keeps_its_own(lake, storage):
    publish_five(lake, storage)
    publish(lake, "r0", storage, date=SATURDAY)
    assert retire(lake, 1, storage).num_deleted == 3
    assert run_folders(lake) == ["r0", "r1", "r4"]
    assert not path_of(lake, "loads", "r0").exists()
    assert faults(lake) == []


def test_runs_of_a_half_published_night_stay_both(lake, storage):
    publish_five(lake, storage)
    storage.copy(str(path_of(lake, "frames", "r2")), str(path_of(lake, "frames")))
    retire(lake, 1, storage)
    assert run_folders(lake) == ["r1", "r2", "r4"]


@pytest.mark.parametrize("num_deleted", [0, 1, 4, 5, 9])
def test_killed_anywhere_the_next_call_goes_on(num_deleted, lake, storage):
    class Killed(Storage):
        left = num_deleted

        def delete_folder(self, uri):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            super().delete_folder(uri)

    publish_five(lake, storage)
    with pytest.raises(KeyboardInterrupt):
        retire(lake, 2, Killed())
    assert all("lacks" in fault for fault in faults(lake))
    retire(lake, 2, storage)
    assert run_folders(lake) == ["r1", "r3", "r4"]
    assert faults(lake) == []


@pytest.mark.parametrize(
    ("run_id", "mend"), [("r0", "delete what r0 has of 2026-11-20 north yard/2"), ("r1", "audit that night again")]
)
def test_a_run_whose_age_nobody_knows_stays_and_the_others_go(run_id, mend, lake, storage):
    publish_five(lake, storage)
    replace_file(path_of(lake, "runs", run_id), b"")
    retired = retire(lake, 1, storage)
    assert run_folders(lake) == sorted({run_id, "r1", "r4"})
    (fault,) = retired.faults
    assert fault.place == str(path_of(lake, "runs", run_id))
    assert fault.mend.startswith(mend)


def test_runs_of_a_night_that_cannot_be_read_stay_and_those_of_others_go(lake, storage):
    publish_five(lake, storage)
    for number in range(3):
        publish(lake, f"r{number}", storage, night(f"r{number}", SATURDAY, finished=number), date=SATURDAY)
    replace_file(path_of(lake, "trucks"), b"")
    retired = retire(lake, 1, storage)
    assert retired.num_deleted == 2
    assert run_folders(lake) == [f"r{number}" for number in range(5)]
    (fault,) = retired.faults
    assert (fault.place, fault.mend) == (f"{FRIDAY} {SITE}", "audit that night again")


def ask_about(lake, storage, run_id, folder="_review_queues"):
    columns = pa.schema([schema.REVIEW_QUEUE.field(name) for name in ("queue_id", "run_id", "date", "site")])
    row = {"queue_id": f"about-{run_id}", "run_id": run_id, "date": FRIDAY, "site": SITE}
    path = Path(lake, folder, f"about-{run_id}.parquet")
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row], columns), path)


def test_a_run_that_people_are_asked_about_stays_until_they_have_answered(lake, storage):
    publish_five(lake, storage)
    for run_id in ("r0", "r2", "r4"):
        ask_about(lake, storage, run_id)
    ask_about(lake, storage, "r2", "reviews")
    storage.write_bytes(join(lake, "reviews", "torn.parquet"), b"")
    assert retire(lake, 1, storage) == Retired(num_deleted=2, num_in_review=1, faults=())
    assert run_folders(lake) == ["r0", "r1", "r4"]
    answer = CliRunner().invoke(cli.app, ["lake", "retire", lake, "--keep", "1"])
    assert answer.stdout.startswith("1 old runs stay: a review asks about them and is not imported yet\n0 old runs")
    ask_about(lake, storage, "r0", "reviews")
    assert retire(lake, 1, storage).num_deleted == 1


def test_nothing_is_deleted_while_nobody_can_read_what_people_are_asked(lake, storage):
    publish_five(lake, storage)
    storage.write_bytes(join(lake, "_review_queues", "torn.parquet"), b"")
    with pytest.raises(SchemaError, match=r"torn\.parquet is not readable"):
        retire(lake, 1, storage)
    assert run_folders(lake) == [f"r{number}" for number in range(5)]


# ---- commands ---------------------------------------------------------------------------------------------------


def test_the_commands_say_what_they_found_and_did(lake, storage):
    publish_five(lake, storage)
    whole = CliRunner().invoke(cli.app, ["lake", "verify", lake])
    assert (whole.exit_code, "rows of 1 night and site: all whole and traceable" in whole.stdout) == (0, True)
    retired = CliRunner().invoke(cli.app, ["lake", "retire", lake, "--keep", "1"])
    assert (retired.exit_code, retired.stdout) == (0, "3 old runs deleted, each date and site counted\n")
    path_of(lake, "trucks").unlink()
    broken = CliRunner().invoke(cli.app, ["lake", "verify", lake, "--date", str(FRIDAY)])
    assert broken.exit_code == 1
    assert "is missing" in broken.stdout
    assert "audit that night again" in broken.stdout
    assert "rows of 1 night and site: 1 fault\n" in broken.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "NOWHERE"], "nothing is published in"),
        (["retire", "NOWHERE"], "nothing is published in"),
        (["verify", "EMPTY"], "give the folder or URI that scrapray audit published to"),
        (["retire", "EMPTY"], "give the folder or URI that scrapray audit published to"),
        (["verify", "LAKE", "--date", "2026-11-21"], "for 2026-11-21; give a date that was audited"),
    ],
)
def test_where_nothing_is_published_one_line_says_so(arguments, words, lake, storage, tmp_path):
    publish(lake, "r1", storage)
    (tmp_path / "empty").mkdir()
    places = {"LAKE": lake, "NOWHERE": str(tmp_path / "lke"), "EMPTY": str(tmp_path / "empty")}
    answer = CliRunner().invoke(cli.app, ["lake", *(places.get(argument, argument) for argument in arguments)])
    assert (answer.exit_code, answer.stdout, answer.stderr.count("\n")) == (2, "", 1)
    assert words in answer.stderr
