"""Pre-labels and what a reviewer left of them -> what was confirmed, corrected, rejected and added."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scrapray.imagery.masks import overlaps
from scrapray.review.coco import as_shown

CONFIRMED, CORRECTED, REJECTED, ADDED = "confirmed", "corrected", "rejected", "added"
CLEAN = "clean"
"""Said of a frame, not of an object: nothing was marked, before and after."""
MIN_IOU = 0.1
"""From here on two outlines may be of one object. Low, since the machine draws outlines much too wide."""
SAME_OUTLINE_IOU = 0.9
"""From here on the outline was left as it was: tools round corners, and some redraw outlines along pixel centres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """An outlined object: a published detection, or what a reviewer has marked.

    Attributes:
        detection_id: Of the detection itself; or, if the tool has kept it, of the one that the mark was made of.
        class_name: What it is.
        mask: A value of ``schema.MASK``.
        score: Of a detection.
    """

    class_name: str
    mask: Mapping[str, Any]
    detection_id: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a reviewer said of one object.

    Attributes:
        outcome: One of the words above but ``clean``.
        detection: What the machine said; None for an added object.
        mark: What the reviewer said; None for a rejected detection. Of a confirmed one it is the machine's own outline.
        iou: Between the outlines of both, as they were shown.
    """

    outcome: str
    detection: Object | None
    mark: Object | None
    iou: float | None


def compare(detections: Sequence[Object], marks: Sequence[Object]) -> list[Outcome]:
    """What became of each detection of a frame, in their order; then what was added.

    A mark belongs to the detection whose id it still has, if both overlap at all; else to the one that it overlaps
    most, by at least ``MIN_IOU``, of the same class if two overlap it equally. Each belongs to one at most.
    """
    iou_NM = overlaps([as_shown(each.mask) for each in detections], [dict(each.mask) for each in marks])
    mark_of: dict[int, int] = {}
    for *_, n, m in sorted(_candidates(detections, marks, iou_NM), reverse=True):
        if n not in mark_of and m not in mark_of.values():
            mark_of[n] = m
    outcomes = [
        _of_pair(detection, marks[mark_of[n]], float(iou_NM[n, mark_of[n]]))
        if n in mark_of
        else Outcome(outcome=REJECTED, detection=detection, mark=None, iou=None)
        for n, detection in enumerate(detections)
    ]
    added = (mark for m, mark in enumerate(marks) if m not in mark_of.values())
    return outcomes + [Outcome(outcome=ADDED, detection=None, mark=mark, iou=None) for mark in added]


def _candidates(
    detections: Sequence[Object], marks: Sequence[Object], iou_NM: Any
) -> Iterator[tuple[bool, float, bool, int, int]]:
    """Pairs that may be one object, each led by what speaks for it."""
    for n, detection in enumerate(detections):
        for m, mark in enumerate(marks):
            has_id = mark.detection_id is not None and mark.detection_id == detection.detection_id
            if iou_NM[n, m] > 0 and (has_id or iou_NM[n, m] >= MIN_IOU):
                yield has_id, float(iou_NM[n, m]), mark.class_name == detection.class_name, n, m


def _of_pair(detection: Object, mark: Object, iou: float) -> Outcome:
    if iou < SAME_OUTLINE_IOU:
        return Outcome(outcome=CORRECTED, detection=detection, mark=mark, iou=iou)
    # An outline that was left alone is the published one, holes and all.
    same = Object(class_name=mark.class_name, mask=detection.mask)
    word = CONFIRMED if mark.class_name == detection.class_name else CORRECTED
    return Outcome(outcome=word, detection=detection, mark=same, iou=iou)
