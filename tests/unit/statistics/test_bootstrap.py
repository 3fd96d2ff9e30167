import tracemalloc
from dataclasses import asdict
from functools import reduce
from operator import add

import numpy as np
import pytest

from scrapray.statistics.bootstrap import LoadHistograms, LoadMatrix, draws, interval, intervals
from scrapray.statistics.metrics import ScoreHistogram


def histogram_of(load: int, share: float = 0.05, separation: float = 1.5) -> ScoreHistogram:
    rng = np.random.default_rng(load)
    truth = rng.random((3, 40, 40)) < share
    return ScoreHistogram.of(1 / (1 + np.exp(2 - rng.normal(size=truth.shape) - separation * truth)), truth)


def test_figures_of_a_draw_are_those_of_the_drawn_loads_added_up() -> None:
    loads = [histogram_of(load).coarsened(11) for load in range(4)]
    num_RL = np.array([[1, 1, 1, 1], [4, 0, 0, 0], [0, 2, 1, 1], [2, 2, 0, 0]])
    found = LoadMatrix.of(loads).figures(num_RL)
    for draw, num_L in enumerate(num_RL):
        drawn = reduce(add, [load for load, num in zip(loads, num_L, strict=True) for _ in range(num)])
        expected = asdict(drawn.metrics())
        for name, figures_R in found.items():
            assert figures_R[draw] == pytest.approx(expected[name], rel=1e-9), name


def test_loads_side_by_side_take_no_more_than_themselves() -> None:
    loads = [histogram_of(load) for load in range(60)]
    loads = [load.coarsened(11) for load in loads]
    tracemalloc.start()
    matrix = LoadMatrix.of(loads)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    alone_bytes = sum(load.bins_U.nbytes + load.normal_U.nbytes + 2 * load.contaminant_U.nbytes for load in loads)
    assert peak_bytes < alone_bytes < matrix.normal_LU.shape[0] * matrix.normal_LU.shape[1] * 8
    dense_LU = np.zeros(matrix.normal_LU.shape)
    used = np.unique(np.concatenate([load.bins_U for load in loads]))
    for row_U, load in zip(dense_LU, loads, strict=True):
        row_U[np.searchsorted(used, load.bins_U)] = load.normal_U
    np.testing.assert_array_equal(matrix.normal_LU.toarray(), dense_LU[:, ::-1])


def test_intervals_of_scores_that_lie_close_together_are_those_of_the_same_ranking_spread_out() -> None:
    rng = np.random.default_rng(0)
    truths = rng.random((12, 40, 40)) < 0.05
    scores = np.round(rng.random(truths.shape) * 0.8 + 0.2 * truths, 3)
    spread = intervals([ScoreHistogram.of(*pair) for pair in zip(scores, truths, strict=True)])
    close = intervals([ScoreHistogram.of(*pair) for pair in zip(0.3 + scores * 1e-3, truths, strict=True)])
    for name, ends in spread.items():
        assert close[name] == pytest.approx(ends, rel=1e-12), name


def test_common_bins_are_as_fine_as_memory_allows_in_any_order() -> None:
    loads = [histogram_of(load) for load in range(40)]
    forwards, backwards = LoadHistograms(), LoadHistograms()
    for load, reverse in zip(loads, reversed(loads), strict=True):
        forwards.add(load)
        backwards.add(reverse)
    (dropped_bits,) = {load.dropped_bits for load in (*forwards.loads, *backwards.loads)}
    for coarse, other, load in zip(forwards.loads, reversed(backwards.loads), loads, strict=True):
        np.testing.assert_array_equal(coarse.bins_U, other.bins_U)
        np.testing.assert_array_equal(coarse.normal_U, load.coarsened(dropped_bits).normal_U)
    finer = np.unique(np.concatenate([load.coarsened(dropped_bits - 1).bins_U for load in loads]))
    used = np.unique(np.concatenate([load.bins_U for load in forwards.loads]))
    assert dropped_bits > 0
    assert len(used) <= 1 << 16 < len(finer)


def test_an_interval_holds_the_figure_and_narrows_with_more_loads() -> None:
    few, many = ([histogram_of(load, separation=1 + load % 3) for load in range(num)] for num in (6, 40))
    for loads in (few, many):
        whole = asdict(reduce(add, loads).metrics())
        for name, ends in intervals(loads).items():
            assert ends is not None
            assert ends[0] < whole[name] < ends[1], name
    narrow, wide = intervals(many), intervals(few)
    assert all(np.diff(narrow[name]) < np.diff(wide[name]) for name in narrow)


def test_draws_that_miss_all_contaminants_say_nothing() -> None:
    clean = [histogram_of(load, share=0.0) for load in range(3)]
    assert intervals(clean) == dict.fromkeys(("auroc", "average_precision", "f1_max", "aupro_exact"))
    one = intervals([*clean, histogram_of(9)])
    assert all(ends is not None and 0 <= ends[0] <= ends[1] <= 1 for ends in one.values())


def test_draws_are_the_same_every_time_and_of_all_loads_alike() -> None:
    first, second = (np.concatenate(list(draws(5))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (1000, 5)
    assert (first.sum(axis=1) == 5).all()
    assert first.mean(axis=0) == pytest.approx(np.ones(5), abs=0.1)


def test_one_load_says_nothing_of_chance() -> None:
    assert set(intervals([histogram_of(0)]).values()) == {None}


def test_the_interval_leaves_a_fortieth_out_at_each_end() -> None:
    assert interval([np.arange(1001.0), np.array([np.nan])]) == pytest.approx((25, 975))
    assert interval([np.array([np.nan])]) is None
