import datetime as dt

import pytest

from scrapray.errors import ConfigurationError, FrameError
from scrapray.keys import KeyGrammar

RAILCAR = "{kind}_{date}_{time}_pick-{pick}_cam-{camera_id}_crane-{crane}_{side}_wide.jpg"


def grammar(pattern="{site}/{date}/{truck_id}/{load_id}/{camera_id}_{time}.jpg", **options):
    defaults = {"date_format": "%Y-%m-%d", "time_format": "%H%M%S", "time_zone": "UTC", "site": None}
    return KeyGrammar(pattern, **(defaults | options))


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC)


def test_every_named_part_of_a_key_is_told():
    parts = grammar().parse("north/2026-11-20/0007/L1/cam_2_063005.jpg")
    assert parts.site == "north"
    assert parts.date == dt.date(2026, 11, 20)
    assert parts.taken_utc == utc(2026, 11, 20, 6, 30, 5)
    assert (parts.truck_id, parts.load_id, parts.camera_id) == ("0007", "L1", "cam_2")
    assert parts.supplier is None
    assert parts.place == "cam_2"


def test_parts_may_hold_spaces_equal_signs_and_any_letters():
    parts = grammar().parse("site=Süd 1/2026-11-20/truck=7/L 1/日本=1_063005.jpg")
    assert (parts.site, parts.truck_id, parts.load_id, parts.camera_id) == ("site=Süd 1", "truck=7", "L 1", "日本=1")


def test_the_railcar_grammar_joins_on_the_crane():
    reader = grammar(RAILCAR, time_format="%H-%M-%S", site="north", place_part="crane", time_zone="Europe/Rome")
    parts = reader.parse("sym_2021-03-16_06-39-24_pick-045873_cam-Pr12Pos_crane-PR12_Rear_wide.jpg")
    assert parts.taken_utc == utc(2021, 3, 16, 5, 39, 24)
    assert (parts.site, parts.camera_id, parts.place) == ("north", "Pr12Pos", "PR12")


def test_dates_and_times_match_only_what_their_formats_hold():
    reader = grammar("{camera_id}-{date}-{time}.jpg", time_format="%H-%M-%S", site="n")
    assert reader.parse("cam-7-2026-11-20-06-30-05.jpg").camera_id == "cam-7"


def test_a_date_may_span_folders():
    reader = grammar("{date}/{camera_id}_{time}.jpg", date_format="%Y/%m/%d", site="n")
    assert reader.parse("2026/11/20/c_063005.jpg").date == dt.date(2026, 11, 20)


def test_a_time_may_hold_the_date_and_an_offset():
    reader = grammar("{camera_id}_{time}.jpg", time_format="%Y%m%dT%H%M%S%z", time_zone="Europe/Rome", site="n")
    parts = reader.parse("c_20261120T233000+0000.jpg")
    assert parts.taken_utc == utc(2026, 11, 20, 23, 30)
    assert parts.date == dt.date(2026, 11, 21), "the local date at the site"


def test_a_part_that_stands_twice_must_be_the_same():
    reader = grammar("{date}/{camera_id}_{date}_{time}.jpg", site="n")
    assert reader.parse("2026-11-20/c_2026-11-20_063005.jpg").camera_id == "c"
    with pytest.raises(FrameError, match="key_mismatch"):
        reader.parse("2026-11-20/c_2026-11-21_063005.jpg")


@pytest.mark.parametrize("key", ["", "x.jpg", "n/2026-11-20/7/L1/c_063005.png", "n/2026-11-20/7/8/L1/c_063005.jpg"])
def test_a_key_of_another_shape_is_a_mismatch(key):
    with pytest.raises(FrameError, match="manifest: key_mismatch"):
        grammar().parse(key)


@pytest.mark.parametrize("moment", ["2026-02-30 063005", "2026-11-20 256199", "0000-01-01 000000", "0001-01-01 000000"])
def test_a_moment_that_no_calendar_has_is_a_bad_time(moment):
    date, time = moment.split()
    with pytest.raises(FrameError, match="manifest: bad_time"):
        grammar(time_zone="Europe/Rome").parse(f"n/{date}/7/L1/c_{time}.jpg")


@pytest.mark.parametrize(
    ("key", "date"),
    [
        ("n/2026-11-20/7/L1/c_256199.jpg", dt.date(2026, 11, 20)),
        ("n/2026-02-30/7/L1/c_063005.jpg", None),
        ("n/2026-11-20/7/L1/c_0630.jpg", None),
    ],
)
def test_a_date_is_told_whatever_the_time_beside_it(key, date):
    assert grammar().date_of(key) == date


def test_half_a_date_is_none():
    months = grammar("{date}/{camera_id}_{time}.jpg", date_format="%Y-%m", time_format="%d_%H%M%S", site="n")
    assert months.parse("2026-11/c_20_063005.jpg").date == dt.date(2026, 11, 20)
    assert months.date_of("2026-11/c_20_993005.jpg") is None
    within_time = grammar("{camera_id}_{time}.jpg", time_format="%Y%m%dT%H%M%S", site="n")
    assert within_time.date_of("c_20261120T993005.jpg") is None


def test_an_hour_that_comes_twice_is_taken_as_the_first():
    parts = grammar(time_zone="Europe/Rome").parse("n/2026-10-25/7/L1/c_023000.jpg")
    assert parts.taken_utc == utc(2026, 10, 25, 0, 30)


def test_an_hour_that_no_clock_shows_is_read_as_if_the_clock_had_not_been_changed():
    parts = grammar(time_zone="Europe/Rome").parse("n/2026-03-29/7/L1/c_023000.jpg")
    assert parts.taken_utc == utc(2026, 3, 29, 1, 30)
    assert parts.date == dt.date(2026, 3, 29)


def test_special_characters_of_a_pattern_mean_themselves():
    reader = grammar("[a+b].({camera_id})/{date} {time}.jpg", site="n")
    assert reader.parse("[a+b].(c)/2026-11-20 063005.jpg").camera_id == "c"
    with pytest.raises(FrameError):
        reader.parse("axb.(c)/2026-11-20 063005.jpg")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "{site}/{date}/{time"}, "brace without its partner"),
        ({"pattern": "{site}/{date}/}{time}"}, "brace without its partner"),
        ({"pattern": "{site}/{date}/{Camera Id}_{time}"}, r"\{Camera Id\} is not a name"),
        ({"pattern": "{site}/{date}/{}_{time}"}, r"\{\} is not a name"),
        ({"pattern": "{date}/{time}"}, r"has no \{site\}; add it or set \[archive\] site"),
        ({"pattern": "{site}/{date}/{camera_id}"}, "tells no full date and time"),
        ({"pattern": "{site}/{time}"}, "tells no full date and time"),
        ({"date_format": "%Y-%m"}, "tells no full date and time"),
        ({"date_format": "%A"}, "has %A; known are %Y"),
        ({"place_part": "crane"}, r"join_on is 'crane', but key_pattern has no \{crane\}"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused_with_the_reason(options, message):
    with pytest.raises(ConfigurationError, match=message):
        grammar(**options)
