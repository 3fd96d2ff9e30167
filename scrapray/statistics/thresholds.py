"""Scores from which a contaminant counts as found, chosen where a false alarm is felt: on whole loads.

Legend: L clean loads, F frames of a load, K contaminants.
"""

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

from scrapray.config import SURE_CERTAINTY

_DECIMALS = 6
_ABOVE = 0.005
"""A threshold lies so much above the score that must not pass it."""


def choose_thresholds(
    peaks_of_clean_loads: Sequence[npt.ArrayLike],
    peaks_of_contaminated_loads: Sequence[npt.ArrayLike],
    max_flagged_frac: float,
    lowest: float,
) -> tuple[float, ...]:
    """The thresholds, one for each contaminant, that flag most contaminated loads and few clean loads of the future.

    A load is flagged as the rules on contaminants that ship flag it: where one passes its threshold in two frames, as
    the robust count asks for, or in one frame with certainty (``SURE_CERTAINTY``); a load with one frame has that
    one's word. The false alarms that are allowed go to the contaminants that gain most by them: a class whose scores
    tell little is better kept silent.

    Args:
        peaks_of_clean_loads: For each load without any contaminant, the highest score of each contaminant in each
            frame, (F, K); measured with thresholds of at most ``lowest``, below which peaks may rest on half a look.
        peaks_of_contaminated_loads: The same for loads that should be flagged.
        max_flagged_frac: Chance that a new clean load may have of being flagged wrongly. It passes a threshold that n
            of the L known ones pass with a chance of (n + 1) / (L + 1), since each is as likely as any other to score
            highest; any of K thresholds, then, with one of at most (all that pass + K) / (L + 1). Where some may pass,
            choosing which adds a little to that. It holds for loads of as many frames as the known ones: every further
            frame is a further chance.
        lowest: No threshold is chosen below it.

    Raises:
        ValueError: The chance is not one, or there are too few clean loads to promise it.

    Reference: ranks of exchangeable scores, as in split-conformal prediction (Lei et al. 2018), with a union bound over
    the contaminants.
    """
    if not 0 < max_flagged_frac <= 1:
        raise ValueError(f"max_flagged_frac is {max_flagged_frac}, must be above 0 and at most 1")
    num_clean = len(peaks_of_clean_loads)
    num_classes = np.shape(peaks_of_clean_loads[0])[1] if num_clean else 1
    most = min(math.floor(max_flagged_frac * (num_clean + 1) + 1e-9) - num_classes, num_clean - 1)
    if most < 0 or not num_clean:
        raise ValueError(
            f"{num_clean} clean loads cannot promise that at most {max_flagged_frac:.0%} of others are flagged; it "
            f"takes {math.ceil(num_classes / max_flagged_frac - 1e-9) - 1} or more"
        )
    clean_LK, contaminated_LK = map(_flagged_up_to, (peaks_of_clean_loads, peaks_of_contaminated_loads))
    highest_first_LK = np.sort(clean_LK, axis=0)[::-1]
    best_K, found = _just_above(highest_first_LK[0], lowest), -1
    classes = np.arange(num_classes)
    # Each false alarm that is allowed goes to a class or, as number 0, to none; those with the fewest come first.
    for spent in combinations_with_replacement(range(len(classes) + 1), most):
        passed_K = np.bincount(np.array(spent, np.intp), minlength=len(classes) + 1)[1:]
        thresholds_K = _just_above(highest_first_LK[passed_K, classes], lowest)
        flagged = int((contaminated_LK >= thresholds_K).any(axis=1).sum()) if len(contaminated_LK) else 0
        if flagged > found:
            best_K, found = thresholds_K, flagged
    return tuple(float(threshold) for threshold in best_K)


def _just_above(scores_K: npt.NDArray[np.float64], lowest: float) -> npt.NDArray[np.float64]:
    """Thresholds that these scores do not pass; near 1, half of what is left, and never 1 itself."""
    return np.clip(scores_K + np.minimum(_ABOVE, (1 - scores_K) / 2), lowest, 1 - 10**-_DECIMALS).round(_DECIMALS)


def _flagged_up_to(peaks_of_loads: Sequence[npt.ArrayLike]) -> npt.NDArray[np.float64]:
    """Of each load and contaminant the highest threshold at which it is flagged, (L, K)."""
    second_LK = np.array([np.sort(peaks_FK, axis=0)[-2:][0] for peaks_FK in peaks_of_loads])
    highest_LK = np.array([np.max(peaks_FK, axis=0) for peaks_FK in peaks_of_loads])
    up_to_LK: npt.NDArray[np.float64] = np.maximum(second_LK, (highest_LK - SURE_CERTAINTY) / (1 - SURE_CERTAINTY))
    return up_to_LK
