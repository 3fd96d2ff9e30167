"""Tiles on their way to a worker: read, varied, and handed over step by step.

Legend: N tiles, C classes.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch.utils.data
from numpy.typing import NDArray

from scrapray.imagery.augmentation import AugmentConfig, augment, paste_contaminants
from scrapray.segmenter.fit import TilePair

_AHEAD = 4
"""Steps that each loader is ahead of the worker."""


class TileSplit(Protocol):
    """The tiles of one split of a dataset; can be pickled, and reads a tile only when it is asked for.

    Attributes:
        class_px_NC: Pixels of each class in each tile; class 0 is steel.
    """

    class_px_NC: NDArray[np.int64]

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> TilePair: ...


class ShownTiles(torch.utils.data.Dataset[TilePair]):
    """Tiles as training shows them: what is done to a tile follows from the seed, the epoch and its place in it."""

    def __init__(self, split: TileSplit, config: AugmentConfig, seed: int) -> None:
        self._split = split
        self._config = config
        self._seed = seed
        self._donors = np.flatnonzero((split.class_px_NC[:, 1:] > 0).any(axis=1))

    def __getitem__(self, shown: tuple[int, int, int]) -> TilePair:
        epoch, place, tile = shown
        rng = np.random.default_rng((self._seed, epoch, place))
        pair = augment(rng, *self._split[tile], self._config)
        if len(self._donors) and rng.random() < self._config.copy_paste:
            donor = augment(rng, *self._split[int(rng.choice(self._donors))], self._config)
            pair = paste_contaminants(rng, pair, donor)
        return pair


def load_steps(
    tiles: ShownTiles, shares: Iterator[list[tuple[int, int, int]]], num_loaders: int
) -> Iterator[list[TilePair]]:
    """The tiles of each step of one worker, read ahead by processes of their own."""
    return iter(
        torch.utils.data.DataLoader(
            tiles,
            batch_sampler=shares,
            collate_fn=list,
            num_workers=num_loaders,
            prefetch_factor=_AHEAD if num_loaders else None,
            # Forked, a loader would share the connections of its worker.
            multiprocessing_context="spawn" if num_loaders else None,
        )
    )
