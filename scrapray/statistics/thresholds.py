"""Scores from which a contaminant counts as found, chosen where a false alarm is felt: on whole loads.

Legend: L loads, F frames of a load, K contaminants.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_ABOVE = 0.005
"""A threshold lies so much above the score that must not pass it."""
_RANGE = (0.05, 0.99)
"""Lowest and highest threshold that is ever chosen."""


def choose_thresholds(peaks_of_clean_loads: Sequence[npt.ArrayLike], max_flagged_frac: float) -> tuple[float, ...]:
    """For each contaminant the lowest threshold that few clean loads pass in two of their frames.

    Two frames are what the robust count of a load asks for; a load with a single frame has that one's word.

    Args:
        peaks_of_clean_loads: For each load without any contaminant, the highest score of each contaminant in each
            frame, (F, K); measured with whatever thresholds.
        max_flagged_frac: Share of these loads that each contaminant may flag wrongly.

    Raises:
        ValueError: There is no clean load.
    """
    if not peaks_of_clean_loads:
        raise ValueError("there is no clean load, so nothing tells what a false alarm is; add loads without any")
    second_LK = np.array([np.sort(peaks_FK, axis=0)[-2:][0] for peaks_FK in peaks_of_clean_loads])
    highest_K = np.sort(second_LK, axis=0)[-1 - int(max_flagged_frac * len(second_LK))]
    return tuple(float(score) for score in np.clip(highest_K + _ABOVE, *_RANGE).round(3))
