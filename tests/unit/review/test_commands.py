"""The commands of a review, one after the other as a person gives them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scrapray import cli
from tests.unit.review.nights import CAN, MOTOR, Annotator, key, write_night


def run(*arguments: object) -> str:
    answer = CliRunner().invoke(cli.app, ["review", *map(str, arguments)])
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def refused(*arguments: object) -> str:
    answer = CliRunner().invoke(cli.app, ["review", *map(str, arguments)])
    assert answer.exit_code == 2
    assert answer.stderr.startswith("scrapray: ")
    assert answer.stderr.count("\n") == 1
    return answer.stderr


def test_export_import_show_and_truth(tmp_path: Path) -> None:
    lake, to_label, labelled = tmp_path / "lake", tmp_path / "to-label.json", tmp_path / "labelled.json"
    write_night(str(lake))
    said = run("export", lake, "--date", "2026-11-20", "--out", to_label)
    assert "9 frames with 4 pre-labels" in said
    work = Annotator(to_label.read_bytes())
    work.remove(key("L3", 0), "spray can")
    work.add(key("L2", 0), "motor", MOTOR[1])
    labelled.write_text(json.dumps(work.file))
    assert run("import", lake, labelled, "--reviewer", "ada").startswith("9 frames of export ")
    assert "nothing has changed" in run("import", lake, labelled, "--reviewer", "ada")

    run("export", lake, "--date", "2026-11-20", "--out", to_label, "--blind")
    assert json.loads(to_label.read_bytes())["annotations"] == []
    work = Annotator(to_label.read_bytes())
    work.add(key("L3", 0), "spray can", CAN[1])
    labelled.write_text(json.dumps(work.file))
    run("import", lake, labelled, "--reviewer", "bob")

    shown = run("show", lake)
    for words in ("precision", "recall", "kappa", "ada and bob", "weights1", "random sample"):
        assert words in shown
    assert "3 loads reviewed; the verdict of 2 changes" in shown
    assert "2026-11-20 north truck T2 load L2: accept -> review (motor (severity 2): 1 or more seen" in shown

    truth = tmp_path / "truth.json"
    assert run("truth", lake, "--out", truth).startswith("9 reviewed frames with 5 objects")
    assert len(json.loads(truth.read_bytes())["images"]) == 9


def test_quotas_come_from_the_settings(tmp_path: Path) -> None:
    write_night(str(tmp_path / "lake"))
    config = tmp_path / "review.toml"
    config.write_text("[queue]\nhigh_severity = 1\nnear_threshold = 0\nrare_class = 0\nrandom_sample = 0\n")
    said = run("export", tmp_path / "lake", "--date", "2026-11-20", "--out", tmp_path / "c.json", "--config", config)
    assert said.startswith("1 frames with 1 pre-labels")


def test_a_lake_without_reviews_says_so(tmp_path: Path) -> None:
    assert "nothing was reviewed yet" in run("show", tmp_path)
    assert "nothing was reviewed yet" in refused("truth", tmp_path, "--out", tmp_path / "t.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "{lake}", "--date", "2026-11-21", "--out", "{lake}/c.json"), "nothing is published for 2026-11-21"),
        (("import", "{lake}", "{lake}/none.json", "--reviewer", "ada"), "none.json"),
        (("import", "{lake}", __file__, "--reviewer", "ada"), "run scrapray review export first"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    write_night(str(tmp_path))
    assert message in refused(*(argument.replace("{lake}", str(tmp_path)) for argument in arguments))
