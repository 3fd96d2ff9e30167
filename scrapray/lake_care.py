"""Looking after a lake: is every row of it whole and traceable, and which old runs can go.

``verify`` only reads. ``retire`` deletes what runs have in folders of their own, never a published file; where it was
killed, the next call goes on.
"""

import datetime as dt
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from scrapray import schema
from scrapray.errors import SchemaError, StorageError
from scrapray.lake import FOOTER_KEY, conform, partition_uri, read_as_written, read_table
from scrapray.storage import Storage, absolute, join

Tables = Mapping[str, pa.Table]
Night = tuple[dt.date, str]

_PLACE = re.compile(r"(?P<table>[^/]+)/date=(?P<date>\d{4}-\d\d-\d\d)/site=(?P<site>[^/]*)/part-0\.parquet")
_PARQUET = (".parquet",)
_AUDIT_AGAIN = "audit that night again"
_ASKED = ["queue_id", "run_id", "date", "site"]
_NOT_IN_EVERY_VERSION = {"peak_score"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something in a lake that is not as it should be.

    Attributes:
        place: Date and site, or a file or folder.
        what: What is wrong.
        mend: What to do about it.
    """

    place: str
    what: str
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was looked at, and what was found."""

    num_nights: int
    num_rows: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """What became of old runs, each date and site counted.

    Attributes:
        num_deleted: Runs that were deleted.
        num_in_review: Old runs that stay because people are asked about them and no answer was imported.
        faults: What cannot be read, so that runs stay.
    """

    num_deleted: int
    num_in_review: int
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
    nights, strays = _published_nights(lake_uri, storage)
    nights = {night: tables for night, tables in nights.items() if date in (None, night[0])}
    for night in sorted(nights):
        tables, found = _read_night(lake_uri, night, nights[night], storage)
        place = f"{night[0]} {night[1]}"
        found += [Fault(place=place, what=what, mend=mend) for what, mend in _faults_of_night(night, tables)]
        faults += found
        num_rows += sum(table.num_rows for table in tables.values())
        runs[night] = {run_id for table in tables.values() for run_id in table["run_id"].unique().to_pylist()}
    if date is None:
        faults += map(_stray, strays)
        faults += _faults_of_runs(lake_uri, runs, storage)
        faults += _faults_of_reviews(lake_uri, storage)
    if not nights and not faults:
        raise nothing_published(lake_uri, date)
    return Verified(num_nights=len(nights), num_rows=num_rows, faults=tuple(faults))


def nothing_published(lake_uri: str, date: dt.date | None = None) -> StorageError:
    """What is said where a lake, or a date of it, has nothing to look at."""
    what = f"nothing is published in {lake_uri}"
    if date:
        return StorageError(f"{what} for {date}; give a date that was audited", reason="missing")
    return StorageError(
        f"{what}: it has no table of loads; give the folder or URI that scrapray audit published to", reason="missing"
    )


def retire(lake_uri: str, keep: int, storage: Storage) -> Retired:
    """Delete what old runs have made, but for the newest of each date and site, what is published and what is asked.

    The table ``runs`` of a run goes last: as long as it is there, the next call finds what is left.

    Args:
        lake_uri: The lake.
        keep: Newest runs to keep for each date and site, 1 or more.
        storage: The door to it.

    Raises:
        SchemaError: What people are asked cannot be read, so that nobody knows of which runs.
        StorageError: The lake cannot be read or written, or there is none.
    """
    assert keep >= 1, "the newest run may be one that is being written"
    folders, _ = _run_folders(lake_uri, storage)
    if not folders and not storage.list_names(join(lake_uri, "loads")):
        raise nothing_published(lake_uri)
    asked = _runs_in_review(lake_uri, storage)
    runs: dict[Night, list[str]] = defaultdict(list)
    for (run_id, night), tables in folders.items():
        if "runs" in tables:
            runs[night].append(run_id)
    old, faults = [], []
    for night, run_ids in runs.items():
        of_night, found = _old_runs(lake_uri, night, run_ids, keep, storage)
        old += [(run_id, night) for run_id in of_night]
        faults += found
    deleted = [run for run in old if run not in asked]
    _delete_runs(lake_uri, deleted, storage)
    return Retired(num_deleted=len(deleted), num_in_review=len(old) - len(deleted), faults=tuple(faults))


def _old_runs(
    lake_uri: str, night: Night, run_ids: Sequence[str], keep: int, storage: Storage
) -> tuple[list[str], list[Fault]]:
    """Runs of a night that are neither published nor among the newest, and what cannot be read of the others."""
    try:
        published = _published_runs(lake_uri, night, storage)
    except SchemaError as error:
        what = f"nobody knows which run is published, so all stay: {error}"
        return [], [Fault(place=f"{night[0]} {night[1]}", what=what, mend=_AUDIT_AGAIN)]
    finished, faults = [], []
    for run_id in run_ids:
        uri = partition_uri(lake_uri, "runs", *night, run_id)
        try:
            (moment,) = read_as_written(uri, storage, ["finished_utc"])["finished_utc"].drop_null().to_pylist()
            finished.append((moment, run_id))
        except (SchemaError, ValueError):
            mend = f"delete what {run_id} has of {night[0]} {night[1]} if nobody needs it"
            mend = f"{_AUDIT_AGAIN}: it is published" if run_id in published else mend
            faults.append(Fault(place=uri, what="does not tell how old its run is, so that it stays", mend=mend))
    by_age = [run_id for _, run_id in sorted(finished, reverse=True)]
    return [run_id for run_id in by_age[keep:] if run_id not in published], faults


def _runs_in_review(lake_uri: str, storage: Storage) -> set[tuple[str, Night]]:
    """Runs that people are asked about and have not answered: an import finds what it speaks of in their folders."""
    asked = {
        row
        for uri in storage.list_names(join(lake_uri, "_review_queues"), _PARQUET)
        for row in _rows(read_as_written(uri, storage, _ASKED), *_ASKED)
    }
    answered = set()
    for uri in storage.list_names(join(lake_uri, "reviews"), _PARQUET):
        with suppress(SchemaError):  # what it answers is unknown, so that it stays
            answered.update(read_as_written(uri, storage, ["queue_id"])["queue_id"].to_pylist())
    return {(run_id, (date, site)) for queue_id, run_id, date, site in asked if queue_id not in answered}


def _delete_runs(lake_uri: str, runs: Sequence[tuple[str, Night]], storage: Storage) -> None:
    for run_id, night in runs:
        for table in sorted(schema.PUBLISHED, key="runs".__eq__):
            storage.delete_folder(partition_uri(lake_uri, table, *night, run_id).rpartition("/")[0])
    for run_id in {run_id for run_id, _ in runs}:
        folder = join(lake_uri, "_runs", run_id)
        if not storage.list_names(folder):
            storage.delete_folder(folder)


def _published_nights(lake_uri: str, storage: Storage) -> tuple[dict[Night, set[str]], list[str]]:
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


def _run_folders(lake_uri: str, storage: Storage) -> tuple[dict[tuple[str, Night], set[str]], list[str]]:
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


def _published_runs(lake_uri: str, night: Night, storage: Storage) -> set[str]:
    """All runs that published rows of a night name: two of them when it is half published."""
    runs: set[str] = set()
    for table in schema.PUBLISHED:
        uri = partition_uri(lake_uri, table, *night)
        if storage.exists(uri):
            runs.update(read_as_written(uri, storage, ["run_id"])["run_id"].unique().to_pylist())
    return runs


def _read_night(
    lake_uri: str, night: Night, present: set[str], storage: Storage
) -> tuple[dict[str, pa.Table], list[Fault]]:
    """The tables of a night that can be read, and what is wrong with the files."""
    tables, faults = {}, []
    for name in schema.PUBLISHED:
        uri = partition_uri(lake_uri, name, *night)
        if name not in present:
            faults.append(Fault(place=uri, what="is missing", mend=_AUDIT_AGAIN))
            continue
        try:
            table = read_as_written(uri, storage)
            _check_footer(table, name, uri)
        except SchemaError as error:
            faults.append(Fault(place=uri, what=str(error).removeprefix(f"{uri} "), mend=_AUDIT_AGAIN))
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
    if strange := [name for name, table in tables.items() if set(_rows(table, "date", "site")) - {night}]:
        yield f"{', '.join(strange)} hold rows of another date or site", _AUDIT_AGAIN
    runs = {name: set(table["run_id"].to_pylist()) for name, table in tables.items() if table.num_rows}
    if len(set().union(*runs.values())) > 1:
        said = "; ".join(f"{name} of {', '.join(sorted(ids))}" for name, ids in runs.items())
        yield f"is half published: {said}", f"{_AUDIT_AGAIN}, or copy the tables of one run from its folder in _runs"
        return
    if set(tables) != set(schema.PUBLISHED):
        return
    if tables["runs"].num_rows != 1:
        yield f"has {tables['runs'].num_rows} rows in runs, so that its rows cannot be traced", _AUDIT_AGAIN
        return
    yield from ((what, _AUDIT_AGAIN) for what in _faults_of_rows(tables))


def _faults_of_rows(tables: Tables) -> Iterator[str]:
    """What does not fit together in the tables of one run."""
    (run,) = tables["runs"].to_pylist()
    frames: dict[str, str] = dict(_rows(tables["frames"], "frame_id", "status"))
    num_used = sum(status == "used" for status in frames.values())
    counted = {
        "num_frames": tables["frames"].num_rows,
        "num_used": num_used,
        "num_rejected": tables["frames"].num_rows - num_used,
        "num_loads": tables["loads"].num_rows,
    }
    for name, count in counted.items():
        if run[name] != count:
            yield f"runs says {name} = {run[name]}, the tables hold {count}"
    if len(frames) != tables["frames"].num_rows:
        yield "a frame stands twice in frames"
    yield from _faults_of_detections(tables, {name for name, status in frames.items() if status == "used"})
    yield from _faults_of_loads(tables, set(frames))


def _faults_of_detections(tables: Tables, used: set[str]) -> Iterator[str]:
    """What does not fit to the frames that were used, and to what these say was detected on them."""
    frames, detections = tables["frames"], tables["detections"]
    if len(detections["detection_id"].unique()) != detections.num_rows:
        yield "a detection stands twice in detections"
    places = set(_rows(detections, "frame_id", "truck_id", "load_id"))
    yield from _unknown("frames of detections", {frame for frame, *_ in places} - used, "frames with status used")
    if moved := {row[0] for row in places - set(_rows(frames, "frame_id", "truck_id", "load_id"))} & used:
        yield f"detections name another truck or load than their frame: {_some(moved)}"
    classes = frames["classes"].combine_chunks()
    found = pc.list_flatten(classes)
    of_class = {name: pc.struct_field(found, name) for name in ("class_name", "num_detections")}
    said = pa.table({"frame_id": frames["frame_id"].take(pc.list_parent_indices(classes)), **of_class})
    said = said.filter(pc.field("num_detections") > 0)
    said = said.group_by(["frame_id", "class_name"]).aggregate([("num_detections", "sum")])
    there = detections.group_by(["frame_id", "class_name"]).aggregate([([], "count_all")])
    said_rows = set(_rows(said, "frame_id", "class_name", "num_detections_sum"))
    if differing := {row[0] for row in said_rows ^ set(_rows(there, "frame_id", "class_name", "count_all"))}:
        yield f"detections are not as many as frames say: {_some(differing)}"


def _faults_of_loads(tables: Tables, frame_ids: set[str]) -> Iterator[str]:
    """What does not fit to the frames that loads were made of, and to trucks."""
    loads = tables["loads"]
    evidence = {frame_id for ids in loads["evidence_frame_ids"].to_pylist() for frame_id in ids}
    yield from _unknown("evidence frames of loads", evidence - frame_ids, "frames")
    names = set(_rows(loads, "truck_id", "load_id"))
    if len(names) != loads.num_rows:
        yield "a load stands twice in loads"
    num_frames: Counter[Any] = Counter()
    num_used: Counter[Any] = Counter()
    for truck, load, status in _rows(tables["frames"], "truck_id", "load_id", "status"):
        if load is not None:
            num_frames[truck, load] += 1
            num_used[truck, load] += status == "used"
    yield from _unknown("loads of frames", {load for _, load in set(num_frames) - names}, "loads")
    if empty := {load for _, load in names - set(num_frames)}:
        yield f"loads have no frame: {_some(empty)}"
    differing = {
        load
        for truck, load, *said in _rows(loads, "truck_id", "load_id", "num_frames", "num_used")
        if (truck, load) in num_frames and said != [num_frames[truck, load], num_used[truck, load]]
    }
    if differing:
        yield f"loads have other numbers of frames than they say: {_some(differing)}"
    trucks = {truck for truck, _ in names if truck is not None}
    yield from _unknown("trucks of loads", trucks - set(tables["trucks"]["truck_id"].to_pylist()), "trucks")


def _unknown(what: str, names: set[Any], table: str) -> Iterator[str]:
    if names:
        yield f"{what} are not in {table}: {_some(names)}"


def _some(names: set[Any]) -> str:
    """One of them, and how many more there are."""
    return f"{min(names)}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"


def _rows(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].to_pylist() for name in names), strict=True)


