"""A method held against one split of a dataset: counts of each load come back from the workers, and no map.

    loads of the split -> [actors: read tiles -> score -> count] -> counts, load by load -> their sum, and figures

Loads come back in the order of their ids, whoever had which, so one worker and seven give the same table bit by bit.

Shapes: N tiles, K classes of the method, H W pixels, h w cells.
"""

import pickle
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray.data
from numpy.typing import NDArray

from scrapray import cluster
from scrapray.audit.ledger import Progress
from scrapray.audit.model import find_model
from scrapray.baselines.trained import CARD
from scrapray.datasets.card import DatasetCard
from scrapray.datasets.read import Dataset, SplitTiles, open_dataset
from scrapray.datasets.split import Split
from scrapray.errors import ConfigurationError
from scrapray.evaluation.config import EvaluateConfig, WorkersConfig
from scrapray.evaluation.counting import Counted, Counter, WorstTile, worst_of
from scrapray.evaluation.detectors import DETECTIONS_SUFFIX, detections_subject
from scrapray.evaluation.subjects import Subject, bundle_subject, winclip_subject
from scrapray.evaluation.trained import TRAINED, trained_subject
from scrapray.segmenter.measure import STRIDE_PX
from scrapray.statistics.bootstrap import LoadHistograms, intervals
from scrapray.statistics.counts import ClassCounts
from scrapray.storage import Storage, absolute, join

_OTHER_STAGES = 2
"""Reading the list of loads and bringing counts back take a CPU each."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What a method scored on a split.

    Attributes:
        subject: Name of the method.
        subject_tags: What says exactly which it was.
        subject_settings: Sections of settings that decided what it scored.
        dataset: Where the dataset lies.
        dataset_card: What it says of itself.
        split: Its part.
        split_sha256: Stands for every pixel and class of it.
        num_tiles: Tiles of the split.
        num_loads: Loads of the split.
        counts: Of the whole split, by class, and of any contaminant under ``ANY``.
        confusion_KK1: See ``Counted``.
        worst: Tiles that it got most wrong.
        maps: Scores of any contaminant (h, w) of the tiles that were to be kept, by their places.
        intervals: 95 % intervals over loads of the pixel figures, by class and figure; None where no load has one.
    """

    subject: str
    subject_tags: Mapping[str, str]
    subject_settings: Mapping[str, Mapping[str, Any]]
    dataset: str
    dataset_card: DatasetCard
    split: Split
    split_sha256: str
    num_tiles: int
    num_loads: int
    counts: Mapping[str, ClassCounts]
    confusion_KK1: NDArray[np.int64]
    worst: Sequence[WorstTile]
    maps: Mapping[int, NDArray[np.float16]]
    intervals: Mapping[str, Mapping[str, tuple[float, float] | None]]


