"""The command line: what it answers, how fast, with which exit code, and how it looks."""

import datetime as dt
import json
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
from collections import Counter
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from scrapray import cli, screen
from scrapray.alerts.send import AlertReport
from scrapray.audit.doctor import Finding
from scrapray.audit.nightly import AuditSummary
from scrapray.datasets import read
from scrapray.evaluation import evaluate
from scrapray.statistics.promotion import MAX_RECALL_DROP

TOP = typer.main.get_command(cli.app).commands
GROUPS = ("models", "review", "lake")
COMMANDS = {name: command for name, command in TOP.items() if name not in GROUPS}
COMMANDS |= {f"{group} {name}": command for group in GROUPS for name, command in TOP[group].commands.items()}

OPTIONS = {
    "draw": ["--frames", "--loads", "--masks", "--seed", "--width"],
    "index": ["--config", "--date"],
    "audit": ["--config", "--date", "--model"],
    "prepare": ["--check", "--config"],
    "train": ["--config", "--profile", "--runs"],
    "doctor": ["--archive", "--config", "--lake", "--model"],
    "evaluate": ["--config", "--out", "--split"],
    "train-baseline": ["--config", "--out"],
    "report": ["--config", "--date", "--out"],
    "models list": [],
    "models show": [],
    "models compare": ["--config", "--dataset", "--max-recall-drop"],
    "models promote": ["--config", "--dataset", "--force", "--max-recall-drop"],
    "models rollback": [],
    "review export": ["--blind", "--config", "--date", "--out", "--site"],
    "review import": ["--blind", "--config", "--queue", "--reviewer"],
    "review show": ["--config"],
    "review truth": ["--config", "--out"],
    "sql": ["--config", "--format", "--save"],
    "lake verify": ["--config", "--date"],
    "lake compact": ["--before", "--config"],
    "lake retire": ["--config", "--keep"],
}
"""Frozen: an option added here is a promise to every nightly script; settings belong in the configuration file."""


def test_the_options_are_those_that_were_promised() -> None:
    own = {
        name: sorted(parameter.opts[0] for parameter in command.params if parameter.opts[0].startswith("--"))
        for name, command in COMMANDS.items()
    }
    assert own == OPTIONS
    assert max(map(len, own.values())) <= 7


def test_help_loads_nothing_heavy_and_answers_at_once() -> None:
    ask = (
        "import json, sys, time; start = time.perf_counter();"
        "sys.argv = ['scrapray', '--help'];"
        "from scrapray.cli import app;"
        "app(standalone_mode=False);"
        "print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]), file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=60, check=True)
    seconds, modules = json.loads(answer.stderr.splitlines()[-1])
    assert not {"ray", "torch", "pyarrow", "numpy", "cv2", "pydantic", "s3fs", "mlflow"} & set(modules)
    assert seconds < 2  # alone on a machine it takes a quarter of a second; tests share theirs
    assert "doctor" in answer.stdout


@pytest.mark.parametrize("command", OPTIONS)
def test_every_command_teaches_with_an_example_that_it_accepts(command: str) -> None:
    (example,) = re.findall(r"Example: \[bold\]scrapray (.+?)\[/\]", COMMANDS[command].help or "")
    assert example.startswith(command)
    COMMANDS[command].make_context(command, shlex.split(example.removeprefix(command)))


@pytest.mark.parametrize("out", ["s3://bucket/x", "file:///tmp/x"])
@pytest.mark.parametrize(
    "command",
    [["draw"], ["train-baseline", "maskrcnn", "scrap-1", "--out"], ["jobs/evaluate.py", "scrap-1"]],
    ids=lambda command: command[0],
)
def test_a_uri_is_no_folder_of_this_machine(
    command: list[str], out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).parents[2] / command[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), *command[1:], out])
    with pytest.raises(SystemExit) as stopped:
        if script.exists():
            runpy.run_path(str(script), run_name="__main__")
        else:
            cli.app([*command, out])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"scrapray: {out} is no folder of this machine, which is needed here; give one without ://\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_exit_code() -> None:
    answer = CliRunner().invoke(cli.app, ["--help"], terminal_width=100)
    assert all(f"{code} " in answer.stdout for code in (0, 1, 2, 3, 130))


