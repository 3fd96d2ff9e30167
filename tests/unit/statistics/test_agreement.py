import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from scrapray.statistics.agreement import cohens_kappa, kappa_interval, ratio_interval, wilson_interval


@pytest.mark.parametrize("seed", range(20))
def test_kappa_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    num_categories = rng.integers(2, 5)
    one = rng.integers(num_categories, size=50)
    other = np.where(rng.random(50) < 0.6, one, rng.integers(num_categories, size=50))
    table_CC = np.zeros((num_categories, num_categories))
    np.add.at(table_CC, (one, other), 1)
    assert cohens_kappa(table_CC) == pytest.approx(cohen_kappa_score(one, other))


def test_kappa_of_judges_who_always_say_the_same_one_thing_is_no_number():
    assert np.isnan(cohens_kappa([[7, 0], [0, 0]]))


def test_the_interval_of_kappa_holds_the_truth_as_often_as_it_says():
    """Judges who each see the truth (a coin) with probability 0.9, on 40 loads of 3 frames: 200 experiments."""
    rng = np.random.default_rng(0)
    right = 0.9**2 + 0.1**2
    true_kappa = (right - 0.5) / 0.5
    held = 0
    for _ in range(200):
        truth = rng.integers(2, size=(40, 3))
        one, other = (np.where(rng.random(truth.shape) < 0.9, truth, 1 - truth) for _ in range(2))
        tables_LCC = np.zeros((40, 2, 2))
        np.add.at(tables_LCC, (np.arange(40)[:, None], one, other), 1)
        low, high = kappa_interval(tables_LCC)
        held += low <= true_kappa <= high
    assert 0.89 < held / 200 < 0.99


def test_loads_and_not_frames_are_what_an_interval_counts():
    few = np.array([[[4, 1], [1, 4]], [[5, 0], [2, 3]], [[3, 2], [0, 5]]])
    assert kappa_interval(few) == pytest.approx(kappa_interval(few * 100))
    assert kappa_interval(few[:1]) is None


@pytest.mark.parametrize(("num_right", "num"), [(0, 5), (5, 5), (3, 10), (1, 1), (480, 500)])
def test_the_interval_of_a_share_is_wilsons(num_right, num):
    expected = binomtest(num_right, num).proportion_ci(0.95, method="wilson")
    assert wilson_interval(num_right, num) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_share_of_nothing_has_no_interval():
    assert wilson_interval(0, 0) is None


def test_a_ratio_is_as_sure_as_its_loads_are_alike():
    assert ratio_interval(np.ones(9), np.full(9, 2.0)) == (0.5, 0.5)
    low, high = ratio_interval([0, 2, 0, 2], [2, 2, 2, 2])
    assert low < 0.5 < high
    assert ratio_interval([1], [2]) is None
    assert ratio_interval([0, 1], [0, 2]) is None
    assert ratio_interval([0, 0], [0, 0]) is None
