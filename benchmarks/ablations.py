"""What finetuning and the multi-scale mechanism bring, on drawn scrap: the ablations of the paper, on the small CLIP.

    python benchmarks/ablations.py [--folder runs/ablations] [--seeds 0 1 2] [--pictures 4800] [--loads 72] [--epochs 1]

Draws pictures to train on, half of which show a contaminant, and whole 4K frames that show few, to judge by;
prepares them, trains each variant with each seed and makes the table. Ten to twenty minutes a run on one core; stopped,
it goes on with the run that it was at.
"""

import argparse
import datetime as dt
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scrapray.config import CameraConfig
from scrapray.datasets.config import DatasetConfig, FixedDates, SplitConfig, TilesConfig
from scrapray.datasets.prepare import prepare_dataset
from scrapray.datasets.read import open_dataset
from scrapray.evaluation.comparison import METHODS, SCALES, Comparison, Measured
from scrapray.evaluation.config import BundleConfig, EvaluateConfig
from scrapray.evaluation.tables import write_comparison
from scrapray.imagery.scenes import CAMERA_ID, draw_archive, draw_tiles
from scrapray.screen import progress
from scrapray.segmenter.measure import ANY, cpu_is_made_for_bf16
from scrapray.storage import Storage
from scrapray.training.loop import CURVE

ENTRIES = [*(entry for entry in METHODS if entry.profiles == ("frozen",)), *SCALES]
SEED = 5_000_000
"""Of all that is drawn; used nowhere else."""
PICTURE_PX, TILE_PX = 256, 128
TRAINING, VALIDATION, TEST = (dt.date(2026, 11, day) for day in (1, 2, 3))
WINDOW_PX = ((896, 568), (2944, 568), (2944, 1592), (896, 1592))
"""Corners of the part of the truck bed that is judged, so that a run is measured within minutes."""
SMOOTHED = 10
"""Points of a learning curve that are drawn as one."""
FINETUNE = f"""profiles = ["demo"]

[segmenter]
input_px = {TILE_PX}

[training]
loss_px = {TILE_PX // 4}
epochs = EPOCHS
autocast = AUTOCAST

[optim]
lr_vision = 6e-4
lr_prompt = 1e-3
lr_msm = 2e-3

[workers]
cpus_per_worker = 1
loaders = 0
"""


def main() -> None:
    given = arguments(__doc__).parse_args()
    comparison = drawn_comparison(given, EvaluateConfig())
    measured = comparison.measure(ENTRIES)
    opened = open_dataset(comparison.dataset_uri, Storage())
    page, written = write_comparison(measured, opened, "ablations", "Ablations", given.folder)
    learning = given.folder / "ablations-learning.svg"
    draw_learning(measured, given.folder / "runs", learning)
    print(page, *written, learning, sep="\n")


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pictures", type=int, default=4_800)
    parser.add_argument("--loads", type=int, default=72)
    parser.add_argument("--epochs", type=int, default=1)
    return parser


def drawn_comparison(given: argparse.Namespace, config: EvaluateConfig) -> Comparison:
    """Draw and prepare what is compared on, as far as it is not there yet."""
    archive = given.folder / f"archive-{given.pictures}-{given.loads}"
    dataset = given.folder / f"drawn-{given.pictures}-{given.loads}"
    if not (archive / "done").exists():
        draw(archive, given.pictures, given.loads)
        (archive / "done").touch()
    print(prepare_dataset("masks", str(archive), str(dataset), config=DATASET, command="benchmarks/ablations.py"))
    finetune = given.folder / "finetune.toml"
    is_bf16 = cpu_is_made_for_bf16()
    finetune.write_text(FINETUNE.replace("EPOCHS", str(given.epochs)).replace("AUTOCAST", str(is_bf16).lower()))
    return Comparison(
        dataset_uri=str(dataset),
        folder=given.folder,
        config=replace(config, bundle=BundleConfig(autocast=is_bf16)),
        profiles=(),
        finetune=finetune,
        seeds=given.seeds,
    )


DATASET = DatasetConfig(
    cameras={
        CAMERA_ID: CameraConfig(bed_polygon_px=WINDOW_PX),
        "window": CameraConfig(bed_polygon_px=((0, 0), (PICTURE_PX, 0), (PICTURE_PX,) * 2, (0, PICTURE_PX))),
    },
    tiles=TilesConfig(tile_px=TILE_PX, overlap_px=0),
    split=SplitConfig(
        fixed=(
            FixedDates(split="train", first=TRAINING, last=TRAINING),
            FixedDates(split="validation", first=VALIDATION, last=VALIDATION),
            FixedDates(split="test", first=TEST, last=TEST),
        )
    ),
)


def draw(archive: Path, num_pictures: int, num_loads: int) -> None:
    """Pictures of one date, and a frame of each load of two more; a sixth of the loads are for validation."""
    with progress("pictures drawn") as report:
        tiles = draw_tiles(SEED, PICTURE_PX, cell_px=TILE_PX, contaminated_share=0.3)
        for number, (image_HW3, class_HW) in enumerate(itertools.islice(tiles, num_pictures)):
            path = archive / f"north-yard/{TRAINING}/0001/P{number:05d}/window_000000.jpg"
            write(path, image_HW3, class_HW)
            report(number + 1, num_pictures)
    for date, seed, num in ((VALIDATION, SEED, num_loads // 6), (TEST, SEED + 1, num_loads - num_loads // 6)):
        with progress(f"frames of {date} drawn") as report:
            draw_archive(archive, num_loads=num, frames_per_load=1, seed=seed, date=date, masks=True, progress=report)


def draw_learning(measured: Sequence[Measured], runs: Path, path: Path) -> None:
    """Loss of the similarity maps, which all variants have, as training went on; a line for each seed."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for number, each in enumerate(measured):
        for seed, run in enumerate(each.runs):
            name = run.figures[ANY, "average_precision"]["subject"].split()[-1]
            *_, last = sorted(runs.glob(f"{name}/checkpoint_*/{CURVE}"))
            told = [one for one in json.loads(last.read_text()) if "loss" in one]
            loss = np.array([one["similarity_focal"] + one["similarity_dice"] for one in told])
            smooth = np.convolve(loss, np.ones(SMOOTHED) / SMOOTHED, mode="valid")
            steps = [one["step"] for one in told][SMOOTHED - 1 :]
            axes.plot(steps, smooth, color=f"C{number}", linewidth=1, label=None if seed else each.entry.label)
    axes.set(xlabel="step", ylabel=f"loss of the similarity maps, mean of {SMOOTHED} points")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def write(path: Path, image_HW3: NDArray[np.uint8], class_HW: NDArray[np.uint8]) -> None:
    """A picture and the class of each pixel beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(cv2.imencode(".jpg", image_HW3[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))[1]))
    path.with_suffix(".png").write_bytes(bytes(cv2.imencode(".png", class_HW)[1]))


if __name__ == "__main__":
    main()