def test_an_unknown_setting_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    config = tmp_path / "audit.toml"
    config.write_text("[storage]\nsecret = 1\n", encoding="utf-8")
    answer = CliRunner().invoke(cli.app, ["index", str(tmp_path), str(tmp_path / "m"), "--config", str(config)])
    assert answer.exit_code == 2
    assert answer.stderr.startswith("scrapray: ")
    assert "unknown key storage.secret" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["models compare", "models promote"])
def test_the_recall_that_may_be_lost_is_that_of_the_statistics_where_nobody_says_otherwise(command: str) -> None:
    (option,) = (each for each in COMMANDS[command].params if each.name == "max_recall_drop")
    assert option.default == MAX_RECALL_DROP


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_promotion_is_not_forced_without_a_reason(reason: str) -> None:
    answer = CliRunner().invoke(cli.app, ["models", "promote", "2", "--force", reason], terminal_width=200)
    assert answer.exit_code == 2
    assert "the reason is blank; say why, such as --force" in answer.stderr


def test_a_wrong_argument_is_exit_code_2() -> None:
    assert CliRunner().invoke(cli.app, ["draw", "somewhere", "--loads", "0"]).exit_code == 2


@pytest.mark.parametrize("command", ["index a b", "audit a b --model demo"])
@pytest.mark.parametrize("date", ["0001-01-01", "9999-12-31"])
def test_a_date_at_the_end_of_time_is_refused(command: str, date: str) -> None:
    answer = CliRunner().invoke(cli.app, [*command.split(), "--config", "audit.toml", "--date", date])
    assert answer.exit_code == 2
    assert f"{date} is no night of an archive" in answer.stderr


