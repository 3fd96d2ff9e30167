"""The page, files and picture of a table that compares methods."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from scrapray import schema
from scrapray.evaluation.comparison import FIGURES, METHODS, SCALES, as_page, write_comparison
from scrapray.training.profiles import PROFILES


def row(label: str, figure: str, mean: float | None, **changes: Any) -> dict[str, Any]:
    row = dict.fromkeys(schema.COMPARISON.names)
    row |= {"table": "methods", "label": label, "class_name": "any", "figure": figure, "num_runs": 2, "mean": mean}
    return row | changes


ROWS = [
    row("a", "prevalence", 0.001),
    *(row("a", figure, 0.25, spread=0.01, low=0.2, high=0.3, chance=0.1, published=0.286) for figure in FIGURES),
    row("a", "average_precision", 0.5, class_name="motor", chance=0.1),
    row("b", "prevalence", 0.001),
    *(row("b", figure, 0.125, chance=0.1) for figure in FIGURES[:-1]),
    row("b", FIGURES[-1], None, reason="too few steps"),
    row("c", "average_precision", None, num_runs=0, reason="for YOLO, install the extra"),
]


def test_a_line_for_each_entry_with_chance_below_and_the_paper_beside() -> None:
    lines = as_page(ROWS, "Methods").splitlines()
    assert lines[0] == "# Methods"
    assert lines[2].startswith("| | auroc | average precision | f1 max |")
    (of_a, of_b, of_c, chance) = (line.split(" | ") for line in lines[4:8])
    assert of_a[:2] == ["| a", "0.2500 ± 0.0100 (0.2000 to 0.3000)"]
    assert of_a[-3:] == ["0.2860", "0.2860", "0.2860 |"]
    assert of_b[1] == "0.1250" and of_b[5] == "-" and of_b[-1] == "- |"
    assert set(of_c[1:-1]) == {"-"}
    assert chance[0] == "| chance" and chance[2] == "0.1000"
    assert "prevalence 0.0010" in lines[9] and "for orientation only" in lines[9]
    assert lines[-1] == "- c: for YOLO, install the extra"


def test_a_table_without_any_run_says_why() -> None:
    page = as_page(ROWS[-1:], "Methods")
    assert "chance" not in page
    assert page.endswith("Not run:\n\n- c: for YOLO, install the extra\n")


@pytest.mark.parametrize("rows", [ROWS, ROWS[-1:]], ids=["all", "none that was run"])
def test_files_hold_what_the_page_says(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    markdown, csv, parquet, svg = write_comparison(rows, "Methods", tmp_path / "results")
    assert markdown.read_text() == as_page(rows, "Methods")
    assert pq.read_table(parquet).to_pylist() == rows
    assert len(csv.read_text().splitlines()) == 1 + len(rows)
    assert "<svg" in svg.read_text()


def test_each_entry_is_a_baseline_or_a_training_that_there_is() -> None:
    for entry in (*METHODS, *SCALES):
        assert not (entry.method and entry.profiles)
        assert set(entry.profiles) <= set(PROFILES)
    assert len({entry.label for entry in METHODS}) == len(METHODS)
