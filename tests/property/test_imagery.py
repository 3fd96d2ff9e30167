"""What must hold for any frame, tile size, polygon and mask."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from scrapray.imagery.bed import bed_mask
from scrapray.imagery.components import find_components
from scrapray.imagery.masks import decode_mask, encode_mask
from scrapray.imagery.tiling import Mosaic, tile_boxes

seeds = st.integers(0, 2**32 - 1)


@st.composite
def tilings(draw: st.DrawFn) -> tuple[int, int, int, int]:
    tile = draw(st.integers(1, 12))
    overlap = draw(st.integers(0, tile - 1))
    return draw(st.integers(tile, 40)), draw(st.integers(tile, 40)), tile, overlap


@given(tilings())
def test_tiles_cover_everything_inside_and_overlap_enough(tiling: tuple[int, int, int, int]) -> None:
    height, width, tile, overlap = tiling
    boxes_N4 = tile_boxes(*tiling)
    covered_HW = np.zeros((height, width), int)
    for x0, y0, x1, y1 in boxes_N4:
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert (x1 - x0, y1 - y0) == (tile, tile)
        covered_HW[y0:y1, x0:x1] += 1
    assert covered_HW.min() >= 1
    for side in (0, 1):
        starts = np.unique(boxes_N4[:, side])
        assert np.diff(starts).max(initial=0) <= tile - overlap
    assert len({tuple(box) for box in boxes_N4.tolist()}) == len(boxes_N4)


@given(tilings(), st.integers(1, 3), seeds)
def test_stitching_what_was_cut_gives_it_back(tiling: tuple[int, int, int, int], num_classes: int, seed: int) -> None:
    height, width, _, _ = tiling
    map_Khw = np.random.default_rng(seed).random((num_classes, height, width), dtype=np.float32)
    mosaic = Mosaic(num_classes, height, width)
    for x0, y0, x1, y1 in tile_boxes(*tiling):
        mosaic.add(map_Khw[:, y0:y1, x0:x1], x0, y0)
    np.testing.assert_allclose(mosaic.blended(), map_Khw, rtol=1e-5, atol=1e-7)


def _inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """Even-odd rule for one point, as every textbook has it."""
    inside = False
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (y0 > y) != (y1 > y) and x > x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


@given(st.lists(st.tuples(st.integers(0, 79), st.integers(0, 59)), min_size=3, max_size=7))
def test_the_bed_holds_the_pixels_whose_centre_lies_in_the_polygon(quarters: list[tuple[int, int]]) -> None:
    # The odd shares keep every edge away from every pixel centre, where both answers would be right.
    corners = [(x / 4 + 0.0137, y / 4 + 0.1) for x, y in quarters]
    expected_HW = np.array([[_inside(x + 0.5, y + 0.5, corners) for x in range(20)] for y in range(15)])
    if expected_HW.any():
        np.testing.assert_array_equal(bed_mask(corners, (15, 20)), expected_HW)


@st.composite
def cut_outs(draw: st.DrawFn) -> tuple[NDArray[np.bool_], tuple[int, int], tuple[int, int]]:
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    x, y = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    mask_HW = np.random.default_rng(draw(seeds)).random((height, width)) < share
    return mask_HW, (x, y), (y + height + draw(st.integers(0, 5)), x + width + draw(st.integers(0, 5)))


@given(cut_outs())
def test_run_lengths_come_back_and_equal_those_of_the_coco_api(
    cut_out: tuple[NDArray[np.bool_], tuple[int, int], tuple[int, int]],
) -> None:
    mask_HW, (x, y), frame_hw = cut_out
    whole_HW = np.zeros(frame_hw, np.bool_)
    whole_HW[y : y + mask_HW.shape[0], x : x + mask_HW.shape[1]] = mask_HW
    mask = encode_mask(*cut_out)
    np.testing.assert_array_equal(decode_mask(mask), whole_HW)
    assert mask["counts"] == coco.encode(np.asfortranarray(whole_HW.astype(np.uint8)))["counts"].decode()


@settings(max_examples=50)
@given(seeds, st.integers(1, 200))
def test_components_are_disjoint_large_enough_and_above_their_thresholds(seed: int, min_area_px: int) -> None:
    rng = np.random.default_rng(seed)
    map_Khw = rng.random((3, 8, 9), dtype=np.float32)
    bed_HW = rng.random((30, 35)) < 0.8
    thresholds_K = [0.4, 0.6, 0.9]
    covered_HW = np.zeros(bed_HW.shape, int)
    for component in find_components(map_Khw, thresholds_K, bed_HW, 4, min_area_px):
        x0, y0, x1, y1 = component.bbox_xyxy
        covered_HW[y0:y1, x0:x1] += component.mask
        assert component.area_px == component.mask.sum() >= min_area_px
        assert thresholds_K[component.class_index] <= component.score <= 1
        assert component.mask.any(axis=0)[[0, -1]].all() and component.mask.any(axis=1)[[0, -1]].all()
    assert covered_HW.max() <= 1
    assert not covered_HW[~bed_HW].any()
