from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrapray import schema
from scrapray.datasets.card import DatasetCard
from scrapray.datasets.read import Dataset, SplitTiles
from scrapray.errors import SchemaError
from scrapray.imagery.png import encode_png
from scrapray.storage import Storage


def dataset(uri: str, input_sha256: str) -> Dataset:
    card = DatasetCard(
        classes=(),
        tile_px=512,
        splits={},
        skipped={},
        sources={},
        settings={},
        code_version="1",
        dataset_sha256="a" * 64,
        command="",
        input_sha256=input_sha256,
    )
    return Dataset(uri, card, schema.TILE_MANIFEST.empty_table(), Storage())


def test_equal_tiles_in_other_rows_of_another_dataset_are_not_taken_for_its_own() -> None:
    """A frame that is left out moves all that follow it to other rows and parts."""
    same, again, other, elsewhere = (
        dataset(uri, input_sha256).split("train")._cache
        for uri, input_sha256 in (("s3://d/1", "b"), ("s3://d/1", "b"), ("s3://d/1", "c"), ("s3://d/2", "b"))
    )
    assert same == again
    assert len({same, other, elsewhere}) == 3


def test_a_split_without_tiles_has_no_pixels_of_any_class() -> None:
    tiles = dataset("/d/1", "b").split("validation")
    assert len(tiles) == 0
    assert not tiles.class_px_NC[:, 1:].any()


@pytest.mark.parametrize(("in_manifest", "is_its_own"), [("a", True), ("b", False)])
def test_a_tile_that_is_not_the_one_of_the_manifest_is_refused(
    tmp_path: Path, in_manifest: str, is_its_own: bool
) -> None:
    image_HW3, class_HW = np.full((4, 4, 3), 7, np.uint8), np.eye(4, dtype=np.uint8)
    row = {"tile_sha256": "a", "image": encode_png(image_HW3), "mask": encode_png(class_HW)}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "part-00000.parquet")
    known = {"tile_id": "t", "frame_id": "f", "unit": "u", "class_px": [12, 4], "part": "part-00000.parquet", "row": 0}
    manifest = pa.Table.from_pylist([known | {"tile_sha256": in_manifest}])
    tiles = SplitTiles(str(tmp_path), manifest, 1, Storage(), tmp_path)
    if is_its_own:
        np.testing.assert_array_equal(tiles[0][0], image_HW3)
        np.testing.assert_array_equal(tiles[0][1], class_HW)
    else:
        with pytest.raises(SchemaError, match=r"tile t cannot be read, row 0 of .*: another tile stands there"):
            tiles[0]
