"""Rows of an evaluation: every class has every figure, and what has no value or no interval says why."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scrapray.evaluation.evaluate import Evaluation
from scrapray.evaluation.results import Row, as_markdown, rows_of
from scrapray.statistics.bootstrap import FIGURES, intervals
from scrapray.statistics.counts import SIZE_BANDS, ClassCounts


def evaluation_of(counts: dict[str, ClassCounts], num_loads: int) -> Evaluation:
    """Of loads that are all alike."""
    facts: Any = {
        "subject": "a",
        "subject_tags": {},
        "subject_settings": {},
        "dataset": "scrap-1",
        "dataset_card": SimpleNamespace(class_names=tuple(counts)),
        "split": "test",
        "split_sha256": "0",
        "num_tiles": 2 * num_loads,
        "num_loads": num_loads,
        "confusion_KK1": np.zeros((len(counts), len(counts) + 1), np.int64),
        "worst": (),
        "maps": {},
    }
    of_loads = {name: [of_class.pixels] * num_loads for name, of_class in counts.items()}
    return Evaluation(
        **facts, counts=counts, intervals={name: intervals(histograms) for name, histograms in of_loads.items()}
    )


@pytest.fixture
def counts() -> dict[str, ClassCounts]:
    """A motor that is found without fault, and no cable."""
    truth_Nhw = np.zeros((2, 16, 16), np.bool_)
    truth_Nhw[0, 4:8, 4:8] = True
    scores_Nhw = 0.9 * truth_Nhw.astype(np.float32)
    return {
        "motor": ClassCounts.of(scores_Nhw, truth_Nhw),
        "cable": ClassCounts.of(scores_Nhw, np.zeros_like(truth_Nhw)),
    }


def rows_by_name(evaluation: Evaluation) -> dict[tuple[str, str], Row]:
    return {(row["class_name"], row["figure"]): row for row in rows_of(evaluation)}


def test_a_class_that_the_split_lacks_has_the_rows_of_all_others(counts: dict[str, ClassCounts]) -> None:
    rows = rows_by_name(evaluation_of(counts, num_loads=2))
    assert {figure for name, figure in rows if name == "cable"} == {figure for name, figure in rows if name == "motor"}
    for band in SIZE_BANDS:
        row = rows["cable", f"object_recall, {band}"]
        assert (row["value"], row["reason"]) == (None, "no object of that size in the split")


def test_a_map_without_fault_says_why_it_has_no_overlap_as_papers_compute_it(counts: dict[str, ClassCounts]) -> None:
    row = rows_by_name(evaluation_of(counts, num_loads=2))["motor", "aupro_repo200"]
    assert row["value"] is None
    assert "no two different false alarm rates below the limit" in row["reason"]


def test_one_load_has_figures_without_intervals_and_says_why(counts: dict[str, ClassCounts]) -> None:
    one, two = (rows_by_name(evaluation_of(counts, num_loads)) for num_loads in (1, 2))
    for figure in FIGURES:
        row = one["motor", figure]
        assert row["value"] == two["motor", figure]["value"] is not None
        assert (row["low"], row["high"]) == (None, None)
        assert "one load" in row["reason"]
        assert two["motor", figure]["reason"] is None and two["motor", figure]["low"] is not None
    evaluation = evaluation_of(counts, num_loads=1)
    assert "- motor, auroc: no interval: the split has one load" in as_markdown(evaluation, rows_of(evaluation))
