"""A bundle measured on a dataset on a real local Ray, against scikit-learn on maps put side by side."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner, Result

from scrapray import cli, schema
from scrapray.audit.model import find_model
from scrapray.baselines.trained import Training, save_baseline
from scrapray.config import read_config, read_settings
from scrapray.datasets.config import DatasetConfig, SplitConfig, TilesConfig
from scrapray.datasets.prepare import prepare_dataset
from scrapray.datasets.read import Dataset, open_dataset
from scrapray.errors import ConfigurationError, ModelError, SchemaError
from scrapray.evaluation.config import BundleConfig, DetectorConfig, EvaluateConfig, FrozenClipConfig, WorkersConfig
from scrapray.evaluation.counting import Counter
from scrapray.evaluation.detectors import detections_subject
from scrapray.evaluation.evaluate import Evaluation, evaluate, evaluate_method, find_subject
from scrapray.evaluation.results import as_markdown, check_out, files_of, rows_of, write_files
from scrapray.evaluation.subjects import Scored, Scorer, Subject, bundle_subject, references_of
from scrapray.evaluation.tracking import EXPERIMENT, track
from scrapray.evaluation.trained import train_baseline
from scrapray.evaluation.versions import measure_versions
from scrapray.imagery.masks import encode_mask
from scrapray.imagery.scenes import SceneSettings, draw_archive
from scrapray.registry import Registry
from scrapray.segmenter.bundle import load_bundle, read_card, sha256_of_file, shipped
from scrapray.segmenter.measure import STRIDE_PX
from scrapray.statistics.promotion import DROPPED_BITS
from scrapray.storage import Storage
from scrapray.training.config import StartConfig
from scrapray.training.loop import measure_tiles
from tests.fixtures.tracking import make_bundle

pytestmark = pytest.mark.usefixtures("engine", "registry_folder")


def prepare_drawn(folder: Path, split: SplitConfig) -> str:
    """Tiles of 64 px, as the tiny bundle takes them, of nine drawn loads; gives the dataset's folder."""
    size = SceneSettings(width_px=480, height_px=270, contaminated_share=1.0)
    draw_archive(folder / "archive", num_loads=9, frames_per_load=1, settings=size, masks=True)
    config = DatasetConfig(
        cameras=read_config(folder / "archive" / "audit.toml").cameras,
        tiles=TilesConfig(tile_px=64, overlap_px=0),
        split=split,
    )
    prepare_dataset("masks", str(folder / "archive"), str(folder / "scrap-1"), config=config, command="prepare")
    return str(folder / "scrap-1")


