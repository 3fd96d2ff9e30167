"""Train a segmenter in one process over a stream of tiles, in as many pieces as it takes."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scrapray.errors import ConfigurationError
from scrapray.segmenter.checkpoint import load_checkpoint, save_checkpoint
from scrapray.segmenter.losses import LossConfig, class_balanced_weights
from scrapray.segmenter.model import Segmenter
from scrapray.segmenter.step import (
    OptimConfig,
    StepReport,
    evaluation_mode,
    make_batch,
    make_optimizer,
    train_step,
)

TilePair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How long and how to train.

    Attributes:
        batch_size: Tiles per step.
        loss_px: Side of the maps on which losses are computed; None for the segmenter's input.
        max_steps: Steps of all pieces together after which to stop.
        max_seconds: Seconds of this piece after which to stop.
        report_every_steps: Between two calls of ``watch``.
        checkpoint_every_steps: Between two checkpoints.
        device: Where to compute, as torch names it.
        autocast: Run the vision tower in bf16.
        optim: Learning rates and clipping.
        loss: Shapes of the losses.
    """

    batch_size: int = 4
    loss_px: int | None = None
    max_steps: int | None = None
    max_seconds: float | None = None
    report_every_steps: int = 50
    checkpoint_every_steps: int = 500
    device: str = "cpu"
    autocast: bool = False
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        for name in ("batch_size", "report_every_steps", "checkpoint_every_steps"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}, must be 1 or more")


@dataclass(frozen=True, slots=True)
class FitProgress:
    """Where training stands: steps of all pieces, seconds of this one, and the means since the last report."""

    step: int
    seconds: float
    tiles_per_second: float
    mean: StepReport


Watch = Callable[[FitProgress, Segmenter], None]


def fit(
    segmenter: Segmenter,
    tiles: Iterable[TilePair],
    config: FitConfig,
    *,
    tiles_per_class: Sequence[int] | None = None,
    checkpoint: Path | None = None,
    watch: Watch | None = None,
) -> int:
    """Train until the steps, the seconds or the tiles are used up; the segmenter is left in evaluation mode.

    Args:
        segmenter: With its text tower.
        tiles: Pairs of a tile (H, W, 3) and its class ids (H, W), both uint8. A stream that should go on where an
            earlier piece stopped can be seeded with ``steps_done(checkpoint)``.
        config: How long and how.
        tiles_per_class: Tiles that show each class, steel first, for the class-balanced weights; None for equal
            weights.
        checkpoint: File to go on from if it is there, and to write to, always as a whole.
        watch: Called with the progress and the segmenter in evaluation mode, for lines, curves and validation.

    Returns:
        Steps done by all pieces together.

    Raises:
        ModelError: Training diverged, or the checkpoint is of another segmenter.
    """
    segmenter.to(config.device)
    optimizer = make_optimizer(segmenter, config.optim, config.max_steps)
    step = load_checkpoint(checkpoint, segmenter, optimizer) if checkpoint else 0
    weights_C = _class_weights(segmenter, tiles_per_class, config)
    loss_px = config.loss_px or segmenter.config.input_px
    meter = Meter()
    segmenter.train()
    optimizer.train()
    num_left = None if config.max_steps is None else max(0, config.max_steps - step)
    for pairs in itertools.islice(_batches(tiles, config.batch_size), num_left):
        meter.add(
            train_step(
                segmenter,
                optimizer,
                [make_batch(pairs, segmenter, loss_px, config.device)],
                weights_C=weights_C,
                multiscale_stage_weights=segmenter.config.msm_stage_weights,
                loss=config.loss,
                clip_norm=config.optim.clip_norm,
                autocast=config.autocast,
            ),
            num_tiles=len(pairs),
        )
        step += 1
        done = _is_over(step, meter.seconds, config)
        if watch and (done or step % config.report_every_steps == 0):
            with evaluation_mode(segmenter, optimizer):
                watch(meter.take(step), segmenter)
        if checkpoint and not done and step % config.checkpoint_every_steps == 0:
            with evaluation_mode(segmenter, optimizer):
                save_checkpoint(checkpoint, step, segmenter, optimizer)
        if done:
            break
    optimizer.eval()
    segmenter.eval()
    if checkpoint:
        save_checkpoint(checkpoint, step, segmenter, optimizer)
    return step


class Meter:
    """Seconds since the start, and the step reports since the last look."""

    def __init__(self) -> None:
        self._began = self._looked = time.monotonic()
        self._reports: list[StepReport] = []
        self._num_tiles = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def add(self, report: StepReport, *, num_tiles: int) -> None:
        """Note a step."""
        self._reports.append(report)
        self._num_tiles += num_tiles

    def take(self, step: int) -> FitProgress:
        """Means and rate since the last look, which this is from now on."""
        now = time.monotonic()
        mean = StepReport(*np.mean([astuple(report) for report in self._reports], axis=0).tolist())
        progress = FitProgress(step, now - self._began, self._num_tiles / (now - self._looked), mean)
        self._reports, self._num_tiles, self._looked = [], 0, now
        return progress


def _batches(tiles: Iterable[TilePair], size: int) -> Iterator[list[TilePair]]:
    stream = iter(tiles)
    while batch := list(itertools.islice(stream, size)):
        yield batch


def _is_over(step: int, seconds: float, config: FitConfig) -> bool:
    out_of_steps = config.max_steps is not None and step >= config.max_steps
    return out_of_steps or (config.max_seconds is not None and seconds >= config.max_seconds)


def _class_weights(segmenter: Segmenter, tiles_per_class: Sequence[int] | None, config: FitConfig) -> Tensor:
    num_classes = 1 + len(segmenter.classes)
    if tiles_per_class is None:
        return torch.ones(num_classes, device=config.device)
    if len(tiles_per_class) != num_classes:
        raise ConfigurationError(f"tiles_per_class has {len(tiles_per_class)} counts, needs {num_classes}, steel first")
    return class_balanced_weights(tiles_per_class, config.loss.beta).to(config.device)
