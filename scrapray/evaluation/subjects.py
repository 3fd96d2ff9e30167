"""What can be evaluated: everything that turns tiles into anomaly maps, opened on the workers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from scrapray.audit.actors import open_bundle
from scrapray.audit.model import FoundModel
from scrapray.imagery.tiling import blend_tiles
from scrapray.segmenter.bundle import Bundle
from scrapray.segmenter.measure import STRIDE_PX, score_tiles
from scrapray.storage import Storage


class Scored(NamedTuple):
    """Scores of tiles in [0, 1].

    Attributes:
        maps_NKhw: Of any contaminant, then of each class that the method tells; a cell per ``STRIDE_PX``.
        tiles_N: Of each tile as a whole, of a method that says so; else its highest pixel counts.
    """

    maps_NKhw: NDArray[np.float32]
    tiles_N: NDArray[np.float32] | None = None


class Scorer(Protocol):
    """A method that is ready to look at tiles."""

    def __call__(self, tiles_NHW3: NDArray[np.uint8]) -> Scored:
        """Look at RGB tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A method to evaluate.

    Attributes:
        name: What tables call it.
        class_names: Contaminants that it tells apart, in the order of its maps; none if it tells any from steel only.
        open: Loads it on a worker, for the device named.
    """

    name: str
    class_names: tuple[str, ...]
    open: Callable[[str], Scorer]


def bundle_subject(model: FoundModel, storage: Storage, *, autocast: bool) -> Subject:
    """A bundle; it looks at each tile of the dataset in tiles of its own size, all over."""
    name = f"{model.name} {model.version}"
    opened = partial(_open_bundle, model.bundle_uri, storage, autocast)
    return Subject(name=name, class_names=model.card.class_names, open=opened)


def _open_bundle(bundle_uri: str, storage: Storage, autocast: bool, device: str) -> Scorer:
    bundle = open_bundle(bundle_uri, storage)
    bundle.model.to(device)
    return partial(_score_with_bundle, bundle, device, autocast)


def _score_with_bundle(bundle: Bundle, device: str, autocast: bool, tiles_NHW3: NDArray[np.uint8]) -> Scored:
    side_px = tiles_NHW3.shape[1]
    sides_px = [own_px for own_px in bundle.card.tile_sides_px if own_px <= side_px] or [side_px]
    overlap_px = min(sides_px) // 4 // STRIDE_PX * STRIDE_PX
    score = partial(score_tiles, bundle.model, device=device, autocast=autocast)
    maps = [
        blend_tiles(tile_HW3, score, sides_px=sides_px, overlap_px=overlap_px, stride_px=STRIDE_PX)
        for tile_HW3 in tiles_NHW3
    ]
    return Scored(np.stack(maps))
