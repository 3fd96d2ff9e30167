"""Figures of a segmenter on annotated tiles, as values that add up over tiles, batches and workers.

Legend: N tiles, H x W pixels, K contaminants, h x w cells of a score map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from scrapray.segmenter.model import Segmenter, prepare_tiles
from scrapray.statistics.metrics import PixelMetrics, ScoreHistogram

ANY = "any"
"""Name of all contaminants together."""
STRIDE_PX = 4
"""Side of a cell of a map, all pixels of which have its score, as in an audit."""
OVERLAP_PX = 32
"""Pixels that neighbouring tiles share in pictures drawn, as in audits of drawn loads."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was counted; ``a + b`` is what would have been counted on both.

    Attributes:
        histograms: Scores of pixels by contaminant, and of all together under ``ANY``.
    """

    histograms: dict[str, ScoreHistogram]

    @classmethod
    def empty(cls, class_names: Sequence[str]) -> Self:
        """Nothing counted yet."""
        return cls({name: ScoreHistogram.empty() for name in (ANY, *class_names)})

    @classmethod
    def of(cls, scores_NCHW: NDArray[np.floating], classes_NHW: NDArray[np.uint8], class_names: Sequence[str]) -> Self:
        """Hold scores against the truth.

        Args:
            scores_NCHW: As ``score_tiles`` gives them.
            classes_NHW: Class ids at full resolution.
            class_names: The contaminants, in the order of their maps.
        """
        truths = [classes_NHW > 0, *(classes_NHW == k for k in range(1, 1 + len(class_names)))]
        scores_CNhw = np.asarray(scores_NCHW, np.float32).swapaxes(0, 1)
        named = zip((ANY, *class_names), scores_CNhw, truths, strict=True)
        return cls({name: ScoreHistogram.of(maps_Nhw, truth_NHW) for name, maps_Nhw, truth_NHW in named})

    def __add__(self, other: Self) -> Self:
        return type(self)({name: counted + other.histograms[name] for name, counted in self.histograms.items()})

    def metrics(self) -> dict[str, PixelMetrics]:
        """Pixel figures by name."""
        return {name: histogram.metrics() for name, histogram in self.histograms.items()}


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


def cpu_is_made_for_bf16() -> bool:
    """Whether this machine's CPU multiplies in bf16 (AMX or AVX-512); on others bf16 is slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
