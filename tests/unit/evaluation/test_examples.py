"""Tiles that show what methods make of them: which ones, and how they are drawn."""

from types import SimpleNamespace

import numpy as np

from scrapray.evaluation.examples import choose_examples, draw_examples
from scrapray.imagery.png import decode_png

SIDE = 32


def split(*tiles: tuple[str, int, int]) -> SimpleNamespace:
    """Load, pixels of motor, pixels of cable."""
    return SimpleNamespace(
        load_ids=[load_id for load_id, _, _ in tiles],
        class_px_NC=np.array([(1000, motor, cable) for _, motor, cable in tiles]),
    )


def test_those_that_show_most_of_each_class_and_one_of_steel_are_chosen_of_other_loads() -> None:
    tiles = split(
        ("a", 0, 0), ("a", 90, 0), ("a", 80, 0), ("b", 10, 0), ("b", 0, 50), ("c", 0, 5), ("d", 0, 0), ("d", 1, 0)
    )
    assert choose_examples(tiles) == (1, 3, 5, 4, 6)


def test_a_class_that_is_nowhere_and_loads_that_are_few_leave_fewer() -> None:
    assert choose_examples(split(("a", 9, 0), ("a", 8, 0), ("a", 0, 0))) == (0, 2)
    assert choose_examples(split(("a", 9, 0))) == (0,)


def test_a_row_for_each_tile_with_input_truth_and_the_maps_of_each_method_in_its_own_range() -> None:
    class_HW = np.zeros((SIDE, SIDE), np.uint8)
    class_HW[:16, :16] = 1
    tiles = {place: (np.full((SIDE, SIDE, 3), 100, np.uint8), class_HW) for place in (4, 2)}
    ramp_hw = np.linspace(0, 1, 64).reshape(8, 8)
    maps = {
        "high": {4: 0.9 + 0.1 * ramp_hw, 2: np.full((8, 8), 0.9)},
        "low": {4: 0.001 * ramp_hw, 2: np.zeros((8, 8))},
        "flat": {4: np.full((8, 8), 0.5), 2: np.full((8, 8), 0.5)},
    }
    page_HW3 = decode_png(draw_examples(tiles, maps, ("motor",)))
    step = SIDE + 4
    assert page_HW3.shape[1] == 5 * step
    first, second = (page_HW3[-2 * step + row * step :][:SIDE] for row in (0, 1))
    assert (first[:, :SIDE] == 100).all(), "the input as it is"
    assert not (first[:, step : step + SIDE] == 100).all(), "the truth outlined"
    high, low, flat = (first[:, column * step :][:, :SIDE].astype(int) for column in (2, 3, 4))
    assert abs(high - low).max() <= 2, "scores of both glow alike"
    assert high[-1, -1].sum() > high[0, 0].sum()
    assert (flat == flat[0, 0]).all()
    assert (second[:, 2 * step :][:, :SIDE] == second[0, 2 * step]).all(), "another tile, in the same range"
