import datetime as dt
from collections import Counter
from pathlib import Path

import pytest

from scrapray.report.charts import frames_chart, trend_chart
from scrapray.report.night import Tally, read_night
from tests.unit.report.nights import CABLE, CAN, NIGHT, STORAGE, Yard


def tally(frac: float | None, low: float | None = None, high: float | None = None) -> Tally:
    return Tally(num_loads=3, verdicts=Counter(), num_frames=9, num_rejected=0, frac=frac, low=low, high=high)


def days_before(days: int) -> dt.date:
    return NIGHT - dt.timedelta(days=days)


def test_the_frames_of_a_load_are_bars_in_time_and_what_was_left_out_is_told(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[CAN, CABLE], [CAN], []])
    yard.add_rejected("quality", "blurred", load=0)
    yard.publish()
    (load,) = read_night(yard.lake, NIGHT, STORAGE).loads
    chart = frames_chart(load, {"north-0"})
    assert [mark.kind for mark in chart.marks] == ["shown", "used", "used", "rejected"]
    assert [mark.x for mark in chart.marks] == [12.5, 37.5, 62.5, 87.5]
    first, second, third, last = (mark.y for mark in chart.marks)
    assert (third, last) == (100, None)
    assert first is not None and second is not None
    assert 100 - first == pytest.approx(2 * (100 - second))
    assert chart.marks[3].words == "06:21:39: not used, blurred"
    assert "4\N{NO-BREAK SPACE}frames in the order of time, 3 of them usable" in chart.words
    assert "3.072\N{NO-BREAK SPACE}%; nothing found in 1" in chart.words
    assert chart.y_ticks[0] == (100, "0.000\N{NO-BREAK SPACE}%")
    assert chart.y_ticks[-1][0] == 0


def test_a_load_without_frames_has_an_empty_chart(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [])
    yard.publish()
    (load,) = read_night(yard.lake, NIGHT, STORAGE).loads
    assert (frames_chart(load, set()).marks, frames_chart(load, set()).x_ticks) == ((), ())


def test_nights_stand_where_their_dates_are_with_their_intervals() -> None:
    nights = [
        (days_before(3), tally(0.01, 0.005, 0.02)),
        (days_before(1), tally(0.02, 0.01, 0.04)),
        (NIGHT, tally(0.0)),
    ]
    chart = trend_chart("Contamination", nights, NIGHT)
    assert [mark.x for mark in chart.marks] == [12.5, 62.5, 87.5]
    assert [mark.kind for mark in chart.marks] == ["before", "before", "tonight"]
    one = chart.marks[0]
    assert one.y is not None and one.low is not None and one.high is not None
    assert 0 <= one.high < one.y < one.low <= 100
    assert chart.marks[2].y == 100
    assert [label for _, label in chart.x_ticks] == ["17 Nov", "18 Nov", "19 Nov", "20 Nov"]
    assert "Highest 2.000\N{NO-BREAK SPACE}% on 19 November 2026" in chart.words
    assert "Lines are 95 % intervals" in chart.words


def test_intervals_far_wider_than_the_points_are_told_and_not_drawn() -> None:
    chart = trend_chart("Contamination", [(days_before(1), tally(0.001, 0.0, 0.05)), (NIGHT, tally(0.001))], NIGHT)
    assert [mark.high for mark in chart.marks] == [None, None]
    assert "wider than the chart, up to 5.000\N{NO-BREAK SPACE}%" in chart.words


def test_intervals_that_no_night_has_are_not_told_of() -> None:
    chart = trend_chart("Contamination", [(days_before(1), tally(0.001)), (NIGHT, tally(0.002))], NIGHT)
    assert "Lines are" not in chart.words
    assert chart.words.endswith("No night has an interval.")


def test_a_night_of_which_nothing_was_seen_has_no_point() -> None:
    chart = trend_chart("Contamination", [(NIGHT, tally(None))], NIGHT)
    assert chart.marks[0].y is None
    assert chart.words == "1\N{NO-BREAK SPACE}night with loads."
