"""Does reading tiles starve the step, what do two workers bring, and do they learn the same? Side by side in one run.

    python benchmarks/training_speed.py DATASET [--profile demo] [--steps 60] [--rounds 2]

Trains from a prepared dataset and from tiles that lie ready in memory, in turn, so that a machine that is busy for a
while is busy for both; then with two workers. Prints tiles per second of each, without start-up, and the ratios. The
first asks for 0.9 or more; the second is 2 at best, with cores or GPUs for both. The loss of two workers with the same
batches must follow that of one within 2 %.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from statistics import median

import numpy as np

from scrapray.cluster import join
from scrapray.datasets.read import Dataset, open_dataset
from scrapray.segmenter.fit import TilePair
from scrapray.storage import Storage
from scrapray.training.config import FinetuneConfig
from scrapray.training.fit import finetune, resources_of
from scrapray.training.loop import Task
from scrapray.training.post import delivered
from scrapray.training.profiles import read_finetune
from scrapray.training.tiles import TileSplit

KINDS = ("from memory", "from the dataset", "from the dataset, two workers")
LEAST_READING_RATIO, MOST_LOSS_DIFFERENCE = 0.9, 0.02


class Some:
    """The first tiles of a split: read each time, or once and for all."""

    def __init__(self, split: TileSplit, num: int, *, in_memory: bool) -> None:
        self._split = split
        self._num = num
        self.class_px_NC = split.class_px_NC[:num]
        self._kept = [split[place] for place in range(8)] if in_memory else None

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, place: int) -> TilePair:
        return self._kept[place % len(self._kept)] if self._kept else self._split[place]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--profile", action="append", default=[])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    config = read_finetune(None, given.profile or ["demo"])
    join(what="the benchmark", bundles=[resources_of(config.workers)] * 2, mend="take a larger machine")
    dataset = open_dataset(given.dataset, Storage())
    speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    losses: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        for kind in KINDS:
            tiles_per_s, losses[kind] = train(dataset, config, kind, given.steps)
            # The first steps have the start-up in them.
            speeds[kind].append(float(np.mean(tiles_per_s[1:])))
            print(f"{kind}: {speeds[kind][-1]:.2f} tiles/s, loss {', '.join(map('{:.4f}'.format, losses[kind]))}")
    memory, read, two = (median(speeds[kind]) for kind in KINDS)
    difference = max(abs(np.divide(losses[KINDS[2]], losses[KINDS[1]]) - 1))
    print(f"reading: {read / memory:.2f} of the speed from memory, at least {LEAST_READING_RATIO} asked")
    print(f"two workers: {two / read:.2f} of the speed of one")
    print(f"their losses differ by up to {difference:.2%}, at most {MOST_LOSS_DIFFERENCE:.0%} asked")
    return 0 if read / memory >= LEAST_READING_RATIO and difference <= MOST_LOSS_DIFFERENCE else 1


def train(dataset: Dataset, config: FinetuneConfig, kind: str, steps: int) -> tuple[list[float], list[float]]:
    """Tiles per second and mean loss of each stretch of a short training."""
    num_workers = 2 if kind == KINDS[2] else 1
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
            train=Some(dataset.split("train"), steps * config.training.batch_size, in_memory=kind == KINDS[0]),
            validation=Some(dataset.split("validation"), 1, in_memory=False),
            watch=watch,
        )
        finetune(task, name="run", runs_uri=runs, storage=Storage())
    return told["tiles_per_s"], told["loss"]


if __name__ == "__main__":
    sys.exit(main())
