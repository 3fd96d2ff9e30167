import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from scrapray.errors import FrameError
from scrapray.imagery.decode import decode_class_indexes, decode_frame

MAX_PIXELS = 1_000_000
LEFT_RED_RIGHT_BLUE = np.repeat(np.array([[[200, 30, 30]], [[30, 30, 200]]], np.uint8), 40, axis=1).repeat(30, axis=0)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reason_of(data: bytes) -> str:
    with pytest.raises(FrameError) as caught:
        decode_frame(data, MAX_PIXELS)
    assert caught.value.stage == "decode"
    return caught.value.reason


def png_header_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def test_a_png_comes_back_pixel_by_pixel() -> None:
    frame_HW3 = decode_frame(encoded(Image.fromarray(LEFT_RED_RIGHT_BLUE), "PNG"), MAX_PIXELS)
    assert frame_HW3.dtype == np.uint8
    np.testing.assert_array_equal(frame_HW3, LEFT_RED_RIGHT_BLUE)


def test_a_jpeg_comes_back_almost() -> None:
    frame_HW3 = decode_frame(encoded(Image.fromarray(LEFT_RED_RIGHT_BLUE), "JPEG", quality=95), MAX_PIXELS)
    assert np.abs(frame_HW3.astype(int) - LEFT_RED_RIGHT_BLUE).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    upright = Image.fromarray(LEFT_RED_RIGHT_BLUE)
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[orientation]) if orientation in back else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    frame_HW3 = decode_frame(encoded(stored, "JPEG", quality=95, exif=exif), MAX_PIXELS)
    assert frame_HW3.shape == LEFT_RED_RIGHT_BLUE.shape
    assert np.abs(frame_HW3.astype(int) - LEFT_RED_RIGHT_BLUE).mean() < 3


def test_a_mistyped_exif_tag_does_not_keep_a_frame_from_being_turned() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    exif[0x0112] = 6
    as_text, as_fraction = struct.pack(">HHI", 0x010F, 2, 8), struct.pack(">HHI", 0x010F, 10, 1)
    assert as_text in exif.tobytes()
    stored = Image.fromarray(LEFT_RED_RIGHT_BLUE).transpose(Image.Transpose.ROTATE_90)
    data = encoded(stored, "JPEG", quality=95, exif=exif.tobytes().replace(as_text, as_fraction))
    assert np.abs(decode_frame(data, MAX_PIXELS).astype(int) - LEFT_RED_RIGHT_BLUE).mean() < 3


def test_greyscale_becomes_three_equal_channels() -> None:
    grey_HW = np.arange(256, dtype=np.uint8).reshape(16, 16)
    frame_HW3 = decode_frame(encoded(Image.fromarray(grey_HW), "PNG"), MAX_PIXELS)
    np.testing.assert_array_equal(frame_HW3, np.stack([grey_HW] * 3, axis=-1))


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    deep_HW = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    frame_HW3 = decode_frame(encoded(Image.fromarray(deep_HW), "PNG"), MAX_PIXELS)
    np.testing.assert_array_equal(frame_HW3[:, :, 1], deep_HW >> 8)


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    cmyk = Image.fromarray(LEFT_RED_RIGHT_BLUE).convert("CMYK")
    frame_HW3 = decode_frame(encoded(cmyk, "JPEG", quality=95), MAX_PIXELS)
    assert np.abs(frame_HW3.astype(int) - LEFT_RED_RIGHT_BLUE).mean() < 6


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA"])
def test_other_png_modes_become_rgb(mode: str) -> None:
    frame_HW3 = decode_frame(encoded(Image.fromarray(LEFT_RED_RIGHT_BLUE).convert(mode), "PNG"), MAX_PIXELS)
    assert frame_HW3.shape == LEFT_RED_RIGHT_BLUE.shape


