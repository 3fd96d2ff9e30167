"""Figures of a segmenter on annotated tiles, as values that add up over tiles, batches and workers.

Legend: N tiles, H x W pixels, K contaminants, h x w cells of a score map, F frames.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from scrapray.imagery.components import peak_score
from scrapray.segmenter.model import Segmenter, prepare_tiles
from scrapray.statistics.metrics import PixelMetrics, ScoreHistogram

ANY = "any"
"""Name of all contaminants together."""
STRIDE_PX = 4
"""Every fourth pixel each way is scored, as an audit's maps are."""
MIN_AREA_PX = 100
"""A frame's highest score is that of its highest so many pixels together."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Of one frame: the highest score of each contaminant over its tiles, and whether it shows any contaminant."""

    scores_K: NDArray[np.float64]
    is_contaminated: bool

    def __add__(self, other: Self) -> Self:
        return type(self)(np.maximum(self.scores_K, other.scores_K), self.is_contaminated or other.is_contaminated)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was counted; ``a + b`` is what would have been counted on both.

    Attributes:
        histograms: Scores of pixels by contaminant, and of all together under ``ANY``.
        peaks: By load and frame.
    """

    histograms: dict[str, ScoreHistogram]
    peaks: dict[tuple[str, str], Peaks] = field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        histograms = {name: histogram + other.histograms[name] for name, histogram in self.histograms.items()}
        peaks = dict(self.peaks)
        for frame, found in other.peaks.items():
            peaks[frame] = peaks[frame] + found if frame in peaks else found
        return type(self)(histograms, peaks)

    def metrics(self) -> dict[str, PixelMetrics]:
        """Pixel figures by name."""
        return {name: histogram.metrics() for name, histogram in self.histograms.items()}

    def peaks_of_clean_loads(self) -> list[NDArray[np.float64]]:
        """For each load without any contaminant, the highest scores of its frames: (F, K) each."""
        loads: dict[str, list[Peaks]] = defaultdict(list)
        for (load_id, _), found in sorted(self.peaks.items(), key=lambda item: item[0]):
            loads[load_id].append(found)
        clean = [frames for frames in loads.values() if not any(frame.is_contaminated for frame in frames)]
        return [np.stack([frame.scores_K for frame in frames]) for frames in clean]


def score_tiles(
    segmenter: Segmenter, tiles_NHW3: NDArray[np.uint8], *, device: torch.device | str = "cpu", autocast: bool = True
) -> NDArray[np.float32]:
    """Scores of any contaminant and of each one: (N, 1 + K, h, w).

    Args:
        segmenter: In evaluation mode, on the device.
        tiles_NHW3: RGB.
        device: Where to compute.
        autocast: Run the vision tower in bf16.
    """
    prepared = prepare_tiles(torch.tensor(tiles_NHW3), segmenter.config.input_px, segmenter.clip_config, device)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=autocast):
        maps = segmenter.score(prepared, tiles_NHW3.shape[1] // STRIDE_PX)
    scores: NDArray[np.float32] = torch.cat([maps.any_NHW[:, None], maps.classes_NKHW], dim=1).float().cpu().numpy()
    return scores


def count(
    scores_NCHW: NDArray[np.floating],
    classes_NHW: NDArray[np.uint8],
    class_names: Sequence[str],
    frames: Sequence[tuple[str, str]] = (),
) -> Figures:
    """Hold scores against the truth.

    Args:
        scores_NCHW: As ``score_tiles`` gives them.
        classes_NHW: Class ids at full resolution.
        class_names: The contaminants, in the order of their maps.
        frames: Load and frame of each tile, for ``Figures.peaks``; none if left out.
    """
    classes_Nhw = classes_NHW[:, ::STRIDE_PX, ::STRIDE_PX]
    truths = [classes_Nhw > 0, *(classes_Nhw == k for k in range(1, 1 + len(class_names)))]
    scores_CNhw = np.asarray(scores_NCHW, np.float32).swapaxes(0, 1)
    histograms = {
        name: ScoreHistogram.of(maps_Nhw, truth_Nhw)
        for name, maps_Nhw, truth_Nhw in zip((ANY, *class_names), scores_CNhw, truths, strict=True)
    }
    figures = Figures(histograms)
    for frame, maps_Khw, class_HW in zip(frames, scores_NCHW[:, 1:], classes_NHW, strict=bool(frames)):
        scores_K = np.array([peak_score(map_hw.ravel(), STRIDE_PX, MIN_AREA_PX) for map_hw in maps_Khw])
        figures.peaks[frame] = _joined(figures.peaks.get(frame), Peaks(scores_K, bool(class_HW.any())))
    return figures


def _joined(known: Peaks | None, found: Peaks) -> Peaks:
    return known + found if known else found
