"""How well maps find contaminants, pixel by pixel, over any number of frames and workers.

Scores are counted in bins of their own order, so counts of many workers add up to those of one, and every curve
follows from cumulative sums. Bins are fine near 0 and near 1 alike, since maps of a segmenter that is sure of itself
crowd at both ends. Up to a million different scores each has a bin of its own and the figures are exact; beyond that
bins are made wider by halves, as few times as needed, which depends on all scores together and not on their order.

Shapes: U bins that are not empty, from the lowest score upwards.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

MAX_FALSE_ALARM_RATE = 0.3
"""Up to which the overlap with regions is integrated."""

_ROUNDING = 1e-5
"""How far a score may lie outside [0, 1]: sums and means of probabilities do, by rounding."""
_MOST_BINS = 1 << 20
"""28 bytes each."""
_HALF = int(np.float32(0.5).view(np.int32))
"""The bin of one half; the bins up to 1 mirror those down to 0."""
_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class PixelMetrics:
    """Figures of one class, or of all contaminants together; those that the truth leaves undefined are None.

    Attributes:
        prevalence: Share of pixels that are contaminants: what chance reaches in average precision.
        auroc: Area under the curve of recall over false alarm rate; chance is 0.5.
        average_precision: Mean precision over recall, without interpolation.
        f1_max: Best harmonic mean of precision and recall over all thresholds.
        f1_threshold: Score from which on pixels count as found there.
        aupro_exact: Area under the curve of mean overlap with a region over false alarm rate up to
            ``MAX_FALSE_ALARM_RATE``, divided by that; small regions weigh as much as large ones; chance is 0.15.
        aupro_repo200: The same as papers on CLIP segmenters compute it, for comparison with their tables only: at 200
            scores in equal steps, false alarm rates stretched so that the largest one below the limit counts as the
            limit. It changes when all scores are squashed alike. None too where these rates are all the same.
    """

    prevalence: float
    auroc: float | None
    average_precision: float | None
    f1_max: float | None
    f1_threshold: float | None
    aupro_exact: float | None
    aupro_repo200: float | None


class Curves(NamedTuple):
    """Points over all thresholds, from the highest score downwards; all begin at a recall of 0."""

    recall: npt.NDArray[np.float64]
    precision: npt.NDArray[np.float64]
    false_alarm_rate: npt.NDArray[np.float64]
    overlap: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How often pixels of a score are contaminants, step by step of the score.

    Attributes:
        num_px: Pixels in each step.
        contaminant_px: Contaminants among them.
        score_sum: Their scores added up.

    Reference: Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3.
    """

    num_px: npt.NDArray[np.float64]
    contaminant_px: npt.NDArray[np.float64]
    score_sum: npt.NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float | None:
        """Mean distance of score and share of contaminants, weighted by pixels; None without any pixel."""
        total = self.num_px.sum()
        return float(np.abs(self.contaminant_px - self.score_sum).sum() / total) if total else None


