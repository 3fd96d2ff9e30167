"""The demo bundle: a small CLIP finetuned by the paper's recipe on drawn scrap, and measured on drawn scrap.

Drawn tiles are kept on disk, so that training can be cut and nothing is drawn twice. Seeds of training and test
never meet. Thresholds are set later, on whole loads.

Shapes: N tiles, H x W pixels, K contaminants, h x w cells of a score map.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from scipy import ndimage

from scrapray.imagery.augmentation import AugmentConfig, augment
from scrapray.imagery.components import Component, find_components
from scrapray.labels import SCRAP_CONTAMINANTS
from scrapray.segmenter.bundle import BundleCard, load_bundle, save_bundle, write_card
from scrapray.segmenter.checkpoint import steps_done
from scrapray.segmenter.fit import FitConfig, FitProgress, TilePair, fit
from scrapray.segmenter.losses import tiles_per_class
from scrapray.segmenter.measure import STRIDE_PX, Figures, score_tiles
from scrapray.segmenter.model import Segmenter, SegmenterConfig, build_segmenter

MIN_AREA_PX = 100
OBJECT_BANDS_PX = (15, 30, 60, 120)
"""Lower ends of the bands of length by which recall of objects is told."""

_CHUNK = 128
_BATCH = 8
_TEST_SEED = 2_000_000
_EIGHT_CONNECTED = np.ones((3, 3), np.bool_)
_NAMES = tuple(contaminant.name for contaminant in SCRAP_CONTAMINANTS)

TileSource = Callable[[int, int], Iterator[TilePair]]
"""Seed, side in px -> tiles without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTraining:
    """How the demo bundle is made.

    Attributes:
        segmenter: What is built around the CLIP.
        fit: Length and learning rates of the finetuning.
        tile_px: Side of the tiles that the segmenter sees.
        drawn_px: Side of the pictures drawn for training, from which tiles are cut at any place.
        num_training: Pictures to train on, again and again, each time varied.
        num_test: Tiles on which the figures of the card are taken.
        seed: Of the training tiles; those of the test have their own.
        workers: Processes that draw.
    """

    segmenter: SegmenterConfig
    fit: FitConfig
    tile_px: int
    drawn_px: int
    num_training: int
    num_test: int
    seed: int = 0
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Tiles:
    """Drawn tiles on disk.

    Attributes:
        images: Per chunk (n, H, W, 3), RGB, uint8.
        classes: Per chunk (n, H, W): 0 steel, 1..K contaminants.
    """

    images: tuple[NDArray[np.uint8], ...]
    classes: tuple[NDArray[np.uint8], ...]

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self.images)

    def __getitem__(self, place: int) -> TilePair:
        chunk, row = divmod(place, _CHUNK)
        return self.images[chunk][row], self.classes[chunk][row]

    def count_per_class(self) -> list[int]:
        """Tiles that show each class; steel counts where nothing else does."""
        seen = (classes_HW[::STRIDE_PX, ::STRIDE_PX] for chunk in self.classes for classes_HW in chunk)
        return tiles_per_class(np.stack([np.bincount(classes.ravel(), minlength=1 + len(_NAMES)) for classes in seen]))


