from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapray.training.order import balanced_chances, epoch_order, shares


def steps_of(rank: int, num_workers: int, first_step: int = 0, num_tiles: int = 23) -> list[list[tuple[int, int, int]]]:
    return list(
        shares(num_tiles, batch_size=4, epochs=3, first_step=first_step, rank=rank, num_workers=num_workers, seed=5)
    )


@given(num_workers=st.integers(1, 4), first_step=st.integers(0, 15))
def test_workers_together_show_what_one_shows_from_any_step_on(num_workers: int, first_step: int) -> None:
    together = zip(*(steps_of(rank, num_workers, first_step) for rank in range(num_workers)), strict=True)
    alone = steps_of(0, 1)[first_step:]
    assert [sorted(chain.from_iterable(step)) for step in together] == [sorted(step) for step in alone]


def test_an_epoch_shows_each_tile_at_most_once_and_another_epoch_another_order() -> None:
    steps = steps_of(0, 1)
    assert len(steps) == 3 * 5
    tiles = [[tile for step in steps[5 * epoch : 5 * epoch + 5] for _, _, tile in step] for epoch in range(3)]
    assert all(len(set(shown)) == 20 for shown in tiles)
    assert tiles[0] != tiles[1]


def test_the_order_follows_from_the_seed() -> None:
    first, again, other = (epoch_order(50, seed=seed, epoch=2) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_balanced_chances_show_every_class_equally_often() -> None:
    class_px_NC = np.zeros((100, 4), np.int64)
    class_px_NC[:, 0] = 1000
    class_px_NC[:30, 1] = 10
    class_px_NC[25:30, 2] = 10  # of both, and counted as the rarer
    class_px_NC[99, 3] = 1
    chances_N = balanced_chances(class_px_NC)
    mass = [chances_N[:25].sum(), chances_N[25:30].sum(), chances_N[30:99].sum(), chances_N[99]]
    assert mass == pytest.approx([1, 1, 1, 1])
    order = epoch_order(100_000, seed=0, epoch=0, chances_N=np.tile(chances_N, 1000))
    assert np.mean(order % 100 == 99) == pytest.approx(0.25, abs=0.01)
