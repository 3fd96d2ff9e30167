"""Three hosts, one of which loses its network in mid-run: an audit and a training end complete and correct."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scrapray.config import ResourcesConfig
from scrapray.segmenter.bundle import read_card
from tests.fixtures.hosts import CPUS_PER_HOST, Hosts
from tests.fixtures.pictures import TINY_CLIP
from tests.integration.nights import CONFIG, manifest_of, noise_jpeg, results_in
from tests.integration.test_train import SETTINGS, make_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NUM_FRAMES = 40
DONE_AT_CUT = 6
NUM_EPOCHS = 12
ENDS_WITHIN_S = 240
"""From the cut on; Ray calls a host dead after some 27 s, and what ran there begins anew."""
CLUSTER_CONFIG = replace(
    CONFIG, resources=ResourcesConfig(actors=2, frames_per_block=2, cpus_per_actor=1, download_tasks=1)
)


def segment(folder: str, work: str, bundle: str) -> None:
    """What the driver does."""
    from scrapray.audit.pipeline import segment_frames
    from scrapray.storage import Storage

    segment_frames(
        manifest_of([str(Path(folder) / f"{number:03}.jpg") for number in range(NUM_FRAMES)]),
        work,
        storage=Storage(),
        bundle_uri=bundle,
        card=read_card(Path(bundle)),
        config=CLUSTER_CONFIG,
    )


def run_and_cut(hosts: Hosts, code: str, is_time: Callable[[], bool], log: Path) -> float:
    """Run a driver on the head, cut one host off when it is time; seconds from the cut to the end."""
    with log.open("wb") as file:
        driver = subprocess.Popen(
            hosts.command(0, code), env=hosts.environment, stdout=file, stderr=file, cwd=log.parent
        )
    while not is_time():
        assert driver.poll() is None, f"it ended before the cut: {log.read_text()[-3000:]}"
        time.sleep(0.1)
    hosts.cut_off(2)
    cut_s = time.monotonic()
    try:
        assert driver.wait(timeout=ENDS_WITHIN_S) == 0, log.read_text()[-3000:]
    finally:
        driver.kill()
    return time.monotonic() - cut_s


def test_an_audit_ends_as_if_no_host_had_been_lost(hosts: Hosts, tmp_path: Path, tiny_bundle: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for number in range(NUM_FRAMES):
        (archive / f"{number:03}.jpg").write_bytes(noise_jpeg(number, 900, 1200))
    work = tmp_path / "cut"
    call = f"segment({str(archive)!r}, {{!r}}, {str(tiny_bundle)!r})"
    code = f"from tests.integration.test_cut_off_host import segment; {call}"

    seconds = run_and_cut(
        hosts,
        code.format(str(work)),
        lambda: len(list((work / "results").glob("*.parquet"))) >= DONE_AT_CUT // 2,
        tmp_path / "driver.log",
    )

    print(f"\nthe audit ended {seconds:.0f} s after the cut")
    whole = tmp_path / "whole"
    subprocess.run(hosts.command(0, code.format(str(whole))), env=hosts.environment, check=True, timeout=300)
    assert results_in(work).num_rows == NUM_FRAMES
    assert results_in(work).equals(results_in(whole)), "the second ran on the hosts that are left"


@pytest.mark.usefixtures("engine")
def test_a_training_goes_on_with_the_hosts_that_are_left(hosts: Hosts, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "annotated")
    (tmp_path / "tiny.json").write_text(json.dumps(TINY_CLIP))
    settings = tmp_path / "finetune.toml"
    text = SETTINGS.format(clip=tmp_path / "tiny.json").replace("epochs = 2", f"epochs = {NUM_EPOCHS}")
    text = text.replace("cpus_per_worker = 1", f"cpus_per_worker = {CPUS_PER_HOST // 2 + 1}")  # so one on each host
    settings.write_text(text.replace("loaders = 0", "loaders = 0\nmin = 1\nmax = 2\nmax_failures = 5"))
    runs = tmp_path / "runs"
    code = (
        "from pathlib import Path\n"
        "from scrapray.training.produce import train_model\n"
        "from scrapray.training.profiles import read_finetune\n"
        f"train_model({str(dataset)!r}, {str(runs)!r}, config=read_finetune(Path({str(settings)!r})))"
    )

    seconds = run_and_cut(hosts, code, lambda: len(list(runs.glob("*/checkpoint_*"))) >= 2, tmp_path / "driver.log")

    print(f"\nthe training ended {seconds:.0f} s after the cut")
    result = json.loads(next(runs.glob("*/result.json")).read_text())
    assert result["model_uri"] == "models:/scrap-segmenter/1"
    curves = [json.loads(path.read_text()) for path in runs.glob("*/checkpoint_*/curve.json")]
    curve = max(curves, key=lambda lines: lines[-1]["step"])
    validated = [line["step"] for line in curve if "validation/any/average_precision" in line]
    epoch_ends = [result["num_steps"] * epoch // NUM_EPOCHS for epoch in range(1, NUM_EPOCHS + 1)]
    assert validated == epoch_ends, "each epoch once, the one that was torn too"
    assert result["steps"] in epoch_ends