def keep_tiles(
    folder: Path,
    num: int,
    side_px: int,
    seed: int,
    source: TileSource,
    *,
    workers: int = 1,
    report: Callable[[str], None] = lambda line: None,
) -> Tiles:
    """Draw tiles into a folder, chunk by chunk; chunks that are there already are read."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, num, _CHUNK)
    with ProcessPoolExecutor(workers) as pool:
        jobs = [(folder, start, min(_CHUNK, num - start), side_px, seed, source) for start in starts]
        paths = []
        for start, pair in zip(starts, pool.map(_keep_chunk, jobs), strict=True):
            paths.append(pair)
            report(f"{folder.name}: {min(start + _CHUNK, num)} of {num} pictures drawn")
    chunks = [(np.load(images, mmap_mode="r"), np.load(classes, mmap_mode="r")) for images, classes in paths]
    return Tiles(*zip(*chunks, strict=True))


def _keep_chunk(job: tuple[Path, int, int, int, int, TileSource]) -> tuple[Path, Path]:
    folder, start, num, side_px, seed, source = job
    paths = tuple(folder / f"{seed}-{side_px}-{start:06d}-{num}-{what}.npy" for what in ("images", "classes"))
    if not all(path.exists() for path in paths):
        drawn = zip(*itertools.islice(source(seed + start, side_px), num), strict=True)
        for path, arrays in zip(paths, drawn, strict=True):
            partial = path.with_suffix(".part")
            with partial.open("wb") as file:
                np.save(file, np.stack(arrays))
            partial.replace(path)
    return paths[0], paths[1]


def train_demo_bundle(
    clip_dir: Path,
    run_dir: Path,
    bundle_dir: Path,
    demo: DemoTraining,
    source: TileSource,
    report: Callable[[str], None] = print,
) -> BundleCard:
    """Draw, finetune, measure beside the frozen CLIP, and write the bundle, with thresholds still to be set.

    Args:
        clip_dir: The CLIP to begin from, as ``tower.save_clip`` writes it.
        run_dir: Takes tiles and checkpoint; with the same folder, training goes on where it stopped.
        bundle_dir: Takes the bundle.
        demo: How to make it.
        source: Draws tiles.
        report: Takes lines of progress.
    """
    training = keep_tiles(
        run_dir / "training",
        demo.num_training,
        demo.drawn_px,
        demo.seed,
        source,
        workers=demo.workers,
        report=report,
    )
    test = draw_test_tiles(run_dir, demo, source, report)
    model, weights = str(clip_dir / "model.json"), clip_dir / "weights.safetensors"
    segmenter = build_segmenter(demo.segmenter, SCRAP_CONTAMINANTS, model=model, weights=weights, seed=demo.seed)
    checkpoint = run_dir / "checkpoint.pt"
    steps = fit(
        segmenter,
        varied_tiles(training, demo.tile_px, (demo.seed, steps_done(checkpoint))),
        demo.fit,
        tiles_per_class=training.count_per_class(),
        checkpoint=checkpoint,
        watch=lambda progress, _: report(progress_line(progress)),
    )
    frozen = frozen_segmenter(demo.segmenter, model, weights)
    return save_bundle(
        bundle_dir,
        segmenter,
        name="demo",
        version="1",
        tile_px=demo.tile_px,
        trained_on={
            "what": "drawn scrap only: it knows nothing of real scrap",
            "start": "miniature-clip",
            "steps": steps,
            "pictures": len(training),
            "settings": asdict(demo.fit),
        },
        metrics={
            "measured_on": f"{len(test)} drawn tiles with seeds never used in training, every {STRIDE_PX} px",
            "finetuned": measure(score_all(segmenter, test), test),
            "frozen_clip": measure(score_all(frozen, test), test),
        },
    )


def measure_at_thresholds(bundle_dir: Path, test: Tiles) -> BundleCard:
    """Write into a bundle's card what it finds and misses with its thresholds."""
    bundle = load_bundle(bundle_dir)
    found = measure(score_all(bundle.model, test), test, bundle.card.thresholds)
    card = replace(bundle.card, metrics={**bundle.card.metrics, "finetuned": found})
    write_card(bundle_dir, card)
    return card


def draw_test_tiles(
    run_dir: Path, demo: DemoTraining, source: TileSource, report: Callable[[str], None] = lambda line: None
) -> Tiles:
    """The tiles on which the figures of the card are taken."""
    seed = demo.seed + _TEST_SEED
    return keep_tiles(run_dir / "test", demo.num_test, demo.tile_px, seed, source, workers=demo.workers, report=report)


def varied_tiles(drawn: Tiles, tile_px: int, seed: tuple[int, ...]) -> Iterator[TilePair]:
    """Tiles without end, from drawn pictures in random order: each from another place, turned, mirrored and in
    another light. Without all this a few thousand pictures are soon known by heart.
    """
    rng = np.random.default_rng(seed)
    while True:
        for place in rng.permutation(len(drawn)):
            image_HW3, class_HW = drawn[int(place)]
            top, left = rng.integers(np.array(class_HW.shape) - tile_px + 1)
            turns = int(rng.integers(4))
            image_HW3, class_HW = (
                np.rot90(array[top : top + tile_px, left : left + tile_px], turns) for array in (image_HW3, class_HW)
            )
            yield augment(rng, image_HW3, class_HW, AugmentConfig(flip=True, light=0.3))


def progress_line(progress: FitProgress) -> str:
    """One line for the log."""
    mean = progress.mean
    return (
        f"step {progress.step}  {progress.seconds:.0f} s  {progress.tiles_per_second:.1f} tiles/s  loss {mean.loss:.3f}"
        f"  (similarity {mean.similarity_focal:.3f} + {mean.similarity_dice:.3f}, multi-scale "
        f"{mean.multiscale_focal:.3f} + {mean.multiscale_dice:.3f})  gradient {mean.grad_norm:.2f}"
    )


