"""Figures of an evaluation as rows, as files for programs and as a page for people.

<out>/<subject>-<split>.parquet, .csv      ``schema.EVALUATION``
<out>/<subject>-<split>.md                 what the command prints
<out>/<subject>-<split>-curves.svg         see ``pictures``
<out>/<subject>-<split>-worst.png
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.csv

from scrapray import schema
from scrapray.datasets.split import Split
from scrapray.errors import ConfigurationError
from scrapray.evaluation.evaluate import Evaluation
from scrapray.evaluation.pictures import draw_curves, draw_worst
from scrapray.lake import parquet_bytes, read_table
from scrapray.statistics import bootstrap
from scrapray.statistics.counts import SIZE_BANDS, ClassCounts
from scrapray.statistics.metrics import MAX_FALSE_ALARM_RATE, PixelMetrics
from scrapray.storage import Storage, join

PIXEL_FIGURES = ("average_precision", "auroc", "f1_max", "aupro_exact", "aupro_repo200")
TILE_FIGURES = ("tile_average_precision", "tile_auroc")
Row = dict[str, Any]
"""One row of ``schema.EVALUATION``."""
_NO_CONTAMINANT = "no pixel of the class in the split"
_NO_STEEL = "all pixels of the split are of the class"
_ALL_THE_SAME = "its 200 scores have no two different false alarm rates below the limit, to be stretched to it"
_ONE_LOAD = "no interval: the split has one load, which says nothing of chance"


def rows_of(evaluation: Evaluation) -> list[Row]:
    """All figures."""
    return [
        {
            "subject": evaluation.subject,
            "dataset": evaluation.dataset,
            "split": evaluation.split,
            "split_sha256": evaluation.split_sha256,
            "class_name": class_name,
            "low": None,
            "high": None,
            "chance": None,
            "reason": None,
            **row,
        }
        for class_name, counts in evaluation.counts.items()
        for row in _rows_of_class(counts, evaluation.intervals[class_name], evaluation.num_loads)
    ]


def _rows_of_class(counts: ClassCounts, intervals: Any, num_loads: int) -> Iterator[Row]:
    pixels, tiles = counts.pixels.metrics(), counts.tiles.metrics()
    yield {"figure": "prevalence", "value": pixels.prevalence}
    for figure, chance in chances(pixels.prevalence).items():
        value = getattr(pixels, figure)
        low, high = intervals.get(figure) or (None, None)
        without_interval = _ONE_LOAD if figure in bootstrap.FIGURES and num_loads == 1 else None
        yield {
            "figure": figure,
            "value": value,
            "low": low,
            "high": high,
            "chance": chance,
            "reason": without_interval if value is not None else _why(pixels, figure),
        }
    yield {
        "figure": "f1_threshold",
        "value": pixels.f1_threshold,
        "reason": None if pixels.f1_threshold is not None else _NO_CONTAMINANT,
    }
    yield {
        "figure": "expected_calibration_error",
        "value": counts.pixels.reliability().expected_calibration_error,
    }
    for figure in ("average_precision", "auroc"):
        value = getattr(tiles, figure)
        yield {
            "figure": f"tile_{figure}",
            "value": value,
            "chance": chances(tiles.prevalence)[figure],
            "reason": None if value is not None else _why(tiles, figure).replace("pixel", "tile"),
        }
    # Without a threshold there is no contaminant, so no object is found or missed at any.
    for band, recall in counts.object_recall(pixels.f1_threshold or 0.0).items():
        reason = None if recall is not None else "no object of that size in the split"
        yield {"figure": f"object_recall, {band}", "value": recall, "reason": reason}


def chances(prevalence: float) -> dict[str, float | None]:
    """What scores that know nothing reach, by figure."""
    return {
        "average_precision": prevalence,
        "auroc": 0.5,
        "f1_max": 2 * prevalence / (1 + prevalence),
        "aupro_exact": MAX_FALSE_ALARM_RATE / 2,
        "aupro_repo200": None,
    }


def _why(found: PixelMetrics, figure: str) -> str:
    if not found.prevalence:
        return _NO_CONTAMINANT
    return _NO_STEEL if found.auroc is None else _ALL_THE_SAME


def files_of(evaluation: Evaluation, rows: Sequence[Row], page: str) -> dict[str, bytes]:
    """The files of an evaluation by name.

    Args:
        evaluation: What was measured.
        rows: As ``rows_of`` gives them.
        page: As ``as_markdown`` does.
    """
    table = pa.Table.from_pylist(rows, schema=schema.EVALUATION)
    csv = pa.BufferOutputStream()
    pa.csv.write_csv(table, csv)
    files = {
        ".parquet": parquet_bytes(table, schema.EVALUATION, "evaluation"),
        ".csv": csv.getvalue().to_pybytes(),
        ".md": page.encode(),
        "-curves.svg": draw_curves(evaluation.counts, evaluation.confusion_KK1),
        "-worst.png": draw_worst(evaluation.worst, evaluation.dataset_card.class_names),
    }
    stem = _stem(evaluation.subject, evaluation.split)
    return {f"{stem}{ending}": data for ending, data in files.items() if data is not None}


def _stem(subject: str, split: Split) -> str:
    return re.sub(r"[^\w.+-]+", "-", f"{subject}-{split}")


def check_out(out_uri: str, subject: str, split: Split, split_sha256: str, storage: Storage) -> None:
    """See whether the files of an evaluation, which takes long, can be written where they are to be.

    Raises:
        ConfigurationError: Files of the same name are of other tiles.
        StorageError: Nothing can be written there.
    """
    before = join(out_uri, f"{_stem(subject, split)}.parquet")
    if storage.exists(before):
        rows = read_table(before, schema.EVALUATION, storage).to_pylist()
        if rows and rows[0]["split_sha256"] != split_sha256:
            raise ConfigurationError(
                f"{before} holds figures on {rows[0]['dataset']}, other tiles than these; give another folder with "
                "--out, or delete it"
            )
    probe = join(out_uri, f"_probe-{uuid4().hex}")
    storage.write_bytes(probe, b"scrapray evaluate")
    storage.delete(probe)


def write_files(files: Mapping[str, bytes], out_uri: str, storage: Storage) -> list[str]:
    """Write the files of an evaluation, in place of those of the same method and split; gives their URIs."""
    for name, data in files.items():
        storage.write_bytes(join(out_uri, name), data)
    return [join(out_uri, name) for name in files]


def as_markdown(evaluation: Evaluation, rows_of_it: Sequence[Row]) -> str:
    """A table of pixel figures with intervals, one of tiles and objects, and what chance reaches beside each."""
    rows = {(row["class_name"], row["figure"]): row for row in rows_of_it}
    names = list(evaluation.counts)
    lines = [
        f"# {evaluation.subject} on the {evaluation.split} split of {evaluation.dataset}",
        "",
        f"{evaluation.num_tiles} tiles of {evaluation.num_loads} loads; in brackets the 95 % interval over loads. Maps "
        "that are 0 all over but in a few places cannot be held against others by AUROC and AUPRO.",
        "",
        *_table(("pixels", *PIXEL_FIGURES, "expected_calibration_error"), names, rows),
        "",
        *_table(("tiles", *TILE_FIGURES), names, rows),
        "",
        *_table(("objects", *(f"object_recall, {band}" for band in SIZE_BANDS)), names, rows),
        "",
        "An object is found if one of its pixels scores as much as where the F1 of pixels is highest.",
    ]
    if reasons := sorted(
        {f"{row['class_name']}, {row['figure']}: {row['reason']}" for row in rows.values() if row["reason"]}
    ):
        lines += ["", "Without a value or an interval:", "", *(f"- {reason}" for reason in reasons)]
    return "\n".join(lines) + "\n"


def _table(header: Sequence[str], names: Sequence[str], rows: Mapping[tuple[str, str], Row]) -> list[str]:
    what, *figures = header
    lines = [f"| {what} | {' | '.join(figure.replace('_', ' ') for figure in figures)} |", "|---" * len(header) + "|"]
    for name in names:
        found = [rows.get((name, figure), {}) for figure in figures]
        lines.append(f"| {name} | {' | '.join(map(_with_interval, found))} |")
        if any(row.get("chance") is not None for row in found):
            lines.append(f"| chance | {' | '.join(_number(row.get('chance')) for row in found)} |")
    return lines


def _with_interval(row: Row) -> str:
    ends = f" ({_number(row['low'])} to {_number(row['high'])})" if row.get("low") is not None else ""
    return _number(row.get("value")) + ends


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
