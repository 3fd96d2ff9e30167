"""A comparison of methods as a page for people, as files for programs and as pictures.

<folder>/<table>.md, .csv, .parquet      ``schema.COMPARISON``
<folder>/<table>.svg                     average precision of each entry
<folder>/<table>-examples.png            see ``examples``
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
from matplotlib.figure import Figure

from scrapray import schema
from scrapray.datasets.read import Dataset
from scrapray.evaluation.comparison import FIGURES, Measured, comparison_rows
from scrapray.evaluation.examples import draw_examples
from scrapray.evaluation.pictures import as_svg
from scrapray.evaluation.results import Row
from scrapray.lake import write_table
from scrapray.segmenter.measure import ANY
from scrapray.storage import Storage

_IN_PAPER = {"average_precision": "AP", "auroc": "AUROC", "f1_max": "F1", "aupro_repo200": "AUPRO"}
"""What the paper says something of, and its word for it."""


def as_page(rows: Sequence[Row], title: str) -> str:
    """A table of any contaminant, one line per entry, with chance below it and the paper's figures beside it."""
    of_any = {(row["label"], row["figure"]): row for row in rows if row["class_name"] == ANY}
    labels = list(dict.fromkeys(row["label"] for row in rows))
    measured = [label for label in labels if (label, "prevalence") in of_any]
    head = [*(figure.replace("_", " ") for figure in FIGURES), *(f"paper: {word}" for word in _IN_PAPER.values())]
    lines = [f"# {title}", "", f"| | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for label in labels:
        found = [of_any.get((label, figure), {}) for figure in FIGURES]
        paper = [of_any.get((label, figure), {}).get("published") for figure in _IN_PAPER]
        lines.append(f"| {label} | {' | '.join([*map(_mean_and_spread, found), *map(_share, paper)])} |")
    if measured:
        chances = [of_any[measured[0], figure]["chance"] for figure in FIGURES]
        lines.append(f"| chance | {' | '.join([*map(_share, chances), *['-'] * len(_IN_PAPER)])} |")
        runs = max(of_any[label, "prevalence"]["num_runs"] for label in measured)
        lines += [
            "",
            f"Pixels of any contaminant, prevalence {_share(of_any[measured[0], 'prevalence']['mean'])}; mean of up to "
            f"{runs} seeds, ± their standard deviation, in brackets the 95 % interval over loads. The figures of the "
            "paper are of its own, private data, as far as they are known to us: for orientation only.",
        ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for (label, figure), row in of_any.items():
        if row["reason"]:
            reasons.setdefault((label, row["reason"]), []).append(figure.replace("_", " "))
    if reasons:
        lines += ["", "Without a value, an interval or some of the seeds:", ""]
    for (label, reason), figures in reasons.items():
        which = f", {' and '.join(figures)}" if len(figures) < len(FIGURES) and (label, FIGURES[0]) in of_any else ""
        lines.append(f"- {label}{which}: {reason}")
    return "\n".join(lines) + "\n"


def _mean_and_spread(row: Row) -> str:
    if row.get("mean") is None:
        return "-"
    spread = "" if row["spread"] is None else f" ± {row['spread']:.4f}"
    interval = "" if row["low"] is None else f" ({row['low']:.4f} to {row['high']:.4f})"
    return f"{row['mean']:.4f}{spread}{interval}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def draw_precision(rows: Sequence[Row], path: Path) -> None:
    """Average precision of each entry on a logarithmic axis, with its interval, chance and the paper's figure."""
    found = [row for row in rows if row["class_name"] == ANY and row["figure"] == "average_precision"]
    shown = [row for row in found if row["num_runs"] and row["mean"]]
    figure = Figure(figsize=(8, 1.2 + 0.45 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(shown)):
        if row["low"] is not None:
            axes.plot([max(row["low"], 1e-6), row["high"]], [place, place], color="tab:blue", linewidth=3, alpha=0.4)
        axes.plot(row["mean"], place, "o", color="tab:blue", label="here, 95 % interval over loads")
        if row["published"] is not None:
            axes.plot(row["published"], place, "D", color="tab:orange", label="in the paper, on its own data")
    if shown:
        axes.axvline(shown[0]["chance"], color="gray", linestyle="--", label="chance here")
    axes.set(xscale="log", xlabel="average precision of pixels", yticks=range(len(shown)))
    axes.set_yticklabels([row["label"] for row in reversed(shown)])
    axes.grid(axis="x", alpha=0.3)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), loc="best")
    path.write_bytes(as_svg(figure))


def write_comparison(
    measured: Sequence[Measured], dataset: Dataset, table: str, title: str, folder: Path
) -> tuple[str, list[Path]]:
    """Write all files of a table.

    Args:
        measured: Its entries.
        dataset: On the test split of which they were measured.
        table: Name of the files.
        title: Heads the page.
        folder: Takes them.

    Returns:
        The page, and where everything lies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / table
    rows = comparison_rows(table, measured)
    page = as_page(rows, title)
    markdown, csv, parquet, svg = (stem.with_suffix(suffix) for suffix in (".md", ".csv", ".parquet", ".svg"))
    columns = pa.Table.from_pylist([dict.fromkeys(schema.COMPARISON.names) | row for row in rows], schema.COMPARISON)
    write_table(columns, schema.COMPARISON, str(parquet), Storage())
    pa.csv.write_csv(columns, csv)
    markdown.write_text(page, encoding="utf-8")
    draw_precision(rows, svg)
    written = [markdown, csv, parquet, svg]
    if maps := {each.entry.label: each.runs[0].maps for each in measured if each.runs}:
        png = folder / f"{table}-examples.png"
        png.write_bytes(draw_examples(dataset.split("test"), maps, dataset.card.class_names))
        written.append(png)
    return page, written
