"""Primitives of drawn scrap: noise, surfaces, and a canvas that builds one thing out of simple solids.

A thing is drawn once, lying along x, as colour, height and gloss. Light comes later, over the whole scene at once
(see ``lighting``), so that all things of a picture are lit from one side and throw shadows on each other. Colours are
RGB from 0 to 1 until they reach a sprite; heights are in pixels, like the two other axes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Color = tuple[float, float, float]
Random = np.random.Generator

RUST: tuple[Color, ...] = ((0.34, 0.23, 0.17), (0.41, 0.28, 0.19), (0.27, 0.21, 0.18), (0.46, 0.33, 0.22))
STEEL: Color = (0.47, 0.47, 0.47)
ZINC: Color = (0.60, 0.62, 0.63)
DIRT: Color = (0.30, 0.27, 0.23)
COPPER: Color = (0.74, 0.42, 0.22)
DARK: Color = (0.07, 0.07, 0.07)
PAINTS: dict[str, Color] = {
    "red": (0.62, 0.14, 0.10),
    "green": (0.22, 0.40, 0.27),
    "blue": (0.14, 0.28, 0.52),
    "yellow": (0.76, 0.62, 0.14),
    "white": (0.78, 0.77, 0.73),
    "grey": (0.45, 0.47, 0.47),
    "black": (0.10, 0.10, 0.11),
    "orange": (0.74, 0.36, 0.10),
    "brown": (0.33, 0.21, 0.13),
    "pale green": (0.55, 0.62, 0.50),
}
MATERIALS = ("rusty", "bare", "galvanised", "painted", "burnt")


def as_floats(values: npt.ArrayLike) -> Floats:
    """Any numbers as a float32 array; also tells the type checker so."""
    return np.asarray(values, np.float32)


def as_bytes(values: npt.ArrayLike) -> Bytes:
    """An array of cv2 as uint8, which it is already; tells the type checker so."""
    return np.asarray(values, np.uint8)


def noise(rng: Random, shape_hw: tuple[int, int], cell_px: float, octaves: int = 3) -> Floats:
    """Smooth random field around 0 with values mostly in [-1, 1]; each octave has half the cell and half the weight."""
    height, width = shape_hw
    field = np.zeros(shape_hw, np.float32)
    for octave in range(octaves):
        cell = max(cell_px / 2**octave, 1.0)
        grid = rng.random((int(height / cell) + 2, int(width / cell) + 2), np.float32) * 2 - 1
        smooth = cv2.INTER_CUBIC if cell > 8 else cv2.INTER_LINEAR
        field += as_floats(cv2.resize(grid, (width, height), interpolation=smooth)) * np.float32(0.5**octave)
    return field


def mixed(below_HW3: Floats, above: Color | Floats, share_HW: Floats) -> Floats:
    """One colour over another, by a share from 0 to 1 per pixel."""
    share_HW3 = cv2.merge([np.ascontiguousarray(share_HW, np.float32)] * 3)
    return as_floats(cv2.multiply(as_floats(above) - below_HW3, share_HW3)) + below_HW3


def step(field_HW: Floats, edge: float, softness: float = 0.15) -> Floats:
    """0 below ``edge``, 1 above, with a soft passage."""
    return as_floats(np.clip((field_HW - edge) / softness + 0.5, 0, 1))


def varied(rng: Random, color: Color, spread: float = 0.12) -> Color:
    """A colour that is a little lighter or darker, warmer or colder."""
    light = 1 + rng.uniform(-spread, spread)
    red, green, blue = (min(max(part * light + rng.uniform(-spread, spread) / 6, 0.02), 0.97) for part in color)
    return red, green, blue


def pick(rng: Random, choices: Sequence[str]) -> str:
    """One of several words, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


@dataclass(frozen=True, slots=True)
class Surface:
    """Colour and gloss of a surface, and the words that a person would use for it."""

    rgb_HW3: Floats
    gloss_HW: Floats
    words: tuple[str, ...]


