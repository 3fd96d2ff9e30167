"""Nights of finished months put together, one file for each month, site and table: a year is quicker to open then.

First the files of a month are written, all tables of it, each in one step; then the files of its nights are deleted one
by one. A night that has a file of its own is read from that, so a reader sees every row once wherever this was killed,
and the next call goes on. Only who lists files first and opens them later, as DuckDB does, can miss what is deleted in
between. A night that an audit publishes again lies beside its month until the next call.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scrapray import schema
from scrapray.errors import ConfigurationError, SchemaError
from scrapray.lake import footer_of, month_uri, nights_in, partition_uri, read_as_written, write_month
from scrapray.lake_care.faults import MEND_MONTH, Fault, nothing_published
from scrapray.lake_care.places import Month, Published, published_files
from scrapray.lake_care.verify import check_file, read_night
from scrapray.storage import Storage, join

Nights = dict[dt.date, tuple[str, pa.Table]]
"""Run and rows of each night of a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What became of nights, each date and site counted.

    Attributes:
        num_nights: Nights that were put into the files of their months.
        num_older: Nights that stay as they are because an earlier version of scrapray has written them or their month.
        faults: What is wrong with other nights and months, which stay as they are too.
    """

    num_nights: int = 0
    num_older: int = 0
    faults: tuple[Fault, ...] = ()

    def __add__(self, other: "Compacted") -> "Compacted":
        return Compacted(
            num_nights=self.num_nights + other.num_nights,
            num_older=self.num_older + other.num_older,
            faults=self.faults + other.faults,
        )


def month_before(date: dt.date) -> dt.date:
    """First day of the month before that of a date."""
    return (date.replace(day=1) - dt.timedelta(days=1)).replace(day=1)


def compact(lake_uri: str, before: dt.date, storage: Storage, *, today: dt.date) -> Compacted:
    """Put the nights of months together that end before a date.

    Args:
        lake_uri: The lake.
        before: First day of a month.
        storage: The door to the lake.
        today: Months that are not over by then are refused.

    Raises:
        ConfigurationError: Nights of these months are still to come.
        StorageError: The lake cannot be read or written, or there is none.
    """
    if before > today:
        raise ConfigurationError(f"months before {before:%Y-%m} are not over yet; give {today:%Y-%m} or an earlier one")
    published = published_files(lake_uri, storage)
    if not published.nights and not published.months:
        raise nothing_published(lake_uri)
    months: dict[Month, list[dt.date]] = defaultdict(list)
    for date, site in sorted(published.nights):
        if date < before:
            months[date.replace(day=1), site].append(date)
    total = sum((_compact_month(lake_uri, *item, published, storage) for item in months.items()), Compacted())
    for name in schema.PUBLISHED:
        storage.delete_empty_folders(join(lake_uri, name))
    return total


def _compact_month(
    lake_uri: str, month: Month, dates: Sequence[dt.date], published: Published, storage: Storage
) -> Compacted:
    """Put nights that have files of their own into the files of their month, to the nights that these hold."""
    first, site = month
    try:
        months = {name: _read_month(lake_uri, name, month, published, storage) for name in schema.PUBLISHED}
    except SchemaError as error:
        return Compacted(faults=(Fault(place=f"{first:%Y-%m} {site}", what=str(error), mend=MEND_MONTH),))
    if any(_is_older(rows) for nights in months.values() for _, rows in nights.values()):
        return Compacted(num_older=len(dates))
    total, folded = Compacted(), dict[str, bytes]()
    for date in dates:
        own_files = published.nights[date, site]
        # Read before the tables: what an audit publishes meanwhile is then another file than this, and stays.
        uris = [partition_uri(lake_uri, name, date, site) for name in schema.PUBLISHED if name in own_files]
        contents = {uri: storage.read_bytes(uri) for uri in uris}
        present = own_files | {name for name, nights in months.items() if date in nights}
        tables, faults = read_night(lake_uri, (date, site), present, storage)
        if faults or any(map(_is_older, tables.values())):
            total += Compacted(num_older=int(not faults), faults=tuple(faults))
            continue
        (run_id,) = tables["runs"]["run_id"].to_pylist()
        for name, rows in tables.items():
            months[name][date] = run_id, rows
        total += Compacted(num_nights=1)
        folded |= contents
    if folded:
        for name, nights in months.items():
            write_month(lake_uri, name, site, nights, storage)
        _delete_unchanged(folded, storage)
    return total


def _read_month(lake_uri: str, name: str, month: Month, published: Published, storage: Storage) -> Nights:
    """The nights that the file of a month holds; none where there is no such file.

    Raises:
        SchemaError: It is damaged.
    """
    if name not in published.months.get(month, ()):
        return {}
    uri = month_uri(lake_uri, name, *month)
    rows = read_as_written(uri, storage)
    check_file(rows, name, uri)
    return {date: (run_id, rows.filter(pc.field("date") == date)) for date, run_id in nights_in(rows, uri).items()}


def _is_older(table: pa.Table) -> bool:
    return bool(footer_of(table, "")["schema_version"] < schema.SCHEMA_VERSION)


def _delete_unchanged(files: Mapping[str, bytes], storage: Storage) -> None:
    for uri, content in files.items():
        if storage.read_bytes(uri) == content:
            storage.delete(uri)
