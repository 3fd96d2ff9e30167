import numpy as np
import pytest

from scrapray.errors import FrameError
from scrapray.imagery.bed import bed_mask, touches


def test_without_a_polygon_the_bed_is_the_whole_frame() -> None:
    assert bed_mask(None, (3, 4)).all()


def test_a_rectangle_holds_exactly_its_pixels() -> None:
    bed_HW = bed_mask([(10, 20), (30, 20), (30, 60), (10, 60)], (100, 50))
    expected_HW = np.zeros((100, 50), np.bool_)
    expected_HW[20:60, 10:30] = True
    np.testing.assert_array_equal(bed_HW, expected_HW)


def test_a_polygon_may_reach_all_edges_of_the_frame() -> None:
    assert bed_mask([(0, 0), (50, 0), (50, 100), (0, 100)], (100, 50)).all()


def test_the_direction_of_the_corners_does_not_matter() -> None:
    corners = [(3.0, 2.0), (40.5, 11.25), (25.0, 70.0), (9.0, 44.0)]
    np.testing.assert_array_equal(bed_mask(corners, (100, 50)), bed_mask(corners[::-1], (100, 50)))


@pytest.mark.parametrize("corner", [(-1.0, 5.0), (51.0, 5.0), (5.0, -0.5), (5.0, 100.5)])
def test_a_polygon_outside_the_frame_rejects_the_frame(corner: tuple[float, float]) -> None:
    with pytest.raises(FrameError) as caught:
        bed_mask([(10, 20), (30, 20), corner], (100, 50))
    assert (caught.value.stage, caught.value.reason) == ("bed", "polygon_outside_frame")


def test_a_polygon_between_pixel_centres_rejects_the_frame() -> None:
    with pytest.raises(FrameError, match="polygon_empty"):
        bed_mask([(10.6, 10.6), (10.9, 10.6), (10.9, 10.9)], (100, 50))


def test_a_box_touches_the_bed_by_one_pixel() -> None:
    bed_HW = np.zeros((20, 20), np.bool_)
    bed_HW[9, 9] = True
    boxes_N4 = np.array([(0, 0, 10, 10), (0, 0, 9, 20), (9, 9, 20, 20), (10, 0, 20, 20)])
    assert touches(boxes_N4, bed_HW).tolist() == [True, False, True, False]
