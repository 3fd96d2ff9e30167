"""The tables of the scrap paper for a dataset: methods against each other, and windows of the multi-scale mechanism.

    each entry and seed: train it where it is trained -> measure it on the test split -> a file of figures
      -> mean and spread over seeds -> tables and pictures, see ``tables``

What is done is not done again: trainings and figures lie in folders named after all that decides them.

Reference: the scrap paper's Tables 2 and 3. Their data is private, so its figures stand beside ours for orientation and
cannot be compared one to one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

import scrapray
from scrapray import schema
from scrapray.baselines.yolo_sam import YoloVersion
from scrapray.config import environment, sha256_of
from scrapray.datasets.read import Dataset, open_dataset
from scrapray.errors import ConfigurationError, ModelError
from scrapray.evaluation.config import EvaluateConfig
from scrapray.evaluation.evaluate import evaluate_method
from scrapray.evaluation.examples import Maps, choose_examples
from scrapray.evaluation.results import Row, as_markdown, files_of, rows_of
from scrapray.evaluation.tracking import track
from scrapray.evaluation.trained import SECTIONS, Method, train_baseline
from scrapray.lake import read_table, write_table
from scrapray.registry import Registry
from scrapray.segmenter.measure import ANY
from scrapray.segmenter.whole_files import whole_file
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
_HASH_CHARACTERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a table.

    Attributes:
        label: What the table calls it.
        method: A baseline; None for our segmenter.
        profiles: Of the training of our segmenter, over those that are given for all.
        yolo: Version of the baseline that has several.
        min_score: Of the instances of a detector that count.
        is_seeded: Whether another seed gives other figures.
        published: What the paper says of it.
    """

    label: str
    method: Baseline | None = None
    profiles: tuple[str, ...] = ()
    yolo: YoloVersion | None = None
    min_score: float = 0.0
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
    # Once more as detectors are usually run: without what they are not sure of.
    Entry(label="Mask R-CNN, scores from 0.05", method="maskrcnn", min_score=0.05),
    Entry(label="YOLOv8-seg + SAM", method="yolo-sam", yolo="v8"),
    Entry(label="YOLOv8-seg + SAM, scores from 0.25", method="yolo-sam", yolo="v8", min_score=0.25),
    Entry(label="YOLO11-seg + SAM", method="yolo-sam", yolo="11"),
    Entry(label="YOLO11-seg + SAM, scores from 0.25", method="yolo-sam", yolo="11", min_score=0.25),
    Entry(label="prompts only, frozen tower", profiles=("frozen",)),
    Entry(label="ours", published=_OURS),
)
SCALES = (
    Entry(label="no MSM", profiles=("no-msm",)),
    Entry(label="MSM 3 & 9", published=_OURS),
    Entry(label="MSM 5 & 11", profiles=("scales-5-11",)),
    Entry(label="MSM 7 & 13", profiles=("scales-7-13",)),
)
TABLES: Mapping[str, Sequence[Entry]] = {"methods": METHODS, "scales": SCALES}


