from hypothesis import given
from hypothesis import strategies as st

from scrapray.imagery.masks import mask_area
from scrapray.review.matching import Object, compare
from tests.unit.review.nights import HEIGHT, WIDTH, box_mask

CLASSES = st.sampled_from(["motor", "cable"])


@st.composite
def boxes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    left, top = draw(st.integers(0, WIDTH - 20)), draw(st.integers(0, HEIGHT - 20))
    return left, top, left + draw(st.integers(1, 20)), top + draw(st.integers(1, 20))


OBJECTS = st.lists(st.tuples(CLASSES, boxes()), max_size=6)


@given(OBJECTS, OBJECTS)
def test_every_detection_and_every_mark_has_one_outcome(
    found: list[tuple[str, tuple[int, int, int, int]]], marked: list[tuple[str, tuple[int, int, int, int]]]
) -> None:
    detections = [
        Object(class_name=name, mask=box_mask(box), detection_id=f"d{number}", score=0.5)
        for number, (name, box) in enumerate(found)
    ]
    marks = [Object(class_name=name, mask=box_mask(box)) for name, box in marked]
    outcomes = compare(detections, marks)
    assert [each.detection for each in outcomes if each.detection] == detections
    seen = [each.mark for each in outcomes if each.mark]
    assert sorted(mark.class_name for mark in seen) == sorted(mark.class_name for mark in marks)
    assert all(mask_area(dict(mark.mask)) for mark in seen)
    for each in outcomes:
        assert (each.outcome == "added") == (each.detection is None)
        assert (each.outcome == "rejected") == (each.mark is None)


@given(OBJECTS)
def test_what_is_left_alone_is_confirmed(found: list[tuple[str, tuple[int, int, int, int]]]) -> None:
    """Also where one thing lies over another: with its id, and without it if no two have the same place."""
    detections = [
        Object(class_name=name, mask=box_mask(box), detection_id=f"d{number}", score=0.5)
        for number, (name, box) in enumerate(found)
    ]
    assert {each.outcome for each in compare(detections, detections)} <= {"confirmed"}
    if len({box for _, box in found}) == len(found):
        marks = [Object(class_name=each.class_name, mask=each.mask) for each in detections]
        assert {each.outcome for each in compare(detections, marks)} <= {"confirmed"}
