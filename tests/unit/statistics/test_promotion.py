import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score

from scrapray import schema
from scrapray.lake import read_table, write_table
from scrapray.statistics.metrics import ScoreHistogram
from scrapray.statistics.promotion import MAX_RECALL_DROP, LoadCounts, SplitStatistics, compare
from scrapray.storage import Storage

CLASSES = ("motor", "cable")
NUM_PIXELS = 400


def truth_of(load, class_name, share=0.05):
    rng = np.random.default_rng([load, len(class_name)])
    return rng.random(NUM_PIXELS) < share


def scores_of(load, class_name, *, separation, seed=0):
    """Scores from 0 to 1 that tell contaminants from steel the better the larger the separation."""
    rng = np.random.default_rng([seed, load, len(class_name)])
    logits = rng.normal(size=NUM_PIXELS) + separation * truth_of(load, class_name)
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def measure(num_loads=6, *, separation=2.0, seed=0, threshold=0.5, classes=CLASSES, split="a" * 64):
    counts = [
        LoadCounts.of(
            f"load-{load}",
            name,
            threshold,
            ScoreHistogram.of(scores_of(load, name, separation=separation, seed=seed), truth_of(load, name)),
        )
        for load in range(num_loads)
        for name in classes
    ]
    return SplitStatistics(split_sha256=split, counts=tuple(counts))


def change(statistics, index, **changes):
    counts = list(statistics.counts)
    counts[index] = dataclasses.replace(counts[index], **changes)
    return dataclasses.replace(statistics, counts=tuple(counts))


def test_a_model_against_itself_differs_by_nothing_and_is_accepted():
    comparison = compare(measure(), measure())
    assert comparison.is_accepted
    assert comparison.candidate_ap == comparison.champion_ap
    assert (comparison.ap_gain_low, comparison.ap_gain_high, comparison.num_loads) == (0.0, 0.0, 6)


def test_a_worse_model_is_refused_with_numbers():
    comparison = compare(measure(separation=1.0, threshold=0.4), measure(separation=3.0))
    (fault, *_) = comparison.faults
    assert f"{comparison.candidate_ap:.4f} is lower than {comparison.champion_ap:.4f}" in fault
    assert f"{comparison.ap_gain_low:+.4f} to {comparison.ap_gain_high:+.4f}" in fault
    assert comparison.ap_gain_low < comparison.ap_gain_high < 0


def test_a_better_model_is_accepted():
    comparison = compare(measure(separation=3.0), measure(separation=1.0))
    assert comparison.is_accepted
    assert comparison.ap_gain_low > 0


def test_a_model_that_is_worse_by_chance_is_accepted():
    models = [measure(separation=2.0, seed=seed, threshold=0.6) for seed in range(2)]
    better, worse = sorted(models, key=lambda each: -compare(each, each).candidate_ap)
    comparison = compare(worse, better, max_recall_drop=0.2)
    assert comparison.candidate_ap < comparison.champion_ap
    assert comparison.ap_gain_high > 0
    assert comparison.is_accepted


def test_a_class_that_is_found_less_is_refused_though_average_precision_is_the_same():
    comparison = compare(measure(threshold=0.95), measure(threshold=0.5))
    assert comparison.candidate_ap == comparison.champion_ap
    assert [fault.split(" falls")[0] for fault in comparison.faults] == ["recall of motor", "recall of cable"]
    motor = comparison.classes[0]
    assert f"from {motor.champion_recall:.3f} to {motor.candidate_recall:.3f}" in comparison.faults[0]
    assert compare(measure(threshold=0.95), measure(threshold=0.5), max_recall_drop=1.0).is_accepted


def test_a_comparison_says_where_and_how_strictly_it_was_made():
    comparison = compare(measure(split="c" * 64), measure(split="c" * 64))
    assert (comparison.split_sha256, comparison.max_recall_drop) == ("c" * 64, MAX_RECALL_DROP)
    assert compare(measure(), measure(), max_recall_drop=0.2).max_recall_drop == 0.2


