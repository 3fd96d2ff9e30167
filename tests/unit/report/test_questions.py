"""The questions of docs/queries.md: each is asked again, and some are answered in another way too."""

import datetime as dt
import re
from collections import Counter, defaultdict
from io import StringIO
from pathlib import Path
from statistics import fmean

import pandas as pd
import polars as pl
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from benchmarks.lake_year import draw_lake
from scrapray import schema
from scrapray.report.queries import ask, open_lake
from scrapray.screen import print_answer
from scrapray.storage import Storage

PAGE = Path(__file__).parents[3] / "docs" / "queries.md"
QUESTIONS = re.findall(r"^### \d+\. (.+?)\n\n```sql\n(.+?)```\n\n```\n(.+?)```", PAGE.read_text("utf-8"), re.M | re.S)
FIRST = dt.date(2026, 8, 10)
LAST_WEEK = dt.date(2026, 8, 31)


def write_lake(folder):
    dates = [FIRST + dt.timedelta(days=day) for day in range(28)]
    draw_lake(str(folder), dates=dates, sites=("north-yard", "harbour"), num_loads=30)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    write_lake(folder)
    return folder


@pytest.fixture(scope="module")
def connection(lake):
    return open_lake(str(lake), Storage())


@pytest.fixture(scope="module")
def published(lake):
    """Rows of each table, read with no code of ours."""
    files = {name: sorted((lake / name).glob("*/*/*.parquet")) for name in schema.PUBLISHED}
    return {
        name: [row for file in found for row in pq.ParquetFile(file).read().to_pylist()]
        for name, found in files.items()
    }


def shown(answer):
    text = StringIO()
    print_answer(answer, Console(file=text, width=80))
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines()).strip("\n")


@pytest.fixture
def answer(connection, request):
    """The answer to one question, by the beginning of its title."""
    (query,) = (query for title, query, _ in QUESTIONS if title.startswith(request.param))
    return ask(connection, query).to_pylist()


def test_there_are_ten_questions():
    assert len(QUESTIONS) == 10


@pytest.mark.parametrize(("query", "expected"), [each[1:] for each in QUESTIONS], ids=[each[0] for each in QUESTIONS])
def test_the_page_shows_what_is_answered(query, expected, connection):
    answer = ask(connection, query)
    assert answer.num_rows
    assert shown(answer).split("\n") == expected.strip("\n").split("\n")


@pytest.mark.parametrize("answer", ["Which supplier"], indirect=True)
def test_the_trend_of_suppliers_is_what_pandas_makes_of_the_loads(answer, published):
    loads = pd.DataFrame(published["loads"])
    loads = loads[loads["site"] == "north-yard"]
    week = pd.to_datetime(loads["date"]).dt.to_period("W-SUN").dt.start_time.dt.date
    of_week = loads.assign(week=week, rejected=loads["verdict"] == "reject").groupby(["supplier", "week"])
    expected = of_week.agg(num=("load_id", "size"), mean=("contamination_frac", "mean"), frac=("rejected", "mean"))
    assert len(answer) == 8
    for row in answer:
        num, mean, frac = expected.loc[row["supplier"], row["week"]]
        assert (row["num_loads"], row["mean"], row["reject_frac"]) == pytest.approx((num, mean, frac))
        assert row["low"] < row["mean"] < row["high"]


@pytest.mark.parametrize("answer", ["Which trucks"], indirect=True)
def test_trucks_that_come_back_are_those_of_plain_counting(answer, published):
    rejected = {(row["truck_id"], row["date"]) for row in published["trucks"] if row["verdict"] == "reject"}
    dates = Counter(truck for truck, _ in rejected)
    often = sorted(((-num, truck) for truck, num in dates.items() if num > 1))[:5]
    assert [(-row["num_dates"], row["truck_id"]) for row in answer] == often


