"""The tables of the scrap paper for a dataset: methods against each other, and windows of the multi-scale mechanism.

    each entry and seed: train it where it is trained -> measure it on the test split -> a file of figures
      -> mean and spread over seeds -> a table as markdown, CSV and Parquet, and a picture

What is done is not done again: trainings and figures lie in folders named after all that decides them.

Reference: the scrap paper's Tables 2 and 3. Their data is private, so its figures stand beside ours for orientation and
cannot be compared one to one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
from matplotlib.figure import Figure

from scrapray import schema
from scrapray.baselines.yolo_sam import YoloVersion
from scrapray.config import sha256_of
from scrapray.datasets.read import open_dataset
from scrapray.errors import ConfigurationError, ModelError
from scrapray.evaluation.config import EvaluateConfig
from scrapray.evaluation.evaluate import evaluate_method
from scrapray.evaluation.results import Row, as_markdown, rows_of
from scrapray.evaluation.tracking import track
from scrapray.evaluation.trained import SECTIONS, Method, train_baseline
from scrapray.lake import read_table, write_table
from scrapray.registry import Registry
from scrapray.segmenter.measure import ANY
from scrapray.storage import Storage
from scrapray.training.config import FinetuneConfig
from scrapray.training.produce import train_model
from scrapray.training.profiles import read_finetune

Tell = Callable[[str], None]
"""Takes a line about what is done now."""
Baseline = Literal["winclip", "winclip+"] | Method
Published = Mapping[str, float]
"""Figures of any contaminant in the paper, as shares."""
FIGURES = ("auroc", "average_precision", "f1_max", "aupro_exact", "aupro_repo200")
_IN_PAPER = ("average_precision", "auroc", "aupro_repo200")
_HASH_CHARACTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a table.

    Attributes:
        label: What the table calls it.
        method: A baseline; None for our segmenter.
        profiles: Of the training of our segmenter, over those that are given for all.
        yolo: Version of the baseline that has several.
        is_seeded: Whether another seed gives other figures.
        published: What the paper says of it.
    """

    label: str
    method: Baseline | None = None
    profiles: tuple[str, ...] = ()
    yolo: YoloVersion | None = None
    is_seeded: bool = True
    published: Published | None = None


