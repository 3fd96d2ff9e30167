"""Registered models held against the test split of one dataset, so that a promotion can compare them there.

    versions -> [workers: bundle by bundle, as in every evaluation] -> counts of each load -> Registry.compare

Their bundles stay as they are, with what training has measured.
"""

from collections.abc import Sequence

from scrapray.audit.ledger import Progress
from scrapray.audit.model import FoundModel, find_model
from scrapray.datasets.read import Dataset, open_dataset
from scrapray.evaluation.config import EvaluateConfig
from scrapray.evaluation.evaluate import class_ids_of, counted_loads
from scrapray.evaluation.subjects import Subject, bundle_subject
from scrapray.registry import Measured, ModelVersion
from scrapray.statistics.promotion import LoadCounts, SplitStatistics
from scrapray.storage import Storage


def measure_versions(
    versions: Sequence[ModelVersion],
    dataset_uri: str,
    *,
    config: EvaluateConfig,
    progress: Progress = lambda done, total: None,
) -> Measured:
    """Measure versions on the test split of a dataset, one after the other and all alike.

    Args:
        versions: Of the registry that the environment names.
        dataset_uri: Of a finished dataset.
        config: All settings of an evaluation.
        progress: Called with tiles done and tiles in all, those of all versions together.

    Raises:
        ScraprayError: As ``find_model``, ``open_dataset`` and ``counted_loads`` do.
    """
    storage = Storage(config.storage)
    dataset = open_dataset(dataset_uri, storage)
    models = {version.version: find_model(version.uri, storage) for version in versions}
    subjects = {number: bundle_subject(model, storage, config.bundle) for number, model in models.items()}
    for subject in subjects.values():  # all, before hours go into the first
        class_ids_of(subject, dataset)
    num_tiles = len(dataset.split("test"))
    statistics = {}
    for turn, (number, model) in enumerate(models.items()):

        def report(done: int, total: int, before: int = turn * num_tiles) -> None:
            progress(before + done, len(models) * num_tiles)

        statistics[number] = _measure(model, subjects[number], dataset, config, report)
    return Measured(dataset=dataset.uri, statistics=statistics)


def _measure(
    model: FoundModel, subject: Subject, dataset: Dataset, config: EvaluateConfig, progress: Progress
) -> SplitStatistics:
    counts = [
        LoadCounts.of(load_id, name, threshold, counted.classes[name].pixels)
        for load_id, counted in counted_loads(subject, dataset, split="test", workers=config.workers, progress=progress)
        for name, threshold in zip(model.card.class_names, model.card.thresholds, strict=True)
    ]
    return SplitStatistics(split_sha256=dataset.split("test").sha256, counts=tuple(counts))
