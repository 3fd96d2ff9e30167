"""What lies where in a lake: tables that are published, what runs have made, and files that are neither."""

import datetime as dt
import re
from collections import defaultdict
from dataclasses import dataclass, field
from urllib.parse import unquote

from scrapray import schema
from scrapray.lake import month_uri, partition_uri
from scrapray.storage import Storage, absolute, join

Night = tuple[dt.date, str]
"""Date and site."""
Month = tuple[dt.date, str]
"""First day and site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What lies in the folders of published tables.

    Attributes:
        nights: Tables that have a file for a night.
        months: Tables that have a file for a month.
        strays: Files that are neither.
    """

    nights: dict[Night, set[str]] = field(default_factory=lambda: defaultdict(set))
    months: dict[Month, set[str]] = field(default_factory=lambda: defaultdict(set))
    strays: list[str] = field(default_factory=list)


def published_files(lake_uri: str, storage: Storage) -> Published:
    """All files in the folders of published tables.

    Raises:
        StorageError: The lake cannot be read.
    """
    found, root = Published(), absolute(lake_uri)
    for table in schema.PUBLISHED:
        for uri in storage.list_names(join(root, table)):
            if night := _night_of(uri, table, root):
                found.nights[night].add(table)
            elif month := _month_of(uri, table, root):
                found.months[month].add(table)
            else:
                found.strays.append(uri)
    return found


def run_folders(lake_uri: str, storage: Storage) -> tuple[dict[tuple[str, Night], set[str]], list[str]]:
    """The tables that each run has in its own folder, by run, date and site; and files that are no such table."""
    folders: dict[tuple[str, Night], set[str]] = defaultdict(set)
    strays = []
    root = join(absolute(lake_uri), "_runs")
    for uri in storage.list_names(root):
        run_id, _, place = uri.removeprefix(f"{root}/").partition("/")
        table = place.partition("/")[0]
        if night := _night_of(uri, table, join(root, run_id)):
            folders[run_id, night].add(table)
        else:
            strays.append(uri)
    return dict(folders), strays


def _night_of(uri: str, table: str, root_uri: str) -> Night | None:
    """Date and site of a file of a table; None for any other file, copies at another place too."""
    night = _named(uri)
    return night if night and table in schema.PUBLISHED and uri == partition_uri(root_uri, table, *night) else None


def _month_of(uri: str, table: str, root_uri: str) -> Month | None:
    """The same for the file of a month."""
    month = _named(uri, "-01")
    return month if month and uri == month_uri(root_uri, table, *month) else None


def _named(uri: str, day: str = "") -> tuple[dt.date, str] | None:
    match = re.search("/date=([^/]+)/site=([^/]*)/[^/]+$", uri)
    try:
        return (dt.date.fromisoformat(match[1] + day), unquote(match[2])) if match else None
    except ValueError:  # a 31st of June
        return None
