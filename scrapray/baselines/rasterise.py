"""Instances that a detector found -> anomaly maps, so that detectors and segmenters are measured alike.

A pixel scores what the surest instance that covers it does, and 0 where there is none; so a picture without any
instance has a map too, and counts.

Shapes: I instances, K contaminants, H W pixels of a tile, h w cells of a map.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Reduce = Literal["max", "noisy_or"]


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """What a detector found in one tile.

    Attributes:
        scores_I: Confidences in [0, 1]. Ask a detector for all from 0.001 on: its usual floor of 0.05 or 0.25 cuts the
            precision-recall curve short.
        labels_I: Class ids from 1 on.
        masks_IHW: Share of each pixel that belongs to the instance, in [0, 1], or true and false.
    """

    scores_I: NDArray[np.floating]
    labels_I: NDArray[np.integer]
    masks_IHW: NDArray[np.floating] | NDArray[np.bool_]

    def __post_init__(self) -> None:
        num = len(self.scores_I)
        if not num == len(self.labels_I) == len(self.masks_IHW):
            raise ValueError(f"{num} scores, {len(self.labels_I)} labels and {len(self.masks_IHW)} masks do not match")
        if num and not (self.scores_I.min() >= 0 and self.scores_I.max() <= 1):
            raise ValueError(f"scores run from {self.scores_I.min()} to {self.scores_I.max()}, must be from 0 to 1")


def rasterise(
    instances: Instances,
    num_classes: int,
    map_hw: tuple[int, int],
    reduce: Reduce = "max",
    min_score: float = 0.0,
) -> NDArray[np.float32]:
    """Maps of any contaminant and of each one: (1 + K, h, w).

    Args:
        instances: Of one tile.
        num_classes: Contaminants.
        map_hw: Size of the maps; masks that are true and false are resized with nearest, shares bilinearly.
        reduce: How instances that overlap are put together: the surest counts, or each finds what the others miss,
            ``1 - prod(1 - score * mask)``.
        min_score: Instances below do not count.

    Raises:
        ValueError: A label is not a class.
    """
    labels_I = instances.labels_I
    if len(labels_I) and not (labels_I.min() >= 1 and labels_I.max() <= num_classes):
        raise ValueError(f"labels run from {labels_I.min()} to {labels_I.max()}, must be from 1 to {num_classes}")
    maps_Khw = np.zeros((1 + num_classes, *map_hw), np.float32)
    for score, label, mask_HW in zip(instances.scores_I, labels_I, instances.masks_IHW, strict=True):
        if score < min_score:
            continue
        scored_hw = np.float32(score) * _resized(mask_HW, map_hw)
        for so_far_hw in (maps_Khw[0], maps_Khw[label]):
            so_far_hw[:] = (
                np.maximum(so_far_hw, scored_hw) if reduce == "max" else 1 - (1 - so_far_hw) * (1 - scored_hw)
            )
    return maps_Khw


def _resized(mask_HW: NDArray[np.floating] | NDArray[np.bool_], map_hw: tuple[int, int]) -> NDArray[np.float32]:
    if mask_HW.shape == map_hw:
        return mask_HW.astype(np.float32)
    how = {"mode": "nearest-exact"} if mask_HW.dtype == np.bool_ else {"mode": "bilinear", "align_corners": False}
    mask = torch.from_numpy(np.ascontiguousarray(mask_HW, np.float32))[None, None]
    resized: NDArray[np.float32] = F.interpolate(mask, map_hw, **how)[0, 0].numpy()
    return resized
