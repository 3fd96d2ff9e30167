"""What stands in a row of ``loads``, in the words in which people are shown it."""

from collections.abc import Mapping, Sequence
from typing import Any


def share_in_words(frac: float | None, low: float | None, high: float | None) -> str:
    """Contamination in percent with its 95 % interval, as far as they are known."""
    if frac is None:
        return "unknown"
    if low is None or high is None:
        return f"{frac:.3%}"
    return f"{frac:.3%} (95 %: {low:.3%} to {high:.3%})"


def found_in_words(classes: Sequence[Mapping[str, Any]]) -> str:
    """Robust counts, and what a single frame shows; the most severe class first.

    Args:
        classes: ``schema.CLASS_OF_LOAD``.
    """
    found = sorted((each for each in classes if each["max_score"] > 0), key=lambda each: -each["severity"])
    words = (
        f"{each['count']} {each['class_name']}" if each["count"] else f"{each['class_name']} (1 frame)"
        for each in found
    )
    return ", ".join(words) or "-"
