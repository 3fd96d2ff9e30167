"""Nights put together into files of months: every reader answers as before, wherever it was killed."""

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
from scrapray.errors import StorageError
from scrapray.lake import month_uri, partition_uri, publish_run, published_run, published_sites, read_partition
from scrapray.lake_care.compact import Compacted, compact, month_before
from scrapray.lake_care.retire import retire
from scrapray.lake_care.verify import verify
from scrapray.report.queries import ask, open_lake
from scrapray.storage import Storage
from tests.fixtures.older_lakes import write_older_night
from tests.unit.test_lake import FailsAtCopy

SITE = "north yard/2"
DATES = [dt.date(2026, 9, 1), dt.date(2026, 9, 30)]
QUIET = DATES[1]
"""A night on which no truck came."""
OCTOBER = dt.date(2026, 10, 1)
TODAY = dt.date(2026, 11, 20)


@pytest.fixture
def storage():
    return Storage()


@pytest.fixture
def lake(tmp_path, storage):
    uri = str(tmp_path / "lake")
    for date in (*DATES, OCTOBER):
        publish(uri, "r1", date, storage)
    return uri


@cache
def night(run_id, date, site=SITE):
    num_loads = 0 if date == QUIET else 3
    tables = draw_night(run_id, date, site, num_loads, np.random.default_rng(sum(map(ord, run_id))))
    return {name: table.cast(schema.PUBLISHED[name]) for name, table in tables.items()}


def publish(lake, run_id, date, storage, site=SITE):
    publish_run(lake, run_id, date, site, night(run_id, date, site), storage, class_names=["motor"])


def compacted(lake, storage=None, before=OCTOBER):
    return compact(lake, before, storage or Storage(), today=TODAY)


def files_of(lake, table="loads"):
    return sorted(path.parts[-3].removeprefix("date=") for path in Path(lake, table).glob("*/*/*.parquet"))


def seen(lake):
    """What all kinds of readers see."""
    storage = Storage()
    nights = [(date, site) for date in (*DATES, OCTOBER) for site in published_sites(lake, date, storage)]
    connection = open_lake(lake, storage)
    verified = verify(lake, storage)
    assert verified.faults == ()
    return {
        "nights": [(night, published_run(lake, *night, storage)) for night in nights],
        "verified": (verified.num_nights, verified.num_rows),
        **{
            name: pa.concat_tables(read_partition(lake, name, *night, storage) for night in nights).to_pylist()
            for name in schema.PUBLISHED
        },
        **{f"view {name}": ask(connection, f"from {name} order by all").to_pylist() for name in schema.PUBLISHED},
    }


class FailsAtChange(Storage):
    """Storage that gives up at the n-th change, counted from 0, and says how many there were."""

    def __init__(self, failing):
        super().__init__()
        self.left = failing

    def _change(self, uri):
        if not self.left:
            raise StorageError(f"cannot write {uri}: the disk is full", reason="disk_full")
        self.left -= 1

    def write_bytes(self, uri, data):
        self._change(uri)
        super().write_bytes(uri, data)

    def delete(self, uri):
        self._change(uri)
        super().delete(uri)

    def delete_folder(self, uri):
        self._change(uri)
        super().delete_folder(uri)


# ---- what readers see -------------------------------------------------------------------------------------------


def test_a_month_is_one_file_of_each_table_and_every_reader_answers_as_before(lake):
    before = seen(lake)
    assert compacted(lake) == Compacted(num_nights=2)
    for table in schema.PUBLISHED:
        assert files_of(lake, table) == ["2026-09", "2026-10-01"]
        assert sorted(path.name for path in Path(lake, table).iterdir()) == ["date=2026-09", "date=2026-10-01"]
    assert seen(lake) == before
    assert compacted(lake) == Compacted()


def test_a_month_says_what_it_holds_and_has_row_groups_for_each_night(lake):
    compacted(lake)
    for table, columns in schema.PUBLISHED.items():
        file = pq.ParquetFile(month_uri(lake, table, DATES[0], SITE))
        assert file.schema_arrow.equals(columns)
        footer = json.loads(file.schema_arrow.metadata[b"scrapray"])
        assert (footer["table"], footer["schema_version"]) == (table, schema.SCHEMA_VERSION)
        assert footer["nights"] == dict.fromkeys(map(str, DATES), "r1")
        assert footer["classes"] == ["motor"]
        of_groups = [set(file.read_row_group(number)["date"].to_pylist()) for number in range(file.num_row_groups)]
        assert of_groups == [{date} for date in DATES if night("r1", date)[table].num_rows]