class Run(NamedTuple):
    """What one run of an entry scored.

    Attributes:
        figures: Rows of ``schema.EVALUATION`` by class and figure.
        maps: Of the tiles that ``choose_examples`` chooses.
    """

    figures: Mapping[tuple[str, str], Row]
    maps: Maps


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """An entry and what it scored.

    Attributes:
        entry: The entry.
        runs: One for each seed, or one if no seed matters; without those that could not be run.
        reason: Why not.
    """

    entry: Entry
    runs: Sequence[Run] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Where figures come from.

    Attributes:
        dataset_uri: A finished dataset, which all nodes reach.
        folder: Takes everything, and all nodes reach it.
        config: Settings of baselines and of the measuring.
        profiles: Settings of our trainings, such as ``("paper",)``.
        finetune: File with settings over those.
        seeds: Of each entry that has one.
        baseline_seeds: Of baselines, if they are to have others: some take far longer than we do.
        tell: Takes lines.
    """

    dataset_uri: str
    folder: Path
    config: EvaluateConfig
    profiles: Sequence[str]
    finetune: Path | None = None
    seeds: Sequence[int]
    baseline_seeds: Sequence[int] = ()
    tell: Tell = print

    def measure(self, entries: Sequence[Entry]) -> list[Measured]:
        """Train and measure what is not measured yet."""
        return [self._measure(entry) for entry in entries]

    def _measure(self, entry: Entry) -> Measured:
        seeds = self.seeds if entry.method is None else self.baseline_seeds or self.seeds
        runs: list[Run] = []
        reasons: dict[str, list[str]] = {}
        for seed in seeds if entry.is_seeded else seeds[:1]:
            try:
                runs.append(self._run(entry, seed))
            except (ConfigurationError, ModelError) as error:
                # An extra that is not installed, or a training that diverged: all others are of use all the same.
                self.tell(f"{entry.label}, seed {seed}: {error}")
                reasons.setdefault(str(error), []).append(str(seed))
        told = [f"without seed {', '.join(of_seeds)}: {error}" for error, of_seeds in reasons.items()]
        if not runs and len(reasons) == 1:
            told = list(reasons)
        return Measured(entry=entry, runs=runs, reason="; ".join(told) or None)

    def _run(self, entry: Entry, seed: int) -> Run:
        """One run, measured once."""
        config, finetune = self.settings_of(entry, seed), self._finetune(entry, seed)
        dataset = open_dataset(self.dataset_uri, Storage(config.storage))
        trained = finetune.as_dict() if entry.method is None else _sections(config, entry.method)
        decides = {**trained, **_measuring(config)}
        name = f"{(entry.method or 'ours').replace('+', '-plus')}-{seed}"
        figures = self.folder / "figures" / f"{name}-{_hash(decides, dataset)}.parquet"
        maps = figures.with_suffix(".npz")
        if not (figures.exists() and maps.exists()):
            self.tell(f"{entry.label}, seed {seed}")
            method = self._trained(entry, f"{name}-{_hash(trained, dataset)}", config, finetune)
            keep = choose_examples(dataset.split("test"))
            evaluation = evaluate_method(method, self.dataset_uri, split="test", config=config, keep=keep)
            rows = rows_of(evaluation)
            files = files_of(evaluation, rows, as_markdown(evaluation, rows))
            track(evaluation, rows, files, settings=decides, registry=self._registry_of_figures)
            write_table(pa.Table.from_pylist(rows, schema.EVALUATION), schema.EVALUATION, str(figures), Storage())
            _write_maps(maps, {place: evaluation.maps[place] for place in keep})
        return _read_run(figures, maps)

    def _trained(self, entry: Entry, place: str, config: EvaluateConfig, finetune: FinetuneConfig) -> str:
        """A method as ``evaluate_method`` takes it, trained if it is to be."""
        match entry.method:
            case None:
                runs = str(self.folder / "runs")
                return train_model(self.dataset_uri, runs, config=finetune, registry=self._own_registry).bundle_uri
            case "winclip" | "winclip+":
                return entry.method
            case _:
                folder = self.folder / "baselines" / place
                train_baseline(entry.method, self.dataset_uri, folder, config=config)
                return str(folder)

    @property
    def _own_registry(self) -> Registry:
        """Of trainings: ablations are no candidates for the champion's place."""
        return Registry(f"sqlite:///{self.folder.absolute()}/mlflow.db")

    @property
    def _registry_of_figures(self) -> Registry:
        """The server, if the environment names one."""
        return Registry() if environment("MLFLOW_TRACKING_URI") else self._own_registry

    def settings_of(self, entry: Entry, seed: int) -> EvaluateConfig:
        """Settings of an entry's baseline with this seed, and of its measuring."""
        config = self.config
        match entry.method:
            case "winclip+":
                return replace(config, winclip=replace(config.winclip, seed=seed))
            case "anomalyclip":
                return replace(config, anomalyclip=replace(config.anomalyclip, seed=seed))
            case "maskrcnn":
                config = replace(config, maskrcnn=replace(config.maskrcnn, seed=seed))
            case "yolo-sam":
                version = entry.yolo or config.yolo_sam.version
                config = replace(config, yolo_sam=replace(config.yolo_sam, seed=seed, version=version))
        return replace(config, detector=replace(config.detector, min_score=entry.min_score))

    def _finetune(self, entry: Entry, seed: int) -> FinetuneConfig:
        config = read_finetune(self.finetune, [*self.profiles, *entry.profiles])
        return replace(config, training=replace(config.training, seed=seed), storage=self.config.storage)


def _write_maps(path: Path, of_tiles: Maps) -> None:
    with whole_file(path) as part, part.open("wb") as file:
        np.savez(file, places_N=np.array(list(of_tiles)), maps_Nhw=np.stack(list(of_tiles.values())))


def _read_run(figures: Path, maps: Path) -> Run:
    shown = ("prevalence", *FIGURES)
    rows = read_table(str(figures), schema.EVALUATION, Storage()).to_pylist()
    with np.load(maps) as kept:
        of_tiles = dict(zip(kept["places_N"].tolist(), kept["maps_Nhw"], strict=True))
    return Run({(row["class_name"], row["figure"]): row for row in rows if row["figure"] in shown}, of_tiles)


def _sections(config: EvaluateConfig, method: Baseline) -> dict[str, Any]:
    """Sections of settings that decide what a baseline is."""
    own: Sequence[str]
    match method:
        case "winclip" | "winclip+":
            own = ("clip", "winclip")
        case _:
            own = SECTIONS[method]
    whole = asdict(config)
    return {name: whole[name] for name in own}


def _measuring(config: EvaluateConfig) -> dict[str, Any]:
    """Sections of settings that decide what a method scores, however it was trained."""
    return {"bundle": asdict(config.bundle), "detector": asdict(config.detector)}


def _hash(settings: Mapping[str, Any], dataset: Dataset) -> str:
    """Stands for what decides a training or figures; the dataset's own hash knows neither classes, loads nor places."""
    card, tiles = dataset.card, dataset.manifest
    classes = [asdict(one) for one in card.classes]
    places = [tiles[name].to_pylist() for name in ("tile_id", "unit")]
    return sha256_of([settings, card.dataset_sha256, classes, places, scrapray.__version__])[:_HASH_CHARACTERS]


def comparison_rows(table: str, measured: Sequence[Measured]) -> list[Row]:
    """``schema.COMPARISON``: mean and spread over the runs of each entry."""
    return [row for each in measured for row in _rows_of(table, each)]


def _rows_of(table: str, measured: Measured) -> Iterator[Row]:
    entry, runs = measured.entry, measured.runs
    same = {"table": table, "label": entry.label}
    if not runs:
        yield {**same, "class_name": ANY, "figure": FIGURES[1], "num_runs": 0, "reason": measured.reason}
        return
    for class_name, figure in runs[0].figures:
        found = [run.figures[class_name, figure] for run in runs]
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
            "reason": next((row["reason"] for row in found if row["reason"]), measured.reason),
        }


def _mean_of(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows]
    return None if None in values else mean(values)