def surface(
    rng: Random, shape_hw: tuple[int, int], material: str, paint: str | None = None, wear: float | None = None
) -> Surface:
    """A worn surface of one of ``MATERIALS``.

    Args:
        rng: Source of chance.
        shape_hw: Size in pixels.
        material: One of ``MATERIALS``.
        paint: Name in ``PAINTS``, for painted surfaces; drawn by chance when missing.
        wear: Share of paint, zinc or bright steel that has gone, 0 to 1; drawn by chance when missing.
    """
    size = max(shape_hw)
    broad, fine = noise(rng, shape_hw, size / 3, 4), noise(rng, shape_hw, 6, 2)
    worn = float(rng.beta(1.4, 2.6)) if wear is None else wear
    rust = mixed(
        np.broadcast_to(as_floats(varied(rng, RUST[rng.integers(4)])), (*shape_hw, 3)),
        varied(rng, RUST[rng.integers(4)]),
        step(broad + fine * 0.5, 0.1, 0.9),
    )
    words: tuple[str, ...] = (material,)
    if material == "rusty":
        rgb, gloss = rust, np.full(shape_hw, 0.05, np.float32)
    elif material == "burnt":
        rgb = mixed(rust, varied(rng, (0.17, 0.16, 0.15)), step(broad, -0.5, 0.8))
        gloss = np.full(shape_hw, 0.05, np.float32)
    else:
        if material == "painted":
            word = paint or pick(rng, tuple(PAINTS))
            base, shine, words = varied(rng, PAINTS[word]), 0.25, (material, word)
        else:
            base, shine = varied(rng, ZINC if material == "galvanised" else STEEL), 0.6
        kept = step(-(broad + fine * 0.4), worn * 2.4 - 1.7, 0.12 if material == "painted" else 0.6)
        rgb = mixed(rust, base, kept)
        gloss = shine * kept
    streaks = noise(rng, (shape_hw[0], max(shape_hw[1] // 20, 2)), 3, 2)
    fine += 0.7 * as_floats(cv2.resize(streaks, shape_hw[::-1]))
    dirty = np.clip(0.3 + 0.35 * noise(rng, shape_hw, size / 2, 4), 0, 0.8) * rng.uniform(0.3, 1)
    rgb = mixed(rgb, varied(rng, DIRT), dirty) * (1 + 0.10 * fine)[..., None]
    return Surface(rgb.astype(np.float32), gloss * (1 - dirty), words)


def plain(shape_hw: tuple[int, int], color: Color, gloss: float = 0.1) -> Surface:
    """One colour, no wear."""
    return Surface(np.broadcast_to(as_floats(color), (*shape_hw, 3)), np.broadcast_to(as_floats(gloss), shape_hw), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sprite:
    """One drawn thing, unlit, lying along x.

    Attributes:
        name: What it is, for example ``pipe``.
        words: What one sees of it, for example ``("rusty",)`` or ``("painted", "green")``; may be empty.
        rgb_HW3: Colour of the surface, uint8.
        alpha_HW: 255 on the thing, 0 beside it, uint8.
        height_HW: Height above what it lies on, px.
        gloss_HW: 0 dull to 255 mirror, uint8.
    """

    name: str
    words: tuple[str, ...]
    rgb_HW3: Bytes
    alpha_HW: Bytes
    height_HW: Floats
    gloss_HW: Bytes

    def turned(self, angle_rad: float, scale: float = 1.0) -> "Sprite":
        """The same thing, turned and scaled about its middle, on a canvas that just holds it."""
        height, width = self.alpha_HW.shape
        if scale < 0.6:
            return self._shrunk(scale).turned(angle_rad)
        cos, sin = math.cos(angle_rad) * scale, math.sin(angle_rad) * scale
        new_w = math.ceil(abs(width * cos) + abs(height * sin)) + 2
        new_h = math.ceil(abs(width * sin) + abs(height * cos)) + 2
        matrix = np.array(
            [
                [cos, -sin, (new_w - 1 - (width - 1) * cos + (height - 1) * sin) / 2],
                [sin, cos, (new_h - 1 - (width - 1) * sin - (height - 1) * cos) / 2],
            ]
        )
        size = (new_w, new_h)
        cover = cv2.warpAffine(self.alpha_HW, matrix, size)
        return replace(
            self,
            rgb_HW3=as_bytes(cv2.warpAffine(self.rgb_HW3, matrix, size)),
            gloss_HW=as_bytes(cv2.warpAffine(self.gloss_HW, matrix, size, flags=cv2.INTER_NEAREST)),
            alpha_HW=as_bytes(cv2.threshold(cover, 127, 255, cv2.THRESH_BINARY)[1]),
            height_HW=as_floats(cv2.warpAffine(self.height_HW, matrix, size)) * np.float32(scale),
        )

    def toned(self, gain: float) -> "Sprite":
        """The same thing, darker or lighter."""
        return replace(self, rgb_HW3=as_bytes(cv2.convertScaleAbs(self.rgb_HW3, alpha=gain)))

    @property
    def area_px(self) -> int:
        """Pixels that the thing covers."""
        return int(np.count_nonzero(self.alpha_HW))

    def _shrunk(self, scale: float) -> "Sprite":
        height, width = self.alpha_HW.shape
        size = (max(round(width * scale), 3), max(round(height * scale), 3))
        cover = cv2.resize(self.alpha_HW, size, interpolation=cv2.INTER_AREA)
        return replace(
            self,
            rgb_HW3=as_bytes(cv2.resize(self.rgb_HW3, size, interpolation=cv2.INTER_AREA)),
            alpha_HW=np.where(cover >= 100, np.uint8(255), np.uint8(0)),
            height_HW=as_floats(cv2.resize(self.height_HW, size, interpolation=cv2.INTER_AREA)) * np.float32(scale),
            gloss_HW=as_bytes(cv2.resize(self.gloss_HW, size, interpolation=cv2.INTER_AREA)),
        )


class Canvas:
    """A board on which one thing is built from solids; of two solids at one place the higher one shows.

    Solids are given in pixels from the middle of the canvas, x to the right along the thing, y down.
    """

    def __init__(self, length_px: float, width_px: float) -> None:
        self.shape_hw = (math.ceil(width_px) + 4, math.ceil(length_px) + 4)
        rows, columns = self.shape_hw
        self.y_H1 = (np.arange(rows, dtype=np.float32) - (rows - 1) / 2)[:, None]
        self.x_1W = (np.arange(columns, dtype=np.float32) - (columns - 1) / 2)[None, :]
        self.rgb_HW3 = np.zeros((rows, columns, 3), np.float32)
        self.gloss_HW = np.zeros(self.shape_hw, np.float32)
        self.height_HW = np.full(self.shape_hw, -np.inf, np.float32)

    @classmethod
    def around(cls, paths: Sequence[Floats], radius_px: float) -> "Canvas":
        """A canvas that holds bars along these paths, which it moves to its middle in place."""
        points = np.concatenate(paths)
        low, high = points.min(0), points.max(0)
        for path in paths:
            path -= (low + high) / 2
        length, width = high - low + 4 * radius_px + 6
        return cls(float(length), float(width))

    @property
    def drawn(self) -> Flags:
        """Where the thing is."""
        return np.isfinite(self.height_HW)

    def lay(self, inside_HW: Flags, height_HW: Floats | float, surface: Surface) -> None:
        """Put a solid on the board: its outline, the height of its upper side, and its surface."""
        inside_HW, height_HW = np.broadcast_to(inside_HW, self.shape_hw), np.broadcast_to(height_HW, self.shape_hw)
        seen = inside_HW & (height_HW >= self.height_HW)
        self.height_HW[seen] = height_HW[seen]
        self.rgb_HW3[seen] = surface.rgb_HW3[seen]
        self.gloss_HW[seen] = surface.gloss_HW[seen]

    def tint(self, share_HW: Floats | Flags, color: Color, gloss: float | None = None) -> None:
        """Paint over what is there, without a change of form."""
        share = np.broadcast_to(np.asarray(share_HW, np.float32), self.shape_hw)
        self.rgb_HW3 = mixed(self.rgb_HW3, color, share)
        if gloss is not None:
            self.gloss_HW += (gloss - self.gloss_HW) * share

    def cut(self, away_HW: Flags) -> None:
        """Take away whatever is there, as a torch does."""
        self.height_HW[np.broadcast_to(away_HW, self.shape_hw)] = -np.inf

    def block(self, x: tuple[float, float], y: tuple[float, float], z_px: float, surface: Surface) -> None:
        """A box with a flat top."""
        self.lay(self.within(x, y), z_px, surface)

    def within(self, x: tuple[float, float], y: tuple[float, float]) -> Flags:
        """Pixels of an upright rectangle."""
        return (self.x_1W >= x[0]) & (self.x_1W < x[1]) & (self.y_H1 >= y[0]) & (self.y_H1 < y[1])

    def cylinder(
        self, x: tuple[float, float], radius_px: float | Floats, surface: Surface, *, y: float = 0, z_px: float = 0
    ) -> None:
        """A lying round bar along x; the radius may change along it (shape 1 x W)."""
        square = np.square(radius_px) - np.square(self.y_H1 - y)
        inside = (square > 0) & (self.x_1W >= x[0]) & (self.x_1W < x[1])
        self.lay(inside, z_px + np.mean(radius_px, dtype=np.float32) + np.sqrt(np.maximum(square, 0)), surface)

    def distance(self, x: float = 0, y: float = 0, squeeze: float = 1) -> Floats:
        """Distance from a point, in pixels; ``squeeze`` below 1 makes ellipses that are narrow along x."""
        return as_floats(np.hypot((self.x_1W - x) / np.float32(squeeze), self.y_H1 - y))

    def polygon(self, points_N2: Sequence[tuple[float, float]] | Floats) -> Flags:
        """Pixels inside a polygon."""
        mask = np.zeros(self.shape_hw, np.uint8)
        self.paint_label(mask, points_N2, 1)
        return mask.astype(bool)

    def paint_label(self, labels_HW: Bytes, points_N2: Sequence[tuple[float, float]] | Floats, label: int) -> None:
        """Fill a polygon of a map of labels that is as large as the canvas."""
        cv2.fillPoly(labels_HW, [self._sixteenths(points_N2)], label, shift=4)

    def stroke(self, path_N2: Floats, radius_px: float, surface: Surface, *, z_px: float = 0, levels: int = 5) -> Flags:
        """A round bar bent along a path, built from strokes that get narrower as they rise; returns its pixels."""
        corners = self._sixteenths(path_N2)
        field = np.full(self.shape_hw, -1, np.float32)
        for level in range(levels):
            rise = (level + 0.3) / levels
            thickness = max(round(2 * radius_px * math.sqrt(1 - rise**2)), 1)
            cv2.polylines(field, [corners], False, radius_px * (1 + rise), thickness, cv2.LINE_8, 4)
        inside = field >= 0
        self.lay(inside, np.where(inside, z_px + cv2.blur(np.maximum(field, 0), (3, 3)), 0), surface)
        return inside

    def scratch(self, path_N2: Floats, thickness_px: float, surface: Surface) -> None:
        """A thin line over what is there, without a change of form or outline."""
        line = np.zeros(self.shape_hw, np.uint8)
        cv2.polylines(line, [self._sixteenths(path_N2)], False, 1, max(round(thickness_px), 1), cv2.LINE_8, 4)
        self.rgb_HW3[line > 0] = surface.rgb_HW3[line > 0]

    def _sixteenths(self, points_N2: Sequence[tuple[float, float]] | Floats) -> npt.NDArray[np.int32]:
        """Points as cv2 takes them for sub-pixel drawing: from the corner of the canvas, in 1/16 px."""
        rows, columns = self.shape_hw
        origin = np.array([(columns - 1) / 2, (rows - 1) / 2])
        return np.asarray(np.round((np.asarray(points_N2) + origin) * 16), np.int32)

    def sprite(self, name: str, words: Sequence[str]) -> Sprite:
        """What has been built."""
        drawn = self.drawn
        rgb_HW3 = as_bytes((np.clip(self.rgb_HW3, 0, 1) * 255).astype(np.uint8))
        # The colour goes on for a pixel beyond the outline, so that turning mixes no black into the rim.
        beyond_HW3 = cv2.dilate(np.where(drawn[..., None], rgb_HW3, np.uint8(0)), np.ones((3, 3), np.uint8))
        return Sprite(
            name=name,
            words=tuple(words),
            rgb_HW3=np.where(drawn[..., None], rgb_HW3, as_bytes(beyond_HW3)),
            alpha_HW=np.where(drawn, np.uint8(255), np.uint8(0)),
            height_HW=np.where(drawn, np.maximum(self.height_HW, 0.5), 0).astype(np.float32),
            gloss_HW=(np.clip(self.gloss_HW, 0, 1) * 255).astype(np.uint8),
        )


def wander(rng: Random, length_px: float, bend: float, points: int = 40) -> Floats:
    """A smooth random path of the given length; ``bend`` 0 is straight, 1 winds like a dropped cable. Shape (N, 2)."""
    steps = np.linspace(0, 1, points)
    turns = sum(
        rng.normal() * bend * 1.8 / wave * np.sin(2 * math.pi * (wave * steps / 2 + rng.random())) for wave in (1, 2, 3)
    )
    xy = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0) * (length_px / points)
    axis = np.linalg.svd(xy - xy.mean(0), full_matrices=False)[2]
    lying = xy @ axis.T
    return as_floats(lying - (lying.max(0) + lying.min(0)) / 2)
