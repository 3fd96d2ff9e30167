"""The main path of training, in one function.

    dataset -> [workers: train and validate] -> best checkpoint -> thresholds, test figures -> bundle -> candidate

<runs>/<name>/               checkpoints, by Ray Train
<runs>/<name>/run.json       its run on the MLflow server
<runs>/<name>/bundle/        what comes out: weights, card, test statistics, examples, curves
<runs>/<name>/result.json    the summary, written last

The name follows from dataset and settings, so the same command goes on where it was stopped, and a finished one is
not trained again.
"""

import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import ray

import scrapray
from scrapray.cluster import join as join_ray
from scrapray.cluster import num_cores, own_errors
from scrapray.config import environment, sha256_of
from scrapray.datasets.read import Dataset, open_dataset
from scrapray.errors import ConfigurationError, RegistryError
from scrapray.registry import ModelVersion, Registry, Run
from scrapray.segmenter.bundle import CARD, BundleCard, sha256_of_file
from scrapray.segmenter.losses import tiles_per_class
from scrapray.segmenter.model import check_depths
from scrapray.segmenter.tower import read_clip_config
from scrapray.storage import Storage, absolute, join
from scrapray.training.config import FinetuneConfig
from scrapray.training.curves import CURVES, draw_curves
from scrapray.training.export import EXAMPLES, Export, export_bundle
from scrapray.training.fit import Finetuned, finetune, resources_of
from scrapray.training.loop import CURVE, Task, validation_of
from scrapray.training.post import delivered

_log = logging.getLogger(__name__)
_RUN, _RESULT, _BUNDLE = "run.json", "result.json", "bundle"