@dataclass(frozen=True, slots=True, eq=False)
class ScoreHistogram:
    """Counts of pixels by score and truth; ``a + b`` is what one worker would have counted on both.

    Attributes:
        bins_U: Numbers of the bins, ascending.
        normal_U: Pixels in them that are no contaminants.
        contaminant_U: Pixels that are.
        overlap_U: Of the same pixels, each as its share of its region.
        num_regions: Connected regions of contaminant pixels, corners included.
        dropped_bits: Bins are so many powers of two wide; 0 if each float32 has its own.
    """

    bins_U: npt.NDArray[np.int32]
    normal_U: npt.NDArray[np.int64]
    contaminant_U: npt.NDArray[np.int64]
    overlap_U: npt.NDArray[np.float64]
    num_regions: int
    dropped_bits: int = 0

    @classmethod
    def empty(cls) -> Self:
        """Nothing counted yet."""
        none = np.zeros(0, np.int64)
        return cls(none.astype(np.int32), none, none, np.zeros(0), 0)

    @classmethod
    def of(cls, scores: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_]) -> Self:
        """Count the pixels of maps.

        Args:
            scores: One map (h, w) or several (..., h, w) in [0, 1]; higher is more suspicious.
            truth: The pixels (..., H, W), true on contaminants: as many as cells of the map, or several to each cell,
                which then all have its score.

        Raises:
            ValueError: The shapes do not fit, or a score is not a number or outside [0, 1].
        """
        bins, side = _bins(scores), pixels_per_cell(scores, truth)
        used, cells_U = np.unique(bins, return_counts=True)
        places = np.searchsorted(used, to_pixels(bins, side)[truth])
        regions, num_regions = ndimage.label(truth, _neighbours(truth.ndim))
        region_of_pixel = regions[truth]
        shares = 1 / np.bincount(region_of_pixel, minlength=1)[region_of_pixel]
        contaminant_U = np.bincount(places, minlength=len(used)).astype(np.int64)
        overlap_U = np.bincount(places, shares, len(used)).astype(np.float64)
        return cls(used, side**2 * cells_U - contaminant_U, contaminant_U, overlap_U, num_regions)

    def __add__(self, other: Self) -> Self:
        dropped_bits = max(self.dropped_bits, other.dropped_bits)
        parts = self.coarsened(dropped_bits), other.coarsened(dropped_bits)
        # Sorted by hand: np.union1d takes a hundred times as long.
        numbers = np.sort(np.concatenate([part.bins_U for part in parts]))
        used = numbers[_is_first(numbers)]
        normal_U, contaminant_U = np.zeros((2, len(used)), np.int64)
        overlap_U = np.zeros(len(used))
        for part in parts:
            places = np.searchsorted(used, part.bins_U)
            normal_U[places] += part.normal_U
            shown = np.flatnonzero(part.contaminant_U)  # few bins have any
            contaminant_U[places[shown]] += part.contaminant_U[shown]
            overlap_U[places[shown]] += part.overlap_U[shown]
        num_regions = self.num_regions + other.num_regions
        while np.count_nonzero(_is_first(used >> dropped_bits)) > _MOST_BINS:
            dropped_bits += 1
        whole = type(self)(used, normal_U, contaminant_U, overlap_U, num_regions, parts[0].dropped_bits)
        return whole.coarsened(dropped_bits)

    def coarsened(self, dropped_bits: int) -> Self:
        """The same counts in bins that are at least so many powers of two wide."""
        if dropped_bits <= self.dropped_bits:
            return self
        numbers = self.bins_U >> dropped_bits << dropped_bits
        is_first = _is_first(numbers)
        used, places = numbers[is_first], np.cumsum(is_first) - 1
        shown = np.flatnonzero(self.contaminant_U)
        contaminant_U = np.zeros(len(used), np.int64)
        np.add.at(contaminant_U, places[shown], self.contaminant_U[shown])
        return replace(
            self,
            bins_U=used,
            normal_U=np.diff(np.append(0, np.cumsum(self.normal_U))[np.append(np.flatnonzero(is_first), len(numbers))]),
            contaminant_U=contaminant_U,
            overlap_U=np.bincount(places[shown], self.overlap_U[shown], len(used)).astype(np.float64),
            dropped_bits=dropped_bits,
        )

    def metrics(self) -> PixelMetrics:
        """All figures, from the highest score downwards.

        Reference: the definitions of scikit-learn's ``roc_auc_score``, ``average_precision_score`` and
        ``precision_recall_curve``, pooled over all pixels as in WinCLIP; per-region overlap as in MVTec AD, over all
        distinct scores.
        """
        normal, found = self.normal_U[::-1], self.contaminant_U[::-1]
        num_normal, num_found = int(normal.sum()), int(found.sum())
        if num_found == 0:
            return PixelMetrics(0.0, *(None,) * 6)
        false_alarms, hits = np.cumsum(normal), np.cumsum(found)
        precision = hits / (hits + false_alarms)
        f1 = 2 * hits / (hits + false_alarms + num_found)
        best = int(f1.argmax())
        return PixelMetrics(
            prevalence=num_found / (num_found + num_normal),
            auroc=float(np.sum(normal * (hits - found / 2)) / num_normal / num_found) if num_normal else None,
            average_precision=float(np.sum(found * precision) / num_found),
            f1_max=float(f1[best]),
            f1_threshold=float(_lowest_scores(self.bins_U[::-1][best])),
            **self._aupro(),
        )

    def _aupro(self) -> dict[str, float | None]:
        num_normal = int(self.normal_U.sum())
        if not (num_normal and self.num_regions):
            return {"aupro_exact": None, "aupro_repo200": None}
        false_alarm_rate_U = np.cumsum(self.normal_U[::-1]) / num_normal
        overlap_U = np.cumsum(self.overlap_U[::-1]) / self.num_regions
        scores_U = _lowest_scores(self.bins_U[::-1])
        return {
            "aupro_exact": _aupro_exact(false_alarm_rate_U, overlap_U),
            "aupro_repo200": _aupro_repo200(scores_U, false_alarm_rate_U, overlap_U),
        }

    def curves(self, most_points: int = 500) -> Curves | None:
        """Precision, overlap with regions and false alarms over recall, thinned out evenly; None without both kinds."""
        normal, found = self.normal_U[::-1], self.contaminant_U[::-1]
        if not (normal.any() and found.any()):
            return None
        false_alarms, hits = np.cumsum(normal), np.cumsum(found)
        # As many points where recall rises as where false alarms do.
        position = hits / hits[-1] + false_alarms / false_alarms[-1]
        kept = np.unique(
            np.searchsorted(position, np.linspace(0, position[-1], most_points)).clip(0, len(position) - 1)
        )
        return Curves(
            recall=np.append(0, (hits / hits[-1])[kept]),
            precision=np.append(1, (hits / (hits + false_alarms))[kept]),
            false_alarm_rate=np.append(0, (false_alarms / false_alarms[-1])[kept]),
            overlap=np.append(0, (np.cumsum(self.overlap_U[::-1]) / self.num_regions)[kept]),
        )

    def reliability(self, num_bins: int = 15) -> "Reliability":
        """Whether a score is the chance of a contaminant, in equal steps of the score."""
        scores_U, all_U = _lowest_scores(self.bins_U), self.normal_U + self.contaminant_U
        steps_U = np.minimum((scores_U * num_bins).astype(np.int64), num_bins - 1)
        num_px, contaminant_px, score_sum = (
            np.bincount(steps_U, weights, num_bins).astype(np.float64)
            for weights in (all_U, self.contaminant_U, all_U * scores_U)
        )
        return Reliability(num_px=num_px, contaminant_px=contaminant_px, score_sum=score_sum)

    def num_found_at(self, threshold: float) -> int:
        """Contaminant pixels that score ``threshold`` or more; those in its own bin count."""
        number = int(_bins(np.array([threshold]))[0]) >> self.dropped_bits << self.dropped_bits
        first = np.searchsorted(self.bins_U, number)
        return int(self.contaminant_U[first:].sum())

    def recall_at(self, threshold: float) -> float | None:
        """Share of contaminant pixels that score ``threshold`` or more; None without any contaminant."""
        total = int(self.contaminant_U.sum())
        return self.num_found_at(threshold) / total if total else None