def test_a_night_without_any_row_is_published_and_one_that_never_was_is_not(lake, storage):
    compacted(lake)
    assert read_partition(lake, "loads", QUIET, SITE, storage).num_rows == 0
    assert published_sites(lake, QUIET, storage) == [SITE]
    never = QUIET - dt.timedelta(days=1)
    assert published_sites(lake, never, storage) == []
    assert published_run(lake, never, SITE, storage) is None
    with pytest.raises(StorageError, match="no such file") as caught:
        read_partition(lake, "loads", never, SITE, storage)
    assert caught.value.reason == "missing"


@pytest.mark.parametrize("is_published", [True, False])
def test_a_night_that_is_published_late_wins_over_its_month_and_the_next_call_folds_it_in(is_published, lake, storage):
    date = DATES[0] if is_published else QUIET - dt.timedelta(days=1)
    compacted(lake)
    publish(lake, "r2", date, storage)
    assert published_run(lake, date, SITE, storage) == "r2"
    assert read_partition(lake, "loads", date, SITE, storage).equals(night("r2", date)["loads"])
    before = seen(lake)
    assert compacted(lake) == Compacted(num_nights=1)
    assert seen(lake) == before
    assert files_of(lake) == ["2026-09", "2026-10-01"]


@pytest.mark.parametrize("failing", range(len(schema.PUBLISHED)))
def test_a_late_run_that_cannot_be_published_leaves_what_was_there(failing, lake, storage):
    compacted(lake)
    before = seen(lake)
    with pytest.raises(StorageError):
        publish_run(lake, "r2", DATES[0], SITE, night("r2", DATES[0]), FailsAtCopy(failing))
    assert seen(lake) == before


def test_retiring_keeps_the_runs_of_compacted_nights(lake, storage):
    publish(lake, "r2", DATES[0], storage)
    publish(lake, "r1", DATES[0], storage)
    compacted(lake)
    assert retire(lake, 1, storage).faults == ()
    assert "r1" in {path.name for path in Path(lake, "_runs").iterdir()}
    assert verify(lake, storage).faults == ()


# ---- crashes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_first", [True, False])
def test_killed_anywhere_every_reader_sees_each_row_once_and_the_next_call_goes_on(is_first, lake, tmp_path, storage):
    if not is_first:
        compacted(lake)
        publish(lake, "r2", DATES[0], storage)
    before = seen(lake)
    failing, is_done = 0, False
    while not is_done:
        copy = shutil.copytree(lake, tmp_path / f"killed at {failing}")
        try:
            compacted(str(copy), FailsAtChange(failing))
        except StorageError:
            assert seen(str(copy)) == before
            compacted(str(copy))
        else:
            is_done = True
        assert seen(str(copy)) == before
        assert files_of(copy) == ["2026-09", "2026-10-01"]
        failing += 1
    num_nights, num_tables = (2 if is_first else 1), len(schema.PUBLISHED)
    assert failing - 1 == num_tables * (1 + num_nights)


class Overtaken(FailsAtChange):
    """Storage at whose n-th change, counted from 0, an audit publishes a night in between."""

    def __init__(self, overtaken, lake, date):
        super().__init__(overtaken)
        self.night = (lake, "r2", date)

    def _change(self, uri):
        if not self.left:
            publish(*self.night, Storage())
        self.left -= 1


@pytest.mark.parametrize("num_changes", [2, 5, 9])
def test_what_an_audit_publishes_meanwhile_is_not_lost(num_changes, lake, storage):
    compacted(lake, Overtaken(num_changes, lake, DATES[1]))
    for _ in range(2):
        assert published_run(lake, DATES[1], SITE, storage) == "r2"
        assert verify(lake, storage).faults == ()
        compacted(lake)
    assert files_of(lake) == ["2026-09", "2026-10-01"]


def test_a_night_that_is_published_in_the_moment_of_its_deletion_is_named_and_audited_again(lake, storage):
    compacted(lake, Overtaken(5, lake, DATES[0]))
    (fault,) = verify(lake, storage).faults
    assert fault.what == "is half published: frames of r1; detections of r2; trucks of r2; runs of r2; loads of r2"
    assert compacted(lake).faults == (fault,)
    publish(lake, "r2", DATES[0], storage)
    assert compacted(lake) == Compacted(num_nights=1)
    assert verify(lake, storage).faults == ()


# ---- nights that stay as they are -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_in_month", [True, False])
def test_a_half_published_night_stays_and_is_named_and_the_others_are_put_together(is_in_month, lake, storage):
    if is_in_month:
        compacted(lake)
    with pytest.raises(StorageError):
        publish_run(lake, "r2", DATES[0], SITE, night("r2", DATES[0]), FailsAtCopy(2, 3))
    result = compacted(lake)
    (fault,) = result.faults
    assert (fault.place, fault.what.partition(":")[0]) == (f"{DATES[0]} {SITE}", "is half published")
    assert result.num_nights == (0 if is_in_month else 1)
    assert verify(lake, storage, QUIET).faults == ()
    publish(lake, "r2", DATES[0], storage)
    assert compacted(lake) == Compacted(num_nights=1)
    assert verify(lake, storage, DATES[0]).faults == ()


