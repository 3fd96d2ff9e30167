"""Losses on probability maps.

Shapes: S stages, N tiles, C classes (0 is steel), H x W pixels. Labels are class ids from 0 to C - 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import Tensor
from torch.nn import functional as F

from scrapray.errors import ConfigurationError
from scrapray.settings import STRICT

_LEAST_PROBABILITY = 1e-6

ClassMean = Literal["all", "present"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights and shapes of the losses; the defaults are those of the scrap paper where it names them.

    Attributes:
        beta: Of the class-balanced weights; nearer to 1 balances more.
        gamma: Of the focal loss; 0 is plain cross entropy.
        dice_weight: Of dice beside focal.
        dice_smooth: Added to both sides of the dice fraction.
        dice_classes: Whether dice averages over all classes or those present in the tile.
        similarity_weight: Of the similarity maps.
        multiscale_weight: Of the multi-scale maps.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    beta: float = 0.9999
    gamma: float = 2.0
    dice_weight: float = 1.0
    dice_smooth: float = 1.0
    dice_classes: ClassMean = "all"
    similarity_weight: float = 1.0
    multiscale_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta < 1:
            raise ConfigurationError(f"beta is {self.beta}, must be 0 or more and below 1")
        for name in ("gamma", "dice_weight", "dice_smooth", "similarity_weight", "multiscale_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f"{name} is {getattr(self, name)}, must be 0 or more")
        if not self.similarity_weight and not self.multiscale_weight:
            raise ConfigurationError("similarity_weight and multiscale_weight are both 0, so there would be no loss")


class LossTerms(NamedTuple):
    """The sum that is minimised, and its four parts before their weights."""

    total: Tensor
    similarity_focal: Tensor
    similarity_dice: Tensor
    multiscale_focal: Tensor
    multiscale_dice: Tensor


def class_balanced_weights(counts_C: Sequence[int], beta: float) -> Tensor:
    """Weight of each class from the number of tiles that show it; the weights sum to C.

    Count tiles, not pixels: with pixel counts every effective number saturates and the weights are all 1.

    Raises:
        ConfigurationError: A class has no tile.

    Reference: Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples", with the softmax form of
    the focal loss instead of their sigmoid form.
    """
    if min(counts_C) < 1:
        raise ConfigurationError(f"tiles per class are {list(counts_C)}, every class needs 1 or more")
    counts = torch.tensor(counts_C, dtype=torch.float64)
    inverse_effective = (1 - beta) / (1 - beta**counts)
    return (inverse_effective * len(counts_C) / inverse_effective.sum()).float()


def tiles_per_class(class_px_NC: NDArray[np.integer], chances_N: NDArray[np.floating] | None = None) -> list[int]:
    """Tiles that show each class, out of as many as there are; steel counts where nothing else is shown.

    Args:
        class_px_NC: Pixels of each class in each tile; class 0 is steel.
        chances_N: How often each tile is shown, in any unit; all alike if left out.
    """
    shown_NC = class_px_NC > 0
    shown_NC[:, 0] = ~shown_NC[:, 1:].any(axis=1)
    times_N = np.ones(len(shown_NC)) if chances_N is None else chances_N / chances_N.mean()
    counts: list[int] = (times_N @ shown_NC).round().astype(int).tolist()
    return counts


def focal(maps_SNCHW: Tensor, labels_NHW: Tensor, weights_C: Tensor, gamma: float) -> Tensor:
    """Of each stage, the mean over tiles and pixels of ``w_y (1 - p_y)^gamma (-log p_y)``: (S,)."""
    chosen_S1NHW = maps_SNCHW.gather(2, labels_NHW[None, :, None].expand(len(maps_SNCHW), -1, -1, -1, -1))
    chosen_SNHW = chosen_S1NHW[:, :, 0].clamp(min=_LEAST_PROBABILITY)
    return (weights_C[labels_NHW] * (1 - chosen_SNHW) ** gamma * -chosen_SNHW.log()).mean(dim=(1, 2, 3))


def dice(maps_SNCHW: Tensor, labels_NHW: Tensor, smooth: float, classes: ClassMean = "all") -> Tensor:
    """Of each stage, the mean over tiles and classes of ``1 - (2 sum(p y) + s) / (sum(p) + sum(y) + s)``: (S,).

    With ``all``, a class that is absent from a tile costs nearly 1 as soon as its map holds a few pixels' worth, and
    nothing where the map is empty; with ``present`` it does not count.
    """
    truth_NCHW = F.one_hot(labels_NHW, maps_SNCHW.shape[2]).permute(0, 3, 1, 2).to(maps_SNCHW.dtype)
    overlap_SNC = torch.einsum("snchw,nchw->snc", maps_SNCHW, truth_NCHW)
    truth_NC = truth_NCHW.sum(dim=(2, 3))
    loss_SNC = 1 - (2 * overlap_SNC + smooth) / (maps_SNCHW.sum(dim=(3, 4)) + truth_NC + smooth)
    return loss_SNC.mean(dim=(1, 2)) if classes == "all" else loss_SNC[:, truth_NC > 0].mean(dim=1)


def num_present(labels_NHW: Tensor, num_classes: int) -> Tensor:
    """Pairs of a tile and a class present in it, over which ``dice`` averages then: a number of shape ()."""
    return F.one_hot(labels_NHW, num_classes).flatten(1, 2).any(dim=1).sum()


def segmentation_loss(
    similarity_SNCHW: Tensor,
    multiscale_SNCHW: Tensor,
    labels_NHW: Tensor,
    *,
    weights_C: Tensor,
    multiscale_stage_weights: Sequence[float],
    config: LossConfig,
    dice_factor: float = 1.0,
) -> LossTerms:
    """Focal and dice of both branches: similarity summed over stages, multi-scale weighted by stage.

    Args:
        similarity_SNCHW: Similarity maps.
        multiscale_SNCHW: Multi-scale maps.
        labels_NHW: Truth.
        weights_C: Class-balanced weights.
        multiscale_stage_weights: One per stage.
        config: Shapes of the losses.
        dice_factor: Of both dice terms, where these tiles are part of a larger batch and hold more or fewer of the
            pairs over which dice averages than of its tiles.

    Reference: the scrap paper, section on losses.
    """
    stage_weights_S = torch.tensor(multiscale_stage_weights, device=multiscale_SNCHW.device)
    sim_focal = focal(similarity_SNCHW, labels_NHW, weights_C, config.gamma).sum()
    sim_dice = dice_factor * dice(similarity_SNCHW, labels_NHW, config.dice_smooth, config.dice_classes).sum()
    msm_focal = stage_weights_S @ focal(multiscale_SNCHW, labels_NHW, weights_C, config.gamma)
    msm_dice_S = dice(multiscale_SNCHW, labels_NHW, config.dice_smooth, config.dice_classes)
    msm_dice = dice_factor * (stage_weights_S @ msm_dice_S)
    similarity = sim_focal + config.dice_weight * sim_dice
    multiscale = msm_focal + config.dice_weight * msm_dice
    total = config.similarity_weight * similarity + config.multiscale_weight * multiscale
    return LossTerms(total, sim_focal, sim_dice, msm_focal, msm_dice)
