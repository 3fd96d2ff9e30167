"""Curves are those of scikit-learn, and pictures can be opened."""

import numpy as np
import pytest
from matplotlib.cbook import STEP_LOOKUP_MAP
from matplotlib.figure import Figure

from scrapray.evaluation import pictures
from scrapray.evaluation.counting import WorstTile
from scrapray.evaluation.pictures import draw_curves, draw_worst
from scrapray.imagery.png import decode_png
from scrapray.statistics.counts import ClassCounts

RNG = np.random.default_rng(0)


def counts(prevalence: float) -> ClassCounts:
    truth_Nhw = RNG.random((3, 16, 16)) < prevalence
    return ClassCounts.of(np.clip(RNG.normal(0.3 + 0.3 * truth_Nhw, 0.2), 0, 1), truth_Nhw)


def test_curves_name_every_class_and_the_confusion_of_several() -> None:
    names = ("any", "motor", "cable")
    some = {name: counts(0.1) for name in names}
    confusion_KK1 = np.array([[30, 10, 0], [0, 5, 5]])
    svg = draw_curves(some, confusion_KK1).decode()
    for words in (
        *names,
        "precision of pixels",
        "mean overlap with regions",
        "as it should be",
        "75%",
        "50%",
        "no score",
    ):
        assert f"<!-- {words} -->" in svg, words
    alone = draw_curves({"any": some["any"]}, np.zeros((0, 0), np.int64)).decode()
    assert "class that scores highest" not in alone


@pytest.mark.parametrize("found_share", [0.0, 0.3, 1.0], ids=["constant", "sparse", "perfect"])
def test_the_area_below_the_line_of_precision_is_average_precision(
    found_share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(pictures, "as_svg", lambda figure: drawn.append(figure) or b"")
    truth_Nhw = RNG.random((3, 64, 64)) < 0.02
    found = ClassCounts.of((truth_Nhw & (RNG.random(truth_Nhw.shape) < found_share)).astype(np.float32), truth_Nhw)
    draw_curves({"any": found}, np.zeros((0, 0), np.int64))
    line = drawn[0].axes[0].lines[0]
    corners = STEP_LOOKUP_MAP[line.get_drawstyle()](*line.get_data())
    assert np.trapezoid(corners[1], corners[0]) == pytest.approx(found.pixels.metrics().average_precision)


def test_the_same_curves_are_the_same_bytes() -> None:
    some = {"any": counts(0.1)}
    first, again = (draw_curves(some, np.zeros((0, 0), np.int64)) for _ in range(2))
    assert first == again
    assert b"<dc:date>" not in first


def test_a_class_without_a_pixel_and_no_pixel_at_all_are_drawn_too() -> None:
    assert b"<svg" in draw_curves({"any": counts(0.1), "motor": counts(0.0)}, np.zeros((1, 1), np.int64))
    assert b"<svg" in draw_curves({"any": ClassCounts.empty()}, np.zeros((0, 0), np.int64))


def tile(kind: str, error: float) -> WorstTile:
    tile_HW3 = RNG.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    class_HW = np.zeros((32, 32), np.uint8)
    class_HW[4:20, 4:20] = 2
    map_hw = RNG.random((8, 8)).astype(np.float16)
    return WorstTile(kind=kind, error=error, place=0, tile_id="a", tile_HW3=tile_HW3, class_HW=class_HW, map_hw=map_hw)


@pytest.mark.parametrize("num_false", [0, 1, 3])
def test_misses_stand_left_and_false_alarms_right(num_false: int) -> None:
    worst = [tile("miss", 0.9), tile("miss", 0.8), *(tile("false alarm", 0.5) for _ in range(num_false))]
    page_HW3 = decode_png(draw_worst(worst, ("motor", "cable")))
    assert page_HW3.shape[1] == 4 * 36
    rows = max(2, num_false)
    head_px = len(page_HW3) - rows * 36
    assert head_px >= 2 * 22, "a legend and titles"
    is_blank = (page_HW3[head_px : head_px + 32, 72:104] == 255).all()
    assert is_blank == (num_false == 0)


def test_nothing_wrong_is_no_picture() -> None:
    assert draw_worst([], ("motor",)) is None
