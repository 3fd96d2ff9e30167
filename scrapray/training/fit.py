"""A finetuning from start to its best checkpoint, with workers on as many nodes as there are.

    tiles -> [workers: step, checkpoint, validation] -> best checkpoint

<runs>/<name>/     Ray Train's folder: checkpoints and how far training came; the same name goes on from there
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import ray.train
from ray.train.torch import TorchTrainer

from scrapray.errors import ConfigurationError, ModelError
from scrapray.storage import Storage
from scrapray.training.config import WorkersConfig
from scrapray.training.loop import SCORE, Task, train_worker

_CHECKPOINTS_KEPT = 2
_MOST_STARTS = 60
"""Of workers: each takes a minute where a cluster has lost the nodes for them. Without a limit Ray goes on for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuned:
    """What a finetuning came to.

    Attributes:
        checkpoint: The one with the best validation average precision.
        last: The last one, with the whole curve.
        metrics: Of the best one's validation.
        steps: That the best one was trained for.
    """

    checkpoint: ray.train.Checkpoint
    last: ray.train.Checkpoint
    metrics: Mapping[str, Any]
    steps: int


def resources_of(workers: WorkersConfig) -> dict[str, float]:
    """What one worker takes, by Ray's names."""
    resources = {"CPU": float(workers.cpus_per_worker)}
    return resources | {"GPU": workers.gpus_per_worker} if workers.gpus_per_worker else resources


def finetune(task: Task, *, name: str, runs_uri: str, storage: Storage) -> Finetuned:
    """Train to the end, through lost workers and restarts of this process.

    Args:
        task: What to train, on what.
        name: Of the run; a run of this name that was cut goes on from its last checkpoint.
        runs_uri: Folder of all runs, which all nodes reach.
        storage: The door to it.

    Raises:
        ConfigurationError: There are fewer tiles than a batch has.
        ModelError: Training failed more often than allowed, or diverged, which is not tried again.
    """
    config = task.config
    if len(task.train) < config.training.batch_size:
        raise ConfigurationError(
            f"the dataset has {len(task.train)} training tiles, fewer than [training] batch_size, "
            f"{config.training.batch_size}; annotate more frames or lower it"
        )
    filesystem, path = storage.arrow(runs_uri)
    workers = config.workers
    trainer = TorchTrainer(
        cast(Any, train_worker),  # Ray's own types know nothing of what it gives back
        train_loop_config={"task": task},
        scaling_config=ray.train.ScalingConfig(
            # Ray's own type leaves out the pair that makes it elastic.
            num_workers=cast(Any, workers.max if workers.min == workers.max else (workers.min, workers.max)),
            use_gpu=workers.gpus_per_worker > 0,
            resources_per_worker=resources_of(workers),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            # Ray's own type is that of the version before.
            failure_config=cast(Any, ray.train.FailureConfig)(
                max_failures=workers.max_failures, controller_failure_limit=_MOST_STARTS
            ),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=_CHECKPOINTS_KEPT, checkpoint_score_attribute=SCORE, checkpoint_score_order="max"
            ),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise ModelError(f"training {name} failed: {_why(error)}; its checkpoints are in {runs_uri}/{name}") from error
    if (why := cast(Any, result).return_value) is not None:
        raise ModelError(f"training {name} was stopped: {why}; its checkpoints are in {runs_uri}/{name}")
    checkpoint = result.get_best_checkpoint(SCORE, "max")
    last = result.checkpoint
    assert checkpoint is not None and last is not None and result.best_checkpoints is not None, (
        "each epoch ends with a checkpoint"
    )
    metrics = next(values for kept, values in result.best_checkpoints if kept.path == checkpoint.path)
    return Finetuned(checkpoint=checkpoint, last=last, metrics=metrics, steps=int(metrics["step"]))


def _why(error: ray.train.TrainingFailedError) -> str:
    """What went wrong on the first worker that failed, without the way there."""
    failures = getattr(error, "worker_failures", {})
    lines = str(next(iter(failures.values()), error)).strip().splitlines()
    return lines[-1].strip() if lines else repr(error)
