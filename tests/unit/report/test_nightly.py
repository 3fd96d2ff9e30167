import datetime as dt
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scrapray import cli
from scrapray.report.nightly import ReportSummary, write_report
from tests.unit.report.nights import CAN, NIGHT, STORAGE, Yard, two_loads


def content(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def report(yard: Yard, date: dt.date = NIGHT) -> ReportSummary:
    return write_report(yard.lake, date, yard.out, storage=STORAGE)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    made = two_loads(tmp_path)
    made.publish()
    made.make_pictures()
    return made


def test_a_report_is_a_folder_that_says_what_is_in_it(yard: Yard) -> None:
    summary = report(yard)
    files = content(yard.out)
    assert (summary.num_loads, summary.num_pictures) == (2, sum(name.startswith("pictures/") for name in files))
    assert summary.size_bytes == sum(map(len, files.values()))
    assert {name.partition("/")[0] for name in files} == {"index.html", "style.css", "loads", "suppliers", "pictures"}
    assert str(summary).startswith(f"2 loads, {summary.num_pictures} pictures, 0.")
    assert str(summary).endswith(f"{yard.out}/index.html")


def test_the_same_night_again_writes_the_same_files(yard: Yard) -> None:
    report(yard)
    before = content(yard.out)
    report(yard)
    assert content(yard.out) == before


def test_another_night_takes_the_place_of_the_first_and_leaves_what_is_not_ours(yard: Yard, tmp_path: Path) -> None:
    report(yard)
    for name in ("loads/notes.html", "pictures/logo.webp", "mine.txt"):
        Path(yard.out, name).write_text("mine")
    other = Yard(tmp_path, date=NIGHT + dt.timedelta(days=1), run_id="run-b")
    other.add_load("0001", "L7", [], supplier=None)
    other.publish()
    report(other, other.date)
    names = set(content(yard.out))
    assert {name for name in names if "mine" in name or "notes" in name or "logo" in name} == {
        "loads/notes.html",
        "pictures/logo.webp",
        "mine.txt",
    }
    assert len([name for name in names if name.startswith("loads/")]) == 2
    assert len([name for name in names if name.startswith("pictures/")]) == 1


def test_hostile_names_write_nothing_outside_of_the_report(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "a" / "b")
    for number, words in enumerate(("../../../x", "/tmp/x", "<script>", "\u202e", "x" * 5000)):
        yard.add_load(words, f"{words}{number}", [[CAN], [CAN]], supplier=words)
    yard.publish()
    yard.make_pictures()
    report(yard)
    assert len([name for name in content(yard.out) if name.startswith("loads/")]) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"archive", "lake", "report"}


def test_what_could_not_be_shown_is_in_the_summary(yard: Yard) -> None:
    summary = ReportSummary(
        index_uri="report/index.html",
        num_loads=1,
        num_pictures=0,
        size_bytes=10**6,
        faults={"missing": 2},
        notices=("north: mixed",),
    )
    assert str(summary).splitlines() == [
        "north: mixed",
        "2 frames without a picture: This frame is no longer in the archive.",
        "1 load, 0 pictures, 1.0 MB: report/index.html",
    ]


def test_the_command_makes_a_report(yard: Yard) -> None:
    answer = CliRunner().invoke(cli.app, ["report", yard.lake, "--date", "2026-11-20", "--out", yard.out])
    assert answer.exit_code == 0, answer.output
    assert Path(yard.out, "index.html").exists()


@pytest.mark.parametrize(
    ("lake", "words"), [("lake", "the last night there is 2026-11-20"), ("nowhere", "no night at all")]
)
def test_a_night_that_is_not_there_is_one_line_and_exit_code_2(
    lake: str, words: str, yard: Yard, tmp_path: Path
) -> None:
    out = str(tmp_path / "other")
    answer = CliRunner().invoke(cli.app, ["report", str(tmp_path / lake), "--date", "2026-12-24", "--out", out])
    assert answer.exit_code == 2
    assert answer.stderr.count("\n") == 1
    assert words in answer.stderr
    assert not Path(out).exists()
