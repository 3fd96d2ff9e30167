import pickle
from dataclasses import asdict
from functools import reduce
from operator import add

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from scrapray.statistics.metrics import ScoreHistogram, _bins, _lowest_scores

TOLERANCE = 3e-6


def drawn_scores(kind: str, shape: tuple[int, int, int] = (20, 10, 10)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    truth = rng.random(shape) < 0.05
    noise = rng.normal(size=truth.shape)
    scores = {
        "random": rng.random(truth.shape),
        "separable": 1 / (1 + np.exp(3 - noise - 1.5 * truth)),
        "tied": np.round(0.7 * rng.random(truth.shape) + 0.3 * truth, 1),
        "constant": np.full(truth.shape, 0.3),
        "all zero": np.zeros(truth.shape),
        "perfect": 0.9 * truth,
        "sparse": np.where(rng.random(truth.shape) < 0.1, rng.random(truth.shape), 0.0),
        "crowded at 0": 1e-6 * np.exp(0.5 * noise + truth),
        "crowded at 1": 1 - 1e-3 * np.exp(0.5 * noise - truth),
        "squashed": 1 / (1 + np.exp(-20 * (noise + truth - 3))),
    }[kind]
    return scores.astype(np.float32), truth


KINDS = (
    "random",
    "separable",
    "tied",
    "constant",
    "all zero",
    "perfect",
    "sparse",
    "crowded at 0",
    "crowded at 1",
    "squashed",
)


@pytest.mark.parametrize("kind", KINDS)
def test_figures_equal_those_of_scikit_learn(kind: str) -> None:
    scores, truth = drawn_scores(kind, (20, 100, 100))
    found = ScoreHistogram.of(scores, truth).metrics()
    precision, recall, thresholds = precision_recall_curve(truth.ravel(), scores.ravel())
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert found.prevalence == pytest.approx(truth.mean())
    assert found.auroc == pytest.approx(roc_auc_score(truth.ravel(), scores.ravel()), abs=TOLERANCE)
    average_precision = average_precision_score(truth.ravel(), scores.ravel())
    assert found.average_precision == pytest.approx(average_precision, abs=TOLERANCE)
    assert found.f1_max == pytest.approx(f1.max(), abs=TOLERANCE)
    best = float(thresholds[min(f1.argmax(), len(thresholds) - 1)])
    assert found.f1_threshold == pytest.approx(best, abs=2**-24)


@pytest.mark.parametrize("dropped_bits", [0, 7, 20])
def test_every_score_lies_between_the_lowest_of_its_bin_and_that_of_the_next(dropped_bits: int) -> None:
    rng = np.random.default_rng(3)
    small = np.exp(rng.uniform(-60, 0, 3000)).astype(np.float32)
    scores = np.unique(np.concatenate([small, np.float32(1) - small, rng.random(3000, np.float32), [0, 0.5, 1]]))
    numbers = _bins(scores) >> dropped_bits << dropped_bits
    assert (np.diff(numbers) >= (dropped_bits == 0)).all(), "bins are ordered like scores"
    lowest = _lowest_scores(numbers)
    assert (numbers <= _bins(lowest)).all()
    assert (_bins(lowest) <= _bins(scores)).all()
    has_below = lowest > 0
    assert (_bins(np.nextafter(lowest, np.float32(-1))[has_below]) < numbers[has_below]).all()


def slow_aupro(scores: np.ndarray, truth: np.ndarray) -> float:
    """As the definition says it: each region of each map, at each score that occurs."""
    regions = []
    for number, truth_HW in enumerate(truth):
        labels_HW, num = ndimage.label(truth_HW, np.ones((3, 3)))
        regions += [(number, labels_HW == label) for label in range(1, num + 1)]
    area = rate = overlap = 0.0
    for threshold in np.unique(scores)[::-1]:
        found = scores >= threshold
        next_rate = found[~truth].mean()
        next_overlap = np.mean([found[number][region_HW].mean() for number, region_HW in regions])
        if next_rate > 0.3:
            at_limit = overlap + (next_overlap - overlap) * (0.3 - rate) / (next_rate - rate)
            return float(area + (0.3 - rate) * (overlap + at_limit) / 2) / 0.3
        area += (next_rate - rate) * (overlap + next_overlap) / 2
        rate, overlap = next_rate, next_overlap
    raise AssertionError("the lowest score finds all")


@pytest.mark.parametrize("kind", KINDS)
def test_overlap_with_regions_equals_the_slow_definition(kind: str) -> None:
    scores, truth = drawn_scores(kind, (2, 60, 60))
    truth = ndimage.binary_dilation(truth & (np.arange(60) % 12 == 0), np.ones((1, 3, 4)))
    found = ScoreHistogram.of(scores, truth).metrics()
    assert found.aupro_exact == pytest.approx(slow_aupro(scores, truth), abs=TOLERANCE)


def slow_aupro_repo200(scores: np.ndarray, truth: np.ndarray) -> float:
    """As the evaluation of AnomalyCLIP goes about it, threshold by threshold over whole maps."""
    regions = []
    for number, truth_HW in enumerate(truth):
        labels_HW, num = ndimage.label(truth_HW, np.ones((3, 3)))
        regions += [(number, labels_HW == label) for label in range(1, num + 1)]
    rates, overlaps = [], []
    for threshold in np.arange(scores.min(), scores.max(), (scores.max() - scores.min()) / 200):
        found = scores > threshold
        rates.append(found[~truth].mean())
        overlaps.append(np.mean([found[number][region_HW].mean() for number, region_HW in regions]))
    kept = np.array(rates) < 0.3
    rate, overlap = np.array(rates)[kept], np.array(overlaps)[kept]
    rate = (rate - rate.min()) / (rate.max() - rate.min())
    return float(auc(rate, overlap))


@pytest.mark.parametrize("kind", ["random", "separable", "tied", "sparse", "crowded at 0", "crowded at 1", "squashed"])
def test_overlap_as_papers_compute_it_equals_their_loop(kind: str) -> None:
    scores, truth = drawn_scores(kind, (2, 60, 60))
    truth = ndimage.binary_dilation(truth & (np.arange(60) % 12 == 0), np.ones((1, 3, 4)))
    found = ScoreHistogram.of(scores, truth).metrics()
    assert found.aupro_repo200 == pytest.approx(slow_aupro_repo200(scores, truth), abs=1e-9)


@pytest.mark.parametrize("kind", ["constant", "all zero", "perfect"])
def test_overlap_as_papers_compute_it_is_unknown_where_their_code_breaks(kind: str) -> None:
    assert ScoreHistogram.of(*drawn_scores(kind)).metrics().aupro_repo200 is None


@pytest.mark.parametrize("highest", [1e-45, 1e-43])
def test_scores_too_near_to_each_other_for_steps_between_have_no_such_overlap(highest: float) -> None:
    scores, truth = np.zeros((1, 8, 8), np.float32), np.zeros((1, 8, 8), np.bool_)
    scores[0, 2, 2] = scores[0, 7, 7] = highest
    truth[0, 2:4, 2:4] = True
    found = ScoreHistogram.of(scores, truth).metrics()
    assert found.aupro_repo200 is None
    assert found.aupro_exact is not None


def test_calibration_is_that_of_a_plain_count() -> None:
    scores, truth = drawn_scores("separable")
    expected = 0.0
    for step in range(15):
        within = (scores >= step / 15) & (scores < (step + 1) / 15)
        if within.any():
            expected += within.mean() * abs(truth[within].mean() - scores[within].mean())
    found = ScoreHistogram.of(scores, truth).reliability()
    assert found.expected_calibration_error == pytest.approx(expected, abs=1e-6)
    assert found.num_px.sum() == scores.size


def test_a_score_that_is_the_chance_of_a_contaminant_has_no_calibration_error() -> None:
    truth = np.arange(100) < 20
    assert ScoreHistogram.of(np.full(100, 0.2), truth).reliability().expected_calibration_error < 1e-6
    assert ScoreHistogram.empty().reliability().expected_calibration_error is None


def test_a_map_that_says_nothing_overlaps_by_chance_and_a_perfect_one_in_full() -> None:
    truth = np.zeros((8, 8), bool)
    truth[2:4, 2:4] = truth[6, 6] = True
    assert ScoreHistogram.of(np.zeros((8, 8)), truth).metrics().aupro_exact == pytest.approx(0.15)
    assert ScoreHistogram.of(0.9 * truth, truth).metrics().aupro_exact == pytest.approx(1)


def test_regions_of_maps_that_lie_behind_each_other_are_counted_apart() -> None:
    truth = np.zeros((3, 4, 4), bool)
    truth[:, 1:3, 1:3] = True
    assert ScoreHistogram.of(np.zeros(truth.shape), truth).num_regions == 3


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_shards_merge_in_any_order_to_what_one_worker_counts(shards: int) -> None:
    scores, truth = drawn_scores("separable")
    parts = [
        ScoreHistogram.of(s, t)
        for s, t in zip(np.array_split(scores, shards), np.array_split(truth, shards), strict=True)
    ]
    merged = sum(reversed(parts), start=ScoreHistogram.empty())
    assert asdict(merged.metrics()) == pytest.approx(asdict(ScoreHistogram.of(scores, truth).metrics()))


def test_more_scores_than_bins_merge_in_any_order_and_stay_near_the_exact_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores, truth = drawn_scores("separable", (40, 50, 50))
    exact = ScoreHistogram.of(scores, truth)
    monkeypatch.setattr("scrapray.statistics.metrics._MOST_BINS", 20_000)
    parts = [ScoreHistogram.of(*part) for part in zip(scores, truth, strict=True)]
    forwards, backwards = reduce(add, parts), reduce(add, parts[::-1])
    in_pairs = reduce(add, [one + other for one, other in zip(parts[::2], parts[1::2], strict=True)])
    assert 10_000 < len(forwards.bins_U) <= 20_000
    for other in (backwards, in_pairs):
        assert other.dropped_bits == forwards.dropped_bits > 0
        for name in ("bins_U", "normal_U", "contaminant_U"):
            np.testing.assert_array_equal(getattr(other, name), getattr(forwards, name))
        np.testing.assert_allclose(other.overlap_U, forwards.overlap_U)
    found, expected = forwards.metrics(), exact.metrics()
    assert asdict(found) == pytest.approx(asdict(expected), abs=3e-4)
    assert found != expected


def test_a_monotone_change_of_all_scores_changes_no_figure_but_the_threshold() -> None:
    scores, truth = drawn_scores("tied")
    plain, stretched = (ScoreHistogram.of(s, truth).metrics() for s in (scores, scores**3))
    assert (plain.auroc, plain.average_precision, plain.f1_max, plain.aupro_exact) == (
        stretched.auroc,
        stretched.average_precision,
        stretched.f1_max,
        stretched.aupro_exact,
    )
    assert plain.f1_threshold != stretched.f1_threshold


def test_the_threshold_reaches_the_best_f1() -> None:
    scores, truth = drawn_scores("separable")
    histogram = ScoreHistogram.of(scores, truth)
    found = histogram.metrics()
    predicted = scores >= found.f1_threshold
    precision, recall = truth[predicted].mean(), predicted[truth].mean()
    assert 2 * precision * recall / (precision + recall) == pytest.approx(found.f1_max)
    assert histogram.recall_at(found.f1_threshold) == pytest.approx(recall)


def test_without_contaminants_nothing_but_the_prevalence_is_known() -> None:
    histogram = ScoreHistogram.of(np.linspace(0, 1, 9), np.zeros(9, bool))
    found = histogram.metrics()
    assert found.prevalence == 0
    assert list(asdict(found).values())[1:] == [None] * 6
    assert histogram.recall_at(0.5) is None


def test_where_all_is_contaminant_there_is_no_false_alarm_rate() -> None:
    found = ScoreHistogram.of(np.linspace(0, 1, 9), np.ones(9, bool)).metrics()
    assert (found.auroc, found.aupro_exact) == (None, None)
    assert found.average_precision == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1.1, -0.1])
