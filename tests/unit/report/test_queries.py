"""SQL over the lake: what views show, what is read for it, lakes of every age and in every state."""

import datetime as dt
import os
import shutil
from functools import cache, lru_cache
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from benchmarks.lake_year import draw_lake, draw_night
from scrapray import schema
from scrapray.errors import ConfigurationError, StorageError
from scrapray.lake import partition_uri, publish_run
from scrapray.report import queries, views
from scrapray.report.queries import LIST_VIEWS, ask, open_lake, save_views
from scrapray.report.views import VIEWS
from scrapray.storage import Storage
from tests.fixtures.older_lakes import OLDER, write_older_night
from tests.unit.test_lake import frame_row, run_row, tables_of

FRIDAY = dt.date(2026, 11, 20)
DATES = [FRIDAY, FRIDAY + dt.timedelta(days=1), FRIDAY + dt.timedelta(days=3)]
SITES = ("north-yard", "Süd 1=2")
ODD_SITES = ("north yard", "a=b", "Süd 1=2", "a/b", "NULL", "null", "0012", "%41", "+x", "it's", "日本", "*", "[a]")
EACH_STEP = [
    pytest.param(num, marks=[] if num in (1, 4) else pytest.mark.slow) for num in range(len(schema.PUBLISHED) + 1)
]
"""How many tables are replaced before the power fails."""
TABLES_OF_VIEW = {
    "loads": {"loads"},
    "trucks": {"trucks", "runs", "loads"},
    "frames": {"frames", "runs", "loads"},
    "detections": {"detections", "runs", "loads"},
    "runs": {"runs", "loads"},
    "contaminants": {"runs", "loads"},
    "cameras": {"frames", "runs", "loads"},
    "models": {"frames", "runs", "loads"},
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    draw_lake(str(folder), dates=DATES, sites=SITES, num_loads=20)
    return folder


@pytest.fixture
def storage():
    return Storage()


@lru_cache(maxsize=2)
def connected(lake):
    return open_lake(str(lake), Storage())


def rows(lake, query):
    return ask(connected(lake), query).to_pylist()


def values(lake, query):
    """The only column of an answer."""
    return [value for row in rows(lake, query) for value in row.values()]


def as_published(lake, table):
    """All rows of a table, read with no code of ours."""
    files = sorted((Path(lake) / table).glob("*/*/*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def reads_only(lake, query, is_needed, folder):
    """Whether a query is answered where no other file of a table can be opened; that a file is, no plan tells."""
    torn = folder / "torn"
    shutil.copytree(lake, torn, copy_function=os.link)
    for path in torn.glob("*/*/*/*.parquet"):
        table, date, site, _ = path.relative_to(torn).parts
        if not is_needed(table, date, site):
            path.unlink()
            path.write_bytes(b"no Parquet")
    return len(rows(torn, query)) == len(rows(lake, query)) > 0  # sums of fractions differ with the order of threads


def path_of(lake, table, date, site):
    return Path(partition_uri(str(lake), table, date, site))


# ---- views ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", schema.PUBLISHED)
def test_a_table_has_its_columns_and_all_rows_that_are_published(table, lake):
    answer = ask(connected(lake), f"select * from {table}")
    assert answer.column_names == schema.PUBLISHED[table].names
    key = {"frames": "frame_id", "detections": "detection_id", "trucks": "truck_id"}.get(table, "run_id")

    def order(row):
        return row["date"], row["site"], row[key], row.get("load_id", "")

    assert sorted(answer.to_pylist(), key=order) == sorted(as_published(lake, table), key=order)


def test_the_views_are_listed_with_what_a_row_is(lake):
    listed = {row["view"]: row["rows"] for row in rows(lake, LIST_VIEWS)}
    assert listed.pop(queries.REVIEWED_LOADS).startswith("one row per load that people have looked at")
    assert list(listed.items()) == [(view.name, view.meaning) for view in VIEWS]


def test_a_view_that_is_added_is_one_entry(lake, monkeypatch):
    added = views.View(
        name="unknown_trucks", meaning="loads of no truck", sql="select * from loads where truck_id is null"
    )
    monkeypatch.setattr(views, "VIEWS", (*VIEWS, added))
    answer = ask(open_lake(str(lake), Storage()), "select * from unknown_trucks")
    assert answer.num_rows == len(DATES) * len(SITES)


@pytest.mark.parametrize(
    ("place", "options"),
    [("date=2026-11-20/site=a%20b/part-0.parquet", {}), ("first.parquet", {"files": "*.parquet", "named_by": "note"})],
)
def test_a_table_that_is_added_is_one_entry_too(place, options, tmp_path, monkeypatch):
    notes = pa.schema([("site", pa.string()), ("date", pa.date32()), ("note", pa.string())])
    for module in (queries, views):
        monkeypatch.setattr(module, "TABLES", {**views.TABLES, "notes": views.Table(columns=notes, **options)})
    draw_lake(str(tmp_path), dates=[FRIDAY], sites=["a b"], num_loads=1)
    assert ask(open_lake(str(tmp_path), Storage()), "select * from files.notes").to_pylist() == []
    path = tmp_path / "notes" / place
    path.parent.mkdir(parents=True)
    note = {"site": "a b", "date": FRIDAY, "note": "first"}
    pq.write_table(pa.Table.from_pylist([note], notes), path)
    assert rows(tmp_path, "select * from files.notes") == [note]


def test_hours_are_those_of_the_yard(lake):
    utc = {(row["load_id"], row["date"], row["site"]): row["from_utc"].hour for row in as_published(lake, "loads")}
    query = "select hour, sum(num_loads) as num from contaminants where class_name = 'motor' group by hour"
    local = {row["hour"]: row["num"] for row in rows(lake, query)}
    used = [row for row in as_published(lake, "loads") if row["num_used"]]
    for hour, num in local.items():  # Rome is an hour ahead in November
        assert num == sum(utc[row["load_id"], row["date"], row["site"]] + 1 == hour for row in used)


def test_a_lake_by_a_roundabout_way_is_the_same(lake, monkeypatch):
    count = "select count(*) as num from loads"
    monkeypatch.chdir(lake / "loads")
    assert rows("../../" + lake.name, count) == rows(lake, count) != [{"num": 0}]


# ---- intervals --------------------------------------------------------------------------------------------------


def test_the_share_of_rejected_loads_has_wilsons_interval(lake):
    for num_with, num in ((0, 5), (3, 10), (10, 10), (17, 400)):
        low, high = rows(lake, f"select wilson({num_with}, {num}, -1) a, wilson({num_with}, {num}, 1) b")[0].values()
        expected = stats.binomtest(num_with, num).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_students_quantile_is_near_enough(lake):
    for degrees in (9, 10, 20, 50, 200, 1000):
        (quantile,) = values(lake, f"select student_t({degrees})")
        assert quantile == pytest.approx(stats.t.ppf(0.975, degrees), abs=5e-4)


def test_the_mean_of_a_skewed_quantity_is_covered(lake):
    """Of 30 loads most are clean and few very dirty: that of the textbooks holds the mean in 81 of 100 weeks."""
    rng = np.random.default_rng(0)
    num_draws, num_loads, share, sigma = 1500, 30, 0.2, 1.0
    drawn = rng.lognormal(0, sigma, (num_draws, num_loads)) * (rng.random((num_draws, num_loads)) < share)
    truth = share * np.exp(sigma**2 / 2)
    connection = connected(lake)
    table = pa.table({"draw": np.repeat(np.arange(num_draws), num_loads), "frac": drawn.ravel()})
    connection.register("drawn", table)
    moments = "count(*) as num, avg(frac) as mean, stddev_samp(frac) as deviation, skewness(frac) as skew"
    query = f"""
        select avg((skewed_mean(num, mean, deviation, skew, -1) <= {truth}
            and {truth} <= skewed_mean(num, mean, deviation, skew, 1))::integer)
        from (select {moments} from drawn group by draw having deviation > 0)"""
    (coverage,) = ask(connection, query).to_pylist()[0].values()
    plain = np.abs(drawn.mean(1) - truth) <= stats.t.ppf(0.975, num_loads - 1) * stats.sem(drawn, axis=1)
    assert plain.mean() < 0.85
    assert coverage > 0.92


def test_an_interval_is_given_only_where_loads_say_how_much_they_differ(tmp_path):
    cases = {
        "twelve": [0.001 * number for number in range(12)],
        "nine": [0.001 * number for number in range(9)],
        "alike": [0.0] * 12,
        "unseen": [None] * 12,
        "none": [],
    }
    draw_lake(str(tmp_path), dates=[FRIDAY], sites=cases, num_loads=1)
    for site, fracs in cases.items():
        path = path_of(tmp_path, "loads", FRIDAY, site)
        (load,) = pq.ParquetFile(path).read().to_pylist()
        path.unlink()
        loads = [load | {"load_id": f"L{number}", "contamination_frac": frac} for number, frac in enumerate(fracs)]
        pq.write_table(pa.Table.from_pylist(loads, schema.LOADS), path)
    found = {row["site"]: row for row in rows(tmp_path, "select * from suppliers")}
    methods = {site: row["contamination_method"] for site, row in found.items()}
    assert methods == {"twelve": "mean+hall-t", "nine": "mean", "alike": "mean", "unseen": "none"}
    assert {site for site, row in found.items() if row["contamination_low"] is not None} == {"twelve"}
    twelve = found["twelve"]
    assert 0 <= twelve["contamination_low"] < twelve["contamination_mean"] < twelve["contamination_high"] <= 1


# ---- what is read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", TABLES_OF_VIEW)
def test_one_night_at_one_site_is_one_file_of_each_table(view, lake, tmp_path):
    query = f"select * from {view} where date = '2026-11-21' and site = 'Süd 1=2'"
    place = ("date=2026-11-21", "site=S%C3%BCd%201%3D2")
    assert reads_only(lake, query, lambda table, *of: table in TABLES_OF_VIEW[view] and of == place, tmp_path)


@pytest.mark.parametrize("view", TABLES_OF_VIEW)
@pytest.mark.parametrize("condition", ["date >= '2026-11-22'", "date > '2026-11-21' and date <= '2026-11-30'"])
def test_nights_from_a_date_on_are_read_alone(view, condition, lake, tmp_path):
    query = f"select * from {view} where {condition} order by all"
    tables = TABLES_OF_VIEW[view]
    assert reads_only(lake, query, lambda table, date, _: table in tables and date == "date=2026-11-23", tmp_path)


@pytest.mark.parametrize(
    ("view", "more"), [("loads", ""), ("frames", "and date >= '2026-11-20' and date <= '2026-11-21'")]
)
def test_a_list_of_dates_reads_no_other_night(view, more, lake, tmp_path):
    query = f"select * from {view} where date in ('2026-11-20', '2026-11-21') {more} order by all"
    assert reads_only(lake, query, lambda _, date, __: date != "date=2026-11-23", tmp_path)


def test_a_trend_at_one_site_reads_the_loads_of_that_site(lake, tmp_path):
    query = "select week, supplier, num_loads from suppliers where site = 'north-yard' order by all"
    assert reads_only(lake, query, lambda *of: (of[0], of[2]) == ("loads", "site=north-yard"), tmp_path)


def test_a_file_that_is_needed_and_damaged_is_named(lake, tmp_path):
    with pytest.raises(ConfigurationError, match=r"part-0\.parquet"):
        reads_only(lake, "select * from frames", lambda table, *_: table != "frames", tmp_path)


# ---- sites and folders ------------------------------------------------------------------------------------------


def test_every_site_is_found_by_its_name(tmp_path, storage):
    for site in ODD_SITES:
        publish_run(str(tmp_path), "r1", FRIDAY, site, night("r1", FRIDAY, site, 2), storage)
    assert values(tmp_path, "select distinct site from loads order by all") == sorted(ODD_SITES)
    for site in ODD_SITES:
        quoted = site.replace("'", "''")
        found = rows(tmp_path, f"select site, date from loads where site = '{quoted}' and date = '{FRIDAY}'")
        assert found == [{"site": site, "date": FRIDAY}] * 2
    assert values(tmp_path, "select count(*) from frames where site = 'a/b'") == [6]


@pytest.mark.parametrize("name", ["the yard's lake", "[lake] *?", "date=2020-01-01/site=x", "ä{1}"])
def test_the_folder_of_a_lake_may_have_any_name(name, tmp_path):
    folder = tmp_path / name
    draw_lake(str(folder), dates=[FRIDAY], sites=["a"], num_loads=2)
    assert rows(folder, "select distinct date, site from frames") == [{"date": FRIDAY, "site": "a"}]


@pytest.mark.parametrize(
    "place",
    [
        "loads/date=2026-11-20/site=north",
        "date=2026-11-20/backup/site=north",
        "date=2026-11-20/site=north/site=north",
        "date=2026-11-20/site=n%6frth",
        "date=2026-11-20/site=north%2f",
        "date=20261120/site=north",
        "date=old/site=north",
    ],
)
def test_a_copy_inside_the_folder_of_a_table_is_not_counted(place, tmp_path):
    draw_lake(str(tmp_path), dates=[FRIDAY], sites=["north"], num_loads=2)
    for table in schema.PUBLISHED:
        copy = tmp_path / table / place.replace("loads/", f"{table}/") / "part-0.parquet"
        copy.parent.mkdir(parents=True)
        shutil.copyfile(path_of(tmp_path, table, FRIDAY, "north"), copy)
    for table in schema.PUBLISHED:
        num_rows = pq.ParquetFile(path_of(tmp_path, table, FRIDAY, "north")).metadata.num_rows
        assert values(tmp_path, f"select count(*) from {table}") == [num_rows]


def test_runs_and_work_beside_the_tables_are_not_read(tmp_path, storage):
    publish_run(str(tmp_path), "r1", FRIDAY, "a", night("r1", FRIDAY, "a", 2), storage)
    publish_run(str(tmp_path), "r2", FRIDAY, "a", night("r2", FRIDAY, "a", 1), storage)
    for view in TABLES_OF_VIEW:
        if view not in ("contaminants", "cameras", "models"):
            assert values(tmp_path, f"select distinct run_id from {view}") in (["r2"], [])


# ---- states of a lake -------------------------------------------------------------------------------------------


@cache
def night(run_id, date, site, num_loads=12):
    return draw_night(run_id, date, site, num_loads, np.random.default_rng(1))


def half_publish(lake, before, after, num_replaced, storage):
    """What a machine leaves that loses its power after so many tables of the second run."""
    publish_run(str(lake), "r1", FRIDAY, "a", before, storage)
    elsewhere = lake / "_elsewhere"
    publish_run(str(elsewhere), "r2", FRIDAY, "a", after, storage)
    for name in list(schema.PUBLISHED)[:num_replaced]:
        storage.copy(str(path_of(elsewhere, name, FRIDAY, "a")), str(path_of(lake, name, FRIDAY, "a")))


@pytest.mark.parametrize("num_replaced", EACH_STEP)
def test_a_half_published_night_never_mixes_two_runs(num_replaced, tmp_path, storage):
    half_publish(tmp_path, night("r1", FRIDAY, "a"), night("r2", FRIDAY, "a"), num_replaced, storage)
    replaced = list(schema.PUBLISHED)[:num_replaced]
    run = "r2" if "loads" in replaced else "r1"
    for number, table in enumerate(schema.PUBLISHED):
        shows = [run] if "loads" in replaced or number >= num_replaced else []
        assert values(tmp_path, f"select distinct run_id from {table}") == shows
    for view in ("cameras", "models"):
        assert bool(rows(tmp_path, f"select * from {view}")) == (num_replaced in (0, 5))
    assert len(rows(tmp_path, "select * from contaminants where class_name = 'motor'")) >= 1


@pytest.mark.parametrize("num_replaced", EACH_STEP)
def test_a_night_without_loads_shows_its_frames_and_half_of_a_run_after_it_shows_nothing(
    num_replaced, tmp_path, storage
):
    before = tables_of("r1", 0)
    places = {"site": "a", "date": FRIDAY}
    before["runs"] = pa.Table.from_pylist([run_row("r1", **places)], schema.RUNS)
    before["frames"] = pa.Table.from_pylist([frame_row("r1", "f", status="rejected", **places)], schema.FRAMES)
    half_publish(tmp_path, before, night("r2", FRIDAY, "a"), num_replaced, storage)
    frames = {0: ["r1"], 5: ["r2"]}.get(num_replaced, [])
    assert values(tmp_path, "select distinct run_id from frames") == frames
    assert values(tmp_path, "select distinct run_id from runs") == {4: [], 5: ["r2"]}.get(num_replaced, ["r1"])
    assert values(tmp_path, "select distinct run_id from loads") == (["r2"] if num_replaced == 5 else [])


@pytest.mark.parametrize("table", [name for name in schema.PUBLISHED if name != "loads"])
def test_a_table_without_any_file_has_no_rows(table, tmp_path):
    draw_lake(str(tmp_path), dates=[FRIDAY], sites=["a"], num_loads=2)
    path_of(tmp_path, table, FRIDAY, "a").unlink()
    assert ask(connected(tmp_path), f"select * from {table}").column_names == schema.PUBLISHED[table].names
    assert rows(tmp_path, f"select * from {table}") == []
    assert len(rows(tmp_path, "select * from loads")) == 2


@pytest.mark.parametrize("content", [[], ["notes.txt"], ["frames/date=2026-11-20/site=a/part-0.parquet"]])
def test_where_nothing_is_published_one_line_says_so(content, tmp_path):
    for name in content:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(StorageError, match=r"nothing is published in .*; give the folder or URI") as caught:
        open_lake(str(tmp_path), Storage())
    assert caught.value.reason == "missing"


def test_a_lake_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(StorageError, match="nothing is published in"):
        open_lake(str(tmp_path / "none"), Storage())


def test_a_path_that_duckdb_would_read_as_another_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"cannot ask .*la\\ke: .* rename the folder"):
        open_lake(str(tmp_path / "la\\ke"), Storage())


# ---- lakes of earlier versions ----------------------------------------------------------------------------------


def test_there_is_a_lake_of_every_earlier_version():
    assert sorted(OLDER) == list(range(1, schema.SCHEMA_VERSION))


@pytest.mark.parametrize("version", OLDER)
def test_an_older_night_among_new_ones_is_read_and_what_it_does_not_know_is_null(version, tmp_path):
    tables = night("r1", FRIDAY, "a", 40)
    write_older_night(tmp_path, version, FRIDAY, "a", tables)
    draw_lake(
        str(tmp_path),
        dates=[FRIDAY - dt.timedelta(days=1), FRIDAY + dt.timedelta(days=1)],
        sites=["a"],
        num_loads=2,
    )
    of_then = f"where date = '{FRIDAY}'"
    assert values(tmp_path, f"select count(*) from loads {of_then}") == [40]
    assert values(
        tmp_path, f"select distinct found.certainty from (select unnest(classes) found from loads {of_then})"
    ) == [None]
    scores = {row["frame_id"]: row["peak_score"] for row in rows(tmp_path, f"select * from frames {of_then}")}
    expected = {row["frame_id"]: row["peak_score"] for row in tables["frames"].to_pylist()}
    assert scores == (dict.fromkeys(expected) if version == 1 else expected)
    found = f"select sum(n.num_detections) from (select unnest(classes) n from frames {of_then})"
    assert values(tmp_path, found) == [tables["detections"].num_rows]
    for view in VIEWS:
        if view.name != "reviews":
            assert rows(tmp_path, f"select * from {view.name}"), view.name


# ---- questions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["select foo from loads", "selec 1", "select * from lods", "select 1 / ", "select error('x')"]
)
def test_a_wrong_query_is_one_line_that_names_the_views(query, lake):
    with pytest.raises(
        ConfigurationError, match=r"the query failed: .*; the views are loads, trucks, frames"
    ) as caught:
        rows(lake, query)
    assert "\n" not in str(caught.value)


def test_variables_of_our_own_are_no_tables(lake):
    nobody_asked_for = pa.table({"a": [1]})
    with pytest.raises(ConfigurationError, match="nobody_asked_for does not exist"):
        rows(lake, "select * from nobody_asked_for")
    assert nobody_asked_for.num_rows == 1


def test_a_statement_without_an_answer_has_no_rows(lake):
    assert rows(lake, "set threads = 1") == []


def test_saved_views_answer_without_us_and_see_later_nights(tmp_path, storage):
    lake, database, script = tmp_path / "lake", tmp_path / "views.duckdb", tmp_path / "views.sql"
    draw_lake(str(lake), dates=[FRIDAY], sites=["a"], num_loads=2)
    save_views(str(lake), database, storage)
    save_views(str(lake), script, storage)
    draw_lake(str(lake), dates=[FRIDAY + dt.timedelta(days=1)], sites=["a"], num_loads=2)
    with duckdb.connect(str(database), read_only=True) as connection:
        assert connection.execute("select count(*) from frames").fetchall() == [(12,)]
    with duckdb.connect() as connection:
        connection.execute(script.read_text(encoding="utf-8"))
        assert connection.execute("select count(*) from frames").fetchall() == [(12,)]


def test_saving_again_renews_the_views_and_leaves_other_tables_alone(tmp_path, storage):
    lake, database = tmp_path / "lake", tmp_path / "views.duckdb"
    draw_lake(str(lake), dates=[FRIDAY], sites=["a"], num_loads=2)
    save_views(str(lake), database, storage)
    with duckdb.connect(str(database)) as connection:
        connection.execute("create table my_notes as select 1 as a")
    save_views(str(lake), database, storage)
    with duckdb.connect(str(database)) as connection:
        assert connection.execute("select * from my_notes").fetchall() == [(1,)]


def test_a_database_with_a_table_of_the_name_of_a_view_is_left_alone(lake, tmp_path, storage):
    path = tmp_path / "mine.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table loads as select 1 as a")
    with pytest.raises(ConfigurationError, match=r"cannot use .*mine\.duckdb as a database: .*loads.*; give another"):
        save_views(str(lake), path, storage)
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("select view_name from duckdb_views() where not internal").fetchall() == []
        assert connection.execute("select * from loads").fetchall() == [(1,)]


@pytest.mark.parametrize("name", ["views.txt", "views"])
def test_views_are_saved_in_files_whose_ending_says_what_they_are(name, lake, tmp_path, storage):
    with pytest.raises(ConfigurationError, match=r"ends in \.duckdb or \.sql"):
        save_views(str(lake), tmp_path / name, storage)


def test_a_file_that_is_no_database_is_left_alone(lake, tmp_path, storage):
    path = tmp_path / "notes.duckdb"
    path.write_bytes(b"my notes" * 1000)
    with pytest.raises(ConfigurationError, match=r"cannot use .*notes\.duckdb as a database"):
        save_views(str(lake), path, storage)
    assert path.read_bytes() == b"my notes" * 1000
