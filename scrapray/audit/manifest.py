"""Which frames an archive holds, and which truck and load each of them shows.

    <manifest>/date=YYYY-MM-DD/part-0.parquet     one row per archived frame, in the order of time

``date`` is the local calendar date at the site. All frames that the gate log gives to a load have the date of its
first moment; all others have their own, so a load that only the time-gap rule knows ends at midnight, and so does the
search for duplicates. Frames whose keys tell no date have that of their last change, which in an archive that was
copied may be any; when one date is indexed, those of other dates are counted. Content is compared by what S3 tells of
it; in folders, where that would mean to read every file, the audit finds what repeats, by the same rule.

A gate log that was corrected, or a late upload, may move frames into or out of dates that were indexed before. When one
date is indexed, those beside it are compared with the archive, and what differs is told.

Memory: pages of the listing go to one spool file per date on the local disk, then one date at a time is finished.
"""

import datetime
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from scrapray import schema
from scrapray.audit.gate_log import GateLog, read_gate_log
from scrapray.config import ArchiveConfig, GateLogConfig
from scrapray.errors import FrameError, SchemaError, StorageError
from scrapray.keys import KeyGrammar, frame_id_of, grammar_of
from scrapray.lake import read_table, write_table
from scrapray.statistics.repeats import Look, Repeat, find_repeats
from scrapray.storage import Storage, StoredObject, absolute, join

_Row = dict[str, Any]
_PLACE = pa.field("place", pa.string())
_SPOOLED = schema.MANIFEST.append(_PLACE)
_DECIDED = ["load_id", "load_source", "reject_stage", "reject_reason", "duplicate_of"]
_COMPARED = ["frame_id", "etag", "size_bytes", "site", "camera_id", "place", "truck_id", *_DECIDED]
_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
_ONE_DAY = datetime.timedelta(days=1)
_FAULTS_SHOWN = 10
_ROWS_IN_MEMORY = 20_000
_MD5_ETAG = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")
"""What S3 gives for content: the MD5, or the MD5 of the MD5s of that many parts."""
_PART = "part-0.parquet"
_MANIFEST_FILE = re.compile(rf"(date=[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}/)?{re.escape(_PART)}")


class Change(NamedTuple):
    """How many frames a manifest lacks, has too many, and tells otherwise than archive and gate log do by now."""

    come: int
    gone: int
    told_otherwise: int


@dataclass(slots=True)
class IndexSummary:
    """What was found in an archive.

    Attributes:
        num_other_keys: Keys without an ending of a picture; they are in no table.
        num_undated: Frames left out of the one date that was indexed, since their keys tell no date and they were last
            changed on another one.
        rejected: Number of frames for each reason.
        gate_log_faults: One sentence for each record of the gate log that was left out or overlaps another.
        outdated: Of the dates beside the one indexed, those whose manifest is no longer what the archive and the gate
            log say.
    """

    num_frames: int = 0
    num_other_keys: int = 0
    num_undated: int = 0
    size_bytes: int = 0
    num_loads: int = 0
    num_trucks: int = 0
    dates: list[datetime.date] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    load_sources: Counter[str] = field(default_factory=Counter)
    gate_log_faults: list[str] = field(default_factory=list)
    outdated: dict[datetime.date, Change] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        shown, hidden = self.gate_log_faults[:_FAULTS_SHOWN], self.gate_log_faults[_FAULTS_SHOWN:]
        lines = [
            f"{self.num_frames} frames ({self.size_bytes / 1e9:.2f} GB) of {self.num_loads} loads and "
            f"{self.num_trucks} trucks on {len(self.dates)} dates in {self.seconds:.1f} s",
            "load known from: " + _listed(self.load_sources),
            "rejected: " + _listed(self.rejected),
            f"other keys: {self.num_other_keys}",
            *(
                [
                    f"left out: {self.num_undated} frames whose keys tell no date, last changed on other dates; "
                    "correct key_pattern, or index without --date to keep them"
                ]
                if self.num_undated
                else []
            ),
            *(f"gate log: {fault}" for fault in shown),
            *([f"gate log: {len(hidden)} faults more"] if hidden else []),
            *(
                f"{day} has changed since it was indexed: {change.come} frames have come, {change.gone} have gone "
                f"(late, or given to another date by the gate log), {change.told_otherwise} are told otherwise (of "
                f"another truck or load, for instance); index and audit it again"
                for day, change in self.outdated.items()
            ),
        ]
        return "\n".join(lines)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def index_archive(
    archive_uri: str,
    manifest_uri: str,
    *,
    storage: Storage,
    archive: ArchiveConfig,
    gate_log: GateLogConfig | None = None,
    date: datetime.date | None = None,
    progress: Callable[[int], None] | None = None,
) -> IndexSummary:
    """List an archive and write its manifest, replacing the dates that it finds.

    Args:
        archive_uri: Bucket, prefix or folder.
        manifest_uri: Folder of the manifest. Without ``date`` it holds just this archive afterwards: dates that the
            archive has no more are removed.
        storage: Door to both.
        archive: What keys mean.
        gate_log: The yard's arrivals, for frames whose key names no load.
        date: The one date to index.
        progress: Called with the number of keys listed so far.

    Raises:
        ConfigurationError: The key pattern cannot work.
        SchemaError: The gate log has not the columns it must have, or no record that can be read.
        StorageError: Archive, gate log or manifest cannot be reached.
    """
    started = time.monotonic()
    manifest_uri = absolute(manifest_uri)
    grammar = grammar_of(archive, gate_log)
    arrivals = read_gate_log(gate_log, storage, archive.time_zone) if gate_log else GateLog([])
    summary = IndexSummary(gate_log_faults=arrivals.faults)
    beside = days_beside(date) if date else []
    with tempfile.TemporaryDirectory(prefix="scrapray-index-") as folder:
        spool = _Spool(Path(folder))
        for stored in _frames(storage, archive_uri, archive.suffixes, summary, progress):
            row = _describe(stored, grammar, arrivals)
            if row["date"] is None:
                row["date"] = stored.modified_utc.astimezone(grammar.zone).date()
                summary.num_undated += date not in (None, row["date"])
            if date is None or row["date"] in (date, *beside):
                spool.add(row)
        _write_dates(spool, manifest_uri, archive, date, storage, summary)
        for day in beside:
            if change := _change(spool, manifest_uri, day, archive, storage):
                summary.outdated[day] = change
    summary.seconds = time.monotonic() - started
    return summary


