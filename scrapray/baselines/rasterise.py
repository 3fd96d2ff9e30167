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
    counts_I = instances.scores_I >= min_score
    if not counts_I.any():
        return maps_Khw
    labels_I = labels_I[counts_I]
    scored_Ihw = instances.scores_I[counts_I, None, None] * _resized(instances.masks_IHW[counts_I], map_hw)
    for index, of_class in enumerate(
        [np.ones(len(labels_I), np.bool_), *(labels_I == k + 1 for k in range(num_classes))]
    ):
        if of_class.any():
            some_Ihw = scored_Ihw[of_class]
            maps_Khw[index] = some_Ihw.max(axis=0) if reduce == "max" else 1 - np.prod(1 - some_Ihw, axis=0)
    return maps_Khw


def _resized(masks_IHW: NDArray[np.floating] | NDArray[np.bool_], map_hw: tuple[int, int]) -> NDArray[np.float32]:
    masks = torch.from_numpy(np.ascontiguousarray(masks_IHW, np.float32))[:, None]
    if masks.shape[-2:] == map_hw:
        return masks[:, 0].numpy()
    how = {"mode": "nearest-exact"} if masks_IHW.dtype == np.bool_ else {"mode": "bilinear", "align_corners": False}
    resized: NDArray[np.float32] = F.interpolate(masks, map_hw, **how)[:, 0].numpy()
    return resized
