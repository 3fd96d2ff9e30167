from types import SimpleNamespace

import numpy as np

from scrapray.segmenter.measure import STRIDE_PX
from scrapray.segmenter.mining import mined_windows

SIDE_PX = 128


class Brightness:
    """A segmenter that takes what is red for the first contaminant and what is green for the second."""

    card = SimpleNamespace(tile_sides_px=(64,), classes=("red", "green"))

    def score_tiles(self, tiles_NHW3, out_px, autocast=False):
        assert tiles_NHW3.shape[1:] == (64, 64, 3) and out_px == 64 // STRIDE_PX
        return tiles_NHW3[:, ::STRIDE_PX, ::STRIDE_PX, :2].transpose(0, 3, 1, 2) / np.float32(255)


def frame(spots, contaminants=()):
    """Spots (x, y, colour, brightness) of 12 px; those whose place is among the contaminants are some."""
    image_HW3, class_HW = np.zeros((512, 640, 3), np.uint8), np.zeros((512, 640), np.uint8)
    for number, (x, y, colour, brightness) in enumerate(spots):
        here = np.s_[y - 6 : y + 6, x - 6 : x + 6]
        image_HW3[(*here, colour)] = brightness
        class_HW[here] = number in contaminants and colour + 1
    return image_HW3, class_HW


def mine(pair, num_false_alarms):
    return list(mined_windows(Brightness(), [pair], SIDE_PX, num_false_alarms))


def test_the_worst_false_alarms_come_first_each_in_the_middle_of_its_window():
    spots = [(200, 200, 0, 120), (400, 300, 1, 250), (500, 120, 0, 180)]
    found = mine(frame(spots), 3)
    assert [image_HW3.max() for image_HW3, _ in found] == [250, 180, 120]
    for image_HW3, class_HW in found:
        assert image_HW3.shape == (SIDE_PX, SIDE_PX, 3) and class_HW.shape == (SIDE_PX, SIDE_PX)
        assert np.abs(np.argwhere(image_HW3.max(2)).mean(0) - SIDE_PX / 2).max() < 8


def test_a_false_alarm_is_not_mined_twice():
    found = mine(frame([(200, 200, 0, 250), (220, 200, 0, 240), (400, 300, 1, 120)]), 2)
    assert [image_HW3.max() for image_HW3, _ in found] == [250, 120]


def test_what_is_a_contaminant_or_its_blurred_edge_is_no_false_alarm():
    found = mine(frame([(200, 200, 0, 250), (220, 200, 0, 240), (400, 300, 1, 120)], contaminants={0}), 1)
    (alarm, _), (image_HW3, class_HW) = found
    assert alarm.max() == 120
    assert image_HW3.max() == 250 and (class_HW == 1).sum() == 144


def test_contaminants_join_even_when_they_were_not_seen():
    found = mine(frame([(200, 200, 0, 0), (400, 300, 1, 250)], contaminants={0, 1}), 0)
    assert sorted(class_HW.max() for _, class_HW in found) == [1, 2]


def test_windows_at_the_rim_lie_within_the_frame():
    (image_HW3, _), *_ = mine(frame([(8, 8, 0, 250)]), 1)
    assert image_HW3.shape == (SIDE_PX, SIDE_PX, 3)
    assert image_HW3[2:14, 2:14, 0].min() == 250
