"""What a worker makes of loads: counts that add up, and the few tiles that the method got most wrong. Without Ray.

Shapes: N tiles, K classes that the method tells, H W pixels of a tile, h w cells of a map.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scrapray.datasets.read import SplitTiles
from scrapray.evaluation.subjects import Scorer
from scrapray.imagery.components import EIGHT_CONNECTED
from scrapray.segmenter.measure import ANY
from scrapray.statistics.counts import ClassCounts
from scrapray.statistics.metrics import pixels_per_cell, to_pixels

NUM_WORST = 8
"""Of each kind."""
_TILES_AT_ONCE = 16
_NEAR_CELLS = 2
"""Scores so near to a contaminant are no false alarm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorstTile:
    """A tile that a method got wrong.

    Attributes:
        kind: A contaminant that it passed over, or steel that it took for one.
        error: How wrong, 0 to 1: what lacks to 1 in the highest score on the object that scores least; or the highest
            score on steel.
        place: Of the tile in its split.
        tile_id: Its name.
        tile_HW3: RGB.
        class_HW: Its truth.
        map_hw: Scores of any contaminant.
    """

    kind: Literal["miss", "false alarm"]
    error: float
    place: int
    tile_id: str
    tile_HW3: NDArray[np.uint8]
    class_HW: NDArray[np.uint8]
    map_hw: NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Of some tiles; ``a + b`` is what one worker would have made of both.

    Attributes:
        classes: Counts by class, and of any contaminant under ``ANY``.
        confusion_KK1: Pixels of each class by the class whose map scores highest there, however low; in the last column
            those on which all maps are 0, as where a detector found nothing.
        worst: At most ``NUM_WORST`` of each kind, the worst first.
        maps: Scores of any contaminant (h, w) of the tiles whose maps are to be kept, by their places.
    """

    classes: Mapping[str, ClassCounts]
    confusion_KK1: NDArray[np.int64]
    worst: tuple[WorstTile, ...]
    maps: Mapping[int, NDArray[np.float16]]

    def __add__(self, other: Self) -> Self:
        classes = {name: counts + other.classes[name] for name, counts in self.classes.items()}
        worst = worst_of((*self.worst, *other.worst))
        return type(self)(classes, self.confusion_KK1 + other.confusion_KK1, worst, {**self.maps, **other.maps})


def worst_of(tiles: Iterable[WorstTile]) -> tuple[WorstTile, ...]:
    """The worst of each kind, in an order that does not depend on theirs."""
    ordered = sorted(tiles, key=lambda tile: (tile.kind != "miss", -tile.error, tile.place))
    return tuple(
        tile for kind in ("miss", "false alarm") for tile in [one for one in ordered if one.kind == kind][:NUM_WORST]
    )


class Counter:
    """One method on one split."""

    def __init__(
        self, score: Scorer, tiles: SplitTiles, class_ids: Mapping[str, int], keep: Collection[int] = ()
    ) -> None:
        """Take note of them.

        Args:
            score: The method.
            tiles: The split.
            class_ids: Class ids in the masks, of the classes that the method tells, in the order of its maps.
            keep: Places of the tiles whose maps are to be kept.
        """
        self._score = score
        self._tiles = tiles
        self._class_ids = class_ids
        self._keep = keep

    def count(self, places: Sequence[int]) -> Counted:
        """Make counts of some tiles, taken a few at a time."""
        firsts = range(0, len(places), _TILES_AT_ONCE)
        return reduce(add, (self._count_few(places[first : first + _TILES_AT_ONCE]) for first in firsts))

    def _count_few(self, places: Sequence[int]) -> Counted:
        pairs = [self._tiles[place] for place in places]
        tile_ids = [self._tiles.tile_ids[place] for place in places]
        scored = self._score(np.stack([tile_HW3 for tile_HW3, _ in pairs]), tile_ids)
        any_Nhw, maps_KNhw = scored.maps_NKhw[:, 0], scored.maps_NKhw[:, 1:].swapaxes(0, 1)
        classes_NHW = np.stack([class_HW for _, class_HW in pairs])
        counts = {ANY: ClassCounts.of(any_Nhw, classes_NHW > 0, scored.tiles_N)}
        for maps_Nhw, (name, class_id) in zip(maps_KNhw, self._class_ids.items(), strict=True):
            counts[name] = ClassCounts.of(maps_Nhw, classes_NHW == class_id)
        worst = (
            WorstTile(
                kind=kind,
                error=error,
                place=place,
                tile_id=tile_id,
                tile_HW3=tile_HW3,
                class_HW=class_HW,
                map_hw=map_hw.astype(np.float16),
            )
            for place, tile_id, (tile_HW3, class_HW), map_hw in zip(places, tile_ids, pairs, any_Nhw, strict=True)
            for kind, error in _errors(map_hw, class_HW > 0)
            if error > 0
        )
        kept = {
            place: map_hw
            for place, map_hw in zip(places, any_Nhw.astype(np.float16), strict=True)
            if place in self._keep
        }
        return Counted(counts, self._confusion(maps_KNhw, classes_NHW), worst_of(worst), kept)

    def _confusion(self, maps_KNhw: NDArray[np.float32], classes_NHW: NDArray[np.uint8]) -> NDArray[np.int64]:
        num = len(maps_KNhw)
        if not num:
            return np.zeros((0, 1), np.int64)
        said_Nhw = np.where(maps_KNhw.max(axis=0) > 0, maps_KNhw.argmax(axis=0), num)
        said_NHW = to_pixels(said_Nhw, pixels_per_cell(said_Nhw, classes_NHW))
        rows = [
            np.bincount(said_NHW[classes_NHW == class_id], minlength=num + 1) for class_id in self._class_ids.values()
        ]
        return np.stack(rows).astype(np.int64)


def _errors(
    map_hw: NDArray[np.floating], truth_HW: NDArray[np.bool_]
) -> list[tuple[Literal["miss", "false alarm"], float]]:
    errors: list[tuple[Literal["miss", "false alarm"], float]] = []
    h, w = map_hw.shape
    truth_hw = truth_HW.reshape(h, len(truth_HW) // h, w, -1).any(axis=(1, 3))
    labels_hw, num = ndimage.label(truth_hw, EIGHT_CONNECTED)
    if num:
        errors.append(("miss", 1 - float(np.min(ndimage.maximum(map_hw, labels_hw, range(1, num + 1))))))
    steel_hw = ~ndimage.binary_dilation(truth_hw, iterations=_NEAR_CELLS)
    if steel_hw.any():
        errors.append(("false alarm", float(map_hw[steel_hw].max())))
    return errors
