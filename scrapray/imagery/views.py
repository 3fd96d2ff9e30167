"""Parts of a frame as small files for the eye, and outlines of masks as polygons to lay over them.

Pictures keep the pixels of the frame: nothing is drawn into them, so that they can serve as evidence.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from scrapray.imagery.masks import decode_cut_out

Box = tuple[int, int, int, int]
Point = tuple[int, int]

_QUALITY = 78
"""Of WebP: at this one a 4K frame's fine scrap has no blocks that an eye finds at full size."""
_TOLERANCE_PX = 1.5
"""How far an outline may run beside the edge of its mask; maps have one value per four pixels."""


def encode_view(frame_HW3: NDArray[np.uint8], box_xyxy: Box, width_px: int) -> bytes:
    """A part of a frame as WebP.

    Args:
        frame_HW3: uint8 RGB.
        box_xyxy: The part.
        width_px: Width of the picture, at most that of the part: with the same, every pixel of it is one of the frame.
    """
    x0, y0, x1, y1 = box_xyxy
    part_HW3 = frame_HW3[y0:y1, x0:x1]
    if width_px < x1 - x0:
        height_px = max(1, round((y1 - y0) * width_px / (x1 - x0)))
        part_HW3 = np.asarray(cv2.resize(part_HW3, (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8)
    written, data = cv2.imencode(
        ".webp", np.ascontiguousarray(part_HW3[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, _QUALITY]
    )
    assert written, f"a picture of shape {part_HW3.shape}"
    return data.tobytes()


def outlines(mask: dict[str, Any]) -> list[list[Point]]:
    """Polygons around the pixels of a value of ``schema.MASK``, corners (x, y) in frame pixels; holes are left out."""
    mask_HW, (x, y) = decode_cut_out(mask)
    # Contours run through the outermost pixels; one more to the right and below makes them run around all pixels.
    wide_HW = np.pad(mask_HW, ((0, 1), (0, 1)))
    wide_HW[1:] |= wide_HW[:-1].copy()
    wide_HW[:, 1:] |= wide_HW[:, :-1].copy()
    lines, _ = cv2.findContours(wide_HW.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    return [_corners(np.asarray(line, np.int32)) for line in lines]


def _corners(line: NDArray[np.int32]) -> list[Point]:
    """Of a closed line, fewer than it has where that leaves three."""
    simple = cv2.approxPolyDP(line, _TOLERANCE_PX, closed=True)
    return [(int(x), int(y)) for x, y in (simple if len(simple) >= 3 else line).reshape(-1, 2)]
