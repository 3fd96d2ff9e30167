"""Audited frames -> one row per load and one per truck.

``LoadStatistics`` is a value that merges: ``a + b`` is the union of their frames, in any order and grouping, and a
frame that comes twice counts once. What a load shows is worked out of the frames only when it is asked for.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from scrapray.config import VerdictRule
from scrapray.statistics.contamination import AreaCalibration, Contamination, estimate_contamination
from scrapray.statistics.verdict import SEVERITY_OF_VERDICT, ClassOfLoad, LoadFindings, Verdict, judge

NUM_EVIDENCE_FRAMES = 3

_EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)
_COLUMNS = [
    *("frame_id", "site", "date", "truck_id", "load_id", "supplier", "camera_id", "taken_utc"),
    *("status", "bed_area_px", "seen_area_px", "contaminated_area_px", "classes"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassOnFrame:
    """One contaminant on one frame: area and number of its detections, and the best score among them."""

    class_name: str
    area_px: int
    num_detections: int
    max_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedFrame:
    """What the statistics need of one frame. Areas of a frame that is not used are 0."""

    frame_id: str
    camera_id: str | None
    taken_utc: dt.datetime | None
    is_used: bool
    bed_area_px: int
    seen_area_px: int
    contaminated_area_px: int
    classes: tuple[ClassOnFrame, ...]

    @property
    def order(self) -> tuple[dt.datetime, str, str]:
        """Time, then camera, then id: total, so that merged frames stand in one order whoever merged them."""
        return (self.taken_utc or _EARLIEST, self.camera_id or "", self.frame_id)

    def found(self, class_name: str) -> ClassOnFrame | None:
        """The contaminant on this frame, None where it has no detection."""
        return next((each for each in self.classes if each.class_name == class_name and each.num_detections), None)


@dataclass(frozen=True, slots=True)
class LoadStatistics:
    """All frames of a load (or of a truck's loads), in the order of time."""

    frames: tuple[AuditedFrame, ...] = ()

    @classmethod
    def of(cls, frames: Iterable[AuditedFrame]) -> "LoadStatistics":
        """The statistics of some frames, given in any order."""
        unique = {frame.frame_id: frame for frame in frames}
        return cls(tuple(sorted(unique.values(), key=lambda frame: frame.order)))

    def __add__(self, other: "LoadStatistics") -> "LoadStatistics":
        return LoadStatistics.of((*self.frames, *other.frames))

    @property
    def used(self) -> tuple[AuditedFrame, ...]:
        """The frames that count."""
        return tuple(frame for frame in self.frames if frame.is_used)

    @property
    def seen_area_px(self) -> int:
        """Seen bed pixels, summed over used frames."""
        return sum(frame.seen_area_px for frame in self.used)

    @property
    def coverage_frac(self) -> float | None:
        """Seen over all bed pixels of the used frames; None without any."""
        bed_area_px = sum(frame.bed_area_px for frame in self.used)
        return self.seen_area_px / bed_area_px if bed_area_px else None

    def contamination(
        self, *, seed: str, blind_area_px: int, calibration: AreaCalibration | None = None
    ) -> Contamination:
        """Share of the visible bed that is contaminated; see ``estimate_contamination``."""
        return estimate_contamination(
            [frame.contaminated_area_px for frame in self.used],
            [frame.seen_area_px for frame in self.used],
            seed=seed,
            blind_area_px=blind_area_px,
            calibration=calibration,
        )

    def count(self, class_name: str) -> int:
        """Robust count: the largest n such that two used frames show n or more detections of the class.

        No two frames may be added up, since they show the same objects; so this is a lower bound of the number of
        different objects, and no single false frame can raise it. A load with one used frame has that frame's n.
        """
        shown = sorted((found.num_detections for found in self._found(class_name)), reverse=True)
        if len(self.used) == 1:
            return shown[0] if shown else 0
        return shown[1] if len(shown) >= 2 else 0

    def summary_of(self, class_name: str, severity: int, threshold: float) -> ClassOfLoad:
        """One contaminant over the whole load, found where its score reached the threshold."""
        found = self._found(class_name)
        seen_area_px = self.seen_area_px
        max_score = max((each.max_score for each in found), default=0.0)
        return ClassOfLoad(
            class_name=class_name,
            severity=severity,
            area_frac=sum(each.area_px for each in found) / seen_area_px if seen_area_px else 0.0,
            count=self.count(class_name),
            max_score=max_score,
            certainty=max((max_score - threshold) / (1 - threshold), 0.0),
        )

    def evidence(self, severities: Mapping[str, int]) -> tuple[str, ...]:
        """Ids of the frames that a person should look at, best first: up to three, spread over time where they can be.

        A frame is as good as its best score times severity. After the best frame, frames nearer than a sixth of the
        load's duration to a chosen one wait until no other is left.
        """
        rated = [(_rating(frame, severities), frame) for frame in self.used]
        waiting = [frame for rating, frame in sorted(rated, key=lambda each: -each[0]) if rating > 0]
        chosen: list[AuditedFrame] = []
        while waiting and len(chosen) < NUM_EVIDENCE_FRAMES:
            best = next((frame for frame in waiting if self._is_apart(frame, chosen)), waiting[0])
            waiting.remove(best)
            chosen.append(best)
        return tuple(frame.frame_id for frame in chosen)

    def _found(self, class_name: str) -> list[ClassOnFrame]:
        return [found for frame in self.used if (found := frame.found(class_name)) is not None]

    def _is_apart(self, frame: AuditedFrame, chosen: Sequence[AuditedFrame]) -> bool:
        times = [each.order[0] for each in self.used]
        distance = (max(times) - min(times)) / (2 * NUM_EVIDENCE_FRAMES)
        return all(abs(frame.order[0] - each.order[0]) >= distance for each in chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How frames are read: what each contaminant weighs, the score from which it counts, and what is known of the
    segmenter's errors.
    """

    severities: Mapping[str, int]
    thresholds: Mapping[str, float]
    rules: Sequence[VerdictRule]
    blind_area_px: int
    calibration: AreaCalibration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedLoad:
    """A load with all that is said of it."""

    site: str
    date: dt.date
    truck_id: str | None
    load_id: str
    supplier: str | None
    statistics: LoadStatistics
    findings: LoadFindings
    verdict: Verdict


def judge_loads(frames: pa.Table, reading: Reading) -> list[JudgedLoad]:
    """Group frames by site, date, truck and load, and judge each load; frames of no load are left out.

    Args:
        frames: Columns of ``schema.FRAMES`` (``run_id`` is not needed), repeated frames marked as rejected.
        reading: How to read them.

    Returns:
        Loads in the order of site, date, truck and load.
    """
    grouped: dict[tuple[str, dt.date, str | None, str], list[dict[str, Any]]] = defaultdict(list)
    for row in frames.select(_COLUMNS).to_pylist():
        if row["load_id"] is not None:
            grouped[row["site"], row["date"], row["truck_id"], row["load_id"]].append(row)
    return [
        _judge_load(identity, grouped[identity], reading)
        for identity in sorted(grouped, key=lambda each: (each[0], each[1], each[2] or "", each[3]))
    ]


def _judge_load(
    identity: tuple[str, dt.date, str | None, str], rows: list[dict[str, Any]], reading: Reading
) -> JudgedLoad:
    site, date, truck_id, load_id = identity
    statistics = LoadStatistics.of(map(audited_frame, rows))
    findings = LoadFindings(
        num_frames=len(statistics.frames),
        num_used=len(statistics.used),
        coverage_frac=statistics.coverage_frac,
        contamination=statistics.contamination(
            seed=f"{site}|{date}|{truck_id}|{load_id}",
            blind_area_px=reading.blind_area_px,
            calibration=reading.calibration,
        ),
        classes=tuple(
            statistics.summary_of(name, severity, reading.thresholds[name])
            for name, severity in reading.severities.items()
        ),
    )
    return JudgedLoad(
        site=site,
        date=date,
        truck_id=truck_id,
        load_id=load_id,
        supplier=min((row["supplier"] for row in rows if row["supplier"]), default=None),
        statistics=statistics,
        findings=findings,
        verdict=judge(findings, reading.rules),
    )


def audited_frame(row: Mapping[str, Any]) -> AuditedFrame:
    """One row of the frames table; a rejected frame may have measures, but none of them counts."""
    is_used = row["status"] == "used"
    return AuditedFrame(
        frame_id=row["frame_id"],
        camera_id=row["camera_id"],
        taken_utc=row["taken_utc"],
        is_used=is_used,
        bed_area_px=row["bed_area_px"] if is_used else 0,
        seen_area_px=row["seen_area_px"] if is_used else 0,
        contaminated_area_px=row["contaminated_area_px"] if is_used else 0,
        classes=tuple(map(_class_on_frame, row["classes"])) if is_used else (),
    )


def _class_on_frame(found: Mapping[str, Any]) -> ClassOnFrame:
    return ClassOnFrame(**{name: found[name] for name in ("class_name", "area_px", "num_detections", "max_score")})


def load_row(load: JudgedLoad, severities: Mapping[str, int]) -> dict[str, Any]:
    """One row of ``schema.LOADS``, but for ``run_id``."""
    statistics = load.statistics
    times = [frame.taken_utc for frame in statistics.frames if frame.taken_utc is not None]
    return {
        "site": load.site,
        "date": load.date,
        "truck_id": load.truck_id,
        "load_id": load.load_id,
        "supplier": load.supplier,
        "camera_ids": sorted({frame.camera_id for frame in statistics.frames if frame.camera_id is not None}),
        "from_utc": min(times, default=None),
        "until_utc": max(times, default=None),
        "num_frames": load.findings.num_frames,
        "num_used": load.findings.num_used,
        "num_rejected": load.findings.num_frames - load.findings.num_used,
        "seen_area_px": statistics.seen_area_px,
        **_contamination_columns(
            load.findings.contamination, load.findings.coverage_frac, load.findings.worst_severity, load.verdict
        ),
        "classes": [asdict(each) for each in load.findings.classes],
        "evidence_frame_ids": list(statistics.evidence(severities)),
    }


def truck_rows(loads: Iterable[JudgedLoad], reading: Reading) -> list[dict[str, Any]]:
    """Rows of ``schema.TRUCKS``, but for ``run_id``: one per site, date and truck.

    Loads of no known truck are left out. A truck's contamination is the pooled one of all its frames, its verdict
    the worst among its loads.
    """
    grouped: dict[tuple[str, dt.date, str], list[JudgedLoad]] = defaultdict(list)
    for load in loads:
        if load.truck_id is not None:
            grouped[load.site, load.date, load.truck_id].append(load)
    return [_truck_row(identity, grouped[identity], reading) for identity in sorted(grouped)]


def _truck_row(identity: tuple[str, dt.date, str], loads: Sequence[JudgedLoad], reading: Reading) -> dict[str, Any]:
    site, date, truck_id = identity
    statistics = sum((load.statistics for load in loads), LoadStatistics())
    contamination = statistics.contamination(
        seed=f"{site}|{date}|{truck_id}", blind_area_px=reading.blind_area_px, calibration=reading.calibration
    )
    worst = max(loads, key=lambda load: (SEVERITY_OF_VERDICT[load.verdict.verdict], load.findings.worst_severity))
    verdict = replace(worst.verdict, reason=f"load {worst.load_id}: {worst.verdict.reason}")
    worst_severity = max(load.findings.worst_severity for load in loads)
    return {
        "site": site,
        "date": date,
        "truck_id": truck_id,
        "supplier": min((load.supplier for load in loads if load.supplier), default=None),
        "num_loads": len(loads),
        "num_used": len(statistics.used),
        **_contamination_columns(contamination, statistics.coverage_frac, worst_severity, verdict),
    }


def _contamination_columns(
    contamination: Contamination, coverage_frac: float | None, worst_severity: int, verdict: Verdict
) -> dict[str, Any]:
    """The columns that loads and trucks share."""
    return {
        "coverage_frac": coverage_frac,
        "contamination_frac": contamination.frac,
        "contamination_low": contamination.low,
        "contamination_high": contamination.high,
        "contamination_method": contamination.method,
        "worst_severity": worst_severity,
        "verdict": verdict.verdict,
        "verdict_rule": verdict.rule,
        "verdict_reason": verdict.reason,
    }


def _rating(frame: AuditedFrame, severities: Mapping[str, int]) -> float:
    """How much a frame shows: the best score times severity among its detections, 0 without any."""
    return max(
        (found.max_score * severities[found.class_name] for found in frame.classes if found.num_detections), default=0.0
    )
