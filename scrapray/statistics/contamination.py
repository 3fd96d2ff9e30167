"""How much of a load's visible bed is contaminated, and how sure that is.

The estimate is a ratio: contaminated pixels over seen pixels, both summed over the same used frames. An object
that stands in twenty frames is counted twenty times above and below the line, so it weighs what it shows.

Two errors make the interval. Frames are a sample of the unloading (moving-block bootstrap, since neighbours show
the same objects), and the segmenter does not draw areas exactly (split-conformal residuals, measured on validation
loads and stored in the bundle). ``docs/statistics.md`` says it in full.

Legend: N frames, R bootstrap replicates.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
"""Share of loads whose interval should hold their true contamination."""
MIN_CALIBRATION_LOADS = 39
"""With fewer loads no residual is extreme enough to stand for the outer 2.5 % on each side."""
OFFSET_FRAC = 1e-4
"""Contamination at which errors turn from additive into multiplicative: about 29 x 29 px of a 4K frame."""

_NUM_REPLICATES = 1000

Areas = npt.NDArray[np.int64]
Fractions = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Contamination:
    """Share of the visible bed that is contaminated, with its interval.

    Attributes:
        frac: Point estimate, 0 to 1; None where no bed was seen.
        low: Lower end of the 95 % interval; None where no interval can be known.
        high: Upper end, likewise.
        method: Estimator and interval in one word for tables, for example ``ratio+block-bootstrap``.
    """

    frac: float | None
    low: float | None
    high: float | None
    method: str


@dataclass(frozen=True, slots=True)
class AreaCalibration:
    """The segmenter's own error in area, measured on loads with known truth.

    Attributes:
        residuals: ``log(true + offset) - log(predicted + offset)`` of each validation load, in rising order.
        offset_frac: The offset, see ``OFFSET_FRAC``.
    """

    residuals: tuple[float, ...]
    offset_frac: float = OFFSET_FRAC

    def __post_init__(self) -> None:
        if len(self.residuals) < MIN_CALIBRATION_LOADS:
            raise ValueError(
                f"area calibration: {len(self.residuals)} loads, needs {MIN_CALIBRATION_LOADS} or more for an "
                f"interval of {CONFIDENCE:.0%}"
            )
        if list(self.residuals) != sorted(self.residuals) or not all(map(math.isfinite, self.residuals)):
            raise ValueError("area calibration: residuals must be finite and in rising order")
        if not self.offset_frac > 0:
            raise ValueError(f"area calibration: offset_frac is {self.offset_frac}, must be above 0")

    @property
    def tails(self) -> tuple[float, float, float]:
        """Lower tail, median and upper tail of the residuals, with the finite-sample correction of conformal ranks."""
        num = len(self.residuals)
        rank = math.floor((1 - CONFIDENCE) / 2 * (num + 1) + 1e-9)
        return self.residuals[rank - 1], float(np.median(self.residuals)), self.residuals[num - rank]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a bundle's card."""
        return {"offset_frac": self.offset_frac, "residuals": list(self.residuals)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "AreaCalibration":
        """The calibration that ``as_dict`` wrote."""
        return cls(residuals=tuple(values["residuals"]), offset_frac=values["offset_frac"])


def calibrate_areas(predicted: Sequence[float], true: Sequence[float]) -> AreaCalibration:
    """Measure the segmenter's error in area on validation loads.

    The loads must not have been trained on, and must look like those of the nights to come (as many clean ones,
    as many frames): the interval covers what these loads cover.

    Args:
        predicted: Contamination of each load as the audit estimates it, shares from 0 to 1.
        true: Pooled true contamination over the same frames.

    Raises:
        ValueError: Fewer than ``MIN_CALIBRATION_LOADS`` loads, or as many true as predicted values are not given.

    Reference: split-conformal prediction with signed residuals (Lei et al. 2018; Romano et al. 2019, eq. 8).
    """
    if len(predicted) != len(true):
        raise ValueError(f"area calibration: {len(predicted)} predicted and {len(true)} true values")
    residuals = _stretch(np.asarray(true), OFFSET_FRAC) - _stretch(np.asarray(predicted), OFFSET_FRAC)
    return AreaCalibration(residuals=tuple(round(float(value), 6) for value in np.sort(residuals)))


def estimate_contamination(
    contaminated_px: Sequence[int],
    seen_px: Sequence[int],
    *,
    seed: str,
    blind_area_px: int,
    calibration: AreaCalibration | None = None,
) -> Contamination:
    """Estimate a load's contamination from its used frames.

    Args:
        contaminated_px: Contaminated bed pixels of each frame, in the order of time.
        seen_px: Seen bed pixels of each frame.
        seed: Words that seed the bootstrap, so that the same load gives the same interval on every run.
        blind_area_px: Largest component that the segmenter is set to drop; without a calibration it is all that
            is known of what a clean frame may hide.
        calibration: The segmenter's own error in area, from its bundle.
    """
    contaminated_N = np.asarray(contaminated_px, dtype=np.int64)
    seen_N = np.asarray(seen_px, dtype=np.int64)
    if not seen_N.sum():
        return Contamination(None, None, None, "none")
    frac = float(contaminated_N.sum() / seen_N.sum())
    if calibration is not None:
        low, high = _widen(frac, _block_bootstrap(contaminated_N, seen_N, seed), calibration)
        return Contamination(frac, low, high, "ratio+block-bootstrap+split-conformal")
    if len(seen_N) < 2:
        return Contamination(frac, None, None, "ratio")
    low, high = _block_bootstrap(contaminated_N, seen_N, seed)
    blind_frac = blind_area_px * len(seen_N) / float(seen_N.sum())
    return Contamination(frac, low, min(1.0, max(high, frac + blind_frac)), "ratio+block-bootstrap")


def _block_bootstrap(contaminated_N: Areas, seen_N: Areas, seed: str) -> tuple[float, float]:
    """Ends of the interval that comes from having seen these frames and not others.

    Blocks of neighbours are drawn around the circle of frames, so that each frame is as likely as any other.

    Reference: circular moving-block bootstrap (Politis and Romano 1992), block length by the rule ``N ** (1/3)``.
    """
    num_frames = len(seen_N)
    length = math.ceil(num_frames ** (1 / 3))
    generator = np.random.default_rng(list(hashlib.blake2b(seed.encode(), digest_size=16).digest()))
    starts_RB = generator.integers(num_frames, size=(_NUM_REPLICATES, math.ceil(num_frames / length)))
    frames_RN = (starts_RB[:, :, None] + np.arange(length)).reshape(_NUM_REPLICATES, -1)[:, :num_frames] % num_frames
    seen_R = seen_N[frames_RN].sum(axis=1)
    frac_R = contaminated_N[frames_RN].sum(axis=1)[seen_R > 0] / seen_R[seen_R > 0]
    low, high = np.quantile(frac_R, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    frac = contaminated_N.sum() / seen_N.sum()
    return float(min(low, frac)), float(max(high, frac))


def _widen(frac: float, sampled: tuple[float, float], calibration: AreaCalibration) -> tuple[float, float]:
    """Add the segmenter's error to that of the frames: independent, hence in quadrature around the median residual."""
    offset = calibration.offset_frac
    middle = float(_stretch(np.asarray(frac), offset))
    below, above = (float(_stretch(np.asarray(end), offset)) - middle for end in sampled)
    low_tail, bias, high_tail = calibration.tails
    low = math.exp(middle + bias - math.hypot(low_tail - bias, below)) - offset
    high = math.exp(middle + bias + math.hypot(high_tail - bias, above)) - offset
    return max(0.0, min(low, frac)), min(1.0, max(high, frac))


def _stretch(frac: Fractions, offset_frac: float) -> Fractions:
    """The scale of residuals: additive for nearly clean loads, multiplicative for dirty ones."""
    return np.asarray(np.log(frac + offset_frac))
