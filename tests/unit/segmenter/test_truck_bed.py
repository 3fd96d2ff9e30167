from pathlib import Path

import numpy as np
import pytest

from scrapray.errors import FrameError, ModelError
from scrapray.segmenter.truck_bed import BedFinder, bed_finder

FRAME_HW3 = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)


def test_phrases_become_a_mask_of_the_frame(detector: str, masker: str) -> None:
    finder = bed_finder(detector, masker)
    bed_HW = finder.find(FRAME_HW3, ("scrap", "Truck bed."), 0.001)
    assert (bed_HW.shape, bed_HW.dtype) == ((90, 160), np.bool_)
    assert bed_HW.any()
    assert np.array_equal(bed_HW, finder.find(FRAME_HW3, ("scrap", "Truck bed."), 0.001))
    assert bed_finder(detector, masker) is finder, "loaded once"


def test_phrases_that_fit_nothing_leave_the_frame_out(detector: str, masker: str) -> None:
    with pytest.raises(FrameError) as caught:
        bed_finder(detector, masker).find(FRAME_HW3, ("scrap",), 1.0)
    assert (caught.value.stage, caught.value.reason) == ("bed", "not_found")
    assert "1.0 or more for: scrap." in str(caught.value.detail)


def test_a_folder_without_a_model_is_named(tmp_path: Path, masker: str) -> None:
    with pytest.raises(ModelError, match=f"cannot load {tmp_path}: .*; give a name on the hub or a folder"):
        BedFinder(str(tmp_path), masker)
