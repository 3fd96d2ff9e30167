import numpy as np
import pytest

from scrapray.baselines.rasterise import Instances, rasterise


def box(x0: int, y0: int, x1: int, y1: int, side: int = 8) -> np.ndarray:
    mask_HW = np.zeros((side, side), bool)
    mask_HW[y0:y1, x0:x1] = True
    return mask_HW


TWO = Instances(np.array([0.6, 0.9]), np.array([1, 2]), np.stack([box(0, 0, 4, 4), box(2, 2, 6, 6)]))


def test_where_instances_overlap_the_surest_counts() -> None:
    any_hw, first_hw, second_hw, third_hw = rasterise(TWO, 3, (8, 8))
    assert (any_hw[0, 0], any_hw[3, 3], any_hw[5, 5], any_hw[7, 7]) == pytest.approx((0.6, 0.9, 0.9, 0.0))
    assert (first_hw[3, 3], second_hw[3, 3], third_hw.max()) == pytest.approx((0.6, 0.9, 0.0))
    np.testing.assert_array_equal(any_hw, np.maximum(first_hw, second_hw))


def test_of_one_class_too_the_surest_counts() -> None:
    same = Instances(TWO.scores_I, np.array([2, 2]), TWO.masks_IHW)
    assert rasterise(same, 2, (8, 8))[2, [0, 3], [0, 3]] == pytest.approx([0.6, 0.9])


def test_noisy_or_takes_each_as_a_chance_of_its_own() -> None:
    any_hw = rasterise(TWO, 2, (8, 8), reduce="noisy_or")[0]
    assert (any_hw[0, 0], any_hw[3, 3]) == pytest.approx((0.6, 1 - 0.4 * 0.1))


def test_shares_of_pixels_weigh_the_score() -> None:
    soft = Instances(np.array([0.8]), np.array([1]), np.full((1, 8, 8), 0.5))
    assert rasterise(soft, 1, (8, 8)) == pytest.approx(np.full((2, 8, 8), 0.4))


def test_instances_below_the_floor_do_not_count() -> None:
    both, surer, none = (rasterise(TWO, 2, (8, 8), min_score=floor) for floor in (0.6, 0.7, 0.95))
    np.testing.assert_array_equal(both, rasterise(TWO, 2, (8, 8)))
    assert (surer[1].max(), surer[0, 0, 0], surer[2, 3, 3]) == (0, 0, np.float32(0.9))
    assert not none.any()


def test_a_picture_without_any_instance_has_a_map_of_zeros() -> None:
    nothing = Instances(np.zeros(0), np.zeros(0, int), np.zeros((0, 8, 8)))
    np.testing.assert_array_equal(rasterise(nothing, 2, (4, 4)), np.zeros((3, 4, 4), np.float32))


def test_masks_are_resized_each_in_its_own_way() -> None:
    hard_hw = rasterise(Instances(np.ones(1), np.ones(1, int), box(0, 0, 3, 8)[None]), 1, (4, 4))[0]
    assert set(np.unique(hard_hw)) == {0.0, 1.0}
    soft_hw = rasterise(Instances(np.ones(1), np.ones(1, int), box(0, 0, 3, 8)[None].astype(float)), 1, (4, 4))[0]
    assert soft_hw[0] == pytest.approx([1, 0.5, 0, 0])


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.5], [1, 2], "do not match"),
        ([1.5], [1], "must be from 0 to 1"),
        ([np.nan], [1], "must be from 0 to 1"),
        ([0.5], [0], "labels run from 0 to 0, must be from 1 to 2"),
        ([0.5], [3], "labels run from 3 to 3"),
    ],
)
def test_instances_that_cannot_be_are_refused(scores: list[float], labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rasterise(Instances(np.array(scores), np.array(labels), np.zeros((1, 8, 8))), 2, (8, 8))


def test_a_mask_that_is_the_truth_is_the_truth_on_the_grid_that_is_measured() -> None:
    truth_NHW = np.random.default_rng(0).integers(0, 2, (1, 32, 32)).astype(np.uint8)
    (found_hw, _) = rasterise(Instances(np.ones(1), np.ones(1, int), truth_NHW > 0), 1, (8, 8))
    np.testing.assert_array_equal(found_hw, truth_NHW[0, 2::4, 2::4])
