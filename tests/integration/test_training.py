"""Finetuning on a real local Ray: many workers train as one, and nothing is lost when one of them is."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.train
import torch

from scrapray.errors import ConfigurationError, ModelError
from scrapray.imagery.augmentation import AugmentConfig
from scrapray.labels import SCRAP_CONTAMINANTS
from scrapray.segmenter.fit import TilePair
from scrapray.segmenter.model import SegmenterConfig
from scrapray.segmenter.step import OptimConfig
from scrapray.storage import Storage
from scrapray.training.config import RANDOM, FinetuneConfig, StartConfig, TrainingConfig, WorkersConfig
from scrapray.training.fit import Finetuned, finetune
from scrapray.training.loop import CHECKPOINT, SCORE, Task
from tests.fixtures.pictures import TINY_CLIP

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.timeout(600)]

NUM_TRAIN, NUM_VALIDATION = 18, 9


class Squares:
    """Tiles of noise; all but every third show a bright square of some class."""

    def __init__(self, num: int, seed: int) -> None:
        self._pairs = [self._draw(np.random.default_rng((seed, place)), place) for place in range(num)]
        self.class_px_NC = np.array([np.bincount(class_HW.ravel(), minlength=4) for _, class_HW in self._pairs])

    @staticmethod
    def _draw(rng: np.random.Generator, place: int) -> TilePair:
        image_HW3 = rng.integers(0, 100, (64, 64, 3), dtype=np.uint8)
        class_HW = np.zeros((64, 64), np.uint8)
        if place % 3:
            top, left = rng.integers(0, 36, 2)
            kind = 1 + place % 3 if place % 2 else 1
            image_HW3[top : top + 24, left : left + 24, kind - 1] = 250
            class_HW[top : top + 24, left : left + 24] = kind
        return image_HW3, class_HW

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, place: int) -> TilePair:
        return self._pairs[place]


class Deadly(Squares):
    """Takes its whole process down, once and on one worker, when that is shown so many tiles."""

    def __init__(self, num: int, seed: int, *, rank: int, num_shown: int, died: Path) -> None:
        super().__init__(num, seed)
        self._rank, self._left, self._died = rank, num_shown, died

    def __getitem__(self, place: int) -> TilePair:
        self._left -= 1
        is_here = ray.train.get_context().get_world_rank() == self._rank
        if not self._left and is_here and not self._died.exists():
            self._died.touch()
            os._exit(1)
        return super().__getitem__(place)


class Journal:
    """Appends what it is told to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, step: int, figures: Mapping[str, float]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")

    @property
    def lines(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in self._path.read_text().splitlines()]


@pytest.fixture
def config(tmp_path: Path) -> FinetuneConfig:
    clip = tmp_path / "tiny.json"
    clip.write_text(json.dumps(TINY_CLIP))
    return FinetuneConfig(
        start=StartConfig(clip=str(clip), weights=RANDOM),
        segmenter=SegmenterConfig(
            input_px=64, stages=(1, 2, 3, 4), dpam_from=2, num_context=4, prompt_depth=3, deep_length=2, msm_hidden=16
        ),
        training=TrainingConfig(epochs=2, batch_size=4, loss_px=32, autocast=False, checkpoint_every_steps=2),
        optim=OptimConfig(lr_vision=1e-3, lr_prompt=1e-2, lr_msm=1e-2, warmup_steps=0),
        augment=AugmentConfig(flip=True, copy_paste=0.5),
        workers=WorkersConfig(gpus_per_worker=0, cpus_per_worker=1, loaders=0),
    )


def train(
    folder: Path, config: FinetuneConfig, journal: Journal | None = None, squares: Squares | None = None
) -> Finetuned:
    folder.mkdir(exist_ok=True)
    task = Task(
        config=config,
        classes=SCRAP_CONTAMINANTS,
        train=squares or Squares(NUM_TRAIN, 0),
        validation=Squares(NUM_VALIDATION, 1),
        watch=journal or Journal(folder / "journal.jsonl"),
    )
    return finetune(task, name="run", runs_uri=str(folder / "runs"), storage=Storage())


def weights_of(finetuned: Finetuned) -> dict[str, torch.Tensor]:
    with finetuned.checkpoint.as_directory() as folder:
        saved = torch.load(Path(folder, CHECKPOINT), weights_only=True)
    return dict(saved["segmenter"])