def test_a_truck_that_is_rejected_at_two_sites_on_one_day_has_not_come_back(tmp_path):
    draw_lake(str(tmp_path), dates=[FIRST], sites=("north-yard", "harbour"), num_loads=1)
    for path in tmp_path.glob("trucks/*/*/*.parquet"):
        row = dict.fromkeys(schema.TRUCKS.names) | {"truck_id": "0007", "verdict": "reject"}
        (run,) = pq.ParquetFile(str(path).replace("/trucks/", "/runs/")).read(["run_id", "site", "date"]).to_pylist()
        path.unlink()
        columns = pyarrow.schema([field.with_nullable(True) for field in schema.TRUCKS])
        pq.write_table(pyarrow.Table.from_pylist([row | run], columns), path)
    (query,) = (query for title, query, _ in QUESTIONS if title.startswith("Which trucks"))
    lake = open_lake(str(tmp_path), Storage())
    assert ask(lake, "select count(*) as num from trucks where verdict = 'reject'").to_pylist() == [{"num": 2}]
    assert ask(lake, query).num_rows == 0


@pytest.mark.parametrize("answer", ["At which hours"], indirect=True)
def test_hours_are_those_of_plain_counting(answer, published):
    num_loads, num_with = Counter(), Counter()
    for load in published["loads"]:
        if load["num_used"] and load["date"] >= LAST_WEEK:
            hour = (load["from_utc"].hour + 2) % 24  # Rome in summer
            num_loads[hour] += 1
            num_with[hour] += any(found["class_name"] == "spray can" and found["count"] for found in load["classes"])
    expected = sorted(num_loads, key=lambda hour: (-num_with[hour] / num_loads[hour], hour))[:5]
    assert [row["hour"] for row in answer] == expected
    for row in answer:
        assert (row["num_loads_with"], row["num_loads"]) == (num_with[row["hour"]], num_loads[row["hour"]])


@pytest.mark.parametrize("answer", ["Which camera"], indirect=True)
def test_the_camera_that_fades_is_found_with_the_means_of_plain_python(answer, published):
    frames = defaultdict(list)
    for frame in published["frames"]:
        if frame["sharpness"] is not None:
            frames[frame["site"], frame["camera_id"], frame["date"]].append(frame["sharpness"])
    assert {row["camera_id"] for row in answer[:2]} == {"cam2"}
    for row in answer:
        of_camera = {
            date: fmean(found) for (*place, date), found in frames.items() if place == [row["site"], row["camera_id"]]
        }
        last = fmean(mean for date, mean in of_camera.items() if date >= LAST_WEEK)
        assert row["sharpness_last_week"] == pytest.approx(last)


@pytest.mark.parametrize("answer", ["Did the new model"], indirect=True)
def test_versions_are_compared_by_the_share_of_frames_of_plain_counting(answer, published):
    version = {row["run_id"]: row["model_version"] for row in published["runs"]}
    used = [frame for frame in published["frames"] if frame["status"] == "used"]
    for row in answer:
        of_version = [frame for frame in used if version[frame["run_id"]] == row["model_version"]]
        found = [each for frame in of_version for each in frame["classes"] if each["class_name"] == row["class_name"]]
        detected = [each["max_score"] for each in found if each["num_detections"]]
        assert row["share_of_frames"] == pytest.approx(len(detected) / len(of_version))
        assert row["max_score_mean"] == pytest.approx(fmean(detected))
        assert row["peak_score_mean"] == pytest.approx(fmean(each["peak_score"] for each in found))


@pytest.mark.parametrize("table", schema.PUBLISHED)
def test_polars_pandas_pyarrow_and_the_view_read_the_same_rows(table, lake, connection):
    path = lake / table / "date=2026-09-06" / "site=north-yard" / "part-0.parquet"
    expected = pq.ParquetFile(path).read().to_pylist()
    night = f"select * from {table} where date = '2026-09-06' and site = 'north-yard'"
    assert ask(connection, night).to_pylist() == expected
    assert pl.read_parquet(path).rows(named=True) == expected
    assert pa_rows(pyarrow.dataset.dataset(path, partitioning=None).to_table()) == expected
    of_pandas = pd.read_parquet(path, partitioning=None, dtype_backend="pyarrow")
    names = [field.name for field in schema.PUBLISHED[table] if not pyarrow.types.is_nested(field.type)]
    assert pa_rows(pyarrow.Table.from_pandas(of_pandas[names], preserve_index=False)) == [
        {name: row[name] for name in names} for row in expected
    ]


def pa_rows(table):
    return table.to_pylist()
