"""Runs, versions and aliases in a registry that is a file in the working folder; and the commands for them."""

import json
import re
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pytest
from typer.testing import CliRunner

from scrapray import cli
from scrapray.audit.model import find_model
from scrapray.errors import ModelError, RegistryError
from scrapray.registry import CANDIDATE, CHAMPION, Registry
from scrapray.registry.journal import Journal
from scrapray.segmenter.bundle import CARD, load_bundle, read_card
from scrapray.storage import Storage, join
from tests.fixtures.tracking import make_bundle

pytestmark = pytest.mark.usefixtures("registry_folder")


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def add(registry, tiny_bundle, tmp_path):
    """Registers a bundle, see ``make_bundle``."""

    def register(name, **changes):
        with registry.start_run(name) as run:
            return run.register_bundle(make_bundle(tmp_path / name, tiny_bundle, **changes))

    return register


def invoke(*arguments):
    return CliRunner().invoke(cli.app, ["models", *arguments], terminal_width=100)


def damage(path):
    with path.open("ab") as file:
        file.write(b"x")


def test_a_run_keeps_figures_settings_dataset_and_files(registry, tmp_path):
    (tmp_path / "curve.svg").write_text("<svg/>")
    settings = {"optim": {"lr": 1e-5, "betas": (0.9, 0.99)}, "profile": "paper", "long": ["x" * 100] * 100}
    with registry.start_run("first") as run:
        run.log_settings(settings, dataset_card={"num_tiles": 7, "dataset_sha256": "d" * 64})
        for step, loss in enumerate((0.5, 0.25)):
            run.log_metrics(step, {"train/loss": loss})
        run.log_file(tmp_path / "curve.svg", "curves")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    found = client.get_run(run.run_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "first")
    assert [(each.step, each.value) for each in client.get_metric_history(run.run_id, "train/loss")] == [
        (0, 0.5),
        (1, 0.25),
    ]
    assert {name: found.data.params[name] for name in ("optim.lr", "optim.betas", "profile")} == {
        "optim.lr": "1e-05",
        "optim.betas": "[0.9, 0.99]",
        "profile": "paper",
    }
    assert found.data.tags["code_version"]
    assert found.data.tags["dataset_sha256"] == "d" * 64
    artifacts = tmp_path / "mlartifacts" / run.run_id / "artifacts"
    assert json.loads((artifacts / "settings.json").read_text())["long"] == settings["long"]
    assert json.loads((artifacts / "dataset_card.json").read_text())["num_tiles"] == 7
    assert (artifacts / "curves" / "curve.svg").read_text() == "<svg/>"


def test_more_settings_than_fit_one_call_are_all_kept(registry, tmp_path):
    with registry.start_run("many") as run:
        run.log_settings({f"key{number}": number for number in range(250)}, dataset_card={"dataset_sha256": "d" * 64})
    params = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(run.run_id).data.params
    assert params == {f"key{number}": str(number) for number in range(250)}


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_that_breaks_off_says_how(registry, tmp_path, error, status):
    with pytest.raises(error), registry.start_run("broken") as run:
        raise error
    assert mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(run.run_id).info.status == status


def test_a_run_goes_on_after_its_driver_was_killed(registry, tmp_path):
    with registry.start_run("long") as run:
        run.log_metrics(1, {"loss": 0.5})
    with registry.start_run("long", run_id=run.run_id) as again:
        again.log_metrics(2, {"loss": 0.4})
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        assert client.get_run(run.run_id).info.status == "RUNNING"
    assert [each.step for each in client.get_metric_history(run.run_id, "loss")] == [1, 2]


def test_figures_of_classes_with_slashes_and_dots_are_all_kept(registry, tmp_path, caplog):
    with registry.start_run("slashes") as run:
        run.log_metrics(0, {f"{name}/auroc": 0.5 for name in ("motor/", "a//b", "a/../b", "a/.", "a/b")})
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    expected = {"motor/:/auroc", "a/:/b/auroc", "a/:../b/auroc", "a/:./auroc", "a/b/auroc"}
    assert set(client.get_run(run.run_id).data.metrics) == expected
    assert caplog.messages == []


