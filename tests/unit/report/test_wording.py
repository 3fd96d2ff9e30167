import datetime as dt
import re
from dataclasses import asdict
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from scrapray.config import DEFAULT_RULES
from scrapray.report import wording
from tests.unit.report.nights import moment

SOURCES = Path(__file__).parents[3] / "scrapray"


def plain(words: str) -> str:
    return words.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (None, "not known"),
        ("0007", "0007"),
        (" ", "without a name"),
        ("a\x00b\nc", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"),
        ("\u202eexe.txt", "\N{REPLACEMENT CHARACTER}exe.txt"),
        ("x" * 500, "x" * 79 + "…"),
        ("Müller & Söhne 卡车", "Müller & Söhne 卡车"),
    ],
)
def test_names_from_outside_cannot_steer_a_page(words: str | None, shown: str) -> None:
    assert wording.name(words) == shown


def test_numbers_have_their_units() -> None:
    assert plain(wording.percent(0.00036)) == "0.036 %"
    assert wording.percent(None) == "not known"
    assert plain(wording.interval(0.0, 0.034)) == "0.000 to 3.400 %"
    assert wording.interval(0.0, None) == "no interval"
    assert plain(wording.number(1, "load")) == "1 load"
    assert plain(wording.number(1200, "load")) == "1,200 loads"
    assert plain(wording.size({"x_min_px": 10, "y_min_px": 5, "x_max_px": 30, "y_max_px": 20})) == "20 × 15 px"


def test_times_are_those_of_the_yard() -> None:
    assert wording.clock(moment(7), ZoneInfo("Europe/Rome")) == "06:20:07"
    assert wording.clock(None, ZoneInfo("UTC")) == "time not known"
    assert wording.day(moment(0).date()) == "20 November 2026"


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2026-10-25T00:50Z", "2026-10-25T01:10Z", "02:50:00 CEST to 02:10:00 CET"),
        ("2026-10-25T01:10Z", "2026-10-25T01:20Z", "02:10:00 to 02:20:00"),
        ("2026-11-20T22:50Z", "2026-11-20T23:10Z", "23:50:00 to 00:10:00"),
        ("2026-11-20T22:50Z", None, "23:50:00 to time not known"),
    ],
)
def test_a_period_does_not_end_before_it_begins_when_clocks_are_put_back(
    start: str, end: str | None, words: str
) -> None:
    first, last = (each and dt.datetime.fromisoformat(each) for each in (start, end))
    assert wording.period(first, last, ZoneInfo("Europe/Rome")) == words


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (0, 0, "upper left"),
        (50, 50, "centre"),
        (99, 50, "middle right"),
        (50, 99, "lower centre"),
        (100, 100, "lower right"),
    ],
)
def test_a_place_in_the_frame_has_words(x: int, y: int, words: str) -> None:
    assert wording.place({"x_min_px": x, "x_max_px": x, "y_min_px": y, "y_max_px": y}, 100, 100) == words


def test_every_reason_for_leaving_out_a_frame_has_words() -> None:
    stages = {"download", "decode", "bed", "quality", "segment"}
    raised = {
        pair
        for path in SOURCES.rglob("*.py")
        for pair in re.findall(r'FrameError\(\s*"(\w+)", "(\w+)"', path.read_text(encoding="utf-8"))
        if pair[0] in stages
    }
    assert len(raised) >= 8
    assert raised <= set(wording.REASONS)


def test_a_new_reason_is_shown_as_it_is() -> None:
    assert wording.reason("lens", "full_of_dust") == "lens: full of dust"


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.name)
def test_every_condition_of_a_rule_is_told(rule) -> None:
    values = asdict(rule)
    given = [key for key, value in values.items() if value is not None and key not in ("name", "verdict")]
    assert wording.conditions(values).count(",") == len(given) - 1


def test_conditions_read_like_a_sentence() -> None:
    rule = {"class_name": "spray can", "min_count": 0, "min_contamination_frac": 0.001}
    words = "a spray can, a single frame is enough, contamination 0.1 % or more"
    assert plain(wording.conditions(rule)) == words


@pytest.mark.parametrize(
    ("frac", "shown"),
    [(0.00004, "0.004"), (0.0004, "0.04"), (0.0005, "0.05"), (0.0007, "0.07"), (0.0025, "0.25"), (0.01, "1"), (0, "0")],
)
def test_a_limit_is_shown_as_it_was_set(frac: float, shown: str) -> None:
    assert plain(wording.conditions({"min_contamination_frac": frac})) == f"contamination {shown} % or more"


def test_what_a_load_holds_tells_counts_from_glimpses() -> None:
    can, motor = {"class_name": "spray can", "count": 2}, {"class_name": "motor", "count": 0}
    assert wording.found([can, motor]) == "spray can (2 or more), motor (in one frame only)"
    assert wording.found([]) == "nothing"
