"""A finished dataset -> its tiles, one by one, in any order."""

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scrapray import schema
from scrapray.config import sha256_of
from scrapray.datasets.card import MANIFEST, DatasetCard, read_card
from scrapray.datasets.split import Split
from scrapray.errors import SchemaError
from scrapray.imagery.png import decode_png
from scrapray.lake import read_table
from scrapray.storage import Storage, absolute, join

_OPEN_PARTS = 32


@dataclass(frozen=True, slots=True)
class Dataset:
    """A finished dataset.

    Attributes:
        card: What it says of itself.
        manifest: ``schema.TILE_MANIFEST``.
    """

    uri: str
    card: DatasetCard
    manifest: pa.Table
    storage: Storage

    def split(self, name: Split, cache: Path | None = None) -> "SplitTiles":
        """The tiles of one split.

        Args:
            name: The split.
            cache: Folder for copies of a dataset that does not lie on this machine; by default one for each dataset
                among the temporary files.
        """
        # Equal tiles may stand in other parts and rows of another dataset.
        whole = sha256_of([self.uri, self.card.dataset_sha256, self.card.input_sha256])
        here = Path(tempfile.gettempdir()) / f"scrapray-tiles-{whole[:16]}"
        rows = self.manifest.filter(pc.equal(self.manifest["split"], name))
        return SplitTiles(join(self.uri, "tiles"), rows, len(self.card.class_names), self.storage, cache or here)


def open_dataset(dataset_uri: str, storage: Storage) -> Dataset:
    """Open a dataset that ``prepare_dataset`` has finished.

    Raises:
        SchemaError: There is none, or it is not of this version.
        StorageError: It cannot be read.
    """
    uri = absolute(dataset_uri)
    card = read_card(uri, storage)
    if card is None:
        raise SchemaError(f"{dataset_uri} holds no finished dataset; run scrapray prepare, or again if it was stopped")
    manifest = read_table(join(uri, MANIFEST), schema.TILE_MANIFEST, storage)
    return Dataset(uri, card, manifest.sort_by([("part", "ascending"), ("row", "ascending")]), storage)


class SplitTiles:
    """Tiles of one split by their places; can be pickled, and reads a tile when it is asked for.

    Of a dataset that lies elsewhere, each part is copied to this machine when its first tile is asked for.

    Attributes:
        class_px_NC: Pixels of each class in each tile; class 0 is steel.
        tile_ids: Names of the tiles.
        frame_ids: Frame of each tile.
        load_ids: Load of each tile, or what takes its place; unlike in keys, no two loads have the same.
        sha256: Stands for every pixel and class of these tiles.
    """

    def __init__(
        self, tiles_uri: str, manifest: pa.Table, num_contaminants: int, storage: Storage, cache: Path
    ) -> None:
        self._tiles_uri = tiles_uri
        self._storage = storage
        self._cache = cache
        self._parts: list[str] = manifest["part"].to_pylist()
        self._rows: list[int] = manifest["row"].to_pylist()
        self._sha256: list[str] = manifest["tile_sha256"].to_pylist()
        counted = np.array(manifest["class_px"].to_pylist(), dtype=np.int64)
        self.class_px_NC: NDArray[np.int64] = counted.reshape(len(manifest), 1 + num_contaminants)
        self.tile_ids: list[str] = manifest["tile_id"].to_pylist()
        self.frame_ids: list[str] = manifest["frame_id"].to_pylist()
        self.load_ids: list[str] = manifest["unit"].to_pylist()
        self.sha256 = sha256_of(sorted(self._sha256))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The tile at a place: RGB (H, W, 3), and the class id of each pixel (H, W).

        Raises:
            SchemaError: It cannot be read, or another stands in its place.
            StorageError: Its part cannot be had.
        """
        part, row = self._parts[place], self._rows[place]
        path = self._local(part)
        try:
            (tile,) = _open_part(path).read_row_group(row, columns=["tile_sha256", "image", "mask"]).to_pylist()
            if tile["tile_sha256"] != self._sha256[place]:
                raise ValueError("another tile stands there than the manifest says")
            return decode_png(tile["image"]), decode_png(tile["mask"])
        except (pa.ArrowException, OSError, ValueError, IndexError) as error:
            raise SchemaError(
                f"tile {self.tile_ids[place]} cannot be read, row {row} of {path}: {error}; prepare the dataset again"
            ) from error

    def places_of_loads(self) -> dict[str, list[int]]:
        """Places of the tiles of each load, loads in the order of their first tile."""
        places: dict[str, list[int]] = defaultdict(list)
        for place, load_id in enumerate(self.load_ids):
            places[load_id].append(place)
        return dict(places)

    def _local(self, part: str) -> Path:
        """Where a part lies on this machine."""
        uri = join(self._tiles_uri, part)
        if "://" not in uri:
            return Path(uri)
        path = self._cache / part
        if not path.exists():
            self._storage.copy(uri, str(path))
        return path


@lru_cache(maxsize=_OPEN_PARTS)
def _open_part(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, memory_map=True)
