"""What a load is made of, and how it is heaped up: a stock of parts, dropped layer by layer."""

import math
from collections.abc import Callable
from functools import partial
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from scrapray.imagery import parts
from scrapray.imagery.drawing import Bytes, Random, Sprite
from scrapray.imagery.heap import Corners, Heap

Pair = npt.NDArray[np.float64]
Placed = tuple[str, float, float, float]
"""Name and length of a thing, and where it falls: x, y."""

_MIX: dict[str, tuple[float, float]] = {
    "beam": (6, 420),
    "angle iron": (7, 360),
    "channel": (6, 380),
    "square tube": (7, 360),
    "pipe": (6, 320),
    "rod": (7, 320),
    "rebar": (6, 320),
    "plate": (10, 220),
    "sheet": (10, 240),
    "box": (5, 190),
    "turnings": (12, 280),
    "chips": (16, 260),
    "flange": (3, 130),
    "gear": (2, 120),
    "brake disc": (3, 130),
    "spring": (2, 120),
    "pipe stub": (1.5, 120),
    "wire rope": (2, 240),
    "painted rod": (2, 220),
    "gearbox": (1, 170),
    "valve": (1, 130),
    "tin": (1.5, 100),
}
"""Steel of a load: how often each part is met, and its usual length in a 4K frame, px."""

_FLOOR_COVER = 2.3
"""Area of the parts of the lowest layer, in shares of the bed."""
_GRAB_COVER = 0.68
"""The same of each further layer, which is one grab of the crane."""
_GRAB_REACH = 0.2
"""Standard deviation of where they lie, in shares of the bed's length."""


def draw_stock(rng: Random, scale: float, number: int) -> tuple[Sprite, ...]:
    """The parts of one load, each to be used many times: every load has its own mix of them."""
    weights = np.array([often for often, _ in _MIX.values()]) * rng.gamma(0.8, 1, len(_MIX))
    names = rng.choice(list(_MIX), number, p=weights / weights.sum())
    drawn = [parts.draw_part(name, rng, _MIX[name][1] * rng.lognormal(0, 0.3) * scale) for name in names]
    return tuple(sprite.toned(rng.uniform(0.65, 1.15)) for sprite in drawn for _ in range(2))


class Loader:
    """Drops layers of parts into a heap and remembers the things that matter.

    Attributes:
        specials: Number and name of every contaminant and hard negative that was asked for.
    """

    def __init__(self, rng: Random, heap: Heap, stock: tuple[Sprite, ...], bed_xy: Corners) -> None:
        self._rng = rng
        self._heap = heap
        self._stock = stock
        self._low, self._high = np.min(bed_xy, 0), np.max(bed_xy, 0)
        self.specials: list[tuple[int, str]] = []

    def class_of_object(self) -> Bytes:
        """Class index per number of a thing, with 0 for the truck."""
        classes = np.zeros(self._heap.num_objects + 1, np.uint8)
        for number, name in self.specials:
            if name in parts.CONTAMINANTS:
                classes[number] = parts.CONTAMINANTS.index(name) + 1
        return classes

    def add_floor(self, specials: list[tuple[str, float]]) -> None:
        """The lowest layer, all over the bed."""
        self._add(specials, lambda: self._rng.uniform(self._low, self._high), _FLOOR_COVER)

    def add_grab(self, specials: list[tuple[str, float]]) -> None:
        """A mound somewhere in the bed, as much as one grab takes away."""
        rng, size = self._rng, self._high - self._low
        middle = rng.uniform(self._low + 0.15 * size, self._high - 0.15 * size)
        reach = _GRAB_REACH * size.max() * np.array([1, 0.7])
        self._add(specials, lambda: np.clip(rng.normal(middle, reach), self._low, self._high), _GRAB_COVER)

    def _add(self, specials: list[tuple[str, float]], place: Callable[[], Pair], cover: float) -> None:
        placed = [(name, length, *_point(place())) for name, length in specials]
        self._drop_all(placed, place, cover * float((self._high - self._low).prod()))

    def add_window(self, specials: list[Placed], side_px: int, cover: float) -> None:
        """One layer over a square window of the bed."""
        self._drop_all(specials, lambda: self._rng.uniform(0, side_px, 2), cover * side_px**2, last=0.85)

    def _drop_all(self, specials: list[Placed], place: Callable[[], Pair], area_px: float, last: float = 0.7) -> None:
        """Drop parts until they could cover this area once, and the specials among the last of them."""
        rng = self._rng
        falls = [(rng.uniform(last, 1), partial(self._drop_special, *special)) for special in specials]
        while area_px > 0:
            sprite = self._stock[rng.integers(len(self._stock))]
            area_px -= 0.65 * sprite.area_px
            falls.append((rng.random(), partial(self._drop_part, sprite, *_point(place()))))
        for _, fall in sorted(falls, key=itemgetter(0)):
            fall()

    def _drop_part(self, sprite: Sprite, x_px: float, y_px: float) -> None:
        """One part from the stock, turned, a little smaller or larger than it was drawn."""
        rng = self._rng
        turned = sprite.turned(rng.uniform(0, 2 * math.pi), rng.uniform(0.65, 1.1))
        self._heap.drop(turned, x_px, y_px, lean=rng.normal(0, 0.05))

    def _drop_special(self, name: str, length_px: float, x_px: float, y_px: float) -> None:
        """A contaminant or hard negative, drawn for this one place, with some dirt on it."""
        rng = self._rng
        sprite = parts.draw_part(name, rng, length_px).turned(rng.uniform(0, 2 * math.pi)).toned(rng.uniform(0.6, 1.05))
        self.specials.append((self._heap.drop(sprite, x_px, y_px, rank=0.75, lean=rng.normal(0, 0.03)), name))


def _point(xy: Pair) -> tuple[float, float]:
    return float(xy[0]), float(xy[1])
