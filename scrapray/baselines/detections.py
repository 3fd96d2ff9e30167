"""Instances from a file, so that a detector of any make can be measured: COCO's format for results of segmentation.

    [{"image_id": "<tile_id>", "category_id": 1, "score": 0.93, "segmentation": {"size": [512, 512], "counts": "..."}}]

``category_id`` is the class id in the masks of the dataset, from 1 on. A tile without an entry is one in which nothing
was found.

Reference: https://cocodataset.org/#format-results
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from scrapray.baselines.rasterise import Instances
from scrapray.errors import SchemaError, first_fault
from scrapray.imagery.masks import decode_mask, parse_run_lengths


@dataclass(frozen=True, slots=True)
class _RunLengths:
    size: tuple[int, int]
    counts: str | list[int]


@dataclass(frozen=True, slots=True)
class _Detection:
    image_id: str
    category_id: Annotated[int, Field(ge=1)]
    score: Annotated[float, Field(ge=0, le=1)]
    segmentation: _RunLengths


class DetectionsInFile:
    """What a file says of each tile."""

    def __init__(self, data: bytes, *, num_classes: int, tile_px: int, source: str) -> None:
        """Read it.

        Args:
            data: The file.
            num_classes: Contaminants of the dataset.
            tile_px: Side of its tiles.
            source: Name of the file, for messages.

        Raises:
            SchemaError: The file has another format, a score that is none from 0 to 1, a class that the dataset
                lacks, or a mask that is not as large as a tile.
        """
        self._tile_px, self._source = tile_px, source
        self._of_tile: dict[str, list[_Detection]] = defaultdict(list)
        for number, entry in enumerate(_parse(data, source)):
            if entry.category_id > num_classes:
                raise SchemaError(
                    f"{source}: category_id of entry {number} is {entry.category_id}, must be from 1 to {num_classes}, "
                    "the class ids of the dataset"
                )
            if entry.segmentation.size != (tile_px, tile_px):
                raise SchemaError(
                    f"{source}: the mask of entry {number} has a size of {list(entry.segmentation.size)}, must be "
                    f"[{tile_px}, {tile_px}] as the tiles of the dataset"
                )
            self._of_tile[entry.image_id].append(entry)

    @property
    def tile_ids(self) -> list[str]:
        """Tiles in which something was found."""
        return list(self._of_tile)

    def __call__(self, tile_id: str) -> Instances:
        """What was found in a tile.

        Raises:
            SchemaError: Run lengths do not fill their mask.
        """
        entries = self._of_tile.get(tile_id, [])
        masks_IHW = np.zeros((len(entries), self._tile_px, self._tile_px), np.bool_)
        for mask_HW, entry in zip(masks_IHW, entries, strict=True):
            try:
                mask_HW[:] = decode_mask(parse_run_lengths(entry.segmentation.counts, entry.segmentation.size))
            except ValueError as error:
                raise SchemaError(f"{self._source}: a mask of tile {tile_id} is broken: {error}") from error
        return Instances(
            scores_I=np.array([entry.score for entry in entries], np.float32),
            labels_I=np.array([entry.category_id for entry in entries], np.int64),
            masks_IHW=masks_IHW,
        )


def _parse(data: bytes, source: str) -> list[_Detection]:
    try:
        return TypeAdapter(list[_Detection]).validate_json(data)
    except ValidationError as error:
        raise SchemaError(
            f"{source} holds no results as COCO has them: {first_fault(error)}; write a list of image_id (the "
            "tile_id), category_id, score and segmentation (run lengths)"
        ) from error
