import subprocess
import sys
from pathlib import Path

import pytest

from scrapray.registry.journal import Journal


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journals" / "run")


def calls(*steps):
    return [{"call": "metrics", "step": step} for step in steps]


def keep(journal, *steps):
    for call in calls(*steps):
        journal.keep(call)


def test_calls_come_back_in_order(journal):
    keep(journal, 3, 1, 2)
    assert Journal(journal.folder).calls() == calls(3, 1, 2)


def test_nothing_is_on_disk_before_the_first_call_and_after_the_last(journal):
    assert journal.calls() == []
    assert not journal.folder.exists()
    keep(journal, 1, 2)
    journal.drop(calls(1))
    assert journal.calls() == calls(2)
    journal.drop(calls(2))
    assert not journal.folder.exists()


def test_calls_that_came_while_others_were_sent_stay(journal):
    keep(journal, 1, 2)
    sent = journal.calls()
    keep(journal, 3)
    journal.drop(sent)
    assert journal.calls() == calls(3)


def test_a_damaged_line_is_left_out_and_the_others_stay(journal):
    keep(journal, 1, 2)
    file = journal.folder / "calls.jsonl"
    file.write_text(file.read_text().replace('"step": 1', '"step'))
    assert journal.calls() == calls(2)


def test_figures_that_are_no_numbers_come_back(journal):
    journal.keep({"call": "metrics", "values": {"loss": float("inf")}})
    assert journal.calls()[0]["values"]["loss"] == float("inf")


def test_a_line_that_a_crash_cut_off_is_left_out(journal):
    keep(journal, 1)
    with (journal.folder / "calls.jsonl").open("a") as file:
        file.write('{"call": "metr')
    assert journal.calls() == calls(1)
    keep(journal, 2)
    assert journal.calls() == calls(1, 2)


def test_files_and_folders_are_copied_since_the_originals_may_go(journal, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "card.json").write_text("card")
    (tmp_path / "curve.svg").write_text("one")
    journal.keep({"call": "file", "path": str(tmp_path / "curve.svg")})
    (tmp_path / "curve.svg").write_text("two")
    journal.keep({"call": "file", "path": str(tmp_path / "curve.svg")})
    journal.keep({"call": "bundle", "path": str(tmp_path / "bundle")})
    first, second, folder = (Path(call["path"]) for call in journal.calls())
    assert (first.name, first.read_text(), second.read_text()) == ("curve.svg", "one", "two")
    assert (folder.name, (folder / "card.json").read_text()) == ("bundle", "card")


def test_two_processes_lose_no_call_of_each_other(journal):
    write = (
        "import sys; from pathlib import Path; from scrapray.registry.journal import Journal\n"
        "for step in range(100): Journal(Path(sys.argv[1])).keep({'call': 'metrics', 'step': step})"
    )
    with subprocess.Popen([sys.executable, "-c", write, str(journal.folder)]) as process:
        sent = []
        while process.poll() is None or journal.calls():
            found = journal.calls()
            journal.drop(found)
            sent += found
    assert sorted(call["step"] for call in sent) == list(range(100))
