import numpy as np
import pytest
from pycocotools import mask as coco
from scipy import ndimage

from scrapray.imagery.masks import (
    decode_cut_out,
    decode_mask,
    encode_mask,
    joint_area,
    mask_area,
    mask_outlines,
    outline_mask,
    overlaps,
    parse_run_lengths,
)


def test_a_cut_out_is_encoded_as_the_coco_api_encodes_the_frame() -> None:
    frame_HW = np.zeros((40, 30), np.bool_)
    frame_HW[5:25, 7:20] = np.random.default_rng(0).random((20, 13)) < 0.5
    expected = coco.encode(np.asfortranarray(frame_HW.astype(np.uint8)))
    mask = encode_mask(frame_HW[5:25, 7:20], (7, 5), (40, 30))
    assert mask == {"height_px": 40, "width_px": 30, "counts": expected["counts"].decode()}


def test_a_full_column_runs_on_into_the_next() -> None:
    frame_HW = np.zeros((6, 5), np.bool_)
    frame_HW[:, 1:3] = True
    expected = coco.encode(np.asfortranarray(frame_HW.astype(np.uint8)))
    assert encode_mask(frame_HW, (0, 0), (6, 5))["counts"] == expected["counts"].decode()


def test_nothing_and_everything_come_back() -> None:
    for value in (False, True):
        frame_HW = np.full((6, 5), value)
        np.testing.assert_array_equal(decode_mask(encode_mask(frame_HW, (0, 0), (6, 5))), frame_HW)


def test_run_lengths_of_both_kinds_become_what_the_coco_api_packs() -> None:
    expected = encode_mask(np.ones((3, 4), np.bool_), (2, 5), (40, 30))
    changes = np.flatnonzero(np.diff(decode_mask(expected).T.ravel(), prepend=False, append=False))
    plain = np.diff(changes, prepend=0, append=40 * 30).tolist()
    assert parse_run_lengths(plain, (40, 30)) == expected == parse_run_lengths(expected["counts"], (40, 30))
    assert mask_area(expected) == 12


@pytest.mark.parametrize("counts", [[], "", "0", "PPYo1", "`", [5, 20], [-1, 31], [2**40], "~~~~", "é"])
def test_run_lengths_that_do_not_fill_their_frame_are_refused(counts: str | list[int]) -> None:
    with pytest.raises(ValueError, match=r"for a frame of 5x6|a run length of -1|ordinal not in range"):
        parse_run_lengths(counts, (6, 5))


def test_an_outline_holds_the_pixels_inside_any_of_its_polygons() -> None:
    polygons = [(2, 1, 5, 1, 5, 4, 2, 4), (4, 3, 40, 3, 40, 6, 4, 6)]
    expected_HW = np.zeros((8, 10), np.bool_)
    expected_HW[1:4, 2:5] = expected_HW[3:6, 4:] = True
    np.testing.assert_array_equal(decode_mask(outline_mask(polygons, (8, 10))), expected_HW)


@pytest.mark.parametrize("seed", range(10))
def test_outlines_of_a_mask_hold_its_pixels_and_fill_its_holes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(3, 60, 2)
    frame_HW = rng.random((height, width)) < rng.uniform(0.1, 0.9)
    if seed % 2:
        frame_HW = ndimage.binary_opening(frame_HW.repeat(4, axis=0).repeat(4, axis=1))
    mask = encode_mask(frame_HW, (0, 0), frame_HW.shape)
    shown = outline_mask(mask_outlines(mask) or [[0, 0, 0, 0, 0, 0]], frame_HW.shape)
    np.testing.assert_array_equal(decode_mask(shown), ndimage.binary_fill_holes(frame_HW))


def test_the_outline_of_a_box_has_four_corners() -> None:
    (outline,) = mask_outlines(encode_mask(np.ones((3, 4), np.bool_), (7, 5), (40, 30)))
    assert {tuple(outline[at : at + 2]) for at in range(0, 8, 2)} == {(7, 5), (11, 5), (11, 8), (7, 8)}
    assert len(outline) == 8


def test_a_mask_without_a_pixel_has_no_outline() -> None:
    assert mask_outlines(encode_mask(np.zeros((3, 4), np.bool_), (0, 0), (40, 30))) == []


def test_overlaps_are_shared_pixels_over_joint_pixels() -> None:
    one, other, apart = (
        encode_mask(np.ones((10, 10), np.bool_), place, (40, 30)) for place in ((0, 0), (5, 0), (15, 20))
    )
    np.testing.assert_allclose(overlaps([one, apart], [other, one]), [[50 / 150, 1], [0, 0]])
    assert overlaps([], [one]).shape == (0, 1)
    assert joint_area([one, other, apart]) == 250
    assert joint_area([]) == 0


@pytest.mark.parametrize(("offset_xy", "frame_hw"), [((7, 5), (40, 30)), ((0, 0), (20, 13)), ((17, 20), (40, 30))])
def test_what_was_cut_out_comes_back_tight(offset_xy: tuple[int, int], frame_hw: tuple[int, int]) -> None:
    mask_HW = np.random.default_rng(1).random((20, 13)) < 0.4
    mask_HW[0, 3] = mask_HW[-1, 8] = mask_HW[4, 0] = mask_HW[9, -1] = True
    found_HW, found_xy = decode_cut_out(encode_mask(mask_HW, offset_xy, frame_hw))
    np.testing.assert_array_equal(found_HW, mask_HW)
    assert found_xy == offset_xy
    loose_HW = np.pad(mask_HW, ((2, 3), (4, 1)))
    found_HW, found_xy = decode_cut_out(encode_mask(loose_HW, (0, 0), loose_HW.shape))
    np.testing.assert_array_equal(found_HW, mask_HW)
    assert found_xy == (4, 2)
