"""The README's commands, as a person gives them, on a small drawn archive: draw, index, audit, doctor, query."""

import json
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
ALERTS = """
[alerts]
file = "alerts.jsonl"

[alerts.webhook]
url_env = "NOBODY_HAS_SET_THIS"
secret_env = "NOR_THIS"
"""
NOT_SENT = r"webhook: {} not sent, the next run tries again \(the environment variable NOBODY_HAS_SET_THIS is not set"


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
    with (folder / "archive" / "audit.toml").open("a", encoding="utf-8") as settings:
        settings.write(ALERTS)
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


def test_the_night_and_its_worst_loads_are_told_of_by_every_way_that_there_is(demo: Demo) -> None:
    told = [json.loads(line) for line in (demo.folder / "alerts.jsonl").read_text(encoding="utf-8").splitlines()]
    worst = sorted(str(load["load_id"]) for load in demo.table("loads") if load["worst_severity"] == 3)
    assert sorted(message["load_id"] for message in told if message["kind"] == "load") == worst
    assert [message["num_loads"] for message in told if message["kind"] == "night"] == [NUM_LOADS]
    assert re.search(rf"^Alerts +{NOT_SENT.format(len(told))}.*; file: {len(told)} sent$", demo.screen, re.MULTILINE)


def test_the_same_command_again_computes_nothing_and_publishes_the_same(demo: Demo) -> None:
    before = demo.table("loads")
    again = audit(demo.folder)
    assert again.returncode == demo.exit_code
    assert "what can be read was done by an earlier run" in again.stdout
    assert re.search(NOT_SENT.format(r"\d"), again.stdout), "what could not be sent is tried again"
    assert "file:" not in again.stdout, "what was sent is not"
    assert demo.table("loads") == before


def test_the_report_has_a_page_for_each_load(demo: Demo) -> None:
    night = str(demo.table("loads")[0]["date"])
    made = scrapray(demo.folder, "report", "lake", "--date", night, "--out", "report")
    assert (made.returncode, made.stdout.splitlines()[-1].partition(",")[0]) == (0, f"{NUM_LOADS} loads")
    first = (demo.folder / "report" / "index.html").read_text(encoding="utf-8")
    pages = {path.name for path in (demo.folder / "report" / "loads").iterdir()}
    assert len(pages) == NUM_LOADS
    assert all(f'href="loads/{name}"' in first for name in pages)
