import pytest

from scrapray.datasets.classes import ClassNames
from scrapray.errors import ConfigurationError

CLASSES = ClassNames(["motor", "spray can"], {"motor": ["stator"]}, ["truck bed"])


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("motor", "motor"),
        ("Stator", "motor"),
        ("Spray_Can", "spray can"),
        ("spray-can ", "spray can"),
        ("Truck Bed", None),
    ],
)
def test_a_word_means_a_class_however_it_is_written(word: str, meaning: str | None) -> None:
    assert CLASSES.resolve([word], "a.json") == {word: meaning}


def test_all_words_without_a_meaning_are_named_at_once_with_the_way_out() -> None:
    with pytest.raises(ConfigurationError) as caught:
        CLASSES.resolve(["tyre", "motor", "battery", "tyre"], "a.json")
    assert "a.json has the classes 'battery', 'tyre', which the configuration lacks" in str(caught.value)
    assert "(motor, spray can) or to ignored_classes" in str(caught.value)


def test_a_star_takes_what_is_left() -> None:
    classes = ClassNames(["motor", "cable"], {"cable": ["*"]}, ["truck"])
    words = {"motor": "motor", "scratch": "cable", "truck": None}
    assert classes.resolve(words, "a.json") == words


def test_a_star_among_the_ignored_leaves_the_rest_out() -> None:
    classes = ClassNames(["motor"], ignored=["*"])
    assert classes.resolve(["motor", "scratch"], "a.json") == {"motor": "motor", "scratch": None}


@pytest.mark.parametrize(
    ("aliases", "ignored"),
    [({"motor": ["Cable"]}, []), ({"motor": ["coil"], "cable": ["coil"]}, []), ({}, ["MOTOR"]), ({}, ["*"])],
)
def test_a_word_with_two_meanings_is_refused(aliases: dict[str, list[str]], ignored: list[str]) -> None:
    with pytest.raises(ValueError, match="has two meanings"):
        ClassNames(["motor", "cable"], {"cable": ["*"]} | aliases, ignored)


def test_ids_are_positions_from_one() -> None:
    assert [CLASSES.class_id(name) for name in CLASSES.names] == [1, 2]
