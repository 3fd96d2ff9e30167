"""Frames -> overlapping square tiles, and tile scores -> one blended map.

A frame can be looked at twice: all over with wide tiles, then at every suspicion with a tile of its own, which has the
last word there. That tile is centred on what is suspicious and as close as its size allows, so this stands in it whole
and with what surrounds it on all sides, which no grid of tiles can promise.

Shapes: N tiles, K classes, H W pixels of a frame, h w cells of a map (one cell is ``stride_px`` pixels each way).
Boxes are xyxy, half-open.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scrapray.imagery.components import EIGHT_CONNECTED

_BATCH = 16
_ROOM = 0.25
"""Share of a tile's side that is left around a place."""


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


def boxes_around(
    places_hw: NDArray[np.bool_], sides_px: Sequence[int], overlap_px: int, stride_px: int
) -> dict[int, NDArray[np.intp]]:
    """Boxes of tiles around marked places, each 8-connected place in the middle of its own.

    A place is looked at with the smallest tile that leaves ``_ROOM`` around it, or with the largest there is.

    Args:
        places_hw: What to look at, in cells of a map of the frame.
        sides_px: Of the tiles; at most those of the frame.
        overlap_px: Pixels that neighbours share at least, where a place is larger than a tile.
        stride_px: Pixels per cell, by which tiles are aligned.

    Returns:
        boxes_N4 of each side, none twice; inside the frame, so at its edge a place is not quite in the middle.
    """
    limit_yx = tuple(cells * stride_px for cells in places_hw.shape)
    corners: dict[int, set[tuple[int, ...]]] = {side_px: set() for side_px in sides_px}
    labels_hw, _ = ndimage.label(places_hw, structure=EIGHT_CONNECTED)
    for place in ndimage.find_objects(labels_hw):
        extents = [(cells.start * stride_px, cells.stop * stride_px) for cells in place]
        length_px = max(stop - start for start, stop in extents)
        side_px = min((side for side in sides_px if length_px <= side * (1 - _ROOM)), default=max(sides_px))
        starts = (
            _starts_around(*extent, limit, side_px, overlap_px, stride_px)
            for extent, limit in zip(extents, limit_yx, strict=True)
        )
        corners[side_px].update(itertools.product(*starts))
    return {
        side_px: np.array([(x, y, x + side_px, y + side_px) for y, x in sorted(found)], np.intp).reshape(-1, 4)
        for side_px, found in corners.items()
    }


def second_looks(
    places_hw: NDArray[np.bool_], everywhere: Mapping[int, NDArray[np.intp]], overlap_px: int, stride_px: int
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Looks at marked places: side and boxes_N4, the widest first and each of one tile or more.

    Args:
        places_hw: As for ``boxes_around``.
        everywhere: For each side of tiles, the boxes that cover all there is; no look takes more than these, however
            many places are marked.
        overlap_px: As for ``boxes_around``.
        stride_px: As for ``boxes_around``.
    """
    around = boxes_around(places_hw, list(everywhere), overlap_px, stride_px)
    for side_px in sorted(everywhere, reverse=True):
        if len(around[side_px]):
            yield side_px, min(around[side_px], everywhere[side_px], key=len)


def _starts_around(
    start_px: int, stop_px: int, limit_px: int, tile_px: int, overlap_px: int, stride_px: int
) -> list[int]:
    covered_px = max(stop_px - start_px, tile_px)
    first_px = (start_px + stop_px - covered_px) // 2
    starts = (first_px + start for start in _starts(covered_px, tile_px, tile_px - overlap_px))
    return [min(max(start // stride_px * stride_px, 0), limit_px - tile_px) for start in starts]


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
    sees least of what surrounds a pixel; so no seam shows where one tile takes over from the next of the same look.
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


def last_word(mosaics: Sequence[Mosaic]) -> NDArray[np.float32]:
    """In each cell the score of the last mosaic that has seen it, map_Khw; 0 where none has."""
    first, *later = mosaics
    map_Khw = first.blended()
    for mosaic in later:
        np.copyto(map_Khw, mosaic.blended(), where=mosaic.seen_hw)
    return map_Khw


def suspicious(map_Khw: NDArray[np.float32], least_K: Sequence[float]) -> NDArray[np.bool_]:
    """Cells in which a contaminant scores at least so much, places_hw."""
    places_hw: NDArray[np.bool_] = np.any(map_Khw >= np.array(least_K, np.float32)[:, None, None], axis=0)
    return places_hw


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
    """Cut a picture into tiles, score them some at a time, and blend the scores into one map; for figures by pixel.

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
    maps = [
        blend_boxes(image_HW3, tile_boxes(height, width, side_px, overlap_px), score_tiles, stride_px)
        for side_px in sides_px
    ]
    mean_Khw: NDArray[np.float32] = np.mean(maps, axis=0)
    return mean_Khw


def blend_boxes(
    image_HW3: NDArray[np.uint8],
    boxes_N4: NDArray[np.intp],
    score_tiles: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    stride_px: int,
) -> NDArray[np.float32]:
    """The map of these tiles, at least one, map_Khw; see ``blend_tiles``."""
    return _mosaic(image_HW3, boxes_N4, score_tiles, stride_px).blended()


def look_twice(
    image_HW3: NDArray[np.uint8],
    score_tiles: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    *,
    sides_px: Sequence[int],
    suspicion: float,
    overlap_px: int,
    stride_px: int,
) -> NDArray[np.float32]:
    """The map of one picture, map_Khw, as an audit sees it; with tiles of one side, they are all there is.

    Args:
        image_HW3: As for ``blend_tiles``, like all that is not told here.
        score_tiles: Scores tiles of any of the sides.
        sides_px: Of the tiles.
        suspicion: Score in a tile of the largest side from which on a place is looked at again.
        overlap_px: Pixels that neighbours share at least.
        stride_px: Pixels per cell of the map.
    """
    height, width = image_HW3.shape[:2]
    everywhere = {side_px: tile_boxes(height, width, side_px, overlap_px) for side_px in sides_px}
    mosaics = [_mosaic(image_HW3, everywhere[max(sides_px)], score_tiles, stride_px)]
    if len(sides_px) > 1:
        map_Khw = mosaics[0].blended()
        places_hw = suspicious(map_Khw, [suspicion] * len(map_Khw))
        for _, boxes_N4 in second_looks(places_hw, everywhere, overlap_px, stride_px):
            mosaics.append(_mosaic(image_HW3, boxes_N4, score_tiles, stride_px))
    return last_word(mosaics)


def _mosaic(
    image_HW3: NDArray[np.uint8],
    boxes_N4: NDArray[np.intp],
    score_tiles: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    stride_px: int,
) -> Mosaic:
    height, width = image_HW3.shape[:2]
    mosaic: Mosaic | None = None
    for batch in (boxes_N4[first : first + _BATCH] for first in range(0, len(boxes_N4), _BATCH)):
        scores_NKhw = score_tiles(np.stack([image_HW3[y0:y1, x0:x1] for x0, y0, x1, y1 in batch]))
        mosaic = mosaic or Mosaic(scores_NKhw.shape[1], height // stride_px, width // stride_px)
        for (x0, y0, _, _), scores_Khw in zip(batch, scores_NKhw, strict=True):
            mosaic.add(scores_Khw, x0 // stride_px, y0 // stride_px)
    assert mosaic is not None, "a map has a tile"
    return mosaic
