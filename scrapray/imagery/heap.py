"""A truck bed and the heap in it, as what a camera above would see: per pixel colour, gloss, height and thing.

Things are dropped one after another and lie on what is under them; where two cut into each other, the higher one
shows. A snapshot of the four arrays is all that lighting, masks and truth need.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from scrapray.imagery.drawing import (
    DIRT,
    Bytes,
    Floats,
    Random,
    Sprite,
    as_bytes,
    as_floats,
    mixed,
    noise,
    pick,
    surface,
    varied,
)

Objects = npt.NDArray[np.uint16]
Corners = Sequence[tuple[float, float]]

_WALL_HEIGHT_PX = 230.0
_HIGHEST_PX = 200.0
"""Nothing is dropped from higher, so that heaps stay within the walls."""


class Heap:
    """What lies in one truck bed.

    Attributes:
        rgb_HW3: Colour, uint8.
        gloss_HW: 0 dull to 255 mirror, uint8.
        height_HW: Height above the floor of the bed, px.
        object_HW: Number of the thing that shows; 0 is the truck and the ground.
        num_objects: Things dropped so far.
    """

    def __init__(self, rng: Random, shape_hw: tuple[int, int], bed_xy: Corners, scale: float) -> None:
        """An empty bed.

        Args:
            rng: Source of chance.
            shape_hw: Size of the picture, px.
            bed_xy: Corners of the floor, clockwise; they may lie outside the picture.
            scale: 1 for a 4K frame of the whole truck; sizes of walls and grain follow it.
        """
        outside_HW = _distance_outside(shape_hw, bed_xy)
        self._inside_HW = outside_HW < 0
        self._scale = scale
        self.num_objects = 0
        self.object_HW: Objects = np.zeros(shape_hw, np.uint16)
        self.rgb_HW3, self.gloss_HW, self.height_HW = _empty_truck(rng, outside_HW, scale)

    def drop(self, sprite: Sprite, x_px: float, y_px: float, *, rank: float = 0.55, lean: float = 0.0) -> int:
        """Let a thing, already turned, fall with its middle at (x, y).

        Args:
            sprite: The thing.
            x_px: Where it falls.
            y_px: Where it falls.
            rank: Share of the ground under it that it comes to lie above; the rest cuts into it.
            lean: Rise per pixel along x, for things that lie askew.

        Returns:
            Its number in ``object_HW``.
        """
        self.num_objects += 1
        rows, columns = sprite.alpha_HW.shape
        top, left = round(y_px - rows / 2), round(x_px - columns / 2)
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + rows, self.height_HW.shape[0]), min(left + columns, self.height_HW.shape[1])
        if y0 >= y1 or x0 >= x1:
            return self.num_objects
        here, part = np.s_[y0:y1, x0:x1], np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        room = (sprite.alpha_HW[part] > 0) & self._inside_HW[here]
        ground = self.height_HW[here][::3, ::3][room[::3, ::3]]
        if ground.size == 0:
            return self.num_objects
        place = int(rank * (ground.size - 1))
        base = min(float(np.partition(ground, place)[place]), _HIGHEST_PX * self._scale)
        slope = (np.arange(x0, x1, dtype=np.float32) - np.float32(x_px)) * np.float32(lean)
        height = sprite.height_HW[part] + (np.float32(base) + slope)
        seen = (room & (height > self.height_HW[here])).view(np.uint8)
        for mine, its in (
            (self.height_HW, height),
            (self.rgb_HW3, sprite.rgb_HW3[part]),
            (self.gloss_HW, sprite.gloss_HW[part]),
        ):
            cv2.copyTo(its, seen, mine[here])
        self.object_HW[here][seen.view(bool)] = self.num_objects
        return self.num_objects


def _distance_outside(shape_hw: tuple[int, int], corners_xy: Corners) -> Floats:
    """Distance to the outline of a convex polygon given clockwise; negative inside, mitred at the corners."""
    y_H1 = np.arange(shape_hw[0], dtype=np.float32)[:, None]
    x_1W = np.arange(shape_hw[1], dtype=np.float32)[None, :]
    outside = np.full(shape_hw, -np.inf, np.float32)
    for (x0, y0), (x1, y1) in zip(corners_xy, [*corners_xy[1:], corners_xy[0]], strict=True):
        length = math.hypot(x1 - x0, y1 - y0)
        across = np.float32((y1 - y0) / length), np.float32((x0 - x1) / length)
        np.maximum(outside, (x_1W - np.float32(x0)) * across[0] + (y_H1 - np.float32(y0)) * across[1], out=outside)
    return outside


def _empty_truck(rng: Random, outside_HW: Floats, scale: float) -> tuple[Bytes, Bytes, Floats]:
    """Floor, walls with their rims, and the ground beside the truck: colour, gloss and height."""
    shape_hw = outside_HW.shape[0], outside_HW.shape[1]
    height = noise(rng, shape_hw, 30 * scale, 2) * np.float32(4 * scale)
    rgb = _large_surface(rng, shape_hw, pick(rng, ("rusty", "burnt", "painted")), "brown", scale)
    gloss = np.full(shape_hw, 15, np.uint8)
    if outside_HW.max() > 0:
        _build_walls(rng, outside_HW, scale, (rgb, gloss, height))
    rgb = mixed(rgb, (0, 0, 0), 0.12 * noise(rng, shape_hw, 5, 1))
    return as_bytes(cv2.convertScaleAbs(np.maximum(rgb, 0), alpha=255)), gloss, height


def _build_walls(rng: Random, outside_HW: Floats, scale: float, truck: tuple[Floats, Bytes, Floats]) -> None:
    """Put walls around the bed and ground beside them into colour, gloss and height."""
    rgb, gloss, height = truck
    shape_hw = outside_HW.shape[0], outside_HW.shape[1]
    wide = 90 * scale
    bent_HW = outside_HW + noise(rng, shape_hw, 500 * scale, 3) * np.float32(9 * scale)
    is_wall, is_ground = (outside_HW >= 0) & (bent_HW < wide), (outside_HW >= 0) & (bent_HW >= wide)
    paint = pick(rng, ("red", "brown", "green", "grey", "blue"))
    rgb[is_wall] = _large_surface(rng, shape_hw, "painted", paint, scale)[is_wall]
    rim = (bent_HW > wide * 0.25) & (bent_HW < wide * 0.9)
    height[is_wall] += (_WALL_HEIGHT_PX * scale * (0.75 + 0.25 * rim))[is_wall]
    stains = noise(rng, shape_hw, 300 * scale, 6)[is_ground]
    rgb[is_ground] = as_floats(varied(rng, (0.36, 0.33, 0.29))) + np.float32(0.05) * stains[:, None]
    gloss[is_ground], height[is_ground] = 0, height[is_ground] - np.float32(150 * scale)


def _large_surface(rng: Random, shape_hw: tuple[int, int], material: str, paint: str, scale: float) -> Floats:
    """Colour of a worn surface as large as the picture, drawn at a third of its resolution. Shape (H, W, 3)."""
    small_hw = (shape_hw[0] // 3 + 1, shape_hw[1] // 3 + 1)
    worn = surface(rng, small_hw, material, paint, wear=rng.uniform(0.3, 0.7)).rgb_HW3
    dirt = np.clip(0.5 + 0.5 * noise(rng, small_hw, 200 * scale, 5), 0.1, 0.9)
    return as_floats(cv2.resize(mixed(worn, varied(rng, DIRT), dirt), shape_hw[::-1]))
