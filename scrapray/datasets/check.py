"""A finished dataset, looked at before anybody trains on it: what is odd in it, and what its tiles look like."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scrapray.datasets.card import SKIPPED
from scrapray.datasets.painting import KEPT
from scrapray.datasets.read import Dataset, SplitTiles, open_dataset
from scrapray.datasets.split import SPLITS
from scrapray.imagery.likeness import near_copies
from scrapray.imagery.sheet import outlined, sheet
from scrapray.lake import read_table
from scrapray.schema import SKIPPED as SKIPPED_COLUMNS
from scrapray.storage import Storage, join

SHEET = "sheet.png"
_TILES_PER_CLASS = 8
_COLUMNS = 8
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCheck:
    """What was seen.

    Attributes:
        num_px: Pixels of steel and of each class, by split.
        odd: Annotations by reason, left out or worth a look: picture, annotation and what it is.
        copies: Pairs of frames that look alike within one split.
        leaks: Pairs of frames that look alike in two splits.
        sheet_uri: Where the picture of tiles is.
    """

    num_px: Mapping[str, Mapping[str, int]]
    odd: Mapping[str, list[str]]
    copies: list[tuple[str, str]]
    leaks: list[tuple[str, str]]
    sheet_uri: str

    def __str__(self) -> str:
        lines = [
            f"pixels in {split}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items())
            for split, counts in self.num_px.items()
        ]
        lines += [_told(f"annotations, {reason.replace('_', ' ')}", found) for reason, found in self.odd.items()]
        lines += [
            _told("near copies in two splits", [" and ".join(pair) for pair in self.leaks]),
            _told("near copies in one split", [" and ".join(pair) for pair in self.copies]),
            f"tiles with their classes: {self.sheet_uri}",
        ]
        return "\n".join(lines)


def check_dataset(dataset_uri: str, storage: Storage) -> DatasetCheck:
    """Look through a dataset and write a sheet of its tiles beside them.

    Args:
        dataset_uri: Finished.
        storage: The door to it.

    Raises:
        SchemaError: There is none.
        StorageError: It cannot be read or written.
    """
    dataset = open_dataset(dataset_uri, storage)
    skipped = read_table(join(dataset.uri, SKIPPED), SKIPPED_COLUMNS, storage)
    odd: dict[str, list[str]] = {"tiny": [], "outside_bed": []}
    for row in skipped.filter(pc.is_in(skipped["stage"], pa.array([KEPT, "annotation"]))).to_pylist():
        which = f" annotation {row['annotation_id']}" if row["annotation_id"] is not None else ""
        odd.setdefault(row["reason"], []).append(f"{row['picture']}{which}, {row['detail']}")
    copies, leaks = _near_copies(dataset)
    sheet_uri = join(dataset.uri, SHEET)
    storage.write_bytes(sheet_uri, _draw_sheet(dataset))
    return DatasetCheck(num_px=_num_px(dataset), odd=odd, copies=copies, leaks=leaks, sheet_uri=sheet_uri)


def _num_px(dataset: Dataset) -> dict[str, dict[str, int]]:
    names = ("steel", *dataset.card.class_names)
    return {split: dict(zip(names, counts.class_px, strict=True)) for split, counts in dataset.card.splits.items()}


def _near_copies(dataset: Dataset) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Pairs of frames within a split, and in two splits."""
    frames = dataset.manifest.group_by("frame_id").aggregate([(name, "min") for name in ("uri", "split", "thumbnail")])
    frames = frames.sort_by("uri_min")
    uris, splits = frames["uri_min"].to_pylist(), frames["split_min"].to_pylist()
    within: list[tuple[str, str]] = []
    across: list[tuple[str, str]] = []
    for one, other in near_copies(frames["thumbnail_min"].to_pylist()):
        (within if splits[one] == splits[other] else across).append((uris[one], uris[other]))
    return within, across


def _draw_sheet(dataset: Dataset) -> bytes:
    """Of each class the tiles that show most of it, from all splits, outlined; without any, one tile of each split."""
    names = dataset.card.class_names
    splits = [dataset.split(name) for name in SPLITS]
    most = [tile for class_id in range(1, 1 + len(names)) for tile in _showing_most(splits, class_id)]
    pictures = [outlined(*split[place]) for split, place in most or [(split, 0) for split in splits if len(split)]]
    return sheet(pictures, columns=min(_COLUMNS, len(pictures)), titles=("",), legend=names)


def _showing_most(splits: list[SplitTiles], class_id: int) -> list[tuple[SplitTiles, int]]:
    candidates = [
        (int(split.class_px_NC[place, class_id]), split, int(place))
        for split in splits
        if len(split)
        for place in np.argsort(-split.class_px_NC[:, class_id], kind="stable")[:_TILES_PER_CLASS]
    ]
    shown = sorted((each for each in candidates if each[0]), key=lambda each: -each[0])
    return [(split, place) for _, split, place in shown[:_TILES_PER_CLASS]]


def _told(what: str, found: list[str]) -> str:
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{what}: {'none' if not found else f'{len(found)}: '}" + "; ".join(found[:_SHOWN]) + more
