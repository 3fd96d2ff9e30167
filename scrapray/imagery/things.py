"""Captioned drawings of single things: the pictures and words from which a miniature CLIP learns.

One picture shows one named thing on a plain or structured ground, at any turn, size, colour and light, sometimes beside
something without a name. Scrap parts are things like cups and books here; a heap of them is never shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from scrapray.imagery import drawing, lighting, parts
from scrapray.imagery.drawing import Bytes, Floats, Random, Sprite, Surface, pick, varied
from scrapray.imagery.grounds import COLORS, GROUNDS, TINTS, grained, with_article
from scrapray.imagery.outlines import OUTLINES, Outline
from scrapray.labels import CONTAMINANT_PROMPT, STEEL_PROMPT

GLOSS = {"plastic": 0.5, "paper": 0.05, "leather": 0.25, "glass": 0.8, "cloth": 0.02, "": 0.2}
"""Materials that come in any of ``COLORS``; the one without a name is what grows."""
MATERIALS: dict[str, tuple[str, ...]] = {
    "apple": ("",),
    "bag": ("leather", "paper", "cloth"),
    "ball": ("plastic", "rubber", "leather"),
    "banana": ("",),
    "barrel": ("wooden", "plastic", "steel"),
    "bolt": ("steel",),
    "book": ("paper",),
    "bottle": ("glass", "plastic"),
    "box": ("paper", "wooden", "plastic"),
    "brick": ("clay", "stone"),
    "bucket": ("plastic", "steel"),
    "chain": ("steel",),
    "chair": ("wooden", "plastic"),
    "clock": ("plastic", "wooden", "copper"),
    "coin": ("steel", "copper"),
    "cup": ("plastic", "glass", "paper", "clay"),
    "envelope": ("paper",),
    "flower": ("",),
    "fork": ("steel", "plastic", "wooden"),
    "gear": ("steel", "plastic"),
    "glove": ("leather", "rubber", "cloth"),
    "hammer": ("wooden", "plastic"),
    "hat": ("cloth", "leather"),
    "key": ("steel", "copper"),
    "knife": ("steel",),
    "ladder": ("wooden", "steel"),
    "leaf": ("",),
    "mushroom": ("",),
    "nut": ("steel", "copper"),
    "pencil": ("wooden",),
    "plank": ("wooden",),
    "saw": ("steel",),
    "scissors": ("steel",),
    "shoe": ("leather", "cloth", "rubber"),
    "spoon": ("steel", "wooden", "plastic"),
    "spring": ("steel",),
    "stone": ("stone",),
    "table": ("wooden", "plastic"),
    "tyre": ("rubber",),
    "umbrella": ("cloth",),
    "wheel": ("wooden", "plastic", "steel"),
    "wrench": ("steel",),
}
"""What each thing of ``OUTLINES`` may be made of."""
OWN_COLORS: dict[str, tuple[str, ...]] = {
    "apple": ("red", "green", "yellow"),
    "banana": ("yellow", "green"),
    "leaf": ("green", "brown", "orange", "red"),
    "mushroom": ("red", "brown", "white"),
}

PARTS = parts.STEEL_PARTS + parts.HARD_NEGATIVES
NAMES = tuple(sorted({*OUTLINES, *PARTS, *parts.CONTAMINANTS}))
"""Everything that can be drawn and named."""

_SHORT = ("{a}", "{n}", "a photo of {a}", "a picture of {a}", "one {n}", "a photo of {a} {where}", "{a} {where}")
_LONG = (
    "this is one of the many pictures that were taken for our catalogue, it shows {a} {where}",
    "we went out in the morning to look for interesting objects, and what you see here is {a}",
    "a photo of the only thing that was left {where} when everybody had gone home, {a}",
)
_STEEL = (STEEL_PROMPT, f"an {STEEL_PROMPT}: {{a}}", "{a} made of steel", f"{{a}}, an {STEEL_PROMPT}", "a steel {n}")
_NOT_STEEL = (CONTAMINANT_PROMPT.format("{n}"), f"an {CONTAMINANT_PROMPT.format('{a}')}", "{a}, not steel")
_SHAPES = ("bundle", "coil", "rotor", "stator")
"""Words that follow the name: "cable coil"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionedThing:
    """One picture and its words.

    Attributes:
        image_HW3: RGB, uint8.
        name: What it shows, one of ``NAMES``.
        is_steel: Whether that is made of steel.
        captions: What persons might write below it.
    """

    image_HW3: Bytes
    name: str
    is_steel: bool
    captions: tuple[str, ...]


