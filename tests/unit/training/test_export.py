import numpy as np
import pytest

from scrapray.segmenter.measure import Figures
from scrapray.training.export import best_f1_thresholds

NAMES = ("motor", "cable")


def figures_of(scores_KHW: np.ndarray, class_HW: np.ndarray) -> Figures:
    any_HW = scores_KHW.max(axis=0)
    return Figures.of(np.concatenate([any_HW[None], scores_KHW])[None].astype(np.float32), class_HW[None], NAMES)


def test_the_threshold_of_a_class_is_where_its_f1_is_best() -> None:
    class_HW = np.repeat(np.repeat(np.array([[0, 1], [2, 0]], np.uint8), 8, axis=0), 8, axis=1)
    cells = class_HW[::4, ::4]
    scores = np.stack([np.where(cells == 1, 0.7, 0.3), np.where(cells == 2, 0.4, 0.1)])
    assert best_f1_thresholds(figures_of(scores, class_HW).metrics(), NAMES) == pytest.approx((0.7, 0.4), rel=1e-3)


def test_a_class_that_validation_does_not_show_takes_the_threshold_of_all() -> None:
    class_HW = np.zeros((16, 16), np.uint8)
    class_HW[:8] = 1
    scores = np.stack([np.where(class_HW[::4, ::4] == 1, 0.6, 0.2), np.full((4, 4), 0.05)])
    motor, cable = best_f1_thresholds(figures_of(scores, class_HW).metrics(), NAMES)
    assert motor == cable == pytest.approx(0.6, rel=1e-3)