def frozen_segmenter(config: SegmenterConfig, model: str, weights: Path) -> Segmenter:
    """The same code without any finetuning: plain sentences in place of learned contexts, similarity maps only."""
    plain = replace(config, num_context=1, deep_length=1, prompt_depth=1, similarity_share=1.0)
    segmenter = build_segmenter(plain, SCRAP_CONTAMINANTS, model=model, weights=weights)
    article = open_clip.SimpleTokenizer().encode("an")[0]
    assert segmenter.text is not None
    with torch.no_grad():
        segmenter.prompts.context_CPd.copy_(segmenter.text.token_embedding.weight[article])
    return segmenter.eval()


def score_all(segmenter: Segmenter, tiles: Tiles) -> NDArray[np.float16]:
    """Scores of any contaminant and of each one: (N, 1 + K, h, w)."""
    batches = (chunk[first : first + _BATCH] for chunk in tiles.images for first in range(0, len(chunk), _BATCH))
    return np.concatenate([score_tiles(segmenter, tiles_NHW3).astype(np.float16) for tiles_NHW3 in batches])


def measure(
    scores_NCHW: NDArray[np.float16], tiles: Tiles, thresholds_K: Sequence[float] | None = None
) -> dict[str, Any]:
    """Figures for a card: pixels of each contaminant and of all together; with thresholds, also components."""
    ends = np.cumsum([len(chunk) for chunk in tiles.classes])
    chunks = zip(np.split(scores_NCHW, ends[:-1]), tiles.classes, strict=True)
    histograms = reduce(add, (Figures.of(scores, classes, _NAMES) for scores, classes in chunks)).histograms
    pixels = {name: asdict(histogram.metrics()) for name, histogram in histograms.items()}
    if thresholds_K is None:
        return {"pixels": pixels}
    for name, threshold in zip(_NAMES, thresholds_K, strict=True):
        pixels[name] |= {"threshold": threshold, "recall_at_threshold": histograms[name].recall_at(threshold)}
    return {"pixels": pixels, **_measure_objects(scores_NCHW, tiles, thresholds_K)}


def _measure_objects(scores_NCHW: NDArray[np.float16], tiles: Tiles, thresholds_K: Sequence[float]) -> dict[str, Any]:
    """Share of objects that a component of any contaminant touches, by length; and false components per tile."""
    num_false = 0
    found = {f"{name}, {low} px or more": [0, 0] for name in _NAMES for low in OBJECT_BANDS_PX}
    for maps_CHW, (_, class_HW) in zip(scores_NCHW, _each(tiles), strict=True):
        hit_HW = np.zeros(class_HW.shape, np.bool_)
        for component in _components(maps_CHW, thresholds_K):
            num_false += not _covered(component, class_HW).any()
            left, top, right, bottom = component.bbox_xyxy
            hit_HW[top:bottom, left:right] |= component.mask
        for k, name in enumerate(_NAMES, start=1):
            labels_HW, _ = ndimage.label(class_HW == k, structure=_EIGHT_CONNECTED)
            for label, box in enumerate(ndimage.find_objects(labels_HW), start=1):
                length_px = max(side.stop - side.start for side in box)
                band = max((low for low in OBJECT_BANDS_PX if low <= length_px), default=None)
                if band is not None:
                    tally = found[f"{name}, {band} px or more"]
                    tally[0] += bool((hit_HW[box] & (labels_HW[box] == label)).any())
                    tally[1] += 1
    return {
        "false_components_per_tile": num_false / len(tiles),
        "objects_found_of": {band: tally for band, tally in found.items() if tally[1]},
    }


def _each(tiles: Tiles) -> Iterator[TilePair]:
    return (tiles[place] for place in range(len(tiles)))


def _components(maps_CHW: NDArray[np.float16], thresholds_K: Sequence[float]) -> list[Component]:
    side_px = maps_CHW.shape[-1] * STRIDE_PX
    whole_HW = np.ones((side_px, side_px), np.bool_)
    return find_components(maps_CHW[1:].astype(np.float32), thresholds_K, whole_HW, STRIDE_PX, MIN_AREA_PX)


def _covered(component: Component, class_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    left, top, right, bottom = component.bbox_xyxy
    return class_HW[top:bottom, left:right][component.mask]