@pytest.mark.parametrize(("table", "content"), [("trucks", None), ("loads", b"no Parquet")])
def test_a_night_with_a_damaged_table_stays_and_is_named(table, content, lake, storage):
    path = Path(partition_uri(lake, table, DATES[0], SITE))
    path.unlink()
    if content:
        path.write_bytes(content)
    result = compacted(lake)
    assert result.num_nights == 1
    assert [fault.place for fault in result.faults] == [str(path)]


def test_a_damaged_month_is_named_and_left_alone(lake, storage):
    compacted(lake)
    publish(lake, "r2", DATES[0], storage)
    path = Path(month_uri(lake, "frames", DATES[0], SITE))
    path.write_bytes(b"no Parquet")
    (fault,) = compacted(lake).faults
    assert fault.what.startswith(f"{path} is not readable as Parquet")
    assert path.read_bytes() == b"no Parquet"
    assert str(path) in {fault.place for fault in verify(lake, storage).faults}
    assert published_sites(lake, QUIET, storage, "frames") == [SITE]
    for date in DATES:
        publish(lake, "r2", date, storage)
    path.unlink()
    assert compacted(lake) == Compacted(num_nights=2)
    assert verify(lake, storage).faults == ()


def test_a_month_with_rows_of_nights_that_it_does_not_name_is_named(lake, storage):
    compacted(lake)
    path = Path(month_uri(lake, "frames", DATES[0], SITE))
    table = pq.ParquetFile(path).read()
    footer = json.loads(table.schema.metadata[b"scrapray"])
    footer["nights"].pop(str(DATES[0]))
    pq.write_table(table.replace_schema_metadata({"scrapray": json.dumps(footer)}), path)
    whats = [fault.what for fault in verify(lake, storage).faults]
    assert "holds rows of 2026-09-01 and a run that it does not name" in whats


@pytest.mark.parametrize("is_in_month", [True, False])
def test_nights_of_an_earlier_version_stay_as_they_are(is_in_month, lake, storage, monkeypatch):
    older = DATES[0] + dt.timedelta(days=4)
    for folder in ("", "_runs/r1"):
        write_older_night(Path(lake, folder), 1, older, SITE, night("r1", older))
    before = seen_in_sql(lake)
    assert compacted(lake) == Compacted(num_nights=2, num_older=1)
    assert files_of(lake) == ["2026-09", "2026-09-05", "2026-10-01"]
    assert seen_in_sql(lake) == before
    assert verify(lake, storage).faults == ()
    if is_in_month:
        monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
        publish(lake, "r2", DATES[0], storage)
        assert compacted(lake) == Compacted(num_older=2)


def seen_in_sql(lake):
    return ask(open_lake(lake, Storage()), "from frames order by all").to_pylist()


# ---- commands ---------------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(cli.app, ["lake", "compact", *arguments])


def test_the_command_says_what_it_did(lake, storage):
    done = run(lake, "--before", "2026-10")
    assert (done.exit_code, done.stdout) == (0, "2 nights put into files of months, each date and site counted\n")
    again = run(lake, "--before", "2026-09")
    assert (again.exit_code, again.stdout) == (0, "0 nights put into files of months, each date and site counted\n")
    publish(lake, "r2", DATES[0], storage)
    Path(partition_uri(lake, "trucks", DATES[0], SITE)).write_bytes(b"")
    broken = run(lake, "--before", "2026-10")
    assert broken.exit_code == 1
    assert "is not readable as Parquet" in broken.stdout
    assert "audit that night again" in broken.stdout


def test_without_a_month_the_last_two_stay_as_they_are(tmp_path, storage):
    lake, last = str(tmp_path / "lake"), month_before(dt.datetime.now(dt.UTC).date())
    for date in (last, last - dt.timedelta(days=1)):
        publish(lake, "r1", date, storage)
    assert run(lake).stdout.startswith("1 nights put into")
    assert files_of(lake) == [f"{last - dt.timedelta(days=1):%Y-%m}", str(last)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["NOWHERE"], "nothing is published in"),
        (["LAKE", "--before", "2099-01"], "months before 2099-01 are not over yet; give "),
        (["LAKE", "--before", "2026-13"], "not match the"),
        (["LAKE", "--before", "2026-09-01"], "not match the"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments, words, lake, tmp_path):
    places = {"LAKE": lake, "NOWHERE": str(tmp_path / "lke")}
    answer = run(*(places.get(argument, argument) for argument in arguments))
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert words in " ".join(answer.stderr.split())
