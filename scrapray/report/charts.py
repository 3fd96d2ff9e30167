"""Geometry of the charts, in percent of the plot's width and height from its top left corner.

The templates draw them as SVG with the page's own colours, so they follow light, dark and print, and their words stay
readable at any width; matplotlib, which has one size and one set of colours, only chooses the ticks.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from scrapray.report import wording
from scrapray.report.night import Load, Row, Tally

_MAX_INTERVAL = 3.0
"""Intervals may stretch a chart so far beyond its highest point; where they are wider, they stand in its words only."""
_SMALLEST_TOP = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One frame or one night.

    Attributes:
        x: Middle of its place.
        y: Top of the bar, or the point; None where there is no value.
        low: Lower end of the interval; None without.
        high: Upper end, likewise.
        kind: ``used``, ``shown`` or ``rejected`` frame; ``before`` or ``tonight``.
        words: What it says, for who points at it.
    """

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None
    kind: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart: what it shows in words, its marks, and the labels of its axes with their places."""

    title: str
    words: str
    marks: tuple[Mark, ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]
    width: float
    """Of the place of one mark."""

    @property
    def kinds(self) -> set[str]:
        """Of its marks."""
        return {mark.kind for mark in self.marks}


def frames_chart(load: Load, shown_ids: Collection[str]) -> Chart:
    """Contamination of each frame of a load, in the order of time; frames that the page shows stand out."""
    shares = [_share(frame) for frame in load.frames]
    highest = max((share for share in shares if share is not None), default=0.0)
    top, y_ticks = _axis(highest)
    marks = []
    for number, (frame, share) in enumerate(zip(load.frames, shares, strict=True)):
        when = wording.clock(frame["taken_utc"], load.zone)
        kind = "rejected" if share is None else "shown" if frame["frame_id"] in shown_ids else "used"
        said = wording.percent(share) if share is not None else _why(frame)
        y = None if share is None else 100 * (1 - share / top)
        marks.append(Mark(x=_middle(number, len(shares)), y=y, kind=kind, words=f"{when}: {said}"))
    used = sum(share is not None for share in shares)
    clean = sum(share == 0 for share in shares)
    found = f" Highest contamination of a frame {wording.percent(highest)}; nothing found in {clean}." if used else ""
    return Chart(
        title="Contamination of each frame",
        words=f"{wording.number(len(shares), 'frame')} in the order of time, {used} of them usable.{found}",
        marks=tuple(marks),
        y_ticks=y_ticks,
        x_ticks=_some([wording.clock(frame["taken_utc"], load.zone) for frame in load.frames]),
        width=100 / max(len(shares), 1),
    )


def _share(frame: Row) -> float | None:
    """Contamination of a frame; None where it does not count."""
    seen_px = frame["seen_area_px"] if frame["status"] == "used" else 0
    return frame["contaminated_area_px"] / seen_px if seen_px else None


def _why(frame: Row) -> str:
    if frame["status"] == "used":
        return "nothing of the bed seen"
    return f"not used, {wording.reason(frame['reject_stage'], frame['reject_reason'])}"


def trend_chart(title: str, nights: Sequence[tuple[dt.date, Tally]], tonight: dt.date) -> Chart:
    """Contamination by night with its interval; nights without loads leave a gap in the row of dates."""
    days = [nights[0][0] + dt.timedelta(days=number) for number in range((tonight - nights[0][0]).days + 1)]
    highest = max((tally.frac for _, tally in nights if tally.frac is not None), default=0.0)
    reach = max((tally.high for _, tally in nights if tally.high is not None), default=0.0)
    is_beyond = reach > _MAX_INTERVAL * max(highest, _SMALLEST_TOP)
    top, y_ticks = _axis(highest if is_beyond else max(highest, reach))
    marks = [
        Mark(
            x=_middle((day - days[0]).days, len(days)),
            y=_height(tally.frac, top),
            low=None if is_beyond else _height(tally.low, top),
            high=None if is_beyond else _height(tally.high, top),
            kind="tonight" if day == tonight else "before",
            words=f"{wording.day(day)}: {wording.percent(tally.frac)} ({wording.interval(tally.low, tally.high)}), "
            f"{wording.number(tally.num_loads, 'load')}",
        )
        for day, tally in nights
    ]
    known = [(tally.frac, day) for day, tally in nights if tally.frac is not None]
    words = f"{wording.number(sum(tally.num_loads > 0 for _, tally in nights), 'night')} with loads."
    if known:
        most, least = max(known), min(known)
        words += (
            f" Highest {wording.percent(most[0])} on {wording.day(most[1])}, lowest {wording.percent(least[0])} on "
            f"{wording.day(least[1])}. {_intervals(marks, reach if is_beyond else None)}"
        )
    labels = [f"{day.day} {day:%b}" for day in days]
    return Chart(
        title=title, words=words, marks=tuple(marks), y_ticks=y_ticks, x_ticks=_some(labels), width=100 / len(days)
    )


def _intervals(marks: Sequence[Mark], beyond: float | None) -> str:
    """What the lines of a trend are, or why there is none; ``beyond`` is how far they would reach out of it."""
    if beyond is not None:
        far = wording.percent(beyond)
        return f"The 95 % intervals are wider than the chart, up to {far}: what differs less may be chance."
    is_drawn = any(mark.low is not None and mark.high is not None for mark in marks)
    return "Lines are 95 % intervals." if is_drawn else "No night has an interval."


def _height(value: float | None, top: float) -> float | None:
    return None if value is None else max(0.0, 100 * (1 - value / top))


def _middle(number: int, count: int) -> float:
    return 100 * (number + 0.5) / count


def _axis(highest: float) -> tuple[float, tuple[tuple[float, str], ...]]:
    """Top of the scale, and its ticks."""
    ticks = [float(tick) for tick in MaxNLocator(4).tick_values(0.0, max(highest, _SMALLEST_TOP)) if tick >= 0]
    return ticks[-1], tuple((100 * (1 - tick / ticks[-1]), wording.percent(tick)) for tick in ticks)


def _some(labels: Sequence[str], count: int = 5) -> tuple[tuple[float, str], ...]:
    """Labels of some marks, spread evenly: the first and the last among them."""
    last = len(labels) - 1
    chosen = sorted({round(last * step / (count - 1)) for step in range(count)}) if labels else []
    return tuple((_middle(number, len(labels)), labels[number]) for number in chosen)