def test_a_score_that_is_no_number_from_0_to_1_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"scores run from .* must be numbers from 0 to 1"):
        ScoreHistogram.of(np.array([0.1, wrong]), np.array([True, False]))


def test_zero_is_one_score_whatever_its_sign() -> None:
    scores = np.array([[-0.0, 0.0]])
    assert _bins(scores).tolist() == [[0, 0]]
    assert ScoreHistogram.of(scores, np.array([[False, True]])).metrics().auroc == 0.5


def test_what_rounding_takes_out_of_range_counts_as_its_end() -> None:
    histogram = ScoreHistogram.of(np.array([-1e-7, 0, 1, 1 + 1e-6]), np.array([False, False, True, True]))
    assert (histogram.normal_U.tolist(), histogram.contaminant_U.tolist()) == ([2, 0], [0, 2])


def test_coarse_bins_hold_the_same_pixels_and_nearly_the_same_figures() -> None:
    histogram = ScoreHistogram.of(*drawn_scores("separable", (20, 100, 100)))
    coarse = histogram.coarsened(11)
    assert len(coarse.bins_U) < len(histogram.bins_U) / 4
    for fine_U, coarse_U in zip(
        (histogram.normal_U, histogram.contaminant_U, histogram.overlap_U),
        (coarse.normal_U, coarse.contaminant_U, coarse.overlap_U),
        strict=True,
    ):
        assert coarse_U.sum() == pytest.approx(fine_U.sum())
    expected = histogram.metrics()
    assert coarse.metrics().average_precision == pytest.approx(expected.average_precision, abs=1e-4)
    assert coarse.metrics().aupro_exact == pytest.approx(expected.aupro_exact, abs=1e-4)


