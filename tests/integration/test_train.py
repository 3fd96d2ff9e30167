"""From annotated frames to a candidate that can be audited with, through the commands, on a real local Ray."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from scrapray import cli
from scrapray.config import read_config
from scrapray.datasets.config import DatasetConfig, SplitConfig, TilesConfig
from scrapray.datasets.prepare import prepare_dataset
from scrapray.errors import ConfigurationError, RegistryError, SchemaError, ScraprayError
from scrapray.imagery.scenes import SceneSettings, draw_archive
from scrapray.registry import CANDIDATE, Registry
from scrapray.segmenter.bundle import load_bundle
from scrapray.training.curves import CURVES
from scrapray.training.export import EXAMPLES
from scrapray.training.produce import train_model
from scrapray.training.profiles import read_finetune
from tests.fixtures.pictures import TINY_CLIP
from tests.fixtures.services import SeaweedFS

pytestmark = [pytest.mark.usefixtures("engine", "registry_folder"), pytest.mark.timeout(600)]

OUTAGE_S = 60
SETTINGS = """
[start]
clip = "{clip}"
weights = "random"
[segmenter]
input_px = 64
stages = [1, 2, 3, 4]
dpam_from = 2
num_context = 4
prompt_depth = 3
deep_length = 2
msm_hidden = 16
[training]
epochs = 2
batch_size = 8
loss_px = 32
autocast = false
checkpoint_every_steps = 5
[optim]
lr_vision = 1e-3
lr_prompt = 1e-2
lr_msm = 1e-2
warmup_steps = 0
[workers]
gpus_per_worker = 0
cpus_per_worker = 1
loaders = 0
"""


def make_dataset(folder: Path) -> Path:
    """Tiles of nine drawn loads."""
    size = SceneSettings(width_px=480, height_px=270, contaminated_share=1.0)
    draw_archive(folder / "archive", num_loads=9, frames_per_load=1, settings=size, masks=True)
    config = DatasetConfig(
        cameras=read_config(folder / "archive" / "audit.toml").cameras,
        tiles=TilesConfig(tile_px=96, overlap_px=0, clean_share=0.1),
        split=SplitConfig(train=0.5, validation=0.3, test=0.2, seed=22),
    )
    prepare_dataset("masks", str(folder / "archive"), str(folder / "scrap-1"), config=config, command="prepare")
    return folder / "scrap-1"


@pytest.fixture(scope="module")
def dataset(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("annotated"))


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    clip = tmp_path / "tiny.json"
    clip.write_text(json.dumps(TINY_CLIP))
    path = tmp_path / "finetune.toml"
    path.write_text(SETTINGS.format(clip=clip))
    return path


def command(*arguments: object) -> list[str]:
    return [str(argument) for argument in arguments]


def figures_of(run_id: str, name: str) -> list[tuple[int, float]]:
    client = mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    return sorted({(each.step, each.value) for each in client.get_metric_history(run_id, name)})


def test_a_dataset_becomes_a_candidate_that_an_audit_can_load(dataset: Path, settings: Path, tmp_path: Path) -> None:
    arguments = command("train", dataset, "--config", settings, "--runs", tmp_path / "runs")
    result = CliRunner().invoke(cli.app, arguments, terminal_width=100, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "the candidate" in result.output
    candidate = Registry().show(CANDIDATE)
    folder = Registry().download(candidate, tmp_path / "models")
    bundle = load_bundle(folder)
    assert bundle.card.class_names == ("motor", "cable", "spray can")
    assert bundle.card.trained_on["dataset"] == str(dataset)
    assert bundle.card.metrics["test"]["any"]["average_precision"] > 0

    run = next((tmp_path / "runs").iterdir())
    assert (run / "bundle" / EXAMPLES).stat().st_size > 10_000
    artifacts = {
        each.path for each in mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").list_artifacts(candidate.run_id)
    }
    assert {EXAMPLES, CURVES, "settings.json", "dataset_card.json"} <= artifacts
    validated = figures_of(candidate.run_id, "validation/any/average_precision")
    num_steps = json.loads((run / "result.json").read_text())["num_steps"]
    assert [step for step, _ in validated] == [num_steps // 2, num_steps]

    again = CliRunner().invoke(cli.app, arguments, terminal_width=100, catch_exceptions=False)
    assert again.output.splitlines()[-5:] == result.output.splitlines()[-5:]
    assert len(Registry().list_versions()) == 1, "what is finished is not trained again"

    # As it ends when the server was away, on a machine whose journal is gone.
    told = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(told | {"model_uri": None}))
    late = train_model(str(dataset), str(tmp_path / "runs"), config=read_finetune(settings))
    assert late.model_uri == told["model_uri"] == json.loads((run / "result.json").read_text())["model_uri"]
    assert len(Registry().list_versions()) == 1, "what is registered is not registered again"

    another = Registry(f"sqlite:///{tmp_path}/another.db")
    anew = train_model(str(dataset), str(tmp_path / "runs"), config=read_finetune(settings), registry=another)
    assert anew.run_id != told["run_id"], "another server hears of it too"
    assert (anew.model_uri, another.show(CANDIDATE).run_id) == ("models:/scrap-segmenter/1", anew.run_id)
    client = mlflow.MlflowClient(another.tracking_uri)
    assert {"settings.json", "dataset_card.json"} <= {each.path for each in client.list_artifacts(anew.run_id)}
    assert len(client.get_metric_history(anew.run_id, "validation/any/average_precision")) == 2, "with its curve"

    (run / "result.json").write_text(json.dumps(told | {"model_uri": None}))
    (run / "run.json").write_text(json.dumps({"run_id": "0" * 32, "tracking_uri": told["tracking_uri"]}))
    with pytest.raises(RegistryError, match=r"has no run .* any more, remove .*run\.json, and a new run begins"):
        train_model(str(dataset), str(tmp_path / "runs"), config=read_finetune(settings))


@pytest.mark.slow
def test_two_models_of_one_dataset_can_be_compared(dataset: Path, settings: Path, tmp_path: Path) -> None:
    registry = Registry()
    for profile in ("paper", "frozen"):
        train_model(str(dataset), str(tmp_path / "runs"), config=read_finetune(settings, [profile]))
    newer, older = registry.list_versions()
    assert newer.run_id != older.run_id
    comparison = registry.compare(newer, older)
    assert comparison.num_loads >= 2


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_as_if_nothing_had_been(
    dataset: Path, settings: Path, tmp_path: Path
) -> None:
    whole = train_model(str(dataset), str(tmp_path / "whole"), config=read_finetune(settings))
    arguments = command("train", dataset, "--config", settings, "--runs", tmp_path / "cut")
    cut = [sys.executable, "-c", "from scrapray.cli import app; app()", *arguments]
    process = subprocess.Popen(cut, start_new_session=True, cwd=tmp_path)
    try:
        checkpoints = tmp_path / "cut" / whole.name
        end = time.monotonic() + 240
        while len(list(checkpoints.glob("checkpoint_*"))) < 2:
            assert process.poll() is None and time.monotonic() < end, "it should train for longer than that"
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
    assert not (checkpoints / "result.json").exists()
    summary = train_model(str(dataset), str(tmp_path / "cut"), config=read_finetune(settings))
    assert (summary.name, summary.steps, summary.thresholds) == (whole.name, whole.steps, whole.thresholds)
    assert summary.test == whole.test
    weights = "bundle/weights.safetensors"
    assert (checkpoints / weights).read_bytes() == (tmp_path / "whole" / whole.name / weights).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("comes_back", [True, False])
def test_a_storage_that_goes_away_is_waited_for_and_if_it_stays_away_the_same_command_goes_on(
    dataset: Path,
    settings: Path,
    tmp_path: Path,
    own_seaweedfs: SeaweedFS,
    monkeypatch: pytest.MonkeyPatch,
    comes_back: bool,
) -> None:
    whole = train_model(str(dataset), str(tmp_path / "whole"), config=read_finetune(settings))
    server = own_seaweedfs.server
    config = replace(read_finetune(settings), storage=server.config)
    bucket = server.make_bucket("runs")

    def pull_the_plug() -> None:
        while len(server.filesystem().glob("runs/*/checkpoint_*")) < 2:
            time.sleep(0.2)
        own_seaweedfs.kill()
        if comes_back:
            time.sleep(OUTAGE_S)
            own_seaweedfs.start()

    thread = threading.Thread(target=pull_the_plug, daemon=True)
    thread.start()
    if not comes_back:
        monkeypatch.setattr("scrapray.storage._PATIENT_ATTEMPTS", config.storage.max_attempts)
        with pytest.raises(ScraprayError, match="endpoint"):
            train_model(str(dataset), bucket, config=config)
        own_seaweedfs.start()
    summary = train_model(str(dataset), bucket, config=config)
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert (summary.steps, summary.thresholds, summary.test) == (whole.steps, whole.thresholds, whole.test)


def test_what_cannot_be_trained_is_said_before_any_work(dataset: Path, settings: Path, tmp_path: Path) -> None:
    config = read_finetune(settings)
    with pytest.raises(SchemaError, match="holds no finished dataset; run scrapray prepare"):
        train_model(str(tmp_path / "nothing"), str(tmp_path / "runs"), config=config)
    deep = replace(config, segmenter=replace(config.segmenter, prompt_depth=99))
    with pytest.raises(ConfigurationError, match="prompt_depth is 99, the text tower has"):
        train_model(str(dataset), str(tmp_path / "runs"), config=deep)
    crowd = replace(config, workers=replace(config.workers, min=8, max=8, cpus_per_worker=50))
    with pytest.raises(ConfigurationError, match="training needs 400 CPUs and 0 GPUs at once"):
        train_model(str(dataset), str(tmp_path / "runs"), config=crowd)
    with pytest.raises(RegistryError, match="nowhere"):
        registry = Registry("http://nowhere.invalid:5000")
        train_model(str(dataset), str(tmp_path / "runs"), config=config, registry=registry)


def test_a_class_that_training_never_shows_is_refused(dataset: Path, settings: Path, tmp_path: Path) -> None:
    card = json.loads((dataset / "card.json").read_text())
    copied = tmp_path / "scrap-2"
    copied.mkdir()
    (copied / "skipped.parquet").write_bytes((dataset / "skipped.parquet").read_bytes())
    tiles = pq.read_table(dataset / "manifest.parquet")
    is_kept = [row["split"] != "train" or any(row["class_px"][1:]) for row in tiles.to_pylist()]
    pq.write_table(tiles.filter(pa.array(is_kept)), copied / "manifest.parquet")
    (copied / "card.json").write_text(json.dumps(card))
    with pytest.raises(ConfigurationError, match=r"every training tile of .*scrap-2 shows a contaminant.*clean_share"):
        train_model(str(copied), str(tmp_path / "runs"), config=read_finetune(settings))
    card["splits"]["train"]["class_tiles"][2] = 0
    (copied / "card.json").write_text(json.dumps(card))
    with pytest.raises(ConfigurationError, match=r"no training tile of .*scrap-2 shows cable; annotate some"):
        train_model(str(copied), str(tmp_path / "runs"), config=read_finetune(settings))
