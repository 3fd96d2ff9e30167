"""Build the production segmenter (ViT-L/14@336 at 518 px) with random weights, score tiles, train, and save a bundle.

Prints for each part the seconds it took, the seconds of all cores together (which other programs on the machine
disturb less) and the peak memory so far. It says nothing about accuracy: weights are random.

    python benchmarks/vit_l_518.py [--tiles 1] [--train]
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from scrapray.labels import SCRAP_CONTAMINANTS
from scrapray.segmenter.bundle import load_bundle, save_bundle
from scrapray.segmenter.model import Segmenter, build_segmenter, prepare_tiles
from scrapray.segmenter.step import make_batch, make_optimizer, train_step
from scrapray.training.profiles import read_finetune

PAPER = read_finetune(None, ("paper",))
TILE_PX = 512
STEPS = 2


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextmanager
def measured(part: str) -> Iterator[None]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    yield
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(f"{part:<14}{wall_s:6.1f} s  {cpu_s:6.1f} core s   peak {peak_gib():4.1f} GiB")


def build() -> Segmenter:
    with measured("build"):
        segmenter = build_segmenter(PAPER.segmenter, SCRAP_CONTAMINANTS, model=PAPER.start.clip, weights=None)
    for part, module in segmenter.named_children():
        print(f"  {part:<12}{sum(p.numel() for p in module.parameters()) / 1e6:6.1f} M parameters")
    return segmenter


def score(segmenter: Segmenter, tiles_NHW3: np.ndarray) -> None:
    segmenter.eval()
    for tile_1HW3 in np.split(tiles_NHW3, len(tiles_NHW3)):
        with measured("score a tile"):
            prepared = prepare_tiles(torch.from_numpy(tile_1HW3), segmenter.config.input_px, segmenter.clip_config)
            scores = segmenter.score(prepared, TILE_PX // 4)
        assert scores.classes_NKHW.isfinite().all()


def train(segmenter: Segmenter, tile_HW3: np.ndarray) -> None:
    optimizer = make_optimizer(segmenter, PAPER.optim, STEPS)
    segmenter.train()
    optimizer.train()
    ids_HW = np.zeros((TILE_PX, TILE_PX), np.uint8)
    ids_HW[200:234, 200:234] = 1
    batch = make_batch([(tile_HW3, ids_HW)], segmenter, segmenter.config.input_px)
    for _ in range(STEPS):
        with measured("train a step"):
            report = train_step(
                segmenter,
                optimizer,
                [batch],
                weights_C=torch.ones(1 + len(segmenter.classes)),
                multiscale_stage_weights=segmenter.config.msm_stage_weights,
                loss=PAPER.loss,
                clip_norm=PAPER.optim.clip_norm,
            )
        print(f"  loss {report.loss:.3f}, gradient norm {report.grad_norm:.2f}")
    optimizer.eval()
    segmenter.eval()


def save(segmenter: Segmenter, folder: Path) -> None:
    with measured("save a bundle"):
        save_bundle(folder, segmenter, name="random", version="1", tile_px=TILE_PX)
    print(f"  {sum(path.stat().st_size for path in folder.iterdir()) / 2**30:.2f} GiB")
    with measured("load it"):
        load_bundle(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=1, help="tiles to score, one by one")
    parser.add_argument("--train", action="store_true", help="also train on one tile and save a bundle (14 GiB)")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    tiles_NHW3 = np.random.default_rng(0).integers(0, 256, (arguments.tiles, TILE_PX, TILE_PX, 3), dtype=np.uint8)
    segmenter = build()
    score(segmenter, tiles_NHW3)
    if arguments.train:
        train(segmenter, tiles_NHW3[0])
        with tempfile.TemporaryDirectory() as folder:
            save(segmenter, Path(folder, "bundle"))


if __name__ == "__main__":
    main()
