"""The one writer and reader of Parquet tables.

    <lake>/<table>/date=YYYY-MM-DD/site=<site>/part-0.parquet                  what is published
    <lake>/<table>/date=YYYY-MM/site=<site>/part-0.parquet                     nights of a month, put together
    <lake>/_runs/<run_id>/<table>/date=YYYY-MM-DD/site=<site>/part-0.parquet   what each run has made

**A night that has a file of its own is read from it; else its rows are those in the file of its month.** This holds for
each table alone, so a month may be put together and its nights deleted one by one, or a night be published again, and a
reader sees each row once at every moment. Which nights a month holds stands in its footer, for a night may be empty.

Every file has exactly the columns and types of its schema, null only where the schema allows it, and a footer key
``scrapray`` that says how to read it. Equal tables give equal bytes.
"""

import datetime
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scrapray import schema
from scrapray.errors import SchemaError, StorageError
from scrapray.storage import Storage, absolute, join

FOOTER_KEY = b"scrapray"
_NAMED = {
    "manifest": schema.MANIFEST,
    "todo": schema.WORK_LIST,
    "results": schema.RESULTS,
    "test_statistics": schema.TEST_STATISTICS,
    "evaluation": schema.EVALUATION,
    "comparison": schema.COMPARISON,
    **schema.PUBLISHED,
    "tiles": schema.TILES,
    "tile_manifest": schema.TILE_MANIFEST,
    "skipped": schema.SKIPPED,
    "review_queue": schema.REVIEW_QUEUE,
    "reviews": schema.REVIEWS,
}


def conform(table: pa.Table, columns: pa.Schema, what: str) -> pa.Table:
    """Bring a table to exactly the columns, order and types of a schema.

    Args:
        table: Columns in any order; types that can be cast without loss.
        columns: The schema.
        what: Name of the table or its place, for messages.

    Raises:
        SchemaError: A column is missing, unknown, of another type, or null where it must not be.
    """
    missing = [name for name in columns.names if name not in table.column_names]
    unknown = [name for name in table.column_names if name not in columns.names]
    if missing or unknown:
        faults = [
            f"{word} {', '.join(names)}" for word, names in (("misses", missing), ("has unknown", unknown)) if names
        ]
        raise SchemaError(f"{what} {' and '.join(faults)}; write it anew with this version of scrapray")
    cast = [_cast(table.column(field.name), field, what) for field in columns]
    return pa.table(cast, schema=columns)


def _cast(column: pa.ChunkedArray, field: pa.Field, what: str) -> pa.Array:
    try:
        array = column.combine_chunks().cast(field.type)
    except (pa.ArrowException, ValueError) as error:
        raise SchemaError(f"{what}: column {field.name} is {column.type}, must be {field.type}: {error}") from error
    if hidden := _null_where_required(array, field, field.name):
        raise SchemaError(f"{what}: {hidden} is null in at least one row and must not be")
    return array


def _null_where_required(array: pa.Array, field: pa.Field, path: str) -> str | None:
    """The first field, however deep, that is null though its schema forbids it."""
    if not field.nullable and array.null_count:
        return path
    if pa.types.is_struct(field.type):
        # flatten() carries the struct's own nulls into its fields, so they are dropped first.
        fields = array.drop_null().flatten()
        inner = [(child, field.type.field(index)) for index, child in enumerate(fields)]
    elif pa.types.is_list(field.type):
        inner = [(array.flatten(), field.type.value_field)]
    else:
        inner = []
    found = (_null_where_required(child, part, f"{path}.{part.name}") for child, part in inner)
    return next(filter(None, found), None)


def write_table(
    table: pa.Table,
    columns: pa.Schema,
    uri: str,
    storage: Storage,
    *,
    class_names: Sequence[str] = (),
    rows_per_group: int | None = None,
) -> None:
    """Write one Parquet file in one step, see ``parquet_bytes``.

    Raises:
        SchemaError: The table does not fit the schema.
        StorageError: The file cannot be written; what was there before is still there.
    """
    whole = parquet_bytes(table, columns, uri, class_names=class_names, rows_per_group=rows_per_group)
    storage.write_bytes(uri, whole)


