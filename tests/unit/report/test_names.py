import pytest

from scrapray.report.names import PAGE, PICTURE, page_name, picture_name

HOSTILE = [
    "<script>alert(1)</script>",
    "../../x",
    "..",
    "",
    "/etc/passwd",
    "C:\\CON",
    "nul",
    "a" * 5000,
    "\u202etxt.exe",
    "\x00\n",
    "Müller & Söhne",
    "卡车",
    "🚚",
    "%2e%2e%2f",
    '"onload="x',
]


@pytest.mark.parametrize("words", HOSTILE)
def test_a_name_is_safe_whatever_the_words(words: str) -> None:
    assert PAGE.fullmatch(page_name(words, words))
    assert len(page_name(words)) <= 64


def test_every_identity_has_a_name_of_its_own() -> None:
    identities = [
        *[(words,) for words in HOSTILE],
        *[("a" * 5000 + "b",), ("nul", None), ("NUL",), ("None",), (None,), ("a", "b"), ("a-b",), ("a", "", "b")],
    ]
    names = [page_name(*identity) for identity in identities]
    assert len({name.casefold() for name in names}) == len(identities)
    assert names == [page_name(*identity) for identity in identities]


def test_a_name_can_be_read() -> None:
    assert page_name("Müller", "L 2").startswith("muller-l-2-")
    assert page_name("卡车").startswith("unnamed-")


def test_a_picture_is_named_by_what_it_shows() -> None:
    name = picture_name("ab" * 32, (0, 0, 10, 10), 10)
    assert PICTURE.fullmatch(name)
    others = {picture_name("ab" * 32, (0, 0, 10, 11), 10), picture_name("ab" * 32, (0, 0, 10, 10), 5)}
    assert name not in others | {picture_name("cd" * 32, (0, 0, 10, 10), 10)}