def test_a_palette_with_transparency_becomes_rgb_without_a_warning() -> None:
    palette = Image.fromarray(LEFT_RED_RIGHT_BLUE).convert("P")
    data = encoded(palette, "PNG", transparency=bytes(range(256)))
    assert decode_frame(data, MAX_PIXELS).shape == LEFT_RED_RIGHT_BLUE.shape


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(Image.fromarray(LEFT_RED_RIGHT_BLUE), "PNG"))
    np.testing.assert_array_equal(decode_frame(path.read_bytes(), MAX_PIXELS), LEFT_RED_RIGHT_BLUE)


def test_a_colour_profile_does_not_disturb() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(Image.fromarray(LEFT_RED_RIGHT_BLUE), "PNG", icc_profile=profile)
    np.testing.assert_array_equal(decode_frame(data, MAX_PIXELS), LEFT_RED_RIGHT_BLUE)


def test_each_kind_of_bad_bytes_has_its_reason() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    jpeg, png = encoded(noise, "JPEG"), encoded(noise, "PNG")
    assert reason_of(b"") == "empty"
    assert reason_of(b"<html>504 Gateway Timeout</html>") == "not_an_image"
    assert reason_of(bytes(2000)) == "not_an_image"
    assert reason_of(encoded(noise, "GIF")) == "unsupported_format"
    assert reason_of(encoded(noise, "TIFF")) == "unsupported_format"
    assert reason_of(jpeg[: len(jpeg) // 2]) == "truncated"
    assert reason_of(png[: len(png) // 2]) == "truncated"
    assert reason_of(png[:200] + bytes(200) + png[400:]) == "damaged"


@pytest.mark.parametrize("cut", [3, 20, 120, 400])
def test_a_jpeg_cut_anywhere_is_a_frame_error(cut: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert reason_of(encoded(noise, "JPEG")[:cut]) in {"truncated", "not_an_image", "damaged"}


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
END = b"\xff\xd9"


@pytest.mark.parametrize(
    "jpeg",
    [
        encoded(NOISE, "JPEG"),
        encoded(NOISE, "JPEG", progressive=True),
        encoded(NOISE, "JPEG", restart_marker_rows=1),
        encoded(NOISE.convert("L"), "JPEG"),
        encoded(NOISE.convert("CMYK"), "JPEG"),
    ],
    ids=["sequential", "progressive", "restarting", "grey", "cmyk"],
)
def test_a_jpeg_with_a_hole_is_damaged_though_it_has_an_end(jpeg: bytes) -> None:
    third = len(jpeg) // 3
    decode_frame(jpeg, MAX_PIXELS)
    assert reason_of(jpeg[: -third // 2] + END) == "damaged"
    assert reason_of(jpeg[: -2 * third] + bytes(third) + jpeg[-third:]) == "damaged"


def test_a_jpeg_without_some_of_its_restart_intervals_is_damaged() -> None:
    pieces = re.split(rb"(?=\xff[\xd0-\xd7])", encoded(NOISE, "JPEG", restart_marker_rows=1))
    assert len(pieces) == 4
    decode_frame(b"".join(pieces), MAX_PIXELS)
    assert reason_of(b"".join([*pieces[:1], *pieces[2:]])) == "damaged"
    assert reason_of(b"".join([*pieces[:3], END])) == "damaged"


PLAIN = encoded(NOISE, "JPEG")


@pytest.mark.parametrize(
    "odd",
    [
        PLAIN + b"serial number 0815",
        PLAIN + bytes(4096),
        PLAIN + PLAIN[:500],
        encoded(NOISE, "MPO", save_all=True, append_images=[NOISE])[:-500],
        PLAIN[:-2] + b"\xff" * 64 + END,
        PLAIN.replace(b"JFIF\0\x01", b"JFIF\0\x02"),
        PLAIN[:2] + b"\xff\xe2\x00\x12ICC_PROFILE\0\x02\x03ab" + PLAIN[2:],
        PLAIN.replace(b"\xff\xdb", b"stray\0\xff\xdb", 1),
        PLAIN.replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1),
        PLAIN.replace(b"\x00\x3f\x00", b"\x00\x00\x00", 1),
    ],
    ids=["text", "zeros", "start", "mpo", "filled", "version", "profile", "stray", "fill", "spectrum"],
)
def test_an_odd_jpeg_that_lacks_nothing_is_used(odd: bytes) -> None:
    assert odd != PLAIN
    np.testing.assert_array_equal(decode_frame(odd, MAX_PIXELS), decode_frame(PLAIN, MAX_PIXELS))


def test_a_jpeg_with_rare_subsampling_is_used() -> None:
    plain = encoded(Image.new("RGB", (32, 16), (128, 128, 128)), "JPEG", keep_rgb=True)
    size = plain.index(b"\xff\xc0")
    header = bytearray(plain[: plain.index(b"\x00\x3f\x00", size) + 3])
    header[size + 11] = 0x42  # four blocks by two of the first channel for each of the others
    ten_blocks = int("001010" * 10 + "1111", 2).to_bytes(8)
    assert (decode_frame(bytes(header) + ten_blocks + END, MAX_PIXELS) == 128).all()


@pytest.mark.parametrize("side", [1001, 10_000, 20_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    assert reason_of(png_header_of(side, side)) == "too_many_pixels"


def test_the_largest_allowed_frame_is_decoded() -> None:
    data = encoded(Image.fromarray(LEFT_RED_RIGHT_BLUE), "PNG")
    height, width, _ = LEFT_RED_RIGHT_BLUE.shape
    assert decode_frame(data, height * width).shape == LEFT_RED_RIGHT_BLUE.shape
    with pytest.raises(FrameError, match="too_many_pixels"):
        decode_frame(data, height * width - 1)


def png(values: np.ndarray, mode: str | None = None) -> bytes:
    image = Image.fromarray(values)
    return encoded(image.convert(mode) if mode else image, "PNG")


INDEXES_HW = np.array([[0, 1, 2], [3, 0, 255]], np.uint8)


@pytest.mark.parametrize("mode", [None, "LA", "RGB", "RGBA"])
def test_class_indexes_come_back_whatever_the_mode(mode: str | None) -> None:
    index_HW = decode_class_indexes(png(INDEXES_HW, mode), (2, 3))
    np.testing.assert_array_equal(index_HW, INDEXES_HW)


def test_a_palette_counts_by_places_and_not_by_colours() -> None:
    image = Image.fromarray(INDEXES_HW)
    image.putpalette([9, 8, 7] * 256)
    np.testing.assert_array_equal(decode_class_indexes(encoded(image, "PNG"), (2, 3)), INDEXES_HW)


def test_class_indexes_may_have_sixteen_bits() -> None:
    index_HW = INDEXES_HW.astype(np.uint16) * 100
    np.testing.assert_array_equal(decode_class_indexes(png(index_HW), (2, 3)), index_HW)


def test_a_black_and_white_mask_has_zeros_and_ones() -> None:
    assert decode_class_indexes(png(np.eye(3) > 0), (3, 3)).tolist() == np.eye(3).tolist()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unreadable"),
        (png(INDEXES_HW)[:40], "unreadable"),
        (encoded(Image.fromarray(INDEXES_HW), "JPEG"), "unreadable"),
        (png(INDEXES_HW.T.copy()), "other_size"),
        (png(np.repeat(LEFT_RED_RIGHT_BLUE[:2, :1], 3, axis=1)), "coloured"),
        (png_header_of(12_000, 12_000), "other_size"),
        (png_header_of(60_000, 60_000), "unreadable"),
    ],
)
def test_a_mask_that_cannot_be_used_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(FrameError) as caught:
        decode_class_indexes(data, (2, 3))
    assert (caught.value.stage, caught.value.reason) == ("mask", reason)
