"""What a single thing lies on in a drawing, and the words for it."""

import math
from collections.abc import Callable

import cv2
import numpy as np

from scrapray.imagery.drawing import COPPER, PAINTS, Color, Floats, Random, noise

COLORS: dict[str, Color] = PAINTS | {"purple": (0.40, 0.16, 0.50), "pink": (0.85, 0.50, 0.58)}
TINTS: dict[str, tuple[tuple[Color, ...], float]] = {
    "clay": (((0.55, 0.27, 0.18), (0.62, 0.36, 0.24)), 0.05),
    "copper": ((COPPER,), 0.5),
    "rubber": (((0.09, 0.09, 0.09), (0.14, 0.14, 0.15)), 0.1),
    "stone": (((0.48, 0.47, 0.45), (0.58, 0.54, 0.48), (0.35, 0.35, 0.37)), 0.05),
    "wooden": (((0.52, 0.36, 0.20), (0.66, 0.50, 0.32), (0.36, 0.23, 0.13)), 0.1),
}
"""Materials that have their own colours, with their gloss."""


def with_article(noun: str) -> str:
    """A noun as it stands in a sentence."""
    if noun.endswith(("turnings", "chips", "scissors")):
        return f"some {noun}"
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def grained(rng: Random, shape_hw: tuple[int, int], cell_wh: tuple[float, float]) -> Floats:
    """Noise with cells that are longer one way."""
    width, height = cell_wh
    grid = rng.uniform(-1, 1, (math.ceil(shape_hw[0] / height) + 1, math.ceil(shape_hw[1] / width) + 1))
    stretched = cv2.resize(grid.astype(np.float32), (shape_hw[1], shape_hw[0]), interpolation=cv2.INTER_LINEAR)
    return stretched.astype(np.float32, copy=False)


Ground = tuple[Floats, Floats]
"""Brightness around 1 and height in px, each (H, W)."""


def _smooth(rng: Random, size: int) -> Ground:
    return 1 + 0.1 * noise(rng, (size, size), size, 1), np.zeros((size, size), np.float32)


def _rough(rng: Random, size: int) -> Ground:
    field = noise(rng, (size, size), rng.uniform(2, 5), 2)
    return 1 + 0.12 * field, rng.uniform(0.3, 1.2) * field


def _loose(rng: Random, size: int) -> Ground:
    field = noise(rng, (size, size), rng.uniform(5, 12), 2)
    np.abs(field, out=field)
    return 0.8 + 0.5 * field, 4 * field


def _grassy(rng: Random, size: int) -> Ground:
    field = grained(rng, (size, size), (2, rng.uniform(5, 10)))
    return 1 + 0.35 * field, 2 * field


def _boarded(rng: Random, size: int) -> Ground:
    board = rng.uniform(14, 34)
    gap_H1 = ((np.arange(size) + rng.uniform(0, board)) % board < 1.5).astype(np.float32)[:, None]
    field = grained(rng, (size, size), (size / 2, 2.5))
    return (1 + 0.15 * field) * (1 - 0.6 * gap_H1), np.repeat(-1.5 * gap_H1, size, 1)


def _tiled(rng: Random, size: int) -> Ground:
    tile = rng.uniform(18, 44)
    rows, columns = ((np.arange(size) + rng.uniform(0, tile)) % tile < 2 for _ in range(2))
    joint = (rows[:, None] | columns[None, :]).astype(np.float32)
    return 1 - 0.4 * joint, -joint


def _walled(rng: Random, size: int) -> Ground:
    tall = rng.uniform(9, 16)
    row_H = ((np.arange(size) + rng.uniform(0, tall)) / tall)[:, None]
    along_HW = np.arange(size)[None, :] / (2.2 * tall) + 0.5 * (np.floor(row_H) % 2)
    joint = ((row_H % 1 < 0.15) | (along_HW % 1 < 0.07)).astype(np.float32)
    return 1 + 0.15 * noise(rng, (size, size), tall, 2) + 0.4 * joint, -joint


def _striped(rng: Random, size: int) -> Ground:
    wave = np.sin(np.arange(size) * 2 * np.pi / rng.uniform(8, 30) + rng.uniform(0, 6)).astype(np.float32)
    band = np.broadcast_to(1 + 0.4 * np.sign(wave), (size, size))
    return (band if rng.random() < 0.5 else band.T), np.zeros((size, size), np.float32)


_STRUCTURED: dict[str, tuple[Callable[[Random, int], Ground], tuple[Color, ...]]] = {
    "on grass": (_grassy, ((0.25, 0.42, 0.14), (0.36, 0.42, 0.18))),
    "on a wooden floor": (_boarded, TINTS["wooden"][0]),
    "on gravel": (_loose, TINTS["stone"][0]),
    "on sand": (_rough, ((0.72, 0.60, 0.42), (0.66, 0.54, 0.40))),
    "on concrete": (_rough, ((0.52, 0.52, 0.50), (0.42, 0.42, 0.41))),
    "on earth": (_loose, ((0.33, 0.24, 0.17), (0.26, 0.20, 0.15))),
    "on snow": (_rough, ((0.86, 0.88, 0.92),)),
    "on a tiled floor": (_tiled, tuple(COLORS.values())),
    "in front of a brick wall": (_walled, TINTS["clay"][0]),
    "on a striped cloth": (_striped, tuple(COLORS.values())),
}
GROUNDS = _STRUCTURED | {f"on {with_article(word)} background": (_smooth, (color,)) for word, color in COLORS.items()}
"""What a thing may lie on, by the words for it, and the colours that it has."""