def are_scores(values: npt.NDArray[np.floating]) -> bool:
    """Whether all are numbers from 0 to 1, but for rounding."""
    return bool(values.min(initial=0) >= -_ROUNDING and values.max(initial=0) <= 1 + _ROUNDING)


def _neighbours(ndim: int) -> npt.NDArray[np.bool_]:
    """Pixels of one map that touch, corners included; maps that lie behind each other do not touch."""
    same_map = np.zeros((3,) * ndim, np.bool_)
    same_map[(1,) * max(0, ndim - 2)] = True
    return same_map


def _aupro_exact(false_alarm_rate: npt.NDArray[np.float64], overlap: npt.NDArray[np.float64]) -> float:
    """Area under a curve that begins at (0, 0), cut at the limit between two of its points."""
    rate, overlap = np.append(0, false_alarm_rate), np.append(0, overlap)
    end = int(np.searchsorted(rate, MAX_FALSE_ALARM_RATE, side="right"))
    at_limit = np.interp(MAX_FALSE_ALARM_RATE, rate[end - 1 : end + 1], overlap[end - 1 : end + 1])
    area = np.trapezoid(np.append(overlap[:end], at_limit), np.append(rate[:end], MAX_FALSE_ALARM_RATE))
    return float(area / MAX_FALSE_ALARM_RATE)


