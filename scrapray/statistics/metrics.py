"""How well maps find contaminants, pixel by pixel, over any number of frames and workers.

Scores are counted in bins of their own order, so counts of many workers add up to those of one, and every curve
follows from cumulative sums. A bin is 2^-11 of its score wide: against a full sort of a million pixels the
figures differ by less than 1e-3.

Shapes: B bins, U those of them that are named.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

MAX_FALSE_ALARM_RATE = 0.3
"""Up to which the overlap with regions is integrated."""

_KEY_BITS = 20
_DROPPED_BITS = 32 - _KEY_BITS
_SIGN = np.uint32(1 << 31)


@dataclass(frozen=True, slots=True)
class PixelMetrics:
    """Figures of one class, or of all contaminants together; those that the truth leaves undefined are None.

    Attributes:
        prevalence: Share of pixels that are contaminants: what chance reaches in average precision.
        auroc: Area under the curve of recall over false alarm rate; chance is 0.5.
        average_precision: Mean precision over recall, without interpolation.
        f1_max: Best harmonic mean of precision and recall over all thresholds.
        f1_threshold: Score from which on pixels count as found there.
        aupro: Area under the curve of mean overlap with a region over false alarm rate up to
            ``MAX_FALSE_ALARM_RATE``, divided by that; small regions weigh as much as large ones; chance is 0.15.
    """

    prevalence: float
    auroc: float | None
    average_precision: float | None
    f1_max: float | None
    f1_threshold: float | None
    aupro: float | None


@dataclass(frozen=True, slots=True, eq=False)
class ScoreHistogram:
    """Counts of pixels by score and truth; ``a + b`` is what one worker would have counted on both.

    Attributes:
        normal_B: Pixels that are no contaminants.
        contaminant_B: Pixels that are.
        overlap_B: Of the same pixels, each as its share of its region.
        num_regions: Connected regions of contaminant pixels, corners included.
    """

    normal_B: npt.NDArray[np.int64]
    contaminant_B: npt.NDArray[np.int64]
    overlap_B: npt.NDArray[np.float64]
    num_regions: int

    @classmethod
    def empty(cls) -> Self:
        """Nothing counted yet."""
        normal_B, contaminant_B = np.zeros((2, 1 << _KEY_BITS), np.int64)
        return cls(normal_B, contaminant_B, np.zeros(1 << _KEY_BITS), 0)

    @classmethod
    def of(cls, scores: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_]) -> Self:
        """Count the pixels of maps.

        Args:
            scores: One map (H, W) or several (..., H, W); higher is more suspicious.
            truth: Same shape; true on contaminants.

        Raises:
            ValueError: The shapes differ or a score is not a number.
        """
        if scores.shape != truth.shape:
            raise ValueError(f"scores have shape {scores.shape}, truth has {truth.shape}; they must be the same")
        if np.isnan(scores).any():
            raise ValueError("a score is not a number; metrics of such maps would mean nothing")
        keys, bins = _keys(scores), 1 << _KEY_BITS
        regions, num_regions = ndimage.label(truth, _neighbours(truth.ndim))
        region_of_pixel = regions[truth]
        shares = 1 / np.bincount(region_of_pixel, minlength=1)[region_of_pixel]
        return cls(
            np.bincount(keys[~truth], minlength=bins),
            np.bincount(keys[truth], minlength=bins),
            np.bincount(keys[truth], shares, bins).astype(np.float64),
            num_regions,
        )

    @classmethod
    def of_bins(
        cls,
        bins_U: npt.NDArray[np.integer],
        normal_U: npt.NDArray[np.int64],
        contaminant_U: npt.NDArray[np.int64],
        overlap_U: npt.NDArray[np.float64] | None = None,
        num_regions: int = 0,
    ) -> Self:
        """Counts of some bins, each named once or oftener; all others are empty. Regions may stay unknown."""
        whole = cls.empty()
        np.add.at(whole.normal_B, bins_U, normal_U)
        np.add.at(whole.contaminant_B, bins_U, contaminant_U)
        if overlap_U is not None:
            np.add.at(whole.overlap_B, bins_U, overlap_U)
        return replace(whole, num_regions=num_regions)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without its empty bins: on its way between workers it takes kilobytes, not megabytes."""
        used = self.used_bins()
        counts = (self.normal_B[used], self.contaminant_B[used], self.overlap_B[used], self.num_regions)
        return type(self).of_bins, (used, *counts)

    def used_bins(self) -> npt.NDArray[np.int64]:
        """Numbers of the bins that are not empty, from the lowest score upwards."""
        return np.flatnonzero(self.normal_B + self.contaminant_B)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.normal_B + other.normal_B,
            self.contaminant_B + other.contaminant_B,
            self.overlap_B + other.overlap_B,
            self.num_regions + other.num_regions,
        )

    def metrics(self) -> PixelMetrics:
        """All figures, from the highest score downwards.

        Reference: the definitions of scikit-learn's ``roc_auc_score``, ``average_precision_score`` and
        ``precision_recall_curve``, pooled over all pixels as in WinCLIP; per-region overlap as in MVTec AD, over all
        distinct scores.
        """
        used = self.used_bins()[::-1]
        normal, found = self.normal_B[used], self.contaminant_B[used]
        num_normal, num_found = int(normal.sum()), int(found.sum())
        if num_found == 0:
            return PixelMetrics(0.0, None, None, None, None, None)
        false_alarms, hits = np.cumsum(normal), np.cumsum(found)
        precision = hits / (hits + false_alarms)
        f1 = 2 * hits / (hits + false_alarms + num_found)
        best = int(f1.argmax())
        return PixelMetrics(
            prevalence=num_found / (num_found + num_normal),
            auroc=float(np.sum(normal * (hits - found / 2)) / num_normal / num_found) if num_normal else None,
            average_precision=float(np.sum(found * precision) / num_found),
            f1_max=float(f1[best]),
            f1_threshold=_score(int(used[best])),
            aupro=_aupro(false_alarms / num_normal, np.cumsum(self.overlap_B[used]) / self.num_regions)
            if num_normal and self.num_regions
            else None,
        )

    def recall_at(self, threshold: float) -> float | None:
        """Share of contaminant pixels that score ``threshold`` or more; None without any contaminant."""
        total = int(self.contaminant_B.sum())
        return int(self.contaminant_B[self._from(threshold) :].sum()) / total if total else None

    def precision_at(self, threshold: float) -> float | None:
        """Share of contaminants among pixels that score ``threshold`` or more; None where there are none."""
        found = int(self.contaminant_B[self._from(threshold) :].sum())
        total = found + int(self.normal_B[self._from(threshold) :].sum())
        return found / total if total else None

    def _from(self, threshold: float) -> int:
        return int(_keys(np.array([threshold], np.float32))[0])


