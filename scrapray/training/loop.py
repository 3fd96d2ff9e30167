"""What each worker of a finetuning runs: the step of ``segmenter.step`` over its share of the tiles, and checkpoints.

All workers hold the same segmenter and take the same steps; each shows its own tiles. Validation and checkpoints are
made of averaged weights, and end each epoch.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from functools import reduce
from math import ceil
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import schedulefree
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from scrapray.errors import DivergedError
from scrapray.labels import Contaminant
from scrapray.segmenter.checkpoint import checkpoint_of, load_checkpoint, write_checkpoint
from scrapray.segmenter.fit import Meter, TilePair
from scrapray.segmenter.losses import class_balanced_weights, tiles_per_class
from scrapray.segmenter.measure import ANY, Figures, score_tiles
from scrapray.segmenter.model import Segmenter, build_segmenter
from scrapray.segmenter.step import (
    StepReport,
    evaluation_mode,
    freeze_parts,
    make_batch,
    make_optimizer,
    train_step,
)
from scrapray.statistics.metrics import PixelMetrics
from scrapray.training.config import FinetuneConfig
from scrapray.training.order import balanced_chances, shares
from scrapray.training.sharding import spread
from scrapray.training.tiles import ShownTiles, TileSplit, load_steps

CHECKPOINT, CURVE = "checkpoint.pt", "curve.json"
"""Files of a checkpoint: weights and optimizer, and all figures told until then, step by step."""
SCORE = "validation_average_precision"
"""Metric by which checkpoints are kept; below 0 where nothing was validated."""
_VALIDATION = "validation"
_REPORT_EVERY_STEPS = 20
_COUNTED_AT_ONCE = 64
_DIVERGED_RATIO = 3.0

Watch = Callable[[int, Mapping[str, float]], None]
"""Takes the step and figures by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the workers are told.

    Attributes:
        config: All settings.
        classes: The contaminants, in the order of their class ids.
        train: Tiles to show.
        validation: Tiles to measure on after each epoch, never shown.
        watch: Called by the first worker, every few steps and after each epoch.
    """

    config: FinetuneConfig
    classes: tuple[Contaminant, ...]
    train: TileSplit
    validation: TileSplit
    watch: Watch


def train_worker(given: Mapping[str, Task]) -> str | None:
    """Train to the end of the last epoch, from the last checkpoint if there is one.

    Returns:
        Why training ended before, where it would end the same way again; all workers know it in the same step.
    """
    worker = _Worker(given["task"])
    try:
        for step, pairs in worker.steps():
            report = worker.take(pairs)
            worker.note(step, report, len(pairs))
            if step % worker.steps_per_epoch == 0:
                worker.end_epoch(step)
            elif step % worker.config.training.checkpoint_every_steps == 0:
                worker.save(step, {SCORE: -1.0})
    except DivergedError as error:
        return str(error)
    return None


class _Worker:
    """One process of the training: its segmenter, its optimizer, and its place among the others."""

    def __init__(self, task: Task) -> None:
        context = ray.train.get_context()
        self.task, self.config = task, task.config
        self.rank, self.num_workers = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        self.steps_per_epoch = len(task.train) // self.config.training.batch_size
        self.segmenter = new_segmenter(self.config, task.classes)
        self.segmenter.visual.set_grad_checkpointing(self.config.training.activation_checkpointing)
        freeze_parts(self.segmenter, self.config.optim)
        self.module = spread(self.segmenter, self.config.workers.strategy, self.device)
        num_steps = self.steps_per_epoch * self.config.training.epochs
        self.optimizer = make_optimizer(self.segmenter, self.config.optim, num_steps)
        self.first_step, self.curve = _resume(self.segmenter, self.optimizer)
        class_px_NC = task.train.class_px_NC
        self.chances_N = balanced_chances(class_px_NC) if self.config.training.balanced else None
        counts = tiles_per_class(class_px_NC, self.chances_N)
        self.weights_C = class_balanced_weights(counts, self.config.loss.beta).to(self.device)
        self._meter = Meter()
        self.module.train()
        self.optimizer.train()

    def steps(self) -> Iterable[tuple[int, list[TilePair]]]:
        """Numbers of the steps to take, and the tiles of this worker's share of each."""
        training = self.config.training
        shown = shares(
            len(self.task.train),
            batch_size=training.batch_size,
            epochs=training.epochs,
            first_step=self.first_step,
            rank=self.rank,
            num_workers=self.num_workers,
            seed=training.seed,
            chances_N=self.chances_N,
        )
        tiles = ShownTiles(self.task.train, self.config.augment, training.seed)
        return enumerate(load_steps(tiles, shown, self.config.workers.loaders), start=self.first_step + 1)

    def take(self, pairs: list[TilePair]) -> StepReport:
        """One step over this worker's share."""
        training = self.config.training
        loss_px = training.loss_px or self.config.segmenter.input_px
        batches = [
            make_batch(pairs[i : i + training.tiles_per_pass], self.segmenter, loss_px, self.device)
            for i in range(0, len(pairs), training.tiles_per_pass)
        ]
        num_passes = ceil(ceil(training.batch_size / self.num_workers) / training.tiles_per_pass)
        batches += [replace(batches[-1], counts=False)] * (num_passes - len(batches))
        return train_step(
            self.module,
            self.optimizer,
            batches,
            weights_C=self.weights_C,
            multiscale_stage_weights=self.config.segmenter.msm_stage_weights,
            loss=self.config.loss,
            clip_norm=self.config.optim.clip_norm,
            autocast=training.autocast,
            num_tiles=training.batch_size / self.num_workers,
        )

    def note(self, step: int, report: StepReport, num_tiles: int) -> None:
        """Keep what a step saw, and tell the mean of the last ones now and then.

        Raises:
            DivergedError: See ``check_course``.
        """
        self._meter.add(report, num_tiles=num_tiles)
        if step % _REPORT_EVERY_STEPS == 0:
            progress = self._meter.take(step)
            mean, tiles_per_s = _over_workers(progress.mean, progress.tiles_per_second, num_tiles, self.device)
            self._tell(step, {**asdict(mean), "tiles_per_s": tiles_per_s})
            check_course(self.curve)

    def end_epoch(self, step: int) -> None:
        """Validate, tell, and save."""
        self._check_weights(step)
        with evaluation_mode(self.module, self.optimizer):
            figures = _sum_over_workers(self._measure())
        metrics = {
            f"{_VALIDATION}/{name}/{figure}": value
            for name, found in figures.metrics().items()
            for figure, value in asdict(found).items()
            if value is not None
        }
        self._tell(step, metrics)
        self.save(step, {**metrics, SCORE: metrics.get(f"{_VALIDATION}/{ANY}/average_precision", 0.0)})

    def save(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write a checkpoint of averaged weights, from the first worker only; all workers wait for it.

        Raises:
            DivergedError: A weight is no finite number any more; the last checkpoint is from before.
        """
        self._check_weights(step)
        with tempfile.TemporaryDirectory() as folder, evaluation_mode(self.module, self.optimizer):
            checkpoint = None
            values = checkpoint_of(step, self.segmenter, self.optimizer)
            if self.rank == 0:
                write_checkpoint(Path(folder, CHECKPOINT), values)
                Path(folder, CURVE).write_text(json.dumps(self.curve), encoding="utf-8")
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            epoch = step / self.steps_per_epoch
            ray.train.report({"step": step, "epoch": epoch, **metrics}, checkpoint=checkpoint)

    def _check_weights(self, step: int) -> None:
        """An update can break weights though loss and gradient were fine; all workers find it in the same step."""
        shares = (each.to_local() if isinstance(each, DTensor) else each for each in self.module.parameters())
        num_broken = torch.stack([(~torch.isfinite(share)).sum() for share in shares]).sum()
        if dist.is_initialized():
            dist.all_reduce(num_broken)
        if num_broken:
            raise DivergedError(
                f"training diverged: {int(num_broken)} weights are no finite numbers after step {step}; lower the "
                "learning rates or lengthen the warm-up"
            )

    def _measure(self) -> Figures:
        """This worker's part of the validation tiles."""
        split, autocast = self.task.validation, self.config.training.autocast
        places = range(self.rank, len(split), self.num_workers)
        figures = measure_tiles(self.segmenter, split, places, self.device, autocast)
        if len(places) < ceil(len(split) / self.num_workers):
            # Where weights are divided, each worker must put them together as often as the others.
            measure_tiles(self.segmenter, split, [0], self.device, autocast)
        return figures

    def _tell(self, step: int, figures: Mapping[str, float]) -> None:
        self.curve.append({"step": step, **figures})
        if self.rank == 0:
            self.task.watch(step, figures)


def check_course(curve: Sequence[Mapping[str, float]]) -> None:
    """Stop a training that leads away from where it began.

    Args:
        curve: What was told of each step; of most, the mean ``loss`` since the one before.

    Raises:
        DivergedError: The last loss is more than three times the first.
    """
    losses = [line["loss"] for line in curve if "loss" in line]
    if losses[-1] > _DIVERGED_RATIO * losses[0]:
        raise DivergedError(
            f"training diverged: loss {losses[-1]:.3g} over the last {_REPORT_EVERY_STEPS} steps, {losses[0]:.3g} over "
            f"the first; lower the learning rates or lengthen the warm-up"
        )


def new_segmenter(config: FinetuneConfig, classes: Sequence[Contaminant]) -> Segmenter:
    """The segmenter that training begins with."""
    model, weights = config.start.places()
    return build_segmenter(config.segmenter, classes, model=model, weights=weights, seed=config.training.seed)


def validation_of(metrics: Mapping[str, float], classes: Sequence[Contaminant]) -> dict[str, PixelMetrics]:
    """Figures of the validation that ended an epoch, by name, from what was reported of it."""
    found: dict[str, dict[str, Any]] = {
        name: {figure.name: metrics.get(f"{_VALIDATION}/{name}/{figure.name}") for figure in fields(PixelMetrics)}
        for name in (ANY, *(contaminant.name for contaminant in classes))
    }
    return {name: PixelMetrics(**figures) for name, figures in found.items()}


def measure_tiles(
    segmenter: Segmenter, split: TileSplit, places: Sequence[int], device: torch.device, autocast: bool
) -> Figures:
    """Figures of some tiles of a split, counted some at a time: a histogram can have a million bins."""
    names = [contaminant.name for contaminant in segmenter.classes]
    figures = Figures.empty(names)
    for first in range(0, len(places), _COUNTED_AT_ONCE):
        pairs = [split[place] for place in places[first : first + _COUNTED_AT_ONCE]]
        scores_NCHW = [
            score_tiles(segmenter, tile_HW3[None], device=device, autocast=autocast) for tile_HW3, _ in pairs
        ]
        figures += Figures.of(np.concatenate(scores_NCHW), np.stack([class_HW for _, class_HW in pairs]), names)
    return figures


def _resume(segmenter: Segmenter, optimizer: schedulefree.AdamWScheduleFree) -> tuple[int, list[dict[str, float]]]:
    """Steps done by the checkpoint that training goes on from, and the curve until there."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0, []
    with checkpoint.as_directory() as folder:
        curve = json.loads(Path(folder, CURVE).read_text(encoding="utf-8"))
        return load_checkpoint(Path(folder, CHECKPOINT), segmenter, optimizer), curve


def _over_workers(
    mean: StepReport, tiles_per_s: float, num_tiles: int, device: torch.device
) -> tuple[StepReport, float]:
    """Mean of what all workers saw, each tile weighing the same, and the tiles per second of all together."""
    if not dist.is_initialized():
        return mean, tiles_per_s
    sums = torch.tensor([*(value * num_tiles for value in astuple(mean)), num_tiles, tiles_per_s], device=device)
    dist.all_reduce(sums)
    *values, num_all, tiles_per_s = sums.tolist()
    return StepReport(*(value / num_all for value in values)), tiles_per_s


def _sum_over_workers(figures: Figures) -> Figures:
    """What all workers counted."""
    if not dist.is_initialized():
        return figures
    gathered: list[Figures] = [figures] * dist.get_world_size()
    dist.all_gather_object(gathered, figures)
    return reduce(add, gathered)