def workers(config: FinetuneConfig, num: int, **changes: Any) -> FinetuneConfig:
    return replace(config, workers=replace(config.workers, min=num, max=num, **changes))


@pytest.mark.slow
def test_training_ends_with_the_best_checkpoint_and_its_figures(tmp_path: Path, config: FinetuneConfig) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    finetuned = train(tmp_path, config, journal)
    validated = [line for line in journal.lines if "validation/any/average_precision" in line]
    assert [line["step"] for line in validated] == [4, 8]
    best = max(validated, key=lambda line: line["validation/any/average_precision"])
    assert finetuned.steps == best["step"]
    assert finetuned.metrics[SCORE] == pytest.approx(best["validation/any/average_precision"])
    assert 0 < finetuned.metrics["validation/any/aupro_exact"] <= 1


@pytest.mark.slow
def test_two_workers_train_as_one_with_the_same_batch(tmp_path: Path, config: FinetuneConfig) -> None:
    one = train(tmp_path / "one", config)
    two = train(tmp_path / "two", workers(config, 2))
    assert two.metrics[SCORE] == pytest.approx(one.metrics[SCORE], abs=0.02)
    expected = weights_of(one)
    for name, value in weights_of(two).items():
        torch.testing.assert_close(value, expected[name], rtol=0.05, atol=2e-3, msg=name)


@pytest.mark.slow
def test_workers_that_share_the_weights_train_as_those_with_copies(tmp_path: Path, config: FinetuneConfig) -> None:
    config = replace(config, training=replace(config.training, activation_checkpointing=True))
    copies = train(tmp_path / "ddp", workers(config, 2))
    shares = train(tmp_path / "fsdp", workers(config, 2, strategy="fsdp"))
    assert shares.metrics[SCORE] == pytest.approx(copies.metrics[SCORE], abs=1e-3)
    expected = weights_of(copies)
    for name, value in weights_of(shares).items():
        torch.testing.assert_close(value, expected[name], rtol=0.05, atol=2e-3, msg=name)


@pytest.mark.slow
def test_workers_with_unlike_shares_that_share_the_weights_keep_pace(tmp_path: Path, config: FinetuneConfig) -> None:
    copies = train(tmp_path / "ddp", workers(config, 3))
    shares = train(tmp_path / "fsdp", workers(config, 3, strategy="fsdp"))
    expected = weights_of(copies)
    for name, value in weights_of(shares).items():
        torch.testing.assert_close(value, expected[name], rtol=0.05, atol=2e-3, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "rank"), [("ddp", 1), ("fsdp", 0)])
def test_a_worker_killed_in_mid_epoch_costs_nothing_but_time(
    tmp_path: Path, config: FinetuneConfig, strategy: str, rank: int
) -> None:
    config = workers(replace(config, augment=AugmentConfig(flip=True)), 2, strategy=strategy)
    whole = train(tmp_path / "whole", config)
    # In the third of an epoch's four steps, after the checkpoint of the second.
    died = tmp_path / "died"
    cut = train(tmp_path / "cut", config, squares=Deadly(NUM_TRAIN, 0, rank=rank, num_shown=6, died=died))
    assert died.exists()
    assert cut.steps == whole.steps
    expected = weights_of(whole)
    for name, value in weights_of(cut).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, msg=name)


@pytest.mark.slow
def test_a_training_that_diverges_ends_with_a_word(tmp_path: Path, config: FinetuneConfig) -> None:
    diverging = replace(config, optim=OptimConfig(lr_vision=1e30, lr_prompt=1e30, lr_msm=1e30, warmup_steps=0))
    with pytest.raises(ModelError, match=r"training diverged: loss .*its checkpoints are in") as caught:
        train(tmp_path, workers(diverging, 2, max_failures=3))
    assert caught.value.__cause__ is None, "nothing failed that Ray would try again"


def test_fewer_tiles_than_a_batch_are_refused(tmp_path: Path, config: FinetuneConfig) -> None:
    with pytest.raises(ConfigurationError, match="3 training tiles, fewer than"):
        train(tmp_path, config, squares=Squares(3, 0))
