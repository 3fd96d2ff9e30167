"""Light over a drawn scene: one lamp, sky light that does not reach into gaps, cast shadows, glints, and the camera.

A scene reaches this module as colour, height and gloss per pixel; all shading follows from the height.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from scrapray.imagery.drawing import Bytes, Color, Floats, Random, as_floats

_EDGE_PX = 5.0
"""A larger step of height between neighbours is the rim of a thing, not its slope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A lamp and the light around it.

    Attributes:
        azimuth_rad: Where the lamp stands, clockwise from the right.
        elevation_rad: How high it stands.
        diffuse_frac: Share of light that comes from everywhere.
        tint: Colour of the light, around 1.
        exposure: Brightness of the picture.
        depth_px: Depth of a gap at which half of the light is lost.
    """

    azimuth_rad: float
    elevation_rad: float
    diffuse_frac: float
    tint: Color
    exposure: float
    depth_px: float


def random_light(rng: Random) -> Light:
    """Light of a yard or hall: from sharp sun to overcast, a little warm or cold."""
    warmth = rng.uniform(-0.06, 0.08)
    return Light(
        azimuth_rad=rng.uniform(0, 2 * math.pi),
        elevation_rad=rng.uniform(0.6, 1.15),
        diffuse_frac=rng.uniform(0.35, 0.7),
        tint=(1 + warmth, 1 + rng.uniform(-0.01, 0.03), 1 - warmth),
        exposure=rng.uniform(1.2, 1.7),
        depth_px=rng.uniform(30, 60),
    )


def _moved(field_HW: Floats, dx: int, dy: int) -> Floats:
    """The field seen from a point (dx, dy) away, edges repeated."""
    matrix = np.array([[1, 0, -dx], [0, 1, -dy]], np.float64)
    size = (field_HW.shape[1], field_HW.shape[0])
    return as_floats(cv2.warpAffine(field_HW, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE))


def _slope(height_HW: Floats, axis: int) -> Floats:
    """Rise per pixel along an axis, 0 across the rim of a thing."""
    kernel = as_floats([[-0.5, 0, 0.5]])
    rise = as_floats(cv2.filter2D(height_HW, -1, kernel if axis == 1 else kernel.T, borderType=cv2.BORDER_REPLICATE))
    return np.where(np.abs(rise) > _EDGE_PX, np.float32(0), rise)


def _cast_shadow(height_HW: Floats, light: Light) -> Floats:
    """Share of the lamp that each pixel loses to what stands between them, 0 to 1."""
    rise = math.tan(light.elevation_rad)
    blocked = np.zeros_like(height_HW)
    for reach in (2, 4, 7, 12, 20, 34, 56):
        dx, dy = round(reach * math.cos(light.azimuth_rad)), round(reach * math.sin(light.azimuth_rad))
        over = _moved(height_HW, dx, dy) - height_HW - reach * rise
        np.maximum(blocked, over / (2 + reach * 0.4), out=blocked)
    return np.minimum(blocked, 1)


def _gap_shade(height_HW: Floats, depth_px: float) -> Floats:
    """Light that is left in gaps between higher things, 0 to 1."""
    left = np.ones_like(height_HW)
    rows, columns = height_HW.shape
    for radius, weight in ((4, 0.9), (14, 1.0), (45, 0.8)):
        factor = max(radius // 4, 1)
        small = cv2.resize(height_HW, (max(columns // factor, 1), max(rows // factor, 1)), interpolation=cv2.INTER_AREA)
        around = cv2.resize(cv2.blur(small, (2 * radius // factor + 1,) * 2), (columns, rows))
        left /= 1 + np.maximum(around - height_HW, 0) * (weight / (depth_px * 0.25 + radius * 0.35))
    return left


def shade(rgb_HW3: Bytes, height_HW: Floats, gloss_HW: Bytes, light: Light) -> Floats:
    """Light a scene.

    Args:
        rgb_HW3: Colour of the surfaces, uint8.
        height_HW: Height of the upper side, px.
        gloss_HW: 0 dull to 255 mirror, uint8.
        light: The lamp and what is around it.

    Returns:
        Lit colours, float32 (H, W, 3), 0 to about 1, not clipped.
    """
    slope_x, slope_y = _slope(height_HW, axis=1), _slope(height_HW, axis=0)
    norm = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    flat, up = math.cos(light.elevation_rad), math.sin(light.elevation_rad)
    toward_x, toward_y = math.cos(light.azimuth_rad) * flat, math.sin(light.azimuth_rad) * flat
    uphill = slope_x * toward_x + slope_y * toward_y
    facing = np.maximum((up - uphill) * norm, 0)
    glint = np.maximum((up + 1 - uphill) * norm * (1 / math.sqrt(2 + 2 * up)), 0)
    for _ in range(4):
        glint *= glint
    rows, columns = height_HW.shape
    half = as_floats(cv2.resize(height_HW, ((columns + 1) // 2, (rows + 1) // 2))) * np.float32(0.5)
    lamp_left = 1 - 0.85 * as_floats(cv2.resize(_cast_shadow(half, light), (columns, rows)))
    around = _gap_shade(height_HW, light.depth_px) * (0.45 + 0.55 * norm)
    amount = facing * lamp_left * (1 - light.diffuse_frac) + around * light.diffuse_frac
    shine = glint * lamp_left * around * gloss_HW * np.float32(0.5 / 255)
    lit_HW3 = cv2.multiply(rgb_HW3, cv2.merge([amount] * 3), scale=1 / 255, dtype=cv2.CV_32F)
    lit_HW3 = as_floats(cv2.add(lit_HW3, cv2.merge([shine] * 3)))
    return lit_HW3 * as_floats([part * light.exposure for part in light.tint])
