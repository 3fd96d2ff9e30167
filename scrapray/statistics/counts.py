"""What the anomaly maps of a class scored, pixel by pixel, tile by tile and object by object; values that add up.

Shapes: N tiles, H W their pixels, h w cells of a map.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scrapray.statistics.metrics import ScoreHistogram, pixels_per_cell, to_pixels

SIZE_LIMITS_PX = (30, 60, 120)
"""Between the bands of objects, by the longer side of their box."""
SIZE_BANDS = ("below 30 px", "30 to 60 px", "60 to 120 px", "120 px and more")
_CORNERS_TOO = ndimage.generate_binary_structure(2, 2)


@dataclass(frozen=True, slots=True, eq=False)
class ClassCounts:
    """Counts of one class, or of all contaminants together; ``a + b`` is what one worker would have counted on both.

    Attributes:
        pixels: Scores of pixels.
        tiles: The score of each tile as a whole, held against whether it shows a contaminant.
        objects: Of each band of ``SIZE_BANDS``, the highest score on each object. An object is a connected region of
            the truth within a tile, corners included; cut by a tile's edge it counts in each tile.
    """

    pixels: ScoreHistogram
    tiles: ScoreHistogram
    objects: tuple[ScoreHistogram, ...]

    @classmethod
    def empty(cls) -> Self:
        """Nothing counted yet."""
        nothing = ScoreHistogram.empty()
        return cls(nothing, nothing, (nothing,) * len(SIZE_BANDS))

    @classmethod
    def of(
        cls,
        scores_Nhw: npt.NDArray[np.floating],
        truth_NHW: npt.NDArray[np.bool_],
        tile_scores_N: npt.NDArray[np.floating] | None = None,
    ) -> Self:
        """Hold maps against the truth.

        Args:
            scores_Nhw: In [0, 1]; all pixels of a cell have its score.
            truth_NHW: True on contaminants.
            tile_scores_N: Of each tile as a whole, of a method that says so; else the highest of its map.

        Raises:
            ValueError: See ``ScoreHistogram.of``.
        """
        pixels = ScoreHistogram.of(scores_Nhw, truth_NHW)
        if tile_scores_N is None:
            tile_scores_N = scores_Nhw.max(axis=(1, 2))
        # One map of one cell each, so that no tile is taken for a neighbour of the next.
        tiles = ScoreHistogram.of(tile_scores_N[:, None, None], truth_NHW.max(axis=(1, 2), keepdims=True))
        sides_px, peaks = _objects(scores_Nhw, truth_NHW)
        bands = np.searchsorted(SIZE_LIMITS_PX, sides_px, side="right")
        return cls(pixels, tiles, tuple(_of_peaks(peaks[bands == band]) for band in range(len(SIZE_BANDS))))

    def __add__(self, other: Self) -> Self:
        objects = (one + another for one, another in zip(self.objects, other.objects, strict=True))
        return type(self)(self.pixels + other.pixels, self.tiles + other.tiles, tuple(objects))

    def object_recall(self, threshold: float) -> dict[str, float | None]:
        """Of each band the share of objects on which a pixel scores ``threshold`` or more; None without any."""
        return {band: peaks.recall_at(threshold) for band, peaks in zip(SIZE_BANDS, self.objects, strict=True)}


def _objects(
    scores_Nhw: npt.NDArray[np.floating], truth_NHW: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]]:
    """Longer side and highest score of each object."""
    sides_px, peaks = [], []
    side = pixels_per_cell(scores_Nhw, truth_NHW)
    for place in np.flatnonzero(truth_NHW.any(axis=(1, 2))):
        labels_HW, num = ndimage.label(truth_NHW[place], _CORNERS_TOO)
        sides_px += [max(pixels.stop - pixels.start for pixels in box) for box in ndimage.find_objects(labels_HW)]
        peaks += list(ndimage.maximum(to_pixels(scores_Nhw[place], side), labels_HW, range(1, num + 1)))
    return np.array(sides_px, np.int64), np.array(peaks, np.float32)


def _of_peaks(peaks: npt.NDArray[np.floating]) -> ScoreHistogram:
    return ScoreHistogram.of(peaks[:, None, None], np.ones((len(peaks), 1, 1), np.bool_))
