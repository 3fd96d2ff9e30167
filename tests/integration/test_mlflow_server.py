"""A real MLflow server with users and artifacts on S3: what works on a file works there; and when it stops."""

import logging

import pytest

from scrapray.audit.model import find_model
from scrapray.errors import RegistryError
from scrapray.registry import Registry
from scrapray.storage import Storage, join
from tests.fixtures.tracking import PASSWORD, USER, make_bundle, signed_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def registry(mlflow_server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Registry(journals=tmp_path / "journals")


def history(mlflow_server, run_id, name):
    """What the server itself has of a metric."""
    from mlflow import MlflowClient

    return [(each.step, each.value) for each in MlflowClient(mlflow_server.uri).get_metric_history(run_id, name)]


def artifacts(s3, run_id):
    """Names of a run's artifacts in the bucket, read with no code of ours."""
    return sorted(
        path.partition(f"{run_id}/artifacts/")[2] for path in s3.filesystem().find("mlflow") if run_id in path
    )


def test_a_run_a_promotion_and_an_audit_from_a_clean_cache(registry, mlflow_server, s3, tiny_bundle, tmp_path):
    with registry.start_run("first") as run:
        run.log_settings({"lr": 1e-5}, dataset_card={"num_tiles": 7, "dataset_sha256": "d" * 64})
        run.log_metrics(1, {"loss": 0.5})
        version = run.register_bundle(make_bundle(tmp_path / "one", tiny_bundle))
    assert history(mlflow_server, run.run_id, "loss") == [(1, 0.5)]
    assert artifacts(s3, run.run_id) == [
        "dataset_card.json",
        "model/MLmodel",
        "model/bundle/card.json",
        "model/bundle/test_statistics.parquet",
        "model/bundle/weights.safetensors",
        "settings.json",
    ]
    registry.promote(version, comparison=registry.compare_with_champion(version))

    lake = join(s3.make_bucket("lake-of-champions"), "lake")
    found = find_model("models:/scrap-segmenter@champion", Storage(s3.config), lake)
    assert (found.uri, found.card.weights_sha256) == (version.uri, version.weights_sha256)
    assert found.bundle_uri == f"{lake}/_models/{version.bundle_sha256}"
    s3.remove_bucket("lake-of-champions")


@pytest.mark.parametrize(("user", "password"), [(USER, "hunter2"), ("nobody", PASSWORD)])
def test_a_wrong_user_or_password_is_one_line_without_it(registry, user, password):
    with signed_in(user, password), pytest.raises(RegistryError) as caught:
        registry.list_versions()
    assert "does not know this user or password" in str(caught.value)
    assert password not in str(caught.value)


def test_a_path_that_leads_nowhere_on_the_server_is_named(mlflow_server):
    with pytest.raises(RegistryError, match="no MLflow server; correct MLFLOW_TRACKING_URI"):
        Registry(f"{mlflow_server.uri}/elsewhere").list_versions()


@pytest.mark.parametrize("uri", ["models:/scrap-segmenter@nobody", "models:/scrap-segmenter/99", "models:/other/1"])
def test_an_unknown_alias_version_or_model_is_one_line(registry, uri):
    with pytest.raises(RegistryError, match="not found; scrapray models list shows what there is") as caught:
        registry.resolve(uri)
    assert "\n" not in str(caught.value)


def test_a_server_that_stops_in_mid_run_stops_no_training_and_is_told_all_when_it_is_back(
    registry, mlflow_server, s3, tiny_bundle, tmp_path, caplog, monkeypatch
):
    caplog.set_level(logging.WARNING, logger="scrapray")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    bundle = make_bundle(tmp_path / "two", tiny_bundle, separation=3.0)
    with registry.start_run("second") as run:
        run.log_metrics(1, {"loss": 0.5})
        mlflow_server.stop()
        for step in range(2, 50):
            run.log_metrics(step, {"loss": 1 / step})
        (tmp_path / "curve.svg").write_text("<svg/>")
        run.log_file(tmp_path / "curve.svg")
        (tmp_path / "curve.svg").unlink()
        assert run.register_bundle(bundle) is None
    first, last = caplog.messages
    assert "does not answer" in first
    assert "Work goes on" in first
    assert f"51 entries of run {run.run_id} wait in {tmp_path}/journals/{run.run_id}" in last
    assert not any(PASSWORD in message for message in caplog.messages)
    with pytest.raises(RegistryError, match="does not answer"), registry.start_run("third"):
        pytest.fail("a run began without a server")

    mlflow_server.start()
    assert registry.send_journals() == 0
    assert [path for path in (tmp_path / "journals").iterdir() if path.is_dir()] == []
    assert history(mlflow_server, run.run_id, "loss") == [(1, 0.5), *((step, 1 / step) for step in range(2, 50))]
    assert "curve.svg" in artifacts(s3, run.run_id)
    candidate = registry.show("candidate")
    assert (candidate.run_id, candidate.tags["classes"]) == (run.run_id, "motor, cable, spray can")
    assert registry.compare_with_champion(candidate).is_accepted


def test_a_run_sends_what_waits_as_soon_as_the_server_answers_again(registry, mlflow_server, monkeypatch):
    monkeypatch.setattr("scrapray.registry.runs._ASK_AGAIN_AFTER_S", 0.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with registry.start_run("fourth") as run:
        mlflow_server.stop()
        run.log_metrics(1, {"loss": 0.5})
        mlflow_server.start()
        run.log_metrics(2, {"loss": 0.25})
        assert history(mlflow_server, run.run_id, "loss") == [(1, 0.5), (2, 0.25)]
