"""Does reading tiles starve the step, what do two workers bring, and do they learn the same? Side by side in one run.

    python benchmarks/training_speed.py DATASET [--profile demo] [--finetune FILE] [--steps 60] [--rounds 2]

Takes the same step on one batch of synthetic tensors again and again, and trains from a prepared dataset, in turn, so
that a machine that is busy for a while is busy for both; then trains with two workers. Prints tiles per second of each,
without start-up, and the ratios. The first asks for 0.9 or more; the second is 2 at best, with cores or GPUs for both.
The loss of two workers with the same batches must follow that of one within 2 %.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.compute as pc
import ray
import torch

from scrapray.cluster import join
from scrapray.datasets.read import Dataset, SplitTiles, open_dataset
from scrapray.datasets.split import Split
from scrapray.labels import Contaminant
from scrapray.segmenter.step import make_batch, make_optimizer, train_step
from scrapray.storage import Storage
from scrapray.training.config import FinetuneConfig
from scrapray.training.fit import finetune, resources_of
from scrapray.training.loop import Task, new_segmenter
from scrapray.training.post import delivered
from scrapray.training.profiles import read_finetune

KINDS = ("synthetic tensors", "from the dataset", "from the dataset, two workers")
LEAST_READING_RATIO, MOST_LOSS_DIFFERENCE = 0.9, 0.02
WARM_UP_STEPS = 20
"""As many as training waits until it first tells its speed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--profile", action="append", default=[])
    parser.add_argument("--finetune", type=Path, help="settings over those of the profile, such as fewer threads")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    config = read_finetune(given.finetune, given.profile or ["demo"])
    join(what="the benchmark", bundles=[resources_of(config.workers)] * 2, mend="take a larger machine")
    dataset = open_dataset(given.dataset, Storage())
    num_tiles = given.steps * config.training.batch_size
    if given.steps < 2 * WARM_UP_STEPS or len(dataset.split("train")) < num_tiles:
        parser.error(f"takes {2 * WARM_UP_STEPS} steps or more, and a training split of {num_tiles} tiles or more")
    speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    losses: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        for kind in KINDS:
            if kind == KINDS[0]:
                speeds[kind].append(synthetic_speed(dataset, config, given.steps))
            else:
                tiles_per_s, losses[kind] = train(dataset, config, 1 + (kind == KINDS[2]), given.steps)
                # The first steps have the start-up in them.
                speeds[kind].append(float(np.mean(tiles_per_s[1:])))
            print(f"{kind}: {speeds[kind][-1]:.2f} tiles/s")
    synthetic, read, two = (median(speeds[kind]) for kind in KINDS)
    difference = max(abs(np.divide(losses[KINDS[2]], losses[KINDS[1]]) - 1))
    print(f"reading: {read / synthetic:.2f} of the speed on synthetic tensors, at least {LEAST_READING_RATIO} asked")
    print(f"two workers: {two / read:.2f} of the speed of one")
    print(f"their losses differ by up to {difference:.2%}, at most {MOST_LOSS_DIFFERENCE:.0%} asked")
    return 0 if read / synthetic >= LEAST_READING_RATIO and difference <= MOST_LOSS_DIFFERENCE else 1


def synthetic_speed(dataset: Dataset, config: FinetuneConfig, steps: int) -> float:
    """Tiles per second of the bare step, with what a worker of a training has."""
    on_a_worker = ray.remote(num_cpus=config.workers.cpus_per_worker, num_gpus=config.workers.gpus_per_worker)(
        _bare_steps
    )
    seconds: float = ray.get(on_a_worker.remote(config, dataset.card.classes, steps))
    return (steps - WARM_UP_STEPS) * config.training.batch_size / seconds


def _bare_steps(config: FinetuneConfig, classes: tuple[Contaminant, ...], steps: int) -> float:
    """Seconds of all steps but the first ones, on one batch that lies ready."""
    device = torch.device("cuda" if config.workers.gpus_per_worker else "cpu")
    segmenter = new_segmenter(config, classes).to(device)
    optimizer = make_optimizer(segmenter, config.optim, steps)
    segmenter.train()
    optimizer.train()
    training, side_px = config.training, config.segmenter.input_px
    rng = np.random.default_rng(0)
    pair = (rng.integers(256, size=(side_px, side_px, 3), dtype=np.uint8), np.zeros((side_px, side_px), np.uint8))
    batch = make_batch([pair] * training.tiles_per_pass, segmenter, training.loss_px or side_px, device)
    began = 0.0
    for step in range(steps):
        if step == WARM_UP_STEPS:
            began = time.perf_counter()
        train_step(
            segmenter,
            optimizer,
            [batch] * (training.batch_size // training.tiles_per_pass),
            weights_C=torch.ones(1 + len(classes), device=device),
            multiscale_stage_weights=config.segmenter.msm_stage_weights,
            loss=config.loss,
            clip_norm=config.optim.clip_norm,
            autocast=training.autocast,
        )
    return time.perf_counter() - began


def train(dataset: Dataset, config: FinetuneConfig, num_workers: int, steps: int) -> tuple[list[float], list[float]]:
    """Tiles per second and mean loss of each stretch of a short training."""
    config = replace(
        config,
        training=replace(config.training, epochs=1, checkpoint_every_steps=10**9),
        workers=replace(config.workers, min=num_workers, max=num_workers),
    )
    told: dict[str, list[float]] = {"tiles_per_s": [], "loss": []}

    def note(step: int, figures: Mapping[str, float]) -> None:
        for name in told.keys() & figures.keys():
            told[name].append(figures[name])

    with tempfile.TemporaryDirectory() as runs, delivered(note) as watch:
        task = Task(
            config=config,
            classes=dataset.card.classes,
            train=first_tiles(dataset, "train", steps * config.training.batch_size),
            validation=first_tiles(dataset, "validation", 1),
            watch=watch,
        )
        finetune(task, name="run", runs_uri=runs, storage=Storage())
    return told["tiles_per_s"], told["loss"]


def first_tiles(dataset: Dataset, split: Split, num: int) -> SplitTiles:
    tiles = dataset.manifest.filter(pc.field("split") == split).slice(0, num)
    return replace(dataset, manifest=tiles).split(split)


if __name__ == "__main__":
    sys.exit(main())