def test_maps_and_truth_of_different_sizes_are_refused() -> None:
    for scores, truth in (((2, 2), (4,)), ((4,), (2, 2)), ((2, 2, 2), (2, 4, 6)), ((2, 2), (3, 3)), ((0, 2), (4, 4))):
        with pytest.raises(ValueError, match="shape"):
            ScoreHistogram.of(np.zeros(scores), np.zeros(truth, bool))


def test_all_pixels_of_a_cell_have_its_score() -> None:
    scores, _ = drawn_scores("random", (3, 6, 5))
    truth = np.random.default_rng(1).random((3, 24, 20)) < 0.1
    in_cells, in_pixels = ScoreHistogram.of(scores, truth), ScoreHistogram.of(scores.repeat(4, 1).repeat(4, 2), truth)
    assert in_cells.metrics() == in_pixels.metrics()
    assert in_cells.num_regions == in_pixels.num_regions


def test_counts_travel_whole() -> None:
    counted = ScoreHistogram.of(*drawn_scores("separable"))
    sent = pickle.loads(pickle.dumps(counted))
    assert sent.metrics() == counted.metrics()
    assert (sent + counted).num_regions == 2 * counted.num_regions


def test_curves_go_through_the_points_of_scikit_learn():
    rng = np.random.default_rng(5)
    truth = rng.random((2, 40, 40)) < 0.05
    scores = np.clip(rng.normal(0.3 + 0.2 * truth, 0.1), 0, 1).astype(np.float32)
    curves = ScoreHistogram.of(scores, truth).curves(most_points=100_000)
    precision, recall, _ = precision_recall_curve(truth.ravel(), scores.ravel())
    np.testing.assert_allclose(curves.precision, precision[::-1], atol=1e-6)
    np.testing.assert_allclose(curves.recall, recall[::-1], atol=1e-6)
    few = ScoreHistogram.of(scores, truth).curves(most_points=50)
    assert len(few.recall) <= 51
    assert (few.recall[-1], few.false_alarm_rate[-1], few.overlap[-1]) == pytest.approx((1, 1, 1))
    assert np.isin(few.precision, curves.precision).all()


def test_without_both_kinds_of_pixels_there_are_no_curves():
    scores = np.random.default_rng(0).random((1, 8, 8))
    for truth in (np.zeros((1, 8, 8), bool), np.ones((1, 8, 8), bool)):
        assert ScoreHistogram.of(scores, truth).curves() is None
    assert ScoreHistogram.empty().curves() is None
