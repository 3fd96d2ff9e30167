import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scrapray.datasets.annotations import AnnotatedFrame, Region
from scrapray.datasets.painting import KEPT, odd_pieces, paint_mask_file, paint_regions
from scrapray.errors import FrameError
from scrapray.imagery.masks import encode_mask

HW = (10, 20)
NAMES = ("motor", "cable")


def frame(*regions: Region, **more: Any) -> AnnotatedFrame:
    return AnnotatedFrame(frame_id="f", uri="s3://frames/f.jpg", key="f.jpg", regions=regions, **more)


def square(class_name: str, x: int, y: int, side: int = 4, **more: Any) -> Region:
    corners = (x, y, x + side, y, x + side, y + side, x, y + side)
    return Region(class_name=class_name, annotation_id="1", polygons=(tuple(map(float, corners)),), **more)


@pytest.mark.parametrize("order", [1, -1])
def test_the_later_class_wins_whatever_the_order_and_the_overlap_is_counted(order: int) -> None:
    regions = [square("motor", 2, 2), square("cable", 4, 4), square("motor", 3, 3, is_crowd=True)]
    class_HW, overlapped_px, skipped = paint_regions(frame(*regions[::order]), HW, NAMES)
    expected_HW = np.zeros(HW, np.uint8)
    expected_HW[2:6, 2:6] = expected_HW[3:7, 3:7] = 1
    num_both = np.count_nonzero(expected_HW[4:8, 4:8])
    expected_HW[4:8, 4:8] = 2
    np.testing.assert_array_equal(class_HW, expected_HW)
    assert (class_HW.dtype, overlapped_px, skipped) == (np.uint8, num_both, [])


def test_masks_and_outlines_are_painted_together() -> None:
    mask = encode_mask(np.ones((2, 3), np.bool_), (10, 5), HW)
    region = Region(class_name="cable", annotation_id="2", mask=mask)
    class_HW = paint_regions(frame(region, square("motor", 0, 0)), HW, NAMES).class_HW
    assert (class_HW[5:7, 10:13] == 2).all() and (class_HW[:4, :4] == 1).all()
    assert np.count_nonzero(class_HW) == 6 + 16


def test_a_clean_frame_is_steel_everywhere() -> None:
    class_HW, overlapped_px, _ = paint_regions(frame(), HW, NAMES)
    assert (class_HW.shape, class_HW.any(), overlapped_px) == (HW, False, 0)


def test_what_reaches_over_the_edge_is_cut_and_what_lies_beyond_is_recorded() -> None:
    class_HW, _, skipped = paint_regions(frame(square("motor", 18, 8), square("cable", 30, 2)), HW, NAMES)
    assert np.count_nonzero(class_HW) == 4
    assert [(one.picture, one.stage, one.reason, one.detail) for one in skipped] == [
        ("s3://frames/f.jpg", "annotation", "no_pixels", "cable")
    ]


def test_a_frame_is_not_clean_because_no_mark_in_it_has_a_pixel() -> None:
    between_pixels = Region(class_name="motor", annotation_id="2", polygons=((3.1, 3.1, 3.3, 3.1, 3.3, 3.3),))
    with pytest.raises(FrameError, match=r"annotation: no_pixels \(annotations 1, 2; 2 in all\)"):
        paint_regions(frame(square("cable", 30, 2), between_pixels), HW, NAMES)


@pytest.mark.parametrize(
    "drawn",
    [
        frame(height_px=20, width_px=40),
        frame(
            Region(class_name="motor", annotation_id="1", mask=encode_mask(np.ones((2, 2), np.bool_), (0, 0), (20, 40)))
        ),
    ],
)
def test_what_was_drawn_on_another_size_rejects_the_frame(drawn: AnnotatedFrame) -> None:
    with pytest.raises(FrameError, match=r"annotation: other_size \(drawn on 40x20, frame is 20x10\)"):
        paint_regions(drawn, HW, NAMES)


def test_the_size_that_was_said_may_be_right() -> None:
    assert paint_regions(frame(square("motor", 0, 0), height_px=10, width_px=20), HW, NAMES).class_HW.any()


def png(values: np.ndarray, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values, mode).save(buffer, "PNG")
    return buffer.getvalue()


def test_values_of_a_mask_file_become_classes() -> None:
    values_HW = np.zeros(HW, np.uint8)
    values_HW[1, 1:4] = (1, 7, 200)
    class_HW = paint_mask_file(png(values_HW), HW, {0: 0, 1: 2, 7: 0, 200: 1})
    assert (class_HW.dtype, class_HW[1, 1:4].tolist(), np.count_nonzero(class_HW)) == (np.uint8, [2, 0, 1], 2)


def test_a_value_without_a_class_is_a_fault_of_the_mask() -> None:
    values_HW = np.zeros(HW, np.uint8)
    values_HW[1, 1:4] = (1, 7, 9)
    with pytest.raises(FrameError, match=r"mask: unknown_class_index \(7, 9\)"):
        paint_mask_file(png(values_HW), HW, {0: 0, 1: 1})


def test_pieces_of_a_mask_file_are_looked_at_as_annotations_are() -> None:
    class_HW = np.zeros((40, 60), np.uint8)
    class_HW[2:12, 2:12] = 1  # outside the bed
    class_HW[20:30, 30:40] = 1
    class_HW[35:37, 50:52] = 2
    bed_HW = np.zeros((40, 60), np.bool_)
    bed_HW[15:, 20:] = True
    found = odd_pieces("a.jpg", class_HW, bed_HW, ("motor", "cable"))
    assert [(one.picture, one.stage, one.reason, one.detail) for one in found] == [
        ("a.jpg", KEPT, "outside_bed", "motor of 100 px at (2, 2)"),
        ("a.jpg", KEPT, "tiny", "cable of 4 px at (50, 35)"),
    ]