def _stray(uri: str) -> Fault:
    return Fault(place=uri, what="is no table of a night", mend="delete it, or keep it elsewhere")


def _faults_of_runs(lake_uri: str, published: Mapping[Night, set[str]], storage: Storage) -> Iterator[Fault]:
    """Folders of runs that no published night can go back to, and published runs that have none."""
    folders, strays = _run_folders(lake_uri, storage)
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
                mend=f"{_AUDIT_AGAIN}, or delete it",
            )
    for night, run_ids in sorted(published.items()):
        for run_id in sorted(run_ids):
            if (run_id, night) not in folders:
                yield Fault(
                    place=f"{night[0]} {night[1]}",
                    what=f"{run_id} is published and not in _runs: once another run is, nobody can go back to it",
                    mend=f"{_AUDIT_AGAIN}, or keep a copy of its tables",
                )


def _faults_of_reviews(lake_uri: str, storage: Storage) -> Iterator[Fault]:
    """What people were asked and what they said, where it cannot be read."""
    for folder, columns in (("reviews", schema.REVIEWS), ("_review_queues", schema.REVIEW_QUEUE)):
        for uri in storage.list_names(join(lake_uri, folder), _PARQUET):
            try:
                read_table(uri, columns, storage)
            except SchemaError as error:
                mend = "put it back from a copy, or move it out of the lake and do that import or export again"
                yield Fault(place=uri, what=str(error).removeprefix(f"{uri} "), mend=mend)