def test_what_the_registry_refuses_is_kept_and_said_and_stops_nothing(registry, tmp_path, caplog):
    with registry.start_run("odd") as run:
        run.log_metrics(1, {"a name with a comma, which MLflow refuses": 1.0, "loss": 0.5})
        run.log_metrics(2, {"loss": 0.25})
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert client.get_metric_history(run.run_id, "loss")[-1].step == 2
    assert "1 entries of run" in caplog.messages[-1]
    assert "with a comma" in (tmp_path / "mlflow-journal" / run.run_id / "calls.jsonl").read_text()


def test_what_can_neither_be_sent_nor_kept_stops_nothing_and_is_said(tmp_path, caplog):
    (tmp_path / "no folder").touch()
    run = Registry("http://127.0.0.1:9", journals=tmp_path / "no folder")._run("abc")
    run.log_metrics(1, {"loss": 0.5})
    assert "metrics of run abc can neither be sent nor kept in" in caplog.text
    assert "is lost" in caplog.text


def test_figures_that_waited_are_sent_together_and_none_waits_for_one_that_is_refused(registry, tmp_path):
    with registry.start_run("late") as run:
        pass
    journal = Journal(tmp_path / "mlflow-journal" / run.run_id)
    for step in range(1, 2101):
        journal.keep({"call": "metrics", "figures": [["loss" if step != 2000 else "a,b", 1 / step, step, step]]})
    assert registry.send_journals() == 1
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    steps = [each.step for each in client.get_metric_history(run.run_id, "loss")]
    assert steps == [step for step in range(1, 2101) if step != 2000]
    assert [call["figures"][0][0] for call in journal.calls()] == ["a,b"]


def test_a_kept_bundle_that_is_damaged_holds_nothing_up(registry, tmp_path, tiny_bundle, caplog):
    with registry.start_run("first") as run:
        pass
    journal = Journal(tmp_path / "mlflow-journal" / run.run_id)
    journal.keep({"call": "bundle", "path": str(tiny_bundle), "values": {}})
    (kept,) = journal.calls()
    (Path(kept["path"]) / "card.json").unlink()
    journal.keep({"call": "metrics", "figures": [["loss", 0.5, 1, 1]]})
    with registry.start_run("second"):
        pass
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert [each.value for each in client.get_metric_history(run.run_id, "loss")] == [0.5]
    assert "cannot log bundle" in caplog.text and "card.json" in caplog.text
    assert [call["call"] for call in journal.calls()] == ["bundle"]


def test_a_bundle_becomes_a_version_with_card_signature_and_tags(registry, add, tiny_bundle):
    version = add("one")
    card = read_card(tiny_bundle)
    assert (version.version, version.aliases, version.uri) == (1, (CANDIDATE,), "models:/scrap-segmenter/1")
    assert version.weights_sha256 == card.weights_sha256
    assert version.tags["classes"] == "motor, cable, spray can"
    figures = json.loads(version.tags["metrics"])
    assert figures == {"ap": 0.25, "average_precision": 0.5}, "those of any contaminant on the test split"
    assert version.tags["test_split_sha256"] == "a" * 64
    assert '"definition": "electric motor' in version.description
    assert registry.list_versions() == [registry.show("1")] == [registry.show(CANDIDATE)]


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_mlflow_alone_loads_a_version_and_gets_the_scores_of_the_bundle(add, tmp_path, monkeypatch, tiny_bundle):
    version = add("one")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    model = mlflow.pyfunc.load_model(version.uri)
    for num_tiles in (1, 3):
        tiles_NHW3 = np.random.default_rng(0).integers(0, 255, (num_tiles, 64, 64, 3), np.uint8)
        expected = load_bundle(tiny_bundle).score_tiles(tiles_NHW3, out_px=64)
        np.testing.assert_array_equal(model.predict(tiles_NHW3), expected)
    with pytest.raises(mlflow.exceptions.MlflowException, match="schema"):
        model.predict(tiles_NHW3.astype(np.float64))


def test_a_damaged_bundle_is_not_registered(registry, tiny_bundle, tmp_path):
    folder = make_bundle(tmp_path / "one", tiny_bundle)
    damage(folder / "weights.safetensors")
    with pytest.raises(ModelError, match="sha256"), registry.start_run("one") as run:
        run.register_bundle(folder)
    assert registry.list_versions() == []