def days_beside(date: datetime.date) -> list[datetime.date]:
    """The day before and the day after, as far as the calendar has them."""
    return [date + step for step in (-_ONE_DAY, _ONE_DAY) if datetime.date.min < date < datetime.date.max]


def read_manifest(manifest_uri: str, storage: Storage, date: datetime.date | None = None) -> pa.Table:
    """Read a manifest, of all dates or of one.

    Raises:
        SchemaError: A file has not exactly the columns of a manifest, or a frame stands in two dates.
        StorageError: There is none.
    """
    uris = [_date_uri(manifest_uri, date)] if date else _manifest_files(absolute(manifest_uri), storage)
    if not uris or (date and not storage.exists(uris[0])):
        what = f"of {date} " if date else ""
        raise StorageError(f"there is no manifest {what}in {manifest_uri}; run scrapray index first", reason="missing")
    manifest = pa.concat_tables([read_table(uri, schema.MANIFEST, storage) for uri in uris])
    counts = manifest.group_by("frame_id").aggregate([("uri", "count"), ("date", "list"), ("uri", "min")])
    for twice in counts.filter(pc.field("uri_count") > 1).slice(length=1).to_pylist():
        days = " and ".join(str(day) for day in sorted(twice["date_list"]))
        raise SchemaError(
            f"{manifest_uri}: {twice['uri_min']} stands there twice, at {days}: the gate log has changed between; "
            "index again without --date"
        )
    return manifest


def _change(
    spool: "_Spool", manifest_uri: str, day: datetime.date, archive: ArchiveConfig, storage: Storage
) -> Change | None:
    """What has changed of a date; None where all is right or it was never indexed."""
    date_uri = _date_uri(manifest_uri, day)
    if not storage.exists(date_uri):
        return None
    listed = _by_frame(_finish(spool.read(day), archive.max_gap_s, ZoneInfo(archive.time_zone)))
    try:
        indexed = _by_frame(read_table(date_uri, schema.MANIFEST, storage))
    except SchemaError:  # of another version
        indexed = {}
    change = Change(
        come=len(listed.keys() - indexed.keys()),
        gone=len(indexed.keys() - listed.keys()),
        told_otherwise=sum(listed[name] != indexed[name] for name in listed.keys() & indexed.keys()),
    )
    return change if any(change) else None


def _by_frame(manifest: pa.Table) -> dict[str, _Row]:
    return {row["frame_id"]: row for row in manifest.to_pylist()}


