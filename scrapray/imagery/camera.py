"""The camera above the bed: jitter, lens, exposure, sensor noise, JPEG."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from scrapray.imagery.drawing import Bytes, Floats, Random, as_floats

Objects = npt.NDArray[np.uint16]
Look = npt.NDArray[np.float64]
"""How a frame's camera is shifted and turned: an affine matrix (2, 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A camera on one day.

    Attributes:
        blur_px: Standard deviation of what the lens smears.
        haze: Light that dust and glass lay over everything, 0 to 1.
        vignette: Light lost in the corners, 0 to 1.
        noise: Standard deviation of the sensor's noise at mid grey, 0 to 1.
        jitter_px: Standard deviation of its shift from frame to frame.
        jpeg_quality: Of its pictures, 1 to 100.
    """

    blur_px: float
    haze: float
    vignette: float
    noise: float
    jitter_px: float
    jpeg_quality: int


def random_camera(rng: Random, scale: float) -> Camera:
    """A camera as yards have them; ``scale`` is its resolution in shares of 4K."""
    return Camera(
        blur_px=max(rng.uniform(0.55, 1.2) * scale, 0.4),
        haze=rng.uniform(0.0, 0.1),
        vignette=rng.uniform(0.05, 0.3),
        noise=rng.uniform(0.006, 0.022),
        jitter_px=2.0 * scale,
        jpeg_quality=int(rng.integers(82, 95)),
    )


def shake(rng: Random, camera: Camera, shape_hw: tuple[int, int]) -> Look:
    """Where one frame's camera looks: a small turn about the middle and a shift below a few pixels."""
    turn = rng.normal(0, 0.0004)
    middle = (shape_hw[1] / 2, shape_hw[0] / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, math.degrees(turn), 1.0), np.float64)
    matrix[:, 2] += rng.normal(0, camera.jitter_px, 2)
    return matrix


def see(look: Look, lit_HW3: Floats) -> Floats:
    """A lit scene as the shaken camera sees it."""
    size = lit_HW3.shape[1], lit_HW3.shape[0]
    return as_floats(cv2.warpAffine(lit_HW3, look, size, borderMode=cv2.BORDER_REFLECT))


def see_objects(look: Look, object_HW: Objects) -> Objects:
    """Where the shaken camera sees each thing; numbers are never mixed."""
    size = object_HW.shape[1], object_HW.shape[0]
    seen = cv2.warpAffine(object_HW, look, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(seen, np.uint16)


def expose(rng: Random, camera: Camera, lit_HW3: Floats) -> bytes:
    """Take the picture.

    Args:
        rng: Source of chance, for exposure and noise.
        camera: The camera.
        lit_HW3: Light that reaches it, RGB, 0 to about 1.

    Returns:
        The JPEG file.
    """
    rows, columns = lit_HW3.shape[:2]
    y_H1 = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    x_1W = np.linspace(-1, 1, columns, dtype=np.float32)[None, :]
    gain = (1 - camera.vignette / 2 * (y_H1**2 + x_1W**2)) * ((1 - camera.haze) * float(rng.normal(1, 0.03)))
    seen = cv2.multiply(cv2.GaussianBlur(lit_HW3, (0, 0), camera.blur_px), cv2.merge([gain] * 3))
    seen = as_floats(seen) + np.float32(0.6 * camera.haze)
    level = np.sqrt(np.maximum(seen[..., 1], 0.02)) * np.float32(1.4 * camera.noise)
    grain = cv2.merge([rng.standard_normal((rows, columns), np.float32)] * 3)
    color = rng.standard_normal(((rows + 2) // 3, (columns + 2) // 3, 3), np.float32) * np.float32(0.6)
    grain = cv2.multiply(cv2.add(grain, cv2.resize(color, (columns, rows))), cv2.merge([level] * 3))
    picture_HW3 = cv2.convertScaleAbs(np.maximum(seen + as_floats(grain), 0), alpha=255)
    quality = [cv2.IMWRITE_JPEG_QUALITY, camera.jpeg_quality]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2BGR), quality)[1])


def develop(jpeg: bytes) -> Bytes:
    """Pixels of a JPEG file, RGB, uint8 (H, W, 3)."""
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)
