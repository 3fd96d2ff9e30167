"""How alike two frames look, coarsely: what a person would call the same picture, taken a moment later."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from scrapray.imagery.bed import around

_SIDE_PX = 16
_MOST_DIFFERENCE = 0.02
"""Mean difference of grey, as a share of full scale, up to which two frames count as near copies."""


def coarse_look(frame_HW3: NDArray[np.uint8], bed_HW: NDArray[np.bool_]) -> bytes:
    """16 x 16 mean grey levels of the box around the truck bed, row by row.

    Means, other than single pixels, forget the noise of the sensor: a heap that stands still looks the same.
    """
    grey_HW = cv2.cvtColor(np.ascontiguousarray(frame_HW3[around(bed_HW)]), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey_HW, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)).tobytes()


def near_copies(looks: Sequence[bytes]) -> list[tuple[int, int]]:
    """Pairs of places whose frames look alike, by ``coarse_look``; the earlier place first."""
    if not looks:
        return []
    grey_NF = np.stack([np.frombuffer(look, np.uint8) for look in looks]) / 255
    pairs = cKDTree(grey_NF).query_pairs(_MOST_DIFFERENCE * grey_NF.shape[1], p=1, output_type="ndarray")
    return sorted((int(one), int(other)) for one, other in pairs)
