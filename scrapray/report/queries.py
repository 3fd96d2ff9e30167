"""Questions to a lake in SQL, answered by DuckDB from the published files; nothing is copied and nothing is written."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import duckdb
import pyarrow as pa

from scrapray.errors import ConfigurationError, StorageError
from scrapray.lake_care.faults import nothing_published
from scrapray.report.views import TABLES, VIEWS, statements
from scrapray.review.verdicts import all_reviewed_loads
from scrapray.storage import Storage, absolute, join

REVIEWED_LOADS = "reviewed_loads"
"""A table beside the views: one row per load that people have looked at, with the machine's verdict and theirs."""
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "python_enable_replacements": False,  # a query names views, not variables of ours
    "autoinstall_known_extensions": False,  # it would wait for a network that may not be there
}
DATABASE, SCRIPT = ".duckdb", ".sql"
LIST_VIEWS = f"""
    select view_name as view, comment as rows
    from (select view_name, comment, view_oid from duckdb_views() where comment is not null order by view_oid)
    union all
    select '{REVIEWED_LOADS}', 'one row per load that people have looked at, with the machine''s verdict and theirs'"""


def open_lake(lake_uri: str, storage: Storage, database: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Connect to DuckDB with the views of a lake, which show published runs only.

    Args:
        lake_uri: What ``run_audit`` has published to.
        storage: The door to it.
        database: File to make or renew the views in; without it they are gone with the connection.

    Raises:
        ConfigurationError: The file is not DuckDB's, or holds a table that is called as a view is; it stays as it was.
            Or DuckDB cannot read such a path.
        StorageError: Nothing is published there, or it cannot be reached.
    """
    commands = _statements(lake_uri, storage)
    try:
        connection = duckdb.connect(str(database or ":memory:"), config=SETTINGS)
        if filesystem := storage.fsspec(lake_uri):
            connection.register_filesystem(filesystem)
        for command in ("set TimeZone = 'UTC'", "begin", *commands, "commit"):
            connection.execute(command)
    except duckdb.Error as error:
        place = database or "memory"
        raise ConfigurationError(f"cannot use {place} as a database: {_reason(error)}; give another file") from error
    return connection


def add_reviewed_loads(connection: duckdb.DuckDBPyConnection, lake_uri: str, storage: Storage) -> None:
    """Judge the nights that were reviewed again, and make that the table ``reviewed_loads`` of this connection.

    A night that is damaged, half-published or gone is passed over with a word on standard error.

    Raises:
        SchemaError: Another version of scrapray has written a review.
        StorageError: The lake cannot be read.
    """
    connection.register(REVIEWED_LOADS, all_reviewed_loads(lake_uri, storage))


def ask(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    """The answer to a query; of columns with one name, the second is ``name_1`` and so on, so that none hides another.

    Raises:
        ConfigurationError: The query is wrong; the message says why, and which views there are.
    """
    try:
        answer = connection.sql(query)
        table = answer.to_arrow_table() if answer is not None else pa.table({})
        return table.rename_columns(_told_apart(table.column_names))
    except duckdb.Error as error:
        views = ", ".join([*(view.name for view in VIEWS), REVIEWED_LOADS])
        raise ConfigurationError(f"the query failed: {_reason(error)}; the views are {views}") from error


def save_views(lake_uri: str, path: Path, storage: Storage) -> None:
    """Write the views of a lake for others to use: a database or a script for DuckDB, by the ending of the file.

    They read the lake's files anew at each question, so what is published later is seen too. Of a table without any
    file they show no rows for good: where nothing was reviewed yet, save them again after the first import.

    Raises:
        ConfigurationError: The ending is neither ``.duckdb`` nor ``.sql``, or the file is not DuckDB's.
        StorageError: See ``open_lake``.
    """
    if path.suffix == DATABASE:
        open_lake(lake_uri, storage, path).close()
    elif path.suffix == SCRIPT:
        path.write_text("".join(f"{command};\n" for command in _statements(lake_uri, storage)), encoding="utf-8")
    else:
        raise ConfigurationError(f"cannot save views as {path}: give a file that ends in {DATABASE} or {SCRIPT}")


def _told_apart(names: Sequence[str]) -> list[str]:
    """The names, with a number behind each that stood before."""
    apart: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in count(1))
        apart.append(name if name not in apart else next(new for new in numbered if new not in {*apart, *names}))
    return apart


def _statements(lake_uri: str, storage: Storage) -> list[str]:
    if "\\" in lake_uri:
        raise ConfigurationError(
            f"cannot ask {lake_uri}: DuckDB takes a backslash in a path for a slash; rename the folder"
        )
    with_files = [table for table in TABLES if _has_files(join(lake_uri, table), storage)]
    if "loads" not in with_files:
        raise nothing_published(lake_uri)
    return list(statements(absolute(lake_uri), _types(), with_files))


def _has_files(folder_uri: str, storage: Storage) -> bool:
    try:
        return any(storage.list_pages(folder_uri, (".parquet",)))
    except StorageError as error:
        if error.reason == "missing":
            return False
        raise


def _types() -> dict[str, dict[str, str]]:
    """DuckDB's name of the type of each column of each table."""
    with duckdb.connect() as connection:
        relations = {name: connection.from_arrow(table.columns.empty_table()) for name, table in TABLES.items()}
        return {
            name: dict(zip(relation.columns, map(str, relation.types), strict=True))
            for name, relation in relations.items()
        }


def _reason(error: duckdb.Error) -> str:
    """DuckDB's words without the line of the query that it repeats below them."""
    return " ".join(str(error).partition("\n\nLINE ")[0].split())
