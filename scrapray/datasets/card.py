"""What a dataset says of itself: ``card.json``, written last, so a folder without one is unfinished."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter, ValidationError

from scrapray.datasets.split import Split
from scrapray.errors import SchemaError, first_fault
from scrapray.labels import Contaminant
from scrapray.storage import Storage, join

CARD, MANIFEST, SKIPPED = "card.json", "manifest.parquet", "skipped.parquet"
"""Files of a dataset beside its tiles."""
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCounts:
    """What one split holds.

    Attributes:
        num_loads: Loads, or what takes their place; see ``split.unit_of``.
        class_px: Pixels of steel and of each class.
        class_tiles: Tiles that show steel, and each class.
    """

    num_loads: int
    num_frames: int
    num_tiles: int
    class_px: tuple[int, ...]
    class_tiles: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCard:
    """All that is known of a dataset. Equal inputs give equal cards: neither time nor machine has a part in it.

    Attributes:
        classes: Contaminants in the order of their class ids, from 1.
        splits: What each split holds.
        skipped: How often something was left out, by stage and reason.
        sources: Where annotations and frames came from, and hashes of their content.
        settings: Of the preparation, without storage.
        command: How it was called.
        input_sha256: Stands for annotations, URIs and etags of frames, settings and code version, as known before any
            frame is read; another one after a copy of the archive, though its content is the same.
        dataset_sha256: Stands for every pixel, class and split in the dataset, and for keys and content of its frames.
    """

    format_version: int = FORMAT_VERSION
    classes: tuple[Contaminant, ...]
    tile_px: int
    splits: Mapping[Split, SplitCounts]
    skipped: Mapping[str, int]
    sources: Mapping[str, Any]
    settings: Mapping[str, Any]
    command: str
    code_version: str
    input_sha256: str
    dataset_sha256: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, without steel."""
        return tuple(contaminant.name for contaminant in self.classes)

    def to_json(self) -> str:
        """The text of ``card.json``."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str) -> "DatasetCard":
        """Read what ``to_json`` wrote.

        Raises:
            SchemaError: The text is not a card, or a card of another format.
        """
        try:
            card = TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise SchemaError(f"{source} is no card of a dataset: {first_fault(error)}; prepare it again") from error
        if card.format_version != FORMAT_VERSION:
            raise SchemaError(
                f"{source}: dataset format {card.format_version}, this version of scrapray reads {FORMAT_VERSION}; "
                "update scrapray or prepare it again"
            )
        return card


def read_card(dataset_uri: str, storage: Storage) -> DatasetCard | None:
    """The card of a dataset; None if there is none, or none that is finished.

    Raises:
        SchemaError: It is not a card.
        StorageError: It cannot be read.
    """
    uri = join(dataset_uri, CARD)
    return DatasetCard.from_json(storage.read_bytes(uri), source=uri) if storage.exists(uri) else None


def count_split(tiles: pa.Table, num_classes: int) -> SplitCounts:
    """Count the tiles of one split.

    Args:
        tiles: Rows of ``schema.TILE_MANIFEST``.
        num_classes: Classes, without steel.
    """
    class_px_CN = [pc.list_element(tiles["class_px"], place) for place in range(num_classes + 1)]
    return SplitCounts(
        num_loads=pc.count_distinct(tiles["unit"]).as_py(),
        num_frames=pc.count_distinct(tiles["frame_id"]).as_py(),
        num_tiles=tiles.num_rows,
        class_px=tuple(pc.sum(px_N, min_count=0).as_py() for px_N in class_px_CN),
        class_tiles=tuple(pc.sum(pc.greater(px_N, 0), min_count=0).as_py() for px_N in class_px_CN),
    )
