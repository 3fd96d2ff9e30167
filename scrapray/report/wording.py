"""Values of tables in the words of a yard, with their units; what a word cannot be found for is shown as it is."""

import datetime as dt
import unicodedata
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

_LONGEST_NAME = 80
_SPACE = "\N{NO-BREAK SPACE}"

SEVERITIES = {1: "lowers the grade", 2: "serious", 3: "stop the truck"}
VERDICTS = {"reject": "Reject", "review": "Review", "accept": "Accept"}
REASONS = {
    ("manifest", "key_mismatch"): "file name not understood",
    ("manifest", "bad_time"): "no valid time in the file name",
    ("manifest", "empty_object"): "empty file",
    ("manifest", "duplicate_content"): "stored twice",
    ("manifest", "duplicate_key"): "stored twice",
    ("download", "missing"): "gone from the archive before the audit",
    ("download", "forbidden"): "archive gave no right to read it",
    ("decode", "empty"): "empty file",
    ("decode", "not_an_image"): "not a picture",
    ("decode", "truncated"): "file broken off",
    ("decode", "damaged"): "damaged file",
    ("decode", "unsupported_format"): "neither JPEG nor PNG",
    ("decode", "too_many_pixels"): "too large",
    ("bed", "unknown_camera"): "truck bed of this camera not set up",
    ("bed", "polygon_outside_frame"): "truck bed drawn for another resolution",
    ("bed", "not_found"): "truck bed not found",
    ("bed", "polygon_empty"): "truck bed drawn without an area",
    ("quality", "too_dark"): "too dark",
    ("quality", "too_bright"): "too bright",
    ("quality", "color_fault"): "colour fault",
    ("quality", "blurred"): "blurred",
    ("segment", "frame_smaller_than_tile"): "too small",
    ("duplicate", "same_bytes"): "stored twice",
    ("duplicate", "same_picture"): "stored twice",
    ("frozen", "same_bytes"): "camera frozen",
    ("frozen", "same_picture"): "camera frozen",
}
"""Why a frame was left out, by stage and reason."""
NO_PICTURE = {
    "missing": "This frame is no longer in the archive.",
    "forbidden": "The archive gave no right to read this frame.",
    "changed": "The file in the archive is no longer the one that was audited.",
    "unreadable": "The file of this frame cannot be opened.",
}
"""Why there is no picture of a frame."""
_CONDITIONS = {
    "min_severity": "severity {} or more",
    "class_name": "a {}",
    "min_count": "{} or more seen at once in two frames",
    "min_score": "score {} or more",
    "min_certainty": "certainty {} or more",
    "min_contamination_frac": "contamination {} or more",
    "max_coverage_frac": "{} of the bed or less seen",
    "max_used_frames": "usable frames: {} or fewer",
}
_GLIMPSE = "a single frame is enough"
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


def name(words: str | None) -> str:
    """A name from a key or the gate log, fit to be shown: not too long, and without characters that steer a page."""
    if words is None:
        return "not known"
    if not words.strip():
        return "without a name"
    whole = "".join("\N{REPLACEMENT CHARACTER}" if _steers(letter) else letter for letter in words)
    return whole if len(whole) <= _LONGEST_NAME else f"{whole[: _LONGEST_NAME - 1]}…"


def _steers(letter: str) -> bool:
    """Control characters, and those that turn the direction of writing."""
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn")


def percent(frac: float | None, digits: int = 3) -> str:
    """A share in percent."""
    return "not known" if frac is None else f"{frac * 100:.{digits}f}{_SPACE}%"


def interval(low: float | None, high: float | None) -> str:
    """The two ends of an interval."""
    return "no interval" if low is None or high is None else f"{low * 100:.3f} to {percent(high)}"


def number(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,}{_SPACE}{noun}{'' if count == 1 else 's'}"


def clock(moment: dt.datetime | None, zone: ZoneInfo) -> str:
    """Time of day at the yard."""
    return "time not known" if moment is None else f"{moment.astimezone(zone):%H:%M:%S}"


def period(start: dt.datetime | None, end: dt.datetime | None, zone: ZoneInfo) -> str:
    """From when to when at the yard; with both of its times named where its clocks are changed in between."""
    is_changed = start and end and start.astimezone(zone).utcoffset() != end.astimezone(zone).utcoffset()
    words = (
        f"{clock(each, zone)}{f'{each.astimezone(zone): %Z}' if each and is_changed else ''}" for each in (start, end)
    )
    return " to ".join(words)


def day(date: dt.date) -> str:
    """A date that nobody reads the wrong way round."""
    return f"{date.day} {date:%B %Y}"


def reason(stage: str, word: str) -> str:
    """Why a frame was left out."""
    return REASONS.get((stage, word), f"{stage}: {word.replace('_', ' ')}")


def rule_name(rule: str) -> str:
    """Name of a rule, as a person would write it."""
    return name(rule.replace("_", " "))


def conditions(rule: Mapping[str, Any]) -> str:
    """All conditions of a rule of ``[[verdict.rules]]``."""
    given = ((words, rule[key], key) for key, words in _CONDITIONS.items() if rule.get(key) is not None)
    return ", ".join(
        _GLIMPSE if (key, value) == ("min_count", 0) else words.format(_limit(value) if "frac" in key else value)
        for words, value, key in given
    )


def _limit(frac: float) -> str:
    """A share that somebody has set, in percent with all of its digits: rounded, it would be another rule."""
    return f"{np.format_float_positional(frac * 100, precision=6, fractional=False, trim='-')}{_SPACE}%"


def found(contaminants: list[Mapping[str, Any]]) -> str:
    """What a load holds: robust counts, and what a single frame shows."""
    words = (
        f"{name(each['class_name'])} ({each['count']} or more)"
        if each["count"]
        else f"{name(each['class_name'])} (in one frame only)"
        for each in contaminants
    )
    return ", ".join(words) or "nothing"


def place(bbox: Mapping[str, int], width_px: int, height_px: int) -> str:
    """Where in its frame a detection lies."""
    x, y = (bbox["x_min_px"] + bbox["x_max_px"]) / 2, (bbox["y_min_px"] + bbox["y_max_px"]) / 2
    row, column = _ROWS[min(2, int(3 * y / height_px))], _COLUMNS[min(2, int(3 * x / width_px))]
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def size(bbox: Mapping[str, int]) -> str:
    """Width and height of a detection."""
    width, height = bbox["x_max_px"] - bbox["x_min_px"], bbox["y_max_px"] - bbox["y_min_px"]
    return f"{width}{_SPACE}×{_SPACE}{height}{_SPACE}px"
