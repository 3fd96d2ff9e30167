"""Single things as sprites: steel parts, contaminants, and steel that looks like a contaminant."""

from collections.abc import Callable

from scrapray.imagery.drawing import MATERIALS, PAINTS, Random, Sprite
from scrapray.imagery.parts import contaminants, negatives, steel

_DRAWERS: dict[str, Callable[[Random, float, str | None, str | None], Sprite]] = {
    "beam": steel.beam,
    "angle iron": steel.angle_iron,
    "channel": steel.channel,
    "square tube": steel.square_tube,
    "pipe": steel.pipe,
    "rod": steel.rod,
    "rebar": steel.rebar,
    "plate": steel.plate,
    "sheet": steel.sheet,
    "box": steel.box,
    "turnings": steel.turnings,
    "chips": steel.chips,
    "flange": steel.flange,
    "gear": steel.gear,
    "brake disc": steel.brake_disc,
    "spring": steel.spring,
    "motor": contaminants.motor,
    "cable": contaminants.cable,
    "spray can": contaminants.spray_can,
    "pipe stub": negatives.pipe_stub,
    "wire rope": negatives.wire_rope,
    "painted rod": negatives.painted_rod,
    "gearbox": negatives.gearbox,
    "valve": negatives.valve,
    "tin": negatives.tin,
}

CONTAMINANTS = ("motor", "cable", "spray can")
"""Names equal those of ``labels.SCRAP_CONTAMINANTS``, in the same order."""
HARD_NEGATIVES = ("pipe stub", "wire rope", "painted rod", "gearbox", "valve", "tin")
"""Steel that a hasty eye takes for a spray can, a cable or a motor."""
STEEL_PARTS = tuple(name for name in _DRAWERS if name not in CONTAMINANTS + HARD_NEGATIVES)
"""Everything else."""

_LEAST_PX = 96.0
"""Smaller things are drawn at this length and shrunk, so that they keep their form."""


def draw_part(
    name: str, rng: Random, length_px: float, *, material: str | None = None, paint: str | None = None
) -> Sprite:
    """Draw one thing, unlit, lying along x.

    Args:
        name: One of ``STEEL_PARTS``, ``CONTAMINANTS``, ``HARD_NEGATIVES``.
        rng: Source of chance: the same state draws the same thing.
        length_px: Length of the thing, about; round things take it as their diameter.
        material: One of ``drawing.MATERIALS``; what is likely for the thing when missing. Cables stay plastic.
        paint: Name in ``drawing.PAINTS`` for painted things, cables and cans; likely when missing.

    Returns:
        The sprite; ``words`` says what was drawn, for example ``("painted", "green")``.
    """
    sprite = _DRAWERS[name](rng, max(length_px, _LEAST_PX), material, paint)
    return sprite if length_px >= _LEAST_PX else sprite.turned(0.0, length_px / _LEAST_PX)


__all__ = ["CONTAMINANTS", "HARD_NEGATIVES", "MATERIALS", "PAINTS", "STEEL_PARTS", "Sprite", "draw_part"]
