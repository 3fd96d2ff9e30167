"""Pictures of an evaluation: curves and reliability for the eye, and what the method got most wrong."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scrapray.evaluation.counting import WorstTile
from scrapray.imagery.sheet import heated, outlined, sheet
from scrapray.segmenter.measure import ANY
from scrapray.statistics.counts import ClassCounts
from scrapray.statistics.metrics import MAX_FALSE_ALARM_RATE


def draw_curves(counts: Mapping[str, ClassCounts], confusion_KK1: NDArray[np.int64]) -> bytes:
    """SVG of precision over recall, overlap with regions over false alarms, reliability, and confusion of classes.

    Args:
        counts: By class; those without a pixel are left out.
        confusion_KK1: See ``Counted``; its panel is left out where the method tells fewer than two classes.
    """
    has_confusion = len(confusion_KK1) > 1
    figure = Figure(figsize=(11, 9 if has_confusion else 4), layout="constrained")
    panels = figure.subplots(*((2, 2) if has_confusion else (1, 3))).ravel()
    for name, of_class in counts.items():
        if curves := of_class.pixels.curves():
            # Each recall is reached at the precision at its end, so the area is average precision.
            panels[0].step(curves.recall, curves.precision, where="pre", label=name)
            panels[1].plot(curves.false_alarm_rate, curves.overlap, label=name)
        reliability = of_class.pixels.reliability()
        seen = reliability.num_px > 0
        panels[2].plot(
            reliability.score_sum[seen] / reliability.num_px[seen],
            reliability.contaminant_px[seen] / reliability.num_px[seen],
            marker=".",
            label=name,
        )
    panels[0].axhline(counts[ANY].pixels.metrics().prevalence, linestyle=":", color="gray", label="chance for any")
    panels[0].set(xlabel="recall of pixels", ylabel="precision of pixels", xlim=(0, 1), ylim=(0, 1))
    panels[1].set(xlabel="false alarm rate", ylabel="mean overlap with regions", xlim=(0, MAX_FALSE_ALARM_RATE))
    panels[1].plot([0, MAX_FALSE_ALARM_RATE], [0, MAX_FALSE_ALARM_RATE], ":", color="gray", label="chance")
    panels[2].plot([0, 1], [0, 1], ":", color="gray", label="as it should be")
    panels[2].set(xlabel="mean score", ylabel="share of contaminants", xlim=(0, 1), ylim=(0, 1))
    for axes in panels[:3]:
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    if has_confusion:
        _draw_confusion(panels[3], confusion_KK1, list(counts)[1:])
    return as_svg(figure)


def as_svg(figure: Figure) -> bytes:
    """The same bytes for the same figure, at any time."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "scrapray"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw_confusion(axes: Axes, confusion_KK1: NDArray[np.int64], names: Sequence[str]) -> None:
    shares_KK1 = confusion_KK1 / np.maximum(confusion_KK1.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares_KK1, vmin=0, vmax=1, cmap="Blues")
    for row, column in np.ndindex(*shares_KK1.shape):
        share = shares_KK1[row, column]
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", color="white" if share > 0.5 else "black")
    axes.set_xticks(range(len(names) + 1), [*names, "no score"])
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="class that scores highest", ylabel="true class of the pixel")


def draw_worst(worst: Sequence[WorstTile], class_names: Sequence[str]) -> bytes | None:
    """PNG of the worst misses and, beside them, the worst false alarms, each with its truth and its scores.

    Args:
        worst: Of each kind, the worst first.
        class_names: Of the dataset, by class id from 1 on.

    Returns:
        None where there is nothing to show.
    """
    kinds = [[tile for tile in worst if tile.kind == kind] for kind in ("miss", "false alarm")]
    if not any(kinds):
        return None
    side_hw3 = worst[0].tile_HW3.shape
    blank_HW3 = np.full(side_hw3, 255, np.uint8)
    pictures = []
    for row in range(max(map(len, kinds))):
        for of_kind in kinds:
            if row < len(of_kind):
                tile = of_kind[row]
                pictures += [outlined(tile.tile_HW3, tile.class_HW), heated(tile.tile_HW3, tile.map_hw)]
            else:
                pictures += [blank_HW3, blank_HW3]
    titles = ("worst misses: truth", "scores", "worst false alarms: truth", "scores")
    return sheet(pictures, columns=4, titles=titles, legend=class_names)
