"""Counts of tiles add up, and the tiles that a method got most wrong are found whoever sees them first."""

from collections.abc import Sequence
from functools import reduce
from itertools import permutations
from operator import add

import numpy as np
import pytest

from scrapray.evaluation.counting import NUM_WORST, Counted, Counter, worst_of
from scrapray.evaluation.subjects import Scored

SIDE, CELLS = 32, 8
CLASS_IDS = {"motor": 1, "cable": 3}


class Tiles:
    """As ``SplitTiles``: a square of one class in a corner of each second tile, whose colour names the tile."""

    tile_ids = tuple(f"tile-{place}" for place in range(24))

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        tile_HW3, class_HW = np.full((SIDE, SIDE, 3), place, np.uint8), np.zeros((SIDE, SIDE), np.uint8)
        if place % 2:
            class_HW[:8, :8] = 1 + place % 4 - place % 2  # 1 or 3
        return tile_HW3, class_HW


def score(tiles_NHW3: np.ndarray, tile_ids: Sequence[str]) -> Scored:
    """Surer on the object the later the tile, and on steel in the far corner; takes cables for motors."""
    place_N = tiles_NHW3[:, 0, 0, 0] / 100
    assert list(tile_ids) == [f"tile-{round(100 * place)}" for place in place_N]
    maps_NKhw = np.zeros((len(tiles_NHW3), 3, CELLS, CELLS), np.float32)
    maps_NKhw[:, 0, :2, :2] = maps_NKhw[:, 1, :2, :2] = place_N[:, None, None]
    maps_NKhw[:, 0, -1, -1] = place_N / 2
    return Scored(maps_NKhw)


@pytest.fixture
def counter() -> Counter:
    return Counter(score, Tiles(), CLASS_IDS)


def summary(counted: Counted) -> list[tuple[str, str, float]]:
    return [(tile.kind, tile.tile_id, round(tile.error, 3)) for tile in counted.worst]


def test_the_worst_are_misses_and_false_alarms_the_worst_first(counter: Counter) -> None:
    found = summary(counter.count(range(24)))
    misses = [("miss", f"tile-{place}", round(1 - place / 100, 3)) for place in range(1, 2 * NUM_WORST, 2)]
    false_alarms = [("false alarm", f"tile-{place}", place / 200) for place in range(23, 23 - NUM_WORST, -1)]
    # A tile without a contaminant can have a false alarm where others have their object.
    steel = {place: (place / 100 if place % 2 == 0 else place / 200) for place in range(24)}
    expected = sorted(steel, key=lambda place: -steel[place])[:NUM_WORST]
    assert found[:NUM_WORST] == misses
    assert found[NUM_WORST:] == [("false alarm", f"tile-{place}", round(steel[place], 3)) for place in expected]
    assert found[NUM_WORST:] != false_alarms


def test_what_is_right_is_not_among_the_worst() -> None:
    def knows(tiles_NHW3: np.ndarray, tile_ids: Sequence[str]) -> Scored:
        maps_NKhw = score(tiles_NHW3, tile_ids).maps_NKhw
        truth_N = [(Tiles()[int(tile_id.removeprefix("tile-"))][1] > 0) for tile_id in tile_ids]
        h, w = maps_NKhw.shape[2:]
        truth_Nhw = [truth_HW.reshape(h, len(truth_HW) // h, w, -1).any(axis=(1, 3)) for truth_HW in truth_N]
        return Scored(np.repeat(np.stack(truth_Nhw)[:, None], maps_NKhw.shape[1], axis=1).astype(np.float32))

    assert summary(Counter(knows, Tiles(), CLASS_IDS).count(range(24))) == []


def test_any_sharding_gives_the_same(counter: Counter) -> None:
    whole = counter.count(range(24))
    shards = [counter.count(list(range(first, 24, 3))) for first in range(3)]
    for order in permutations(shards):
        counted = reduce(add, order)
        assert summary(counted) == summary(whole)
        np.testing.assert_array_equal(counted.confusion_KK1, whole.confusion_KK1)
        assert counted.classes["any"].pixels.metrics() == whole.classes["any"].pixels.metrics()
    assert worst_of(reversed(whole.worst)) == whole.worst


def test_each_pixel_of_a_class_counts_for_the_class_that_scores_highest(counter: Counter) -> None:
    assert counter.count(range(24)).confusion_KK1.tolist() == [[6 * 64, 0, 0], [6 * 64, 0, 0]]


def test_pixels_on_which_nothing_was_found_count_for_no_class() -> None:
    def finds_nothing(tiles_NHW3: np.ndarray, tile_ids: Sequence[str]) -> Scored:
        return Scored(np.zeros_like(score(tiles_NHW3, tile_ids).maps_NKhw))

    counted = Counter(finds_nothing, Tiles(), CLASS_IDS).count(range(24))
    assert counted.confusion_KK1.tolist() == [[0, 0, 6 * 64], [0, 0, 6 * 64]]


def test_a_method_that_tells_no_classes_confuses_none() -> None:
    def blind(tiles_NHW3: np.ndarray, tile_ids: Sequence[str]) -> Scored:
        return Scored(score(tiles_NHW3, tile_ids).maps_NKhw[:, :1])

    counted = Counter(blind, Tiles(), {}).count(range(4))
    assert counted.confusion_KK1.shape == (0, 1)
    assert list(counted.classes) == ["any"]


def test_maps_of_the_tiles_asked_for_are_kept() -> None:
    counter = Counter(score, Tiles(), CLASS_IDS, keep=(20, 3))
    counted = counter.count(range(12)) + counter.count(range(12, 24))
    assert sorted(counted.maps) == [3, 20]
    assert float(counted.maps[20][0, 0]) == pytest.approx(0.2, abs=1e-3)
