"""Questions to a lake in object storage, through the project's own door."""

import datetime as dt

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.lake_year import draw_night
from scrapray import cli, schema
from scrapray.errors import StorageError
from scrapray.lake import publish_run
from scrapray.lake_care.compact import Compacted, compact
from scrapray.lake_care.verify import verify
from scrapray.report.queries import ask, open_lake
from scrapray.report.views import VIEWS
from scrapray.storage import Storage, join
from tests.fixtures.services import STRANGER, acting_as

FRIDAY = dt.date(2026, 11, 20)
SITES = ("north yard", "Süd 1=2", "a/b")


@pytest.fixture(scope="module")
def storage(s3):
    return Storage(s3.config)


@pytest.fixture(scope="module")
def lake(s3, storage):
    uri = join(s3.make_bucket("yard-lake"), "of [2026]")
    for site in SITES:
        for date in (FRIDAY, FRIDAY + dt.timedelta(days=1)):
            tables = draw_night("r1", date, site, 10, np.random.default_rng(date.day))
            publish_run(uri, "r1", date, site, tables, storage)
    yield uri
    s3.remove_bucket("yard-lake")


def test_every_view_answers_from_a_bucket(lake, storage):
    connection = open_lake(lake, storage)
    for view in VIEWS:
        has_rows = ask(connection, f"select * from {view.name}").num_rows > 0
        assert has_rows == (view.name != "reviews"), view.name
    found = ask(connection, "select distinct date, site from frames order by all").to_pylist()
    assert {row["site"] for row in found} == set(SITES)
    assert len(found) == 6


@pytest.fixture
def opened(lake, storage, monkeypatch):
    """Files that are opened, as they are."""
    paths = []
    filesystem = type(storage.fsspec(lake))
    real_open = filesystem._open

    def watched(self, path, *arguments, **options):
        paths.append(path)
        return real_open(self, path, *arguments, **options)

    monkeypatch.setattr(filesystem, "_open", watched)
    return paths


def test_one_night_of_a_bucket_is_one_file_of_each_table(lake, storage, opened):
    connection = open_lake(lake, storage)
    query = f"select * from frames where date = '{FRIDAY}' and site = 'Süd 1=2'"
    assert ask(connection, query).num_rows == 30
    tables = {path.partition("of [2026]/")[2].partition("/")[0] for path in opened}
    assert tables == {"frames", "runs", "loads"}
    assert {path.partition("/date=")[2] for path in opened} == {"2026-11-20/site=S%C3%BCd%201%3D2/part-0.parquet"}


def test_what_is_published_while_the_connection_is_open_is_seen(lake, storage):
    later = join(lake, "of its own")

    def publish(run_id, date, num_loads):
        tables = draw_night(run_id, date, "a", num_loads, np.random.default_rng(1))
        publish_run(later, run_id, date, "a", tables, storage)

    publish("r1", FRIDAY, 10)
    connection = open_lake(later, storage)
    counts = []
    for changed in (None, ("r2", FRIDAY, 7), ("r3", FRIDAY + dt.timedelta(days=1), 5)):
        if changed:
            publish(*changed)
        counts.append(ask(connection, "select count(*) as n from frames").to_pylist()[0]["n"])
    assert counts == [30, 21, 36]


def test_nights_of_a_bucket_are_put_together_while_a_connection_is_open(lake, storage, opened):
    months, dates = join(lake, "of months"), [FRIDAY, FRIDAY + dt.timedelta(days=1), FRIDAY + dt.timedelta(days=20)]
    for date in dates:
        for site in SITES:
            publish_run(months, "r1", date, site, draw_night("r1", date, site, 5, np.random.default_rng(1)), storage)
    connection = open_lake(months, storage)
    answers = {name: ask(connection, f"select * from {name} order by all") for name in schema.PUBLISHED}
    december = dt.date(2026, 12, 1)
    assert compact(months, december, storage, today=december) == Compacted(num_nights=6)
    assert verify(months, storage).faults == ()
    for name, answer in answers.items():
        assert len(storage.list_names(join(months, name))) == 6
        assert ask(connection, f"select * from {name} order by all").equals(answer)
    opened.clear()
    assert ask(connection, f"select * from frames where date = '{FRIDAY}' and site = 'a/b'").num_rows == 15
    assert {path.partition("/of months/")[2] for path in opened} == {
        f"{name}/date=2026-11/site=a%2Fb/part-0.parquet" for name in ("frames", "runs", "loads")
    }


def test_the_command_takes_the_endpoint_from_the_settings_and_shows_it_nowhere(lake, s3, tmp_path):
    config = tmp_path / "audit.toml"
    config.write_text(f'[storage]\nendpoint_url = "{s3.endpoint_url}"\nregion = "us-east-1"\n')
    query = ["sql", lake, "select count(*) as n from loads", "--format", "csv", "--config", str(config)]
    answer = CliRunner().invoke(cli.app, query)
    assert (answer.exit_code, answer.stdout) == (0, "n\n60\n")
    saved = CliRunner().invoke(cli.app, ["sql", lake, "--save", str(tmp_path / "views.sql"), "--config", str(config)])
    assert saved.exit_code == 0
    assert s3.endpoint_url not in (tmp_path / "views.sql").read_text()


def test_a_bucket_that_may_not_be_read_is_one_line(lake, s3):
    with acting_as(STRANGER), pytest.raises(StorageError, match="no right to") as caught:
        open_lake(lake, Storage(s3.config))
    assert caught.value.reason == "forbidden"


def test_a_bucket_that_is_not_there_is_one_line(s3):
    with pytest.raises(StorageError, match="no such bucket"):
        open_lake("s3://no-lake-here/", Storage(s3.config))
