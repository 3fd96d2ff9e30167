"""What chance does to figures: loads are drawn anew, with replacement, many times over.

Pixels of one load are near copies of each other, so loads are drawn and not pixels. What was counted on each load is
enough: a draw is a sum of loads, each as often as it was drawn, and no map is looked at again.

Shapes: L loads, U bins in use, from the highest score downwards, R draws.

Reference: percentile bootstrap (Efron and Tibshirani 1993, chapter 13).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from scrapray.statistics.metrics import MAX_FALSE_ALARM_RATE, ScoreHistogram

_MOST_BINS = 1 << 16
"""Of all loads of a split together."""
CONFIDENCE = 0.95
FIGURES = ("auroc", "average_precision", "f1_max", "aupro_exact")
"""Of ``PixelMetrics``, that have intervals."""
_NUM_DRAWS = 1000
_DRAWS_AT_ONCE = 20
"""So many draws of ``_MOST_BINS`` take 10 MB for each array."""

Floats = npt.NDArray[np.float64]


def draws(num_loads: int) -> Iterator[npt.NDArray[np.int64]]:
    """How often each load was drawn, some draws at a time, num_RL; the same draws every time."""
    rng = np.random.default_rng(0)
    for _ in range(_NUM_DRAWS // _DRAWS_AT_ONCE):
        drawn_RL = rng.integers(num_loads, size=(_DRAWS_AT_ONCE, num_loads))
        yield np.stack([np.bincount(drawn_L, minlength=num_loads) for drawn_L in drawn_RL])


def interval(figures: Sequence[Floats]) -> tuple[float, float] | None:
    """Where 95 % of the draws lie; a draw without the figure says nothing, and None if none has it."""
    known = np.concatenate(figures)
    known = known[~np.isnan(known)]
    if not len(known):
        return None
    low, high = np.percentile(known, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


class LoadHistograms:
    """Histograms of loads, which come one after the other, in common bins.

    As in their sum (``metrics``), bins are made wider by halves as few times as needed, which depends on all scores
    together and not on their order: scores that lie close together are told apart as well as others.
    """

    def __init__(self) -> None:
        """None yet."""
        self.loads: list[ScoreHistogram] = []
        self._used_U = np.zeros(0, np.int32)
        self._dropped_bits = 0

    def add(self, histogram: ScoreHistogram) -> None:
        """Put one more beside the others."""
        dropped_bits = max(self._dropped_bits, histogram.dropped_bits)
        used_U = np.union1d(self._used_U, histogram.bins_U) >> dropped_bits
        while len(numbers_U := np.unique(used_U)) > _MOST_BINS:
            dropped_bits += 1
            used_U = numbers_U >> 1
        if dropped_bits > self._dropped_bits:
            self.loads = [load.coarsened(dropped_bits) for load in self.loads]
        self.loads.append(histogram.coarsened(dropped_bits))
        self._used_U, self._dropped_bits = numbers_U << dropped_bits, dropped_bits


@dataclass(frozen=True, slots=True, eq=False)
class LoadMatrix:
    """Histograms of loads side by side, in common bins.

    Sparse, since a load uses few bins of all, and contaminants stand in few of those; they take less memory than the
    histograms themselves.
    """

    normal_LU: sparse.csr_array
    contaminant_LU: sparse.csr_array
    overlap_LU: sparse.csr_array
    num_regions_L: Floats

    @classmethod
    def of(cls, histograms: Sequence[ScoreHistogram]) -> Self:
        """Put the histograms of loads, at least one, side by side."""
        common = LoadHistograms()
        for histogram in histograms:
            common.add(histogram)
        bins = [load.bins_U for load in common.loads]
        used_U = np.unique(np.concatenate(bins))
        normal_LU, contaminant_LU, overlap_LU = (
            _side_by_side(counts, bins, used_U)
            for counts in zip(
                *((load.normal_U, load.contaminant_U, load.overlap_U) for load in common.loads), strict=True
            )
        )
        num_regions_L = np.array([load.num_regions for load in common.loads], np.float64)
        return cls(normal_LU, contaminant_LU, overlap_LU, num_regions_L)

    def average_precision(self, num_RL: npt.NDArray[np.int64]) -> Floats:
        """Of each draw; not a number where it has no contaminant. The formulas are ``ScoreHistogram.metrics``'."""
        found_RU = num_RL @ self.contaminant_LU
        false_alarms_RU = np.cumsum(num_RL @ self.normal_LU, axis=1)
        return _average_precision(found_RU, np.cumsum(found_RU, axis=1), false_alarms_RU)

    def figures(self, num_RL: npt.NDArray[np.int64]) -> dict[str, Floats]:
        """``FIGURES`` of each draw; not a number where it has none."""
        normal_RU, found_RU = num_RL @ self.normal_LU, num_RL @ self.contaminant_LU
        false_alarms_RU, hits_RU = np.cumsum(normal_RU, axis=1), np.cumsum(found_RU, axis=1)
        num_normal_R, num_found_R = false_alarms_RU[:, -1], hits_RU[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            f1_RU = 2 * hits_RU / (hits_RU + false_alarms_RU + num_found_R[:, None])
            rate_RU = false_alarms_RU / num_normal_R[:, None]
            overlap_RU = np.cumsum(num_RL @ self.overlap_LU, axis=1) / (num_RL @ self.num_regions_L)[:, None]
            return {
                "auroc": np.sum(normal_RU * (hits_RU - found_RU / 2), axis=1) / num_normal_R / num_found_R,
                "average_precision": _average_precision(found_RU, hits_RU, false_alarms_RU),
                "f1_max": np.where(num_found_R > 0, f1_RU.max(axis=1), np.nan),
                "aupro_exact": _areas(rate_RU, overlap_RU),
            }


def intervals(histograms: Sequence[ScoreHistogram]) -> dict[str, tuple[float, float] | None]:
    """95 % intervals of figures over loads, by the names of ``PixelMetrics``.

    Args:
        histograms: Of each load, at least one; the split is their sum. One alone says nothing of chance.
    """
    if len(histograms) == 1:
        return dict.fromkeys(FIGURES)
    matrix = LoadMatrix.of(histograms)
    drawn = [matrix.figures(num_RL) for num_RL in draws(len(histograms))]
    return {name: interval([figures[name] for figures in drawn]) for name in FIGURES}


def _side_by_side(
    counts: Sequence[npt.NDArray[Any]], bins: Sequence[npt.NDArray[np.int32]], used_U: npt.NDArray[np.int32]
) -> sparse.csr_array:
    """Counts of each load in its bins among all in use, ascending: (L, U), from the highest score downwards."""
    ends = np.cumsum([0, *map(np.count_nonzero, counts)])
    values, places = np.empty(ends[-1]), np.empty(ends[-1], np.int32)
    for of_load, bins_of_load, first, end in zip(counts, bins, ends[:-1], ends[1:], strict=True):
        shown = np.flatnonzero(of_load)
        values[first:end] = of_load[shown]
        places[first:end] = len(used_U) - 1 - np.searchsorted(used_U, bins_of_load[shown])
    return sparse.csr_array((values, places, ends), shape=(len(counts), len(used_U)))


def _average_precision(found_RU: Floats, hits_RU: Floats, false_alarms_RU: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        precision: Floats = np.nansum(found_RU * (hits_RU / (hits_RU + false_alarms_RU)), axis=1) / hits_RU[:, -1]
    return precision


def _areas(rate_RU: Floats, overlap_RU: Floats) -> Floats:
    """Area under each curve from (0, 0) up to ``MAX_FALSE_ALARM_RATE``, divided by that."""
    start = np.zeros((len(rate_RU), 1))
    rate_RU, overlap_RU = np.hstack([start, rate_RU]), np.hstack([start, overlap_RU])
    width_RU = np.diff(rate_RU, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share_RU = np.clip((MAX_FALSE_ALARM_RATE - rate_RU[:, :-1]) / width_RU, 0, 1)  # of each step, below the limit
        height_RU = overlap_RU[:, :-1] + share_RU * np.diff(overlap_RU, axis=1) / 2
        areas_R: Floats = np.sum(np.where(width_RU > 0, share_RU * width_RU * height_RU, 0), axis=1)
    areas_R[np.isnan(overlap_RU[:, -1]) | np.isnan(rate_RU[:, -1])] = np.nan
    return areas_R / MAX_FALSE_ALARM_RATE