def _frames(
    storage: Storage,
    archive_uri: str,
    suffixes: tuple[str, ...],
    summary: IndexSummary,
    progress: Callable[[int], None] | None,
) -> Iterator[StoredObject]:
    num_listed = 0
    for page in storage.list_pages(archive_uri):
        pictures = [stored for stored in page if stored.key.lower().endswith(suffixes)]
        summary.num_other_keys += len(page) - len(pictures)
        yield from pictures
        num_listed += len(page)
        if progress:
            progress(num_listed)


def _describe(stored: StoredObject, grammar: KeyGrammar, arrivals: GateLog) -> _Row:
    """What is known of one frame by itself; its date is None where the key tells none."""
    row: _Row = dict.fromkeys(_SPOOLED.names)
    row["frame_id"] = frame_id_of(stored.uri, stored.etag)
    row["uri"] = stored.uri
    row["etag"] = stored.etag
    row["size_bytes"] = stored.size_bytes
    if stored.size_bytes == 0:
        row["reject_reason"] = "empty_object"
    try:
        parts = grammar.parse(stored.key)
    except FrameError as error:
        row["reject_reason"] = error.reason
        row["site"] = grammar.site or "unknown"
        row["date"] = grammar.date_of(stored.key)
    else:
        row |= parts._asdict()
        _place_in_load(row, arrivals)
    row["reject_stage"] = row["reject_reason"] and "manifest"
    return row


def _place_in_load(row: _Row, arrivals: GateLog) -> None:
    """Say which load a frame shows, as far as its key or the gate log know."""
    if row["load_id"] is not None:
        row["load_source"] = "key"
    elif row["place"] is not None:
        arrival = arrivals.find(row["site"], row["place"], row["taken_utc"])
        if arrival:
            row |= {name: getattr(arrival, name) for name in ("truck_id", "load_id", "date")}
            row["supplier"] = arrival.supplier or row["supplier"]
            row["load_source"] = "gate_log"


