"""A few tiles as every method sees them, side by side: the layout of the scrap paper's Figure 4.

Shapes: K classes of the dataset, H W pixels of a tile, h w cells of a map.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scrapray.datasets.read import SplitTiles
from scrapray.imagery.sheet import heated, outlined, sheet

Maps = Mapping[int, NDArray[np.floating]]
"""Scores of any contaminant (h, w), by the place of the tile."""
_PER_CLASS = 2


def choose_examples(tiles: SplitTiles) -> tuple[int, ...]:
    """Places of the tiles that show most of each class, and of one without any, each of another load where there is.

    The same for the same tiles, whatever a method makes of them.
    """
    chosen: list[int] = []
    for class_px_N in tiles.class_px_NC.T[1:]:
        most_first = [int(place) for place in np.argsort(-class_px_N, kind="stable") if class_px_N[place]]
        chosen += _of_other_loads(most_first, tiles, chosen)[:_PER_CLASS]
    clean = np.flatnonzero(tiles.class_px_NC[:, 1:].sum(axis=1) == 0).tolist()
    return (*chosen, *_of_other_loads(clean, tiles, chosen)[:1])


def _of_other_loads(places: Sequence[int], tiles: SplitTiles, chosen: Sequence[int]) -> list[int]:
    """The first of each load, those of loads not chosen yet before the others; none that is chosen."""
    known = {tiles.load_ids[place] for place in chosen}
    first_of_load = {tiles.load_ids[place]: place for place in reversed(places) if place not in chosen}
    return sorted(first_of_load.values(), key=lambda place: (tiles.load_ids[place] in known, places.index(place)))


def draw_examples(tiles: SplitTiles, maps: Mapping[str, Maps], class_names: Sequence[str]) -> bytes:
    """PNG with a row for each tile: input, truth, then the map of each method.

    Maps of a method glow from the lowest to the highest of all its scores shown, since methods differ in how high they
    score.

    Args:
        tiles: The split.
        maps: By method; all of the same tiles.
        class_names: Of the dataset, by class id from 1 on.
    """
    ranges = {label: _range(of_method) for label, of_method in maps.items()}
    pictures = []
    for place in next(iter(maps.values())):
        tile_HW3, class_HW = tiles[place]
        pictures += [tile_HW3, outlined(tile_HW3, class_HW)]
        for label, of_method in maps.items():
            low, span = ranges[label]
            pictures.append(heated(tile_HW3, (of_method[place] - low) / span))
    return sheet(pictures, columns=2 + len(maps), titles=("input", "truth", *maps), legend=class_names)


def _range(maps: Maps) -> tuple[float, float]:
    """Lowest score, and how far the highest lies above it; 1 where all are alike."""
    scores = np.stack(list(maps.values()))
    low = float(scores.min())
    return low, float(scores.max()) - low or 1.0
