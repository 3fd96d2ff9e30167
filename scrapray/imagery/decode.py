"""Bytes of an archived frame -> RGB pixels, or the reason why there are none."""

import io
import re
import warnings

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from scrapray.errors import FrameError

_FORMATS = ("JPEG", "MPO", "PNG")
"""MPO is what Pillow calls a JPEG that carries a second picture behind the first; cameras write it as .jpg."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn a picture upright, by its EXIF orientation."""

_SEGMENT = re.compile(rb"\xff([\xc0-\xfe])(..)", re.DOTALL)
"""How a segment in the header of a JPEG begins: its kind and its length."""
_START_OF_SCAN = b"\xda"
_FIRST_WITHOUT_PIXELS = b"\xe0"
"""Below it are the kinds of segment that pixels depend on; from it on those of applications, and comments."""
_WHOLE_SPECTRUM = b"\x00\x3f\x00"
"""What a scan that is not progressive holds; some cameras write something else here, which decoders pass over."""


def decode_frame(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG of any size, whatever its file name claims.

    EXIF rotation is applied; greyscale, palette, CMYK and 16-bit become 8-bit RGB; transparency is dropped.

    Args:
        data: The whole file.
        max_pixels: Largest height times width that is decoded. The header is checked before any pixel is, so a
            small file that unpacks to a huge picture costs nothing.

    Returns:
        frame_HW3, uint8 RGB.

    Raises:
        FrameError: Stage ``decode`` with reason ``empty``, ``not_an_image``, ``unsupported_format``,
            ``too_many_pixels``, ``truncated`` or ``damaged``. A JPEG is damaged as well if its scan ends before its
            picture does or goes on behind it, as it does around a hole.
    """
    if not data:
        raise FrameError("decode", "empty")
    with warnings.catch_warnings():
        # Pillow warns at half its own limit; ours is stricter or meant.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = _open(data)
    if image.format not in _FORMATS:
        raise FrameError("decode", "unsupported_format", str(image.format))
    if image.width * image.height > max_pixels:
        raise FrameError("decode", "too_many_pixels", f"{image.width}x{image.height}")
    try:
        frame_HW3 = _to_rgb(image)
        if image.format != "PNG":
            _check_scan(data, progressive="progressive" in image.info)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise FrameError("decode", "truncated" if "truncated" in str(error) else "damaged", str(error)) from error
    return frame_HW3


def decode_class_indexes(data: bytes, frame_hw: tuple[int, int]) -> NDArray[np.int32]:
    """Decode a mask file (PNG): the value of each pixel, or its place in the palette.

    A mask in colour counts as grey if its three channels are equal; transparency is dropped.

    Args:
        data: The whole file.
        frame_hw: Height and width of the frame that it belongs to.

    Returns:
        index_HW.

    Raises:
        FrameError: Stage ``mask`` with reason ``unreadable``, ``other_size`` or ``coloured``.
    """
    height, width = frame_hw
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=("PNG",))
        values = np.asarray(image) if image.size == (width, height) else None
    except MemoryError:
        raise
    except Exception as error:  # as in decode_frame
        raise FrameError("mask", "unreadable", str(error)) from error
    if values is None:
        raise FrameError("mask", "other_size", f"{image.width}x{image.height}, its frame is {width}x{height}")
    if values.ndim == 3:
        if values.shape[2] >= 3 and (values[..., :1] != values[..., 1:3]).any():
            raise FrameError("mask", "coloured", "pixels must be class indexes, not colours")
        values = values[..., 0]
    return values.astype(np.int32)


def _open(data: bytes) -> Image.Image:
    """Read the header only."""
    try:
        return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise FrameError("decode", "too_many_pixels", str(error)) from error
    except UnidentifiedImageError as error:
        raise FrameError("decode", "not_an_image") from error
    except Exception as error:
        raise FrameError("decode", "damaged", str(error)) from error


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    # Not with ImageOps.exif_transpose, which writes all of EXIF again and fails where a camera has mistyped a tag.
    if turn := _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1)):
        image = image.transpose(turn)
    if image.mode.startswith("I"):
        # Sixteen bits: Pillow's own conversion to 8 bits cuts everything above 255 off.
        grey_HW = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey_HW[:, :, None], 3, axis=2)
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _check_scan(data: bytes, *, progressive: bool) -> None:
    """Refuse a JPEG whose scan and picture do not end together: Pillow would fill what is missing with grey.

    libjpeg warns of it, and Pillow does not pass warnings on. It warns as well of what takes nothing from the picture,
    such as versions, colour profiles and stray bytes in the header, so it is given a header without these. What comes
    behind the end of the picture does not matter. A small hole that happens to hold as many blocks as it hides stays
    unseen, and so do scans that are missing whole from a progressive picture, which is then coarse all over.

    Raises:
        ValueError: With the warning.
    """
    kept, end = [data[:2]], 2
    while kept[-1][1:2] != _START_OF_SCAN and (segment := _SEGMENT.search(data, end)):
        end = segment.start() + 2 + int.from_bytes(segment[2])
        if segment[1] < _FIRST_WITHOUT_PIXELS:
            kept.append(data[segment.start() : end])
    if not progressive:
        kept[-1] = kept[-1][:-3] + _WHOLE_SPECTRUM
    try:
        # Grey and as small as can be: all of the scan is read, and next to no pixel is computed.
        simplejpeg.decode_jpeg(b"".join([*kept, data[end:]]), "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        if "subsampling" not in str(error):  # a rare one, which TurboJPEG does not know: no sign of damage
            raise
