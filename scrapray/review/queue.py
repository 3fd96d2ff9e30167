"""Which frames of a night are worth a person's minute, and why.

Every reason puts the frames that it speaks for in an order and takes as many as its quota allows. So that near copies
of one scene do not fill it, the best frame of each load comes before the second of any. A frame that several reasons
take carries all of them. The random sample is drawn from all frames alike, whatever else they were chosen for: what is
estimated from it holds for the night.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scrapray.review.config import QueueConfig

HIGH_SEVERITY, NEAR_THRESHOLD, DISAGREEMENT = "high_severity", "near_threshold", "disagreement"
RARE_CLASS, RANDOM_SAMPLE = "rare_class", "random_sample"
REASONS = (HIGH_SEVERITY, NEAR_THRESHOLD, DISAGREEMENT, RARE_CLASS, RANDOM_SAMPLE)
NEAR = 0.25
"""No score further from a threshold than this share of the way to 1, or to 0, is near it."""
Worth = tuple[float, ...]
"""How much a frame is worth for one reason; the larger comes first."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A frame to look at.

    Attributes:
        frame_id: The frame.
        reasons: Why, in the order of ``REASONS``.
    """

    frame_id: str
    reasons: tuple[str, ...]


def choose_frames(
    frames: pa.Table, detections: pa.Table, loads: pa.Table, before: pa.Table | None, quotas: QueueConfig
) -> list[Chosen]:
    """Choose frames of one date and site; only used frames of a load are asked about.

    Args:
        frames: Of ``schema.FRAMES``, as published.
        detections: Of ``schema.DETECTIONS``, likewise.
        loads: Of ``schema.LOADS``, likewise; they tell the classes, what each weighs, and from which score it counts.
        before: Frames of an earlier run with another model; None where there is none.
        quotas: How many for each reason.

    Returns:
        The chosen frames in the order of the table.
    """
    rows = reviewable(frames).to_pylist()
    scores = _scores(detections)
    severities = severities_of(loads)
    worths = {
        HIGH_SEVERITY: _high_severity(scores, severities),
        NEAR_THRESHOLD: _near_threshold(rows, scores, thresholds_of(loads)),
        DISAGREEMENT: _disagreement(rows, before, severities) if before is not None else {},
        RARE_CLASS: _rare_class(scores),
    }
    reasons: dict[str, list[str]] = defaultdict(list)
    for reason, worth in worths.items():
        for frame_id in _best(rows, worth, getattr(quotas, reason)):
            reasons[frame_id].append(reason)
    for frame_id in _draw([row["frame_id"] for row in rows], quotas.random_sample, quotas.seed):
        reasons[frame_id].append(RANDOM_SAMPLE)
    return [Chosen(name, tuple(reasons[name])) for row in rows if (name := row["frame_id"]) in reasons]


def reviewable(frames: pa.Table) -> pa.Table:
    """The rows that people can be asked about: used frames that belong to a load."""
    return frames.filter((pc.field("status") == "used") & pc.field("load_id").is_valid())


def severities_of(loads: pa.Table) -> dict[str, int]:
    """What each class weighs; every load lists all of them. Empty for a night without loads."""
    return {found["class_name"]: found["severity"] for row in loads["classes"].to_pylist() for found in row}


def thresholds_of(loads: pa.Table) -> dict[str, float]:
    """The score from which each class counted, of classes that some load shows.

    A load has ``certainty = (max_score - threshold) / (1 - threshold)``, which is solved for the threshold; where the
    certainty is least, rounding moves it least.
    """
    seen = [found for row in loads["classes"].to_pylist() for found in row if found["max_score"] > 0]
    return {
        found["class_name"]: (found["max_score"] - found["certainty"]) / (1 - found["certainty"])
        for found in sorted(seen, key=lambda found: -found["certainty"])
        if found["certainty"] < 1
    }


def _scores(detections: pa.Table) -> dict[str, list[tuple[str, float]]]:
    """Class and score of each detection, by frame."""
    scores = defaultdict(list)
    for row in detections.select(["frame_id", "class_name", "score"]).to_pylist():
        scores[row["frame_id"]].append((row["class_name"], row["score"]))
    return scores


def _high_severity(
    scores: Mapping[str, Sequence[tuple[str, float]]], severities: Mapping[str, int]
) -> dict[str, Worth]:
    """Frames with a detection: the highest severity first, then the highest score."""
    return {name: max((float(severities.get(kind, 0)), score) for kind, score in of) for name, of in scores.items()}


def _near_threshold(
    rows: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Sequence[tuple[str, float]]],
    thresholds: Mapping[str, float],
) -> dict[str, Worth]:
    """Frames with a detection that hardly counted, or a peak that hardly did not.

    The distance is the share of the way from the threshold to 1, or to 0. A class that was found nowhere has an unknown
    threshold that is above all its peaks; the highest of them stands for it.
    """
    highest: dict[str, float] = defaultdict(float)
    for found in (found for row in rows for found in row["classes"]):
        highest[found["class_name"]] = max(highest[found["class_name"]], found["peak_score"])
    limits = {name: limit for name, limit in (highest | dict(thresholds)).items() if 0 < limit < 1}
    worth: dict[str, Worth] = {}
    for row in rows:
        found = list(scores.get(row["frame_id"], ()))
        found += [(each["class_name"], each["peak_score"]) for each in row["classes"] if not each["num_detections"]]
        distances = [_distance(score, limits[name]) for name, score in found if name in limits]
        if min(distances, default=1.0) <= NEAR:
            worth[row["frame_id"]] = (-min(distances),)
    return worth


def _distance(score: float, limit: float) -> float:
    return (score - limit) / (1 - limit) if score >= limit else (limit - score) / limit


def _disagreement(
    rows: Sequence[Mapping[str, Any]], before: pa.Table, severities: Mapping[str, int]
) -> dict[str, Worth]:
    """Frames on which one model finds a class and the other does not: by severity, then by score."""
    earlier = {row["frame_id"]: _found_on(row) for row in reviewable(before).to_pylist()}
    worth: dict[str, Worth] = {}
    for row in rows:
        now, then = _found_on(row), earlier.get(row["frame_id"])
        if then is not None and (differing := set(now) ^ set(then)):
            scores = now | then
            worth[row["frame_id"]] = max((float(severities.get(name, 0)), scores[name]) for name in differing)
    return worth


def _found_on(row: Mapping[str, Any]) -> dict[str, float]:
    return {each["class_name"]: each["max_score"] for each in row["classes"] if each["num_detections"]}


def _rare_class(scores: Mapping[str, Sequence[tuple[str, float]]]) -> dict[str, Worth]:
    """Frames with any class but the most common one: of the class that fewest frames show, then by score."""
    num_frames = Counter(kind for found in scores.values() for kind in {kind for kind, _ in found})
    common = {kind for kind, _ in num_frames.most_common(1)}
    worth: dict[str, Worth] = {}
    for name, found in scores.items():
        rare = [(-float(num_frames[kind]), score) for kind, score in found if kind not in common]
        if rare:
            worth[name] = max(rare)
    return worth


def _best(rows: Sequence[Mapping[str, Any]], worth: Mapping[str, Worth], quota: int) -> list[str]:
    """The frames that are worth most, the best of each load before the second of any."""
    known = [row for row in rows if row["frame_id"] in worth]
    ranked = sorted(known, key=lambda row: worth[row["frame_id"]], reverse=True)
    turn: Counter[tuple[str | None, str]] = Counter()
    turns = []
    for place, row in enumerate(ranked):
        load = (row["truck_id"], row["load_id"])
        turns.append((turn[load], place, row["frame_id"]))
        turn[load] += 1
    return [frame_id for _, _, frame_id in sorted(turns)[:quota]]


def _draw(frame_ids: Iterable[str], quota: int, seed: int) -> list[str]:
    """A simple random sample; a late frame, or another run of the night, leaves most of it as it was."""
    return sorted(frame_ids, key=lambda name: blake2b(f"{seed}|{name}".encode()).digest())[:quota]
