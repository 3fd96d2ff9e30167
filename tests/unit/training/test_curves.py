import xml.etree.ElementTree as ElementTree
from pathlib import Path

from scrapray.training.curves import draw_curves


def test_curves_are_a_picture_with_a_line_for_each_figure(tmp_path: Path) -> None:
    losses = {"similarity_focal": 0.2, "similarity_dice": 1.0, "multiscale_focal": 0.1, "multiscale_dice": 0.5}
    curve = [{"step": step, "loss": 2.0 / step, **losses} for step in (20, 40)]
    curve.append({"step": 40, "validation/motor/average_precision": 0.1, "validation/motor/auroc": 0.9})
    draw_curves(curve, tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    for words in ("whole loss", "similarity, dice", "motor", "pixel AP on validation"):
        assert f"<!-- {words} -->" in text
    assert "auroc" not in text


def test_a_training_without_a_figure_yet_gives_an_empty_picture(tmp_path: Path) -> None:
    draw_curves([{"step": 3, "validation/any/average_precision": 0.1}], tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").stat().st_size > 0
