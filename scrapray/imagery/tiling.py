"""Frames -> overlapping square tiles, and tile scores -> one blended map.

Shapes: N tiles, K classes, H W pixels of a frame, h w cells of a map (one cell is ``stride_px`` pixels each way).
Boxes are xyxy, half-open.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

_BATCH = 16


def tile_boxes(height_px: int, width_px: int, tile_px: int, overlap_px: int) -> NDArray[np.intp]:
    """Boxes of equal tiles that cover a frame; the last of each row and column is shifted inward to fit.

    Args:
        height_px: Height of the frame, at least ``tile_px``.
        width_px: Width of the frame, at least ``tile_px``.
        tile_px: Side of a tile.
        overlap_px: Pixels that neighbours share at least; below ``tile_px``.

    Returns:
        boxes_N4, row by row from the top left.
    """
    step_px = tile_px - overlap_px
    tops, lefts = _starts(height_px, tile_px, step_px), _starts(width_px, tile_px, step_px)
    return np.array([(x, y, x + tile_px, y + tile_px) for y in tops for x in lefts], dtype=np.intp)


def _starts(length_px: int, tile_px: int, step_px: int) -> list[int]:
    last = length_px - tile_px
    assert last >= 0 and step_px > 0, f"tiles of {tile_px} px every {step_px} px do not fit into {length_px} px"
    return [*range(0, last, step_px), last]


def pad_to_grid(frame_HW3: NDArray[np.uint8], stride_px: int) -> NDArray[np.uint8]:
    """Repeat the last row and column until both sides are multiples of the map's stride.

    So every tile, the shifted ones too, starts on a cell of the map.
    """
    height, width = frame_HW3.shape[:2]
    pad_y, pad_x = -height % stride_px, -width % stride_px
    return np.pad(frame_HW3, ((0, pad_y), (0, pad_x), (0, 0)), mode="edge") if pad_y or pad_x else frame_HW3


class Mosaic:
    """A map under way: scores of overlapping tiles, blended before anybody puts a threshold to them.

    Each tile counts by a window that is high in its middle and falls smoothly towards its edges, where a segmenter
    sees least of what surrounds a pixel; so no seam shows where one tile takes over from the next.
    """

    def __init__(self, num_classes: int, height: int, width: int) -> None:
        """Start empty; sizes in cells."""
        self._sum_Khw = np.zeros((num_classes, height, width), dtype=np.float32)
        self._weight_hw = np.zeros((height, width), dtype=np.float32)

    def add(self, scores_Khw: NDArray[np.float32], x: int, y: int) -> None:
        """Add the scores of the square tile whose top left cell is (x, y)."""
        side = scores_Khw.shape[-1]
        window_hw = _window(side)
        self._sum_Khw[:, y : y + side, x : x + side] += scores_Khw * window_hw
        self._weight_hw[y : y + side, x : x + side] += window_hw

    def blended(self) -> NDArray[np.float32]:
        """The map, map_Khw; 0 where no tile was added."""
        return np.divide(self._sum_Khw, self._weight_hw, out=np.zeros_like(self._sum_Khw), where=self._weight_hw > 0)

    @property
    def seen_hw(self) -> NDArray[np.bool_]:
        """Cells that a tile was added for."""
        return self._weight_hw > 0


def mean_of_mosaics(mosaics: Sequence[Mosaic]) -> NDArray[np.float32]:
    """In each cell the mean of those that have seen it, map_Khw; 0 where none has."""
    times_hw = np.sum([mosaic.seen_hw for mosaic in mosaics], axis=0, dtype=np.float32)
    mean_Khw: NDArray[np.float32] = np.sum([mosaic.blended() for mosaic in mosaics], axis=0) / times_hw.clip(min=1)
    return mean_Khw


@cache
def _window(side: int) -> NDArray[np.float32]:
    """sin^2 at cell centres: a Hann window that is nowhere zero, so one tile alone keeps its scores to its edge."""
    ramp = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    return np.outer(ramp, ramp).astype(np.float32)


def blend_tiles(
    image_HW3: NDArray[np.uint8],
    score_tiles: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    *,
    sides_px: Sequence[int],
    overlap_px: int,
    stride_px: int,
) -> NDArray[np.float32]:
    """Cut a picture into tiles, score them some at a time, and blend the scores into one map.

    Args:
        image_HW3: RGB; sides are multiples of the stride.
        score_tiles: RGB tiles (N, side_px, side_px, 3) -> scores (N, K, side, side), one cell per stride.
        sides_px: Of the tiles; with several, the picture is cut into tiles of each, and the map is the mean of theirs.
        overlap_px: Pixels that neighbours share at least; a multiple of the stride.
        stride_px: Pixels per cell of the map.

    Returns:
        map_Khw.
    """
    height, width = image_HW3.shape[:2]
    maps: list[NDArray[np.float32]] = []
    for side_px in sides_px:
        boxes_N4 = tile_boxes(height, width, side_px, overlap_px)
        mosaic: Mosaic | None = None
        for batch in (boxes_N4[first : first + _BATCH] for first in range(0, len(boxes_N4), _BATCH)):
            scores_NKhw = score_tiles(np.stack([image_HW3[y0:y1, x0:x1] for x0, y0, x1, y1 in batch]))
            mosaic = mosaic or Mosaic(scores_NKhw.shape[1], height // stride_px, width // stride_px)
            for (x0, y0, _, _), scores_Khw in zip(batch, scores_NKhw, strict=True):
                mosaic.add(scores_Khw, x0 // stride_px, y0 // stride_px)
        assert mosaic is not None, "every picture has a tile"
        maps.append(mosaic.blended())
    mean_Khw: NDArray[np.float32] = np.mean(maps, axis=0)
    return mean_Khw