Progress = Callable[[int, int], None]
"""Takes steps done and steps in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """What came of a training.

    Attributes:
        name: Of the run.
        steps: Of the best checkpoint.
        num_steps: In all.
        validation: Figures of the bundle on the validation split, by contaminant and of any.
        test: The same on the test split.
        thresholds: Score from which a pixel counts, by contaminant.
        bundle_uri: Where the bundle lies.
        model_uri: The registered version; None where the server will hear of it later.
        run_id: On the MLflow server.
        tracking_uri: Of that server.
        seconds: That this took, without what an earlier start did.
    """

    name: str
    steps: int
    num_steps: int
    validation: Mapping[str, Mapping[str, float | None]]
    test: Mapping[str, Mapping[str, float | None]]
    thresholds: Mapping[str, float]
    bundle_uri: str
    model_uri: str | None
    run_id: str
    tracking_uri: str
    seconds: float


def train_model(
    dataset_uri: str,
    runs_uri: str,
    *,
    config: FinetuneConfig,
    registry: Registry | None = None,
    progress: Progress = lambda done, total: None,
) -> TrainingSummary:
    """Train a segmenter on a prepared dataset, and register what comes out as the candidate.

    Args:
        dataset_uri: What ``prepare_dataset`` wrote.
        runs_uri: Folder of all runs, which all nodes reach.
        config: All settings.
        registry: Takes the run and the model; that of the environment if left out.
        progress: Called every few steps.

    Raises:
        SchemaError: There is no finished dataset.
        ConfigurationError: A split lacks what training needs, or the cluster is too small.
        RegistryError: The server cannot be reached before training begins.
        ModelError: Training failed; its last checkpoint stays.
        StorageError: Dataset or runs cannot be reached.
    """
    began = time.monotonic()
    storage, registry = Storage(config.storage), registry or Registry()
    dataset = open_dataset(dataset_uri, storage)
    _check_splits(dataset)
    check_depths(config.segmenter, read_clip_config(config.start.places()[0]), dataset.card.classes)
    name = _name_of(dataset, config)
    run_uri = join(absolute(runs_uri), name)
    if storage.exists(join(run_uri, _RESULT)):
        return _finished(run_uri, dataset, config, registry, storage)
    _join_cluster(config)
    storage = storage.patient()
    dataset = replace(dataset, storage=storage)
    begun = _begun_run(run_uri, registry, storage)
    with _started(registry, name, begun, run_uri) as run, own_errors(run_uri, storage):
        if not begun:
            _introduce(run, dataset, config, registry, run_uri, storage)
        finetuned = _train(dataset, config, run, name, absolute(runs_uri), progress)
        card = _export(dataset, config, finetuned, name, join(run_uri, _BUNDLE))
        _add_curves(finetuned, join(run_uri, _BUNDLE), storage)
        version = _register(run, join(run_uri, _BUNDLE), storage)
    summary = TrainingSummary(
        name=name,
        steps=finetuned.steps,
        num_steps=_num_steps(dataset, config),
        validation=card.metrics["validation"],
        test=card.metrics["test"],
        thresholds=dict(zip(card.class_names, card.thresholds, strict=True)),
        bundle_uri=join(run_uri, _BUNDLE),
        model_uri=version.uri if version else None,
        run_id=run.run_id,
        tracking_uri=registry.tracking_uri,
        seconds=time.monotonic() - began,
    )
    _note_result(summary, run_uri, storage)
    return summary


def _finished(
    run_uri: str, dataset: Dataset, config: FinetuneConfig, registry: Registry, storage: Storage
) -> TrainingSummary:
    """What came of a training that has ended; a server that was away then, or is another one, hears of it now."""
    summary = TrainingSummary(**json.loads(storage.read_bytes(join(run_uri, _RESULT))))
    if summary.model_uri is None or summary.tracking_uri != registry.tracking_uri:
        begun = _begun_run(run_uri, registry, storage)
        with _started(registry, summary.name, begun, run_uri) as run:
            if not begun:
                _introduce(run, dataset, config, registry, run_uri, storage)
                *_, last = storage.list_names(run_uri, (f"/{CURVE}",))
                for figures in json.loads(storage.read_bytes(last)):
                    run.log_metrics(int(figures.pop("step")), figures)
            version = _register(run, summary.bundle_uri, storage)
        summary = replace(
            summary,
            model_uri=version.uri if version else None,
            run_id=run.run_id,
            tracking_uri=registry.tracking_uri,
        )
        _note_result(summary, run_uri, storage)
    return summary


def _note_result(summary: TrainingSummary, run_uri: str, storage: Storage) -> None:
    storage.write_bytes(join(run_uri, _RESULT), json.dumps(asdict(summary), indent=2).encode())


@contextmanager
def _started(registry: Registry, name: str, begun: str | None, run_uri: str) -> Iterator[Run]:
    """The run on the server; one that an earlier start began, and the server no longer knows, is named."""
    with ExitStack() as stack:
        try:
            run = stack.enter_context(registry.start_run(name, run_id=begun))
        except RegistryError as error:
            if begun and error.reason == "refused":
                raise RegistryError(
                    f"{error}; if the server has no run {begun} any more, remove {join(run_uri, _RUN)}, and a new run "
                    "begins"
                ) from error
            raise
        yield run


def _check_splits(dataset: Dataset) -> None:
    """A class that training never shows, or a split that shows none, would only be noticed hours later."""
    splits = dataset.card.splits
    unseen = [
        name for name, num in zip(dataset.card.class_names, splits["train"].class_tiles[1:], strict=True) if not num
    ]
    if unseen:
        raise ConfigurationError(
            f"no training tile of {dataset.uri} shows {', '.join(unseen)}; annotate some, or leave the class out and "
            "prepare it again"
        )
    if not tiles_per_class(dataset.split("train").class_px_NC)[0]:
        raise ConfigurationError(
            f"every training tile of {dataset.uri} shows a contaminant, so nothing would show what steel alone looks "
            "like; raise [tiles] clean_share, or add frames of clean loads, and prepare it again"
        )
    for split in ("validation", "test"):
        if not any(splits[split].class_tiles[1:]):
            raise ConfigurationError(
                f"no {split} tile of {dataset.uri} shows a contaminant, so nothing could be measured on it; give it "
                "more loads, or dates by [[split.fixed]], and prepare it again"
            )


def _name_of(dataset: Dataset, config: FinetuneConfig) -> str:
    """Name of the run: equal for all that decides what comes out of it."""
    card, start = dataset.card, config.start
    files = [sha256_of_file(Path(one)) for one in (start.clip, start.weights) if one and Path(one).is_file()]
    classes = [asdict(one) for one in card.classes]
    identity = sha256_of([card.dataset_sha256, classes, config.sha256(), files, scrapray.__version__])
    return f"{dataset.uri.rstrip('/').rpartition('/')[2]}-{identity[:8]}"


def _num_steps(dataset: Dataset, config: FinetuneConfig) -> int:
    training = config.training
    return dataset.card.splits["train"].num_tiles // training.batch_size * training.epochs


def _begun_run(run_uri: str, registry: Registry, storage: Storage) -> str | None:
    """The run on this server that an earlier start began; one on another server is none."""
    uri = join(run_uri, _RUN)
    noted = json.loads(storage.read_bytes(uri)) if storage.exists(uri) else {}
    return noted["run_id"] if noted.get("tracking_uri") == registry.tracking_uri else None


def _introduce(
    run: Run, dataset: Dataset, config: FinetuneConfig, registry: Registry, run_uri: str, storage: Storage
) -> None:
    """Tell the server what the run is made of, and note which run there it is."""
    run.log_settings(config.as_dict(), dataset_card=json.loads(dataset.card.to_json()))
    noted = {"run_id": run.run_id, "tracking_uri": registry.tracking_uri}
    storage.write_bytes(join(run_uri, _RUN), json.dumps(noted).encode())


def _join_cluster(config: FinetuneConfig) -> None:
    workers = config.workers
    join_ray(
        what="training",
        bundles=[resources_of(workers)] * workers.min,
        mend="lower [workers] min, gpus_per_worker or cpus_per_worker, or give the cluster more nodes",
        wait_s=workers.wait_for_nodes_s,
    )
    threads = workers.max * workers.cpus_per_worker
    if workers.max > 1 and not (workers.gpus_per_worker or environment("RAY_ADDRESS")) and threads > num_cores():
        _log.warning(
            "%d workers with %d threads each on %d cores wait for each other, and are slower than one: lower [workers] "
            "cpus_per_worker or max",
            workers.max,
            workers.cpus_per_worker,
            num_cores(),
        )


def _train(
    dataset: Dataset, config: FinetuneConfig, run: Run, name: str, runs_uri: str, progress: Progress
) -> Finetuned:
    """Train, and tell the server and whoever looks on what the workers say."""
    total = _num_steps(dataset, config)

    def receive(step: int, figures: Mapping[str, float]) -> None:
        run.log_metrics(step, figures)
        progress(step, total)

    with delivered(receive) as watch:
        task = Task(
            config=config,
            classes=dataset.card.classes,
            train=dataset.split("train"),
            validation=dataset.split("validation"),
            watch=watch,
        )
        return finetune(task, name=name, runs_uri=runs_uri, storage=dataset.storage)


def _export(dataset: Dataset, config: FinetuneConfig, finetuned: Finetuned, name: str, bundle_uri: str) -> BundleCard:
    """Make the bundle on a node that has what a worker has, and put it into the run."""
    resources = resources_of(config.workers)
    export = Export(
        config=config,
        classes=dataset.card.classes,
        checkpoint=finetuned.checkpoint,
        validation=dataset.split("validation"),
        validated=validation_of(finetuned.metrics, dataset.card.classes),
        test=dataset.split("test"),
        tile_px=dataset.card.tile_px,
        version=name,
        trained_on={
            "dataset": dataset.uri,
            "dataset_sha256": dataset.card.dataset_sha256,
            "start": config.start.clip,
            "weights": config.start.weights,
            "steps": finetuned.steps,
            "settings": config.as_dict(),
            "code_version": scrapray.__version__,
        },
    )
    on_a_worker = ray.remote(num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0))(_export_to)
    text: str = ray.get(on_a_worker.remote(export, bundle_uri, dataset.storage))
    return BundleCard.from_json(text, source=bundle_uri)


def _export_to(export: Export, bundle_uri: str, storage: Storage) -> str:
    with tempfile.TemporaryDirectory() as folder:
        card = export_bundle(export, Path(folder))
        # The card last: a folder without one is unfinished.
        for path in sorted(Path(folder).iterdir(), key=lambda path: path.name == CARD):
            storage.copy(str(path), join(bundle_uri, path.name))
    return card.to_json()


def _add_curves(finetuned: Finetuned, bundle_uri: str, storage: Storage) -> None:
    with tempfile.TemporaryDirectory() as folder, finetuned.last.as_directory() as last:
        picture = Path(folder, CURVES)
        draw_curves(json.loads(Path(last, CURVE).read_text(encoding="utf-8")), picture)
        storage.copy(str(picture), join(bundle_uri, CURVES))


def _register(run: Run, bundle_uri: str, storage: Storage) -> ModelVersion | None:
    """Give the server the pictures and the bundle."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, _BUNDLE)
        storage.download_folder(bundle_uri, bundle)
        for picture in (CURVES, EXAMPLES):
            run.log_file(bundle / picture)
        return run.register_bundle(bundle)
