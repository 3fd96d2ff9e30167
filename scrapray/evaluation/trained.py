"""Baselines that are trained: each by its own recipe on the tiles of a dataset, then opened on the workers.

training tiles -> epochs, in this process -> folder -> method to evaluate
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scrapray.baselines.anomalyclip import AnomalyClip
from scrapray.baselines.epochs import Watch, run_epochs
from scrapray.baselines.maskrcnn import MaskRcnn
from scrapray.baselines.trained import (
    CARD,
    WEIGHTS,
    BaselineCard,
    Training,
    finished_baseline,
    read_baseline,
    save_baseline,
    weights_of,
)
from scrapray.baselines.yolo_sam import YoloSam, train_yolo
from scrapray.config import settings_of
from scrapray.datasets.read import Dataset, open_dataset
from scrapray.errors import ConfigurationError, ModelError
from scrapray.evaluation.config import DetectorConfig, EvaluateConfig
from scrapray.evaluation.detectors import rasterised
from scrapray.evaluation.subjects import Scored, Scorer, Subject, score_whole
from scrapray.segmenter.bundle import sha256_of_file
from scrapray.segmenter.tower import build_clip, find_weights
from scrapray.storage import Storage, join

Method = Literal["anomalyclip", "maskrcnn", "yolo-sam"]
"""Baselines that are trained on a dataset before they are measured on it."""
TRAINED = get_args(Method)
_WORK = "work"
SECTIONS: Mapping[Method, Sequence[str]] = {
    "anomalyclip": ("start", "anomalyclip"),
    "maskrcnn": ("maskrcnn",),
    "yolo-sam": ("yolo_sam",),
}
"""Sections of settings that decide what a baseline is."""


def train_baseline(
    method: Method,
    dataset_uri: str,
    folder: Path,
    *,
    config: EvaluateConfig,
    watch: Watch = lambda done, total, loss: None,
) -> BaselineCard:
    """Train a baseline in this process, on a GPU if ``[workers] gpus_per_actor`` says that there is one.

    A folder in which this training is finished is taken as it is.

    Args:
        method: Which.
        dataset_uri: A finished dataset; its test split is not seen.
        folder: Takes card and weights, and on the way a checkpoint after each epoch, from which a training that was
            cut goes on.
        config: All settings.
        watch: Called after steps.

    Raises:
        ConfigurationError: No training tile of the dataset shows a contaminant, or an extra is not installed.
        SchemaError: There is no finished dataset.
        ModelError: Weights to begin from cannot be had, training diverged, or the folder holds a training with other
            settings or on another dataset.
    """
    dataset = open_dataset(dataset_uri, Storage(config.storage))
    if not dataset.split("train").class_px_NC[:, 1:].any():
        raise ConfigurationError(
            f"no training tile of {dataset_uri} shows a contaminant, so {method} has nothing to learn; annotate some "
            "frames of its training loads and prepare it again"
        )
    whole = asdict(config)
    training = Training(
        method=method,
        class_names=() if method == "anomalyclip" else dataset.card.class_names,
        settings={name: whole[name] for name in SECTIONS[method]},
        trained_on={"dataset": dataset.uri, "dataset_sha256": dataset.card.dataset_sha256, **_frozen(method, config)},
    )
    card = finished_baseline(folder, training)
    if card is None:
        learned = _train(method, dataset, folder / _WORK, training.training_sha256, config, watch)
        card = save_baseline(folder, learned, training)
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    return card


def _frozen(method: str, config: EvaluateConfig) -> dict[str, str]:
    """What says which CLIP stays as it was, where its weights are not drawn by lot."""
    if method != "anomalyclip" or (weights := find_weights(*config.start.places())) is None:
        return {}
    return {"clip_sha256": sha256_of_file(weights)}


def _train(
    method: Method, dataset: Dataset, work_dir: Path, training_sha256: str, config: EvaluateConfig, watch: Watch
) -> Mapping[str, Any]:
    """All that was learned, by name."""
    device = "cuda" if config.workers.gpus_per_actor else "cpu"
    tiles, num_classes = dataset.split("train"), len(dataset.card.class_names)
    learner: AnomalyClip | MaskRcnn
    match method:
        case "anomalyclip":
            learner = AnomalyClip(*build_clip(*config.start.places()), config.anomalyclip, device)
        case "maskrcnn":
            learner = MaskRcnn(config.maskrcnn, num_classes, device)
        case "yolo-sam":
            splits = tiles, dataset.split("validation")
            yolo = train_yolo(config.yolo_sam, *splits, num_classes, work_dir, training_sha256, device, watch)
            return yolo.state_dict()
    run_epochs(learner, tiles, learner.schedule, work_dir / "checkpoint.pt", training_sha256, watch)
    return learner.learned.state_dict()


def trained_subject(folder_uri: str, storage: Storage, detector: DetectorConfig) -> Subject:
    """A baseline that was trained, see ``trained``.

    Args:
        folder_uri: Its folder, which all workers reach.
        storage: The door to it.
        detector: How instances become maps, where it is a detector.

    Raises:
        ModelError: The folder's card is none, or its CLIP is not the one that the baseline was trained for.
        StorageError: It cannot be read.
    """
    source = join(folder_uri, CARD)
    card = read_baseline(storage.read_bytes(source), source=source)
    if card.method not in TRAINED:
        raise ModelError(
            f"{source}: method is {card.method!r}, must be one of {', '.join(TRAINED)}; delete it and train again"
        )
    name = f"{card.method} {folder_uri.rstrip('/').rpartition('/')[2]}"
    config = settings_of(card.settings, EvaluateConfig, source=source)
    frozen = _frozen(card.method, config)
    if frozen.get("clip_sha256") != card.trained_on.get("clip_sha256"):
        raise ModelError(
            f"{folder_uri} was trained for another CLIP than what {config.start.clip} with {config.start.weights} is "
            "now; put that one back, or train again"
        )
    opened = partial(_open, folder_uri, storage, card, config, detector)
    tags = {"model_uri": folder_uri, "weights_sha256": card.weights_sha256, **frozen}
    settings = dict(card.settings)
    if card.method != "anomalyclip":
        settings["detector"] = asdict(detector)
    return Subject(name=name, class_names=card.class_names, open=opened, tags=tags, settings=settings)


def _open(
    folder_uri: str,
    storage: Storage,
    card: BaselineCard,
    config: EvaluateConfig,
    detector: DetectorConfig,
    device: str,
) -> Scorer:
    source = join(folder_uri, WEIGHTS)
    weights = weights_of(storage.read_bytes(source), card, source=source)
    method: AnomalyClip | MaskRcnn | YoloSam
    match card.method:
        case "anomalyclip":
            method = AnomalyClip(*build_clip(*config.start.places()), config.anomalyclip, device)
        case "maskrcnn":
            method = MaskRcnn(config.maskrcnn, len(card.class_names), device, with_weights=False)
        case _:
            method = YoloSam(config.yolo_sam, len(card.class_names), device)
    method.learned.load_state_dict(weights)
    method.learned.eval()
    if isinstance(method, AnomalyClip):
        return partial(score_whole, method)
    return partial(_score_instances, method, len(card.class_names), detector)


def _score_instances(
    method: MaskRcnn | YoloSam,
    num_classes: int,
    detector: DetectorConfig,
    tiles_NHW3: NDArray[np.uint8],
    tile_ids: Sequence[str],
) -> Scored:
    return rasterised(method(tiles_NHW3), num_classes, tiles_NHW3.shape[1], detector)
