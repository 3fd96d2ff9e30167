"""Pixels to PNG and back, without a loss; equal pixels give equal bytes."""

import cv2
import numpy as np
from numpy.typing import NDArray


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode RGB (H, W, 3) or one value per pixel (H, W)."""
    written, data = cv2.imencode(".png", _swapped(pixels))
    assert written, f"a picture of shape {pixels.shape} and type {pixels.dtype}"
    return data.tobytes()


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """What ``encode_png`` was given.

    Raises:
        ValueError: It is not a picture, or a damaged one.
    """
    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None:
        raise ValueError(f"{len(data)} bytes that are not a PNG")
    return _swapped(np.asarray(pixels, dtype=np.uint8))


def _swapped(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """OpenCV has blue first."""
    return np.ascontiguousarray(pixels[..., ::-1]) if pixels.ndim == 3 else pixels
