"""Learning curves as one picture: what was minimised, and what it did to validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

CURVES = "curves.svg"
_LOSSES = {
    "loss": "whole loss",
    "similarity_focal": "similarity, focal",
    "similarity_dice": "similarity, dice",
    "multiscale_focal": "multi-scale, focal",
    "multiscale_dice": "multi-scale, dice",
}
_VALIDATION = "validation/"
_SHOWN = "/average_precision"


def draw_curves(curve: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw losses above, average precision on validation tiles below.

    Args:
        curve: Figures by name with their ``step``, in any order.
        path: Of the SVG.
    """
    figure = Figure(figsize=(8, 7), layout="constrained")
    losses, precision = figure.subplots(2, 1, sharex=True)
    for name, words in _LOSSES.items():
        losses.plot(*_points(curve, name), label=words, linewidth=2 if name == "loss" else 1)
    losses.set(ylabel="mean loss of 20 steps", yscale="log")
    shown = sorted({name for figures in curve for name in figures if name.endswith(_SHOWN)})
    for name in shown:
        precision.plot(*_points(curve, name), marker="o", label=name.removeprefix(_VALIDATION).removesuffix(_SHOWN))
    precision.set(xlabel="step", ylabel="pixel AP on validation", ylim=(0, None))
    for axes in (losses, precision):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


def _points(curve: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    points = sorted((figures["step"], figures[name]) for figures in curve if name in figures)
    return [step for step, _ in points], [value for _, value in points]