def parquet_bytes(
    table: pa.Table,
    columns: pa.Schema,
    what: str,
    *,
    class_names: Sequence[str] = (),
    rows_per_group: int | None = None,
) -> bytes:
    """A Parquet file; equal tables give equal bytes.

    Args:
        table: The rows.
        columns: Their schema.
        what: Name of the table or its place, for messages.
        class_names: For the footer.
        rows_per_group: How many rows are read together at least; pyarrow's default is a whole table.

    Raises:
        SchemaError: The table does not fit the schema.
    """
    whole = conform(table, columns, what)
    return _encoded([whole], columns, _footer(columns, class_names), rows_per_group)


def _encoded(
    parts: Iterable[pa.Table], columns: pa.Schema, footer: Mapping[str, object], rows_per_group: int | None = None
) -> bytes:
    """Parquet of tables one below the other, each in row groups of its own."""
    buffer = pa.BufferOutputStream()
    metadata = {FOOTER_KEY: json.dumps(footer, sort_keys=True).encode()}
    with pq.ParquetWriter(buffer, columns.with_metadata(metadata), compression="zstd") as writer:
        for part in parts:
            writer.write_table(part, row_group_size=rows_per_group)
    data: bytes = buffer.getvalue().to_pybytes()
    return data


def _footer(columns: pa.Schema, class_names: Sequence[str]) -> dict[str, object]:
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "table": next(name for name, named in _NAMED.items() if named is columns),
        "classes": list(class_names),
        "mask_encoding": "coco-rle",
        "coordinate_frame": "frame pixels, origin top left, half-open",
    }


def read_table(uri: str, columns: pa.Schema, storage: Storage) -> pa.Table:
    """Read one Parquet file that must have exactly these columns.

    Raises:
        SchemaError: It is not Parquet, or its columns are not those of the schema.
        StorageError: It cannot be read.
    """
    return conform(read_as_written(uri, storage), columns, uri)


def read_as_written(
    uri: str, storage: Storage, names: list[str] | None = None, date: datetime.date | None = None
) -> pa.Table:
    """Read one Parquet file with the columns that it has, whatever version wrote them; the footer is its metadata.

    Args:
        uri: The file.
        storage: The door to it.
        names: These columns only.
        date: Rows of this date only.

    Raises:
        SchemaError: It is not Parquet, or has no column of these names.
        StorageError: It cannot be read.
    """
    data = storage.read_bytes(uri)
    rows = None if date is None else pc.field("date") == date
    try:
        return pq.read_table(pa.BufferReader(data), columns=names, filters=rows)
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(
            f"{uri} is not readable as Parquet: {error}; put it back from a copy, or make it anew"
        ) from error


def footer_of(table: pa.Table, uri: str) -> dict[str, Any]:
    """What a file that was read says of itself: ``schema_version``, ``table`` and more.

    Raises:
        SchemaError: It does not say these two.
    """
    try:
        footer = dict(json.loads((table.schema.metadata or {})[FOOTER_KEY]))
    except (KeyError, ValueError, TypeError):
        footer = {}
    if not {"schema_version", "table"} <= footer.keys():
        raise SchemaError(f"{uri} has no footer that says what it is")
    return footer


def partition_uri(lake_uri: str, table: str, date: datetime.date, site: str, run_id: str | None = None) -> str:
    """Where a table of one date and site lies: what is published, or what one run has made."""
    root = join(lake_uri, "_runs", run_id) if run_id else lake_uri
    return _file_of(root, table, f"date={date.isoformat()}", site)


def month_uri(lake_uri: str, table: str, date: datetime.date, site: str) -> str:
    """Where the published nights of one month and site lie together, as far as they have no files of their own."""
    return _file_of(lake_uri, table, f"date={date:%Y-%m}", site)


def _file_of(root_uri: str, table: str, time: str, site: str) -> str:
    return join(root_uri, table, time, f"site={quote(site, safe='')}", "part-0.parquet")


def name_of(uri: str) -> str:
    """What a file outside the tables of nights is named by: its import or queue."""
    return uri.rpartition("/")[2].removesuffix(".parquet")