def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    config = tmp_path / "audit.toml"
    with socket.create_server(("127.0.0.1", 0)) as silent_store:
        config.write_text(f'[storage]\nendpoint_url = "http://127.0.0.1:{silent_store.getsockname()[1]}"\n')
        arguments = ["index", "s3://yard-archive/", str(tmp_path / "a b"), "--config", str(config)]
        command = [str(Path(sys.executable).with_name("scrapray")), *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            silent_store.settimeout(60)
            connection, _ = silent_store.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                _, words = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"scrapray {shlex.join(arguments)}" in words
    assert "Traceback" not in words


def _load(**changes: Any) -> dict[str, Any]:
    """A row of loads, as far as the screen shows it."""
    can = {"class_name": "spray can", "severity": 3, "count": 2, "max_score": 0.9}
    glimpse, nothing = (
        {"class_name": name, "severity": 1, "count": 0, "max_score": score}
        for name, score in (("cable", 0.8), ("motor", 0.0))
    )
    row = {
        "truck_id": "T-0003",
        "load_id": "20261120-03",
        "verdict": "reject",
        "verdict_rule": "highest_severity",
        "num_used": 5,
        "num_frames": 6,
        "contamination_frac": 0.00071,
        "contamination_low": 0.0002,
        "contamination_high": 0.0011,
        "classes": [glimpse, nothing, can],
    }
    return row | changes


def _summary(*loads: dict[str, Any], **changes: Any) -> AuditSummary:
    facts: dict[str, Any] = {
        "run_id": "0123456789abcdef",
        "nights": ((dt.date(2026, 11, 20), "north-yard"),),
        "loads": loads,
        "tables": {"frames": "s3://yard-lake/frames", "loads": "s3://yard-lake/loads"},
        "model": "scrap version 3, weights 0123456789ab, trained on s3://datasets/scrap-7",
        "num_frames": 6,
        "num_used": 5,
        "num_computed": 6,
        "segment_s": 12.0,
        "rejected": Counter({("quality", "blurred"): 1}),
        "exit_code": 3,
    }
    return AuditSummary(**(facts | changes))


def _shown(summary: AuditSummary, width: int = 120, alerts: AlertReport | None = None) -> str:
    text = StringIO()
    screen.print_summary(summary, Console(file=text, width=width), alerts=alerts)
    return text.getvalue()


def test_the_end_of_an_audit_shows_verdicts_frames_speed_and_where_to_look() -> None:
    text = _shown(_summary(_load()))
    for words in (
        "reject",
        "T-0003",
        "5 of 6",
        "0.071%",
        "0.020% - 0.110%",
        "2 spray can,",
        "cable (1",
        "frame)",
        "highest severity",
        "6: 5 used, 1 rejected (quality blurred 1)",
        "scrap version 3, weights 0123456789ab, trained on s3://datasets/scrap-7",
        "6 frames segmented in 12 s, 0.50 frames/s",
        "s3://yard-lake (frames, loads)",
        "'s3://yard-lake/loads/date=*-*-*/*/*.parquet'",
    ):
        assert words in text
    assert "motor" not in text


def test_what_became_of_alerts_is_shown_where_somebody_is_to_be_told() -> None:
    failed = "not sent, the next run tries again ([red]smtp.example.com[/] answered 451)"
    text = _shown(_summary(_load()), alerts=AlertReport(Counter({("webhook", "sent"): 2, ("email", failed): 1})))
    assert f"Alerts webhook: 2 sent; email: 1 {failed}" in text
    assert "Alerts nothing new to tell" in _shown(_summary(_load()), alerts=AlertReport())
    assert "Alerts" not in _shown(_summary(_load()))


def test_a_load_that_nobody_saw_is_shown_too() -> None:
    unseen = _load(truck_id=None, num_used=0, contamination_frac=None, classes=[], verdict="review")
    text = _shown(_summary(unseen))
    assert "unknown" in text
    assert "nothing seen" in text


def test_words_from_the_archive_are_not_taken_for_markup() -> None:
    assert "[red]T[/]" in _shown(_summary(_load(truck_id="[red]T[/]")))


def test_words_from_the_archive_are_nothing_that_a_terminal_obeys() -> None:
    can = {"class_name": "can\x1b[2J", "severity": 3, "count": 2, "max_score": 0.9}
    row = _load(truck_id="\x1b[31mT\x07", load_id="L\n2", classes=[can])
    summary = _summary(row, tables={"loads": "lake\x1b]0;owned\x07/loads"})
    alerts = AlertReport(Counter({("email", "failed\x1b[1A"): 1}))
    text = _shown(summary, width=200, alerts=alerts)
    for words in (r"\x1b[31mT\x07", r"L\n2", r"2 can\x1b[2J", r"lake\x1b]0;owned\x07 (loads)", r"failed\x1b[1A"):
        assert words in text
    assert not set(text) & {"\x1b", "\x07"}


def test_findings_and_reviews_are_nothing_that_a_terminal_obeys() -> None:
    key, console = "T\x1b[31m.jpg", Console(file=StringIO(), width=200)
    screen.print_findings([Finding("archive", "warn", f"{key} does not", f"rename {key}")], console)
    load = _load(date="2026-11-20", site=key, reviewed_verdict="accept", reviewed_reason=key)
    screen.print_reviews([], [load], console)
    text = console.file.getvalue()
    assert text.count(r"T\x1b[31m.jpg") == 4
    assert "\x1b" not in text


def test_the_table_of_loads_fits_a_small_terminal() -> None:
    table, _, _ = _shown(_summary(_load(), _load(truck_id=None, verdict="review")), width=80).partition("Frames")
    assert max(map(len, table.splitlines())) <= 80
    assert "20261120-03" in table
    assert "…" not in table


def test_a_log_gets_every_column_whole(capsys: pytest.CaptureFixture[str]) -> None:
    motor = {"class_name": "motor", "severity": 2, "count": 1, "max_score": 0.9}
    row = _load(load_id="north-camera-20261120T063500+0100")
    screen.print_summary(_summary(row | {"classes": [*row["classes"], motor]}))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "T-0003" in line)
    for words in (row["load_id"], "5 of 6", "0.071%", "2 spray can, 1 motor, cable (1 frame)", "highest severity"):
        assert words in line


