"""One training step in plain torch; the same step serves one process and, with the module wrapped, many.

Shapes: N tiles, H x W pixels of a tile or of the loss maps.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import schedulefree
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from scrapray.errors import ConfigurationError, DivergedError
from scrapray.segmenter.losses import LossConfig, LossTerms, num_present, segmentation_loss
from scrapray.segmenter.model import Segmenter, prepare_tiles
from scrapray.settings import STRICT

_WARMUP_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimConfig:
    """Schedule-free AdamW with one learning rate for each part of the segmenter; a part whose rate is 0 stays frozen.

    Attributes:
        lr_vision: Of the vision tower.
        lr_prompt: Of contexts and deep vectors.
        lr_msm: Of the multi-scale mechanism.
        betas: Of Adam.
        warmup_steps: Over which the rates rise; one in twenty of all steps if left out.
        clip_norm: Largest norm of the whole gradient.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    lr_vision: float = 1e-5
    lr_prompt: float = 1e-5
    lr_msm: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int | None = None
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr_vision", "lr_prompt", "lr_msm", "warmup_steps"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                raise ConfigurationError(f"{name} is {getattr(self, name)}, must be 0 or more")
        if not self.lr_vision and not self.lr_prompt and not self.lr_msm:
            raise ConfigurationError("lr_vision, lr_prompt and lr_msm are all 0, so nothing would be trained")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigurationError(f"betas are {self.betas}, must be 0 or more and below 1")
        if not 0 < self.clip_norm < math.inf:
            raise ConfigurationError(f"clip_norm is {self.clip_norm}, must be above 0")


@dataclass(frozen=True, slots=True)
class TileBatch:
    """Prepared tiles (N, 3, H, W) and class ids (N, h, w) at the size of the loss maps.

    One that does not count has no say in the gradient: a process with fewer batches than the others shows it to keep
    pace with them, since weights that are divided are put together by all processes at once.
    """

    tiles_N3HW: Tensor
    labels_Nhw: Tensor
    counts: bool = True

    @property
    def num_counted(self) -> int:
        """Tiles that count."""
        return len(self.tiles_N3HW) if self.counts else 0


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step saw: the loss, its parts and the gradient's norm before clipping."""

    loss: float
    similarity_focal: float
    similarity_dice: float
    multiscale_focal: float
    multiscale_dice: float
    grad_norm: float


def make_optimizer(
    segmenter: Segmenter, config: OptimConfig, num_steps: int | None = None
) -> schedulefree.AdamWScheduleFree:
    """The optimizer of a segmenter; freezes parts whose rate is 0.

    Args:
        segmenter: With its text tower.
        config: Rates and warm-up.
        num_steps: Of the whole training, where the warm-up is a share of them.

    Raises:
        ConfigurationError: Neither the steps of the warm-up nor those of the training are known.
    """
    assert segmenter.text is not None, "training needs the text tower; load_for_training puts it back"
    if config.warmup_steps is None and num_steps is None:
        raise ConfigurationError("a training without an end needs warmup_steps, since they are no share of its steps")
    warmup_steps = config.warmup_steps if config.warmup_steps is not None else round(_WARMUP_SHARE * (num_steps or 0))
    freeze_parts(segmenter, config)
    parts = _parts(segmenter, config)
    groups = [
        {"name": name, "params": [p for p in part.parameters() if p.requires_grad], "lr": lr}
        for name, (part, lr) in parts.items()
    ]
    return schedulefree.AdamWScheduleFree(
        [group for group in groups if group["params"]], betas=config.betas, warmup_steps=warmup_steps
    )


def freeze_parts(segmenter: Segmenter, config: OptimConfig) -> None:
    """Freeze the parts whose rate is 0; before a segmenter is wrapped for several processes."""
    for part, lr in _parts(segmenter, config).values():
        if not lr:
            part.requires_grad_(False)


def _parts(segmenter: Segmenter, config: OptimConfig) -> dict[str, tuple[nn.Module, float]]:
    return {
        "vision": (segmenter.visual, config.lr_vision),
        "prompt": (segmenter.prompts, config.lr_prompt),
        "msm": (segmenter.msm, config.lr_msm),
    }


def make_batch(
    pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    segmenter: Segmenter,
    loss_px: int,
    device: torch.device | str = "cpu",
) -> TileBatch:
    """Tiles (H, W, 3) and their class ids (H, W), made ready on a device; ids are picked nearest, never mixed."""
    tiles_NHW3 = torch.from_numpy(np.stack([tile for tile, _ in pairs]))
    labels_N1HW = torch.from_numpy(np.stack([ids for _, ids in pairs]))[:, None]
    labels_Nhw = F.interpolate(labels_N1HW, (loss_px, loss_px), mode="nearest-exact")[:, 0].to(device).long()
    return TileBatch(prepare_tiles(tiles_NHW3, segmenter.config.input_px, segmenter.clip_config, device), labels_Nhw)


