"""What reviews say of the machine and of the reviewers: precision, recall, agreement.

``docs/review.md`` has the formulas.

Legend: L loads.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from scrapray.review.matching import ADDED
from scrapray.review.nights import fullest, latest
from scrapray.statistics.agreement import (
    Interval,
    cohens_kappa,
    kappa_interval,
    ratio_interval,
    wilson_interval,
)

ANY = "any"
"""In place of a class: all contaminants together."""
ALL_REVIEWED, SAMPLE = "all reviewed", "random sample"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A share that reviews tell of a model, or of two reviewers.

    Attributes:
        name: ``precision``, ``recall`` or ``kappa``.
        subject: Weights hash of the model, or the names of both reviewers.
        class_name: A class, or ``any``.
        basis: ``all reviewed`` or ``random sample``.
        num: What was counted: detections (precision), objects (recall) or frames (kappa).
        value: The estimate; None where nothing can be said.
        interval: 95 %; None where none can be known.
    """

    name: str
    subject: str
    class_name: str
    basis: str
    num: int
    value: float | None
    interval: Interval | None


def figures_of(reviews: pa.Table) -> list[Figure]:
    """All figures, of rows of ``schema.REVIEWS`` in the order of time."""
    return [*precision(reviews), *recall(reviews), *agreement(reviews)]


def precision(reviews: pa.Table) -> list[Figure]:
    """Share of a model's detections whose class a reviewer left: of all that were reviewed, and of the random sample.

    A reviewer without pre-labels was not asked about the detections, so such reviews do not count here.
    """
    shown = latest(reviews.filter(~pc.field("is_blind")), by=("weights_sha256",))
    detections = [row for row in shown if row["detection_id"] is not None]
    is_sampled = _sampled(reviews)
    sampled = [row for row in detections if (row["weights_sha256"], row["frame_id"]) in is_sampled]
    return [
        _precision(of, weights, name, basis)
        for basis, rows in ((ALL_REVIEWED, detections), (SAMPLE, sampled))
        for weights, of_weights in _by(rows, lambda row: row["weights_sha256"]).items()
        for name, of in _by_class(of_weights, lambda row: row["machine_class"]).items()
    ]


def _precision(rows: Sequence[Row], weights: str, class_name: str, basis: str) -> Figure:
    num_right = sum(row["class_name"] == row["machine_class"] for row in rows)
    return Figure(
        name="precision",
        subject=weights,
        class_name=class_name,
        basis=basis,
        num=len(rows),
        value=num_right / len(rows),
        interval=wilson_interval(num_right, len(rows)),
    )


def recall(reviews: pa.Table) -> list[Figure]:
    """Share of the objects that reviewers see in randomly sampled frames which the model found, as what they are.

    Each night is a stratum: a reviewed frame of its sample stands for ``frames drawn from / frames reviewed`` of them,
    so that a short night does not count like a long one. Of all contaminants together, an object counts as found under
    a wrong class too.
    """
    is_sampled = _sampled(reviews)
    of_model = {
        weights: [
            row
            for row in fullest(reviews.filter(pc.field("weights_sha256") == weights))
            if (weights, row["frame_id"]) in is_sampled
        ]
        for weights in sorted({weights for weights, _ in is_sampled})
    }
    return [
        _recall(rows, weights, name)
        for weights, rows in of_model.items()
        for name in [*sorted({row["class_name"] for row in rows if row["class_name"]}), ANY]
    ]


def _sampled(reviews: pa.Table) -> set[tuple[str, str]]:
    """Weights and frames of the random samples: once drawn, a frame stays in, for whatever it is looked at again."""
    drawn = reviews.filter(pc.field("is_random_sample"))
    return set(zip(drawn["weights_sha256"].to_pylist(), drawn["frame_id"].to_pylist(), strict=True))