def _neighbours(ndim: int) -> npt.NDArray[np.bool_]:
    """Pixels of one map that touch, corners included; maps that lie behind each other do not touch."""
    same_map = np.zeros((3,) * ndim, np.bool_)
    same_map[(1,) * max(0, ndim - 2)] = True
    return same_map


def _aupro(false_alarm_rate: npt.NDArray[np.float64], overlap: npt.NDArray[np.float64]) -> float:
    """Area under a curve that begins at (0, 0), cut at the limit between two of its points."""
    rate, overlap = np.append(0, false_alarm_rate), np.append(0, overlap)
    end = int(np.searchsorted(rate, MAX_FALSE_ALARM_RATE, side="right"))
    at_limit = np.interp(MAX_FALSE_ALARM_RATE, rate[end - 1 : end + 1], overlap[end - 1 : end + 1])
    area = np.trapezoid(np.append(overlap[:end], at_limit), np.append(rate[:end], MAX_FALSE_ALARM_RATE))
    return float(area / MAX_FALSE_ALARM_RATE)


def _keys(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.uint32]:
    """The leading bits of each score, rearranged so that they are ordered like the scores."""
    # Adding zero turns -0.0, which would stand below 0.0, into 0.0.
    bits = (np.ascontiguousarray(scores, np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN) >> np.uint32(_DROPPED_BITS)


def _score(key: int) -> float:
    """Lowest score of a bin."""
    ordered = np.array([key << _DROPPED_BITS], np.uint32)
    bits = np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered)
    return float(bits.view(np.float32)[0])
