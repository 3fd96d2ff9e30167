"""SQL over nights that were put together into files of months."""

import datetime as dt
import itertools
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.dataset
import pytest

from benchmarks.lake_year import draw_lake, draw_night
from scrapray import schema
from scrapray.lake import publish_run
from scrapray.lake_care.compact import compact
from scrapray.report.queries import save_views
from scrapray.report.views import VIEWS
from scrapray.storage import Storage
from tests.unit.report.test_queries import SITES, TABLES_OF_VIEW, reads_only, rows

DATES = [dt.date(2026, 9, 29), dt.date(2026, 9, 30), dt.date(2026, 10, 1), dt.date(2026, 10, 31), dt.date(2026, 11, 20)]
NOVEMBER = dt.date(2026, 11, 1)
AGAIN = (DATES[1], SITES[0])
"""A night that was published again after its month was put together; its second run found no load."""


def publish_again(lake):
    tables = {name: columns.empty_table() for name, columns in schema.PUBLISHED.items()}
    of_no_loads = draw_night("again", *AGAIN, 0, np.random.default_rng(1))
    publish_run(str(lake), "again", *AGAIN, tables | {"runs": of_no_loads["runs"]}, Storage())


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """All nights in files of their own."""
    folder = tmp_path_factory.mktemp("before")
    draw_lake(str(folder), dates=DATES, sites=SITES, num_loads=5)
    publish_again(folder)
    return folder


@pytest.fixture(scope="module")
def after(tmp_path_factory):
    """The same nights, September and October put together."""
    folder = tmp_path_factory.mktemp("after")
    draw_lake(str(folder), dates=DATES, sites=SITES, num_loads=5)
    assert compact(str(folder), NOVEMBER, Storage(), today=NOVEMBER).num_nights == 8
    publish_again(folder)
    return folder


def test_what_lies_there_is_a_file_for_each_month_and_for_nights_beside_it(after):
    found = {path.name for path in (after / "frames").iterdir()}
    assert found == {"date=2026-09", "date=2026-09-30", "date=2026-10", "date=2026-11-20"}


@pytest.mark.parametrize("view", [view.name for view in VIEWS])
def test_every_view_answers_as_before(view, before, after):
    query = f"select * from {view} order by all"
    assert rows(after, query) == rows(before, query)
    assert rows(after, query) or view == "reviews"


@pytest.mark.parametrize("view", ["loads", "detections", "contaminants", "models"])
@pytest.mark.parametrize(
    ("condition", "needed"),
    [
        ("date = '2026-09-29'", {"2026-09"}),
        ("date = '2026-11-20'", {"2026-11-20"}),
        ("date >= '2026-10-02'", {"2026-10", "2026-11-20"}),
        ("date > '2026-09-30' and date < '2026-11-01'", {"2026-10"}),
    ],
)
def test_a_night_reads_no_file_but_its_own_or_that_of_its_month(view, condition, needed, after, tmp_path):
    query = f"select * from {view} where {condition} and site = 'Süd 1=2' order by all"

    def is_needed(table, date, site):
        return table in TABLES_OF_VIEW[view] and date.removeprefix("date=") in needed and site.startswith("site=S")

    assert reads_only(after, query, is_needed, tmp_path)


def test_a_night_that_was_published_again_reads_its_own_file(after, tmp_path):
    query = f"select run_id from runs where date = '{AGAIN[0]}' and site = '{AGAIN[1]}'"
    assert rows(after, query) == [{"run_id": "again"}]
    assert reads_only(after, query, lambda _, date, __: date == f"date={AGAIN[0]}", tmp_path)


@pytest.mark.parametrize("date", ["2026-11-19", str(dt.datetime.now(dt.UTC).date())])
def test_a_date_without_a_night_reads_nothing(date, after, tmp_path):
    torn = shutil.copytree(after, tmp_path / "torn")
    for path in torn.glob("*/*/*/*.parquet"):
        path.write_bytes(b"no Parquet")
    for condition in (f"date = '{date}'", f"date = '{date}' and site = 'north-yard'"):
        assert rows(torn, f"select * from frames where {condition}") == []


def test_a_list_of_dates_reads_their_months(after, tmp_path):
    query = "select * from loads where date in ('2026-09-29', '2026-11-20') order by all"
    assert reads_only(after, query, lambda _, date, __: date in ("date=2026-09", "date=2026-11-20"), tmp_path)


def test_views_that_were_saved_before_see_months_too(before, tmp_path):
    lake, database, script = tmp_path / "lake", tmp_path / "views.duckdb", tmp_path / "views.sql"
    shutil.copytree(before, lake)
    for path in (database, script):
        save_views(str(lake), path, Storage())
    count = "select count(*) from frames"
    with duckdb.connect(str(database), read_only=True) as connection:
        expected = connection.execute(count).fetchall()
        compact(str(lake), NOVEMBER, Storage(), today=NOVEMBER)
        assert connection.execute(count).fetchall() == expected
    with duckdb.connect() as connection:
        connection.execute(script.read_text(encoding="utf-8"))
        assert connection.execute(count).fetchall() == expected


@pytest.mark.parametrize("table", schema.PUBLISHED)
def test_the_documented_way_without_us_reads_what_the_view_reads(table, after):
    documented = Path("docs/queries.md").read_text(encoding="utf-8").partition("import datetime, pathlib")
    names: dict[str, Any] = {}
    exec("".join(documented[1:]).partition("```")[0], names)
    for date, site in itertools.product(DATES, SITES):
        expected = rows(after, f"select * from {table} where date = '{date}' and site = '{site}'")
        assert names["read_night"](after / table, date, site).rows(named=True) == expected


def test_the_documented_folder_holds_all_nights_once_months_are_put_together(before, tmp_path):
    lake = tmp_path / "lake"
    shutil.copytree(before, lake)
    compact(str(lake), NOVEMBER, Storage(), today=NOVEMBER)
    for table in schema.PUBLISHED:
        found = pyarrow.dataset.dataset(lake / table, partitioning=None).to_table()
        assert found.num_rows == rows(before, f"select count(*) as n from files.{table}")[0]["n"]


@pytest.mark.parametrize("place", ["date=2026-09/copy/site=north-yard", "date=2026-9/site=north-yard", "2026-09"])
def test_a_copy_of_a_month_is_not_counted(place, after, tmp_path):
    lake = tmp_path / "lake"
    shutil.copytree(after, lake)
    for table in schema.PUBLISHED:
        shutil.copytree(lake / table / "date=2026-09" / "site=north-yard", lake / table / place)
    for table in schema.PUBLISHED:
        count = f"select count(*) from files.{table}"
        assert rows(lake, count) == rows(after, count)
