import pickle
from dataclasses import asdict

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from scrapray.statistics.metrics import ScoreHistogram


def drawn_scores(kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    truth = rng.random((20, 10, 10)) < 0.05
    noise = rng.normal(size=truth.shape)
    scores = {
        "random": rng.random(truth.shape),
        "separable": noise + 1.5 * truth,
        "tied": np.round(rng.random(truth.shape) + 0.3 * truth, 1),
        "constant": np.full(truth.shape, 0.3),
        "all zero": np.zeros(truth.shape),
        "perfect": 0.9 * truth,
        "sparse": np.where(rng.random(truth.shape) < 0.1, rng.random(truth.shape), 0.0),
        "negative": -np.exp(noise - truth),
        "squashed": 1 / (1 + np.exp(-20 * (noise + truth - 3))),
    }[kind]
    return scores.astype(np.float32), truth


KINDS = ("random", "separable", "tied", "constant", "all zero", "perfect", "sparse", "negative", "squashed")


@pytest.mark.parametrize("kind", KINDS)
def test_figures_equal_those_of_scikit_learn(kind: str) -> None:
    scores, truth = drawn_scores(kind)
    found = ScoreHistogram.of(scores, truth).metrics()
    precision, recall, thresholds = precision_recall_curve(truth.ravel(), scores.ravel())
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert found.prevalence == pytest.approx(truth.mean())
    assert found.auroc == pytest.approx(roc_auc_score(truth.ravel(), scores.ravel()), abs=1e-3)
    assert found.average_precision == pytest.approx(average_precision_score(truth.ravel(), scores.ravel()), abs=1e-3)
    assert found.f1_max == pytest.approx(f1.max(), abs=1e-3)
    assert found.f1_threshold == pytest.approx(thresholds[min(f1.argmax(), len(thresholds) - 1)], rel=1e-2, abs=1e-6)


def test_with_many_pixels_the_bins_cost_less_than_a_thousandth() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(400_000) < 0.01
    scores = 1 / (1 + np.exp(-(rng.normal(size=truth.size) + 2 * truth)))
    found = ScoreHistogram.of(scores, truth).metrics()
    assert found.auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-5)
    assert found.average_precision == pytest.approx(average_precision_score(truth, scores), abs=1e-3)


def slow_aupro(scores: np.ndarray, truth: np.ndarray) -> float:
    """As the definition says it: each region of each map, at each score that occurs."""
    regions = []
    for number, truth_HW in enumerate(truth):
        labels_HW, num = ndimage.label(truth_HW, np.ones((3, 3)))
        regions += [(number, labels_HW == label) for label in range(1, num + 1)]
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        found = scores >= threshold
        rates.append(found[~truth].mean())
        overlaps.append(np.mean([found[number][region_HW].mean() for number, region_HW in regions]))
    fine = np.linspace(0, 0.3, 300_001)
    return float(np.interp(fine, rates, overlaps).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_overlap_with_regions_equals_the_slow_definition(kind: str) -> None:
    scores, truth = drawn_scores(kind)
    truth = ndimage.binary_dilation(truth, np.ones((1, 2, 2))) & (np.arange(10) < 8)
    found = ScoreHistogram.of(scores, truth).metrics()
    assert found.aupro == pytest.approx(slow_aupro(scores, truth), abs=2e-3)


def test_a_map_that_says_nothing_overlaps_by_chance_and_a_perfect_one_in_full() -> None:
    truth = np.zeros((8, 8), bool)
    truth[2:4, 2:4] = truth[6, 6] = True
    assert ScoreHistogram.of(np.zeros((8, 8)), truth).metrics().aupro == pytest.approx(0.15)
    assert ScoreHistogram.of(0.9 * truth, truth).metrics().aupro == pytest.approx(1)


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


def test_a_monotone_change_of_all_scores_changes_no_figure_but_the_threshold() -> None:
    scores, truth = drawn_scores("tied")
    plain, stretched = (ScoreHistogram.of(s, truth).metrics() for s in (scores, np.exp(4 * scores)))
    assert (plain.auroc, plain.average_precision, plain.f1_max, plain.aupro) == (
        stretched.auroc,
        stretched.average_precision,
        stretched.f1_max,
        stretched.aupro,
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
    assert histogram.precision_at(found.f1_threshold) == pytest.approx(precision)


def test_without_contaminants_nothing_but_the_prevalence_is_known() -> None:
    histogram = ScoreHistogram.of(np.linspace(0, 1, 9), np.zeros(9, bool))
    found = histogram.metrics()
    assert found.prevalence == 0
    assert (found.auroc, found.average_precision, found.f1_max, found.f1_threshold, found.aupro) == (None,) * 5
    assert histogram.recall_at(0.5) is None


def test_where_all_is_contaminant_there_is_no_false_alarm_rate() -> None:
    found = ScoreHistogram.of(np.linspace(0, 1, 9), np.ones(9, bool)).metrics()
    assert (found.auroc, found.aupro) == (None, None)
    assert found.average_precision == 1


def test_no_pixel_above_the_threshold_has_no_precision() -> None:
    assert ScoreHistogram.of(np.zeros(4), np.ones(4, bool)).precision_at(0.5) is None


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        ScoreHistogram.of(np.array([0.1, np.nan]), np.array([True, False]))


def test_maps_and_truth_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        ScoreHistogram.of(np.zeros((2, 2)), np.zeros(4, bool))


def test_counts_travel_small_and_whole() -> None:
    scores, truth = drawn_scores("separable")
    counted = ScoreHistogram.of(scores, truth)
    sent = pickle.dumps(counted)
    assert len(sent) < 100_000
    assert pickle.loads(sent).metrics() == counted.metrics()
    assert (pickle.loads(sent) + counted).num_regions == 2 * counted.num_regions
