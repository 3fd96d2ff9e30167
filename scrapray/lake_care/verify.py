"""Whether every published row is whole and can be traced; only reads."""

import datetime as dt
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from scrapray import schema
from scrapray.errors import SchemaError
from scrapray.lake import (
    conform,
    footer_of,
    month_uri,
    name_of,
    nights_in,
    partition_uri,
    read_as_written,
    read_published,
    read_table,
    runs_named,
)
from scrapray.lake_care.faults import AUDIT_AGAIN, MEND_MONTH, Fault, nothing_published
from scrapray.lake_care.places import Night, Published, published_files, run_folders
from scrapray.lake_care.rows import Tables, faults_of_rows, rows_of
from scrapray.storage import Storage, join

_NOT_IN_EVERY_VERSION = {"peak_score"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was looked at, and what was found."""

    num_nights: int
    num_rows: int
    faults: tuple[Fault, ...]


def verify(lake_uri: str, storage: Storage, date: dt.date | None = None) -> Verified:
    """Look whether every published row is whole and can be traced, and whether anything lies there without a use.

    Args:
        lake_uri: The lake.
        storage: The door to it.
        date: One night only; then only tables are looked at, not what lies beside them.

    Raises:
        StorageError: The lake cannot be read, or nothing is published there, or not for that date.
    """
    num_rows, runs = 0, {}
    published = published_files(lake_uri, storage)
    faults = _add_nights_of_months(lake_uri, published, date, storage)
    nights = {night: tables for night, tables in published.nights.items() if date in (None, night[0])}
    for night in sorted(nights):
        tables, found = read_night(lake_uri, night, nights[night], storage)
        faults += found
        num_rows += sum(table.num_rows for table in tables.values())
        runs[night] = set().union(*runs_named(tables).values())
    if date is None:
        faults += map(_stray, published.strays)
        faults += _faults_of_runs(lake_uri, runs, storage)
        faults += _faults_of_reviews(lake_uri, storage)
    if not nights and not faults:
        raise nothing_published(lake_uri, date)
    return Verified(num_nights=len(nights), num_rows=num_rows, faults=tuple(faults))


def _add_nights_of_months(lake_uri: str, published: Published, date: dt.date | None, storage: Storage) -> list[Fault]:
    """Add the nights that months hold to those that have files of their own; what is wrong with the files of months."""
    faults = []
    asked = {month for month in published.months if date is None or month[0] == date.replace(day=1)}
    for first, site in sorted(asked):
        for name in sorted(published.months[first, site]):
            uri = month_uri(lake_uri, name, first, site)
            try:
                for held in _nights_of_month(name, uri, storage):
                    published.nights[held, site].add(name)
            except SchemaError as error:
                faults.append(_fault_of_file(uri, error, MEND_MONTH))
    return faults


def read_night(
    lake_uri: str, night: Night, present: Collection[str], storage: Storage
) -> tuple[dict[str, pa.Table], list[Fault]]:
    """The tables of a night that can be read, and what is wrong with them.

    Args:
        lake_uri: The lake.
        night: Date and site.
        present: Tables that have it, in a file of its own or of its month.
        storage: The door to the lake.

    Raises:
        StorageError: A file cannot be read.
    """
    tables, faults = {}, []
    for name in schema.PUBLISHED:
        uri = partition_uri(lake_uri, name, *night)
        if name not in present:
            faults.append(Fault(place=uri, what="is missing", mend=AUDIT_AGAIN))
            continue
        try:
            uri, table = read_published(lake_uri, name, *night, storage)
            check_file(table, name, uri)
        except SchemaError as error:
            faults.append(_fault_of_file(uri, error, AUDIT_AGAIN))
        else:
            tables[name] = table
    place = f"{night[0]} {night[1]}"
    faults += [Fault(place=place, what=what, mend=mend) for what, mend in _faults_of_night(night, tables)]
    return tables, faults


def _fault_of_file(uri: str, error: SchemaError, mend: str) -> Fault:
    return Fault(place=uri, what=str(error).removeprefix(f"{uri} "), mend=mend)


def _nights_of_month(name: str, uri: str, storage: Storage) -> Collection[dt.date]:
    """The nights that the file of a month holds.

    Raises:
        SchemaError: It is damaged, or its rows are not of the nights and runs that it names.
    """
    rows = read_as_written(uri, storage, ["date", "run_id"])
    nights = nights_in(rows, uri)
    if strange := set(rows_of(rows, "date", "run_id")) - set(nights.items()):
        raise SchemaError(f"{uri} holds rows of {min(strange)[0]} and a run that it does not name")
    return nights


def check_file(table: pa.Table, name: str, uri: str) -> None:
    """Whether a file says what it is, and holds that.

    Raises:
        SchemaError: It does not.
    """
    footer = footer_of(table, uri)
    version, written = footer["schema_version"], footer["table"]
    if written != name:
        raise SchemaError(f"{uri} is a table of {written}")
    if version not in range(1, schema.SCHEMA_VERSION + 1):
        raise SchemaError(f"{uri} has schema version {version}, this scrapray knows 1 to {schema.SCHEMA_VERSION}")
    if version == schema.SCHEMA_VERSION:
        conform(table, schema.PUBLISHED[name], uri)
    elif missing := set(schema.PUBLISHED[name].names) - set(table.column_names) - _NOT_IN_EVERY_VERSION:
        raise SchemaError(f"{uri} misses {', '.join(sorted(missing))}")


def _faults_of_night(night: Night, tables: Tables) -> Iterator[tuple[str, str]]:
    """What is wrong with the rows of a night, and the mend."""
    if strange := [name for name, table in tables.items() if set(rows_of(table, "date", "site")) - {night}]:
        yield f"{', '.join(strange)} hold rows of another date or site", AUDIT_AGAIN
    runs = runs_named(tables)
    if len(set().union(*runs.values())) > 1:
        said = "; ".join(f"{name} of {', '.join(run_ids)}" for name, run_ids in runs.items())
        yield f"is half published: {said}", f"{AUDIT_AGAIN}, or copy the tables of one run from its folder in _runs"
        return
    if set(tables) != set(schema.PUBLISHED):
        return
    if tables["runs"].num_rows != 1:
        yield f"has {tables['runs'].num_rows} rows in runs, so that its rows cannot be traced", AUDIT_AGAIN
        return
    yield from ((what, AUDIT_AGAIN) for what in faults_of_rows(tables))


def _stray(uri: str) -> Fault:
    return Fault(place=uri, what="is no table of a night", mend="delete it, or keep it elsewhere")


def _faults_of_runs(lake_uri: str, published: Mapping[Night, set[str]], storage: Storage) -> Iterator[Fault]:
    """Folders of runs that no published night can go back to, and published runs that have none."""
    folders, strays = run_folders(lake_uri, storage)
    yield from map(_stray, strays)
    for (run_id, night), tables in sorted(folders.items()):
        place = f"{join(lake_uri, '_runs', run_id)}, {night[0]} {night[1]}"
        if tables != set(schema.PUBLISHED):
            missing = ", ".join(name for name in schema.PUBLISHED if name not in tables)
            what = f"lacks {missing}: it is being written or deleted, or that was stopped"
            yield Fault(place=place, what=what, mend="when no audit is at work, delete it")
        elif night not in published:
            yield Fault(
                place=place,
                what="belongs to a night of which nothing is published",
                mend=f"{AUDIT_AGAIN}, or delete it",
            )
    for night, run_ids in sorted(published.items()):
        for run_id in sorted(run_ids):
            if (run_id, night) not in folders:
                yield Fault(
                    place=f"{night[0]} {night[1]}",
                    what=f"{run_id} is published and not in _runs: once another run is, nobody can go back to it",
                    mend=f"{AUDIT_AGAIN}, or keep a copy of its tables",
                )


def _faults_of_reviews(lake_uri: str, storage: Storage) -> Iterator[Fault]:
    """What people were asked and what they said, where it cannot be read."""
    for folder, columns, named_by in (
        ("reviews", schema.REVIEWS, "import_id"),
        ("_review_queues", schema.REVIEW_QUEUE, "queue_id"),
    ):
        for uri in storage.list_names(join(lake_uri, folder), (".parquet",)):
            try:
                names = set(read_table(uri, columns, storage)[named_by].to_pylist())
            except SchemaError as error:
                mend = "put it back from a copy, or move it out of the lake and do that import or export again"
                yield _fault_of_file(uri, error, mend)
                continue
            for name in sorted(names - {name_of(uri)}):
                yield Fault(
                    place=uri,
                    what=f"has rows that count only in {name}.parquet, as it is no longer named",
                    mend="delete it if that file is there too, else give it that name",
                )
