import numpy as np
import pytest
from numpy.typing import NDArray

from scrapray.imagery.tiling import (
    Mosaic,
    blend_tiles,
    boxes_around,
    last_word,
    look_twice,
    pad_to_grid,
    suspicious,
    tile_boxes,
)


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap", "tops", "lefts"),
    [
        (512, 512, 512, 64, [0], [0]),
        (512, 513, 512, 64, [0], [0, 1]),
        (960, 1024, 512, 64, [0, 448], [0, 448, 512]),
        (1080, 1920, 512, 64, [0, 448, 568], [0, 448, 896, 1344, 1408]),
        (2160, 3840, 512, 64, [0, 448, 896, 1344, 1648], [0, 448, 896, 1344, 1792, 2240, 2688, 3136, 3328]),
        (8, 8, 4, 0, [0, 4], [0, 4]),
    ],
)
def test_tiles_start_where_they_should(
    height: int, width: int, tile: int, overlap: int, tops: list[int], lefts: list[int]
) -> None:
    boxes_N4 = tile_boxes(height, width, tile, overlap)
    assert boxes_N4.tolist() == [[x, y, x + tile, y + tile] for y in tops for x in lefts]


def test_a_frame_smaller_than_a_tile_is_a_broken_promise() -> None:
    with pytest.raises(AssertionError, match="do not fit"):
        tile_boxes(500, 600, 512, 64)


def test_padding_repeats_the_last_row_and_column() -> None:
    frame_HW3 = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    padded_HW3 = pad_to_grid(frame_HW3, 4)
    assert padded_HW3.shape == (8, 8, 3)
    np.testing.assert_array_equal(padded_HW3[:5, :7], frame_HW3)
    np.testing.assert_array_equal(padded_HW3[7, :7], frame_HW3[4])
    assert pad_to_grid(padded_HW3, 4) is padded_HW3


def test_the_blend_passes_from_one_tile_to_the_next_without_a_step() -> None:
    mosaic = Mosaic(1, 16, 24)
    mosaic.add(np.zeros((1, 16, 16), np.float32), 0, 0)
    mosaic.add(np.ones((1, 16, 16), np.float32), 8, 0)
    row_w = mosaic.blended()[0, 4]
    assert row_w[:8].max() == 0
    assert row_w[16:].min() == 1
    assert (np.diff(row_w[7:17]) > 0).all()
    assert np.diff(row_w).max() < 0.25


def test_what_no_tile_covers_is_zero() -> None:
    mosaic = Mosaic(2, 4, 8)
    mosaic.add(np.full((2, 4, 4), 0.5, np.float32), 4, 0)
    map_Khw = mosaic.blended()
    np.testing.assert_array_equal(map_Khw[:, :, :4], 0)
    np.testing.assert_allclose(map_Khw[:, :, 4:], 0.5, rtol=1e-6)


