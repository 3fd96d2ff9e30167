import numpy as np
import pytest

from scrapray.imagery.grounds import GROUNDS, with_article
from scrapray.imagery.outlines import OUTLINES
from scrapray.imagery.parts import CONTAMINANTS
from scrapray.imagery.things import MATERIALS, NAMES, PARTS, CaptionedThing, draw_thing
from scrapray.labels import SCRAP_CONTAMINANTS, STEEL_PROMPT


def draw(seed: int, name: str | None = None, size_px: int = 64) -> CaptionedThing:
    return draw_thing(np.random.default_rng(seed), size_px, name, num_captions=12)


def test_the_same_seed_draws_the_same_picture_and_words() -> None:
    first, again, other = draw(3), draw(3), draw(4)
    assert (first.image_HW3 == again.image_HW3).all()
    assert first.captions == again.captions
    assert not np.array_equal(first.image_HW3, other.image_HW3)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_drawn_and_stands_in_its_captions(name: str) -> None:
    thing = draw(1, name)
    assert thing.image_HW3.shape == (64, 64, 3)
    assert thing.image_HW3.dtype == np.uint8
    assert thing.image_HW3.std() > 1
    assert any(name in caption for caption in thing.captions)


@pytest.mark.parametrize("name", sorted({*PARTS, *CONTAMINANTS} - {*OUTLINES}))
def test_words_about_steel_are_true_of_scrap_parts(name: str) -> None:
    for seed in range(3):
        thing = draw(seed, name)
        assert thing.is_steel == (name not in CONTAMINANTS)
        for caption in thing.captions:
            assert not ("not steel" in caption and thing.is_steel)
            assert not ((STEEL_PROMPT in caption or "made of steel" in caption) and not thing.is_steel)


def test_the_prompts_of_the_paper_are_heard_for_each_contaminant() -> None:
    for contaminant in SCRAP_CONTAMINANTS:
        heard = {caption for seed in range(12) for caption in draw(seed, contaminant.name).captions}
        assert any(caption.startswith(contaminant.prompt[: contaminant.prompt.index(" but")]) for caption in heard)


def test_the_book_and_its_materials_name_the_same_things() -> None:
    assert set(MATERIALS) == set(OUTLINES)


@pytest.mark.parametrize("where", GROUNDS)
def test_every_ground_fills_its_picture(where: str) -> None:
    relief, colors = GROUNDS[where]
    bright_HW, height_HW = relief(np.random.default_rng(0), 48)
    assert bright_HW.shape == height_HW.shape == (48, 48)
    assert np.isfinite(bright_HW).all() and np.isfinite(height_HW).all()
    assert colors


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("pipe", "a pipe"), ("orange cup", "an orange cup"), ("rusty turnings", "some rusty turnings")],
)
def test_articles_fit_their_nouns(noun: str, expected: str) -> None:
    assert with_article(noun) == expected
