import numpy as np
import pytest

from scrapray.config import SURE_CERTAINTY
from scrapray.statistics.thresholds import choose_thresholds

LOWEST = 0.05
CLEAN = [np.array([[0.45, 0.0], [score, 0.0], [0.01, 0.0]]) for score in (0.2, 0.4, 0.6)]


def loads(*peaks: tuple[float, ...]) -> list[np.ndarray]:
    """Loads of two frames that look alike."""
    return [np.array([scores, scores]) for scores in peaks]


@pytest.mark.parametrize(("max_flagged_frac", "motor"), [(0.5, 0.455), (0.74, 0.455), (0.75, 0.405)])
def test_a_threshold_lets_as_many_clean_loads_pass_as_allowed_where_that_finds_more(
    max_flagged_frac: float, motor: float
) -> None:
    contaminated = loads((0.42, 0.0), (0.7, 0.0))
    assert choose_thresholds(CLEAN, contaminated, max_flagged_frac, LOWEST) == (motor, 0.05)


def test_a_frame_that_is_sure_speaks_alone() -> None:
    (threshold,) = choose_thresholds([[[0.8], [0.1]]], [], 0.5, LOWEST)
    assert (0.8 - threshold) / (1 - threshold) < SURE_CERTAINTY < (0.82 - threshold) / (1 - threshold)


def test_no_clean_load_is_let_pass_for_nothing() -> None:
    assert choose_thresholds(CLEAN, loads((0.7, 0.0)), 0.9, LOWEST) == (0.455, 0.05)
    assert choose_thresholds(CLEAN, [], 0.9, LOWEST) == (0.455, 0.05)


def test_false_alarms_go_to_the_contaminant_that_gains_most_by_them() -> None:
    clean = loads((0.8, 0.9), (0.3, 0.4), (0.2, 0.3))
    contaminated = loads((0.5, 0.1), (0.6, 0.1), (0.1, 0.5))
    assert choose_thresholds(clean, contaminated, 0.75, LOWEST) == (0.305, 0.905)
    assert choose_thresholds(clean, contaminated, 1.0, LOWEST) == (0.305, 0.405)


def test_one_false_frame_sets_no_threshold_but_that_of_a_load_with_one_frame() -> None:
    assert choose_thresholds([[[0.4], [0.1]]], [], 0.5, LOWEST) == (0.105,)
    assert choose_thresholds([[[0.9]]], [], 0.5, LOWEST) == (0.905,)


def test_a_score_near_one_is_not_let_pass_either() -> None:
    (threshold,) = choose_thresholds([[[0.998]]], loads((0.9985,), (0.9995,)), 0.5, LOWEST)
    assert 0.998 < threshold < 1


@pytest.mark.parametrize("score", [0.9999999, 1.0])
def test_a_threshold_is_never_one(score: float) -> None:
    assert choose_thresholds([[[score]]], [], 0.5, LOWEST) == (0.999999,)


def test_all_but_one_clean_load_may_pass_at_most() -> None:
    assert choose_thresholds(CLEAN, loads((0.3, 0.0)), 1.0, LOWEST) == (0.205, 0.05)
    assert choose_thresholds([[[0.3]]], loads((0.1,)), 1.0, LOWEST) == (0.305,)


@pytest.mark.parametrize(("clean", "needed"), [([], "19"), (CLEAN, "39"), (CLEAN * 12, "39")])
def test_too_few_clean_loads_promise_nothing(clean: list[np.ndarray], needed: str) -> None:
    with pytest.raises(ValueError, match=rf"{len(clean)} clean loads cannot promise .* it takes {needed} or more"):
        choose_thresholds(clean, [], 0.05, LOWEST)
    assert choose_thresholds(CLEAN * 13, [], 0.05, LOWEST) == (0.455, 0.05)


@pytest.mark.parametrize("chance", [-0.1, 0.0, 1.1])
def test_a_chance_that_is_none_is_refused(chance: float) -> None:
    with pytest.raises(ValueError, match=rf"max_flagged_frac is {chance}, must be above 0 and at most 1"):
        choose_thresholds(CLEAN, [], chance, LOWEST)


@pytest.mark.parametrize(("max_flagged_frac", "at_most"), [(0.08, 0.08), (0.15, 0.16)])
def test_the_promise_holds_for_clean_loads_that_chose_nothing(max_flagged_frac: float, at_most: float) -> None:
    generator = np.random.default_rng(3)
    flagged: list[bool] = []
    for _ in range(400):
        clean, contaminated, unseen = (
            list(generator.beta(1, 8, (number, 4, 3)) + shift) for number, shift in ((40, 0), (20, 0.1), (20, 0))
        )
        thresholds_K = np.array(choose_thresholds(clean, contaminated, max_flagged_frac, LOWEST))
        sure_K = thresholds_K + SURE_CERTAINTY * (1 - thresholds_K)
        flagged += [
            bool(((peaks_FK >= thresholds_K).sum(axis=0) >= 2).any() or (peaks_FK >= sure_K).any())
            for peaks_FK in unseen
        ]
    assert 0.6 * max_flagged_frac < np.mean(flagged) <= at_most
