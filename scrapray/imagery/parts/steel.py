"""Steel that belongs in the load: sections, pipes, plates, turnings, wheels."""

import math

import numpy as np

from scrapray.imagery.drawing import (
    DARK,
    MATERIALS,
    STEEL,
    Canvas,
    Floats,
    Random,
    Sprite,
    Surface,
    as_floats,
    noise,
    pick,
    plain,
    step,
    surface,
    varied,
    wander,
)


def worn_surface(rng: Random, canvas: Canvas, material: str | None, paint: str | None) -> Surface:
    """The surface asked for, or that of a thing picked up in a scrap yard."""
    chosen = material or str(rng.choice(MATERIALS, p=(0.36, 0.2, 0.1, 0.26, 0.08)))
    return surface(rng, canvas.shape_hw, chosen, paint)


def ragged_ends(rng: Random, canvas: Canvas, length_px: float) -> None:
    """Cut both ends a little askew, as shears and torches do."""
    for side in (-1, 1):
        lean, rough = rng.normal(0, 0.15), noise(rng, (canvas.shape_hw[0], 1), 30, 2)
        limit = length_px / 2 - abs(lean) * canvas.shape_hw[0] / 2 + lean * canvas.y_H1 + rough * length_px * 0.008
        canvas.cut(side * canvas.x_1W > limit)


def dented(rng: Random, canvas: Canvas, depth_px: float) -> None:
    """Push broad dents into what has been built."""
    canvas.height_HW += noise(rng, canvas.shape_hw, max(canvas.shape_hw) / 3, 3) * np.float32(depth_px)


