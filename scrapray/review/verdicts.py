"""What the rules of the yard say of a load once people have looked at some of its frames.

Beside the machine's verdict, never in its place: nothing that is published changes. ``docs/review.md`` says the rule in
full. In short, a reviewed frame shows what its reviewers found on it, any other frame what the machine found, and the
rules of the run judge both together.
"""

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from scrapray import schema
from scrapray.config import VerdictRule
from scrapray.errors import SchemaError, StorageError
from scrapray.imagery.masks import joint_area
from scrapray.review.nights import Night, latest, of_night, read_night, read_reviews
from scrapray.review.queue import thresholds_of
from scrapray.statistics.contamination import Contamination
from scrapray.statistics.loads import AuditedFrame, ClassOnFrame, LoadStatistics, audited_frame
from scrapray.statistics.verdict import ClassOfLoad, LoadFindings, judge
from scrapray.storage import Storage

_log = logging.getLogger(__name__)
METHOD = "ratio+review"
"""Contamination of which people outlined a part; the machine's error in area does not hold for it, so no interval."""
_SURE = 1.0
"""Score and certainty of what a person has seen."""


def reviewed_loads(lake_uri: str, date: dt.date, site: str, storage: Storage) -> pa.Table:
    """The loads of a night that were reviewed, with both verdicts: ``schema.REVIEWED_LOADS``.

    Raises:
        SchemaError: Another version of scrapray has written the night or a review.
        StorageError: The lake cannot be read.
    """
    return _reviewed_loads(lake_uri, date, site, read_reviews(lake_uri, storage), storage)


def all_reviewed_loads(lake_uri: str, storage: Storage) -> pa.Table:
    """The same of every night of which a frame was reviewed; other nights are not read.

    A night that is damaged or gone is passed over with a warning in the log: the others are still true.

    Raises:
        SchemaError: Another version of scrapray has written a review.
        StorageError: The lake cannot be read.
    """
    reviews = read_reviews(lake_uri, storage)
    nights = reviews.group_by(["date", "site"]).aggregate([]).sort_by([("date", "ascending"), ("site", "ascending")])
    tables = []
    for night in nights.to_pylist():
        try:
            tables.append(_reviewed_loads(lake_uri, night["date"], night["site"], reviews, storage))
        except (SchemaError, StorageError) as error:
            if isinstance(error, StorageError) and error.reason != "missing":
                raise
            _log.warning("no verdicts of %s %s, which was reviewed: %s", night["date"], night["site"], error)
    return pa.concat_tables([schema.REVIEWED_LOADS.empty_table(), *tables])


def _reviewed_loads(lake_uri: str, date: dt.date, site: str, reviews: pa.Table, storage: Storage) -> pa.Table:
    reviews = of_night(reviews, date, site)
    if not reviews.num_rows:
        return schema.REVIEWED_LOADS.empty_table()
    rows = judge_night(read_night(lake_uri, date, site, storage), reviews)
    return pa.Table.from_pylist(rows, schema.REVIEWED_LOADS)


def judge_night(night: Night, reviews: pa.Table) -> list[dict[str, Any]]:
    """Judge a night by the rules of its run, see ``judge_again``; without reviews the rules are not looked at.

    Raises:
        SchemaError: Another version of scrapray has written the rules.
    """
    return judge_again(night.frames, night.loads, reviews, night.verdicts.rules) if reviews.num_rows else []


