"""The README's commands, as a person gives them, on a small drawn archive: draw, index, audit, doctor, query."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scrapray import schema

NUM_LOADS, NUM_FRAMES = 2, 2


@dataclass(frozen=True)
class Demo:
    """A folder in which the commands were given, and what they answered."""

    folder: Path
    exit_code: int
    screen: str

    def table(self, name: str) -> list[dict[str, object]]:
        """Published rows of one table."""
        files = sorted((self.folder / "lake" / name).glob("*/*/*.parquet"))
        return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]


def scrapray(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Give one command in a process of its own, without a terminal."""
    command = [str(Path(sys.executable).with_name("scrapray")), *arguments]
    environment = os.environ | {"COLUMNS": "100"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def audit(folder: Path) -> subprocess.CompletedProcess[str]:
    return scrapray(folder, "audit", "manifest", "lake", "--model", "demo", "--config", "archive/audit.toml")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    size = ("--loads", str(NUM_LOADS), "--frames", str(NUM_FRAMES), "--width", "1280", "--seed", "1")
    drawn = scrapray(folder, "draw", "archive", *size)
    assert drawn.returncode == 0, drawn.stderr
    indexed = scrapray(folder, "index", "archive", "manifest", "--config", "archive/audit.toml")
    assert indexed.returncode == 0, indexed.stderr
    audited = audit(folder)
    assert audited.returncode in (0, 3), audited.stderr
    return Demo(folder, audited.returncode, audited.stdout)


def test_every_frame_and_every_load_is_in_the_tables(demo: Demo) -> None:
    assert len(demo.table("frames")) == NUM_LOADS * NUM_FRAMES
    assert len(demo.table("loads")) == NUM_LOADS
    published = {folder.name for folder in (demo.folder / "lake").iterdir() if not folder.name.startswith("_")}
    assert published == set(schema.PUBLISHED)


def test_the_exit_code_speaks_of_the_worst_load(demo: Demo) -> None:
    worst = max(load["worst_severity"] for load in demo.table("loads"))
    assert demo.exit_code == (3 if worst == 3 else 0)


def test_the_screen_shows_each_load_with_its_verdict(demo: Demo) -> None:
    for load in demo.table("loads"):
        assert re.search(rf"^ ?{load['verdict']} .*{load['load_id']}", demo.screen, flags=re.MULTILINE)


def test_the_printed_query_answers_from_the_tables(demo: Demo) -> None:
    (line,) = re.findall(r"^Query +(.+)$", demo.screen, flags=re.MULTILINE)
    command = ["bash", "-c", line]
    answer = subprocess.run(command, cwd=demo.folder, capture_output=True, text=True, timeout=60, check=True)
    assert all(str(load["load_id"]) in answer.stdout for load in demo.table("loads"))


def test_the_same_command_again_computes_nothing_and_publishes_the_same(demo: Demo) -> None:
    before = demo.table("loads")
    again = audit(demo.folder)
    assert again.returncode == demo.exit_code
    assert "what can be read was done by an earlier run" in again.stdout
    assert demo.table("loads") == before
