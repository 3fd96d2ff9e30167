import math

import numpy as np
import pytest

from scrapray.statistics.contamination import (
    MIN_CALIBRATION_LOADS,
    AreaCalibration,
    calibrate_areas,
    estimate_contamination,
)

SEEN_PX = 4_000_000


def draw_loads(num_loads, seed):
    """Predicted and true contamination of loads under a segmenter that misses, invents and misdraws areas."""
    generator = np.random.default_rng(seed)
    predicted, true = [], []
    for _ in range(num_loads):
        is_dirty = generator.random() < 0.5
        areas_px = generator.lognormal(7.5, 1.0, size=generator.integers(1, 4)) if is_dirty else np.zeros(0)
        found = generator.random(areas_px.size) < 0.85
        drawn_px = areas_px * found * generator.lognormal(-0.1, 0.4, size=areas_px.size)
        invented_px = generator.lognormal(6, 0.7) if generator.random() < 0.15 else 0.0
        predicted.append((drawn_px.sum() + invented_px) / SEEN_PX)
        true.append(areas_px.sum() / SEEN_PX)
    return predicted, true


def estimate(contaminated_px, seen_px=None, *, seed="a", blind_area_px=0, calibration=None):
    seen_px = [SEEN_PX] * len(contaminated_px) if seen_px is None else seen_px
    return estimate_contamination(
        contaminated_px, seen_px, seed=seed, blind_area_px=blind_area_px, calibration=calibration
    )


def test_the_estimate_is_contaminated_over_seen_area_and_not_a_mean_of_shares():
    assert estimate([10, 300], [100, 1000]).frac == pytest.approx(310 / 1100)


def test_an_object_seen_in_every_frame_counts_as_in_one():
    assert estimate([500] * 20).frac == estimate([500]).frac


def test_nothing_seen_gives_no_estimate():
    assert estimate([]).method == "none"
    nothing = estimate([0, 0], [0, 0])
    assert (nothing.frac, nothing.low, nothing.high) == (None, None, None)


def test_one_frame_without_calibration_has_no_interval():
    only = estimate([500])
    assert (only.low, only.high, only.method) == (None, None, "ratio")
    assert only.frac is not None


def test_a_clean_load_may_hide_what_the_segmenter_is_set_to_drop():
    clean = estimate([0, 0, 0, 0], blind_area_px=100)
    assert (clean.frac, clean.low) == (0.0, 0.0)
    assert clean.high == pytest.approx(100 / SEEN_PX)


def test_a_clean_load_reaches_up_to_what_validation_loads_hid():
    predicted, true = [0.0] * 100, [0.0] * 90 + [0.0005] * 10
    clean = estimate([0, 0, 0], calibration=calibrate_areas(predicted, true))
    assert clean.low == 0.0
    assert clean.high == pytest.approx(0.0005, rel=1e-3)


def test_the_interval_names_how_it_was_made():
    assert estimate([3, 4, 5]).method == "ratio+block-bootstrap"
    calibrated = estimate([3, 4, 5], calibration=calibrate_areas(*draw_loads(60, seed=1)))
    assert calibrated.method == "ratio+block-bootstrap+split-conformal"


def test_the_same_load_has_the_same_interval_on_every_run():
    areas_px = np.random.default_rng(0).integers(0, 9000, size=30).tolist()
    assert estimate(areas_px, seed="load 1") == estimate(areas_px, seed="load 1")
    assert estimate(areas_px, seed="load 1") != estimate(areas_px, seed="load 2")


def test_the_interval_holds_the_estimate_and_stays_a_share():
    always_too_much = calibrate_areas([0.5] * 50, [0.01] * 50)
    over = estimate([SEEN_PX // 2] * 5, calibration=always_too_much)
    assert 0 <= over.low <= over.frac <= over.high <= 1
    assert over.low == pytest.approx(0.01, rel=1e-3)


def test_frames_that_disagree_widen_a_calibrated_interval():
    calibration = calibrate_areas(*draw_loads(100, seed=1))
    calm = estimate([1000] * 12, calibration=calibration)
    unsteady = estimate([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6000, 6000], calibration=calibration)
    assert calm.frac == unsteady.frac
    assert unsteady.low < calm.low
    assert unsteady.high > calm.high


def test_calibrated_intervals_cover_the_truth_of_new_loads():
    calibration = calibrate_areas(*draw_loads(200, seed=1))
    predicted, true = draw_loads(2000, seed=2)
    intervals = [estimate([round(frac * SEEN_PX)], calibration=calibration) for frac in predicted]
    covered = [each.low <= frac <= each.high for each, frac in zip(intervals, true, strict=True)]
    assert np.mean(covered) >= 0.93
    uncalibrated_covers = np.mean([math.isclose(p, t, rel_tol=0.05) for p, t in zip(predicted, true, strict=True)])
    assert uncalibrated_covers < 0.7, "the simulated segmenter must be wrong often enough for the test to mean anything"


def test_the_bootstrap_covers_what_neighbouring_frames_share():
    """A long unloading whose objects stay for about four frames; thirty consecutive frames are seen of it."""
    generator = np.random.default_rng(3)
    covered, covered_by_shuffled = [], []
    for trial in range(300):
        stays = np.convolve(generator.random(30 + 3) < 0.3, np.ones(4), mode="valid")
        areas_px = (1000 * stays).astype(int).tolist()
        truth = 1000 * 4 * 0.3 / SEEN_PX
        each = estimate(areas_px, seed=str(trial))
        covered.append(each.low <= truth <= each.high)
        shuffled = generator.permutation(areas_px).tolist()
        each = estimate(shuffled, seed=str(trial))
        covered_by_shuffled.append(each.low <= truth <= each.high)
    assert np.mean(covered) >= 0.8
    assert np.mean(covered) > np.mean(covered_by_shuffled) + 0.05, "blocks must notice that neighbours agree"


def test_a_calibration_survives_its_card():
    calibration = calibrate_areas(*draw_loads(50, seed=4))
    assert AreaCalibration.from_dict(calibration.as_dict()) == calibration


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        ([0.1] * (MIN_CALIBRATION_LOADS - 1), [0.1] * (MIN_CALIBRATION_LOADS - 1), "needs 39 or more"),
        ([0.1] * 50, [0.1] * 49, "50 predicted and 49 true"),
        ([0.1] * 50, [math.nan] * 50, "finite"),
    ],
)
def test_a_calibration_that_says_nothing_is_refused(predicted, true, message):
    with pytest.raises(ValueError, match=message):
        calibrate_areas(predicted, true)


def test_residuals_out_of_order_are_refused():
    with pytest.raises(ValueError, match="rising order"):
        AreaCalibration(residuals=tuple(float(-i) for i in range(50)))


def test_the_fewest_loads_allowed_give_their_extremes():
    calibration = AreaCalibration(residuals=tuple(float(i) for i in range(MIN_CALIBRATION_LOADS)))
    assert calibration.tails == (0.0, 19.0, 38.0)


def test_the_example_of_the_docs():
    tails_of_0_9_and_0_7 = AreaCalibration(residuals=(-0.9, *[0.0] * 37, 0.7))
    found = estimate([2000, 2400, 1600], calibration=tails_of_0_9_and_0_7)
    assert (found.frac, found.low, found.high) == pytest.approx((0.0005, 0.00014, 0.00112), abs=1e-5)
