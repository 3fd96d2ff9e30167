import numpy as np
import pytest

from scrapray.statistics.thresholds import choose_thresholds

LOADS = [np.array([[0.9, 0.0], [score, 0.0], [0.01, 0.0]]) for score in (0.2, 0.4, 0.6)]


def test_a_threshold_lets_as_many_clean_loads_pass_as_allowed() -> None:
    assert choose_thresholds(LOADS, 0.0) == (0.605, 0.05)
    assert choose_thresholds(LOADS, 0.34) == (0.405, 0.05)


def test_one_false_frame_sets_no_threshold_but_that_of_a_load_with_one_frame() -> None:
    assert choose_thresholds([[[0.9], [0.1]]], 0.0) == (0.105,)
    assert choose_thresholds([[[0.9]]], 0.0) == (0.905,)


def test_without_clean_loads_no_threshold_can_be_chosen() -> None:
    with pytest.raises(ValueError, match="no clean load"):
        choose_thresholds([], 0.0)
