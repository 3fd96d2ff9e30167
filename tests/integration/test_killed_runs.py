"""``kill -9`` in mid-run, of the driver and of an actor: the next run, or the same, ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pyarrow.parquet as pq
import pytest

from scrapray import schema
from scrapray.audit.ledger import Ledger
from scrapray.audit.manifest import index_archive, read_manifest
from scrapray.audit.nightly import AuditSummary, run_audit
from scrapray.config import ResourcesConfig
from scrapray.storage import Storage
from tests.integration.nights import CONFIG, write_load

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.timeout(600)]

NUM_FRAMES = 10
FINISHED_AT_KILL = 4
SLOW_CONFIG = replace(CONFIG, resources=ResourcesConfig(frames_per_block=2, cpus_per_actor=1, download_tasks=1))


def audit(folder: Path, lake: str, bundle: Path) -> AuditSummary:
    return run_audit(str(folder / "manifest"), str(folder / lake), str(bundle), config=SLOW_CONFIG)


def published(lake: Path) -> dict[str, bytes]:
    """All files that an analyst reads, but for the table that says when a run was."""
    folders = [lake / name for name in schema.PUBLISHED if name != "runs"]
    return {str(path.relative_to(lake)): path.read_bytes() for folder in folders for path in folder.rglob("*.parquet")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> tuple[Path, dict[str, bytes]]:
    """A load of frames large enough to take a moment each, indexed, and the tables that an audit makes of it."""
    folder = tmp_path_factory.mktemp("night")
    write_load(str(folder / "archive"), Storage(), NUM_FRAMES, 450, 600)
    index_archive(str(folder / "archive"), str(folder / "manifest"), storage=Storage(), archive=SLOW_CONFIG.archive)
    audit(folder, "whole", tiny_bundle)
    expected = published(folder / "whole")
    assert len(expected) == len(schema.PUBLISHED) - 1
    assert pq.read_table(next((folder / "whole" / "detections").rglob("*.parquet"))).num_rows, (
        "tables that prove little"
    )
    return folder, expected


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.glob("*.parquet")}


def ledger_of(folder: Path, lake: str, driver: subprocess.Popen[bytes] | None = None) -> Ledger:
    """What is done of an audit that has begun; its work folder is not there at once."""
    manifest = read_manifest(str(folder / "manifest"), Storage())
    while not (works := list((folder / lake / "_work").glob("*"))):
        assert driver is None or driver.poll() is None, "the run ended before its work folder was there"
        time.sleep(0.05)
    return Ledger(str(works[0] / "checkpoint"), Storage(), manifest["frame_id"])


def test_a_killed_driver_leaves_finished_frames_to_the_next_run(
    uninterrupted: tuple[Path, dict[str, bytes]], tiny_bundle: Path
) -> None:
    folder, expected = uninterrupted
    lake = folder / "driver-killed"
    code = (
        "from pathlib import Path; from tests.integration.test_killed_runs import audit; "
        f"audit(Path({str(folder)!r}), {lake.name!r}, Path({str(tiny_bundle)!r}))"
    )
    # In a session of its own, so that whatever it leaves behind could be told from ours.
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], start_new_session=True)
    try:
        ledger = ledger_of(folder, lake.name, driver)
        while ledger.num_done() < FINISHED_AT_KILL:
            assert driver.poll() is None, "the run ended before it could be killed"
            time.sleep(0.05)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait(timeout=30)
    (checkpoint,) = lake.glob("_work/*/checkpoint")
    _wait_until_nobody_writes(checkpoint)
    kept = files_in(checkpoint)
    num_done = ledger.num_done()
    assert FINISHED_AT_KILL <= num_done < NUM_FRAMES, "killed too late to prove anything"
    assert not published(lake)

    summary = audit(folder, lake.name, tiny_bundle)

    assert (summary.num_frames, summary.num_computed) == (NUM_FRAMES, NUM_FRAMES - num_done)
    assert published(lake) == expected
    committed = {name: facts for name, facts in kept.items() if ".pending." not in name}
    assert committed.items() <= files_in(checkpoint).items()


@pytest.mark.slow
def test_a_killed_actor_is_replaced_and_the_run_ends_with_the_same_tables(
    uninterrupted: tuple[Path, dict[str, bytes]], tiny_bundle: Path
) -> None:
    folder, expected = uninterrupted
    lake = folder / "actor-killed"
    killed: list[int] = []

    def kill_when_some_are_done() -> None:
        ledger = ledger_of(folder, lake.name)
        while ledger.num_done() < FINISHED_AT_KILL:
            time.sleep(0.05)
        killed.extend(_actors())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    thread = Thread(target=kill_when_some_are_done, daemon=True)
    thread.start()
    summary = audit(folder, lake.name, tiny_bundle)
    thread.join(timeout=10)

    assert len(killed) == 1, "no actor was there to kill"
    assert summary.num_computed == NUM_FRAMES
    assert published(lake) == expected


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


def _wait_until_nobody_writes(checkpoint: Path) -> None:
    """Workers notice within seconds that their driver is gone."""
    before, now = None, files_in(checkpoint)
    while before != now:
        time.sleep(3)
        before, now = now, files_in(checkpoint)