def test_a_bundle_that_is_registered_twice_by_one_run_is_one_version(registry, tiny_bundle, tmp_path):
    folder = make_bundle(tmp_path / "one", tiny_bundle)
    with registry.start_run("one") as run:
        assert run.register_bundle(folder).version == run.register_bundle(folder).version == 1
    assert len(registry.list_versions()) == 1


def test_an_alias_is_resolved_to_the_version_it_names_now(registry, add):
    one, two = add("one"), add("two", separation=3.0)
    registry.promote(one, comparison=None)
    assert registry.resolve("models:/scrap-segmenter@champion").uri == "models:/scrap-segmenter/1"
    registry.promote(two, comparison=registry.compare_with_champion(two))
    assert registry.resolve("models:/scrap-segmenter@champion").uri == "models:/scrap-segmenter/2"
    assert registry.resolve("models:/scrap-segmenter/1").tags["promoted_utc"]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("models:/scrap-segmenter@nobody", "alias nobody not found; scrapray models list shows what there is"),
        ("models:/scrap-segmenter/9", "version=9) not found; scrapray models list"),
        ("models:/other@champion", "name=other not found; scrapray models list"),
        ("models:/scrap-segmenter", "give models:/scrap-segmenter@champion or models:/scrap-segmenter/3"),
    ],
)
def test_what_is_not_registered_is_one_line(registry, add, uri, words):
    add("one")
    with pytest.raises(RegistryError) as caught:
        registry.resolve(uri)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_download_is_cached_by_hash_and_leaves_nothing_half_done(registry, add, tmp_path):
    version = add("one")
    cache = tmp_path / "bundles"
    folder = registry.download(version, cache)
    assert folder == cache / version.bundle_sha256
    assert load_bundle(folder).card.weights_sha256 == version.weights_sha256
    shutil.rmtree(tmp_path / "mlartifacts")
    assert registry.download(version, cache) == folder
    assert list(cache.iterdir()) == [folder]


def test_a_version_whose_weights_are_damaged_does_not_get_into_the_cache(registry, add, tmp_path):
    version = add("one")
    (weights,) = (tmp_path / "mlartifacts").rglob("*.safetensors")
    damage(weights)
    with pytest.raises(ModelError, match="sha256"):
        registry.download(version, tmp_path / "bundles")
    assert list((tmp_path / "bundles").iterdir()) == []


def test_a_cache_that_cannot_be_made_is_one_line(registry, add, tmp_path):
    version = add("one")
    (tmp_path / "bundles").write_text("a file stands in the way")
    with pytest.raises(RegistryError, match=r"cannot keep models:/scrap-segmenter/1 in .*bundles"):
        registry.download(version, tmp_path / "bundles")


def test_versions_with_the_same_weights_and_other_thresholds_are_kept_apart(registry, add, tmp_path):
    folders = [registry.download(add(f"at-{at}", threshold=at), tmp_path / "bundles") for at in (0.25, 0.75)]
    assert [read_card(folder).thresholds[0] for folder in folders] == [0.25, 0.75]


def test_a_worse_version_is_refused_with_numbers_unless_somebody_says_why(registry, add):
    registry.promote(add("good", separation=3.0), comparison=None)
    worse = add("worse", separation=1.0)
    comparison = registry.compare_with_champion(worse)
    with pytest.raises(
        RegistryError, match=r"version 2 does not replace champion 1: average precision 0\.\d+ is lower"
    ):
        registry.promote(worse, comparison=comparison)
    assert registry.champion().version == 1
    assert registry.promote(worse, comparison=comparison, force_reason="the yard has changed").version == 1
    now = registry.champion()
    assert (now.version, now.tags["forced_because"]) == (2, "the yard has changed")
    assert now.tags["forced_against"].startswith("average precision 0.")


def test_a_promotion_notes_what_it_was_compared_with_and_the_candidate_waits_no_more(registry, add):
    registry.promote(add("one"), comparison=None)
    two = add("two", separation=3.0)
    registry.promote(two, comparison=registry.compare_with_champion(two))
    now = registry.show("2")
    assert now.aliases == (CHAMPION,)
    assert re.fullmatch(r"AP 0\.\d{4}, that of version 1 0\.\d{4}", now.tags["compared"])


