import math

import numpy as np
import pytest

from scrapray.imagery import lighting, parts
from scrapray.imagery.drawing import Canvas, plain
from scrapray.labels import SCRAP_CONTAMINANTS

ALL_PARTS = parts.STEEL_PARTS + parts.CONTAMINANTS + parts.HARD_NEGATIVES


def draw(name, seed=0, length_px=120.0, **attributes):
    return parts.draw_part(name, np.random.default_rng(seed), length_px, **attributes)


def extent_px(sprite):
    rows, columns = np.nonzero(sprite.alpha_HW)
    return math.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1)


def test_contaminants_carry_the_names_of_the_labels_in_their_order():
    assert tuple(contaminant.name for contaminant in SCRAP_CONTAMINANTS) == parts.CONTAMINANTS
    assert len(set(ALL_PARTS)) == len(ALL_PARTS)


@pytest.mark.parametrize("name", ALL_PARTS)
def test_every_part_has_the_length_asked_for_and_fits_its_arrays(name):
    for seed in range(4):
        sprite = draw(name, seed)
        assert sprite.name == name
        assert 0.4 * 120 < extent_px(sprite) < 1.6 * 120
        assert sprite.rgb_HW3.shape == (*sprite.alpha_HW.shape, 3)
        assert sprite.height_HW.shape == sprite.gloss_HW.shape == sprite.alpha_HW.shape
        assert set(np.unique(sprite.alpha_HW)) <= {0, 255}
        assert np.isfinite(sprite.height_HW).all()
        assert sprite.height_HW.max() > 0.5


@pytest.mark.parametrize("name", ALL_PARTS)
def test_the_same_chance_draws_the_same_part_and_another_another(name):
    first, again, other = draw(name, 3), draw(name, 3), draw(name, 4)
    for array in ("rgb_HW3", "alpha_HW", "height_HW", "gloss_HW"):
        assert np.array_equal(getattr(first, array), getattr(again, array))
    assert first.rgb_HW3.tobytes() != other.rgb_HW3.tobytes()


@pytest.mark.parametrize("name", parts.CONTAMINANTS)
def test_a_contaminant_of_15_px_still_has_an_outline(name):
    sprite = draw(name, length_px=15)
    assert 5 < extent_px(sprite) < 24
    assert sprite.area_px > 5


def test_material_and_paint_are_what_was_asked_for():
    assert draw("pipe", material="rusty").words == ("rusty",)
    blue, red = (draw("beam", material="painted", paint=paint) for paint in ("blue", "red"))
    assert (blue.words, red.words) == (("painted", "blue"), ("painted", "red"))
    blueness = [float(np.mean(part.rgb_HW3[part.alpha_HW > 0] @ np.array([-1.0, 0, 1]))) for part in (blue, red)]
    assert blueness[0] > blueness[1] + 20
    assert "yellow" in draw("cable", paint="yellow").words


def test_turning_keeps_the_area_and_scaling_squares_it():
    sprite = draw("plate")
    assert sprite.turned(1.0).area_px == pytest.approx(sprite.area_px, rel=0.03)
    assert sprite.turned(0.0, 0.5).area_px == pytest.approx(sprite.area_px / 4, rel=0.06)
    upright = sprite.turned(math.pi / 2)
    assert np.subtract(upright.alpha_HW.shape, sprite.alpha_HW.shape[::-1]) == pytest.approx(0, abs=4)


def test_of_two_solids_at_one_place_the_higher_one_shows():
    canvas = Canvas(20, 20)
    canvas.block((-10, 10), (-10, 10), 5, plain(canvas.shape_hw, (1, 0, 0)))
    canvas.block((-10, 0), (-10, 10), 3, plain(canvas.shape_hw, (0, 1, 0)))
    canvas.block((0, 10), (-10, 10), 8, plain(canvas.shape_hw, (0, 0, 1)))
    sprite = canvas.sprite("thing", ())
    assert tuple(sprite.rgb_HW3[12, 6]) == (255, 0, 0)
    assert tuple(sprite.rgb_HW3[12, 18]) == (0, 0, 255)


def test_a_post_throws_its_shadow_away_from_the_lamp_and_a_gap_is_dark():
    light = lighting.Light(azimuth_rad=0, elevation_rad=0.7, diffuse_frac=0.4, tint=(1, 1, 1), exposure=1, depth_px=40)
    rgb_HW3, gloss_HW = np.full((101, 101, 3), 120, np.uint8), np.zeros((101, 101), np.uint8)
    height_HW = np.zeros((101, 101), np.float32)
    height_HW[46:55, 46:55] = 30
    lit_HW = lighting.shade(rgb_HW3, height_HW, gloss_HW, light)[..., 0]
    assert lit_HW[50, 36] < 0.8 * lit_HW[50, 64]
    trench_HW = np.full((101, 101), 40, np.float32)
    trench_HW[:, 48:53] = 0
    trench = lighting.shade(rgb_HW3, trench_HW, gloss_HW, light)[..., 0]
    assert trench[50, 50] < 0.6 * trench[50, 10]
