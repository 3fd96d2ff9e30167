"""Training of a baseline: epochs over shuffled tiles in one process, which can be cut between any two of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from scrapray.errors import DivergedError, ModelError
from scrapray.segmenter.fit import TilePair
from scrapray.segmenter.whole_files import whole_file

Watch = Callable[[int, int, float], None]
"""Takes steps done, steps in all and the last loss."""


class Learner(Protocol):
    """A baseline that is trained."""

    @property
    def learned(self) -> nn.Module:
        """All that training changes."""

    def loss(self, pairs: Sequence[TilePair]) -> Tensor:
        """What a step minimises, for tiles (H, W, 3) and their class ids (H, W)."""

    def optimizer(self) -> torch.optim.Optimizer:
        """Of what is learned."""


class Tiles(Protocol):
    """Tiles by their places."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> TilePair: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long a baseline is trained.

    Attributes:
        epochs: Times that each tile is shown, or that some are.
        batch_size: Tiles of a step.
        seed: Of their order, and of all else that is random.
        warmup_steps: Over which the learning rate rises.
        tiles_per_epoch: How many are shown in an epoch, others each time; all if there are fewer or it is None.
    """

    epochs: int
    batch_size: int
    seed: int
    warmup_steps: int = 0
    tiles_per_epoch: int | None = None


def run_epochs(
    learner: Learner,
    tiles: Tiles,
    schedule: Schedule,
    checkpoint: Path,
    training_sha256: str,
    watch: Watch = lambda done, total, loss: None,
) -> None:
    """Take all steps, from the last epoch that a checkpoint holds; the learner is left in evaluation mode.

    Args:
        learner: What is trained.
        tiles: What it is shown.
        schedule: How long.
        checkpoint: File written after each epoch; a training that was cut goes on from there.
        training_sha256: Stands for all that decides what is learned; a checkpoint with another one is not gone on with.
        watch: Called after each step.

    Raises:
        DivergedError: A loss or a weight is no finite number; the checkpoint is from before.
        ModelError: The checkpoint is of another training.
    """
    optimizer = learner.optimizer()
    rates = [group["lr"] for group in optimizer.param_groups]
    shown = min(len(tiles), schedule.tiles_per_epoch or len(tiles))
    per_epoch = math.ceil(shown / schedule.batch_size)
    learner.learned.train()
    with torch.random.fork_rng(devices=[]):
        for epoch in range(_resume(checkpoint, training_sha256, learner.learned, optimizer), schedule.epochs):
            torch.manual_seed(schedule.seed + epoch)
            order = np.random.default_rng((schedule.seed, epoch)).permutation(len(tiles))[:shown].tolist()
            for number in range(per_epoch):
                places = order[number * schedule.batch_size : (number + 1) * schedule.batch_size]
                step = epoch * per_epoch + number + 1
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * min(1.0, step / max(schedule.warmup_steps, 1))
                loss = _take_step(learner, optimizer, [tiles[place] for place in places])
                if not math.isfinite(loss):
                    raise _diverged(f"in step {step}: loss {loss}", checkpoint)
                watch(step, per_epoch * schedule.epochs, loss)
            if num_broken := _num_broken(learner.learned):
                done = (epoch + 1) * per_epoch
                raise _diverged(f"by step {done}: {num_broken} weights are no finite numbers", checkpoint)
            with whole_file(checkpoint) as part:
                state = {"learned": learner.learned.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save({"training_sha256": training_sha256, "epochs": epoch + 1, **state}, part)
    learner.learned.eval()


def _take_step(learner: Learner, optimizer: torch.optim.Optimizer, pairs: Sequence[TilePair]) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss = learner.loss(pairs)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def _num_broken(learned: nn.Module) -> int:
    """Weights that are no finite numbers."""
    return sum(int((~value.isfinite()).sum()) for value in learned.state_dict().values())


def _diverged(how: str, checkpoint: Path) -> DivergedError:
    """What to do about it; with other settings a checkpoint of these is refused."""
    anew = f"; then {begin_anew(checkpoint)}" if checkpoint.exists() else ""
    return DivergedError(f"training diverged {how}; lower the learning rate{anew}")


def begin_anew(checkpoint: Path) -> str:
    """What to do where a checkpoint is of another training."""
    return f"give another folder with --out, or delete the file {checkpoint} to begin anew"


def _resume(checkpoint: Path, training_sha256: str, learned: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Epochs that are done."""
    if not checkpoint.exists():
        return 0
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        is_of_this = saved["training_sha256"] == training_sha256
        if is_of_this:
            learned.load_state_dict(saved["learned"])
            optimizer.load_state_dict(saved["optimizer"])
    except Exception as error:  # pickle, zip and torch faults all mean that it is not a checkpoint of this training
        raise ModelError(f"{checkpoint} is no checkpoint of this training; {begin_anew(checkpoint)}") from error
    if not is_of_this:
        raise ModelError(
            f"{checkpoint} is of a training with other settings or another dataset; {begin_anew(checkpoint)}"
        )
    return int(saved["epochs"])