def _recall(rows: Sequence[Row], weights: str, class_name: str) -> Figure:
    loads, weight_of = _by(rows, _load_of), _weights(rows)
    found_L, there_L = np.zeros(len(loads)), np.zeros(len(loads))
    num = 0
    for place, (load, of_load) in enumerate(loads.items()):
        objects = [row for row in of_load if row["class_name"] and class_name in (ANY, row["class_name"])]
        num += len(objects)
        there_L[place] = weight_of[load[:2]] * len(objects)
        found_L[place] = weight_of[load[:2]] * sum(_is_found(row, class_name) for row in objects)
    value = float(found_L.sum() / there_L.sum()) if num else None
    return Figure(
        name="recall",
        subject=weights,
        class_name=class_name,
        basis=SAMPLE,
        num=num,
        value=value,
        interval=_interval(value, found_L, there_L),
    )


def _interval(
    value: float | None, found_L: npt.NDArray[np.float64], there_L: npt.NDArray[np.float64]
) -> Interval | None:
    """Where all was found, or nothing, no draw of loads says otherwise; then whole loads are counted as trials."""
    if value is not None and value in (0, 1):
        num_loads = int(np.count_nonzero(there_L))
        return wilson_interval(int(value) * num_loads, num_loads)
    return None if value is None else ratio_interval(found_L, there_L)


def _weights(rows: Sequence[Row]) -> dict[tuple[Any, ...], float]:
    """Of each site and date: how many frames a reviewed one of its random sample stands for."""
    nights = _by(rows, lambda row: _load_of(row)[:2])
    return {
        night: max(row["num_drawn_from"] for row in of) / len({row["frame_id"] for row in of})
        for night, of in nights.items()
    }


def _is_found(row: Row, class_name: str) -> bool:
    return row["outcome"] != ADDED and class_name in (ANY, row["machine_class"])


def agreement(reviews: pa.Table) -> list[Figure]:
    """Cohen's kappa of every two reviewers, over the frames that both have looked at.

    The question of each frame is whether it shows the class. Frames on which both were shown the pre-labels do not
    count: there, they agree with the machine first of all.
    """
    looks: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in latest(reviews, by=("reviewer",)):
        looks[row["reviewer"]][row["frame_id"]].append(row)
    return [
        figure
        for one, other in combinations(sorted(looks), 2)
        for figure in _agreement(looks[one], looks[other], f"{one} and {other}")
    ]


def _agreement(one: Mapping[str, Sequence[Row]], other: Mapping[str, Sequence[Row]], names: str) -> list[Figure]:
    both = [
        (one[name], other[name])
        for name in one
        if name in other and (one[name][0]["is_blind"] or other[name][0]["is_blind"])
    ]
    if not both:
        return []
    classes = sorted({row["class_name"] for pair in both for rows in pair for row in rows if row["class_name"]})
    return [_kappa(both, names, class_name) for class_name in [*classes, ANY]]


def _kappa(both: Sequence[tuple[Sequence[Row], Sequence[Row]]], names: str, class_name: str) -> Figure:
    loads = {load: place for place, load in enumerate(dict.fromkeys(_load_of(pair[0][0]) for pair in both))}
    tables_LCC = np.zeros((len(loads), 2, 2))
    for first, second in both:
        tables_LCC[loads[_load_of(first[0])], int(_shows(first, class_name)), int(_shows(second, class_name))] += 1
    kappa = cohens_kappa(tables_LCC.sum(axis=0))
    is_known = not np.isnan(kappa)
    return Figure(
        name="kappa",
        subject=names,
        class_name=class_name,
        basis="frames",
        num=len(both),
        value=kappa if is_known else None,
        interval=kappa_interval(tables_LCC) if is_known else None,
    )


def _shows(rows: Sequence[Row], class_name: str) -> bool:
    return any(row["class_name"] and class_name in (ANY, row["class_name"]) for row in rows)


def _load_of(row: Row) -> tuple[Any, ...]:
    return row["site"], row["date"], row["truck_id"], row["load_id"]


def _by_class(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, Sequence[Row]]:
    """Rows of each class in the order of names, then all of them."""
    return {**dict(sorted(_by(rows, key).items())), **({ANY: rows} if rows else {})}


def _by(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, Sequence[Row]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)