class _Spool:
    """Rows put aside on the local disk, one file per date, at most ``_ROWS_IN_MEMORY`` of them in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[datetime.date, list[_Row]] = defaultdict(list)
        self._num_waiting = 0

    def add(self, row: _Row) -> None:
        self._waiting[row["date"]].append(row)
        self._num_waiting += 1
        if self._num_waiting >= _ROWS_IN_MEMORY:
            self._put_aside()

    def dates(self) -> list[datetime.date]:
        self._put_aside()
        return sorted(datetime.date.fromisoformat(path.name) for path in self._folder.iterdir())

    def read(self, date: datetime.date) -> pa.Table:
        self._put_aside()
        path = self._folder / date.isoformat()
        batches: list[pa.RecordBatch] = []
        if path.exists():
            with pa.OSFile(str(path)) as file:
                while file.tell() < file.size():
                    batches.extend(pa.ipc.open_stream(file))
        return pa.Table.from_batches(batches, _SPOOLED)

    def _put_aside(self) -> None:
        for date, rows in self._waiting.items():
            batch = pa.RecordBatch.from_pylist(rows, _SPOOLED)
            try:
                self._append(batch, self._folder / date.isoformat())
            except OSError as error:
                raise StorageError(
                    f"cannot put the listing aside in {self._folder}: {error}; set TMPDIR to a disk with room",
                    reason="disk_full",
                ) from error
        self._waiting.clear()
        self._num_waiting = 0

    def _append(self, batch: pa.RecordBatch, path: Path) -> None:
        with path.open("ab") as file, pa.ipc.new_stream(file, _SPOOLED) as stream:
            stream.write_batch(batch)


def _write_dates(
    spool: _Spool,
    manifest_uri: str,
    archive: ArchiveConfig,
    date: datetime.date | None,
    storage: Storage,
    summary: IndexSummary,
) -> None:
    """Finish and write one date after the other; an archive without frames gets an empty manifest."""
    written = set()
    trucks: set[tuple[str, str]] = set()
    for day in [date] if date else spool.dates():
        table = _finish(spool.read(day), archive.max_gap_s, ZoneInfo(archive.time_zone))
        write_table(table, schema.MANIFEST, _date_uri(manifest_uri, day), storage)
        written.add(_date_uri(manifest_uri, day))
        _count(day, table, summary, trucks)
    if not written:
        written.add(join(manifest_uri, _PART))
        write_table(schema.MANIFEST.empty_table(), schema.MANIFEST, join(manifest_uri, _PART), storage)
    for uri in _manifest_files(manifest_uri, storage):
        if uri not in written and (date is None or uri == join(manifest_uri, _PART)):
            storage.delete(uri)


def _finish(spooled: pa.Table, max_gap_s: float, zone: ZoneInfo) -> pa.Table:
    """What is known of the frames of one date only beside each other: loads by time, and repeats."""
    table = spooled.sort_by([("taken_utc", "ascending"), ("uri", "ascending")])
    taken_us = table.column("taken_utc").cast(pa.int64())  # datetimes would be most of the time of an index
    rows = table.select(_COMPARED).append_column("taken_us", taken_us).to_pylist()
    _assign_time_gap_loads(rows, max_gap_s, zone)
    _mark_repeats(rows)
    for name in _DECIDED:
        decided = pa.array([row[name] for row in rows], pa.string())
        table = table.set_column(table.column_names.index(name), name, decided)
    return table.select(schema.MANIFEST.names)


def _assign_time_gap_loads(rows: list[_Row], max_gap_s: float, zone: ZoneInfo) -> None:
    """Give frames without a recorded load one of their own: a run of one place without a longer pause.

    A recorded load or another truck at the place ends the run. The name is the place and the local time of the first
    frame.
    """
    running: dict[tuple[str, str | None], _Row] = {}
    for row in rows:
        if row["taken_us"] is None:
            continue
        key = (row["site"], row["place"])
        before = running.pop(key, None)
        if row["load_id"] is not None:
            continue
        if before and before["truck_id"] == row["truck_id"] and row["taken_us"] - before["taken_us"] <= max_gap_s * 1e6:
            row["load_id"] = before["load_id"]
        else:
            first = datetime.datetime.fromtimestamp(row["taken_us"] / 1e6, zone)
            row["load_id"] = f"{row['place'] or row['site']}-{first:%Y%m%dT%H%M%S%z}"
        row["load_source"] = "time_gap"
        running[key] = row


def _mark_repeats(rows: list[_Row]) -> None:
    """Reject frames that repeat the site, camera and time, or the content, of one before them.

    Of content that S3 tells, this says what an audit would say that had read it.
    """
    moments: dict[tuple[str, str, int], str] = {}
    for row in rows:
        if row["camera_id"] and not row["reject_stage"]:
            first = moments.setdefault((row["site"], row["camera_id"], row["taken_us"]), row["frame_id"])
            if first != row["frame_id"]:
                row |= _repeat(Repeat("manifest", "duplicate_key", first))
    repeats = find_repeats(map(_look, filter(_tells_content, rows)), max_difference=0)
    for row in rows:
        if repeat := repeats.get(row["frame_id"]):
            row |= _repeat(repeat)


def _repeat(repeat: Repeat) -> _Row:
    return {"reject_stage": repeat.stage, "reject_reason": repeat.reason, "duplicate_of": repeat.of}


def _tells_content(row: _Row) -> bool:
    return not row["reject_stage"] and _MD5_ETAG.fullmatch(row["etag"]) is not None


def _look(row: _Row) -> Look:
    """What S3 tells of a frame's content, in place of the hash that an audit takes of its bytes."""
    return Look(
        frame_id=row["frame_id"],
        load_key=(row["site"], row["truck_id"], row["load_id"]),
        camera_key=(row["site"], row["camera_id"]) if row["camera_id"] else None,
        taken_utc=_EPOCH + datetime.timedelta(microseconds=row["taken_us"]),
        content_sha256=f"{row['etag']} {row['size_bytes']}",
        thumbnail=None,
    )


def _count(day: datetime.date, table: pa.Table, summary: IndexSummary, trucks: set[tuple[str, str]]) -> None:
    """Add one finished date to the summary."""
    rows = table.select(["site", "truck_id", "load_id", "load_source", "reject_reason"]).to_pylist()
    loads = {(row["site"], row["truck_id"], row["load_id"]) for row in rows if row["load_id"]}
    trucks.update((row["site"], row["truck_id"]) for row in rows if row["truck_id"])
    summary.dates.append(day)
    summary.num_frames += table.num_rows
    summary.size_bytes += pc.sum(table.column("size_bytes")).as_py() or 0
    summary.num_loads += len(loads)
    summary.num_trucks = len(trucks)
    summary.rejected.update(row["reject_reason"] for row in rows if row["reject_reason"])
    summary.load_sources.update(row["load_source"] for row in rows if row["load_source"])


def _date_uri(manifest_uri: str, date: datetime.date) -> str:
    return join(manifest_uri, f"date={date.isoformat()}", _PART)


def _manifest_files(manifest_uri: str, storage: Storage) -> list[str]:
    """The files of a manifest; whatever else lies in its folder is not ours."""
    start = len(join(manifest_uri, ""))
    return [uri for uri in storage.list_names(manifest_uri) if _MANIFEST_FILE.fullmatch(uri[start:])]
