from typing import Any

import numpy as np
import pytest

from scrapray.imagery.masks import encode_mask
from scrapray.review.matching import Object, compare
from tests.unit.review.nights import HEIGHT, WIDTH, box_mask


def found(box: tuple[int, int, int, int], class_name: str = "motor", name: str = "d0") -> Object:
    return Object(class_name=class_name, mask=box_mask(box), detection_id=name, score=0.5)


def marked(box: tuple[int, int, int, int], class_name: str = "motor", name: str | None = None) -> Object:
    return Object(class_name=class_name, mask=box_mask(box), detection_id=name)


def words(detections: list[Object], marks: list[Object]) -> list[tuple[str, str | None, str | None]]:
    return [
        (
            each.outcome,
            each.detection.detection_id if each.detection else None,
            each.mark.class_name if each.mark else None,
        )
        for each in compare(detections, marks)
    ]


BOX, APART = (10, 10, 40, 40), (80, 80, 100, 100)


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        (marked(BOX), ("confirmed", "d0", "motor")),
        (marked((10, 10, 40, 39)), ("confirmed", "d0", "motor")),
        (marked((10, 10, 40, 30)), ("corrected", "d0", "motor")),
        (marked(BOX, "cable"), ("corrected", "d0", "cable")),
        (marked((36, 36, 60, 60), name="d0"), ("corrected", "d0", "motor")),
    ],
    ids=["left alone", "redrawn by a pixel", "redrawn", "renamed", "moved, still with its id"],
)
def test_a_mark_of_a_detection_is_told_from_it(mark: Object, expected: tuple[Any, ...]) -> None:
    assert words([found(BOX)], [mark]) == [expected]


@pytest.mark.parametrize("name", [None, "d0"])
def test_a_mark_elsewhere_is_another_object_even_with_its_id(name: str | None) -> None:
    assert words([found(BOX)], [marked(APART, name=name)]) == [("rejected", "d0", None), ("added", None, "motor")]


def test_a_frame_without_both_has_no_outcome() -> None:
    assert compare([], []) == []


def test_the_nearer_of_two_marks_belongs_to_a_detection_and_the_other_was_added() -> None:
    assert words([found(BOX)], [marked((30, 10, 60, 40)), marked((12, 10, 40, 40))]) == [
        ("confirmed", "d0", "motor"),
        ("added", None, "motor"),
    ]


def test_a_mark_belongs_to_one_detection_only() -> None:
    detections = [found(BOX, name="d0"), found((12, 10, 40, 40), name="d1")]
    assert words(detections, [marked((12, 10, 40, 40))]) == [("rejected", "d0", None), ("confirmed", "d1", "motor")]


def test_of_two_equal_overlaps_that_of_the_same_class_counts() -> None:
    detections = [found(BOX, "cable", "d0"), found(BOX, "motor", "d1")]
    for marks in ([marked(BOX, "motor")], [marked(BOX, "motor", None)]):
        assert words(detections, marks) == [("rejected", "d0", None), ("confirmed", "d1", "motor")]


def test_an_id_that_was_copied_with_an_object_names_one_of_both() -> None:
    assert words([found(BOX)], [marked(APART, name="d0"), marked(BOX, name="d0")]) == [
        ("confirmed", "d0", "motor"),
        ("added", None, "motor"),
    ]


def test_a_hole_that_polygons_cannot_show_comes_back() -> None:
    ring_HW = np.ones((30, 30), np.bool_)
    ring_HW[5:25, 5:25] = False
    ring = encode_mask(ring_HW, (10, 10), (HEIGHT, WIDTH))
    detection = Object(class_name="motor", mask=ring, detection_id="d0", score=0.5)
    (outcome,) = compare([detection], [marked(BOX)])
    assert outcome.outcome == "confirmed"
    assert outcome.mark is not None
    assert outcome.mark.mask == ring
