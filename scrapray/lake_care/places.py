"""What lies where in a lake: tables that are published, what runs have made, and files that are neither."""

import datetime as dt
import re
from collections import defaultdict
from urllib.parse import unquote

from scrapray import schema
from scrapray.lake import partition_uri
from scrapray.storage import Storage, absolute, join

Night = tuple[dt.date, str]

_PLACE = re.compile(r"(?P<table>[^/]+)/date=(?P<date>\d{4}-\d\d-\d\d)/site=(?P<site>[^/]*)/part-0\.parquet")


def published_nights(lake_uri: str, storage: Storage) -> tuple[dict[Night, set[str]], list[str]]:
    """Which tables of which dates and sites are published; and files that are no such table."""
    nights: dict[Night, set[str]] = defaultdict(set)
    strays = []
    for table in schema.PUBLISHED:
        for uri in storage.list_names(join(lake_uri, table)):
            if place := _place_of(uri, absolute(lake_uri)):
                nights[place[1]].add(table)
            else:
                strays.append(uri)
    return dict(nights), strays


def run_folders(lake_uri: str, storage: Storage) -> tuple[dict[tuple[str, Night], set[str]], list[str]]:
    """The tables that each run has in its own folder, by run, date and site; and files that are no such table."""
    folders: dict[tuple[str, Night], set[str]] = defaultdict(set)
    strays = []
    root = join(absolute(lake_uri), "_runs")
    for uri in storage.list_names(root):
        run_id = uri.removeprefix(f"{root}/").partition("/")[0]
        if place := _place_of(uri, join(root, run_id)):
            folders[run_id, place[1]].add(place[0])
        else:
            strays.append(uri)
    return dict(folders), strays


def _place_of(uri: str, root_uri: str) -> tuple[str, Night] | None:
    """Table, date and site that a file below a lake or a run holds; None for any other file, copies of tables too."""
    match = _PLACE.fullmatch(uri.removeprefix(f"{root_uri.rstrip('/')}/"))
    if not match or match["table"] not in schema.PUBLISHED:
        return None
    try:
        night = dt.date.fromisoformat(match["date"]), unquote(match["site"])
    except ValueError:  # a 31st of June
        return None
    return (match["table"], night) if uri == partition_uri(root_uri, match["table"], *night) else None
