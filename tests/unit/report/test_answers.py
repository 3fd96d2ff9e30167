"""Answers as tables, CSV and JSON."""

import csv
import datetime as dt
import json
from io import StringIO

import pyarrow as pa
import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.lake_year import draw_lake
from scrapray import cli
from scrapray.report.answers import write_csv, write_json
from scrapray.report.queries import ask, open_lake
from scrapray.screen import print_answer
from scrapray.storage import Storage

FRIDAY = dt.date(2026, 11, 20)
ODD = """select
    42::hugeint as whole, 1.5::decimal(9, 2) as price, 0.1::double + 0.2::double as float,
    'nan'::double as no_number, null as nothing, '\\xAA\\x01'::blob as bytes,
    interval '1 month 2 days 90.5 seconds' as long, interval 0 day as short, interval '-30 minutes' as back,
    'a "quote", a comma' as text, date '2026-11-20' as day, timestamptz '2026-11-20 06:00:00+00' as moment,
    [1, 2] as list, {'a': 'ä', 'b': null} as struct, map {'decode truncated': 2} as reasons, true as yes"""
PLAIN = {
    "whole": 42,
    "price": 1.5,
    "float": 0.30000000000000004,
    "no_number": None,
    "nothing": None,
    "bytes": "aa01",
    "long": "P1M2DT90.5S",
    "short": "PT0S",
    "back": "PT-1800S",
    "text": 'a "quote", a comma',
    "day": "2026-11-20",
    "moment": "2026-11-20T06:00:00+00:00",
    "list": [1, 2],
    "struct": {"a": "ä", "b": None},
    "reasons": {"decode truncated": 2},
    "yes": True,
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    draw_lake(str(folder), dates=[FRIDAY], sites=["north-yard"], num_loads=3)
    return str(folder)


@pytest.fixture(scope="module")
def odd(lake):
    return ask(open_lake(lake, Storage()), ODD)


def printed(answer, **options):
    text = StringIO()
    print_answer(answer, Console(file=text, **options))
    return text.getvalue()


def test_json_has_every_value_as_itself(odd):
    text = StringIO()
    write_json(odd, text)
    assert json.loads(text.getvalue()) == [PLAIN]


def test_no_rows_are_an_empty_array_and_a_header():
    nothing = pa.table({"a": pa.array([], pa.int64())})
    of_json, of_csv = StringIO(), StringIO()
    write_json(nothing, of_json)
    write_csv(nothing, of_csv)
    assert (json.loads(of_json.getvalue()), of_csv.getvalue()) == ([], "a\n")


def test_csv_is_read_back_with_null_empty_and_what_is_nested_as_json(odd):
    text = StringIO()
    write_csv(odd, text)
    (row,) = csv.DictReader(StringIO(text.getvalue()))
    assert row["text"] == PLAIN["text"]
    assert row["float"] == "0.30000000000000004"
    assert (row["nothing"], row["no_number"]) == ("", "")
    assert json.loads(row["struct"]) == PLAIN["struct"]


def test_columns_of_one_name_are_told_apart_and_none_is_lost(lake):
    answer = ask(open_lake(lake, Storage()), "select 1 as site, 2 as site, 3 as site_1, 4 as other, 5 as site")
    of_csv, of_json = StringIO(), StringIO()
    write_csv(answer, of_csv)
    write_json(answer, of_json)
    assert of_csv.getvalue() == "site,site_2,site_1,other,site_3\n1,2,3,4,5\n"
    assert json.loads(of_json.getvalue()) == [{"site": 1, "site_2": 2, "site_1": 3, "other": 4, "site_3": 5}]
    lines = printed(answer, width=100).split("\n")
    assert [line.split() for line in lines if "4" in line] == [["1", "2", "3", "4", "5"]]


def test_a_table_for_people_is_short_in_figures(odd):
    text = printed(odd, width=400)
    for words in ("0.3 ", "2026-11-20", '{"decode truncated": 2}', " - "):
        assert words in text


def test_what_a_terminal_would_obey_is_shown_as_what_it_is():
    answer = pa.table({"a\x1b[2J": ["Rossi\x1b[31m\nSpA\r\x9b1m\u202e", "Söhne è 日本"]})
    lines = printed(answer, width=100).splitlines()
    assert [line.strip() for line in lines if line.strip()] == [
        "a\\x1b[2J",
        "─" * len("Rossi\\x1b[31m\\nSpA\\r\\x9b1m\\u202e"),
        "Rossi\\x1b[31m\\nSpA\\r\\x9b1m\\u202e",
        "Söhne è 日本",
    ]


def test_in_a_pipe_every_row_is_one_line_however_wide():
    answer = pa.table({f"column{number}": ["x" * 100] for number in range(10)})
    lines = printed(answer, width=80).splitlines()
    assert sum("x" * 100 in line for line in lines) == 1
    assert max(map(len, lines)) > 1000


def test_a_terminal_gets_no_line_that_is_wider_than_it_is():
    answer = pa.table({"text": ["x" * 500], "other": ["[red]no markup[/]"]})
    text = printed(answer, width=80, force_terminal=True, color_system=None)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("x") >= 500


def test_a_long_answer_says_how_many_rows_are_left():
    text = printed(pa.table({"n": range(2500)}), width=100)
    assert " 999 " in text
    assert " 1000 " not in text
    assert "and 1500 more rows: give --format csv or json" in text


@pytest.mark.parametrize("form", ["csv", "json"])
def test_the_command_prints_every_row_in_other_forms(form, lake):
    answer = CliRunner().invoke(cli.app, ["sql", lake, "select * from range(2500)", "--format", form])
    assert answer.exit_code == 0
    assert answer.stdout.count("\n") >= 2500


def test_the_command_lists_the_views_where_nothing_is_asked(lake):
    answer = CliRunner().invoke(cli.app, ["sql", lake])
    assert answer.exit_code == 0
    assert "one row per truck load" in answer.stdout
    assert "reviewed_loads" in answer.stdout


def test_reviewed_loads_are_found_in_capitals_too(lake):
    answer = CliRunner().invoke(cli.app, ["sql", lake, "select count(*) as n from REVIEWED_LOADS", "--format", "csv"])
    assert (answer.exit_code, answer.stdout) == (0, "n\n0\n")


def test_the_command_saves_views_and_answers_only_when_it_is_asked(lake, tmp_path):
    saved = CliRunner().invoke(cli.app, ["sql", lake, "--save", str(tmp_path / "views.sql")])
    assert (saved.exit_code, saved.stdout) == (0, "")
    both = CliRunner().invoke(cli.app, ["sql", lake, "select 7 as n", "--save", str(tmp_path / "views.duckdb")])
    assert both.exit_code == 0
    assert "7" in both.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"views.sql", "views.duckdb"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["LAKE", "select foo from loads"], "the views are loads, trucks"),
        (["nowhere", "select 1"], "nothing is published in nowhere"),
        (["LAKE", "--save", "views.txt"], "ends in .duckdb or .sql"),
        (["LAKE", "--save", "no/such/folder/views.sql"], "no/such/folder/views.sql"),
        (["LAKE", "--save", "no/such/folder/views.duckdb"], "no/such/folder/views.duckdb"),
        (["LAKE", "select 1", "--config", "none.toml"], "none.toml: no such configuration file"),
        (["LAKE", "select 'infinity'::timestamp"], "a value that cannot be shown"),
        (["LAKE", "select '0044-03-15 (BC)'::date", "--format", "csv"], "a value that cannot be shown"),
        (["LAKE", "select map {{'a': 1}: 2}", "--format", "json"], "write column::varchar in the query"),
    ],
)
def test_what_a_person_can_mend_is_one_line(arguments, words, lake):
    given = [lake if argument == "LAKE" else argument for argument in arguments]
    answer = CliRunner().invoke(cli.app, ["sql", *given])
    assert answer.exit_code == 2
    assert words in answer.stderr
    assert answer.stderr.count("\n") == 1
