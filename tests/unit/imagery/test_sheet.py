import numpy as np

from scrapray.imagery.png import decode_png
from scrapray.imagery.sheet import color_of, outlined, sheet


def test_a_region_has_a_line_around_it_in_the_colour_of_its_class() -> None:
    tile_HW3 = np.full((64, 64, 3), 100, np.uint8)
    class_HW = np.zeros((16, 16), np.uint8)
    class_HW[4:8, 4:8] = 2
    drawn_HW3 = outlined(tile_HW3, class_HW)
    colored_HW = (drawn_HW3 == color_of(2)).all(axis=2)
    assert colored_HW[16, 16:32].all(), "a map of a quarter the size is laid over the whole picture"
    assert not colored_HW[22:26, 22:26].any(), "what is inside stays to be seen"
    assert (tile_HW3 == 100).all(), "the picture that was given is as it was"


def test_pictures_stand_in_rows_under_titles_and_a_legend() -> None:
    pictures = [np.full((40, 60, 3), value, np.uint8) for value in (50, 100, 150)]
    page_HW3 = decode_png(sheet(pictures, columns=2, titles=("truth", "found"), legend=("motor", "cable")))
    for value in (50, 100, 150):
        assert (page_HW3 == value).all(axis=2).sum() >= 40 * 60
    assert (page_HW3 == color_of(1)).all(axis=2).any()
    assert page_HW3.shape[1] == 2 * 64


def test_a_long_title_stays_above_its_own_column() -> None:
    pictures = [np.full((40, 60, 3), 50, np.uint8)] * 2
    short_HW3, long_HW3 = (
        decode_png(sheet(pictures, columns=2, titles=titles)) for titles in (("a", ""), ("prompts only, frozen", ""))
    )
    added_px = len(long_HW3) - len(short_HW3)
    assert added_px > 0
    assert (long_HW3[: added_px + 20, 64:] == 255).all(), "white above the other"
