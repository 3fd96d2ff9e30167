import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import ray.data
from typer.testing import CliRunner

from scrapray import cli, cluster
from scrapray.errors import ConfigurationError
from scrapray.lake import partition_uri
from scrapray.report.evidence import View, choose_evidence
from scrapray.report.night import read_night
from scrapray.report.nightly import ReportSummary, write_report
from tests.unit.report.nights import CAN, NIGHT, STORAGE, Yard, two_loads


def content(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def report(yard: Yard, date: dt.date = NIGHT) -> ReportSummary:
    return write_report(yard.lake, date, yard.out, storage=STORAGE)


def _views_of(yard: Yard, frame_id: str) -> list[View]:
    evidence = [choose_evidence(load) for load in read_night(yard.lake, yard.date, STORAGE).loads]
    return [view for each in evidence for view in each.views if view.frame["frame_id"] == frame_id]


def _shown(yard: Yard) -> set[str]:
    """Pictures that the pages of loads ask for."""
    pages = (path.read_text() for path in Path(yard.out, "loads").iterdir())
    return {name for page in pages for name in re.findall(r'src="\.\./(pictures/[^"]+)"', page)}


@pytest.fixture
def cut_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are cut in this process and not on Ray."""

    class Blocks:
        def __init__(self, tables: list[pa.Table]) -> None:
            self._tables = tables

        def map_batches(self, work: Callable[[pa.Table], pa.Table], **_: object) -> "Blocks":
            return Blocks([work(table) for table in self._tables])

        def iter_batches(self, **_: object) -> list[pa.Table]:
            return self._tables

    monkeypatch.setattr(cluster, "join", lambda **_: None)
    monkeypatch.setattr(cluster, "set_up_data", lambda _: None)
    monkeypatch.setattr(ray.data, "from_arrow", Blocks)


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
        "pictures missing of 2 frames: This frame is no longer in the archive.",
        "1 load, 0 pictures, 1.0 MB: report/index.html",
    ]


def test_good_pictures_of_a_frame_that_is_gone_are_kept_when_another_is_wanted_of_it(
    yard: Yard, cut_here: None
) -> None:
    views = {view.name for view in _views_of(yard, "north-2")}
    lost = sorted(views)[0]
    Path(yard.out, "pictures", lost).unlink()
    (yard.archive / "north-2.jpg").unlink()
    summary = report(yard)
    assert summary.faults == {"missing": 1}
    there = {name for name in content(yard.out) if name.startswith("pictures/")}
    assert {f"pictures/{name}" for name in views} - there == {f"pictures/{lost}"}
    assert _shown(yard) == there


def test_a_frame_that_is_gone_is_shown_where_the_same_bytes_lie_elsewhere(tmp_path: Path, cut_here: None) -> None:
    yard = Yard(tmp_path)
    yard.add_load("A", "L1", [[CAN], [CAN]])
    yard.add_load("B", "L2", [[CAN], [CAN]])
    first, _, third, _ = yard.rows["frames"]
    third["content_sha256"] = first["content_sha256"]
    Path(third["uri"]).write_bytes(Path(first["uri"]).read_bytes())
    yard.publish()
    for gone in (first, third):
        data = Path(gone["uri"]).read_bytes()
        Path(gone["uri"]).unlink()
        assert report(yard).faults == {}
        assert _shown(yard) == {name for name in content(yard.out) if name.startswith("pictures/")}
        STORAGE.delete_folder(f"{yard.out}/pictures")
        Path(gone["uri"]).write_bytes(data)
    Path(first["uri"]).unlink()
    Path(third["uri"]).unlink()
    assert report(yard).faults == {"missing": 2}


def test_an_empty_picture_is_made_again(yard: Yard, cut_here: None) -> None:
    report(yard)
    before = content(yard.out)
    Path(yard.out, next(name for name in before if name.startswith("pictures/"))).write_bytes(b"")
    report(yard)
    assert content(yard.out) == before


@pytest.mark.parametrize("name", ["index.html", "style.css"])
def test_the_pages_of_somebody_else_are_not_replaced(name: str, yard: Yard, tmp_path: Path) -> None:
    web = tmp_path / "web"
    web.mkdir()
    (web / name).write_text("my own site")
    with pytest.raises(ConfigurationError, match=f"{name}: what is there is of no report"):
        write_report(yard.lake, NIGHT, str(web), storage=STORAGE)
    assert content(str(web)) == {name: b"my own site"}


@pytest.mark.parametrize("place", ["lake", "lake/", "lake/report", "archive/../lake", "link/report"])
def test_no_report_is_written_into_the_lake(place: str, yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "lake")
    before = content(yard.lake)
    with pytest.raises(ConfigurationError, match="is there; give another folder"):
        write_report(yard.lake, NIGHT, str(tmp_path / place), storage=STORAGE)
    assert content(yard.lake) == before


def test_a_folder_beside_the_lake_with_a_longer_name_is_no_part_of_it(yard: Yard, tmp_path: Path) -> None:
    out = tmp_path / "lake-report"
    Path(yard.out).rename(out)  # with the pictures
    assert write_report(yard.lake, NIGHT, str(out), storage=STORAGE).num_loads == 2


def test_where_a_site_cannot_be_shown_its_earlier_pages_stay(yard: Yard) -> None:
    report(yard)
    before = content(yard.out)
    STORAGE.delete(partition_uri(yard.lake, "loads", NIGHT, yard.site))
    summary = report(yard)
    assert len(summary.notices) == 1
    after = content(yard.out)
    assert {name for name in before if after.get(name) != before[name]} == {"index.html"}


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
