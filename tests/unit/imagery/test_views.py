import io

import numpy as np
import pytest
from PIL import Image

from scrapray.imagery.masks import decode_mask, encode_mask, outline_mask
from scrapray.imagery.views import encode_view, outlines


def opened(data: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "WEBP"
    return np.asarray(picture.convert("RGB"))


def frame(height: int = 120, width: int = 200) -> np.ndarray:
    """Coarse colours, which a good picture keeps."""
    coarse = np.random.default_rng(0).integers(0, 255, (height // 20, width // 20, 3), dtype=np.uint8)
    return coarse.repeat(20, axis=0).repeat(20, axis=1)


def test_a_part_at_full_resolution_has_the_pixels_of_the_frame() -> None:
    frame_HW3 = frame()
    shown = opened(encode_view(frame_HW3, (40, 20, 160, 100), 120))
    assert shown.shape == (80, 120, 3)
    assert np.abs(shown.astype(int) - frame_HW3[20:100, 40:160]).mean() < 6


def test_a_whole_frame_keeps_its_shape_when_it_gets_smaller() -> None:
    shown = opened(encode_view(frame(), (0, 0, 200, 120), 50))
    assert shown.shape == (30, 50, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (40, 30)])
def test_an_outline_runs_around_all_pixels_of_a_mask(shape: tuple[int, int]) -> None:
    mask = encode_mask(np.ones(shape, np.bool_), (7, 5), (60, 50))
    (polygon,) = outlines(mask)
    xs, ys = zip(*polygon, strict=True)
    assert (min(xs), min(ys), max(xs), max(ys)) == (7, 5, 7 + shape[1], 5 + shape[0])


def test_outlines_of_a_ragged_mask_enclose_what_it_covers() -> None:
    rows, columns = np.mgrid[:80, :90]
    mask_HW = ((rows - 40) ** 2 / 900 + (columns - 45) ** 2 / 1500 < 1) & (columns % 45 < 38)
    mask = encode_mask(mask_HW, (100, 50), (200, 300))
    polygons = outlines(mask)
    drawn_HW = decode_mask(
        outline_mask([[value for corner in one for value in corner] for one in polygons], (200, 300))
    )
    truth_HW = decode_mask(mask)
    assert len(polygons) == 2
    assert (drawn_HW & truth_HW).sum() / (drawn_HW | truth_HW).sum() > 0.95
