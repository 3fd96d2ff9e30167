"""Anomaly maps -> components: connected regions of one class, in frame pixels.

Shapes: K classes, H W pixels of the frame, h w cells of the map.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

GROW_FRAC = 0.6
"""A component reaches as far as the map stays above this share of its class's threshold."""

EIGHT_CONNECTED = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One connected region of one class.

    Attributes:
        class_index: Position among the contaminants, from 0.
        score: See ``peak_score``.
        bbox_xyxy: Tight box in frame pixels, half-open.
        area_px: Pixels of the frame that it covers.
        mask: These pixels, cut out to the box.
    """

    class_index: int
    score: float
    bbox_xyxy: tuple[int, int, int, int]
    area_px: int
    mask: NDArray[np.bool_]


def inside_bed(map_Khw: NDArray[np.float32], bed_HW: NDArray[np.bool_], stride_px: int) -> NDArray[np.float32]:
    """The map with zeros in all cells that hold no pixel of the bed, so that nothing outside it sets a score."""
    height, width = map_Khw.shape[1:]
    whole_HW = np.zeros((height * stride_px, width * stride_px), dtype=np.bool_)
    whole_HW[: bed_HW.shape[0], : bed_HW.shape[1]] = bed_HW
    cells_hw = whole_HW.reshape(height, stride_px, width, stride_px).any(axis=(1, 3))
    return np.where(cells_hw, map_Khw, np.float32(0))


def find_components(
    map_Khw: NDArray[np.float32],
    thresholds_K: Sequence[float],
    bed_HW: NDArray[np.bool_],
    stride_px: int,
    min_area_px: int,
) -> list[Component]:
    """Find what stands out of the map inside the truck bed.

    Each cell belongs to the class that exceeds its own threshold most (as a ratio), so components never overlap and
    their areas add up to the contaminated area. Thresholds act with hysteresis: regions above ``GROW_FRAC`` of the
    threshold, 8-connected, are kept where their score reaches the threshold itself. One hot cell is thus not enough
    for a detection, and a detection does not fray where the map dips a little.

    Args:
        map_Khw: Scores in [0, 1], one cell per ``stride_px`` frame pixels, as ``inside_bed`` leaves them; may reach
            over the frame's far edges.
        thresholds_K: Score that a detection needs, per class.
        bed_HW: The truck bed; nothing outside it belongs to a component.
        stride_px: Frame pixels per cell.
        min_area_px: Smaller components are dropped, in frame pixels.

    Returns:
        Components from the highest score to the lowest.
    """
    ratio_Khw = map_Khw / np.asarray(thresholds_K, dtype=np.float32)[:, None, None]
    winner_hw = ratio_Khw.argmax(axis=0)
    above_hw = ratio_Khw.max(axis=0) >= GROW_FRAC
    found = [
        component
        for k in range(len(thresholds_K))
        for component in _of_class(k, map_Khw[k], above_hw & (winner_hw == k), bed_HW, stride_px, min_area_px)
        if component.score >= thresholds_K[k]
    ]
    return sorted(found, key=lambda component: (-component.score, component.bbox_xyxy))


def _of_class(
    class_index: int,
    map_hw: NDArray[np.float32],
    region_hw: NDArray[np.bool_],
    bed_HW: NDArray[np.bool_],
    stride_px: int,
    min_area_px: int,
) -> Iterator[Component]:
    labels_hw, _ = ndimage.label(region_hw, structure=EIGHT_CONNECTED)
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels_hw), start=1):
        cells_hw = labels_hw[rows, columns] == label
        y, x = rows.start * stride_px, columns.start * stride_px
        mask_HW = cells_hw.repeat(stride_px, axis=0).repeat(stride_px, axis=1)
        inside_HW = bed_HW[y : y + mask_HW.shape[0], x : x + mask_HW.shape[1]]
        mask_HW = mask_HW[: inside_HW.shape[0], : inside_HW.shape[1]] & inside_HW
        area_px = int(mask_HW.sum())
        if area_px < max(min_area_px, 1):
            continue
        tight = ndimage.find_objects(mask_HW.astype(np.uint8))[0]
        yield Component(
            class_index=class_index,
            score=peak_score(map_hw[rows, columns][cells_hw], stride_px, min_area_px),
            bbox_xyxy=(x + tight[1].start, y + tight[0].start, x + tight[1].stop, y + tight[0].stop),
            area_px=area_px,
            mask=mask_HW[tight],
        )


def peak_score(scores_N: NDArray[np.float32], stride_px: int, min_area_px: int) -> float:
    """Mean of the highest cells that together make up the minimum area: a maximum that one cell cannot set.

    It means the same for small and large components, which a mean or a quantile over the component does not.
    """
    num_cells = min(max(1, -(-min_area_px // stride_px**2)), scores_N.size)
    return float(np.partition(scores_N, -num_cells)[-num_cells:].mean()) if num_cells else 0.0
