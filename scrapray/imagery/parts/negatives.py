"""Steel that looks like a contaminant at first sight: each has a partner among the contaminants."""

import math

import numpy as np

from scrapray.imagery.drawing import (
    DARK,
    PAINTS,
    Canvas,
    Random,
    Sprite,
    Surface,
    pick,
    plain,
    step,
    surface,
    varied,
    wander,
)
from scrapray.imagery.parts.steel import pipe, worn_surface


def pipe_stub(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A short piece of pipe with the proportions and often the paint of a spray can."""
    kind = material or str(rng.choice(["painted", "rusty", "galvanised", "bare"], p=(0.5, 0.2, 0.15, 0.15)))
    sprite = pipe(rng, length_px, kind, paint, width_frac=(0.26, 0.42))
    return Sprite(
        name="pipe stub",
        words=sprite.words,
        rgb_HW3=sprite.rgb_HW3,
        alpha_HW=sprite.alpha_HW,
        height_HW=sprite.height_HW,
        gloss_HW=sprite.gloss_HW,
    )


def wire_rope(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """Twisted steel rope, wound like a dropped cable."""
    path = wander(rng, length_px * 1.15, rng.uniform(0.25, 1.0), points=80)
    radius = max(length_px * rng.uniform(0.012, 0.035), 1.6)
    canvas = Canvas.around([path], radius)
    skin = worn_surface(rng, canvas, material or str(rng.choice(["bare", "rusty", "burnt"], p=(0.5, 0.35, 0.15))), None)
    canvas.stroke(path, radius, skin)
    ahead = np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-6
    aside = np.stack([-ahead[:, 1], ahead[:, 0]], 1)
    dark = plain(canvas.shape_hw, (0.08, 0.07, 0.06), 0)
    arc = np.linspace(0, len(path) - 1, max(int(length_px * 1.15 / (radius * 1.1)), 2))
    at = np.stack([np.interp(arc, np.arange(len(path)), path[:, axis]) for axis in (0, 1)], 1)
    nearest = np.round(arc).astype(int)
    for point, along, side in zip(at, ahead[nearest], aside[nearest], strict=True):
        strand = np.stack([point - (side + along * 0.8) * radius * 0.85, point + (side + along * 0.8) * radius * 0.85])
        canvas.scratch(strand.astype(np.float32), max(radius * 0.3, 1), dark)
    return canvas.sprite("wire rope", skin.words)


def painted_rod(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A bent round bar in a cable's colour; stiff, with clean-cut steel ends."""
    path = wander(rng, length_px, rng.choice([0.05, 0.2, 0.4]))
    radius = max(length_px * rng.uniform(0.012, 0.03), 1.4)
    canvas = Canvas.around([path], radius)
    skin = surface(rng, canvas.shape_hw, material or "painted", paint or pick(rng, tuple(PAINTS)), wear=0.3)
    canvas.stroke(path, radius, skin)
    return canvas.sprite("painted rod", skin.words)


def gearbox(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A cast, bolted case with a round hub and one or two shafts: a motor without winding, fins or terminal box."""
    width = length_px * rng.uniform(0.55, 0.8)
    canvas = Canvas(length_px, width)
    kind = material or str(rng.choice(["painted", "rusty", "burnt"], p=(0.6, 0.3, 0.1)))
    skin = surface(rng, canvas.shape_hw, kind, paint or pick(rng, ("blue", "green", "grey", "yellow")))
    steel = surface(rng, canvas.shape_hw, "bare", wear=0.3)
    half, side = length_px / 2, width / 2
    canvas.cylinder((half * 0.5, half), side * 0.22, steel, z_px=side * 0.5)
    if rng.random() < 0.4:
        canvas.cylinder((-half, -half * 0.5), side * 0.18, steel, y=side * rng.uniform(-0.4, 0.4), z_px=side * 0.4)
    case = canvas.polygon(
        [
            (-half * 0.74, -side * 0.8),
            (half * 0.5, -side),
            (half * 0.72, -side * 0.5),
            (half * 0.72, side * 0.6),
            (half * 0.4, side),
            (-half * 0.7, side * 0.9),
        ]
    )
    canvas.lay(case, side * 0.9, skin)
    lid = canvas.within((-half * 0.55, half * 0.5), (-side * 0.66, side * 0.7))
    canvas.lay(lid, side * 1.15, skin)
    hub = canvas.distance(rng.uniform(-0.25, 0.15) * half, rng.uniform(-0.15, 0.2) * side)
    canvas.lay(hub < side * 0.48, side * 1.45, skin)
    canvas.lay(hub < side * 0.16, side * 1.7, steel)
    for x in np.linspace(-0.5, 0.45, 5) * half:
        for y in (-0.73 * side, 0.77 * side):
            canvas.lay(canvas.distance(float(x), y) < side * 0.06, side * 1.2, steel)
    return canvas.sprite("gearbox", skin.words)


def valve(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A valve body between two flanges, with its hand wheel on top."""
    width = length_px * rng.uniform(0.55, 0.75)
    canvas = Canvas(length_px, width)
    kind = material or str(rng.choice(["painted", "rusty", "bare"], p=(0.5, 0.35, 0.15)))
    skin = surface(rng, canvas.shape_hw, kind, paint or pick(rng, ("blue", "grey", "red", "green", "black")))
    half, side = length_px / 2, width / 2
    waist = side * (0.5 + 0.35 * np.exp(-np.square(canvas.x_1W / (half * 0.4))))
    canvas.cylinder((-half, half), waist.astype(np.float32), skin, z_px=side * 0.1)
    for x in (-half, half * 0.86):
        canvas.cylinder((x, x + half * 0.14), side * 0.9, skin)
    if rng.random() < 0.7:
        wheel = surface(rng, canvas.shape_hw, "painted", pick(rng, ("red", "blue", "black", "grey")))
        away, turn = canvas.distance(), np.arctan2(canvas.y_H1, canvas.x_1W)
        reach = side * rng.uniform(0.6, 0.95)
        spokes = np.abs(np.sin(turn * 2.5)) < 0.28
        rim = (away < reach) & (away > reach * 0.8)
        canvas.lay(rim | ((away < reach) & spokes) | (away < reach * 0.25), side * 1.9, wheel)
    else:
        away = canvas.distance()
        canvas.lay(away < side * 0.5, side * 1.5, skin)
        canvas.lay(away < side * 0.14, side * 2.0, surface(rng, canvas.shape_hw, "bare", wear=0.3))
    return canvas.sprite("valve", skin.words)


def tin(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """An open food tin: a can without dome, cap or print."""
    width = length_px * rng.uniform(0.5, 0.75)
    canvas = Canvas(length_px, width)
    kind = material or str(rng.choice(["galvanised", "rusty", "burnt"]))
    skin = surface(rng, canvas.shape_hw, kind, paint, wear=float(rng.uniform(0.2, 0.7)))
    radius, half, mouth = width / 2 - 1, length_px / 2, width * rng.uniform(0.1, 0.25)
    canvas.cylinder((-half, half - mouth), radius, skin)
    canvas.height_HW += np.cos(canvas.x_1W * np.float32(2 * math.pi / (length_px * 0.08))) * np.float32(width * 0.012)
    end = canvas.distance(half - mouth, squeeze=mouth / radius)
    canvas.lay((end <= radius) & (canvas.x_1W >= half - mouth), radius * 1.1, skin)
    canvas.cut(end <= radius * 0.88)
    canvas.lay(end <= radius * 0.88, 1.0, Surface(skin.rgb_HW3 * np.float32(0.25), skin.gloss_HW * 0, ()))
    canvas.tint(step(-np.abs(end - radius * 0.94), -radius * 0.06, 1), varied(rng, (0.5, 0.5, 0.5)), 0.5)
    canvas.tint((canvas.x_1W < -half + 2) * np.float32(0.5), DARK)
    return canvas.sprite("tin", skin.words)
