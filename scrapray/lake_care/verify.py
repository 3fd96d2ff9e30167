"""Whether every published row is whole and can be traced; only reads."""

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from scrapray import schema
from scrapray.errors import SchemaError
from scrapray.lake import FOOTER_KEY, conform, partition_uri, read_as_written, read_table, runs_named
from scrapray.lake_care.faults import AUDIT_AGAIN, Fault, nothing_published
from scrapray.lake_care.places import Night, published_nights, run_folders
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
    faults, num_rows, runs = [], 0, {}
    nights, strays = published_nights(lake_uri, storage)
    nights = {night: tables for night, tables in nights.items() if date in (None, night[0])}
    for night in sorted(nights):
        tables, found = _read_night(lake_uri, night, nights[night], storage)
        place = f"{night[0]} {night[1]}"
        found += [Fault(place=place, what=what, mend=mend) for what, mend in _faults_of_night(night, tables)]
        faults += found
        num_rows += sum(table.num_rows for table in tables.values())
        runs[night] = set().union(*runs_named(tables).values())
    if date is None:
        faults += map(_stray, strays)
        faults += _faults_of_runs(lake_uri, runs, storage)
        faults += _faults_of_reviews(lake_uri, storage)
    if not nights and not faults:
        raise nothing_published(lake_uri, date)
    return Verified(num_nights=len(nights), num_rows=num_rows, faults=tuple(faults))


def _read_night(
    lake_uri: str, night: Night, present: set[str], storage: Storage
) -> tuple[dict[str, pa.Table], list[Fault]]:
    """The tables of a night that can be read, and what is wrong with the files."""
    tables, faults = {}, []
    for name in schema.PUBLISHED:
        uri = partition_uri(lake_uri, name, *night)
        if name not in present:
            faults.append(Fault(place=uri, what="is missing", mend=AUDIT_AGAIN))
            continue
        try:
            table = read_as_written(uri, storage)
            _check_footer(table, name, uri)
        except SchemaError as error:
            faults.append(Fault(place=uri, what=str(error).removeprefix(f"{uri} "), mend=AUDIT_AGAIN))
        else:
            tables[name] = table
    return tables, faults


def _check_footer(table: pa.Table, name: str, uri: str) -> None:
    """Whether a file says what it is, and holds that.

    Raises:
        SchemaError: It does not.
    """
    try:
        footer = json.loads((table.schema.metadata or {})[FOOTER_KEY])
        version, written = footer["schema_version"], footer["table"]
    except (KeyError, ValueError, TypeError) as error:
        raise SchemaError(f"{uri} has no footer that says what it is") from error
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
    for folder, columns in (("reviews", schema.REVIEWS), ("_review_queues", schema.REVIEW_QUEUE)):
        for uri in storage.list_names(join(lake_uri, folder), (".parquet",)):
            try:
                read_table(uri, columns, storage)
            except SchemaError as error:
                mend = "put it back from a copy, or move it out of the lake and do that import or export again"
                yield Fault(place=uri, what=str(error).removeprefix(f"{uri} "), mend=mend)