def train_step(
    module: nn.Module,
    optimizer: schedulefree.AdamWScheduleFree,
    batches: Sequence[TileBatch],
    *,
    weights_C: Tensor,
    multiscale_stage_weights: Sequence[float],
    loss: LossConfig,
    clip_norm: float,
    autocast: bool = False,
    num_tiles: float | None = None,
) -> StepReport:
    """Forward and backward for each batch, then clip, then one step with the mean of their gradients.

    Args:
        module: A segmenter, or one wrapped for several processes; in training mode, as the optimizer.
        optimizer: From ``make_optimizer``.
        batches: From ``make_batch``: together this process's share of the step's tiles, of which memory holds one
            batch at a time. Gradients are exchanged between processes once, with the last.
        weights_C: Class-balanced weights.
        multiscale_stage_weights: Of the segmenter's settings.
        loss: Shapes of the losses.
        clip_norm: Largest norm of the whole gradient.
        autocast: Run the vision tower in bf16.
        num_tiles: Tiles of the whole step over the number of processes, so that each tile weighs the same where
            processes have unlike shares; the tiles given if left out.

    Raises:
        DivergedError: Loss or gradient is not a finite number; the parameters are then as before the step.
    """
    optimizer.zero_grad(set_to_none=True)
    num_given = sum(batch.num_counted for batch in batches)
    shares = [batch.num_counted / (num_tiles or num_given) for batch in batches]
    dice_factors = _dice_factors(batches, shares, loss, len(weights_C))
    means = torch.zeros(len(LossTerms._fields))
    for number, (batch, share, dice_factor) in enumerate(zip(batches, shares, dice_factors, strict=True), start=1):
        with _exchange(module, number == len(batches)):
            with torch.autocast(batch.tiles_N3HW.device.type, dtype=torch.bfloat16, enabled=autocast):
                similarity, multiscale = module(batch.tiles_N3HW, batch.labels_Nhw.shape[-1])
            terms = segmentation_loss(
                similarity,
                multiscale,
                batch.labels_Nhw,
                weights_C=weights_C,
                multiscale_stage_weights=multiscale_stage_weights,
                config=loss,
                dice_factor=dice_factor,
            )
            (share * terms.total).backward()  # type: ignore[no-untyped-call]
        means += torch.stack(terms).detach().cpu() * batch.num_counted / num_given
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    grad_norm = nn.utils.clip_grad_norm_(trained, clip_norm)
    if isinstance(grad_norm, DTensor):
        grad_norm = grad_norm.full_tensor()
    report = StepReport(*(value.item() for value in (*means, grad_norm)))
    if not (math.isfinite(report.loss) and math.isfinite(report.grad_norm)):
        raise DivergedError(
            f"training diverged: loss {report.loss}, gradient norm {report.grad_norm}; lower the learning rates or "
            f"lengthen the warm-up"
        )
    optimizer.step()
    return report


def _dice_factors(
    batches: Sequence[TileBatch], shares: Sequence[float], loss: LossConfig, num_classes: int
) -> list[float]:
    """For each batch, its share of what dice averages over in the whole step, over its share of the tiles.

    Without it a step would depend on how its tiles are divided among batches and processes.
    """
    if loss.dice_classes == "all":
        return [1.0] * len(batches)
    pairs = torch.stack([num_present(batch.labels_Nhw, num_classes) * batch.counts for batch in batches]).double()
    total = pairs.sum()
    if dist.is_initialized():
        dist.all_reduce(total)
        total /= dist.get_world_size()
    return [part / share if share else 1.0 for part, share in zip((pairs / total).tolist(), shares, strict=True)]


def _exchange(module: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """Keep gradients in this process until the last batch of a step, where there are several processes."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(is_last)
    elif isinstance(module, DistributedDataParallel) and not is_last:
        return module.no_sync()
    return nullcontext()


@contextmanager
def evaluation_mode(module: nn.Module, optimizer: schedulefree.AdamWScheduleFree) -> Iterator[None]:
    """Averaged weights inside, training weights outside. Evaluate, export and write checkpoints only in here."""
    optimizer.eval()
    module.eval()
    try:
        yield
    finally:
        module.train()
        optimizer.train()
