"""Detectors as methods to evaluate: the instances that they find become maps."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
from numpy.typing import NDArray

from scrapray.baselines.detections import DetectionsInFile
from scrapray.baselines.rasterise import Instances, rasterise
from scrapray.datasets.read import Dataset
from scrapray.datasets.split import Split
from scrapray.errors import SchemaError
from scrapray.evaluation.config import DetectorConfig
from scrapray.evaluation.subjects import Scored, Scorer, Subject

DETECTIONS_SUFFIX = ".json"
"""Of a file with what a detector found."""


def rasterised(found_N: Iterable[Instances], num_classes: int, tile_px: int, config: DetectorConfig) -> Scored:
    """Maps of tiles, pixel by pixel, from the instances in each; those of one tile are dropped before the next."""
    draw = partial(
        rasterise, num_classes=num_classes, map_hw=(tile_px, tile_px), reduce=config.reduce, min_score=config.min_score
    )
    return Scored(np.stack(list(map(draw, found_N))))  # a loop would hold the last tile's while the next is looked at


def detections_subject(file_uri: str, dataset: Dataset, split: Split, config: DetectorConfig) -> Subject:
    """What a detector of any make found, see ``detections``.

    Args:
        file_uri: JSON that all workers reach.
        dataset: What it was found in.
        split: Part of it that is to be evaluated.
        config: How instances become maps.

    Raises:
        SchemaError: The file is wrong, or of another dataset or split.
        StorageError: It cannot be read.
    """
    read = partial(_read, file_uri, dataset)
    known = set(dataset.manifest["tile_id"].to_pylist())
    found_in = read().tile_ids
    if foreign := [tile_id for tile_id in found_in if tile_id not in known]:
        raise SchemaError(
            f"{file_uri}: {len(foreign)} of {len(found_in)} image_id are no tile_id of {dataset.uri}, such as "
            f"{foreign[0]}; write the tile_id of each tile, as in {dataset.uri}/manifest.parquet"
        )
    if found_in and not set(found_in) & set(dataset.split(split).tile_ids):
        raise SchemaError(
            f"{file_uri}: none of its {len(found_in)} tiles is in the {split} split of {dataset.uri}; give --split, or "
            "the detections of that split"
        )
    name = file_uri.rpartition("/")[2].removesuffix(DETECTIONS_SUFFIX)
    class_names = dataset.card.class_names
    opened = partial(_open, read, len(class_names), config)
    return Subject(
        name=name,
        class_names=class_names,
        open=opened,
        tags={"detections": file_uri},
        settings={"detector": asdict(config)},
    )


def _read(file_uri: str, dataset: Dataset) -> DetectionsInFile:
    return DetectionsInFile(
        dataset.storage.read_bytes(file_uri),
        num_classes=len(dataset.card.class_names),
        tile_px=dataset.card.tile_px,
        source=file_uri,
    )


def _open(read: Callable[[], DetectionsInFile], num_classes: int, config: DetectorConfig, device: str) -> Scorer:
    return partial(_look_up, read(), num_classes, config)


def _look_up(
    found: DetectionsInFile,
    num_classes: int,
    config: DetectorConfig,
    tiles_NHW3: NDArray[np.uint8],
    tile_ids: Sequence[str],
) -> Scored:
    return rasterised(map(found, tile_ids), num_classes, tiles_NHW3.shape[1], config)
