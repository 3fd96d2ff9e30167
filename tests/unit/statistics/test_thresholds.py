import numpy as np
import pytest

from scrapray.statistics.thresholds import choose_thresholds

CLEAN = [np.array([[0.9, 0.0], [score, 0.0], [0.01, 0.0]]) for score in (0.2, 0.4, 0.6)]


def loads(*peaks: tuple[float, ...]) -> list[np.ndarray]:
    """Loads of two frames that look alike."""
    return [np.array([scores, scores]) for scores in peaks]


def test_a_threshold_lets_as_many_clean_loads_pass_as_allowed_where_that_finds_more() -> None:
    contaminated = loads((0.5, 0.0), (0.7, 0.0))
    assert choose_thresholds(CLEAN, contaminated, 0.0) == (0.605, 0.05)
    assert choose_thresholds(CLEAN, contaminated, 0.34) == (0.405, 0.05)


def test_no_clean_load_is_let_pass_for_nothing() -> None:
    assert choose_thresholds(CLEAN, loads((0.7, 0.0)), 0.9) == (0.605, 0.05)
    assert choose_thresholds(CLEAN, [], 0.9) == (0.605, 0.05)


def test_false_alarms_go_to_the_contaminant_that_gains_most_by_them() -> None:
    clean = loads((0.8, 0.9), (0.3, 0.4), (0.2, 0.3))
    contaminated = loads((0.5, 0.1), (0.6, 0.1), (0.1, 0.5))
    assert choose_thresholds(clean, contaminated, 0.34) == (0.305, 0.905)
    assert choose_thresholds(clean, contaminated, 0.67) == (0.305, 0.405)


def test_one_false_frame_sets_no_threshold_but_that_of_a_load_with_one_frame() -> None:
    assert choose_thresholds([[[0.9], [0.1]]], [], 0.0) == (0.105,)
    assert choose_thresholds([[[0.9]]], [], 0.0) == (0.905,)


def test_without_clean_loads_no_threshold_can_be_chosen() -> None:
    with pytest.raises(ValueError, match="no clean load"):
        choose_thresholds([], [], 0.0)
