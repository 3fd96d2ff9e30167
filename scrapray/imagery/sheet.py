"""Pictures beside each other on one page, with outlines of what is in them.

Legend: H x W pixels.
"""

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from scrapray.imagery.png import encode_png

Pixels = NDArray[np.uint8]

_COLORS_RGB = ((255, 64, 64), (64, 200, 255), (255, 214, 10), (120, 255, 120), (255, 120, 255), (255, 160, 60))
"""Of the first contaminants; told apart on rust and on steel, by those who see no red too."""
_GAP_PX, _TITLE_PX, _LETTER_PX = 4, 22, 8
_PAPER, _INK = (255, 255, 255), (20, 20, 20)


def outlined(image_HW3: Pixels, class_HW: Pixels) -> Pixels:
    """A picture with a line around each region of a class; the map of class ids may be smaller than it."""
    height, width = image_HW3.shape[:2]
    drawn_HW3 = np.array(image_HW3, order="C")
    whole_HW = cv2.resize(class_HW, (width, height), interpolation=cv2.INTER_NEAREST)
    for class_id in np.unique(whole_HW[whole_HW > 0]):
        lines, _ = cv2.findContours((whole_HW == class_id).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn_HW3, lines, -1, color_of(int(class_id)), thickness=2)
    return drawn_HW3


def heated(image_HW3: Pixels, map_hw: NDArray[np.floating]) -> Pixels:
    """A picture, darkened, with scores from 0 to 1 glowing on it; the map may be smaller than it."""
    height, width = image_HW3.shape[:2]
    scores_HW = cv2.resize(np.asarray(map_hw, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    colors_HW3 = cv2.applyColorMap(np.rint(scores_HW * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.asarray(cv2.addWeighted(image_HW3, 0.4, np.ascontiguousarray(colors_HW3), 0.6, 0), np.uint8)


def color_of(class_id: int) -> tuple[int, int, int]:
    """RGB of a contaminant's lines, by its class id."""
    return _COLORS_RGB[(class_id - 1) % len(_COLORS_RGB)]


def sheet(pictures: Sequence[Pixels], *, columns: int, titles: Sequence[str], legend: Sequence[str] = ()) -> bytes:
    """PNG of pictures of one size, row by row.

    Args:
        pictures: Each (H, W, 3), RGB.
        columns: Pictures in a row.
        titles: Stand above the columns, in turn; long ones take several lines.
        legend: Names of the contaminants by their class ids, written in the colours of their lines.
    """
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    step_y, step_x = height + _GAP_PX, width + _GAP_PX
    lines = [textwrap.wrap(title, max(width // _LETTER_PX, 1)) for title in titles]
    head_px = _TITLE_PX * (max(1, *map(len, lines)) + bool(legend))
    page_HW3 = np.full((head_px + rows * step_y, columns * step_x, 3), _PAPER, np.uint8)
    for class_id, name in enumerate(legend, start=1):
        x = 4 + (class_id - 1) * columns * step_x // len(legend)
        cv2.rectangle(page_HW3, (x, 4), (x + 12, 16), color_of(class_id), thickness=-1)
        _write(page_HW3, name, x + 18, 0)
    for column in range(columns):
        for number, line in enumerate(lines[column % len(titles)]):
            _write(page_HW3, line, 4 + column * step_x, _TITLE_PX * (number + bool(legend)))
    for place, picture_HW3 in enumerate(pictures):
        row, column = divmod(place, columns)
        top, left = head_px + row * step_y, column * step_x
        page_HW3[top : top + height, left : left + width] = picture_HW3
    return encode_png(page_HW3)


def _write(page_HW3: Pixels, words: str, x: int, y: int) -> None:
    cv2.putText(page_HW3, words, (x, y + 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
