"""What must hold for any annotations and any ids."""

import datetime as dt
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scrapray.datasets.annotations import AnnotatedFrame, Region
from scrapray.datasets.painting import paint_regions
from scrapray.datasets.split import SPLITS, Split, split_of, unit_of
from scrapray.imagery.masks import encode_mask

NAMES = ("motor", "cable", "spray can")
HW = (14, 17)
words = st.text(max_size=4)
days = st.dates(dt.date(2020, 1, 1), dt.date(2030, 1, 1))
quarters = st.integers(-20, 88).map(lambda place: place / 4 + 0.0371)


@st.composite
def frames(draw: st.DrawFn) -> AnnotatedFrame:
    maybe = st.none() | words
    ids = {name: draw(maybe) for name in ("site", "truck_id", "load_id", "camera_id")}
    return AnnotatedFrame(frame_id=draw(words), uri="u", key=draw(words), date=draw(st.none() | days), **ids)


@st.composite
def shares(draw: st.DrawFn) -> dict[Split, float]:
    first, second = sorted((draw(st.floats(0, 1)), draw(st.floats(0, 1))))
    return {"test": first, "validation": second - first, "train": 1 - second}


def frame_with(*regions: Region) -> AnnotatedFrame:
    return AnnotatedFrame(frame_id="f", uri="u", key="k", regions=regions)


@settings(deadline=None)
@given(st.lists(frames(), min_size=1, max_size=12), shares(), st.integers(0, 9))
def test_a_frame_keeps_its_split_whatever_comes_with_it(
    some: list[AnnotatedFrame], shares: dict[Split, float], seed: int
) -> None:
    splits: dict[Any, str] = {}
    for frame in some:
        split = split_of(frame, shares=shares, seed=seed)
        assert split in SPLITS
        assert splits.setdefault(unit_of(frame), split) == split
    for frame in reversed(some):
        assert split_of(frame, shares=shares, seed=seed) == splits[unit_of(frame)]


@settings(deadline=None)
@given(frames(), shares(), st.floats(0, 1))
def test_a_test_share_that_grows_gives_no_load_back(
    frame: AnnotatedFrame, few: dict[Split, float], more: float
) -> None:
    taken = few["train"] * more
    many: dict[Split, float] = {**few, "test": few["test"] + taken, "train": few["train"] - taken}
    if split_of(frame, shares=few, seed=1) == "test":
        assert split_of(frame, shares=many, seed=1) == "test"


@st.composite
def masked_regions(draw: st.DrawFn) -> tuple[Region, NDArray[np.bool_]]:
    mask_HW = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random(HW) < draw(st.sampled_from([0.05, 0.4]))
    mask_HW[0, 0] = True  # a region without a pixel is recorded, not painted
    name = draw(st.sampled_from(NAMES))
    return Region(class_name=name, annotation_id="1", mask=encode_mask(mask_HW, (0, 0), HW)), mask_HW


@settings(deadline=None)
@given(st.lists(masked_regions(), max_size=5))
def test_masks_are_painted_as_one_would_by_hand(drawn: list[tuple[Region, NDArray[np.bool_]]]) -> None:
    class_HW, overlapped_px, skipped = paint_regions(frame_with(*(region for region, _ in drawn)), HW, NAMES)
    overlapped = 0
    for y in range(HW[0]):
        for x in range(HW[1]):
            claims = {NAMES.index(region.class_name) + 1 for region, mask_HW in drawn if mask_HW[y, x]}
            assert class_HW[y, x] == max(claims, default=0)
            overlapped += len(claims) > 1
    assert (overlapped_px, skipped) == (overlapped, [])


def _sides(corners: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which pixel centres are inside (even-odd rule), and how far each is from the nearest edge, as in any textbook."""
    y_HW, x_HW = np.indices(HW) + 0.5
    inside_HW, nearest_HW = np.zeros(HW, np.bool_), np.full(HW, np.inf)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            inside_HW ^= ((y0 > y_HW) != (y1 > y_HW)) & (x_HW > x0 + (y_HW - y0) * (x1 - x0) / (y1 - y0))
        along_HW = ((x_HW - x0) * (x1 - x0) + (y_HW - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
        along_HW = along_HW.clip(0, 1)
        distance_HW = np.hypot(x_HW - x0 - along_HW * (x1 - x0), y_HW - y0 - along_HW * (y1 - y0))
        nearest_HW = np.minimum(nearest_HW, distance_HW)
    return inside_HW, nearest_HW


@settings(deadline=None)
@given(st.lists(st.tuples(quarters, quarters), min_size=3, max_size=4, unique=True))
def test_an_outline_is_painted_but_for_pixels_on_its_edge(points: list[tuple[float, float]]) -> None:
    corners_N2 = np.array(points)
    ground = Region(class_name="motor", annotation_id="0", mask=encode_mask(np.ones(HW, np.bool_), (0, 0), HW))
    region = Region(class_name="cable", annotation_id="1", polygons=(tuple(corners_N2.ravel().tolist()),))
    class_HW = paint_regions(frame_with(ground, region), HW, NAMES).class_HW
    inside_HW, nearest_HW = _sides(corners_N2)
    clear_HW = nearest_HW > 0.9
    np.testing.assert_array_equal(class_HW[clear_HW] == 2, inside_HW[clear_HW])
