"""Scores from which a contaminant counts as found, chosen where a false alarm is felt: on whole loads.

Legend: L loads, F frames of a load, K contaminants.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

_ABOVE = 0.005
"""A threshold lies so much above the score that must not pass it."""
_RANGE = (0.05, 0.99)
"""Lowest and highest threshold that is ever chosen."""


def choose_thresholds(
    peaks_of_clean_loads: Sequence[npt.ArrayLike],
    peaks_of_contaminated_loads: Sequence[npt.ArrayLike],
    max_flagged_frac: float,
) -> tuple[float, ...]:
    """The thresholds, one for each contaminant, that flag most contaminated loads and few clean ones.

    A load is flagged where a contaminant passes its threshold in two frames, as the robust count of a load asks for; a
    load with a single frame has that one's word. The false alarms that are allowed go to the contaminants that gain
    most by them: a class whose scores tell little is better kept silent.

    Args:
        peaks_of_clean_loads: For each load without any contaminant, the highest score of each contaminant in each
            frame, (F, K); measured with whatever thresholds.
        peaks_of_contaminated_loads: The same for loads that should be flagged.
        max_flagged_frac: Share of the clean loads that may be flagged wrongly.

    Raises:
        ValueError: There is no clean load.
    """
    if not peaks_of_clean_loads:
        raise ValueError("there is no clean load, so nothing tells what a false alarm is; add loads without any")
    clean_LK, contaminated_LK = map(_second_highest, (peaks_of_clean_loads, peaks_of_contaminated_loads))
    highest_first_LK = np.sort(clean_LK, axis=0)[::-1]
    most = min(int(max_flagged_frac * len(clean_LK)), len(clean_LK) - 1)
    best_K, found = highest_first_LK[0], -1
    classes = np.arange(clean_LK.shape[1])
    # Each false alarm that is allowed goes to a class or, as number 0, to none; those with the fewest come first.
    for spent in combinations_with_replacement(range(len(classes) + 1), most):
        passed_K = np.bincount(np.array(spent, np.intp), minlength=len(classes) + 1)[1:]
        limits_K = highest_first_LK[passed_K, classes]
        flagged = int((contaminated_LK > limits_K + _ABOVE).any(axis=1).sum()) if len(contaminated_LK) else 0
        if flagged > found:
            best_K, found = limits_K, flagged
    return tuple(float(score) for score in np.clip(best_K + _ABOVE, *_RANGE).round(3))


def _second_highest(peaks_of_loads: Sequence[npt.ArrayLike]) -> npt.NDArray[np.float64]:
    """Of each load and contaminant the score that two frames reach, (L, K)."""
    return np.array([np.sort(peaks_FK, axis=0)[-2:][0] for peaks_FK in peaks_of_loads])
