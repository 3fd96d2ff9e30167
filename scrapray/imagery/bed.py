"""The truck bed: the part of a frame that holds scrap, a polygon per camera."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrapray.errors import FrameError

Polygon = Sequence[tuple[float, float]]


def bed_mask(polygon_px: Polygon | None, frame_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centre lies inside the polygon (even-odd rule); without a polygon, the whole frame.

    Args:
        polygon_px: Corners (x, y) in frame pixels, origin at the top left corner of the top left pixel.
        frame_hw: Height and width of the frame.

    Returns:
        bed_HW.

    Raises:
        FrameError: Stage ``bed``: ``polygon_outside_frame`` if a corner lies outside the frame, as it does when the
            camera's resolution changed after the polygon was drawn; ``polygon_empty`` if no pixel is inside.
    """
    height, width = frame_hw
    if polygon_px is None:
        return np.ones(frame_hw, dtype=np.bool_)
    if any(not (0 <= x <= width and 0 <= y <= height) for x, y in polygon_px):
        raise FrameError("bed", "polygon_outside_frame", f"frame is {width}x{height}")
    # Each edge flips inside and outside for all pixels to the right of where it crosses their row.
    flips_HW = np.zeros((height, width + 1), dtype=np.bool_)
    for (x0, y0), (x1, y1) in zip(polygon_px, [*polygon_px[1:], polygon_px[0]], strict=True):
        top, bottom = sorted((y0, y1))
        rows = np.arange(height)[_first_centre(top) : _first_centre(bottom)]
        crossings = x0 + (rows + 0.5 - y0) * (x1 - x0) / ((y1 - y0) or 1.0)
        flips_HW[rows, _first_centre(crossings)] ^= True
    bed_HW: NDArray[np.bool_] = np.logical_xor.accumulate(flips_HW, axis=1)[:, :width]
    if not bed_HW.any():
        raise FrameError("bed", "polygon_empty")
    return bed_HW


def _first_centre(position: Any) -> Any:
    """Index of the first pixel whose centre is not before a position, or before each of several."""
    return np.ceil(np.asarray(position) - 0.5).astype(np.intp)


def around(bed_HW: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box that holds the bed, which holds at least one pixel."""
    rows, columns = (np.flatnonzero(bed_HW.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def touches(boxes_N4: NDArray[np.intp], bed_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which boxes (xyxy, half-open) hold at least one pixel of the bed."""
    return np.array([bed_HW[y0:y1, x0:x1].any() for x0, y0, x1, y1 in boxes_N4], dtype=np.bool_)