def read_partition(
    lake_uri: str, table: str, date: datetime.date, site: str, storage: Storage, run_id: str | None = None
) -> pa.Table:
    """One table of one date and site, as published or as one run made it.

    Raises:
        SchemaError: It is damaged, or another version of scrapray has written it.
        StorageError: It cannot be read.
    """
    if run_id:
        uri = partition_uri(lake_uri, table, date, site, run_id)
        rows = read_as_written(uri, storage)
    else:
        uri, rows = read_published(lake_uri, table, date, site, storage)
    version = footer_of(rows, uri)["schema_version"]
    if version != schema.SCHEMA_VERSION:
        raise SchemaError(
            f"{uri} has version {version} of the tables, this scrapray writes and needs {schema.SCHEMA_VERSION}; audit "
            f"{date} {site} again"
        )
    return conform(rows, schema.PUBLISHED[table], uri)


def read_published(
    lake_uri: str, table: str, date: datetime.date, site: str, storage: Storage, names: list[str] | None = None
) -> tuple[str, pa.Table]:
    """One published table of one date and site, see ``read_as_written``, and the file that holds it.

    Raises:
        SchemaError: It is damaged.
        StorageError: It cannot be read; the reason is "missing" where it is not published.
    """
    own, of_month = (place(lake_uri, table, date, site) for place in (partition_uri, month_uri))
    try:
        return own, read_as_written(own, storage, names)
    except StorageError as error:
        rows = _rows_in_month(of_month, date, storage, names) if error.reason == "missing" else None
        if rows is None:
            raise
    return of_month, rows


def _rows_in_month(month: str, date: datetime.date, storage: Storage, names: list[str] | None) -> pa.Table | None:
    """The rows of one night; None where the month is not there or does not hold it."""
    try:
        rows = read_as_written(month, storage, names, date)
    except StorageError as error:
        if error.reason == "missing":
            return None
        raise
    return rows if date in nights_in(rows, month) else None


def nights_in(table: pa.Table, uri: str) -> dict[datetime.date, str]:
    """The nights that the file of a month holds, each with its run.

    Raises:
        SchemaError: Its footer does not say so.
    """
    try:
        nights = footer_of(table, uri)["nights"]
        return {datetime.date.fromisoformat(date): str(run_id) for date, run_id in nights.items()}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise SchemaError(f"{uri} has no footer that says which nights it holds") from error


def published_sites(lake_uri: str, date: datetime.date, storage: Storage, table: str = "loads") -> list[str]:
    """Sites of which a table is published for a date; with that of loads, the others are there too."""
    own, of_month = (
        _sites_in(partial(place, absolute(lake_uri), table, date), storage) for place in (partition_uri, month_uri)
    )
    held = {site for site in of_month - own if _may_hold(date, month_uri(lake_uri, table, date, site), storage)}
    return sorted(own | held)


def _sites_in(place: Callable[[str], str], storage: Storage) -> set[str]:
    """Sites whose file lies where it should; whatever else lies in the folder is none of a reader's business."""
    uris = storage.list_names(place("").rpartition("/site=")[0])
    sites = {uri: unquote(uri.rpartition("/site=")[2].partition("/")[0]) for uri in uris}
    return {site for uri, site in sites.items() if uri == place(site)}


def _may_hold(date: datetime.date, month: str, storage: Storage) -> bool:
    try:
        return date in nights_in(read_as_written(month, storage, []), month)
    except SchemaError:
        return True  # who reads the night is told that the file is damaged


def published_run(lake_uri: str, date: datetime.date, site: str, storage: Storage) -> str | None:
    """The run whose tables are published for one date and site; None before the first, or if nobody can tell."""
    try:
        # One column only: an older version of scrapray may have written the others.
        _, rows = read_published(lake_uri, "runs", date, site, storage, ["run_id"])
    except SchemaError:
        return None
    except StorageError as error:
        if error.reason == "missing":
            return None
        raise
    run_ids: list[str] = rows["run_id"].to_pylist()
    return run_ids[0] if run_ids else None


def write_month(
    lake_uri: str, table: str, site: str, nights: Mapping[datetime.date, tuple[str, pa.Table]], storage: Storage
) -> None:
    """Put the nights of one month and site into one file, in one step, each in row groups of its own.

    Args:
        lake_uri: The lake.
        table: Name of the table.
        site: The site.
        nights: Run and rows of each night, one at least; they are of this version of the schema.
        storage: The door to it.

    Raises:
        SchemaError: Rows do not fit the schema.
        StorageError: The file cannot be written; what was there before is still there.
    """
    uri, columns = month_uri(lake_uri, table, min(nights), site), schema.PUBLISHED[table]
    ordered = sorted(nights.items())
    classes = [name for _, (_, rows) in ordered for name in footer_of(rows, uri).get("classes", ())]
    footer = _footer(columns, list(dict.fromkeys(classes)))
    footer["nights"] = {date.isoformat(): run_id for date, (run_id, _) in ordered}
    parts = [conform(rows, columns, uri) for _, (_, rows) in ordered if rows.num_rows]
    storage.write_bytes(uri, _encoded(parts, columns, footer))


