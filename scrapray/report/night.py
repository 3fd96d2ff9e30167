"""The published tables of one night, of all sites, read into what pages show. Nothing is judged here again.

Every table of a site must be of one run. While an audit replaces them, or after one that stopped half-way, they are
not: then the tables of the run that ``loads`` names are taken from its own folder, and the page says so.
"""

import datetime as dt
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from scrapray.errors import SchemaError, StorageError
from scrapray.labels import MAX_SEVERITY
from scrapray.lake import published_sites, read_partition, run_of, runs_named
from scrapray.lake_care.places import published_files
from scrapray.report import wording
from scrapray.review.nights import Night as RunTables
from scrapray.review.nights import of_night, read_reviews
from scrapray.review.verdicts import judge_night
from scrapray.statistics.verdict import worst_first
from scrapray.storage import Storage

Row = dict[str, Any]
Tables = dict[str, pa.Table]
NIGHTS_BEFORE = 30
_NEEDED = ("frames", "detections", "runs", "loads")
_EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A load with all that was seen of it.

    Attributes:
        row: Of ``schema.LOADS``.
        frames: Rows of ``schema.FRAMES``, in the order of time.
        detections: Rows of ``schema.DETECTIONS``, worst first.
        run: Row of ``schema.RUNS``.
        reviewed: Row of ``schema.REVIEWED_LOADS``; None where nobody has looked.
    """

    row: Row
    frames: tuple[Row, ...]
    detections: tuple[Row, ...]
    run: Row
    reviewed: Row | None = None

    @property
    def key(self) -> tuple[str, str | None, str]:
        """Site, truck and load: one load of a night."""
        return self.row["site"], self.row["truck_id"], self.row["load_id"]

    @property
    def is_alert(self) -> bool:
        """Whether it holds a contaminant of the highest severity, as the machine or a person says."""
        said_by_people = self.reviewed["reviewed_worst_severity"] if self.reviewed else 0
        return bool(max(self.row["worst_severity"], said_by_people) >= MAX_SEVERITY)

    @property
    def is_changed(self) -> bool:
        """Whether people say another verdict than the machine."""
        return bool(self.reviewed and self.reviewed["reviewed_verdict"] != self.row["verdict"])

    @property
    def found(self) -> list[Row]:
        """Contaminants that at least one frame shows, worst first."""
        shown = (each for each in self.row["classes"] if each["max_score"] > 0)
        return sorted(shown, key=lambda each: (-each["severity"], -each["count"], -each["max_score"]))

    @property
    def zone(self) -> ZoneInfo:
        """Time zone of the yard, as the run was told."""
        return zone_of(self.run)

    @property
    def rule(self) -> Row | None:
        """The rule behind the verdict as the run's settings had it; None where none fired."""
        rules = json.loads(self.run["config_json"]).get("verdict", {}).get("rules", ())
        return next((rule for rule in rules if rule["name"] == self.row["verdict_rule"]), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteNight:
    """A night at one site.

    Attributes:
        site: Its name.
        run: Row of ``schema.RUNS``; None where nothing can be shown.
        loads: In the order of the table.
        frames: All rows of ``schema.FRAMES``, those of no load too.
        notice: What is wrong with the tables or with reviews; None where nothing is.
    """

    site: str
    run: Row | None
    loads: tuple[Load, ...] = ()
    frames: tuple[Row, ...] = ()
    notice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """A night over all sites."""

    date: dt.date
    sites: tuple[SiteNight, ...]

    @property
    def loads(self) -> list[Load]:
        """All loads, worst first."""
        loads = (load for site in self.sites for load in site.loads)
        return sorted(loads, key=lambda load: (*worst_first(load.row), load.row["site"], load.row["truck_id"] or ""))

    @property
    def notices(self) -> list[str]:
        """What is wrong with the tables of some sites."""
        return [site.notice for site in self.sites if site.notice]

    @property
    def is_whole(self) -> bool:
        """Whether every site can be shown."""
        return all(site.run for site in self.sites)

    @property
    def rejected(self) -> list[tuple[str, str | None, int, Counter[tuple[str, str]]]]:
        """Site, camera, number of its frames, and how many of them were left out, by stage and reason."""
        frames: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
        for night in self.sites:
            for frame in night.frames:
                frames[night.site, frame["camera_id"]].append(frame)
        return [(*camera, len(rows), _reasons(rows)) for camera, rows in sorted(frames.items(), key=_by_camera)]


def _by_camera(group: tuple[tuple[str, str | None], list[Row]]) -> tuple[str, bool, str]:
    site, camera_id = group[0]
    return site, camera_id is None, camera_id or ""


def _reasons(frames: Iterable[Row]) -> Counter[tuple[str, str]]:
    return Counter((row["reject_stage"], row["reject_reason"]) for row in frames if row["status"] == "rejected")


def zone_of(run: Mapping[str, Any]) -> ZoneInfo:
    """Time zone of the archive that a run has audited."""
    return ZoneInfo(json.loads(run["config_json"]).get("archive", {}).get("time_zone", "UTC"))


def read_night(lake_uri: str, date: dt.date, storage: Storage) -> Night:
    """Read what is published of a date, over all sites.

    Raises:
        SchemaError: A table is damaged, or of another version of scrapray.
        StorageError: The lake cannot be read, or has nothing of that date.
    """
    sites = {site for table in _NEEDED for site in published_sites(lake_uri, date, storage, table)}
    if not sites:
        raise StorageError(f"nothing is published for {date} in {lake_uri}; {_others(lake_uri, storage)}", "missing")
    reviews = cache(partial(read_reviews, lake_uri, storage))
    return Night(date=date, sites=tuple(_read_site(lake_uri, date, site, storage, reviews) for site in sorted(sites)))


def _others(lake_uri: str, storage: Storage) -> str:
    """What to do where a date has nothing."""
    published = published_files(lake_uri, storage)
    there = [(date, f"night there is {date}") for date, _ in published.nights]
    there += [(first, f"month there is {first:%Y-%m}") for first, _ in published.months]
    return f"the last {max(there)[1]}" if there else "it has no night at all: correct the URI, or audit one"


def _read_site(lake_uri: str, date: dt.date, site: str, storage: Storage, reviews: Callable[[], pa.Table]) -> SiteNight:
    tables = _read_tables(lake_uri, date, site, storage)
    if _is_whole(tables):
        return _with_reviews(site_night(site, tables), date, tables, reviews)
    runs = runs_named(tables)
    what = (
        ", ".join(f"{name} of run {' and '.join(map(wording.name, ids))}" for name, ids in runs.items())
        or "none has a row"
    )
    what += "".join(f", no table {name}" for name in _NEEDED if name not in tables)
    run_id = runs.get("loads", runs.get("runs", [None]))[0] if "loads" in tables else None
    whole = _read_tables(lake_uri, date, site, storage, run_id) if run_id else {}
    shown = f"what run {wording.name(run_id)} has made" if _is_whole(whole) else "nothing of this site"
    notice = (
        f"{wording.name(site)}: the tables of this night do not belong together ({what}). An audit is replacing them "
        f"just now or has stopped half-way. This report shows {shown}; run the audit again, then make the report again."
    )
    return site_night(site, whole, notice) if _is_whole(whole) else SiteNight(site=site, run=None, notice=notice)


def _with_reviews(night: SiteNight, date: dt.date, tables: Tables, reviews: Callable[[], pa.Table]) -> SiteNight:
    """What people say beside what the machine says; a night is shown without it where it cannot be read."""
    try:
        rows = judge_night(RunTables(**tables), of_night(reviews(), date, night.site))
    except SchemaError as error:
        notice = f"{wording.name(night.site)}: all verdicts are the machine's, since reviews cannot be read: {error}"
        return replace(night, notice=notice)
    reviewed = {(row["site"], row["truck_id"], row["load_id"]): row for row in rows}
    return replace(night, loads=tuple(replace(load, reviewed=reviewed.get(load.key)) for load in night.loads))


def _read_tables(lake_uri: str, date: dt.date, site: str, storage: Storage, run_id: str | None = None) -> Tables:
    """The tables that are there."""
    tables = {}
    for name in _NEEDED:
        try:
            tables[name] = read_partition(lake_uri, name, date, site, storage, run_id)
        except StorageError as error:
            if error.reason != "missing":
                raise
    return tables


def _is_whole(tables: Tables) -> bool:
    return set(tables) == set(_NEEDED) and run_of(tables) is not None


def site_night(site: str, tables: Mapping[str, pa.Table], notice: str | None = None) -> SiteNight:
    """The tables of one site, frames and detections sorted to their loads."""
    (run,) = tables["runs"].to_pylist()
    frames, detections = (tables[name].to_pylist() for name in ("frames", "detections"))
    frames_of, detections_of = _by_load(sorted(frames, key=_in_time)), _by_load(sorted(detections, key=worst_sight))
    loads = [
        Load(
            row=row,
            frames=tuple(frames_of[row["truck_id"], row["load_id"]]),
            detections=tuple(detections_of[row["truck_id"], row["load_id"]]),
            run=run,
        )
        for row in tables["loads"].to_pylist()
    ]
    return SiteNight(site=site, run=run, loads=tuple(loads), frames=tuple(frames), notice=notice)


def _by_load(rows: Iterable[Row]) -> dict[tuple[str | None, str | None], list[Row]]:
    grouped: dict[tuple[str | None, str | None], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["truck_id"], row["load_id"]].append(row)
    return grouped


def _in_time(frame: Row) -> tuple[Any, ...]:
    return frame["taken_utc"] or _EARLIEST, frame["camera_id"] or "", frame["frame_id"]


def worst_sight(detection: Row) -> tuple[Any, ...]:
    """Order of detections: the most severe first, then the surest."""
    return -detection["severity"], -detection["score"], detection["detection_id"]


def read_before(lake_uri: str, date: dt.date, storage: Storage) -> tuple[dict[dt.date, list[Row]], list[dt.date]]:
    """Rows of ``schema.LOADS`` of the last ``NIGHTS_BEFORE`` nights before a date, oldest first, as far as published.

    Returns:
        Rows by date; and dates with a table that another version of scrapray has written, which are left out.

    Raises:
        StorageError: The lake cannot be read.
    """
    nights, unreadable = {}, []
    for days in range(min(NIGHTS_BEFORE, (date - dt.date.min).days), 0, -1):
        day = date - dt.timedelta(days=days)
        try:
            tables = [
                read_partition(lake_uri, "loads", day, site, storage)
                for site in published_sites(lake_uri, day, storage)
            ]
        except SchemaError:
            unreadable.append(day)
            continue
        if tables:
            nights[day] = pa.concat_tables(tables).to_pylist()
    return nights, unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Some loads taken together: of a night, or of a supplier.

    Attributes:
        num_loads: How many.
        verdicts: Number of loads by verdict.
        num_frames: Their frames.
        num_rejected: Frames among them that could not be used.
        frac: Contamination, pooled: each load weighs as much as was seen of it; None where nothing was.
        low: Lower end of its interval: the loads' own ends, weighed alike. Errors of several loads cancel in part, so
            this is rather too wide. None where a load has none.
        high: Upper end, likewise.
    """

    num_loads: int
    verdicts: Counter[str]
    num_frames: int
    num_rejected: int
    frac: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Tally":
        """Of rows of ``schema.LOADS``."""
        seen = [row for row in rows if row["contamination_frac"] is not None]
        return cls(
            num_loads=len(rows),
            verdicts=Counter(row["verdict"] for row in rows),
            num_frames=sum(row["num_frames"] for row in rows),
            num_rejected=sum(row["num_rejected"] for row in rows),
            frac=_pooled(seen, "contamination_frac"),
            low=_pooled(seen, "contamination_low"),
            high=_pooled(seen, "contamination_high"),
        )


def _pooled(rows: Sequence[Row], column: str) -> float | None:
    weight = sum(row["seen_area_px"] for row in rows)
    if not weight or any(row[column] is None for row in rows):
        return None
    return float(sum(row[column] * row["seen_area_px"] for row in rows) / weight)


def by_supplier(rows: Iterable[Row]) -> dict[str | None, list[Row]]:
    """Loads of each supplier, those of nobody known last."""
    grouped: dict[str | None, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["supplier"]].append(row)
    return {name: grouped[name] for name in sorted(grouped, key=lambda name: (name is None, name or ""))}