def test_a_picture_cut_into_tiles_and_put_together_again_is_the_same() -> None:
    picture_HW3 = np.random.default_rng(0).integers(0, 256, (100, 72, 3), dtype=np.uint8)
    sizes: list[int] = []

    def every_fourth(tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        sizes.append(len(tiles_NHW3))
        assert tiles_NHW3.shape[1:] == (16, 16, 3)
        return tiles_NHW3[:, ::4, ::4].transpose(0, 3, 1, 2).astype(np.float32)

    map_Khw = blend_tiles(picture_HW3, every_fourth, sides_px=(16,), overlap_px=4, stride_px=4)
    np.testing.assert_allclose(map_Khw, picture_HW3[::4, ::4].transpose(2, 0, 1), atol=1e-3)
    assert sum(sizes) == len(tile_boxes(100, 72, 16, 4)) and max(sizes) > 1


@pytest.mark.parametrize(
    ("place", "lefts", "tops"),
    [
        pytest.param(np.s_[10:12, 20:24], [72], [28], id="a small place stands in the middle of its tile"),
        pytest.param(np.s_[11:12, 20:21], [64], [28], id="tiles start on a cell"),
        pytest.param(np.s_[0:2, 0:2], [0], [0], id="at the upper left corner the tile stays inside"),
        pytest.param(np.s_[28:30, 62:64], [224], [88], id="at the lower right corner the tile stays inside"),
        pytest.param(np.s_[10:12, 10:25], [40, 64, 68], [28], id="a place larger than a tile has several"),
        pytest.param(np.s_[5:5, 5:5], [], [], id="nothing to look at"),
    ],
)
def test_tiles_are_centred_on_what_they_are_to_judge(
    place: tuple[slice, slice], lefts: list[int], tops: list[int]
) -> None:
    places_hw = np.zeros((30, 64), np.bool_)
    places_hw[place] = True
    boxes_N4 = boxes_around(places_hw, [32], overlap_px=8, stride_px=4)[32]
    assert boxes_N4.tolist() == [[x, y, x + 32, y + 32] for y in tops for x in lefts]


@pytest.mark.parametrize(("length", "side_px"), [(1, 32), (6, 32), (7, 64), (12, 64), (20, 64)])
def test_a_place_is_looked_at_with_the_smallest_tile_that_leaves_room_around_it(length: int, side_px: int) -> None:
    places_hw = np.zeros((40, 40), np.bool_)
    places_hw[20, 10 : 10 + length] = True
    boxes = boxes_around(places_hw, [64, 32], overlap_px=8, stride_px=4)
    assert {side: len(boxes_N4) > 0 for side, boxes_N4 in boxes.items()} == {32: side_px == 32, 64: side_px == 64}


def test_places_apart_have_tiles_of_their_own_and_places_that_touch_share_one() -> None:
    places_hw = np.zeros((32, 32), np.bool_)
    places_hw[[4, 5, 20], [4, 5, 20]] = True
    boxes_N4 = boxes_around(places_hw, [16], overlap_px=4, stride_px=4)[16]
    assert boxes_N4.tolist() == [[12, 12, 28, 28], [72, 72, 88, 88]]


def test_the_last_mosaic_that_has_seen_a_cell_has_the_last_word() -> None:
    wide, close = Mosaic(1, 4, 8), Mosaic(1, 4, 8)
    wide.add(np.full((1, 4, 4), 0.5, np.float32), 0, 0)
    wide.add(np.full((1, 4, 4), 0.75, np.float32), 4, 0)
    close.add(np.full((1, 2, 2), 0.25, np.float32), 5, 1)
    map_hw = last_word([wide, close])[0]
    assert (map_hw[0, 0], map_hw[0, 7], map_hw[1, 5]) == pytest.approx((0.5, 0.75, 0.25))
    assert np.count_nonzero(map_hw == map_hw[1, 5]) == 4


def test_each_contaminant_is_suspicious_from_its_own_score_on() -> None:
    map_Khw = np.array([[[0.3, 0.5, 0.1]], [[0.3, 0.1, 0.2]]], np.float32)
    assert suspicious(map_Khw, (0.5, 0.3)).tolist() == [[True, True, False]]


def test_the_map_of_tiles_of_two_sides_is_the_mean_of_both() -> None:
    def side_of_the_tile(tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        side_px = tiles_NHW3.shape[1]
        return np.full((len(tiles_NHW3), 1, side_px // 4, side_px // 4), side_px, np.float32)

    picture_HW3 = np.zeros((64, 96, 3), np.uint8)
    map_Khw = blend_tiles(picture_HW3, side_of_the_tile, sides_px=(16, 32), overlap_px=4, stride_px=4)
    np.testing.assert_allclose(map_Khw, 24.0, rtol=1e-6)


class RedScores:
    """Scores what is red in wide tiles, and gives the whole of a close tile a tenth; counts tiles by their side."""

    def __init__(self) -> None:
        self.sides_px: list[int] = []

    def __call__(self, tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        side_px = tiles_NHW3.shape[1]
        self.sides_px += [side_px] * len(tiles_NHW3)
        red_Nhw = tiles_NHW3[:, ::4, ::4, 0] / np.float32(255)
        scores_Nhw = red_Nhw if side_px == 32 else np.full_like(red_Nhw, 0.1)
        return scores_Nhw[:, None].astype(np.float32)


def looked_at_twice(picture_HW3: NDArray[np.uint8], score_tiles: RedScores) -> NDArray[np.float32]:
    map_Khw = look_twice(picture_HW3, score_tiles, sides_px=(16, 32), suspicion=0.4, overlap_px=4, stride_px=4)
    assert map_Khw.shape == (1, 16, 24)
    return map_Khw[0]


def test_the_second_look_has_the_last_word_where_something_was_suspicious_and_there_only() -> None:
    picture_HW3 = np.zeros((64, 96, 3), np.uint8)
    picture_HW3[24:28, 40:44] = 204
    picture_HW3[48:52, 80:84] = 51  # not suspicious
    score_tiles = RedScores()
    map_hw = looked_at_twice(picture_HW3, score_tiles)
    np.testing.assert_allclose(map_hw[4:8, 8:12], 0.1, rtol=1e-6)
    assert np.isclose(map_hw, 0.1).sum() == 16
    assert map_hw[12, 20] == pytest.approx(0.2)
    assert score_tiles.sides_px == [32] * len(tile_boxes(64, 96, 32, 4)) + [16]


def test_without_suspicion_or_a_second_side_one_look_is_all() -> None:
    picture_HW3 = np.full((64, 96, 3), 51, np.uint8)
    score_tiles = RedScores()
    np.testing.assert_allclose(looked_at_twice(picture_HW3, score_tiles), 0.2, rtol=1e-6)
    assert set(score_tiles.sides_px) == {32}
    picture_HW3[:] = 204
    once_Khw = look_twice(picture_HW3, score_tiles, sides_px=(32,), suspicion=0.4, overlap_px=4, stride_px=4)
    np.testing.assert_allclose(once_Khw, 0.8, rtol=1e-6)
    assert set(score_tiles.sides_px) == {32}


def test_a_second_look_takes_no_more_tiles_than_a_look_everywhere() -> None:
    picture_HW3 = np.zeros((64, 96, 3), np.uint8)
    picture_HW3[::8, ::8] = 255  # a place in every other cell
    score_tiles = RedScores()
    looked_at_twice(picture_HW3, score_tiles)
    assert score_tiles.sides_px.count(16) == len(tile_boxes(64, 96, 16, 4))
