import re

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from scrapray import schema
from scrapray.lake import write_table
from scrapray.storage import Storage

REVIEW = {"review_queue": schema.REVIEW_QUEUE, "reviews": schema.REVIEWS, "reviewed_loads": schema.REVIEWED_LOADS}
ALL = {"manifest": schema.MANIFEST, "results": schema.RESULTS, **schema.PUBLISHED, **REVIEW}


def fields_of(columns, prefix=""):
    """Every field of a schema, however deep, with its path."""
    for field in columns:
        path = prefix + field.name
        kind = field.type.value_type if pa.types.is_list(field.type) else field.type
        yield path, field
        if pa.types.is_struct(kind):
            yield from fields_of(kind, f"{path}.")


def test_loads_are_published_last():
    assert list(schema.PUBLISHED)[-1] == "loads"


@pytest.mark.parametrize("table", schema.PUBLISHED)
def test_every_published_row_names_its_run_site_and_date(table):
    columns = schema.PUBLISHED[table]
    assert columns.names[0] == "run_id"
    for name in ("run_id", "site", "date"):
        assert not columns.field(name).nullable


def test_a_name_has_one_type_in_all_tables():
    types = {}
    for columns in ALL.values():
        for _, field in fields_of(columns):
            types.setdefault(field.name, set()).add(str(field.type))
    # The classes of a load are counted over frames; in a frame and in results they have an area each; reviewers are
    # told what each weighs.
    assert {name for name, kinds in types.items() if len(kinds) > 1} == {"classes"}


@pytest.mark.parametrize("table", ALL)
def test_names_are_plain_words(table):
    for path, field in fields_of(ALL[table]):
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", field.name), path


@pytest.mark.parametrize("table", ALL)
def test_every_moment_is_utc_to_the_microsecond_and_says_so(table):
    for path, field in fields_of(ALL[table]):
        assert pa.types.is_timestamp(field.type) == field.name.endswith("_utc"), path
        if pa.types.is_timestamp(field.type):
            assert field.type == pa.timestamp("us", tz="UTC"), path


@pytest.mark.parametrize("table", ALL)
def test_no_list_may_hold_a_null(table):
    for path, field in fields_of(ALL[table]):
        if pa.types.is_list(field.type):
            assert not field.type.value_field.nullable, path


def test_the_frames_table_holds_all_that_is_known_of_a_frame():
    known = set(schema.MANIFEST.names) | set(schema.RESULTS.names) - {"thumbnail", "detections"}
    assert set(schema.FRAMES.names) == known | {"run_id"}


@pytest.mark.parametrize("table", schema.PUBLISHED)
def test_an_empty_table_keeps_its_columns_in_every_reader(table, tmp_path):
    columns = schema.PUBLISHED[table]
    uri = str(tmp_path / f"{table}.parquet")
    write_table(columns.empty_table(), columns, uri, Storage())
    assert duckdb.sql(f"select * from '{uri}'").columns == columns.names
    assert pl.read_parquet(uri).columns == columns.names
    assert list(pd.read_parquet(uri).columns) == columns.names
