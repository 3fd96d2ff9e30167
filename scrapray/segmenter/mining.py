"""Windows of whole frames on which a segmenter is wrong: what to train it on next.

A third of the training tiles or more show a contaminant; in a yard it is one tile of many hundreds. What a segmenter
takes for a contaminant once in a thousand tiles it hardly ever meets in training, and in every load of a night. So it
looks over whole frames whose truth is known, as in an audit, and its worst false alarms are trained on ("hard negative
mining", Sung and Poggio, PAMI 1998; Felzenszwalb et al., PAMI 2010, section 4.4), together with the contaminants of
these frames.

Shapes: H x W pixels of a frame, h x w cells of a score map, K contaminants.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scrapray.config import SUSPICION
from scrapray.imagery.components import EIGHT_CONNECTED
from scrapray.imagery.tiling import look_twice
from scrapray.segmenter.bundle import Bundle
from scrapray.segmenter.fit import TilePair
from scrapray.segmenter.measure import OVERLAP_PX, STRIDE_PX, cpu_is_made_for_bf16

MIN_AREA_PX = 100
"""Smaller pieces of a contaminant are not looked for."""
_NEAR_PX = 25
"""Scores so near to a contaminant are no false alarm: they are its blurred edge."""


def mined_windows(
    bundle: Bundle, frames: Iterable[TilePair], side_px: int, num_false_alarms: int
) -> Iterator[TilePair]:
    """Run a bundle over frames, and yield windows around its highest scores on steel and around each contaminant.

    Args:
        bundle: Its mistakes are looked for.
        frames: Pairs of a frame (H, W, 3), RGB, and its class ids (H, W), both uint8; sides are multiples of 4 px.
        side_px: Side of the windows; at most that of the frames.
        num_false_alarms: Windows around false alarms, per frame; no two of them lie within half a side.

    Yields:
        Picture (side_px, side_px, 3) and class ids (side_px, side_px).
    """
    for image_HW3, class_HW in frames:
        for x, y in (
            *_false_alarms(_score(bundle, image_HW3), class_HW, side_px // 2, num_false_alarms),
            *_contaminants(class_HW),
        ):
            top, left = np.clip((y - side_px // 2, x - side_px // 2), 0, np.array(class_HW.shape) - side_px)
            here = np.s_[top : top + side_px, left : left + side_px]
            yield image_HW3[here].copy(), class_HW[here].copy()


def _score(bundle: Bundle, image_HW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The highest score of any contaminant in each cell of a frame, (h, w), as an audit would see it."""

    def score_tiles(tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        return bundle.score_tiles(tiles_NHW3, tiles_NHW3.shape[1] // STRIDE_PX, autocast=cpu_is_made_for_bf16())

    map_Khw = look_twice(
        image_HW3,
        score_tiles,
        sides_px=bundle.card.tile_sides_px,
        suspicion=SUSPICION,
        overlap_px=OVERLAP_PX,
        stride_px=STRIDE_PX,
    )
    highest_hw: NDArray[np.float32] = map_Khw.max(axis=0)
    return highest_hw


def _false_alarms(
    score_hw: NDArray[np.float32], class_HW: NDArray[np.uint8], apart_px: int, number: int
) -> Iterator[tuple[int, int]]:
    """Where steel scores highest, as x, y in pixels: the highest first, then the highest that lies apart from it."""
    near_hw = ndimage.maximum_filter(class_HW[::STRIDE_PX, ::STRIDE_PX], size=2 * (_NEAR_PX // STRIDE_PX) + 1) > 0
    left_hw = np.where(near_hw, 0, score_hw)
    apart = apart_px // STRIDE_PX
    for _ in range(number):
        y, x = (int(place) for place in np.unravel_index(left_hw.argmax(), left_hw.shape))
        left_hw[max(y - apart, 0) : y + apart, max(x - apart, 0) : x + apart] = 0
        yield x * STRIDE_PX, y * STRIDE_PX


def _contaminants(class_HW: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """The middle of everything that shows of a contaminant, as x, y in pixels."""
    labels_HW, _ = ndimage.label(class_HW, structure=EIGHT_CONNECTED)
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels_HW), start=1):
        if (labels_HW[rows, columns] == label).sum() >= MIN_AREA_PX:
            yield (columns.start + columns.stop) // 2, (rows.start + rows.stop) // 2
