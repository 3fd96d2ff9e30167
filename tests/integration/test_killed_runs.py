"""``kill -9`` in mid-run, of the driver and of an actor: the next run, or the same, ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pytest

from scrapray.audit.ledger import Ledger
from scrapray.audit.pipeline import SegmentSummary, segment_frames
from scrapray.config import ResourcesConfig
from scrapray.segmenter.bundle import read_card
from scrapray.storage import Storage
from tests.integration.nights import CONFIG, manifest_of, noise_jpeg, results_in

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.timeout(600)]

NUM_FRAMES = 10
FINISHED_AT_KILL = 4
SLOW_CONFIG = replace(CONFIG, resources=ResourcesConfig(frames_per_block=2, cpus_per_actor=1, download_tasks=1))


def segment(folder: Path, work: str, bundle: Path) -> SegmentSummary:
    return segment_frames(
        night_in(folder),
        str(folder / work),
        storage=Storage(),
        bundle_uri=str(bundle),
        card=read_card(bundle),
        config=SLOW_CONFIG,
    )


def night_in(folder: Path) -> pa.Table:
    return manifest_of([str(folder / "archive" / f"{number:03}.jpg") for number in range(NUM_FRAMES)])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> tuple[Path, pa.Table]:
    """An archive of frames large enough to take a moment each, and the rows that a run makes of it."""
    folder = tmp_path_factory.mktemp("night")
    (folder / "archive").mkdir()
    for number in range(NUM_FRAMES):
        (folder / "archive" / f"{number:03}.jpg").write_bytes(noise_jpeg(number, 450, 600))
    segment(folder, "whole", tiny_bundle)
    return folder, results_in(folder / "whole")


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.glob("*.parquet")}


@pytest.mark.slow
def test_a_killed_driver_leaves_finished_frames_to_the_next_run(
    uninterrupted: tuple[Path, pa.Table], tiny_bundle: Path
) -> None:
    folder, expected = uninterrupted
    work = folder / "driver-killed"
    code = (
        "from pathlib import Path; from tests.integration.test_killed_runs import segment; "
        f"segment(Path({str(folder)!r}), {work.name!r}, Path({str(tiny_bundle)!r}))"
    )
    # In a session of its own, so that whatever it leaves behind could be told from ours.
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], start_new_session=True)
    ledger = Ledger(str(work / "checkpoint"), Storage(), night_in(folder)["frame_id"])
    try:
        while ledger.num_done() < FINISHED_AT_KILL:
            assert driver.poll() is None, "the run ended before it could be killed"
            time.sleep(0.05)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait(timeout=30)
    _wait_until_nobody_writes(work)
    kept = files_in(work / "checkpoint")
    num_done = ledger.num_done()
    assert FINISHED_AT_KILL <= num_done < NUM_FRAMES, "killed too late to prove anything"

    summary = segment(folder, work.name, tiny_bundle)

    assert (summary.num_total, summary.num_done_before) == (NUM_FRAMES, num_done)
    assert results_in(work).equals(expected)
    committed = {name: facts for name, facts in kept.items() if ".pending." not in name}
    assert committed.items() <= files_in(work / "checkpoint").items()


@pytest.mark.slow
def test_a_killed_actor_is_replaced_and_the_run_ends_with_the_same_rows(
    uninterrupted: tuple[Path, pa.Table], tiny_bundle: Path
) -> None:
    folder, expected = uninterrupted
    work = folder / "actor-killed"
    killed: list[int] = []

    def kill_when_some_are_done() -> None:
        ledger = Ledger(str(work / "checkpoint"), Storage(), night_in(folder)["frame_id"])
        while ledger.num_done() < FINISHED_AT_KILL:
            time.sleep(0.05)
        killed.extend(_actors())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    thread = Thread(target=kill_when_some_are_done, daemon=True)
    thread.start()
    summary = segment(folder, work.name, tiny_bundle)
    thread.join(timeout=10)

    assert len(killed) == 1, "no actor was there to kill"
    assert summary.num_done_before == 0
    assert results_in(work).equals(expected)


def _actors() -> list[int]:
    """Processes of segmenting actors that descend from this one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        pid = int(stat.parent.name)
        if _command(pid).startswith("ray::MapWorker(MapBatches(Segment))") and os.getpid() in _ancestors(pid):
            found.append(pid)
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _ancestors(pid: int) -> list[int]:
    pids = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        pids.append(pid)
    return pids


def _wait_until_nobody_writes(work: Path) -> None:
    """Workers notice within seconds that their driver is gone."""
    before, now = None, files_in(work / "checkpoint")
    while before != now:
        time.sleep(3)
        before, now = now, files_in(work / "checkpoint")
