"""Which tile is shown when, and by which worker: all of it follows from the seed, so that a run can be cut anywhere.

Legend: N tiles, C classes, B tiles of a step.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def epoch_order(num_tiles: int, *, seed: int, epoch: int, chances_N: npt.NDArray[np.float64] | None = None) -> Indices:
    """The tiles of one epoch in the order of their showing.

    Args:
        num_tiles: Tiles there are, and tiles shown in an epoch.
        seed: Of the run.
        epoch: From 0.
        chances_N: How often each tile should be drawn, in any unit; left out, each is shown once.
    """
    rng = np.random.default_rng((seed, epoch))
    if chances_N is None:
        return rng.permutation(num_tiles)
    return rng.choice(num_tiles, num_tiles, p=chances_N / chances_N.sum())


def balanced_chances(class_px_NC: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Chances with which tiles of every class are shown equally often; a tile belongs to the rarest class it shows.

    Args:
        class_px_NC: Pixels of each class in each tile; class 0 is steel, which every tile shows.
    """
    shown_NC = class_px_NC > 0
    num_tiles_C = shown_NC.sum(axis=0)
    rarity_NC = np.where(shown_NC, num_tiles_C, len(class_px_NC) + 1)
    rarity_NC[:, 0] = len(class_px_NC)  # whatever else a tile shows is rarer
    class_N = rarity_NC.argmin(axis=1)
    chances_N: npt.NDArray[np.float64] = 1 / np.bincount(class_N, minlength=class_px_NC.shape[1])[class_N]
    return chances_N


def shares(
    num_tiles: int,
    *,
    batch_size: int,
    epochs: int,
    first_step: int,
    rank: int,
    num_workers: int,
    seed: int,
    chances_N: npt.NDArray[np.float64] | None = None,
) -> Iterator[list[tuple[int, int, int]]]:
    """What one worker shows in each step from ``first_step`` on.

    All workers together show each step's batch, whatever their number. The last tiles of an epoch that fill no batch
    are left out.

    Yields:
        For each step, (epoch, place in the epoch, tile) of each tile of this worker's share.
    """
    steps_per_epoch = num_tiles // batch_size
    for epoch in range(first_step // steps_per_epoch, epochs):
        order_N = epoch_order(num_tiles, seed=seed, epoch=epoch, chances_N=chances_N)
        begin = first_step - epoch * steps_per_epoch if epoch == first_step // steps_per_epoch else 0
        for step in range(begin, steps_per_epoch):
            places = range(step * batch_size + rank, (step + 1) * batch_size, num_workers)
            yield [(epoch, place, int(order_N[place])) for place in places]