def test_average_precision_and_its_interval_are_those_of_scikit_learn_on_all_pixels():
    """The slow and obvious way: pixels of the drawn loads put together, anew for each resample."""
    candidate, champion, num_loads = {"separation": 2.5, "seed": 1}, {"separation": 2.0, "seed": 2}, 5
    comparison = compare(measure(num_loads, **candidate), measure(num_loads, **champion))

    def mean_ap(loads, model):
        return np.mean(
            [
                average_precision_score(
                    np.concatenate([truth_of(load, name) for load in loads]),
                    np.concatenate([scores_of(load, name, **model) for load in loads]),
                )
                for name in CLASSES
            ]
        )

    everything = range(num_loads)
    assert comparison.candidate_ap == pytest.approx(mean_ap(everything, candidate), abs=1e-3)
    assert comparison.champion_ap == pytest.approx(mean_ap(everything, champion), abs=1e-3)
    interval = bootstrap(
        (np.arange(num_loads),),
        lambda loads: mean_ap(loads, candidate) - mean_ap(loads, champion),
        n_resamples=1000,
        batch=50,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert comparison.ap_gain_low == pytest.approx(interval.low, abs=2e-3)
    assert comparison.ap_gain_high == pytest.approx(interval.high, abs=2e-3)


def test_a_class_that_the_split_does_not_hold_has_no_figures_and_does_not_count():
    nothing = ScoreHistogram.of(np.array([0.1, 0.2], np.float32), np.zeros(2, bool))
    absent = tuple(LoadCounts.of(f"load-{load}", "can", 0.5, nothing) for load in range(6))
    statistics = measure()
    wider = dataclasses.replace(statistics, counts=statistics.counts + absent)
    comparison = compare(wider, wider)
    assert comparison.classes[-1].candidate_ap is None
    assert comparison.classes[-1].candidate_recall is None
    assert comparison.candidate_ap == compare(statistics, statistics).candidate_ap


def test_a_class_that_only_one_load_holds_leaves_resamples_without_it():
    nothing = ScoreHistogram.of(np.full(NUM_PIXELS, 0.5, np.float32), np.zeros(NUM_PIXELS, bool))
    alone, champion = measure(4, separation=1.0), measure(4, separation=3.0)
    for index, each in enumerate(alone.counts):
        if each.class_name == "motor" and each.load_id != "load-0":
            bare = LoadCounts.of(each.load_id, "motor", 0.5, nothing)
            alone, champion = (
                change(model, index, bins_U=bare.bins_U, normal_U=bare.normal_U, contaminant_U=bare.contaminant_U)
                for model in (alone, champion)
            )
    comparison = compare(alone, champion)
    assert comparison.ap_gain_low < comparison.ap_gain_high < 0


@pytest.mark.parametrize(("num_loads", "num_contaminated"), [(20, 2), (20, 3), (60, 3)])
def test_few_contaminated_loads_do_not_let_a_bad_model_pass(num_loads, num_contaminated):
    """Of 20 loads, of which 2 hold a contaminant, one resample in eight has neither."""
    nothing = ScoreHistogram.of(np.full(NUM_PIXELS, 0.1, np.float32), np.zeros(NUM_PIXELS, bool))

    def rarely(separation):
        model = measure(num_loads, separation=separation, threshold=0.01, classes=("motor",))
        bare = [LoadCounts.of(each.load_id, "motor", 0.01, nothing) for each in model.counts[num_contaminated:]]
        return dataclasses.replace(model, counts=(*model.counts[:num_contaminated], *bare))

    bad, good = rarely(0.0), rarely(8.0)
    comparison = compare(bad, good)
    assert comparison.ap_gain_high < -0.5
    assert not comparison.is_accepted
    assert compare(good, bad).is_accepted


def test_a_new_class_is_shown_and_does_not_count():
    wider, known = measure(classes=(*CLASSES, "battery")), measure(separation=1.9)
    comparison = compare(wider, known)
    *_, battery = comparison.classes
    assert (battery.class_name, battery.champion_ap, battery.champion_recall) == ("battery", None, None)
    assert battery.candidate_ap is not None
    assert comparison.candidate_ap == compare(measure(), known).candidate_ap
    with pytest.raises(ValueError, match="the candidate does not know battery, which the champion finds"):
        compare(known, wider)


def test_the_order_of_loads_does_not_matter():
    candidate, champion = measure(separation=1.8), measure()
    turned = dataclasses.replace(candidate, counts=candidate.counts[::-1])
    one, other = compare(candidate, champion), compare(turned, champion)
    assert (one.candidate_ap, one.faults) == (other.candidate_ap, other.faults)
    assert one.ap_gain_low == pytest.approx(other.ap_gain_low, abs=1e-12)


@pytest.mark.parametrize(
    ("candidate", "champion", "words"),
    [
        (measure(split="b" * 64), measure(), "the test splits differ .* measure both models anew, .* with --dataset"),
        (measure(5), measure(6), "load load-5, class cable: not the same truth"),
        (change(measure(), 0, contaminant_U=measure().counts[0].contaminant_U * 2), measure(), "not the same truth"),
        (measure(1), measure(1), "fewer than two loads"),
        (
            dataclasses.replace(measure(), counts=measure().counts[1:]),
            dataclasses.replace(measure(), counts=measure().counts[1:]),
            "does not have each class once",
        ),
        (
            dataclasses.replace(measure(), counts=measure().counts + measure().counts[:1]),
            measure(),
            "does not have each class once",
        ),
    ],
)
def test_what_cannot_be_compared_is_named(candidate, champion, words):
    with pytest.raises(ValueError, match=words):
        compare(candidate, champion)


def test_a_split_without_any_contaminant_tells_nothing():
    nothing = ScoreHistogram.of(np.array([0.1, 0.2], np.float32), np.zeros(2, bool))
    clean = SplitStatistics(
        split_sha256="a" * 64, counts=tuple(LoadCounts.of(f"load-{load}", "can", 0.5, nothing) for load in range(3))
    )
    with pytest.raises(ValueError, match="fewer than two loads hold a contaminant"):
        compare(clean, clean)


def test_statistics_survive_a_file(tmp_path):
    statistics, path = measure(), str(tmp_path / "test_statistics.parquet")
    table = pa.Table.from_pylist(statistics.rows(), schema=schema.TEST_STATISTICS)
    write_table(table, schema.TEST_STATISTICS, path, Storage())
    again = SplitStatistics.from_rows(read_table(path, schema.TEST_STATISTICS, Storage()).to_pylist())
    assert compare(again, statistics).is_accepted
    assert again.split_sha256 == statistics.split_sha256
    for one, other in zip(again.counts, statistics.counts, strict=True):
        assert (one.load_id, one.class_name, one.threshold) == (other.load_id, other.class_name, other.threshold)
        for name in ("bins_U", "normal_U", "contaminant_U"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("rows", [[], measure().rows() + measure(split="b" * 64).rows()])
def test_statistics_of_no_split_or_of_several_are_refused(rows):
    with pytest.raises(ValueError, match="must be of one"):
        SplitStatistics.from_rows(rows)