def runs_named(tables: Mapping[str, pa.Table]) -> dict[str, list[str]]:
    """The runs that the rows of each table name, sorted; tables without rows are left out."""
    named = {name: sorted(table["run_id"].unique().to_pylist()) for name, table in tables.items()}
    return {name: run_ids for name, run_ids in named.items() if run_ids}


def run_of(tables: Mapping[str, pa.Table]) -> dict[str, Any] | None:
    """The row of ``runs`` to which the tables of a night belong; None where the night is half published.

    It is while an audit replaces the tables one by one, and after one that has stopped there. Rows alone do not tell:
    a run may have left a table empty, so they are counted too.

    Args:
        tables: Of one date and site: frames, loads and runs at least.
    """
    rows = tables["runs"].to_pylist()
    if len(rows) != 1:
        return None
    (row,) = rows
    counted = {"num_frames": tables["frames"].num_rows, "num_loads": tables["loads"].num_rows}
    is_of_one_run = {run_id for run_ids in runs_named(tables).values() for run_id in run_ids} == {row["run_id"]}
    return dict(row) if is_of_one_run and counted.items() <= row.items() else None


def publish_run(
    lake_uri: str,
    run_id: str,
    date: datetime.date,
    site: str,
    tables: Mapping[str, pa.Table],
    storage: Storage,
    *,
    class_names: Sequence[str] = (),
) -> None:
    """Publish the tables of one run for one date and site, all of them or none.

    They are written to the run's own folder first, then replace the published files one by one with ``loads`` last.
    When a replacement fails, the files of the run before are put back. Each run keeps its folder.

    Raises:
        SchemaError: A table is missing, does not fit its schema, or speaks of another run, date or site.
        StorageError: Storage failed; what was published before is still published, or the message says what is not.
    """
    _check_run(tables, run_id, date, site)
    for name, columns in schema.PUBLISHED.items():
        uri = partition_uri(lake_uri, name, date, site, run_id)
        write_table(tables[name], columns, uri, storage, class_names=class_names)
    before = published_run(lake_uri, date, site, storage)
    try:
        _replace(lake_uri, run_id, date, site, storage)
    except BaseException as error:  # Ctrl-C too must not leave half of it
        _roll_back(lake_uri, before, date, site, storage, error)
        raise


def _check_run(tables: Mapping[str, pa.Table], run_id: str, date: datetime.date, site: str) -> None:
    if set(tables) != set(schema.PUBLISHED):
        raise SchemaError(f"a run has the tables {', '.join(schema.PUBLISHED)}, not {', '.join(tables)}")
    for name, columns in schema.PUBLISHED.items():
        table = conform(tables[name], columns, name)
        for column, value in (("run_id", run_id), ("date", date), ("site", site)):
            if set(pc.unique(table.column(column)).to_pylist()) - {value}:
                raise SchemaError(f"{name}: column {column} has rows that are not of {value}, which is being published")


def _replace(lake_uri: str, run_id: str, date: datetime.date, site: str, storage: Storage) -> None:
    for name in schema.PUBLISHED:
        source = partition_uri(lake_uri, name, date, site, run_id)
        storage.copy(source, partition_uri(lake_uri, name, date, site))


def _roll_back(
    lake_uri: str, run_id: str | None, date: datetime.date, site: str, storage: Storage, cause: BaseException
) -> None:
    """Publish the run before again; without one, leave nothing published."""
    try:
        if run_id:
            _replace(lake_uri, run_id, date, site, storage)
        else:
            for name in reversed(schema.PUBLISHED):
                storage.delete(partition_uri(lake_uri, name, date, site))
    except StorageError as error:
        raise StorageError(
            f"publishing {date} {site} in {lake_uri} stopped half-way and could not be undone: "
            f"{cause or type(cause).__name__}; {error}; "
            "mend that and run the audit again, which replaces all tables of that date and site",
            reason=error.reason,
        ) from error