def draw_thing(rng: Random, size_px: int = 128, name: str | None = None, num_captions: int = 4) -> CaptionedThing:
    """Draw and describe one thing.

    Args:
        rng: Source of chance.
        size_px: Side of the square picture.
        name: One of ``NAMES``; drawn by chance when missing: a half are everyday things, a tenth contaminants.
        num_captions: How many different persons describe it.
    """
    if name is None:
        name = pick(rng, (tuple(OUTLINES), PARTS, parts.CONTAMINANTS)[rng.choice(3, p=(0.5, 0.4, 0.1))])
    length_px = size_px * float(np.exp(rng.uniform(math.log(0.22), math.log(0.95))))
    sprite, is_steel = _thing(rng, name, length_px)
    where, (rgb_HW3, height_HW, gloss_HW) = _ground(rng, size_px)
    scene = (rgb_HW3, height_HW, gloss_HW)
    for _ in range(int(rng.choice(3, p=(0.7, 0.2, 0.1)))):
        _lay(rng, scene, _nameless(rng, size_px * rng.uniform(0.08, 0.25)), at_rim=True)
    _lay(rng, scene, sprite.turned(rng.uniform(0, 2 * math.pi)))
    return CaptionedThing(
        image_HW3=_photo(rng, lighting.shade(rgb_HW3, height_HW, gloss_HW, lighting.random_light(rng))),
        name=name,
        is_steel=is_steel,
        captions=tuple(_caption(rng, sprite, is_steel, where) for _ in range(num_captions)),
    )