@pytest.fixture(scope="module")
def dataset(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    split = SplitConfig(train=0.2, validation=0.0, test=0.8, seed=22)
    return open_dataset(prepare_drawn(tmp_path_factory.mktemp("annotated"), split), Storage())


def subject_of(bundle: Path) -> Subject:
    return bundle_subject(find_model(str(bundle), Storage()), Storage(), BundleConfig())


@pytest.fixture(scope="module")
def measured(dataset: Dataset, tiny_bundle: Path) -> Evaluation:
    return evaluate(subject_of(tiny_bundle), dataset, split="test", workers=WorkersConfig())


def test_figures_are_those_of_scikit_learn_on_all_pixels(
    measured: Evaluation, dataset: Dataset, tiny_bundle: Path
) -> None:
    tiles = dataset.split("test")
    pairs = [tiles[place] for place in range(len(tiles))]
    scored = subject_of(tiny_bundle).open("cpu")(np.stack([tile_HW3 for tile_HW3, _ in pairs]), tiles.tile_ids)
    scores_NKHW = scored.maps_NKhw.repeat(STRIDE_PX, axis=-2).repeat(STRIDE_PX, axis=-1)
    classes_NHW = np.stack([class_HW for _, class_HW in pairs])
    truths = {"any": classes_NHW > 0} | {
        name: classes_NHW == number for number, name in enumerate(dataset.card.class_names, start=1)
    }
    assert list(measured.counts) == list(truths)
    for index, (name, truth_NHW) in enumerate(truths.items()):
        scores_NHW = scores_NKHW[:, index]
        found = measured.counts[name].pixels.metrics()
        assert truth_NHW.any(), name
        assert found.prevalence == pytest.approx(truth_NHW.mean())
        assert found.auroc == pytest.approx(roc_auc_score(truth_NHW.ravel(), scores_NHW.ravel()), abs=3e-6)
        expected = average_precision_score(truth_NHW.ravel(), scores_NHW.ravel())
        assert found.average_precision == pytest.approx(expected, abs=3e-6)
        of_tiles = measured.counts[name].tiles.metrics()
        shows_N = truth_NHW.any(axis=(1, 2))
        assert of_tiles.auroc == pytest.approx(roc_auc_score(shows_N, scores_NHW.max(axis=(1, 2))), abs=3e-6)
    assert (measured.num_tiles, measured.num_loads) == (len(tiles), len(set(tiles.load_ids)))


@pytest.mark.slow  # each of seven processes loads torch; what adds up is held in tests/unit/evaluation too
def test_one_worker_and_seven_give_the_same_table(measured: Evaluation, dataset: Dataset, tiny_bundle: Path) -> None:
    workers = WorkersConfig(actors=7)
    again = evaluate(subject_of(tiny_bundle), dataset, split="test", workers=workers)
    assert rows_of(again) == rows_of(measured)
    assert as_markdown(again, rows_of(again)) == as_markdown(measured, rows_of(measured))


def test_every_figure_stands_beside_what_chance_reaches(measured: Evaluation) -> None:
    rows = {(row["class_name"], row["figure"]): row for row in rows_of(measured)}
    prevalence = rows["any", "prevalence"]["value"]
    assert rows["any", "average_precision"]["chance"] == prevalence
    assert rows["any", "f1_max"]["chance"] == pytest.approx(2 * prevalence / (1 + prevalence))
    assert (rows["any", "auroc"]["chance"], rows["any", "aupro_exact"]["chance"]) == (0.5, 0.15)
    for figure in ("average_precision", "auroc", "f1_max", "aupro_exact"):
        row = rows["any", figure]
        assert row["low"] <= row["value"] <= row["high"], figure
    assert all(row["reason"] for row in rows.values() if row["value"] is None)


def test_the_command_prints_what_it_writes(dataset: Dataset, tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(tiny_bundle), dataset.uri, "--out", str(tmp_path / "results")]
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (page,) = (tmp_path / "results").glob("*.md")
    assert page.read_text() in result.output
    assert re.search(rf"MLflow: run \w+ of experiment {EXPERIMENT}", result.output)
    assert "| chance |" in page.read_text()
    (table,) = (tmp_path / "results").glob("*.parquet")
    assert pq.read_table(table).schema.equals(schema.EVALUATION)
    (csv,) = (tmp_path / "results").glob("*.csv")
    assert len(csv.read_text().splitlines()) == 1 + pq.read_table(table).num_rows


def registered(tiny_bundle: Path, folder: Path) -> Registry:
    """A registry of two versions from other test splits: the champion finds every pixel, the candidate none."""
    registry = Registry()
    for name, threshold, split in (("all", 1e-6, "a" * 64), ("none", 1 - 1e-6, "b" * 64)):
        with registry.start_run(name) as run:
            run.register_bundle(make_bundle(folder / name, tiny_bundle, threshold=threshold, split=split))
    registry.promote(registry.show("1"), comparison=None)
    return registry


def test_a_version_is_measured_load_by_load_as_training_does_it(
    dataset: Dataset, tiny_bundle: Path, tmp_path: Path
) -> None:
    version = registered(tiny_bundle, tmp_path).show("champion")
    tiles = dataset.split("test")
    seen: list[tuple[int, int]] = []
    measured = measure_versions(
        [version], dataset.uri, config=EvaluateConfig(), progress=lambda done, total: seen.append((done, total))
    )
    assert (seen, seen[-1]) == (sorted(seen), (len(tiles), len(tiles)))
    assert (measured.dataset, measured.statistics[1].split_sha256) == (dataset.uri, tiles.sha256)
    model, places = load_bundle(tiny_bundle).model, tiles.places_of_loads()
    known = {
        load_id: measure_tiles(model, tiles, places[load_id], torch.device("cpu"), autocast=False) for load_id in places
    }
    assert len(measured.statistics[1].counts) == len(places) * len(dataset.card.class_names)
    for counts in measured.statistics[1].counts:
        expected = known[counts.load_id].histograms[counts.class_name].coarsened(DROPPED_BITS).metrics()
        found = counts.histogram.metrics()
        assert found.average_precision == pytest.approx(expected.average_precision, abs=1e-5), counts.load_id
        assert counts.num_found_px == counts.contaminant_U.sum()


def test_versions_of_other_test_splits_are_promoted_by_that_of_a_dataset_and_keep_their_bundles(
    dataset: Dataset, tiny_bundle: Path, tmp_path: Path
) -> None:
    registry = registered(tiny_bundle, tmp_path)

    def promote(*options: str) -> Result:
        return CliRunner().invoke(cli.app, ["models", "promote", "candidate", *options], terminal_width=100)

    def bundles() -> list[bytes]:
        return [path.read_bytes() for path in sorted((tmp_path / "mlartifacts").rglob("*")) if path.is_file()]

    as_registered = bundles()
    assert "with --dataset" in promote().stderr
    promoted = promote("--dataset", dataset.uri, "--force", "a drill")
    assert promoted.exit_code == 0, promoted.output
    num_tiles = 2 * len(dataset.split("test"))
    assert f"tiles measured: {num_tiles} of {num_tiles}" in promoted.stderr
    assert "promoted by force against this: recall of motor falls from 1.000 to 0.000" in promoted.stderr
    tags = registry.show("champion").tags
    assert (tags["compared_on"], tags["compared_split"]) == (dataset.uri, dataset.split("test").sha256)
    assert (tags["replaced"], bundles()) == ("version 1", as_registered)


def test_an_evaluation_is_a_run_that_says_what_was_held_against_what(
    measured: Evaluation, dataset: Dataset, tiny_bundle: Path, tmp_path: Path
) -> None:
    rows = rows_of(measured)
    files = files_of(measured, rows, "# A page\n")
    run_id = track(measured, rows, files, settings={"workers": {"actors": 1}}, registry=Registry())
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.get_run(run_id)
    assert client.get_experiment(run.info.experiment_id).name == EXPERIMENT
    assert (run.info.status, run.info.run_name) == ("FINISHED", measured.subject)
    card = read_card(tiny_bundle)
    assert {name: run.data.tags[name] for name in ("model_version", "weights_sha256", "dataset_sha256", "split")} == {
        "model_version": card.version,
        "weights_sha256": card.weights_sha256,
        "dataset_sha256": dataset.card.dataset_sha256,
        "split": "test",
    }
    known = {(row["class_name"], row["figure"]): row["value"] for row in rows}
    assert run.data.metrics["spray can/average_precision"] == known["spray can", "average_precision"]
    assert len(run.data.metrics) == sum(value is not None for value in known.values())
    suffixes = {Path(file.path).suffix for file in client.list_artifacts(run_id)}
    assert suffixes == {".parquet", ".csv", ".md", ".svg", ".png", ".json"}


def test_the_run_of_a_method_has_its_own_settings(dataset: Dataset, tiny_bundle: Path, tmp_path: Path) -> None:
    config = EvaluateConfig(bundle=BundleConfig(autocast=True), clip=FrozenClipConfig(clip="miniature"))
    path = tmp_path / "found.json"
    path.write_text("[]")
    settings = {
        method: find_subject(method, dataset, split="test", config=config).settings
        for method in (str(tiny_bundle), "winclip", str(path))
    }
    assert settings[str(tiny_bundle)] == {"bundle": {"autocast": True}}
    assert settings["winclip"]["clip"]["clip"] == "miniature" and set(settings["winclip"]) == {"clip", "winclip"}
    assert set(settings[str(path)]) == {"detector"}


def test_files_of_other_tiles_are_not_written_over(measured: Evaluation, tmp_path: Path) -> None:
    storage, rows = Storage(), rows_of(measured)
    check = partial(check_out, str(tmp_path), measured.subject, measured.split)
    check(measured.split_sha256, storage)
    write_files(files_of(measured, rows, ""), str(tmp_path), storage)
    check(measured.split_sha256, storage)
    with pytest.raises(ConfigurationError, match=r"-test\.parquet holds figures on .*, other tiles than these; give"):
        check("0" * 64, storage)
    assert not list(tmp_path.glob("_probe*"))


def blank(scores: float) -> Subject:
    """A method that knows nothing of classes and says the same of all."""

    def score(tiles_NHW3: np.ndarray, tile_ids: Sequence[str]) -> Scored:
        side = tiles_NHW3.shape[1] // STRIDE_PX
        return Scored(np.full((len(tiles_NHW3), 1, side, side), scores, np.float32))

    return Subject(name="blank", class_names=(), open=lambda device: score)


def test_a_method_that_says_the_same_of_all_is_at_chance(dataset: Dataset) -> None:
    rows = {row["figure"]: row for row in rows_of(evaluate(blank(0.5), dataset, split="test", workers=WorkersConfig()))}
    for figure in ("average_precision", "auroc", "f1_max", "aupro_exact", "tile_auroc"):
        assert rows[figure]["value"] == pytest.approx(rows[figure]["chance"]), figure
    assert rows["aupro_repo200"]["value"] is None
    assert "200" in rows["aupro_repo200"]["reason"]


def test_scores_that_are_no_numbers_stop_the_run(dataset: Dataset) -> None:
    with pytest.raises(ModelError, match=r"^blank gives scores from nan to nan among .* weights are whole$"):
        evaluate(blank(float("nan")), dataset, split="test", workers=WorkersConfig())


def test_a_method_that_a_worker_cannot_load_says_why(dataset: Dataset) -> None:
    def gone(device: str) -> Scorer:
        raise ModelError("/models/gone: no card.json in it; give the folder of a bundle")

    subject = Subject(name="gone", class_names=(), open=gone)
    with pytest.raises(ModelError, match=r"^/models/gone: no card\.json in it; give the folder of a bundle$"):
        evaluate(subject, dataset, split="test", workers=WorkersConfig())


def test_what_cannot_be_measured_is_said_before_any_work(dataset: Dataset) -> None:
    other = Subject(name="other", class_names=("motor", "bone"), open=lambda device: blank(0.5).open(device))
    with pytest.raises(ConfigurationError, match=r"other tells bone, which .* does not have; it has motor, cable"):
        evaluate(other, dataset, split="test", workers=WorkersConfig())
    with pytest.raises(ConfigurationError, match="no tile in its validation split"):
        evaluate(blank(0.5), dataset, split="validation", workers=WorkersConfig())
    with pytest.raises(ConfigurationError, match=r"\[workers\] needs"):
        evaluate(blank(0.5), dataset, split="test", workers=WorkersConfig(actors=500))


def test_a_tag_that_is_too_long_is_kept_whole_in_a_file(measured: Evaluation, dataset: Dataset, tmp_path: Path) -> None:
    references = " ".join(f"tile-{number}" for number in range(2000))
    run_id = track(replace(measured, subject_tags={"references": references}), [], {}, settings={}, registry=Registry())
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert client.get_run(run_id).data.tags["references"] == references[:5000]
    kept = json.loads(Path(client.download_artifacts(run_id, "settings.json", str(tmp_path))).read_text())
    assert kept["subject"]["references"] == references


@pytest.mark.slow
def test_winclip_runs_through_the_same_command(dataset: Dataset, tmp_path: Path) -> None:
    settings = tmp_path / "evaluate.toml"
    settings.write_text('[clip]\nclip = "miniature"\n[winclip]\nnum_references = 3\n')
    for method in ("winclip", "winclip+"):
        arguments = ["evaluate", method, dataset.uri, "--out", str(tmp_path), "--config", str(settings)]
        result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        found = {row["figure"]: row for row in pq.read_table(tmp_path / f"{method}-test.parquet").to_pylist()}
        assert found["auroc"]["class_name"] == "any"
        assert 0 < found["auroc"]["value"] < 1
    assert (tmp_path / "winclip-test.csv").read_text() != (tmp_path / "winclip+-test.csv").read_text()


def test_references_are_normal_tiles_drawn_by_seed(dataset: Dataset) -> None:
    tiles = dataset.split("test")
    first, again, other = (references_of(tiles, 5, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 5
    assert tiles.class_px_NC[first, 1:].sum() == 0
    with pytest.raises(ConfigurationError, match=r"lower \[winclip\] num_references"):
        references_of(tiles, 10_000, 0)


SMALL = """
[start]
clip = "miniature"
[anomalyclip]
input_px = 64
stages = [6]
dpam_from = 3
prompt_depth = 4
epochs = 1
[maskrcnn]
weights = "random"
input_px = 64
max_instances = 20
epochs = 1
[yolo_sam]
version = "11"
size = "n"
weights = "random"
masker = "MASKER"
input_px = 64
max_instances = 20
epochs = 1
"""
TOLD = ["any", "motor", "cable", "spray can"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("method", "classes"), [("anomalyclip", ["any"]), ("maskrcnn", TOLD), ("yolo-sam", TOLD)])
def test_a_baseline_is_trained_and_measured(
    method: str, classes: list[str], dataset: Dataset, masker: str, tmp_path: Path
) -> None:
    if method == "yolo-sam":
        pytest.importorskip("ultralytics", reason="needs the extra yolo (AGPL): pip install 'scrapray[yolo]'")
    settings, folder = tmp_path / "evaluate.toml", tmp_path / "trained"
    settings.write_text(SMALL.replace("MASKER", masker))
    run = partial(CliRunner().invoke, cli.app, catch_exceptions=False)
    trained = run(["train-baseline", method, dataset.uri, "--out", str(folder), "--config", str(settings)])
    assert trained.exit_code == 0, trained.output
    assert f"To measure it: scrapray evaluate {folder} {dataset.uri}" in trained.output
    assert sorted(path.name for path in folder.iterdir()) == ["baseline.json", "weights.safetensors"]
    measured = run(["evaluate", str(folder), dataset.uri, "--out", str(tmp_path / "results")])
    assert measured.exit_code == 0, measured.output
    rows = pq.read_table(tmp_path / "results" / f"{method}-trained-test.parquet").to_pylist()
    aurocs = {row["class_name"]: row["value"] for row in rows if row["figure"] == "auroc"}
    assert list(aurocs) == classes
    assert all(0 <= value <= 1 for value in aurocs.values())


def test_a_finished_folder_is_kept_and_no_other_training_is_taken_for_it(dataset: Dataset, tmp_path: Path) -> None:
    settings = tmp_path / "evaluate.toml"
    settings.write_text(SMALL)
    config, folder = read_settings(settings, EvaluateConfig), tmp_path / "trained"
    other = replace(config, anomalyclip=replace(config.anomalyclip, seed=1))

    def stop(done: int, total: int, loss: float) -> None:
        if done == total:
            raise KeyboardInterrupt

    twice = replace(config, anomalyclip=replace(config.anomalyclip, epochs=2))
    train = partial(train_baseline, "anomalyclip", dataset.uri, folder)
    with pytest.raises(KeyboardInterrupt):
        train(config=twice, watch=stop)
    with pytest.raises(ModelError, match=r"checkpoint\.pt is of a training with other settings or another dataset"):
        train(config=config)
    (folder / "work" / "checkpoint.pt").unlink()
    steps: list[int] = []
    card = train(config=config, watch=lambda done, total, loss: steps.append(done))
    told = len(steps)
    assert (
        train(config=config, watch=lambda done, total, loss: steps.append(done)).weights_sha256 == card.weights_sha256
    )
    assert len(steps) == told, "what is done is not done again"
    with pytest.raises(ModelError, match=r"trained holds anomalyclip, trained with other settings or on another"):
        train(config=other)


@pytest.mark.parametrize("trained_for", [None, "0" * 64])
def test_prompts_meet_only_the_clip_that_they_were_trained_for(
    trained_for: str | None, dataset: Dataset, tmp_path: Path
) -> None:
    settings = asdict(EvaluateConfig(start=StartConfig(clip="miniature")))
    known = sha256_of_file(shipped("miniature-clip") / "weights.safetensors")
    training = Training(
        method="anomalyclip",
        class_names=(),
        settings={name: settings[name] for name in ("start", "anomalyclip")},
        trained_on={"dataset_sha256": "0", "clip_sha256": trained_for or known},
    )
    folder = tmp_path / "anomalyclip"  # as the method, which it goes before
    folder.mkdir()
    save_baseline(folder, {}, training)
    find = partial(find_subject, str(folder), dataset, split="test", config=EvaluateConfig())
    if trained_for:
        with pytest.raises(ModelError, match=r"was trained for another CLIP than what miniature .* train again$"):
            find()
    else:
        assert find().tags["clip_sha256"] == known
        assert find().settings["start"]["clip"] == "miniature", "its own settings, not those of the evaluation"


def test_a_baseline_that_must_be_trained_says_how(dataset: Dataset) -> None:
    with pytest.raises(ConfigurationError, match=r"scrapray train-baseline maskrcnn .* --out FOLDER"):
        evaluate_method("maskrcnn", dataset.uri, split="test", config=EvaluateConfig())


@pytest.mark.slow
def test_a_dataset_without_contaminants_teaches_no_baseline(dataset: Dataset, tmp_path: Path) -> None:
    only_test = tmp_path / "clean"
    config = DatasetConfig(
        cameras=read_config(Path(dataset.uri).parent / "archive" / "audit.toml").cameras,
        tiles=TilesConfig(tile_px=64, overlap_px=0),
        split=SplitConfig(train=0.0, validation=0.0, test=1.0),
    )
    archive = Path(dataset.uri).parent / "archive"
    prepare_dataset("masks", str(archive), str(only_test), config=config, command="prepare")
    with pytest.raises(ConfigurationError, match=r"no training tile of .* shows a contaminant, so maskrcnn"):
        train_baseline("maskrcnn", str(only_test), tmp_path / "out", config=EvaluateConfig())
    assert not (tmp_path / "out").exists()


def entry(tile_id: str, class_HW: np.ndarray, class_id: int) -> dict[str, object]:
    """All pixels of a class in a tile as one detection."""
    packed = encode_mask(class_HW == class_id, (0, 0), class_HW.shape)
    mask = {"size": list(class_HW.shape), "counts": packed["counts"]}
    return {"image_id": tile_id, "category_id": class_id, "score": 0.9, "segmentation": mask}


def test_detections_from_a_file_are_a_method_as_any_other(dataset: Dataset, tmp_path: Path) -> None:
    """Those that are the truth reach everything, tiles without any included; those of half the classes do not."""
    tiles = dataset.split("test")
    entries = [
        entry(tiles.tile_ids[place], tiles[place][1], class_id)
        for place in range(len(tiles))
        for class_id in np.unique(tiles[place][1])[1:].tolist()
    ]
    found = {}
    for name, kept in (("right", entries), ("some", [one for one in entries if one["category_id"] != 2])):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(kept))
        subject = detections_subject(str(path), dataset, "test", DetectorConfig())
        class_ids = {name: number for number, name in enumerate(subject.class_names, start=1)}
        counted = Counter(subject.open("cpu"), tiles, class_ids).count(range(len(tiles)))
        found[name] = {class_name: counts.pixels.metrics() for class_name, counts in counted.classes.items()}
    assert found["right"]["any"].average_precision == pytest.approx(1)
    assert found["right"]["cable"].average_precision == pytest.approx(1)
    assert found["some"]["motor"].average_precision == pytest.approx(1)
    assert found["some"]["cable"].auroc == pytest.approx(0.5)


def test_detections_of_another_split_are_refused_and_none_at_all_are_not(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text(json.dumps([entry(dataset.split("test").tile_ids[0], np.ones((64, 64), np.uint8), 1)]))
    with pytest.raises(SchemaError, match=r"none of its 1 tiles is in the train split of .*; give --split"):
        detections_subject(str(path), dataset, "train", DetectorConfig())
    path.write_text("[]")
    assert detections_subject(str(path), dataset, "train", DetectorConfig()).name == "found"


def test_detections_of_another_dataset_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text(json.dumps([entry("elsewhere", np.ones((64, 64), np.uint8), 1)]))
    with pytest.raises(
        SchemaError, match=r"1 of 1 image_id are no tile_id of .*, such as elsewhere; write the tile_id"
    ):
        evaluate_method(str(path), dataset.uri, split="test", config=EvaluateConfig())