def evaluate_method(
    method: str,
    dataset_uri: str,
    *,
    split: Split,
    config: EvaluateConfig,
    keep: Collection[int] = (),
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Find a method and a dataset, and hold one against the other; see ``find_subject`` and ``evaluate``."""
    dataset = open_dataset(dataset_uri, Storage(config.storage))
    subject = find_subject(method, dataset, split=split, config=config)
    return evaluate(subject, dataset, split=split, workers=config.workers, keep=keep, progress=progress)


def find_subject(method: str, dataset: Dataset, *, split: Split, config: EvaluateConfig) -> Subject:
    """What is to be evaluated, by its name.

    Args:
        method: The folder of a baseline that was trained, ``winclip``, ``winclip+``, a file of detections, or a model
            as ``find_model`` takes it.
        dataset: What it is to be evaluated on.
        split: Part of it.
        config: All settings.

    Raises:
        ConfigurationError: The method must be trained first, or finds too few references.
        ModelError: There is no such model, or its parts do not belong together.
        SchemaError: A file of detections is wrong.
        StorageError: Something cannot be read.
    """
    storage = dataset.storage
    if not method.startswith("models:") and storage.exists(join(absolute(method), CARD)):
        return trained_subject(absolute(method), storage, config.detector)
    if method in ("winclip", "winclip+"):
        references = dataset.split("train") if method == "winclip+" else None
        return winclip_subject(method, config.winclip, config.clip, references)
    if method in TRAINED:
        raise ConfigurationError(
            f"{method} is trained first: scrapray train-baseline {method} {dataset.uri} --out FOLDER"
        )
    if method.endswith(DETECTIONS_SUFFIX):
        return detections_subject(absolute(method), dataset, split, config.detector)
    return bundle_subject(find_model(method, storage), storage, config.bundle)


def evaluate(
    subject: Subject,
    dataset: Dataset,
    *,
    split: Split,
    workers: WorkersConfig,
    keep: Collection[int] = (),
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Score every tile of a split and put together what was counted; see ``counted_loads``."""
    tiles = dataset.split(split)
    whole: Counted | None = None
    of_loads: dict[str, LoadHistograms] = defaultdict(LoadHistograms)
    for _, counted in counted_loads(subject, dataset, split=split, workers=workers, keep=keep, progress=progress):
        whole = whole + counted if whole else counted
        for name, of_class in counted.classes.items():
            of_loads[name].add(of_class.pixels)
    assert whole is not None, "there are loads"
    return Evaluation(
        subject=subject.name,
        subject_tags=subject.tags,
        subject_settings=subject.settings,
        dataset=dataset.uri,
        dataset_card=dataset.card,
        split=split,
        split_sha256=tiles.sha256,
        num_tiles=len(tiles),
        num_loads=len(set(tiles.load_ids)),
        counts=whole.classes,
        confusion_KK1=whole.confusion_KK1,
        worst=whole.worst,
        maps=whole.maps,
        intervals={name: intervals(histograms.loads) for name, histograms in of_loads.items()},
    )


def counted_loads(
    subject: Subject,
    dataset: Dataset,
    *,
    split: Split,
    workers: WorkersConfig,
    keep: Collection[int] = (),
    progress: Progress = lambda done, total: None,
) -> Iterator[tuple[str, Counted]]:
    """Score every tile of a split and count, on all workers; gives load by load, in the order of their ids.

    Args:
        subject: The method.
        dataset: A finished dataset.
        split: Part of it that nothing of the method was chosen on.
        workers: What to take of the cluster.
        keep: Places of tiles whose maps are to be kept.
        progress: Called with tiles done and tiles in all.

    Raises:
        ConfigurationError: The split is empty, the method tells a class that the dataset lacks, the tiles do not fit
            the stride of maps, or the cluster is too small.
        ModelError: The method cannot be loaded, or gives scores that are no numbers from 0 to 1.
        SchemaError: A tile cannot be read.
    """
    class_ids = class_ids_of(subject, dataset)
    tiles = dataset.split(split)
    places = dict(sorted(tiles.places_of_loads().items()))
    if not places:
        raise ConfigurationError(f"{dataset.uri} has no tile in its {split} split; choose another split")
    actor = {"CPU": float(workers.cpus_per_actor), "GPU": workers.gpus_per_actor}
    cluster.join(
        what="[workers]",
        bundles=[*[actor] * workers.actors, *[{"CPU": 1.0}] * _OTHER_STAGES],
        wait_s=workers.wait_for_nodes_s,
        mend="lower actors, cpus_per_actor or gpus_per_actor, or add nodes",
    )
    num_done = 0
    with cluster.own_errors(dataset.uri, dataset.storage):
        for load_id, counted in _counted(subject, tiles, places, class_ids, workers, keep):
            num_done += len(places[load_id])
            progress(num_done, len(tiles))
            yield load_id, counted


def class_ids_of(subject: Subject, dataset: Dataset) -> dict[str, int]:
    """Class ids in the masks of the dataset, of the classes that the method tells."""
    if dataset.card.tile_px % STRIDE_PX:
        raise ConfigurationError(
            f"tiles of {dataset.uri} are {dataset.card.tile_px} px, must be a multiple of {STRIDE_PX}; prepare it anew"
        )
    known = {name: number for number, name in enumerate(dataset.card.class_names, start=1)}
    if missing := [name for name in subject.class_names if name not in known]:
        raise ConfigurationError(
            f"{subject.name} tells {', '.join(missing)}, which {dataset.uri} does not have; it has {', '.join(known)}"
        )
    return {name: known[name] for name in subject.class_names}


def _counted(
    subject: Subject,
    tiles: SplitTiles,
    places: Mapping[str, Sequence[int]],
    class_ids: Mapping[str, int],
    workers: WorkersConfig,
    keep: Collection[int],
) -> Iterator[tuple[str, Counted]]:
    """Loads and what was counted of them, in order."""
    context = cluster.set_up_data(workers.no_progress_timeout_s)
    context.execution_options.preserve_order = True
    rows = [{"load_id": load_id, "places": list(of_load)} for load_id, of_load in places.items()]
    counted = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        CountLoads,
        fn_constructor_args=(subject, tiles, class_ids, keep, "cuda" if workers.gpus_per_actor else "cpu"),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers.actors),
        num_cpus=workers.cpus_per_actor,
        num_gpus=workers.gpus_per_actor,
    )
    for row in counted.iter_rows():
        yield row["load_id"], pickle.loads(row["counted"])


class CountLoads:
    """One method, loaded once, that turns loads into counts."""

    def __init__(
        self, subject: Subject, tiles: SplitTiles, class_ids: Mapping[str, int], keep: Collection[int], device: str
    ) -> None:
        self._counter = Counter(subject.scorer(device), tiles, class_ids, keep)
        self._worst: tuple[WorstTile, ...] = ()

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, list[Any]]:
        """Turn ids of loads and places of their tiles into counts."""
        counted = [
            pickle.dumps(self._without_known(self._counter.count(places.tolist()))) for places in batch["places"]
        ]
        return {"load_id": list(batch["load_id"]), "counted": counted}

    def _without_known(self, counted: Counted) -> Counted:
        """Leave out tiles that are not among the worst of all that this worker has seen: their pixels are large."""
        self._worst = worst_of((*self._worst, *counted.worst))
        return replace(counted, worst=tuple(tile for tile in counted.worst if tile in self._worst))
