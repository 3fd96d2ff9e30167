"""What must not be in the load: electric motors, insulated cable, spray cans."""

import math

import numpy as np

from scrapray.imagery.drawing import (
    COPPER,
    DARK,
    DIRT,
    PAINTS,
    ZINC,
    Canvas,
    Color,
    Flags,
    Floats,
    Random,
    Sprite,
    Surface,
    as_floats,
    mixed,
    noise,
    pick,
    plain,
    step,
    surface,
    varied,
    wander,
)

_MOTOR_PAINTS = ("blue", "grey", "green", "black", "pale green", "orange")
_CABLE_COLORS = ("black", "black", "grey", "white", "red", "blue", "yellow", "green", "orange", "brown")
_CAN_PAINTS = ("red", "blue", "white", "green", "yellow", "black", "orange", "grey")


def motor(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """An electric motor from the side or from its end, or its stator or rotor alone."""
    drawer = (_finned_motor, _motor_end, _stator, _rotor)[rng.choice(4, p=(0.55, 0.15, 0.18, 0.12))]
    return drawer(rng, length_px, material, paint)


def cable(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """Insulated cable: one piece, a bundle, or a coil; copper shows where it was cut."""
    drawer = (_loose_cable, _cable_bundle, _cable_coil)[rng.choice(3, p=(0.45, 0.3, 0.25))]
    return drawer(rng, length_px, paint)


def spray_can(rng: Random, length_px: float, material: str | None = None, paint: str | None = None) -> Sprite:
    """An aerosol can: printed cylinder with dome and cap or nozzle, often dented; now and then seen from an end."""
    if rng.random() < 0.15:
        return _can_end(rng, length_px)
    return _lying_can(rng, length_px, material, paint)


def _housing(rng: Random, canvas: Canvas, material: str | None, paint: str | None) -> Surface:
    kind = material or str(rng.choice(["painted", "rusty", "bare", "burnt"], p=(0.68, 0.14, 0.1, 0.08)))
    return surface(rng, canvas.shape_hw, kind, paint or pick(rng, _MOTOR_PAINTS), wear=float(rng.beta(1.5, 4)))


def _finned_motor(rng: Random, length_px: float, material: str | None, paint: str | None) -> Sprite:
    width = length_px * rng.uniform(0.5, 0.68)
    canvas = Canvas(length_px, width)
    skin = _housing(rng, canvas, material, paint)
    cast = Surface(skin.rgb_HW3 * np.float32(0.85), skin.gloss_HW, skin.words)
    radius = width * 0.44
    shaft, bell, hood = length_px * rng.uniform(0.1, 0.2), length_px * 0.09, length_px * rng.uniform(0.12, 0.2)
    left, right = -length_px / 2, length_px / 2
    body = (left + hood, right - shaft - bell)
    if rng.random() < 0.6:
        _feet(rng, canvas, body, width, cast)
    canvas.cylinder(body, radius * 0.94, skin, z_px=width * 0.05)
    _fins(rng, canvas, body, radius)
    canvas.cylinder((left, body[0]), radius * rng.uniform(0.93, 1.0), skin, z_px=width * 0.05)
    canvas.tint(canvas.within((body[0] - 2, body[0] + 1), (-radius, radius)), DARK, 0)
    taper = np.interp(canvas.x_1W, (body[1], right - shaft), (radius * 0.97, radius * 0.62)).astype(np.float32)
    canvas.cylinder((body[1], right - shaft), taper, cast, z_px=width * 0.05)
    steel = surface(rng, canvas.shape_hw, "bare", wear=0.2)
    canvas.cylinder((right - shaft, right), radius * rng.uniform(0.16, 0.24), steel, z_px=radius * 0.8)
    if rng.random() < 0.7:
        _terminal_box(rng, canvas, body, radius, skin)
    if rng.random() < 0.4:
        _name_plate(rng, canvas, body, radius)
    return canvas.sprite("motor", (*skin.words, "electric"))


def _fins(rng: Random, canvas: Canvas, body: tuple[float, float], radius_px: float) -> None:
    """Cooling fins along the housing; seen from above they crowd towards its sides."""
    turn = np.arcsin(np.clip(canvas.y_H1 / radius_px, -1, 1))
    wave = np.cos(turn * int(rng.integers(18, 30)))
    inside = canvas.within((body[0] + 1, body[1] - 1), (-radius_px, radius_px))
    rise = np.float32(radius_px * 0.1)
    canvas.height_HW += np.where(inside, wave * rise, 0)
    canvas.tint(inside * step(-wave, 0.25, 0.6) * np.float32(0.7), DARK, 0)


def _feet(rng: Random, canvas: Canvas, body: tuple[float, float], width_px: float, skin: Surface) -> None:
    span = body[1] - body[0]
    for x in (body[0] + span * 0.12, body[1] - span * 0.32):
        canvas.block((x, x + span * 0.2), (-width_px / 2, width_px / 2), width_px * 0.1, skin)
        for y in (-width_px * 0.46, width_px * 0.46):
            canvas.tint(canvas.distance(x + span * 0.1, y) < width_px * 0.025, DARK, 0)


def _terminal_box(rng: Random, canvas: Canvas, body: tuple[float, float], radius_px: float, skin: Surface) -> None:
    side = radius_px * rng.uniform(0.55, 0.85)
    x, y = body[0] + (body[1] - body[0]) * rng.uniform(0.3, 0.6), rng.uniform(-0.6, 0.6) * radius_px
    is_open = rng.random() < 0.25
    frame = (x - side / 2, x + side / 2), (y - side / 2, y + side / 2)
    canvas.block(*frame, radius_px * 2.25, skin)
    if is_open:
        canvas.tint(canvas.within((frame[0][0] + 2, frame[0][1] - 2), (frame[1][0] + 2, frame[1][1] - 2)), DARK, 0)
        for _ in range(3):
            at = rng.uniform(-0.3, 0.3, 2) * side + (x, y)
            canvas.tint(canvas.distance(*at) < side * 0.1, varied(rng, COPPER), 0.4)
    else:
        for dx in (-0.38, 0.38):
            for dy in (-0.38, 0.38):
                canvas.tint(canvas.distance(x + dx * side, y + dy * side) < side * 0.06, DARK, 0)


def _name_plate(rng: Random, canvas: Canvas, body: tuple[float, float], radius_px: float) -> None:
    x, y = body[0] + (body[1] - body[0]) * 0.2, rng.uniform(-0.4, 0.3) * radius_px
    plate = canvas.within((x, x + radius_px * 0.5), (y, y + radius_px * 0.3))
    canvas.tint(plate, varied(rng, ZINC), 0.7)


def _motor_end(rng: Random, length_px: float, material: str | None, paint: str | None) -> Sprite:
    """Looking along the shaft: fins around, end bell, bearing, shaft; the winding shows when the bell is gone."""
    canvas = Canvas(length_px, length_px)
    skin = _housing(rng, canvas, material, paint)
    away, outer = canvas.distance(), length_px / 2
    turn = np.arctan2(canvas.y_H1, canvas.x_1W)
    fins = outer * (0.93 + 0.07 * np.sign(np.sin(turn * int(rng.integers(22, 40)))))
    canvas.lay(away < fins, outer * 0.4, skin)
    canvas.lay(away < outer * 0.82, outer * 0.55, skin)
    if rng.random() < 0.6:
        _winding_ring(rng, canvas, outer * 0.72, outer * 0.4)
        canvas.lay(away < outer * 0.34, outer * 0.35, surface(rng, canvas.shape_hw, "bare", wear=0.4))
    else:
        spokes = np.abs(np.sin(turn * 2)) > 0.25
        canvas.tint((away > outer * 0.34) & (away < outer * 0.68) & spokes, DARK, 0)
        canvas.lay(away < outer * 0.3, outer * 0.75, skin)
    canvas.lay(away < outer * 0.13, outer * 1.1, surface(rng, canvas.shape_hw, "bare", wear=0.1))
    return canvas.sprite("motor", (*skin.words, "electric"))


def _winding_ring(rng: Random, canvas: Canvas, outer_px: float, inner_px: float) -> None:
    """Bundles of copper wire around a dark bore."""
    away = canvas.distance()
    turn = np.arctan2(canvas.y_H1, canvas.x_1W)
    middle, half = (outer_px + inner_px) / 2, (outer_px - inner_px) / 2
    bulge = np.sqrt(np.maximum(1 - np.square((away - middle) / half), 0))
    lumps = 1 + 0.15 * np.cos(turn * int(rng.integers(10, 25)))
    ring = (away > inner_px) & (away < outer_px)
    canvas.cut(away < outer_px)
    canvas.lay(away < outer_px, 1.0, plain(canvas.shape_hw, varied(rng, DARK), 0))
    canvas.lay(ring, outer_px * (0.5 + 0.35 * bulge * lumps), _copper(rng, canvas, turn * middle))


def _copper(rng: Random, canvas: Canvas, along_px: Floats) -> Surface:
    """Windings of lacquered copper wire, fresh or burnt."""
    wires = 0.75 + 0.25 * np.cos(along_px * np.float32(2 * math.pi / max(canvas.shape_hw[0] * 0.03, 2.5)))
    color = varied(rng, COPPER) if rng.random() < 0.75 else varied(rng, (0.34, 0.19, 0.12))
    grime = np.clip(noise(rng, canvas.shape_hw, canvas.shape_hw[0] / 4) * 0.5, 0, 0.6)
    rgb = mixed(as_floats(color) * wires[..., None] * np.ones((*canvas.shape_hw, 1), np.float32), DIRT, grime)
    return Surface(rgb, np.full(canvas.shape_hw, 0.45, np.float32), ())


def _stator(rng: Random, length_px: float, material: str | None, paint: str | None) -> Sprite:
    """A stator on its side: laminated or cast shell with the copper of the windings out at both ends."""
    width = length_px * rng.uniform(0.6, 0.85)
    canvas = Canvas(length_px, width)
    skin = _housing(rng, canvas, material or str(rng.choice(["rusty", "bare", "painted", "burnt"])), paint)
    radius, overhang = width / 2 - 1, length_px * rng.uniform(0.12, 0.24)
    wire = _copper(rng, canvas, canvas.y_H1 * 2 + canvas.x_1W * np.float32(rng.normal(0, 0.5)))
    bulge = radius * rng.uniform(0.8, 0.9)
    canvas.cylinder((-length_px / 2, length_px / 2 - 2), bulge, wire)
    ends = np.abs(canvas.x_1W) > length_px / 2 - overhang * 0.5
    canvas.cut(ends & (canvas.distance(squeeze=length_px / width * 0.62) > radius))
    canvas.cylinder((-length_px / 2 + overhang, length_px / 2 - overhang), radius, skin)
    stack = np.cos(canvas.x_1W * np.float32(2 * math.pi / max(length_px * 0.02, 2.2)))
    canvas.tint((np.abs(canvas.x_1W) < length_px / 2 - overhang) * step(stack, 0.3, 0.8) * np.float32(0.35), DARK)
    return canvas.sprite("motor", (*skin.words, "stator"))


def _rotor(rng: Random, length_px: float, material: str | None, paint: str | None) -> Sprite:
    """A rotor: shaft, slanted laminations, copper winding heads or a commutator."""
    width = length_px * rng.uniform(0.3, 0.45)
    canvas = Canvas(length_px, width)
    steel = surface(rng, canvas.shape_hw, material or pick(rng, ("bare", "rusty")), paint)
    radius, half = width / 2 - 1, length_px / 2
    shaft = surface(rng, canvas.shape_hw, "bare", wear=0.2)
    canvas.cylinder((-half, half), radius * 0.22, shaft, z_px=radius * 0.78)
    canvas.cylinder((-half * 0.62, half * 0.55), radius * 0.86, _copper(rng, canvas, canvas.y_H1 + canvas.x_1W * 0.6))
    core = (-half * 0.42, half * 0.36)
    canvas.cylinder(core, radius, steel)
    turn = np.arcsin(np.clip(canvas.y_H1 / radius, -1, 1)) * np.float32(radius)
    slots = np.cos((turn + canvas.x_1W * np.float32(0.3)) * np.float32(2 * math.pi / (radius * 0.3)))
    canvas.tint(canvas.within(core, (-radius, radius)) * step(slots, 0.55, 0.5) * np.float32(0.8), DARK, 0.1)
    canvas.cylinder((half * 0.6, half * 0.8), radius * 0.5, _copper(rng, canvas, canvas.y_H1 * 1.5), z_px=radius * 0.5)
    return canvas.sprite("motor", (*steel.words, "rotor"))


def _insulation(rng: Random, canvas: Canvas, paint: str) -> Surface:
    """Plastic, dusty and scuffed."""
    skin = plain(canvas.shape_hw, varied(rng, PAINTS[paint]), 0.35)
    dust = np.clip(0.2 + 0.4 * noise(rng, canvas.shape_hw, 40), 0, 0.75) * rng.uniform(0.2, 1)
    return Surface(mixed(skin.rgb_HW3, varied(rng, DIRT), dust), skin.gloss_HW * (1 - dust), (paint,))


def _lay_cable(rng: Random, canvas: Canvas, path_N2: Floats, radius_px: float, paint: str, z_px: float = 0) -> Flags:
    """One cable along a path; at both ends the copper may be bare."""
    inside = canvas.stroke(path_N2, radius_px, _insulation(rng, canvas, paint), z_px=z_px)
    for end, inner in ((0, 2), (-1, -3)):
        if rng.random() < 0.6:
            bare = np.stack([path_N2[end] + (path_N2[end] - path_N2[inner]) * 0.7, path_N2[end]])
            core = plain(canvas.shape_hw, varied(rng, COPPER), 0.6)
            canvas.stroke(bare.astype(np.float32), radius_px * 0.6, core, z_px=z_px + radius_px * 0.4, levels=3)
    return inside


def _loose_cable(rng: Random, length_px: float, paint: str | None) -> Sprite:
    path = wander(rng, length_px * 1.15, rng.uniform(0.3, 1.0))
    radius = max(length_px * rng.uniform(0.012, 0.04), 1.5)
    color = paint or pick(rng, _CABLE_COLORS)
    canvas = Canvas.around([path], radius)
    _lay_cable(rng, canvas, path, radius, color)
    return canvas.sprite("cable", (color,))


def _cable_bundle(rng: Random, length_px: float, paint: str | None) -> Sprite:
    spine = wander(rng, length_px * 1.05, rng.uniform(0.15, 0.7))
    radius = max(length_px * rng.uniform(0.01, 0.022), 1.3)
    steps = np.linspace(0, 1, len(spine), dtype=np.float32)[:, None]
    paths = []
    for _ in range(rng.integers(3, 9)):
        side = rng.normal(0, radius * 2.2, 2) + np.sin(steps * rng.uniform(3, 9) + rng.uniform(0, 6)) * radius * 1.5
        fray = np.square(steps * 2 - 1) * rng.normal(0, radius * 3, 2)
        paths.append((spine + side + fray).astype(np.float32))
    canvas = Canvas.around(paths, radius)
    colors = [paint or pick(rng, _CABLE_COLORS) for _ in range(rng.integers(1, 4))]
    for path in paths:
        _lay_cable(rng, canvas, path, radius, pick(rng, colors), z_px=rng.uniform(0, 3) * radius)
    return canvas.sprite("cable", (colors[0], "bundle"))


def _cable_coil(rng: Random, length_px: float, paint: str | None) -> Sprite:
    radius = max(length_px * rng.uniform(0.015, 0.035), 1.5)
    turns = int(rng.integers(3, 8))
    angle = np.linspace(0, 2 * math.pi * turns, turns * 26)
    reach = length_px * 0.42 * (1 + noise(rng, (len(angle), 1), 30, 2)[:, 0] * rng.uniform(0.05, 0.2))
    center = noise(rng, (len(angle), 2), 40, 1) * length_px * 0.06
    flat = rng.uniform(0.6, 1)
    path = (np.stack([np.cos(angle), np.sin(angle) * flat], 1) * reach[:, None] + center).astype(np.float32)
    tail = path[-1] + np.cumsum(np.diff(path[-14:], axis=0)[::1] * np.float32(0.8), 0)
    path = np.concatenate([path, tail])
    canvas = Canvas.around([path], radius)
    color = paint or pick(rng, _CABLE_COLORS)
    for turn in range(turns):
        piece = path[turn * 26 : turn * 26 + 28 if turn < turns - 1 else len(path)]
        canvas.stroke(piece, radius, _insulation(rng, canvas, color), z_px=turn * radius * 0.35)
    core = plain(canvas.shape_hw, varied(rng, COPPER), 0.6)
    canvas.stroke(path[-3:], radius * 0.8, core, z_px=turns * radius, levels=3)
    return canvas.sprite("cable", (color, "coil"))


def _lying_can(rng: Random, length_px: float, material: str | None, paint: str | None) -> Sprite:
    width = length_px * rng.uniform(0.26, 0.38)
    canvas = Canvas(length_px, width)
    radius, half = width / 2 - 1, length_px / 2
    metal = surface(rng, canvas.shape_hw, "galvanised", wear=float(rng.beta(1.2, 4)))
    color = paint or pick(rng, _CAN_PAINTS)
    print_skin = _label(rng, canvas, color, material)
    cap, dome = half * rng.uniform(0.25, 0.45), half * rng.uniform(0.12, 0.22)
    body = (-half + 2, half - cap - dome)
    canvas.cylinder((-half, -half + max(width * 0.05, 2)), radius, metal, z_px=1)
    canvas.cylinder(body, radius * 0.97, print_skin, z_px=1)
    bow = np.clip((canvas.x_1W - body[1]) / dome, 0, 1)
    canvas.cylinder(
        (body[1], half - cap), (radius * 0.99 * np.sqrt(1 - 0.6 * bow**2)).astype(np.float32), metal, z_px=1
    )
    canvas.tint(np.abs(canvas.x_1W - body[1]) < max(width * 0.02, 1), varied(rng, ZINC), 0.9)
    if rng.random() < 0.55:
        lid = surface(rng, canvas.shape_hw, "painted", pick(rng, (color, color, "white", "black", "red")), wear=0.05)
        canvas.cylinder((half - cap, half), radius * rng.uniform(0.72, 0.95), lid, z_px=radius * 0.15)
    else:
        canvas.cylinder((half - cap, half - cap * 0.55), radius * 0.36, metal, z_px=radius * 0.62)
        knob = plain(canvas.shape_hw, PAINTS[pick(rng, ("white", "white", "black", "red"))], 0.3)
        canvas.cylinder((half - cap * 0.6, half - cap * 0.05), radius * 0.24, knob, z_px=radius * 0.75)
    _dent(rng, canvas, body, radius)
    return canvas.sprite("spray can", (color,))


def _label(rng: Random, canvas: Canvas, color: str, material: str | None) -> Surface:
    """A printed can: ground colour, bands, a logo, lines of text; scratched, rusty or burnt with age."""
    skin = surface(rng, canvas.shape_hw, material or "painted", color, wear=float(rng.beta(1.2, 5)))
    rgb = skin.rgb_HW3.copy()
    second = varied(rng, PAINTS[pick(rng, tuple(PAINTS))])
    length, width = canvas.shape_hw[1], canvas.shape_hw[0]
    kept = np.float32(rng.uniform(0.5, 0.95))
    for _ in range(rng.integers(1, 4)):
        at, wide = rng.uniform(-0.45, 0.2) * length, rng.uniform(0.02, 0.14) * length
        band = canvas.within((at, at + wide), (-width, width))
        rgb = mixed(rgb, second if rng.random() < 0.7 else varied(rng, PAINTS["white"]), band * kept)
    if rng.random() < 0.7:
        logo = canvas.distance(rng.uniform(-0.25, 0.05) * length, rng.uniform(-0.2, 0.2) * width, rng.uniform(0.7, 1.6))
        rgb = mixed(
            rgb,
            varied(rng, PAINTS[pick(rng, ("white", "yellow", "red", "black"))]),
            (logo < width * rng.uniform(0.14, 0.28)) * kept,
        )
    ink: Color = PAINTS["white"] if sum(PAINTS[color]) < 1.2 else PAINTS["black"]
    start = rng.uniform(-0.4, 0) * length
    for line in range(int(rng.integers(2, 6))):
        x = start + line * max(length * 0.035, 3)
        text = canvas.within((x, x + max(length * 0.014, 1.2)), (-width * 0.3, width * rng.uniform(0, 0.3)))
        gaps = noise(rng, (width, 1), max(width * 0.04, 1.5), 1) > -0.3
        rgb = mixed(rgb, ink, text * gaps * kept)
    return Surface(rgb, np.maximum(skin.gloss_HW, 0.3), skin.words)


def _dent(rng: Random, canvas: Canvas, body: tuple[float, float], radius_px: float) -> None:
    """Press one to three dents into the can, or squash it."""
    for _ in range(rng.integers(0, 4)):
        x, y = rng.uniform(*body), rng.uniform(-0.8, 0.8) * radius_px
        reach = radius_px * rng.uniform(0.3, 1.0)
        fall = np.exp(-np.square(canvas.distance(x, y, rng.uniform(0.5, 1.5)) / reach))
        canvas.height_HW -= fall * np.float32(radius_px * rng.uniform(0.2, 0.7))
    if rng.random() < 0.2:
        canvas.height_HW *= np.float32(rng.uniform(0.4, 0.7))
        canvas.height_HW += noise(rng, canvas.shape_hw, radius_px, 2) * np.float32(radius_px * 0.12)


def _can_end(rng: Random, length_px: float) -> Sprite:
    """The hollow bottom or the valve end of a can that stands on its other end."""
    size = length_px * 0.5
    canvas = Canvas(size, size)
    color = pick(rng, _CAN_PAINTS)
    metal = surface(rng, canvas.shape_hw, "galvanised", wear=float(rng.beta(1.2, 4)))
    side = surface(rng, canvas.shape_hw, "painted", color, wear=0.2)
    away, outer = canvas.distance(), size / 2
    canvas.lay(away < outer, outer, side)
    canvas.lay(away < outer * 0.93, outer * 1.15, metal)
    bowl = away < outer * 0.82
    if rng.random() < 0.5:
        canvas.height_HW[bowl] = (outer * 0.6 + np.square(away / outer) * outer * 0.5)[bowl]
    else:
        canvas.lay(bowl, outer * (1.5 - 0.4 * np.square(away / outer)), metal)
        canvas.lay(away < outer * 0.42, outer * 1.7, metal)
        canvas.lay(away < outer * 0.2, outer * 2.1, plain(canvas.shape_hw, varied(rng, PAINTS["white"]), 0.3))
    return canvas.sprite("spray can", (color,))
