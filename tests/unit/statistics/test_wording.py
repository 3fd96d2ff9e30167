import pytest

from scrapray.statistics.wording import found_in_words, share_in_words


def found(name, severity, count, max_score):
    return {"class_name": name, "severity": severity, "count": count, "max_score": max_score}


def test_the_most_severe_comes_first_and_what_one_frame_shows_is_said_to_be_so():
    classes = [found("cable", 1, 0, 0.8), found("motor", 2, 0, 0.0), found("spray can", 3, 2, 0.9)]
    assert found_in_words(classes) == "2 spray can, cable (1 frame)"


def test_where_nothing_was_found_there_is_a_dash():
    assert found_in_words([found("motor", 2, 0, 0.0)]) == "-"


@pytest.mark.parametrize(
    ("share", "words"),
    [
        ((None, None, None), "unknown"),
        ((0.00036, None, None), "0.036%"),
        ((0.00036, 0.0, 0.03406), "0.036% (95 %: 0.000% to 3.406%)"),
    ],
)
def test_contamination_is_in_percent_with_its_interval(share, words):
    assert share_in_words(*share) == words