_OURS: Published = {"average_precision": 0.286, "aupro_repo200": 0.197, "auroc": 0.85}
METHODS = (
    Entry(
        label="WinCLIP", method="winclip", is_seeded=False, published={"average_precision": 0.0006, "f1_max": 0.0014}
    ),
    Entry(label="WinCLIP+", method="winclip+"),
    Entry(label="AnomalyCLIP", method="anomalyclip"),
    Entry(label="Mask R-CNN", method="maskrcnn", published={"auroc": 0.66, "aupro_repo200": 0.205}),
    Entry(label="YOLOv8-seg + SAM", method="yolo-sam", yolo="v8"),
    Entry(label="YOLO11-seg + SAM", method="yolo-sam", yolo="11"),
    Entry(label="prompts only, frozen tower", profiles=("frozen",)),
    Entry(label="ours", published=_OURS),
)
SCALES = (
    Entry(label="without", profiles=("no-msm",)),
    Entry(label="3 & 9", published=_OURS),
    Entry(label="5 & 11", profiles=("scales-5-11",)),
    Entry(label="7 & 13", profiles=("scales-7-13",)),
)
TABLES: Mapping[str, Sequence[Entry]] = {"methods": METHODS, "scales": SCALES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Where figures come from.

    Attributes:
        dataset_uri: A finished dataset, which all nodes reach.
        folder: Takes everything, and all nodes reach it.
        config: Settings of baselines and of the measuring.
        profiles: Settings of our trainings, such as ``("paper",)``.
        seeds: Of each entry that has one.
        tell: Takes lines.
    """

    dataset_uri: str
    folder: Path
    config: EvaluateConfig
    profiles: Sequence[str]
    seeds: Sequence[int]
    tell: Tell = print

    def rows(self, name: str) -> list[Row]:
        """``schema.COMPARISON`` of one of ``TABLES``."""
        return [row for entry in TABLES[name] for row in self._rows_of(name, entry)]

    def _rows_of(self, table: str, entry: Entry) -> Iterator[Row]:
        same = {"table": table, "label": entry.label}
        try:
            runs = [self._figures(entry, seed) for seed in (self.seeds if entry.is_seeded else self.seeds[:1])]
        except (ConfigurationError, ModelError) as error:
            # An extra that is not installed, or weights that cannot be had: the others are of use all the same.
            self.tell(f"{entry.label}: {error}")
            yield {**same, "class_name": ANY, "figure": FIGURES[1], "num_runs": 0, "reason": str(error)}
            return
        for class_name, figure in runs[0]:
            found = [run[class_name, figure] for run in runs]
            values = [row["value"] for row in found if row["value"] is not None]
            yield {
                **same,
                "class_name": class_name,
                "figure": figure,
                "num_runs": len(runs),
                "mean": mean(values) if len(values) == len(runs) else None,
                "spread": stdev(values) if len(values) == len(runs) > 1 else None,
                # Of loads, not of seeds: how far another test split may be off.
                "low": _mean_of(found, "low"),
                "high": _mean_of(found, "high"),
                "chance": found[0]["chance"],
                "published": (entry.published or {}).get(figure) if class_name == ANY else None,
                "reason": next((row["reason"] for row in found if row["reason"]), None),
            }

    def _figures(self, entry: Entry, seed: int) -> dict[tuple[str, str], Row]:
        """Figures of one run by class and name, measured once."""
        config, finetune = _with_seed(self.config, entry, seed), self._finetune(entry, seed)
        dataset = open_dataset(self.dataset_uri, Storage(config.storage))
        decides = finetune.as_dict() if entry.method is None else _deciding(config, entry.method)
        name = (entry.method or "ours").replace("+", "-plus")
        place = f"{name}-{seed}-{sha256_of([decides, dataset.card.dataset_sha256])[:_HASH_CHARACTERS]}"
        path = self.folder / "figures" / f"{place}.parquet"
        if not path.exists():
            self.tell(f"{entry.label}, seed {seed}")
            registry = Registry(f"sqlite:///{self.folder.absolute()}/mlflow.db")
            match entry.method:
                case None:
                    runs = str(self.folder / "runs")
                    method = train_model(self.dataset_uri, runs, config=finetune, registry=registry).bundle_uri
                case "winclip" | "winclip+":
                    method = entry.method
                case _:
                    method = str(self.folder / "baselines" / place)
                    train_baseline(entry.method, self.dataset_uri, Path(method), config=config)
            evaluation = evaluate_method(method, self.dataset_uri, split="test", config=config)
            rows = rows_of(evaluation)
            track(evaluation, rows, as_markdown(evaluation, rows), settings=decides, registry=registry)
            write_table(pa.Table.from_pylist(rows, schema=schema.EVALUATION), schema.EVALUATION, str(path), Storage())
        rows = read_table(str(path), schema.EVALUATION, Storage()).to_pylist()
        return {(row["class_name"], row["figure"]): row for row in rows if row["figure"] in ("prevalence", *FIGURES)}

    def _finetune(self, entry: Entry, seed: int) -> FinetuneConfig:
        config = read_finetune(None, [*self.profiles, *entry.profiles])
        return replace(config, training=replace(config.training, seed=seed), storage=self.config.storage)


def _deciding(config: EvaluateConfig, method: Baseline) -> dict[str, Any]:
    """Sections of settings that decide what a baseline scores."""
    own: Sequence[str]
    match method:
        case "winclip" | "winclip+":
            own = ("clip", "winclip")
        case _:
            own = SECTIONS[method]
    whole = asdict(config)
    return {name: whole[name] for name in (*own, "detector")}


def _with_seed(config: EvaluateConfig, entry: Entry, seed: int) -> EvaluateConfig:
    """Settings of a baseline with this seed, and with the model of the entry."""
    match entry.method:
        case "winclip+":
            return replace(config, winclip=replace(config.winclip, seed=seed))
        case "anomalyclip":
            return replace(config, anomalyclip=replace(config.anomalyclip, seed=seed))
        case "maskrcnn":
            return replace(config, maskrcnn=replace(config.maskrcnn, seed=seed))
        case "yolo-sam":
            version = entry.yolo or config.yolo_sam.version
            return replace(config, yolo_sam=replace(config.yolo_sam, seed=seed, version=version))
        case _:
            return config


def _mean_of(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows]
    return None if None in values else mean(values)


def as_page(rows: Sequence[Row], title: str) -> str:
    """A table of any contaminant, one line per entry, with chance below it and the paper's figures beside it."""
    of_any = {(row["label"], row["figure"]): row for row in rows if row["class_name"] == ANY}
    labels = list(dict.fromkeys(row["label"] for row in rows))
    measured = [label for label in labels if (label, "prevalence") in of_any]
    head = [*(figure.replace("_", " ") for figure in FIGURES), "paper: AP", "paper: AUROC", "paper: AUPRO"]
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
    if reasons := [f"- {row['label']}: {row['reason']}" for row in rows if not row["num_runs"]]:
        lines += ["", "Not run:", "", *reasons]
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
    figure.savefig(path)


def write_comparison(rows: Sequence[Row], title: str, folder: Path) -> list[Path]:
    """Write a table as markdown, CSV and Parquet, and its picture; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / rows[0]["table"]
    markdown, csv, parquet, svg = (stem.with_suffix(suffix) for suffix in (".md", ".csv", ".parquet", ".svg"))
    table = pa.Table.from_pylist([dict.fromkeys(schema.COMPARISON.names) | row for row in rows], schema.COMPARISON)
    write_table(table, schema.COMPARISON, str(parquet), Storage())
    pa.csv.write_csv(table, csv)
    markdown.write_text(as_page(rows, title), encoding="utf-8")
    draw_precision(rows, svg)
    return [markdown, csv, parquet, svg]
