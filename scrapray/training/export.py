"""A checkpoint -> a bundle that can be audited with and promoted: thresholds from validation, figures from the test.

Legend: K contaminants, H x W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.train
import torch

from scrapray import schema
from scrapray.datasets.read import SplitTiles
from scrapray.imagery.sheet import outlined, sheet
from scrapray.labels import Contaminant
from scrapray.lake import write_table
from scrapray.registry import MODEL_NAME, TEST_STATISTICS
from scrapray.segmenter.bundle import BundleCard, save_bundle
from scrapray.segmenter.checkpoint import load_weights
from scrapray.segmenter.measure import ANY, Figures, score_tiles
from scrapray.segmenter.model import Segmenter
from scrapray.statistics.metrics import PixelMetrics
from scrapray.statistics.promotion import LoadCounts, SplitStatistics
from scrapray.storage import Storage
from scrapray.training.config import FinetuneConfig
from scrapray.training.loop import CHECKPOINT, measure_tiles, new_segmenter

EXAMPLES = "examples.png"
"""File of tiles with what is there and what was found."""
_NUM_EXAMPLES = 12
_RANGE = (0.01, 0.99)
"""Lowest and highest threshold that is ever chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What a bundle is made from.

    Attributes:
        config: Of the training.
        classes: The contaminants, in the order of their class ids.
        checkpoint: Of the training.
        validation: Tiles that examples are shown of.
        validated: What the checkpoint reached on them, by name; thresholds follow from it.
        test: Tiles that nothing was chosen on.
        tile_px: Side of the tiles.
        version: Of the model, for the card.
        trained_on: For the card.
    """

    config: FinetuneConfig
    classes: tuple[Contaminant, ...]
    checkpoint: ray.train.Checkpoint
    validation: SplitTiles
    validated: Mapping[str, PixelMetrics]
    test: SplitTiles
    tile_px: int
    version: str
    trained_on: Mapping[str, Any]


def export_bundle(export: Export, folder: Path) -> BundleCard:
    """Write the bundle, what promotion compares by, and examples, into a folder."""
    device = torch.device("cuda" if torch.cuda.is_available() and export.config.workers.gpus_per_worker else "cpu")
    segmenter = new_segmenter(export.config, export.classes)
    with export.checkpoint.as_directory() as found:
        load_weights(Path(found, CHECKPOINT), segmenter)
    segmenter.to(device).eval()
    thresholds_K = best_f1_thresholds(export.validated, [contaminant.name for contaminant in export.classes])
    counts, figures = _measure_test(segmenter, export, thresholds_K, device)
    _write_statistics(folder, counts, export)
    _write_examples(folder, segmenter, export, thresholds_K, device)
    num_loads = len(set(export.test.load_ids))
    return save_bundle(
        folder,
        segmenter,
        name=MODEL_NAME,
        version=export.version,
        tile_px=export.tile_px,
        thresholds=thresholds_K,
        trained_on=export.trained_on,
        metrics={
            "measured_on": f"{len(export.test)} tiles of {num_loads} loads of the test split, all pixels",
            "test": _as_dict(figures.metrics()),
            "validation": _as_dict(export.validated),
        },
    )


def best_f1_thresholds(validated: Mapping[str, PixelMetrics], class_names: Sequence[str]) -> tuple[float, ...]:
    """Of each contaminant the score with the best F1 over validation pixels; where it shows none, that of all."""
    chosen = [validated[name].f1_threshold for name in class_names]
    of_all = validated[ANY].f1_threshold
    assert of_all is not None, "a validation split that shows no contaminant is refused before training"
    return tuple(float(np.clip(of_all if score is None else score, *_RANGE)) for score in chosen)


def _measure_test(
    segmenter: Segmenter, export: Export, thresholds_K: Sequence[float], device: torch.device
) -> tuple[list[LoadCounts], Figures]:
    """Counts load by load, without their empty bins, and the figures of all loads together."""
    names = [contaminant.name for contaminant in export.classes]
    counts: list[LoadCounts] = []
    whole = Figures.empty(names)
    for load_id, places in export.test.places_of_loads().items():
        figures = measure_tiles(segmenter, export.test, places, device, export.config.training.autocast)
        counts += [
            LoadCounts.of(load_id, name, threshold, figures.histograms[name])
            for name, threshold in zip(names, thresholds_K, strict=True)
        ]
        whole += figures
    return counts, whole


def _as_dict(figures: Mapping[str, PixelMetrics]) -> dict[str, Any]:
    return {name: asdict(found) for name, found in figures.items()}


def _write_statistics(folder: Path, counts: Sequence[LoadCounts], export: Export) -> None:
    rows = SplitStatistics(split_sha256=export.test.sha256, counts=tuple(counts)).rows()
    table = pa.Table.from_pylist(rows, schema=schema.TEST_STATISTICS)
    write_table(table, schema.TEST_STATISTICS, str(folder / TEST_STATISTICS), Storage())


def _write_examples(
    folder: Path, segmenter: Segmenter, export: Export, thresholds_K: Sequence[float], device: torch.device
) -> None:
    """Validation tiles with the most contaminants, a pair each: outlines of the truth, and of what was found."""
    split, pairs = export.validation, []
    most = np.argsort(-split.class_px_NC[:, 1:].sum(axis=1), kind="stable")[:_NUM_EXAMPLES]
    for tile_HW3, class_HW in (split[int(place)] for place in most):
        scores_NCHW = score_tiles(segmenter, tile_HW3[None], device=device, autocast=export.config.training.autocast)
        found_KHW = scores_NCHW[0, 1:] >= np.array(thresholds_K)[:, None, None]
        found_HW = np.where(found_KHW.any(axis=0), 1 + scores_NCHW[0, 1:].argmax(axis=0), 0).astype(np.uint8)
        pairs += [outlined(tile_HW3, class_HW), outlined(tile_HW3, found_HW)]
    names = [contaminant.name for contaminant in export.classes]
    (folder / EXAMPLES).write_bytes(sheet(pairs, columns=4, titles=("truth", "found"), legend=names))
