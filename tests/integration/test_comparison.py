"""Both tables of the paper on a tiny drawn dataset, by the job that makes them."""

import runpy
from pathlib import Path

import pytest

from scrapray.config import read_settings
from scrapray.datasets.config import SplitConfig
from scrapray.evaluation.comparison import METHODS, SCALES, Comparison
from scrapray.evaluation.config import EvaluateConfig
from tests.integration.test_evaluate import SMALL, prepare_drawn

pytestmark = [pytest.mark.usefixtures("engine", "registry_folder"), pytest.mark.slow, pytest.mark.timeout(2400)]
JOB = Path(__file__).parents[2] / "jobs" / "evaluate.py"


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    return prepare_drawn(tmp_path, SplitConfig(train=0.4, validation=0.3, test=0.3, seed=1))


def test_one_command_makes_both_tables_and_goes_on_where_it_was_stopped(
    dataset: str, masker: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, folder = tmp_path / "evaluate.toml", tmp_path / "results"
    winclip = '[clip]\nclip = "miniature"\n[winclip]\nnum_references = 3\n'
    settings.write_text(winclip + SMALL.replace("MASKER", masker))
    main = runpy.run_path(str(JOB))["main"]
    main(dataset, folder, settings, "paper", profiles=["demo"], finetune=None, seeds=[0])
    printed = capsys.readouterr().out
    for entry in (*METHODS, *SCALES):
        (line,) = (line for line in printed.splitlines() if line.startswith(f"| {entry.label} |"))
        assert line.count("0.") >= 4, line
    for name in ("methods", "scales"):
        assert {path.suffix for path in folder.glob(f"{name}.*")} == {".md", ".csv", ".parquet", ".svg"}
        assert (folder / f"{name}-examples.png").stat().st_size
    told: list[str] = []
    again = Comparison(
        dataset_uri=dataset,
        folder=folder,
        config=read_settings(settings, EvaluateConfig),
        profiles=["demo"],
        seeds=[0],
        tell=told.append,
    )
    assert [len(each.runs) for each in again.measure(METHODS)] == [1] * len(METHODS)
    assert told == [], "all is kept"