def judge_again(
    frames: pa.Table, loads: pa.Table, reviews: pa.Table, rules: Sequence[VerdictRule]
) -> list[dict[str, Any]]:
    """Judge the loads of a night of which a used frame was reviewed.

    Args:
        frames: Of ``schema.FRAMES``, as published.
        loads: Of ``schema.LOADS``, likewise.
        reviews: Of ``schema.REVIEWS`` in the order of time; those of other frames have no part in it.
        rules: Of the run.

    Returns:
        Rows of ``schema.REVIEWED_LOADS``.
    """
    looks = _looks(latest(reviews, by=("reviewer",)))
    thresholds = thresholds_of(loads)
    of_load: dict[tuple[str | None, str], list[AuditedFrame]] = defaultdict(list)
    for row in frames.to_pylist():
        if row["load_id"] is not None:
            of_load[row["truck_id"], row["load_id"]].append(audited_frame(row))
    rows = []
    for load in loads.to_pylist():
        statistics = LoadStatistics.of(of_load[load["truck_id"], load["load_id"]])
        seen = {frame.frame_id: looks[frame.frame_id] for frame in statistics.used if frame.frame_id in looks}
        if seen:
            rows.append(_judge(load, statistics, seen, thresholds, rules))
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What people found on a frame; where several looked, the most that any of them found of each class.

    Attributes:
        classes: What is there, with the score of what is sure.
        area_px: Pixels of all objects together.
        severities: Of the classes.
    """

    classes: tuple[ClassOnFrame, ...]
    area_px: int
    severities: Mapping[str, int]
    reviewers: frozenset[str]
    last_utc: dt.datetime
    is_disputed: bool

    def on(self, frame: AuditedFrame) -> AuditedFrame:
        """The frame with this in place of what the machine found; what was found somewhere was seen there."""
        seen_area_px = max(frame.seen_area_px, self.area_px)
        return replace(frame, classes=self.classes, contaminated_area_px=self.area_px, seen_area_px=seen_area_px)


def _looks(reviews: Iterable[Mapping[str, Any]]) -> dict[str, _Look]:
    """What was found on each frame, by the last review of each reviewer."""
    of_frame: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in reviews:
        of_frame[row["frame_id"]][row["reviewer"]].append(row)
    return {frame_id: _look(by_reviewer) for frame_id, by_reviewer in of_frame.items()}


def _look(by_reviewer: Mapping[str, Sequence[Mapping[str, Any]]]) -> _Look:
    found = [_found(rows) for rows in by_reviewer.values()]
    names = sorted({name for each in found for name in each})
    # The area is counted last: it breaks ties between reviewers who found equally many.
    most = {name: max((each[name] for each in found if name in each), key=_amount) for name in names}
    rows = [row for rows in by_reviewer.values() for row in rows]
    return _Look(
        classes=tuple(most.values()),
        area_px=max(joint_area([row["mask"] for row in rows if row["mask"]]) for rows in by_reviewer.values()),
        severities={row["class_name"]: row["severity"] for row in rows if row["class_name"]},
        reviewers=frozenset(by_reviewer),
        last_utc=max(row["reviewed_utc"] for row in rows),
        is_disputed=len({tuple((name, each[name].num_detections) for name in sorted(each)) for each in found}) > 1,
    )


def _amount(found: ClassOnFrame) -> tuple[int, int]:
    return found.num_detections, found.area_px


def _found(rows: Sequence[Mapping[str, Any]]) -> dict[str, ClassOnFrame]:
    """What one reviewer found on a frame, by class."""
    masks: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["class_name"]:
            masks[row["class_name"]].append(row["mask"])
    return {
        name: ClassOnFrame(class_name=name, area_px=joint_area(of), num_detections=len(of), max_score=_SURE)
        for name, of in masks.items()
    }


def _judge(
    load: Mapping[str, Any],
    statistics: LoadStatistics,
    looks: Mapping[str, _Look],
    thresholds: Mapping[str, float],
    rules: Sequence[VerdictRule],
) -> dict[str, Any]:
    reviewed = LoadStatistics.of(looks[f.frame_id].on(f) if f.frame_id in looks else f for f in statistics.frames)
    severities = {name: weight for look in looks.values() for name, weight in look.severities.items()}
    severities |= {each["class_name"]: each["severity"] for each in load["classes"]}
    contaminated_px = sum(frame.contaminated_area_px for frame in reviewed.used)
    frac = contaminated_px / reviewed.seen_area_px if reviewed.seen_area_px else None
    findings = LoadFindings(
        num_frames=len(reviewed.frames),
        num_used=len(reviewed.used),
        coverage_frac=statistics.coverage_frac,
        contamination=Contamination(frac, None, None, METHOD),
        classes=tuple(
            _class_of_load(name, weight, reviewed, looks, thresholds.get(name, 0.0))
            for name, weight in severities.items()
        ),
    )
    verdict = judge(findings, rules)
    names = [name for name in schema.REVIEWED_LOADS.names if name in schema.LOADS.names]
    return {name: load[name] for name in names} | {
        "num_reviewed": len(looks),
        "reviewers": sorted({name for look in looks.values() for name in look.reviewers}),
        "last_reviewed_utc": max(look.last_utc for look in looks.values()),
        "is_disputed": any(look.is_disputed for look in looks.values()),
        "reviewed_contamination_frac": frac,
        "reviewed_worst_severity": findings.worst_severity,
        "reviewed_verdict": verdict.verdict,
        "reviewed_rule": verdict.rule,
        "reviewed_reason": verdict.reason,
    }


def _class_of_load(
    name: str, severity: int, reviewed: LoadStatistics, looks: Mapping[str, _Look], threshold: float
) -> ClassOfLoad:
    """One contaminant over a load. What a person has seen on one frame needs no second frame to be sure."""
    seen = [each.num_detections for look in looks.values() for each in look.classes if each.class_name == name]
    found = reviewed.summary_of(name, severity, threshold)
    return replace(found, count=max(found.count, *seen)) if seen else found
