import numpy as np
from pycocotools import mask as coco

from scrapray.imagery.masks import decode_mask, encode_mask


def test_a_cut_out_is_encoded_as_the_coco_api_encodes_the_frame() -> None:
    frame_HW = np.zeros((40, 30), np.bool_)
    frame_HW[5:25, 7:20] = np.random.default_rng(0).random((20, 13)) < 0.5
    expected = coco.encode(np.asfortranarray(frame_HW.astype(np.uint8)))
    mask = encode_mask(frame_HW[5:25, 7:20], (7, 5), (40, 30))
    assert mask == {"height_px": 40, "width_px": 30, "counts": expected["counts"].decode()}


def test_a_full_column_runs_on_into_the_next() -> None:
    frame_HW = np.zeros((6, 5), np.bool_)
    frame_HW[:, 1:3] = True
    expected = coco.encode(np.asfortranarray(frame_HW.astype(np.uint8)))
    assert encode_mask(frame_HW, (0, 0), (6, 5))["counts"] == expected["counts"].decode()


def test_nothing_and_everything_come_back() -> None:
    for value in (False, True):
        frame_HW = np.full((6, 5), value)
        np.testing.assert_array_equal(decode_mask(encode_mask(frame_HW, (0, 0), (6, 5))), frame_HW)