def _aupro_repo200(
    scores_U: npt.NDArray[np.float32],
    false_alarm_rate_U: npt.NDArray[np.float64],
    overlap_U: npt.NDArray[np.float64],
) -> float | None:
    """As the code of AnomalyCLIP and its relatives does; all arguments from the highest score downwards."""
    lowest, highest = cast(Any, scores_U[[-1, 0]])  # steps in float32 are not those in float64
    step = (highest - lowest) / 200
    if step == 0:  # also of scores that differ by less than float32 can divide
        return None
    thresholds = np.arange(lowest, highest, step)
    num_above = np.searchsorted(-scores_U, -thresholds)
    rate, overlap = np.append(0, false_alarm_rate_U)[num_above], np.append(0, overlap_U)[num_above]
    is_below = rate < MAX_FALSE_ALARM_RATE
    rate, overlap = rate[is_below][::-1], overlap[is_below][::-1]
    if len(rate) < 2 or rate[0] == rate[-1]:
        return None
    return float(np.trapezoid(overlap, (rate - rate[0]) / (rate[-1] - rate[0])))


def _is_first(numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which of the numbers of an ascending list stand there for the first time."""
    is_first = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=is_first[1:])
    return is_first


def pixels_per_cell(scores: npt.NDArray[Any], truth: npt.NDArray[Any]) -> int:
    """Pixels of the truth (..., H, W) along each side of a cell of a map (..., h, w).

    Raises:
        ValueError: They are no whole number, or not the same each way.
    """
    if truth.shape == scores.shape:
        return 1
    *maps, h, w = scores.shape if scores.ndim > 1 else (0, 0)
    side: int = truth.shape[-1] // max(w, 1)
    if truth.shape != (*maps, side * h, side * w):
        raise ValueError(
            f"scores have shape {scores.shape}, truth has {truth.shape}; it must be the same or a whole multiple"
        )
    return side


def to_pixels(cells: npt.NDArray[_Value], side_px: int) -> npt.NDArray[_Value]:
    """Every value of (..., h, w) for so many pixels each way."""
    return cells.repeat(side_px, axis=-2).repeat(side_px, axis=-1) if side_px > 1 else cells


def _bins(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.int32]:
    """The bin of each score: the bits of its distance to the nearer end, ordered like the scores.

    Raises:
        ValueError: A score is not a number or outside [0, 1].
    """
    if not are_scores(scores):
        raise ValueError(f"scores run from {scores.min():g} to {scores.max():g}, must be numbers from 0 to 1")
    # Adding zero turns -0.0, whose bits stand below all others, into 0.0.
    clipped = np.clip(np.asarray(scores, np.float32), np.float32(0), np.float32(1)) + np.float32(0)
    is_high = clipped > 0.5
    distances = np.where(is_high, np.float32(1) - clipped, clipped).view(np.int32)
    bins: npt.NDArray[np.int32] = np.where(is_high, 2 * _HALF - distances, distances)
    return bins


def _lowest_scores(numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Lowest score of each bin; all of it and above scores at least so much, and nothing below."""
    is_high = numbers > _HALF
    distances = np.where(is_high, 2 * _HALF - numbers, numbers).astype(np.int32).view(np.float32)
    # Scores above one half are multiples of 2^-24, and so are their distances to 1.
    mirrored = 1 - np.floor(distances * np.float32(2**24)) / np.float32(2**24)
    scores: npt.NDArray[np.float32] = np.where(is_high, mirrored, distances)
    return scores
