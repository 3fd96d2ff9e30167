from scrapray import schema
from scrapray.datasets.card import DatasetCard
from scrapray.datasets.read import Dataset
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
