from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scrapray.segmenter.drawn_tiles import Tiles, keep_tiles
from scrapray.segmenter.fit import TilePair


def squares(seed: int, side_px: int) -> Iterator[TilePair]:
    """Tiles of grey noise, and in every second one a bright square of some class."""
    rng = np.random.default_rng(seed)
    while True:
        image_HW3 = rng.integers(0, 100, (side_px, side_px, 3), dtype=np.uint8)
        class_HW = np.zeros((side_px, side_px), np.uint8)
        if rng.random() < 0.5:
            top, left = rng.integers(0, side_px - 24, 2)
            kind = int(rng.integers(1, 4))
            image_HW3[top : top + 20, left : left + 20, kind - 1] = 250
            class_HW[top : top + 20, left : left + 20] = kind
        yield image_HW3, class_HW


def some_tiles(folder: Path, num: int = 24) -> Tiles:
    return keep_tiles(folder, num, 64, 0, squares)


def test_tiles_are_drawn_once_and_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    one = keep_tiles(tmp_path / "one", 150, 64, 7, squares)
    two = keep_tiles(tmp_path / "two", 150, 64, 7, squares, workers=2)
    assert len(one) == len(two) == 150
    for place in (0, 127, 128, 149):
        assert (one[place][0] == two[place][0]).all()
        assert (one[place][1] == two[place][1]).all()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()}
    keep_tiles(tmp_path / "one", 150, 64, 7, squares)
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()}
    assert not list((tmp_path / "one").glob("*.part"))
