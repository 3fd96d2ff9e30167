"""A book of everyday things as outlines: what a miniature CLIP sees besides scrap parts.

A thing is a list of outlines, painted in their order, in a square of coordinates from -1 to 1 (x to the right, y down).
``things`` gives them material, light and a place. The proportions vary with the random generator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scrapray.imagery.drawing import Floats, Random


@dataclass(frozen=True, slots=True)
class Outline:
    """One painted region of a thing.

    Attributes:
        points_N2: Corners (x, y), or the line to follow when ``width`` is set.
        paint: ``main`` and ``trim`` take the thing's colours, ``dark`` and ``light`` are fixed, ``hole`` shows what is
            behind the thing.
        bulge: 0 for a flat face with a bevelled rim, 1 for a fully round body.
        width: Width of the line in the thing's coordinates; a filled region has none.
    """

    points_N2: Floats
    paint: str = "main"
    bulge: float = 0.3
    width: float | None = None


def _poly(*corners: tuple[float, float], paint: str = "main", bulge: float = 0.3) -> Outline:
    return Outline(np.array(corners, np.float32), paint, bulge)


def _rect(x0: float, y0: float, x1: float, y1: float, paint: str = "main", bulge: float = 0.3) -> Outline:
    return _poly((x0, y0), (x1, y0), (x1, y1), (x0, y1), paint=paint, bulge=bulge)


def _oval(x: float, y: float, rx: float, ry: float, paint: str = "main", bulge: float = 1.0) -> Outline:
    angle_N = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    return Outline(np.stack([x + rx * np.cos(angle_N), y + ry * np.sin(angle_N)], 1).astype(np.float32), paint, bulge)


def _star(
    teeth: int, outer: float, inner: float, paint: str = "main", bulge: float = 0.3, width: float = 0.5
) -> Outline:
    """A ring of ``teeth`` points; ``width`` is the share of a tooth that stands at the outer radius."""
    corners = []
    for tooth in range(teeth):
        for radius, share in ((inner, -0.5), (outer, -0.5 * width), (outer, 0.5 * width), (inner, 0.5)):
            angle = 2 * np.pi * (tooth + share * 0.98) / teeth
            corners.append((radius * np.cos(angle), radius * np.sin(angle)))
    return _poly(*corners, paint=paint, bulge=bulge)


def _line(points: Sequence[tuple[float, float]] | Floats, width: float, paint: str = "main") -> Outline:
    return Outline(np.asarray(points, np.float32), paint, 1.0, width)


def _arc(x: float, y: float, rx: float, ry: float, start: float, stop: float) -> Floats:
    angle_N = np.linspace(start, stop, 16) * 2 * np.pi
    return np.stack([x + rx * np.cos(angle_N), y + ry * np.sin(angle_N)], 1).astype(np.float32)


def _moved(outline: Outline, x: float, y: float) -> Outline:
    return replace(outline, points_N2=outline.points_N2 + np.array([x, y], np.float32))


def _cup(rng: Random) -> list[Outline]:
    top, low = rng.uniform(0.5, 0.65), rng.uniform(0.35, 0.55)
    return [
        _line(_arc(top, 0.0, 0.35, 0.35, -0.3, 0.3), 0.16),
        _poly((-top, -0.7), (top, -0.7), (low, 0.8), (-low, 0.8), bulge=0.9),
        _oval(0, -0.7, top, 0.16, bulge=0.2),
        _oval(0, -0.7, top * 0.86, 0.11, paint="dark", bulge=0.1),
    ]


def _bottle(rng: Random) -> list[Outline]:
    w, neck = rng.uniform(0.28, 0.4), rng.uniform(0.1, 0.15)
    body = _poly(
        (-neck, -0.9),
        (neck, -0.9),
        (neck, -0.5),
        (w, -0.15),
        (w, 0.95),
        (-w, 0.95),
        (-w, -0.15),
        (-neck, -0.5),
        bulge=1,
    )
    return [body, _rect(-w, 0.1, w, 0.6, "light", 0.2), _rect(-neck * 1.2, -1, neck * 1.2, -0.82, "trim")]


def _ball(rng: Random) -> list[Outline]:
    stripes = [_line(_arc(0, 0, 0.85, w, 0, 0.5), 0.07, "trim") for w in (rng.uniform(0.1, 0.3), rng.uniform(0.4, 0.6))]
    return [_oval(0, 0, 0.9, 0.9), *stripes]


def _box(rng: Random) -> list[Outline]:
    d = rng.uniform(0.2, 0.4)
    return [
        _rect(-0.8, -0.4, 0.5, 0.8, bulge=0.05),
        _poly((-0.8, -0.4), (-0.8 + d, -0.4 - d), (0.5 + d, -0.4 - d), (0.5, -0.4), paint="light", bulge=0.05),
        _poly((0.5, -0.4), (0.5 + d, -0.4 - d), (0.5 + d, 0.8 - d), (0.5, 0.8), paint="trim", bulge=0.05),
        _rect(-0.25, -0.4, -0.05, 0.8, "trim", 0),
    ]


def _brick(rng: Random) -> list[Outline]:
    h = rng.uniform(0.35, 0.5)
    holes = [_oval(x, 0, 0.15, 0.15, "dark", 0.2) for x in (-0.55, 0.0, 0.55)] if rng.random() < 0.6 else []
    return [_rect(-0.95, -h, 0.95, h, bulge=0.15), *holes]


def _plank(rng: Random) -> list[Outline]:
    h = rng.uniform(0.12, 0.22)
    nails = [_oval(x, 0, 0.03, 0.03, "dark") for x in (-0.85, 0.85)]
    return [_poly((-1, -h), (1, -h), (0.97, h), (-0.96, h), bulge=0.1), *nails]


def _stone(rng: Random) -> list[Outline]:
    angle_N = np.linspace(0, 2 * np.pi, 11, endpoint=False)
    radius_N = rng.uniform(0.6, 0.95, 11)
    return [_poly(*zip(radius_N * np.cos(angle_N), 0.8 * radius_N * np.sin(angle_N), strict=True), bulge=0.8)]


def _leaf(rng: Random) -> list[Outline]:
    w = rng.uniform(0.3, 0.5)
    side_N = np.linspace(0, np.pi, 12)
    x_N, y_N = -0.9 * np.cos(side_N), w * np.sin(side_N) ** 1.5
    blade = np.concatenate([np.stack([x_N, y_N], 1), np.stack([x_N, -y_N], 1)[::-1]])
    veins = [_line([(x, 0), (x + 0.25, s * w * 0.6)], 0.03, "light") for x in (-0.5, -0.1, 0.3) for s in (-1, 1)]
    return [Outline(blade.astype(np.float32), bulge=0.2), _line([(-1.0, 0), (0.8, 0)], 0.05, "light"), *veins]


def _tyre(rng: Random) -> list[Outline]:
    hole = rng.uniform(0.42, 0.58)
    tread = _star(int(rng.integers(18, 28)), 0.98, 0.9, bulge=0.2)
    return [
        tread,
        _oval(0, 0, 0.88, 0.88, bulge=0.3),
        _oval(0, 0, hole + 0.08, hole + 0.08),
        _oval(0, 0, hole, hole, "hole"),
    ]


def _book(rng: Random) -> list[Outline]:
    w = rng.uniform(0.6, 0.75)
    lines = [_rect(-w * 0.6, y, w * 0.6, y + 0.08, "light", 0) for y in (-0.6, -0.42)]
    return [
        _rect(-w + 0.08, -0.82, w + 0.08, 0.98, "light", 0.05),
        _rect(-w, -0.9, w, 0.9, bulge=0.05),
        _rect(-w, -0.9, -w + 0.14, 0.9, "trim", 0.3),
        *lines,
    ]


def _shoe(rng: Random) -> list[Outline]:
    toe = rng.uniform(0.8, 0.95)
    upper = _poly(
        (-0.9, -0.6), (-0.35, -0.6), (-0.15, -0.15), (0.5, 0.05), (toe, 0.25), (toe, 0.45), (-0.9, 0.45), bulge=0.6
    )
    laces = [_line([(-0.2 + d, -0.2 + 0.4 * d), (0.02 + d, -0.32 + 0.4 * d)], 0.05, "light") for d in (0.0, 0.2, 0.4)]
    return [upper, _rect(-0.95, 0.42, toe + 0.04, 0.6, "dark"), _oval(-0.62, -0.58, 0.27, 0.08, "dark", 0.1), *laces]


def _key(rng: Random) -> list[Outline]:
    teeth = [_rect(x, 0, x + 0.12, rng.uniform(0.2, 0.35)) for x in (0.5, 0.7, 0.88)]
    return [
        _line([(-0.4, 0), (1.0, 0)], 0.14),
        *teeth,
        _oval(-0.65, 0, 0.35, 0.32, bulge=0.4),
        _oval(-0.7, 0, 0.15, 0.14, "hole"),
    ]


def _spoon(rng: Random) -> list[Outline]:
    r = rng.uniform(0.2, 0.28)
    return [
        _line([(-0.95, 0), (0.5, 0)], 0.12),
        _oval(0.65, 0, 0.36, r, bulge=0.5),
        _oval(0.65, 0, 0.26, r * 0.68, "trim"),
    ]


def _fork(rng: Random) -> list[Outline]:
    prongs = [_line([(0.5, y), (1.0, y)], 0.06) for y in (-0.18, -0.06, 0.06, 0.18)]
    return [_line([(-0.95, 0), (0.4, 0)], rng.uniform(0.09, 0.13)), _oval(0.42, 0, 0.17, 0.22, bulge=0.4), *prongs]


def _knife(rng: Random) -> list[Outline]:
    h = rng.uniform(0.14, 0.2)
    return [
        _poly((-0.2, -h), (0.75, -h), (0.98, h), (-0.2, h), bulge=0.15),
        _line([(-0.95, 0), (-0.25, 0)], 0.24, "dark"),
    ]


def _clock(rng: Random) -> list[Outline]:
    hour, minute = rng.uniform(0, 2 * np.pi, 2)
    hands = [
        _line([(0, 0), (r * np.cos(a), r * np.sin(a))], w, "dark")
        for a, r, w in ((hour, 0.4, 0.09), (minute, 0.62, 0.05))
    ]
    ticks = [
        _line([(0.7 * np.cos(a), 0.7 * np.sin(a)), (0.78 * np.cos(a), 0.78 * np.sin(a))], 0.05, "dark")
        for a in np.arange(12) * np.pi / 6
    ]
    return [_oval(0, 0, 0.95, 0.95, bulge=0.2), _oval(0, 0, 0.82, 0.82, "light", 0.05), *ticks, *hands]


def _hat(rng: Random) -> list[Outline]:
    w = rng.uniform(0.45, 0.55)
    crown = _poly((-w, 0.3), (-w * 0.85, -0.6), (0, -0.72), (w * 0.85, -0.6), (w, 0.3), bulge=0.7)
    return [_oval(0, 0.35, 1.0, 0.25, bulge=0.4), crown, _rect(-w, 0.08, w, 0.32, "trim", 0.6)]


def _wheel(rng: Random) -> list[Outline]:
    angles = np.arange(int(rng.integers(5, 10)))
    spokes = [_line([(0, 0), (0.8 * np.cos(a), 0.8 * np.sin(a))], 0.08) for a in angles * 2 * np.pi / len(angles)]
    return [
        _oval(0, 0, 0.95, 0.95, bulge=0.15),
        _oval(0, 0, 0.75, 0.75, "hole"),
        *spokes,
        _oval(0, 0, 0.18, 0.18, bulge=0.6),
    ]


def _bolt(rng: Random) -> list[Outline]:
    w = rng.uniform(0.2, 0.3)
    threads = [_line([(-w, y), (w, y + 0.06)], 0.05, "dark") for y in np.arange(0.1, 0.95, 0.14)]
    return [_rect(-w, -0.5, w, 0.98, bulge=1), *threads, _rect(-w * 1.9, -0.95, w * 1.9, -0.45, bulge=0.25)]


def _nut(rng: Random) -> list[Outline]:
    hole = rng.uniform(0.38, 0.52)
    return [
        _star(6, 0.95, 0.95, bulge=0.25, width=0.0),
        _oval(0, 0, hole + 0.1, hole + 0.1, "trim", 0.1),
        _oval(0, 0, hole, hole, "hole"),
    ]


def _gear(rng: Random) -> list[Outline]:
    hole = rng.uniform(0.15, 0.3)
    return [
        _star(int(rng.integers(9, 18)), 0.98, 0.76, bulge=0.12),
        _oval(0, 0, hole + 0.22, hole + 0.22, bulge=0.2),
        _oval(0, 0, hole, hole, "hole"),
    ]


def _spring(rng: Random) -> list[Outline]:
    turns, h = int(rng.integers(5, 9)), rng.uniform(0.25, 0.4)
    angle_N = np.linspace(0, turns * 2 * np.pi, turns * 14)
    x_N = np.linspace(-0.9, 0.9, angle_N.size) + 0.05 * np.cos(angle_N)
    return [_line(np.stack([x_N, h * np.sin(angle_N)], 1), 0.09)]


def _chain(rng: Random) -> list[Outline]:
    bend = rng.uniform(-0.4, 0.4)
    links: list[Outline] = []
    for place, x in enumerate(np.linspace(-0.8, 0.8, 6)):
        y = bend * (1 - x * x)
        tall = 0.16 if place % 2 else 0.05
        links.append(_line(_arc(x, y, 0.2, tall, 0, 1), 0.08))
    return links


def _hammer(rng: Random) -> list[Outline]:
    w = rng.uniform(0.08, 0.12)
    head = _poly((-0.5, -0.95), (0.3, -0.95), (0.62, -0.72), (0.3, -0.6), (-0.5, -0.6), paint="dark", bulge=0.4)
    return [_rect(-w, -0.7, w, 0.98, bulge=1), head]


def _wrench(rng: Random) -> list[Outline]:
    r = rng.uniform(0.26, 0.34)
    return [
        _rect(-0.6, -0.11, 0.6, 0.11, bulge=0.3),
        _oval(-0.7, 0, r, r, bulge=0.2),
        _rect(-1.1, -0.13, -0.62, 0.13, "hole"),
        _oval(0.72, 0, 0.24, 0.24, bulge=0.2),
        _oval(0.72, 0, 0.12, 0.12, "hole"),
    ]


def _saw(rng: Random) -> list[Outline]:
    teeth = [(x, 0.2 + 0.07 * (k % 2)) for k, x in enumerate(np.linspace(0.98, -0.35, 27))]
    grip = _oval(-0.65, 0.05, 0.32, rng.uniform(0.24, 0.32), "dark", 0.4)
    return [_poly((-0.35, -0.22), (0.98, 0.0), *teeth, bulge=0.05), grip, _oval(-0.65, 0.07, 0.15, 0.12, "hole")]


def _bucket(rng: Random) -> list[Outline]:
    low = rng.uniform(0.42, 0.55)
    return [
        _line(_arc(0, -0.5, 0.7, 0.45, 0.5, 1.0), 0.05, "dark"),
        _poly((-0.75, -0.5), (0.75, -0.5), (low, 0.9), (-low, 0.9), bulge=0.9),
        _oval(0, -0.5, 0.75, 0.2, bulge=0.1),
        _oval(0, -0.5, 0.66, 0.15, "dark", 0.1),
    ]


def _chair(rng: Random) -> list[Outline]:
    back = rng.uniform(-0.98, -0.8)
    legs = [_line([(x, 0.2), (x, 0.95)], 0.1) for x in (-0.5, 0.5)]
    slats = [_line([(x, back), (x, 0.1)], 0.1) for x in (-0.5, 0.0, 0.5)]
    return [
        *legs,
        *slats,
        _line([(-0.55, back), (0.55, back)], 0.14),
        _poly((-0.6, 0.0), (0.6, 0.0), (0.75, 0.3), (-0.75, 0.3)),
    ]


def _table(rng: Random) -> list[Outline]:
    low = rng.uniform(0.6, 0.9)
    legs = [_line([(x, -0.2), (x * 1.05, low)], 0.09, "trim") for x in (-0.8, -0.5, 0.5, 0.8)]
    return [*legs, _poly((-0.7, -0.5), (0.7, -0.5), (1, -0.1), (-1, -0.1), bulge=0.1)]


def _ladder(rng: Random) -> list[Outline]:
    w = rng.uniform(0.25, 0.35)
    rungs = [_line([(-w, y), (w, y)], 0.08) for y in np.linspace(-0.8, 0.8, int(rng.integers(6, 9)))]
    return [*rungs, _line([(-w, -0.98), (-w, 0.98)], 0.1), _line([(w, -0.98), (w, 0.98)], 0.1)]


def _banana(rng: Random) -> list[Outline]:
    depth = rng.uniform(0.5, 0.7)
    x_N = np.linspace(-0.9, 0.9, 14)
    low = np.stack([x_N, depth * (1 - x_N**2) + 0.0], 1)
    high = np.stack([x_N, (depth - 0.45) * (1 - x_N**2)], 1)[::-1]
    tips = [_oval(s * 0.9, 0.0, 0.07, 0.06, "dark") for s in (-1, 1)]
    return [Outline(np.concatenate([low, high]).astype(np.float32), bulge=0.9), *tips]


def _apple(rng: Random) -> list[Outline]:
    stalk = _line([(0, -0.6), (rng.uniform(-0.15, 0.15), -0.95)], 0.07, "dark")
    return [
        _oval(-0.25, 0.1, 0.62, 0.75),
        _oval(0.25, 0.1, 0.62, 0.75),
        stalk,
        _oval(0.2, -0.8, 0.2, 0.08, "trim", 0.3),
    ]


def _flower(rng: Random) -> list[Outline]:
    petals = int(rng.integers(5, 9))
    ring = [
        _oval(0.5 * np.cos(a), 0.5 * np.sin(a), 0.36, 0.36, bulge=0.4) for a in np.arange(petals) * 2 * np.pi / petals
    ]
    return [*ring, _oval(0, 0, 0.28, 0.28, "trim", 0.6)]


def _mushroom(rng: Random) -> list[Outline]:
    dots = [_oval(x, y, 0.09, 0.07, "light", 0.2) for x, y in ((-0.4, -0.35), (0.1, -0.6), (0.45, -0.3))]
    w = rng.uniform(0.16, 0.26)
    cap = _poly((-0.85, 0.05), (-0.75, -0.4), (-0.3, -0.8), (0.3, -0.8), (0.75, -0.4), (0.85, 0.05), bulge=0.8)
    return [_rect(-w, 0.0, w, 0.95, "light", 1), cap, *dots]


def _umbrella(rng: Random) -> list[Outline]:
    segments = int(rng.integers(7, 10))
    wedges = [
        _poly(
            (0, 0),
            (0.95 * np.cos(a), 0.95 * np.sin(a)),
            (0.95 * np.cos(a + step), 0.95 * np.sin(a + step)),
            paint="main" if k % 2 else "trim",
            bulge=0.1,
        )
        for step in [2 * np.pi / segments]
        for k, a in enumerate(np.arange(segments) * step)
    ]
    return [*wedges, _oval(0, 0, 0.06, 0.06, "dark")]


def _glove(rng: Random) -> list[Outline]:
    spread = rng.uniform(0.1, 0.2)
    fingers = [
        _line([(x, 0.1), (x * (1 + spread) * 1.2, -0.8 + abs(x) * 0.3)], 0.24) for x in (-0.38, -0.13, 0.13, 0.38)
    ]
    return [
        *fingers,
        _line([(0.4, 0.4), (0.8, -0.05)], 0.24),
        _rect(-0.5, -0.05, 0.5, 0.7, bulge=0.4),
        _rect(-0.45, 0.7, 0.45, 0.95, "trim"),
    ]


def _bag(rng: Random) -> list[Outline]:
    top = rng.uniform(0.55, 0.7)
    return [
        _line(_arc(0, -0.35, 0.35, 0.55, 0.5, 1.0), 0.09, "trim"),
        _poly((-top, -0.4), (top, -0.4), (0.8, 0.9), (-0.8, 0.9), bulge=0.4),
        _rect(-top, -0.4, top, -0.25, "trim"),
    ]


def _pencil(rng: Random) -> list[Outline]:
    h = rng.uniform(0.06, 0.1)
    return [
        _rect(-0.8, -h, 0.7, h, bulge=0.6),
        _poly((0.7, -h), (0.98, 0), (0.7, h), paint="light"),
        _poly((0.9, -h * 0.3), (1.0, 0), (0.9, h * 0.3), paint="dark"),
        _rect(-0.98, -h, -0.8, h, "trim", 0.6),
    ]


def _scissors(rng: Random) -> list[Outline]:
    angle = rng.uniform(0.15, 0.4)
    parts: list[Outline] = []
    for side in (-1, 1):
        dx, dy = np.cos(angle), side * np.sin(angle)
        parts.append(_poly((0, 0.06), (0, -0.06), (0.98 * dx, 0.98 * dy), bulge=0.2))
        parts.append(_line(_arc(-0.65 * dx, -0.65 * dy, 0.27, 0.2, 0, 1), 0.11, "trim"))
    return [*parts, _oval(0, 0, 0.06, 0.06, "dark")]


def _envelope(rng: Random) -> list[Outline]:
    h = rng.uniform(0.5, 0.65)
    fold = _line([(-0.95, -h), (0, 0.1), (0.95, -h)], 0.04, "dark")
    return [_rect(-0.95, -h, 0.95, h, bulge=0.03), fold, _rect(0.62, -h + 0.08, 0.85, -h + 0.32, "trim", 0)]


def _coin(rng: Random) -> list[Outline]:
    return [
        _oval(0, 0, 0.9, 0.9, bulge=0.1),
        _oval(0, 0, 0.75, 0.75, "trim", 0.05),
        _moved(_star(5, 0.45, 0.2, bulge=0.3, width=0.0), rng.uniform(-0.05, 0.05), 0),
    ]


def _barrel(rng: Random) -> list[Outline]:
    w = rng.uniform(0.5, 0.62)
    hoops = [_rect(-w * 1.05, y, w * 1.05, y + 0.09, "dark", 0.8) for y in (-0.55, 0.0, 0.5)]
    return [
        _poly((-w * 0.9, -0.9), (w * 0.9, -0.9), (w, 0), (w * 0.9, 0.95), (-w * 0.9, 0.95), (-w, 0), bulge=1),
        *hoops,
        _oval(0, -0.9, w * 0.9, 0.14, "trim", 0.1),
    ]


OUTLINES: dict[str, Callable[[Random], list[Outline]]] = {
    "apple": _apple,
    "bag": _bag,
    "ball": _ball,
    "banana": _banana,
    "barrel": _barrel,
    "bolt": _bolt,
    "book": _book,
    "bottle": _bottle,
    "box": _box,
    "brick": _brick,
    "bucket": _bucket,
    "chain": _chain,
    "chair": _chair,
    "clock": _clock,
    "coin": _coin,
    "cup": _cup,
    "envelope": _envelope,
    "flower": _flower,
    "fork": _fork,
    "gear": _gear,
    "glove": _glove,
    "hammer": _hammer,
    "hat": _hat,
    "key": _key,
    "knife": _knife,
    "ladder": _ladder,
    "leaf": _leaf,
    "mushroom": _mushroom,
    "nut": _nut,
    "pencil": _pencil,
    "plank": _plank,
    "saw": _saw,
    "scissors": _scissors,
    "shoe": _shoe,
    "spoon": _spoon,
    "spring": _spring,
    "stone": _stone,
    "table": _table,
    "tyre": _tyre,
    "umbrella": _umbrella,
    "wheel": _wheel,
    "wrench": _wrench,
}
"""Everything in the book by its name."""
