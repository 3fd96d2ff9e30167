"""The multi-scale mechanism: text looks at image tokens averaged over windows of several sizes.

Shapes: N images, T tokens without the class token (a grid of h x w), E joint width, D hidden width, C classes.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def pool_exactly(grid_NDhw: Tensor, scale: int) -> Tensor:
    """Mean of each scale x scale window; a window that hangs over the far edge averages what it has."""
    return F.avg_pool2d(grid_NDhw, scale, ceil_mode=True, count_include_pad=False)


def unpool_exactly(pooled_NDhw: Tensor, scale: int, grid_hw: tuple[int, int]) -> Tensor:
    """Bilinear upsampling by exactly the scale, cut to the grid.

    Resizing straight to the grid would stretch the map whenever the scale does not divide the grid, and 37 is prime.
    """
    height, width = pooled_NDhw.shape[-2:]
    whole = F.interpolate(pooled_NDhw, (height * scale, width * scale), mode="bilinear", align_corners=False)
    return whole[..., : grid_hw[0], : grid_hw[1]]


class ScalePath(nn.Module):
    """One window size: pool, look at the neighbours, attend to the text, unpool."""

    def __init__(self, scale: int, hidden: int, text_width: int) -> None:
        super().__init__()
        self.scale = scale
        self.look = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(text_width, hidden)
        self.value = nn.Linear(text_width, hidden)

    def forward(self, grid_NDhw: Tensor, text_CE: Tensor) -> Tensor:
        """Hidden map on the token grid: (N, D, h, w)."""
        pooled_NDhw = self.look(pool_exactly(grid_NDhw, self.scale))
        query_NTD = self.query(pooled_NDhw.flatten(2).transpose(1, 2))
        key_CD, value_CD = self.key(text_CE), self.value(text_CE)
        weights_NTC = torch.softmax(query_NTD @ key_CD.T * key_CD.shape[1] ** -0.5, dim=-1)
        seen_NDhw = (weights_NTC @ value_CD).transpose(1, 2).reshape(pooled_NDhw.shape)
        return unpool_exactly(pooled_NDhw + seen_NDhw, self.scale, cast(tuple[int, int], grid_NDhw.shape[-2:]))


class MultiScale(nn.Module):
    """Class logits of one stage from its tokens and the text features.

    Reference: the scrap paper's MSM after ClipSAM, whose code is not public; scales are window sizes in tokens. The
    pooled tokens are added to what they see of the text, since without that each output would be a mixture of only
    C vectors.
    """

    def __init__(self, width: int, num_classes: int, *, hidden: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.reduce = nn.Linear(width, hidden)
        self.paths = nn.ModuleList(ScalePath(scale, hidden, width) for scale in scales)
        self.encode = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, num_classes, 1)
        )

    def forward(self, tokens_NTE: Tensor, text_CE: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Logits on the token grid: (N, C, h, w)."""
        hidden_NDT = self.reduce(tokens_NTE).transpose(1, 2)
        grid_NDhw = hidden_NDT.reshape(*hidden_NDT.shape[:2], *grid_hw)
        hidden_NDhw = torch.stack([path(grid_NDhw, text_CE) for path in self.paths]).sum(dim=0)
        return cast(Tensor, self.encode(hidden_NDhw))