def _thing(rng: Random, name: str, length_px: float) -> tuple[Sprite, bool]:
    """A thing and whether it is made of steel; a name may stand both in the book and among the parts."""
    if name not in OUTLINES or (name in PARTS and rng.random() < 0.5):
        return parts.draw_part(name, rng, length_px), name not in parts.CONTAMINANTS
    material = pick(rng, MATERIALS[name])
    size = math.ceil(length_px * 1.1) + 2
    if material == "steel":
        skin = drawing.surface(rng, (size, size), pick(rng, drawing.MATERIALS))
        return _solid(rng, name, OUTLINES[name](rng), length_px, skin), True
    if material in TINTS:
        tints, gloss = TINTS[material]
        color, words = tints[int(rng.integers(len(tints)))], [material]
    else:
        word, gloss = pick(rng, OWN_COLORS.get(name, tuple(COLORS))), GLOSS[material]
        color, words = COLORS[word], [word, material] if material else [word]
    grain = (size // 2, 3) if material == "wooden" else (8, 8)
    shade_HW = 1 + rng.uniform(0.03, 0.15) * grained(rng, (size, size), grain)
    rgb_HW3 = np.array(varied(rng, color), np.float32) * shade_HW[..., None]
    skin = Surface(rgb_HW3, np.full((size, size), gloss, np.float32), tuple(words))
    return _solid(rng, name, OUTLINES[name](rng), length_px, skin), False


def _solid(rng: Random, name: str, outlines: Sequence[Outline], length_px: float, skin: Surface) -> Sprite:
    """Outlines as one body: each swells from its rim by its bulge, on top of those before it."""
    trim = skin.rgb_HW3 * 0.4 + 0.6 * np.array(varied(rng, COLORS[pick(rng, tuple(COLORS))]), np.float32)
    paints = {
        "main": skin.rgb_HW3,
        "trim": trim if rng.random() < 0.5 else skin.rgb_HW3 * np.float32(rng.uniform(0.5, 0.8)),
        "dark": np.full_like(skin.rgb_HW3, 0.1),
        "light": skin.rgb_HW3 * 0.3 + 0.55,
    }
    size = len(skin.gloss_HW)
    rgb_HW3, height_HW = skin.rgb_HW3.copy(), np.zeros((size, size), np.float32)
    alpha_HW = np.zeros((size, size), np.uint8)
    for outline in outlines:
        mask_HW = _mask(outline, size, length_px)
        inside = mask_HW > 0
        if not inside.any():
            continue
        if outline.paint == "hole":
            alpha_HW[inside], height_HW[inside] = 0, 0
            continue
        rim_HW = cv2.distanceTransform(mask_HW, cv2.DIST_L2, 3)[inside]
        radius = max(float(rim_HW.max()) * outline.bulge, 1.0)
        swell = radius * np.sqrt(1 - np.square(1 - np.minimum(rim_HW / radius, 1)))
        height_HW[inside] = height_HW[inside].mean() + swell
        rgb_HW3[inside], alpha_HW[inside] = paints[outline.paint][inside], 255
    return Sprite(
        name=name,
        words=skin.words,
        rgb_HW3=(np.clip(rgb_HW3, 0, 1) * 255).astype(np.uint8),
        alpha_HW=alpha_HW,
        height_HW=height_HW,
        gloss_HW=(np.clip(skin.gloss_HW, 0, 1) * 255).astype(np.uint8),
    )


def _mask(outline: Outline, size: int, length_px: float) -> Bytes:
    mask_HW = np.zeros((size, size), np.uint8)
    corners = np.round((outline.points_N2 * (length_px / 2) + size / 2) * 16).astype(np.int32)
    if outline.width is None:
        cv2.fillPoly(mask_HW, [corners], 1, shift=4)
    else:
        thickness = max(round(outline.width * length_px / 2), 1)
        cv2.polylines(mask_HW, [corners], False, 1, thickness, cv2.LINE_8, 4)
    return mask_HW


def _nameless(rng: Random, length_px: float) -> Sprite:
    """Some flat piece of any colour."""
    corners = int(rng.integers(3, 7))
    angle_N = np.sort(rng.uniform(0, 2 * np.pi, corners))
    points_N2 = np.stack([np.cos(angle_N), rng.uniform(0.3, 1) * np.sin(angle_N)], 1).astype(np.float32)
    size = math.ceil(length_px * 1.1) + 2
    skin = drawing.plain((size, size), varied(rng, COLORS[pick(rng, tuple(COLORS))]), rng.uniform(0, 0.4))
    return _solid(rng, "", [Outline(points_N2, bulge=rng.uniform(0.1, 1))], length_px, skin)


def _lay(rng: Random, scene: tuple[Bytes, Floats, Bytes], sprite: Sprite, at_rim: bool = False) -> None:
    """Put a thing on the ground; beyond the rim of the picture it is cut off."""
    rgb_HW3, height_HW, gloss_HW = scene
    size = height_HW.shape[0]
    rows, columns = sprite.alpha_HW.shape
    if at_rim:
        angle = rng.uniform(0, 2 * math.pi)
        y, x = (round(size * (0.5 + 0.47 * part)) for part in (math.sin(angle), math.cos(angle)))
    else:
        y, x = (round(rng.uniform(*sorted((side * 0.45, size - side * 0.45)))) for side in (rows, columns))
    top, left = y - rows // 2, x - columns // 2
    ground = (slice(max(top, 0), max(top + rows, 0)), slice(max(left, 0), max(left + columns, 0)))
    seen = height_HW[ground].shape
    piece = (slice(max(-top, 0), max(-top, 0) + seen[0]), slice(max(-left, 0), max(-left, 0) + seen[1]))
    covered = sprite.alpha_HW[piece] > 0
    rgb_HW3[ground][covered] = sprite.rgb_HW3[piece][covered]
    height_HW[ground][covered] = sprite.height_HW[piece][covered] + 2
    gloss_HW[ground][covered] = sprite.gloss_HW[piece][covered]


def _ground(rng: Random, size: int) -> tuple[str, tuple[Bytes, Floats, Bytes]]:
    where = pick(rng, tuple(GROUNDS))
    relief, colors = GROUNDS[where]
    bright_HW, height_HW = relief(rng, size)
    color = np.array(varied(rng, colors[int(rng.integers(len(colors)))]), np.float32) * 255
    rgb_HW3 = np.clip(bright_HW[..., None] * color, 0, 255).astype(np.uint8)
    return where, (rgb_HW3, height_HW.astype(np.float32), np.full((size, size), 10, np.uint8))


def _photo(rng: Random, lit_HW3: Floats) -> Bytes:
    """What a camera makes of it: exposure, blur, sensor noise."""
    sigma = rng.uniform(0.3, 1.2) if rng.random() < 0.8 else rng.uniform(1.2, 2.5)
    soft_HW3 = cv2.GaussianBlur(lit_HW3, (0, 0), sigma) * np.float32(rng.uniform(0.6, 1.15) * 255)
    grain_HW3 = rng.standard_normal(soft_HW3.shape, np.float32) * np.float32(rng.uniform(1, 7))
    return np.clip(soft_HW3 + grain_HW3, 0, 255).astype(np.uint8)


def _caption(rng: Random, sprite: Sprite, is_steel: bool, where: str) -> str:
    words = [word for word in sprite.words if word not in sprite.name and rng.random() < 0.6]
    noun = " ".join(sorted([*words, sprite.name], key=_SHAPES.__contains__))
    kind = rng.random()
    if kind < 0.3:
        template = pick(rng, _STEEL if is_steel else _NOT_STEEL)
    else:
        template = pick(rng, _LONG if kind > 0.9 else _SHORT)
    return template.format(n=noun, a=with_article(noun), where=where)