def test_a_long_night_shows_the_worst_loads_and_counts_the_rest() -> None:
    text = _shown(_summary(*(_load(load_id=f"load-{number}") for number in range(50))))
    assert "load-29" in text
    assert "load-30" not in text
    assert "and 20 more" in text


def test_a_night_that_was_done_before_says_so() -> None:
    assert "what can be read was done by an earlier run" in _shown(_summary(num_computed=0, segment_s=0.0))


@pytest.mark.parametrize("folder", ["lake", "the yard's lake", 'a "$HOME" lake', "[lake] *?"])
def test_the_printed_query_answers(folder: str, tmp_path: Path) -> None:
    tmp_path = tmp_path / folder
    columns = ["load_id", "verdict", "verdict_reason", "truck_id", "contamination_frac"]
    partition = tmp_path / "loads" / "date=2026-11-20" / "site=yard"
    partition.mkdir(parents=True)
    row = ["L1", "reject", "a can", "0007", 0.5]
    pq.write_table(pa.table(dict(zip(columns, ([value] for value in row), strict=True))), partition / "part-0.parquet")
    line = screen.query_line(f"{tmp_path}/loads")
    answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True)
    assert "0007" in answer.stdout


class _Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_pace_leaves_out_start_up_and_what_an_earlier_run_has_done() -> None:
    clock = _Clock()
    pace = screen.Pace(clock)
    assert pace.describe(100, 200) == ""
    clock.now_s += 60
    assert pace.describe(110, 200) == ""
    clock.now_s += 20
    assert pace.describe(120, 200) == "0.5/s, 0:02:40 left"
    clock.now_s += 70
    assert pace.describe(200, 200) == "1.0/s"


def test_a_log_gets_one_line_every_ten_seconds_and_one_at_the_end() -> None:
    clock, log = _Clock(), StringIO()
    with screen.progress("frames", Console(file=log, width=80), clock) as report:
        for second in range(31):
            clock.now_s = 100.0 + second
            report(second, 30)
    assert log.getvalue().splitlines() == [
        "frames: 0 of 30",
        "frames: 10 of 30, 1.0/s, 0:00:20 left",
        "frames: 20 of 30, 1.0/s, 0:00:10 left",
        "frames: 30 of 30, 1.0/s",
    ]


def test_a_terminal_gets_a_bar_with_rate_and_time_left() -> None:
    screen_text = StringIO()
    clock = _Clock()
    with screen.progress("frames", Console(file=screen_text, width=80, force_terminal=True), clock) as report:
        report(0, 24)
        report(2, 24)
        clock.now_s += 10
        report(12, 24)
    assert "12/24" in screen_text.getvalue()
    assert "1.0/s, 0:00:12 left" in screen_text.getvalue()


@pytest.mark.parametrize(
    ("out", "server", "said"),
    [
        ("file", None, "cannot write {folder}/file"),
        ("results", "http://127.0.0.1:9", "cannot keep runs at http://127.0.0.1:9: it does not answer"),
    ],
    ids=["no folder", "no server"],
)
def test_an_evaluation_whose_figures_could_not_be_kept_is_not_begun(
    out: str, server: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.chdir(tmp_path)
    if server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    split = SimpleNamespace(sha256="0")
    monkeypatch.setattr(read, "open_dataset", lambda uri, storage: SimpleNamespace(split=lambda name: split))
    monkeypatch.setattr(evaluate, "find_subject", lambda *_, **__: SimpleNamespace(name="winclip"))
    monkeypatch.setattr(evaluate, "evaluate", lambda *_, **__: pytest.fail("begun"))
    result = CliRunner().invoke(cli.app, ["evaluate", "winclip", "scrap-1", "--out", str(tmp_path / out)])
    assert result.exit_code == 2
    assert said.format(folder=tmp_path) in result.output
    assert not list(tmp_path.glob("results/*"))
