"""Night, evidence and past nights -> HTML. Templates escape all that they are given; nothing is marked as safe."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date as Date
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

import scrapray
from scrapray.imagery.sheet import color_of
from scrapray.imagery.views import outlines
from scrapray.report import charts, wording
from scrapray.report.evidence import MAX_CLOSE_UPS, PICTURES, Evidence, View
from scrapray.report.names import page_name
from scrapray.report.night import NIGHTS_BEFORE, Load, Night, Row, Tally, by_supplier, zone_of

INDEX, STYLE = "index.html", "style.css"
MARK = "scrapray report"
"""Stands in both, so that those of others are told apart."""
_PRINTED = 8
"""Close-ups of a load on paper, as style.css has it."""
_MAX_LISTED = 300
"""Detections in the table of a load."""
_FILTERS: dict[str, Callable[..., str]] = {
    name: getattr(wording, name)
    for name in (
        *("name", "percent", "interval", "number", "clock", "day", "reason", "rule_name", "conditions", "found"),
        *("place", "size", "period"),
    )
}
Past = Mapping[Date, Sequence[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A detection to lay over a picture: the number of its class, and its polygons as SVG has them."""

    kind: int
    polygons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """The number of a detection over a picture, in percent from its top left corner."""

    number: int
    kind: int
    class_name: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture as a page shows it; ``number`` and ``kind`` are those of a close-up's detection."""

    view: View
    source: str
    fault: str | None
    outlines: tuple[Outline, ...]
    tags: tuple[Tag, ...] = ()
    number: int = 0
    kind: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that the pages are made of.

    Attributes:
        night: The night.
        past: Loads of nights before it, oldest first.
        unreadable: Nights before it that could not be read.
        evidence: Of each load of the night, by its key.
        faults: Why there is no picture, by its name.
    """

    night: Night
    past: Past
    unreadable: Sequence[Date]
    evidence: Mapping[tuple[str, str | None, str], Evidence]
    faults: Mapping[str, str] = field(default_factory=dict)

    @property
    def tonight(self) -> list[Row]:
        """Rows of all its loads, worst first."""
        return [load.row for load in self.night.loads]


def render(report: Report) -> Iterator[tuple[str, str]]:
    """All files of a report but the pictures, as names and texts; the page of the night last."""
    templates = _templates()
    yield STYLE, (files("scrapray.report") / "templates" / STYLE).read_text(encoding="utf-8")
    loads = report.night.loads
    for place, load in enumerate(loads):
        worse, better = (loads[place - 1] if place else None), (loads[place + 1] if place + 1 < len(loads) else None)
        values = _load_values(report, load) | {
            "worse": worse and load_page(worse),
            "better": better and load_page(better),
        }
        yield load_page(load), templates.get_template("load.html").render(night=report.night, root="../", **values)
    for supplier, rows in by_supplier(report.tonight).items():
        values = _supplier_values(report, supplier, rows)
        text = templates.get_template("supplier.html").render(night=report.night, root="../", **values)
        yield supplier_page(supplier), text
    yield INDEX, templates.get_template("night.html").render(night=report.night, root="", **_night_values(report))


def load_page(load: Load) -> str:
    """Where the page of a load lies."""
    site, truck, name = load.key
    return f"loads/{page_name(truck, name, site, load.row['date'].isoformat())}"


def supplier_page(supplier: str | None) -> str:
    """Where the page of a supplier lies."""
    return f"suppliers/{page_name('supplier', supplier)}"


@cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("scrapray.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= _FILTERS
    templates.globals |= {
        "version": scrapray.__version__,
        "VERDICTS": wording.VERDICTS,
        "SEVERITIES": wording.SEVERITIES,
        "NIGHTS_BEFORE": NIGHTS_BEFORE,
        "MAX_CLOSE_UPS": MAX_CLOSE_UPS,
        "PRINTED": _PRINTED,
        "MARK": MARK,
    }
    return templates


# ---- the night --------------------------------------------------------------------------------------------------


def _night_values(report: Report) -> dict[str, Any]:
    night, tally = report.night, Tally.of(report.tonight)
    frames = [frame for site in night.sites for frame in site.frames]
    return {
        "tally": tally,
        "rows": _listed(report, night.loads),
        "alerts": _listed(report, [load for load in night.loads if load.is_alert]),
        "num_reviewed": sum(load.reviewed is not None for load in night.loads),
        "num_changed": sum(load.is_changed for load in night.loads),
        "num_frames": len(frames),
        "num_used": sum(frame["status"] == "used" for frame in frames),
        "suppliers": _suppliers(report),
        "cameras": night.rejected,
        "usual": _usual(report.past, tally),
        "num_before": len(report.past),
        "trend": _trend("Contamination by night", report.past, night.date, tally) if report.past else None,
        "unreadable": report.unreadable,
        "runs": [(site.run, zone_of(site.run)) for site in night.sites if site.run],
    }


def _suppliers(report: Report) -> list[tuple[str | None, str, Tally]]:
    """Suppliers with their pages, the most contaminated first."""
    tallies = [(supplier, Tally.of(rows)) for supplier, rows in by_supplier(report.tonight).items()]
    tallies.sort(key=lambda each: -(each[1].frac or 0.0))
    return [(supplier, supplier_page(supplier), tally) for supplier, tally in tallies]


def _listed(report: Report, loads: Sequence[Load]) -> list[tuple[Load, str, str | None]]:
    """Loads with their pages and the best picture of each."""
    return [(load, load_page(load), _thumbnail(report, load)) for load in loads]


def _thumbnail(report: Report, load: Load) -> str | None:
    views = (view for view in report.evidence[load.key].close_ups if view.name not in report.faults)
    return next((_source(view) for view in views), None)


def _usual(past: Past, tally: Tally) -> list[tuple[str, str, str, str, str]]:
    """The night beside those before it: what, now, median, lowest, highest; what no night knows is left out."""
    shares: dict[str, tuple[Callable[[Tally], float | None], Callable[[float | None], str]]] = {
        "Loads": (lambda night: night.num_loads, lambda value: "-" if value is None else f"{value:g}"),
        "Loads to reject": (lambda night: _of_loads(night, "reject"), lambda value: wording.percent(value, 0)),
        "Loads to review": (lambda night: _of_loads(night, "review"), lambda value: wording.percent(value, 0)),
        "Contamination": (lambda night: night.frac, wording.percent),
        "Frames of loads not used": (
            lambda night: night.num_rejected / night.num_frames if night.num_frames else None,
            lambda value: wording.percent(value, 1),
        ),
    }
    nights = [Tally.of(rows) for rows in past.values()]
    rows = []
    for what, (value_of, words) in shares.items():
        values = [value for night in nights if (value := value_of(night)) is not None]
        if values:
            usual, least, most = statistics.median(values), min(values), max(values)
            rows.append((what, words(value_of(tally)), words(usual), words(least), words(most)))
    return rows


def _of_loads(tally: Tally, verdict: str) -> float | None:
    return tally.verdicts[verdict] / tally.num_loads if tally.num_loads else None


def _trend(title: str, past: Past, tonight: Date, tally: Tally) -> charts.Chart:
    return charts.trend_chart(title, [*_tallies(past), (tonight, tally)], tonight)


def _tallies(past: Past) -> list[tuple[Date, Tally]]:
    return [(day, Tally.of(rows)) for day, rows in past.items() if rows]


def _supplier_values(report: Report, supplier: str | None, rows: Sequence[Row]) -> dict[str, Any]:
    past = {day: [row for row in loads if row["supplier"] == supplier] for day, loads in report.past.items()}
    tally = Tally.of(rows)
    return {
        "supplier": supplier,
        "tally": tally,
        "rows": _listed(report, [load for load in report.night.loads if load.row["supplier"] == supplier]),
        "nights": [*_tallies(past), (report.night.date, tally)],
        "trend": _trend("Contamination by night", past, report.night.date, tally),
    }


# ---- a load -----------------------------------------------------------------------------------------------------


def _load_values(report: Report, load: Load) -> dict[str, Any]:
    evidence = report.evidence[load.key]
    kinds = {each["class_name"]: number for number, each in enumerate(load.row["classes"], start=1)}
    numbers = {row["detection_id"]: number for number, row in enumerate(load.detections, start=1)}
    show = _Showing(load=load, kinds=kinds, numbers=numbers, faults=report.faults)
    close_up_ids = {view.detection["detection_id"] for view in evidence.close_ups if view.detection}
    counts = [(name, sum(row["class_name"] == name for row in load.detections)) for name in kinds]
    return {
        "load": load,
        "notices": [site.notice for site in report.night.sites if site.notice and site.site == load.row["site"]],
        "kinds": [
            {"id": kinds[name], "class_name": name, "count": count, "color": color_of(kinds[name])}
            for name, count in counts
            if count
        ],
        "overviews": [show.overview(view, close_up_ids) for view in evidence.overviews],
        "close_ups": [show.close_up(view, view.detection) for view in evidence.close_ups if view.detection],
        "num_left_out": len(evidence.left_out),
        "listed": load.detections[:_MAX_LISTED],
        "chart": charts.frames_chart(load, {view.frame["frame_id"] for view in evidence.overviews}),
        "supplier_page": supplier_page(load.row["supplier"]),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Showing:
    """What all pictures of a load need to be shown."""

    load: Load
    kinds: Mapping[str, int]
    numbers: Mapping[str, int]
    faults: Mapping[str, str]

    def overview(self, view: View, close_up_ids: set[str]) -> Shown:
        """A whole frame, all of its detections outlined, those with a close-up numbered."""
        found = [row for row in self.load.detections if row["frame_id"] == view.frame["frame_id"]]
        return self._shown(view, found, [row for row in found if row["detection_id"] in close_up_ids])

    def close_up(self, view: View, detection: Row) -> Shown:
        """A detection, outlined."""
        return self._shown(view, [detection], [], self.numbers[detection["detection_id"]], self._kind(detection))

    def _shown(
        self, view: View, outlined: Sequence[Row], tagged: Sequence[Row], number: int = 0, kind: int = 0
    ) -> Shown:
        fault = self.faults.get(view.name)
        return Shown(
            view=view,
            source=_source(view),
            fault=fault and wording.NO_PICTURE[fault],
            outlines=tuple(map(self._outline, outlined)),
            tags=tuple(self._tag(row, view) for row in tagged),
            number=number,
            kind=kind,
        )

    def _outline(self, detection: Row) -> Outline:
        polygons = outlines(detection["mask"])
        return Outline(
            kind=self._kind(detection),
            polygons=tuple(" ".join(f"{x},{y}" for x, y in polygon) for polygon in polygons),
        )

    def _tag(self, detection: Row, view: View) -> Tag:
        box = detection["bbox"]
        return Tag(
            number=self.numbers[detection["detection_id"]],
            kind=self._kind(detection),
            class_name=detection["class_name"],
            x=50 * (box["x_min_px"] + box["x_max_px"]) / view.frame["width_px"],
            y=100 * box["y_min_px"] / view.frame["height_px"],
        )

    def _kind(self, detection: Row) -> int:
        return self.kinds[detection["class_name"]]


def _source(view: View) -> str:
    return f"{PICTURES}/{view.name}"