def test_a_version_is_not_promoted_over_a_champion_without_a_comparison(registry, add):
    one = add("one")
    registry.promote(one, comparison=None)
    with pytest.raises(RegistryError, match="is the champion already"):
        registry.promote(one, comparison=None)
    with pytest.raises(RegistryError, match="was not compared"):
        registry.promote(add("two"), comparison=None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": "b" * 64}, "the test splits differ .* with --dataset"),
        ({"separation": None}, "version 2 was registered without test_statistics.parquet .* with --dataset"),
    ],
)
def test_versions_that_were_not_measured_alike_are_not_compared(registry, add, changes, words):
    one, two = add("one"), add("two", **changes)
    with pytest.raises(RegistryError, match=words):
        registry.compare(two, one)


def test_rollback_goes_back_step_by_step(registry, add):
    for name in ("one", "two", "three"):
        registry.promote(add(name), comparison=None, force_reason="a test")
    assert [registry.rollback().version, registry.rollback().version] == [2, 1]
    with pytest.raises(RegistryError, match="has no former champion"):
        registry.rollback()
    assert registry.champion().version == 1


def test_an_audit_gets_the_version_behind_the_alias_from_a_copy_in_the_lake(registry, add, tmp_path):
    version = add("one")
    registry.promote(version, comparison=None)
    lake = str(tmp_path / "lake")
    found = find_model("models:/scrap-segmenter@champion", Storage(), lake)
    assert (found.uri, found.name, found.version) == ("models:/scrap-segmenter/1", "scrap-segmenter", "1")
    assert found.bundle_uri == join(lake, "_models", version.bundle_sha256)
    assert found.card.weights_sha256 == version.weights_sha256
    shutil.rmtree(tmp_path / "mlartifacts")
    shutil.rmtree(tmp_path / "cache")
    assert find_model("models:/scrap-segmenter/1", Storage(), lake) == found


def test_a_copy_in_the_lake_that_somebody_changed_stops_the_audit(registry, add, tmp_path):
    version = add("one")
    found = find_model(version.uri, Storage(), str(tmp_path / "lake"))
    path = tmp_path / "lake" / "_models" / version.bundle_sha256 / CARD
    text = path.read_text().replace('"threshold": 0.5', '"threshold": 0.9')
    path.unlink()
    path.write_text(text)
    with pytest.raises(ModelError, match="another bundle than its name says"):
        find_model(version.uri, Storage(), str(tmp_path / "lake"))
    assert found.bundle_uri == str(path.parent)


def test_without_a_lake_a_model_comes_from_the_cache_of_this_machine(registry, add, tmp_path):
    version = add("one")
    found = find_model(version.uri, Storage())
    assert found.bundle_uri == str(tmp_path / "cache" / "scrapray" / "models" / version.bundle_sha256)


def test_the_commands_list_show_compare_promote_and_roll_back(add):
    add("one")
    assert invoke("promote", "1").stdout == "models:/scrap-segmenter/1 is the champion\n"
    add("two", separation=3.0)
    assert re.search(r"2 +candidate(.|\n)+1 +champion", invoke("list").stdout)
    shown = invoke("show", "candidate").stdout
    assert "models:/scrap-segmenter/2" in shown
    assert "test_split_sha256" in shown
    compared = invoke("compare", "candidate", "champion")
    assert compared.exit_code == 0
    assert "nothing speaks against the candidate" in compared.stdout
    promoted = invoke("promote", "candidate")
    assert promoted.stdout == "models:/scrap-segmenter/2 is the champion, before it models:/scrap-segmenter/1\n"
    assert invoke("rollback").stdout == "models:/scrap-segmenter/1 is the champion again\n"


def test_a_refused_promotion_is_one_line_and_exit_code_2(add):
    add("one", separation=3.0)
    invoke("promote", "1")
    add("two", separation=1.0)
    compared = invoke("compare", "2", "1")
    assert compared.exit_code == 1
    assert "average precision" in compared.stdout
    refused = invoke("promote", "2")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "version 2 does not replace champion 1" in refused.stderr
    assert invoke("promote", "2", "--force", "a drill").exit_code == 0
    assert "average precision" in Registry().show("2").tags["forced_against"]


def test_a_registry_without_versions_says_so(registry):
    assert "no version is registered yet" in invoke("list").stdout
    assert invoke("rollback").exit_code == 2
