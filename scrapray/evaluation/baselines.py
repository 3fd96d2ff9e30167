"""Training of the baselines that are trained, each by its own recipe, on the tiles of a dataset.

training tiles -> epochs, in this process -> folder that ``scrapray evaluate`` takes
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scrapray.baselines.anomalyclip import AnomalyClip
from scrapray.baselines.epochs import Watch, run_epochs
from scrapray.baselines.trained import BaselineCard, save_baseline
from scrapray.datasets.read import open_dataset
from scrapray.errors import ConfigurationError
from scrapray.evaluation.config import EvaluateConfig
from scrapray.evaluation.subjects import learner_of
from scrapray.storage import Storage

CHECKPOINT = "checkpoint.pt"
_SECTIONS = {"anomalyclip": ("start", "anomalyclip"), "maskrcnn": ("maskrcnn",)}
"""Sections of settings that decide what a baseline is."""


def train_baseline(
    method: str,
    dataset_uri: str,
    folder: Path,
    *,
    config: EvaluateConfig,
    watch: Watch = lambda done, total, loss: None,
) -> BaselineCard:
    """Train a baseline in this process, on a GPU if ``[workers] gpus_per_actor`` says that there is one.

    Args:
        method: One of ``TRAINED``.
        dataset_uri: A finished dataset; only its training split is seen.
        folder: Takes card and weights, and on the way a checkpoint after each epoch, from which a training that was
            cut goes on.
        config: All settings.
        watch: Called after each step.

    Raises:
        ConfigurationError: The dataset has no training tile, or no contaminant in any.
        SchemaError: There is no finished dataset.
        ModelError: Weights to begin from cannot be had, or training diverged.
    """
    dataset = open_dataset(dataset_uri, Storage(config.storage))
    tiles = dataset.split("train")
    if not tiles.class_px_NC[:, 1:].any():
        raise ConfigurationError(
            f"no training tile of {dataset_uri} shows a contaminant, so {method} has nothing to learn; annotate some "
            "frames of its training loads and prepare it again"
        )
    whole = asdict(config)
    settings: Mapping[str, Mapping[str, Any]] = {name: whole[name] for name in _SECTIONS[method]}
    class_names = dataset.card.class_names
    device = "cuda" if config.workers.gpus_per_actor else "cpu"
    learner = learner_of(method, settings, len(class_names), device, is_trained=False, source=f"settings of {method}")
    run_epochs(learner, tiles, learner.schedule, folder / CHECKPOINT, watch)
    card = save_baseline(
        folder,
        learner.learned.state_dict(),
        method=method,
        class_names=() if isinstance(learner, AnomalyClip) else class_names,
        settings=settings,
        trained_on={"dataset": dataset.uri, "dataset_sha256": dataset.card.dataset_sha256},
    )
    (folder / CHECKPOINT).unlink()
    return card