def beam(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """An I-beam, seen on its side: two flanges and the web between them."""
    width = length_px * rng.uniform(0.13, 0.26)
    canvas = Canvas(length_px, width)
    skin = worn_surface(rng, canvas, material, paint)
    ends, flange = (-length_px / 2, length_px / 2), width * rng.uniform(0.08, 0.14)
    canvas.block(ends, (-width / 2, width / 2), width * 0.3, skin)
    for y in (-width / 2, width / 2 - flange):
        canvas.block(ends, (y, y + flange), width * 0.62, skin)
    _drill(rng, canvas, length_px, width * 0.07)
    ragged_ends(rng, canvas, length_px)
    dented(rng, canvas, width * 0.06)
    return canvas.sprite("beam", skin.words)


def angle_iron(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """An L section: one leg lies flat, the other stands."""
    width = length_px * rng.uniform(0.07, 0.16)
    canvas = Canvas(length_px, width)
    skin = worn_surface(rng, canvas, material, paint)
    slope = (canvas.y_H1 + width / 2) * np.float32(rng.uniform(0.3, 0.8))
    canvas.lay(np.abs(canvas.y_H1) < width / 2, width * 0.1 + slope, skin)
    crest = width * rng.uniform(0.1, 0.3)
    canvas.lay((canvas.y_H1 > crest) & (canvas.y_H1 < width / 2), width * 0.9 - (canvas.y_H1 - crest) * 0.9, skin)
    _drill(rng, canvas, length_px, width * 0.1)
    ragged_ends(rng, canvas, length_px)
    dented(rng, canvas, width * 0.08)
    return canvas.sprite("angle iron", skin.words)


def channel(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A U section lying open or on its legs."""
    width = length_px * rng.uniform(0.1, 0.2)
    canvas = Canvas(length_px, width)
    skin = worn_surface(rng, canvas, material, paint)
    wall, ends = width * rng.uniform(0.08, 0.14), (-length_px / 2, length_px / 2)
    is_open = rng.random() < 0.6
    canvas.block(ends, (-width / 2, width / 2), width * (0.08 if is_open else 0.5), skin)
    if is_open:
        for y in (-width / 2, width / 2 - wall):
            canvas.block(ends, (y, y + wall), width * 0.5, skin)
    ragged_ends(rng, canvas, length_px)
    dented(rng, canvas, width * 0.06)
    return canvas.sprite("channel", skin.words)


def square_tube(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A hollow square section, often bent or flattened at one place."""
    width = length_px * rng.uniform(0.06, 0.16)
    canvas = Canvas(length_px, width)
    skin = worn_surface(rng, canvas, material, paint)
    edge = np.maximum(np.abs(canvas.y_H1) / (width / 2) - 0.75, 0)
    kink = np.exp(-np.square((canvas.x_1W - rng.uniform(-0.3, 0.3) * length_px) / (width * 0.8)))
    crush = rng.uniform(0, 0.7) * (rng.random() < 0.4)
    height = width * (1 - edge * 1.5) * (1 - crush * kink * (1 - np.abs(canvas.y_H1) / width))
    canvas.lay((np.abs(canvas.y_H1) < width / 2) & (np.abs(canvas.x_1W) < length_px / 2), height, skin)
    if rng.random() < 0.5:
        hollow = canvas.within((length_px / 2 - width * 0.22, length_px / 2), (-width * 0.36, width * 0.36))
        canvas.tint(hollow, DARK, 0)
    ragged_ends(rng, canvas, length_px)
    return canvas.sprite("square tube", skin.words)


def pipe(
    rng: Random,
    length_px: float,
    material: str | None = None,
    paint: str | None = None,
    width_frac: tuple[float, float] = (0.06, 0.2),
) -> Sprite:
    """A pipe whose open end can be looked into."""
    width = length_px * rng.uniform(*width_frac)
    canvas = Canvas(length_px, width)
    skin = worn_surface(rng, canvas, material, paint)
    radius, mouth = width / 2 - 1, width * rng.uniform(0.08, 0.22)
    canvas.cylinder((-length_px / 2, length_px / 2 - mouth), radius, skin)
    at = length_px / 2 - mouth
    rim = canvas.distance(at, squeeze=mouth / radius)
    canvas.lay((rim <= radius) & (canvas.x_1W >= at), radius * 1.2, skin)
    wall = rng.uniform(0.72, 0.9)
    hole = canvas.distance(at, squeeze=mouth / radius) <= radius * wall
    canvas.cut(hole)
    canvas.lay(hole, 1.0, plain(canvas.shape_hw, varied(rng, DARK), 0))
    canvas.cut(
        (canvas.x_1W < 0)
        & (canvas.distance(-length_px / 2 + mouth, squeeze=mouth / radius) > radius)
        & (canvas.x_1W < -length_px / 2 + mouth)
    )
    if rng.random() < 0.3:
        _weld(rng, canvas, rng.uniform(-0.35, 0.25) * length_px, radius)
    dented(rng, canvas, width * 0.05)
    return canvas.sprite("pipe", skin.words)


def rod(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A round bar, straight or bent."""
    path = wander(rng, length_px, rng.choice([0.0, 0.08, 0.35]))
    radius = length_px * rng.uniform(0.008, 0.024)
    return _bent_bar(rng, path, max(radius, 1.2), "rod", material, paint)


def rebar(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A ribbed bar of reinforcement, usually bent and rusty."""
    path = wander(rng, length_px, rng.choice([0.05, 0.3, 0.6]))
    radius = max(length_px * rng.uniform(0.01, 0.02), 1.5)
    sprite = _bent_bar(rng, path, radius, "rebar", material or str(rng.choice(["rusty", "rusty", "bare"])), paint)
    columns = np.arange(sprite.alpha_HW.shape[1], dtype=np.float32)
    ribs = np.sin(columns * (2.2 / radius)) * np.float32(radius * 0.3) * (sprite.alpha_HW > 0)
    sprite.height_HW[:] = np.maximum(sprite.height_HW + ribs, 0)
    return sprite


def _bent_bar(
    rng: Random, path_N2: Floats, radius_px: float, name: str, material: str | None, paint: str | None
) -> Sprite:
    canvas = Canvas.around([path_N2], radius_px)
    skin = worn_surface(rng, canvas, material, paint)
    canvas.stroke(path_N2, radius_px, skin)
    return canvas.sprite(name, skin.words)


def plate(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A piece of thick plate, cut by torch, sometimes with holes."""
    width = length_px * rng.uniform(0.3, 0.9)
    canvas = Canvas(length_px, width)
    skin = worn_surface(rng, canvas, material, paint)
    thick = length_px * rng.uniform(0.02, 0.06)
    canvas.lay(canvas.polygon(_outline(rng, length_px, width, corners=int(rng.integers(4, 8)))), thick, skin)
    for _ in range(rng.integers(0, 4)):
        away = canvas.distance(rng.uniform(-0.35, 0.35) * length_px, rng.uniform(-0.3, 0.3) * width)
        canvas.cut(away < length_px * rng.uniform(0.02, 0.07))
    if rng.random() < 0.25:
        canvas.height_HW += _treads(canvas, max(length_px * 0.03, 5)) * np.float32(thick * 0.25)
    dented(rng, canvas, length_px * rng.uniform(0, 0.03))
    return canvas.sprite("plate", skin.words)


def sheet(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """An offcut of thin sheet, creased or crumpled, sometimes corrugated."""
    width = length_px * rng.uniform(0.35, 0.9)
    canvas = Canvas(length_px, width)
    skin = worn_surface(rng, canvas, material, paint)
    canvas.lay(canvas.polygon(_outline(rng, length_px, width, corners=int(rng.integers(5, 11)))), 2.0, skin)
    if rng.random() < 0.3:
        period = length_px * rng.uniform(0.05, 0.1)
        canvas.height_HW += np.float32(period * 0.15) * np.sin(canvas.y_H1 * np.float32(2 * math.pi / period))
    creases = 1 - np.abs(noise(rng, canvas.shape_hw, length_px * rng.uniform(0.25, 0.5), 3))
    canvas.height_HW += creases * np.float32(length_px * rng.uniform(0.03, 0.1))
    return canvas.sprite("sheet", skin.words)


def box(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A crushed housing: panels, folds and a dark opening."""
    width = length_px * rng.uniform(0.5, 0.85)
    canvas = Canvas(length_px, width)
    skin = worn_surface(rng, canvas, material or str(rng.choice(["painted", "galvanised", "rusty"])), paint)
    canvas.lay(canvas.polygon(_outline(rng, length_px, width, int(rng.integers(5, 9)))), length_px * 0.15, skin)
    for _ in range(rng.integers(2, 5)):
        lean, at = rng.uniform(0, math.pi), rng.uniform(-0.25, 0.25) * length_px
        side = canvas.x_1W * np.float32(math.cos(lean)) + canvas.y_H1 * np.float32(math.sin(lean)) - np.float32(at)
        canvas.height_HW -= np.maximum(side, 0) * np.float32(rng.uniform(0.15, 0.5))
    canvas.height_HW += np.abs(noise(rng, canvas.shape_hw, length_px / 3, 3)) * np.float32(length_px * 0.05)
    canvas.height_HW -= canvas.height_HW[canvas.drawn].min() - 1
    seams = canvas.polygon(_outline(rng, length_px * 0.7, width * 0.7, corners=6))
    canvas.height_HW += np.where(seams, np.float32(length_px * 0.02), np.float32(0))
    if rng.random() < 0.5:
        torn = _outline(rng, length_px * rng.uniform(0.1, 0.35), width * 0.25, corners=5)
        hole = canvas.polygon(as_floats(torn + rng.uniform(-0.25, 0.25, 2) * width))
        canvas.tint(hole & canvas.drawn, DARK, 0)
        canvas.height_HW[hole] *= np.float32(0.2)
    return canvas.sprite("box", skin.words)


def turnings(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A nest of curly swarf from a lathe."""
    width = length_px * rng.uniform(0.6, 1.0)
    canvas = Canvas(length_px, width)
    kind = material or str(rng.choice(["bare", "rusty", "burnt"], p=(0.6, 0.3, 0.1)))
    skin = worn_surface(rng, canvas, kind, paint)
    shiny = Surface(np.clip(skin.rgb_HW3 * 1.35, 0, 1), np.clip(skin.gloss_HW + 0.3, 0, 1), skin.words)
    radius = max(length_px * rng.uniform(0.002, 0.005), 0.6)
    for layer in range(int(rng.integers(45, 80))):
        path = _curl(rng, rng.uniform(0.02, 0.09) * length_px) + rng.normal(0, 0.17, 2) * (length_px, width)
        canvas.stroke(as_floats(path), radius, shiny if layer % 3 == 0 else skin, z_px=layer * radius * 0.4, levels=2)
    return canvas.sprite("turnings", skin.words)


def chips(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A handful of shredded pieces, bolts and bits."""
    canvas = Canvas(length_px, length_px * rng.uniform(0.5, 1.0))
    num_pieces = int(rng.integers(30, 70))
    piece_HW = np.zeros(canvas.shape_hw, np.uint8)
    for piece in range(num_pieces):
        size = length_px * rng.uniform(0.03, 0.13)
        corners = _outline(rng, size, size * rng.uniform(0.3, 0.9), corners=int(rng.integers(4, 7)))
        turn, at = rng.uniform(0, math.pi), rng.normal(0, 0.2, 2) * canvas.shape_hw[::-1]
        turned = corners @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) + at
        canvas.paint_label(piece_HW, as_floats(turned), piece + 1)
    tilt = as_floats(rng.normal(0, 0.2, (2, num_pieces + 1)))
    height = canvas.x_1W * tilt[0][piece_HW] + canvas.y_H1 * tilt[1][piece_HW]
    lowest = np.zeros(num_pieces + 1, np.float32)
    np.minimum.at(lowest, piece_HW.ravel()[::7], height.ravel()[::7])
    height += np.arange(num_pieces + 1, dtype=np.float32)[piece_HW] * np.float32(0.3) - lowest[piece_HW]
    words: tuple[str, ...] = ()
    for kind in range(3):
        skin = worn_surface(rng, canvas, material, paint)
        canvas.lay((piece_HW > 0) & (piece_HW % 3 == kind), height, skin)
        words = skin.words
    return canvas.sprite("chips", words)


def flange(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A ring with a circle of bolt holes."""
    canvas = Canvas(length_px, length_px)
    skin = worn_surface(rng, canvas, material, paint)
    away, outer = canvas.distance(), length_px / 2
    canvas.lay(away < outer, outer * 0.25, skin)
    collar, bore = outer * rng.uniform(0.5, 0.65), outer * rng.uniform(0.25, 0.48)
    canvas.lay(away < collar, outer * 0.45, skin)
    holes = int(rng.integers(4, 13))
    for turn in np.arange(holes) * (2 * math.pi / holes):
        at = outer * 0.8
        canvas.cut(canvas.distance(at * math.cos(turn), at * math.sin(turn)) < outer * 0.07)
    canvas.cut(away < bore)
    return canvas.sprite("flange", skin.words)


def gear(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A gear wheel with teeth, spokes or a web, and a bore."""
    canvas = Canvas(length_px, length_px)
    skin = worn_surface(rng, canvas, material or str(rng.choice(["bare", "rusty", "burnt"])), paint)
    away, outer = canvas.distance(), length_px / 2
    turn = np.arctan2(canvas.y_H1, canvas.x_1W)
    teeth = int(rng.integers(14, 40))
    reach = outer * (0.94 + 0.06 * np.sign(np.sin(turn * teeth)))
    canvas.lay(away < reach, outer * 0.35, skin)
    canvas.height_HW -= step(outer * 0.78 - away, 0, 2) * step(away, outer * 0.38, 2) * np.float32(outer * 0.2)
    if rng.random() < 0.5:
        spokes = int(rng.integers(3, 7))
        canvas.cut((away > outer * 0.42) & (away < outer * 0.74) & (np.abs(np.sin(turn * spokes / 2)) > 0.45))
    canvas.cut(away < outer * rng.uniform(0.12, 0.28))
    return canvas.sprite("gear", skin.words)


def brake_disc(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A ground ring around a rusty hat with a hub bore."""
    canvas = Canvas(length_px, length_px)
    hat = worn_surface(rng, canvas, material or "rusty", paint)
    ring = surface(rng, canvas.shape_hw, material or pick(rng, ("bare", "rusty")), paint)
    away, outer = canvas.distance(), length_px / 2
    canvas.lay(away < outer, outer * 0.12, ring)
    canvas.lay(away < outer * 0.55, outer * 0.35 - 2 * step(away, outer * 0.5, 3), hat)
    for turn in np.arange(5) * (2 * math.pi / 5):
        canvas.cut(canvas.distance(outer * 0.36 * math.cos(turn), outer * 0.36 * math.sin(turn)) < outer * 0.05)
    canvas.cut(away < outer * 0.2)
    return canvas.sprite("brake disc", ring.words)


def spring(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """A coil spring lying on its side."""
    width = length_px * rng.uniform(0.25, 0.5)
    canvas = Canvas(length_px, width)
    skin = worn_surface(rng, canvas, material, paint)
    turns = int(rng.integers(5, 11))
    wire = length_px / turns * rng.uniform(0.16, 0.26)
    for winding in range(turns):
        x = (winding + 0.5) / turns * length_px * 0.94 - length_px * 0.47
        lean, reach = length_px / turns * 0.25, width / 2 - wire
        path = as_floats(
            [(x - lean, -reach), (x - lean * 0.6, -reach * 0.7), (x + lean * 0.6, reach * 0.7), (x + lean, reach)]
        )
        canvas.stroke(path, wire, skin, z_px=width * 0.4)
        path = as_floats([(x + lean, reach), (x + lean * 3, -reach)])
        canvas.stroke(path, wire, skin, levels=3)
    return canvas.sprite("spring", skin.words)


def _outline(rng: Random, length_px: float, width_px: float, corners: int) -> Floats:
    """A torn or cut polygon about the middle that fills most of length x width. Shape (corners, 2)."""
    turns = np.sort(rng.uniform(0, 2 * math.pi / corners, corners) * 0.9 + np.arange(corners) * 2 * math.pi / corners)
    ring = np.stack([np.cos(turns), np.sin(turns)], 1)
    square = ring / np.abs(ring).max(1, keepdims=True)
    reach = rng.uniform(0.75, 1.0, (corners, 1))
    return as_floats(square * reach * (length_px / 2, width_px / 2))


def _curl(rng: Random, size_px: float) -> Floats:
    """One curl of swarf: a bow, a spiral or a long run of loops."""
    turns = np.linspace(0, rng.uniform(2, 22), 48) + rng.uniform(0, 6)
    drift = rng.normal(0, 0.8, 2) * size_px
    swing = size_px * np.linspace(rng.uniform(0.2, 1), rng.uniform(0.5, 1), 48) * rng.uniform(0.3, 0.7)
    run = np.linspace(-1, 1, 48)[:, None] * drift * 2
    return as_floats(np.stack([np.cos(turns), np.sin(turns)], 1) * swing[:, None] + run)


def _treads(canvas: Canvas, pitch_px: float) -> Floats:
    """The raised marks of checker plate."""
    u = (canvas.x_1W + canvas.y_H1) / pitch_px
    v = (canvas.x_1W - canvas.y_H1) / pitch_px
    odd = (np.floor(u) + np.floor(v)) % 2 == 0
    across, along = np.where(odd, u, v) % 1 - 0.5, np.where(odd, v, u) % 1 - 0.5
    return as_floats((np.abs(across) < 0.12) & (np.abs(along) < 0.4))


def _drill(rng: Random, canvas: Canvas, length_px: float, radius_px: float) -> None:
    """A row of holes, in one of three."""
    if rng.random() > 0.35:
        return
    y = rng.uniform(-0.15, 0.15) * canvas.shape_hw[0]
    for x in np.linspace(-0.4, 0.4, int(rng.integers(3, 8))) * length_px:
        hole = canvas.distance(float(x), y) < radius_px
        canvas.tint(hole, DARK, 0)
        canvas.height_HW[hole] *= 0.2


def _weld(rng: Random, canvas: Canvas, x_px: float, radius_px: float) -> None:
    """A ring of weld around a pipe."""
    ring = np.abs(canvas.x_1W - x_px + noise(rng, canvas.shape_hw, 6, 1)) < max(radius_px * 0.08, 1.5)
    canvas.height_HW += ring * np.float32(radius_px * 0.12)
    canvas.tint(ring * np.float32(0.5), STEEL)
