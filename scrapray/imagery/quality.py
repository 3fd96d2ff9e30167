"""Is a frame fit to be judged? Cheap measures inside the truck bed, and the limits that they must keep.

What these measures cannot tell: whether a crane magnet or a grab hides part of the bed. Magnets come in every colour
and texture that scrap has, so what one hides counts as seen.

Shapes: H W pixels of the frame, h w pixels of a smaller copy.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from scrapray.imagery.bed import around

_LONG_SIDE_PX = 1920
"""Larger frames are measured on a copy of this size, so a limit means the same at 4K and at full HD."""
_DARK, _BRIGHT = 13, 250
_THUMBNAIL_PX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameQuality:
    """Measures of one frame inside the truck bed.

    Attributes:
        sharpness: Strength of the finest details over that of details four times as coarse. Real frames of scrap
            lie at 0.46 to 1.6; the same frames blurred by a Gaussian of 3 px, at 0.10 to 0.22.
        brightness: Mean grey level, 0-1.
        dark_frac: Share of pixels that are black (below 5 %).
        bright_frac: Share of pixels that are blown out (98 % and above).
        color_cast: Tint that nine tenths of the bed share, in CIELAB chroma / 100. Colourful things leave the rest of
            the bed neutral (up to 0.07 on real frames); a colour fault tints everything (0.19 and above).
        thumbnail: 16 x 16 grey levels, row by row. These are single pixels, not means: a live camera's noise and
            movement change them in every frame, a frozen picture repeats them.
    """

    sharpness: float
    brightness: float
    dark_frac: float
    bright_frac: float
    color_cast: float
    thumbnail: bytes


def measure_quality(frame_HW3: NDArray[np.uint8], bed_HW: NDArray[np.bool_]) -> FrameQuality:
    """Measure a frame (uint8 RGB) inside the bed, which holds at least one pixel."""
    colors_hw3, inside_hw = _small_copy(frame_HW3, bed_HW)
    grey_hw = _grey(colors_hw3)
    levels_256 = _levels(grey_hw, inside_hw)
    return FrameQuality(
        sharpness=_sharpness(grey_hw, inside_hw),
        brightness=float(levels_256 @ np.arange(256)) / 255,
        dark_frac=float(levels_256[:_DARK].sum()),
        bright_frac=float(levels_256[_BRIGHT:].sum()),
        color_cast=_color_cast(_scaled(colors_hw3, 1 / 8), _scaled(inside_hw, 1 / 8)),
        thumbnail=_thumbnail(frame_HW3[around(bed_HW)]),
    )


def hidden_frac(frame_HW3: NDArray[np.uint8], inside_HW: NDArray[np.bool_]) -> float:
    """Share of some pixels, one at least, that are black or blown out, measured as ``measure_quality`` does."""
    colors_hw3, inside_hw = _small_copy(frame_HW3, inside_HW)
    levels_256 = _levels(_grey(colors_hw3), inside_hw)
    return float(levels_256[:_DARK].sum() + levels_256[_BRIGHT:].sum())


def judge_quality(
    quality: FrameQuality,
    *,
    min_sharpness: float,
    min_brightness: float,
    max_brightness: float,
    max_dark_frac: float,
    max_bright_frac: float,
    max_color_cast: float,
) -> str | None:
    """The first limit that a frame breaks, as a reason for the tables; None if it keeps them all.

    Light comes before sharpness and colour, since a frame without light has neither. The most that a cast may be
    limited to, 1, lets every tint pass, although CIELAB has colours beyond it.
    """
    breaks = {
        "too_dark": quality.brightness < min_brightness or quality.dark_frac > max_dark_frac,
        "too_bright": quality.brightness > max_brightness or quality.bright_frac > max_bright_frac,
        "color_fault": min(quality.color_cast, 1.0) > max_color_cast,
        "blurred": quality.sharpness < min_sharpness,
    }
    return next((reason for reason, broken in breaks.items() if broken), None)


def _small_copy(
    frame_HW3: NDArray[np.uint8], inside_HW: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Colours around what is inside, and a mask of it, at the size at which frames are measured."""
    scale = min(1.0, _LONG_SIDE_PX / max(inside_HW.shape))
    box = around(inside_HW)
    return _scaled(frame_HW3[box], scale), _scaled(inside_HW[box].astype(np.uint8) * 255, scale)


def _levels(grey_hw: NDArray[np.uint8], inside_hw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Share of the pixels inside that have each grey level."""
    counts_256 = cv2.calcHist([grey_hw], [0], inside_hw, [256], [0, 256]).ravel()
    return np.asarray(counts_256 / np.count_nonzero(inside_hw), dtype=np.float32)


def _scaled(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """A smaller copy of an image or mask; every pixel counts, so no part of a thin bed gets lost."""
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _grey(colors_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(colors_HW3, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _sharpness(grey_hw: NDArray[np.uint8], inside_hw: NDArray[np.uint8]) -> float:
    """Ratio of two bands of a Laplacian pyramid: what is in the picture cancels out, how it was taken stays.

    Noise on top of a blurred picture passes for detail; frames from cameras that compress have little of it.
    """
    levels = [grey_hw]
    for _ in range(3):
        levels.append(np.asarray(cv2.pyrDown(levels[-1]), dtype=np.uint8))
    fine, coarse = (_band(levels, level, inside_hw) for level in (0, 2))
    return fine / coarse if coarse else 0.0


def _band(levels: list[NDArray[np.uint8]], level: int, inside_hw: NDArray[np.uint8]) -> float:
    """Mean size, inside the bed, of what the next coarser level of a pyramid does not hold."""
    size_wh = levels[level].shape[::-1]
    coarser = cv2.pyrUp(levels[level + 1], dstsize=size_wh)
    inside = cv2.resize(inside_hw, size_wh, interpolation=cv2.INTER_NEAREST)
    return float(cv2.mean(cv2.absdiff(levels[level], coarser), mask=inside)[0])


def _color_cast(colors_hw3: NDArray[np.uint8], inside_hw: NDArray[np.uint8]) -> float:
    """Chroma in the direction of the median tint that nine pixels of ten reach."""
    lab_hw3 = cv2.cvtColor(colors_hw3.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    tint_N2 = lab_hw3[inside_hw > 0][:, 1:]
    median_2 = np.median(tint_N2, axis=0)
    length = float(np.linalg.norm(median_2))
    return max(0.0, float(np.quantile(tint_N2 @ median_2, 0.1)) / length / 100) if length else 0.0


def _thumbnail(frame_HW3: NDArray[np.uint8]) -> bytes:
    size_wh = (_THUMBNAIL_PX, _THUMBNAIL_PX)
    picked_hw3 = cv2.resize(frame_HW3, size_wh, interpolation=cv2.INTER_NEAREST)
    return _grey(np.asarray(picked_hw3, dtype=np.uint8)).tobytes()
