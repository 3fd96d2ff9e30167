import numpy as np
import pytest

from scrapray.imagery.png import decode_png, encode_png


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7)])
def test_pixels_come_back_one_by_one(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(decode_png(encode_png(pixels)), pixels)
    assert encode_png(pixels) == encode_png(pixels.copy())


def test_others_see_the_same_colours() -> None:
    import io

    from PIL import Image

    red_HW3 = np.full((2, 2, 3), (200, 30, 10), np.uint8)
    assert np.asarray(Image.open(io.BytesIO(encode_png(red_HW3))))[0, 0].tolist() == [200, 30, 10]


@pytest.mark.parametrize("data", [b"", b"junk", encode_png(np.zeros((9, 9), np.uint8))[:30]])
def test_what_is_no_picture_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="bytes that are not a PNG"):
        decode_png(data)
