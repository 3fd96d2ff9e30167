"""SAM of a few thousand random parameters, through the same code as a pretrained one."""

from pathlib import Path

import numpy as np
import pytest

from scrapray.errors import ModelError
from scrapray.segmenter import box_masks
from scrapray.segmenter.box_masks import BoxMasker

IMAGE_HW3 = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
BOXES_N4 = np.array([[4, 4, 30, 30], [10, 8, 60, 40], [0, 0, 20, 47]], np.float32)


def test_each_box_has_a_mask_of_the_image_whatever_comes_with_it(masker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    masks_in = BoxMasker(masker, "cpu")
    masks_NHW = masks_in(IMAGE_HW3, BOXES_N4)
    assert (masks_NHW.shape, masks_NHW.dtype) == ((3, 48, 64), np.bool_)
    assert len({mask_HW.tobytes() for mask_HW in masks_NHW}) > 1, "it depends on the box"
    alone_NHW = np.concatenate([masks_in(IMAGE_HW3, box_4[None]) for box_4 in BOXES_N4])
    np.testing.assert_array_equal(masks_NHW, alone_NHW)
    monkeypatch.setattr(box_masks, "_BOXES_AT_ONCE", 2)
    np.testing.assert_array_equal(masks_in(IMAGE_HW3, BOXES_N4), masks_NHW)


def test_no_box_gives_no_mask(masker: str) -> None:
    assert BoxMasker(masker, "cpu")(IMAGE_HW3, BOXES_N4[:0]).shape == (0, 48, 64)


def test_a_model_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"cannot load {tmp_path}: .*; give a name on the hub or a folder"):
        BoxMasker(str(tmp_path), "cpu")
