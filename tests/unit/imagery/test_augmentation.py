import numpy as np
import pytest

from scrapray.errors import ConfigurationError
from scrapray.imagery.augmentation import AugmentConfig, augment, paste_contaminants


def tile(side=40):
    """A tile whose picture says what its classes are: red is 60 times the class."""
    class_HW = np.zeros((side, side), np.uint8)
    class_HW[4:14, 6:30], class_HW[20:36, 22:34] = 1, 3
    image_HW3 = np.stack([60 * class_HW, np.full_like(class_HW, 90), np.full_like(class_HW, 30)], axis=-1)
    return image_HW3, class_HW


def varied(seed=0, **settings):
    return augment(np.random.default_rng(seed), *tile(), AugmentConfig(**settings))


def test_nothing_is_changed_unless_asked_for():
    image_HW3, class_HW = varied()
    assert (image_HW3 == tile()[0]).all() and (class_HW == tile()[1]).all()


@pytest.mark.parametrize("settings", [{"flip": True}, {"rotate": True}, {"scale": (0.6, 1.6)}], ids=str)
def test_picture_and_classes_move_together_and_no_class_is_made_up(settings):
    changed = 0
    for seed in range(12):
        image_HW3, class_HW = varied(seed, **settings)
        assert image_HW3.shape == (40, 40, 3) and class_HW.shape == (40, 40)
        assert set(np.unique(class_HW)) <= {0, 1, 3}
        # Borders are mixed in the picture only, by half a pixel.
        assert np.mean(np.abs(image_HW3[..., 0] / 60 - class_HW) < 0.5) > 0.9
        changed += (class_HW != tile()[1]).any()
    assert changed >= 3


def test_light_changes_the_picture_by_no_more_than_asked_for_and_leaves_the_classes():
    greens = [varied(seed, light=0.3)[0][..., 1].mean() / 90 for seed in range(40)]
    assert 0.6 < min(greens) < 0.8 and 1.2 < max(greens) < 1.45
    assert (varied(1, light=0.3)[1] == tile()[1]).all()


def test_the_same_chance_gives_the_same_tile():
    first, again = (varied(5, flip=True, rotate=True, scale=(0.8, 1.2), light=0.2) for _ in range(2))
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all()


def test_pasted_contaminants_bring_their_pixels_and_their_classes():
    clean = np.full((40, 40, 3), 7, np.uint8), np.zeros((40, 40), np.uint8)
    image_HW3, class_HW = paste_contaminants(np.random.default_rng(0), clean, tile())
    assert np.bincount(class_HW.ravel()).tolist() == np.bincount(tile()[1].ravel()).tolist()
    assert (image_HW3[class_HW == 0] == 7).all()
    assert (image_HW3[class_HW > 0][:, 0] == 60 * class_HW[class_HW > 0]).all()
    assert (class_HW != tile()[1]).any()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (2.0, 1.0)}, "scale"),
        ({"light": 1.0}, "light"),
        ({"copy_paste": 2.0}, "copy_paste"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(settings, named):
    with pytest.raises(ConfigurationError, match=named):
        AugmentConfig(**settings)
