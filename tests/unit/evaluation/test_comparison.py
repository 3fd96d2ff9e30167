"""The page, files and pictures of a table that compares methods."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrapray import schema
from scrapray.errors import ConfigurationError, DivergedError
from scrapray.evaluation import comparison
from scrapray.evaluation.comparison import FIGURES, METHODS, SCALES, Comparison, Entry, Measured, Run, comparison_rows
from scrapray.evaluation.config import BundleConfig, EvaluateConfig
from scrapray.evaluation.tables import as_page, write_comparison
from scrapray.labels import Contaminant
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
    assert of_a[-4:] == ["0.2860", "0.2860", "0.2860", "0.2860 |"]
    assert of_b[1] == "0.1250" and of_b[5] == "-" and of_b[-1] == "- |"
    assert set(of_c[1:-1]) == {"-"}
    assert chance[0] == "| chance" and chance[2] == "0.1000"
    assert "prevalence 0.0010" in lines[9] and "for orientation only" in lines[9]
    assert lines[-2:] == ["- b, aupro repo200: too few steps", "- c: for YOLO, install the extra"]


def test_a_table_without_any_run_says_why() -> None:
    page = as_page(ROWS[-1:], "Methods")
    assert "chance" not in page
    assert page.endswith("some of the seeds:\n\n- c: for YOLO, install the extra\n")


def run(value: float, low: float | None = None) -> Run:
    row = {"value": value, "low": low, "high": low and 2 * low, "chance": 0.1, "reason": None}
    figures = {(name, figure): row for name in ("any", "motor") for figure in ("prevalence", *FIGURES)}
    return Run(figures, {place: np.full((8, 8), value) for place in (3, 0)})


def test_an_entry_has_the_mean_and_spread_of_its_seeds() -> None:
    seeded = Measured(entry=Entry(label="a", published={"auroc": 0.9}), runs=[run(0.1, 0.05), run(0.3, 0.15)])
    alone = Measured(entry=Entry(label="b"), runs=[run(0.2)])
    absent = Measured(entry=Entry(label="c"), reason="for YOLO, install the extra")
    rows = comparison_rows("methods", [seeded, alone, absent])
    of_a, of_b, of_c = (
        next(row for row in rows if row["label"] == label and row["figure"] != "prevalence") for label in "abc"
    )
    assert (of_a["num_runs"], of_a["mean"], of_a["published"]) == (2, pytest.approx(0.2), 0.9)
    assert of_a["spread"] == pytest.approx(0.2 / 2**0.5)
    assert (of_a["low"], of_a["high"]) == (pytest.approx(0.1), pytest.approx(0.2))
    assert (of_b["spread"], of_b["low"], of_b["published"]) == (None, None, None)
    assert (of_c["num_runs"], of_c["reason"]) == (0, "for YOLO, install the extra")
    assert not any(row["published"] for row in rows if row["class_name"] == "motor"), "the paper has any only"


class OneDataset:
    """As ``Dataset``: grey tiles with a motor in the middle."""

    card = SimpleNamespace(class_names=("motor", "cable"))

    def split(self, name: str) -> "OneDataset":
        assert name == "test"
        return self

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        class_HW = np.zeros((32, 32), np.uint8)
        class_HW[12:20, 12:20] = 1
        return np.full((32, 32, 3), 50 * place, np.uint8), class_HW


@pytest.mark.parametrize("runs", [[run(0.1), run(0.3)], []], ids=["runs", "none that was run"])
def test_files_hold_what_the_page_says(runs: list[Run], tmp_path: Path) -> None:
    measured = [Measured(entry=Entry(label="a"), runs=runs, reason=None if runs else "no weights")]
    page, written = write_comparison(measured, OneDataset(), "methods", "Methods", tmp_path / "results")
    markdown, csv, parquet, svg = written[:4]
    assert markdown.read_text() == page == as_page(comparison_rows("methods", measured), "Methods")
    rows = pq.read_table(parquet).to_pylist()
    assert [(row["class_name"], row["figure"], row["mean"]) for row in rows] == [
        (row["class_name"], row["figure"], row.get("mean")) for row in comparison_rows("methods", measured)
    ]
    assert len(csv.read_text().splitlines()) == 1 + len(rows)
    assert "<svg" in svg.read_text()
    assert [path.name for path in written[4:]] == (["methods-examples.png"] if runs else [])


def test_each_entry_is_a_baseline_or_a_training_that_there_is() -> None:
    for entry in (*METHODS, *SCALES):
        assert not (entry.method and entry.profiles)
        assert set(entry.profiles) <= set(PROFILES)
    assert len({entry.label for entry in METHODS}) == len(METHODS)


def test_maps_that_were_cut_while_they_were_written_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(file: Any, **arrays: Any) -> None:
        file.write(b"PK")
        raise KeyboardInterrupt

    path = tmp_path / "ours-0.npz"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(np, "savez", stop)
        comparison._write_maps(path, {3: np.zeros((2, 2))})
    assert not path.exists()
    comparison._write_maps(path, {3: np.full((2, 2), 0.5), 0: np.zeros((2, 2))})
    with np.load(path) as kept:
        assert kept["places_N"].tolist() == [3, 0]
        assert kept["maps_Nhw"].shape == (2, 2, 2)


def test_what_decides_figures_gives_them_another_name() -> None:
    def name_of(classes: str = "motor", load: str = "a", autocast: bool = False) -> str:
        card = SimpleNamespace(dataset_sha256="0", classes=[Contaminant(name=classes, definition="", severity=1)])
        dataset: Any = SimpleNamespace(card=card, manifest=pa.table({"tile_id": ["t"], "unit": [load]}))
        config = EvaluateConfig(bundle=BundleConfig(autocast=autocast))
        return comparison._hash(comparison._measuring(config), dataset)

    assert name_of() == name_of()
    assert len({name_of(), name_of(classes="cable"), name_of(load="b"), name_of(autocast=True)}) == 4


def test_the_floor_of_an_entry_is_that_of_the_measuring_and_not_of_the_training(tmp_path: Path) -> None:
    tables = Comparison(dataset_uri="", folder=tmp_path, config=EvaluateConfig(), profiles=(), seeds=(0,))
    entries = {entry.min_score: entry for entry in METHODS if entry.method == "maskrcnn"}
    bare, floored = (tables.settings_of(entries[floor], seed=1) for floor in (0.0, 0.05))
    assert (bare.detector.min_score, floored.detector.min_score) == (0.0, 0.05)
    assert bare.maskrcnn == floored.maskrcnn
    assert bare.maskrcnn.seed == 1


def test_a_seed_that_fails_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(self: Comparison, entry: Entry, seed: int) -> Run:
        if seed == 1:
            raise DivergedError("training diverged after 40 steps")
        if entry.method:
            raise ConfigurationError("install the extra")
        return run(0.1 * (1 + seed), 0.05)

    monkeypatch.setattr(Comparison, "_run", train)
    told: list[str] = []
    tables = Comparison(
        dataset_uri="", folder=tmp_path, config=EvaluateConfig(), profiles=(), seeds=(0, 1, 2), tell=told.append
    )
    some, none = tables.measure([Entry(label="ours"), Entry(label="YOLO", method="yolo-sam")])
    assert len(some.runs) == 2
    assert told[0] == "ours, seed 1: training diverged after 40 steps"
    assert none.reason == "without seed 0, 2: install the extra; without seed 1: training diverged after 40 steps"
    rows = comparison_rows("methods", [some])
    assert {(row["num_runs"], row["reason"]) for row in rows} == {
        (2, "without seed 1: training diverged after 40 steps")
    }
    assert as_page(rows, "Methods").endswith("\n\n- ours: without seed 1: training diverged after 40 steps\n")


def test_figures_go_to_the_server_and_trainings_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Comparison(dataset_uri="", folder=tmp_path, config=EvaluateConfig(), profiles=(), seeds=(0,))
    own = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tables._registry_of_figures.tracking_uri == own
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    assert tables._registry_of_figures.tracking_uri == "http://mlflow.example:5000"
    assert tables._own_registry.tracking_uri == own


@pytest.mark.parametrize(("baseline_seeds", "of_a_baseline"), [((5, 6), (5, 6)), ((), (0, 1, 2))])
def test_baselines_have_seeds_of_their_own_if_they_are_given_any(
    baseline_seeds: tuple[int, ...], of_a_baseline: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Comparison(
        dataset_uri="",
        folder=tmp_path,
        config=EvaluateConfig(),
        profiles=(),
        seeds=(0, 1, 2),
        baseline_seeds=baseline_seeds,
    )
    monkeypatch.setattr(Comparison, "_run", lambda self, entry, seed: seed)
    ran = {each.entry.label: each.runs for each in tables.measure(METHODS)}
    assert ran["ours"] == [0, 1, 2]
    assert ran["Mask R-CNN"] == list(of_a_baseline)
    assert ran["WinCLIP"] == [of_a_baseline[0]], "no seed matters to it"
