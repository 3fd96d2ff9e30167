"""What a training says before it begins."""

import logging
from dataclasses import replace

import pytest

from scrapray.training import produce
from scrapray.training.config import FinetuneConfig


@pytest.mark.parametrize(
    ("workers", "threads", "gpus", "address", "is_told"),
    [
        pytest.param(2, 2, 0.0, "", True, id="more threads than cores"),
        pytest.param(2, 1, 0.0, "", False, id="a core for each"),
        pytest.param(1, 4, 0.0, "", False, id="one worker waits for none"),
        pytest.param(2, 4, 1.0, "", False, id="threads of a GPU worker hardly compute"),
        pytest.param(2, 2, 0.0, "ray-head:6379", False, id="the cores of a cluster are elsewhere"),
    ],
)
def test_workers_that_would_wait_for_each_other_are_told_of(
    workers: int,
    threads: int,
    gpus: float,
    address: str,
    is_told: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(produce, "num_cores", lambda: 2)
    monkeypatch.setattr(produce, "join_ray", lambda **asked: asked)
    config = FinetuneConfig()
    config = replace(
        config,
        workers=replace(config.workers, min=1, max=workers, cpus_per_worker=threads, gpus_per_worker=gpus),
    )
    with caplog.at_level(logging.WARNING, "scrapray"):
        produce._join_cluster(config)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("scrapray")]
    assert (told != []) is is_told
    if is_told:
        assert "2 workers with 2 threads each on 2 cores" in told[0] and "cpus_per_worker" in told[0]
