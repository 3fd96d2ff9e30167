import numpy as np
import pytest
from numpy.typing import NDArray

from scrapray.imagery.components import GROW_FRAC, Component, find_components, peak_score

STRIDE = 4
FRAME_HW = (80, 120)
BED_HW = np.ones(FRAME_HW, np.bool_)


def map_of(num_classes: int = 2) -> NDArray[np.float32]:
    return np.zeros((num_classes, FRAME_HW[0] // STRIDE, FRAME_HW[1] // STRIDE), np.float32)


def found_in(map_Khw: NDArray[np.float32], bed_HW: NDArray[np.bool_] = BED_HW, min_area_px: int = 1) -> list[Component]:
    return find_components(map_Khw, [0.5] * len(map_Khw), bed_HW, STRIDE, min_area_px)


def test_nothing_above_the_threshold_is_no_component() -> None:
    assert found_in(map_of() + 0.49) == []


def test_a_component_is_measured_in_frame_pixels() -> None:
    map_Khw = map_of()
    map_Khw[1, 3:5, 10:13] = 0.8
    (component,) = found_in(map_Khw)
    assert component.class_index == 1
    assert component.score == pytest.approx(0.8)
    assert component.bbox_xyxy == (40, 12, 52, 20)
    assert component.area_px == 2 * 3 * STRIDE**2
    assert component.mask.shape == (8, 12)
    assert component.mask.all()


def test_cells_that_meet_at_a_corner_are_one_component() -> None:
    map_Khw = map_of()
    map_Khw[0, [2, 3], [5, 6]] = 0.9
    (component,) = found_in(map_Khw)
    assert component.area_px == 2 * STRIDE**2
    assert not component.mask.all()


def test_cells_apart_are_two_components_in_the_order_of_their_scores() -> None:
    map_Khw = map_of()
    map_Khw[0, 2, 5], map_Khw[0, 2, 9] = 0.7, 0.9
    assert [component.score for component in found_in(map_Khw)] == pytest.approx([0.9, 0.7])


def test_a_component_grows_to_the_lower_threshold_and_no_further() -> None:
    map_Khw = map_of()
    map_Khw[0, 2, 4:9] = [0.5 * GROW_FRAC - 0.01, 0.5 * GROW_FRAC + 0.01, 0.9, 0.5 * GROW_FRAC + 0.01, 0.1]
    (component,) = found_in(map_Khw)
    assert component.bbox_xyxy == (20, 8, 32, 12)


def test_where_classes_overlap_the_one_that_exceeds_its_own_threshold_most_wins() -> None:
    map_Khw = map_of()
    map_Khw[0, 2:6, 2:6] = 0.55
    map_Khw[1, 2:6, 2:6] = 0.45
    (component,) = find_components(map_Khw, [0.5, 0.3], BED_HW, STRIDE, 1)
    assert component.class_index == 1


def test_components_never_overlap() -> None:
    map_Khw = np.random.default_rng(0).random((3, 20, 30), dtype=np.float32)
    covered_HW = np.zeros(FRAME_HW, int)
    for component in found_in(map_Khw):
        x0, y0, x1, y1 = component.bbox_xyxy
        covered_HW[y0:y1, x0:x1] += component.mask
    assert covered_HW.max() == 1


def test_a_component_ends_at_the_edge_of_the_bed() -> None:
    bed_HW = np.zeros(FRAME_HW, np.bool_)
    bed_HW[:, 42:] = True
    map_Khw = map_of()
    map_Khw[0, 3:5, 8:13] = 0.8
    (component,) = found_in(map_Khw, bed_HW)
    assert component.bbox_xyxy == (42, 12, 52, 20)
    assert component.area_px == 8 * 10


def test_a_component_outside_the_bed_is_none() -> None:
    map_Khw = map_of()
    map_Khw[0, 3:5, 8:13] = 0.8
    assert found_in(map_Khw, np.zeros(FRAME_HW, np.bool_)) == []


def test_a_map_that_reaches_over_the_frame_is_cut_to_it() -> None:
    bed_HW = np.ones((78, 118), np.bool_)
    (component,) = found_in(map_of(1) + 0.9, bed_HW)
    assert component.bbox_xyxy == (0, 0, 118, 78)
    assert component.area_px == 78 * 118


def test_small_components_are_dropped() -> None:
    map_Khw = map_of()
    map_Khw[0, 2, 2:5] = 0.9
    assert len(found_in(map_Khw, min_area_px=48)) == 1
    assert found_in(map_Khw, min_area_px=49) == []


def test_one_hot_cell_does_not_make_a_detection_of_a_lukewarm_region() -> None:
    map_Khw = map_of()
    map_Khw[0, 2:8, 2:8] = 0.4
    map_Khw[0, 4, 4] = 0.95
    assert found_in(map_Khw, min_area_px=160) == []
    assert len(found_in(map_Khw, min_area_px=16)) == 1


def test_the_peak_is_the_mean_of_as_many_cells_as_the_minimum_area() -> None:
    scores_N = np.array([0.1, 0.9, 0.5, 0.7], np.float32)
    assert peak_score(scores_N, STRIDE, 16) == pytest.approx(0.9)
    assert peak_score(scores_N, STRIDE, 17) == pytest.approx(0.8)
    assert peak_score(scores_N, STRIDE, 10_000) == pytest.approx(0.55)
    assert peak_score(scores_N[:0], STRIDE, 16) == 0
