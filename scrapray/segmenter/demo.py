"""The demo bundle: a small CLIP finetuned by the paper's recipe on drawn scrap, and measured on drawn scrap.

Seeds of training and test never meet. Thresholds are set later, on whole loads.

Shapes: N tiles, H x W pixels, K contaminants, h x w cells of a score map.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from scipy import ndimage

from scrapray.errors import ConfigurationError, ModelError
from scrapray.imagery.augmentation import AugmentConfig, augment
from scrapray.imagery.components import EIGHT_CONNECTED
from scrapray.imagery.tiling import blend_tiles
from scrapray.labels import SCRAP_CONTAMINANTS
from scrapray.segmenter.bundle import (
    CARD,
    BundleCard,
    load_bundle,
    load_for_training,
    read_card,
    save_bundle,
)
from scrapray.segmenter.checkpoint import steps_done
from scrapray.segmenter.drawn_tiles import Tiles, TileSource, keep_tiles
from scrapray.segmenter.fit import FitConfig, FitProgress, TilePair, fit
from scrapray.segmenter.losses import tiles_per_class
from scrapray.segmenter.measure import OVERLAP_PX, STRIDE_PX, Figures, cpu_is_made_for_bf16, score_tiles
from scrapray.segmenter.mining import mined_windows
from scrapray.segmenter.model import Segmenter, SegmenterConfig, build_segmenter
from scrapray.statistics.metrics import ScoreHistogram

_TEST_SEED = 2_000_000
_MINING_SEEDS = range(1_000_000, _TEST_SEED, 10_000)
_MOST_MININGS = 10
_NAMES = tuple(contaminant.name for contaminant in SCRAP_CONTAMINANTS)

_DECIDES_NOTHING = ("report_every_steps", "checkpoint_every_steps", "device", "autocast")
"""Settings of a fit by which the same phase is still the same."""

FrameSource = Callable[[int], Iterator[TilePair]]
"""Seed -> whole frames without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Part of the training: from the averaged weights of the phase before, or from the CLIP, to a bundle of its own.

    Attributes:
        fit: Length and learning rates.
        num_training: Pictures to train on, again and again, each time varied: the first of those that are drawn, so
            that a later phase can have all pictures of an earlier one and more.
        input_px: Side of the segmenter's input, to which all tiles are resized.
        tile_px: Side of the close tiles.
        wide_tile_px: Side of the wide ones.
        wide_only_steps: First steps, with wide tiles only, which show more scrap in the same time.
        wide_share: Share of steps with wide tiles among the later ones.
        aimed_share: Share of tiles in the later steps that are cut around a contaminant, if the picture has one. Of
            close tiles few show one otherwise.
        mine_after_steps: After each of these steps, windows of whole frames on which the segmenter is wrong join the
            phase, see ``mining``; 0 is before its first step.
        num_mined: Windows that join each time.
        num_false_alarms: Of them, those around false alarms, per frame.
        mined_share: Share of these windows from then on.
    """

    fit: FitConfig
    num_training: int
    input_px: int
    tile_px: int
    wide_tile_px: int
    wide_only_steps: int = 0
    wide_share: float = 0.25
    aimed_share: float = 0.5
    mine_after_steps: tuple[int, ...] = ()
    num_mined: int = 1_024
    num_false_alarms: int = 12
    mined_share: float = 0.4

    def __post_init__(self) -> None:
        last = self.fit.max_steps
        if last is None:
            raise ConfigurationError("a phase needs max_steps, since it is trained in pieces")
        if not 0 <= self.wide_only_steps <= last:
            raise ConfigurationError(f"wide_only_steps is {self.wide_only_steps}, must be 0 to max_steps, {last}")
        if list(self.mine_after_steps) != sorted({each for each in self.mine_after_steps if 0 <= each < last}):
            raise ConfigurationError(f"mine_after_steps are {self.mine_after_steps}, must ascend, each below {last}")
        if not 0 < self.tile_px < self.wide_tile_px:
            raise ConfigurationError(f"tile_px is {self.tile_px}, must be less than wide_tile_px, {self.wide_tile_px}")

    def as_dict(self) -> dict[str, Any]:
        """What decides the weights, as plain values for JSON."""
        values = asdict(self)
        for name in _DECIDES_NOTHING:
            del values["fit"][name]
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTraining:
    """How the demo bundle is made.

    Attributes:
        segmenter: What is built around the CLIP; each phase sets its own input size.
        phases: One after the other.
        drawn_px: Side of the pictures drawn for training, from which tiles are cut at any place.
        test_px: Side of the test pictures.
        num_test: Test pictures, on which the figures of the card are taken.
        seed: Of the training pictures; those of the test and of mined frames have their own.
        workers: Processes that draw.
    """

    segmenter: SegmenterConfig
    phases: tuple[Phase, ...]
    drawn_px: int
    test_px: int
    num_test: int
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        for phase in self.phases:
            if phase.wide_tile_px > self.drawn_px:
                raise ConfigurationError(f"wide_tile_px is {phase.wide_tile_px}, more than drawn_px, {self.drawn_px}")
            if len(phase.mine_after_steps) > _MOST_MININGS:
                raise ConfigurationError(f"{len(phase.mine_after_steps)} minings in a phase, at most {_MOST_MININGS}")


def train_demo_bundle(
    clip_dir: Path,
    run_dir: Path,
    bundle_dir: Path,
    demo: DemoTraining,
    source: TileSource,
    frames: FrameSource,
    report: Callable[[str], None] = print,
) -> BundleCard:
    """Draw, finetune, measure beside the frozen CLIP, and write the bundle, with thresholds still to be set.

    Args:
        clip_dir: The CLIP to begin from, as ``tower.save_clip`` writes it.
        run_dir: Takes pictures, and ``phase-<n>`` with checkpoint and bundle of each phase; with the same folder,
            training goes on where it stopped, and a phase whose bundle is there is done. To train a phase longer or
            otherwise, remove its bundle and the folders of those after it.
        bundle_dir: Takes the bundle.
        demo: How to make it.
        source: Draws tiles.
        frames: Draws the frames that are mined.
        report: Takes lines of progress.

    Raises:
        ModelError: A phase in the folder was made with other settings than it has now.
    """
    keep = partial(keep_tiles, source=source, workers=demo.workers, report=report)
    test = keep(run_dir / "test", demo.num_test, demo.test_px, demo.seed + _TEST_SEED)
    model, weights = str(clip_dir / "model.json"), clip_dir / "weights.safetensors"
    done_dirs: list[Path] = []
    for number, phase in enumerate(demo.phases, start=1):
        report(f"phase {number} of {len(demo.phases)}: {phase.fit.max_steps} steps at {phase.input_px} px")
        run = _PhaseRun(number, phase, demo, run_dir, frames, report)
        if not run.is_done:
            if done_dirs:
                segmenter = load_for_training(done_dirs[-1], model=model, weights=weights, input_px=phase.input_px)
            else:
                config = replace(demo.segmenter, input_px=phase.input_px)
                segmenter = build_segmenter(config, SCRAP_CONTAMINANTS, model=model, weights=weights, seed=demo.seed)
            run.train(segmenter, keep(run_dir / "training", phase.num_training, demo.drawn_px, demo.seed))
        done_dirs.append(run.bundle_dir)
    last, finetuned = demo.phases[-1], load_bundle(done_dirs[-1]).model
    frozen = frozen_segmenter(finetuned.config, model, weights)
    sides_px = (last.tile_px, last.wide_tile_px)
    return save_bundle(
        bundle_dir,
        finetuned,
        name="demo",
        version="2",
        tile_px=last.tile_px,
        wide_tile_px=last.wide_tile_px,
        trained_on={
            "what": "drawn scrap only: it knows nothing of real scrap",
            "start": "miniature-clip",
            "phases": [phase.as_dict() for phase in demo.phases],
        },
        metrics={
            "measured_on": f"{len(test)} drawn pictures of {demo.test_px} px with seeds never used in training, all "
            "pixels",
            "finetuned": measure(score_all(finetuned, test, sides_px), test),
            "frozen_clip": measure(score_all(frozen, test, sides_px), test),
        },
    )


@dataclass(frozen=True, slots=True)
class _PhaseRun:
    """One phase under way, in a folder of its own."""

    number: int
    phase: Phase
    demo: DemoTraining
    run_dir: Path
    frames: FrameSource
    report: Callable[[str], None]

    @property
    def folder(self) -> Path:
        return self.run_dir / f"phase-{self.number}"

    @property
    def bundle_dir(self) -> Path:
        return self.folder / "bundle"

    @property
    def so_far(self) -> dict[str, Any]:
        """This phase and those before it, for a card."""
        return {"phases": [phase.as_dict() for phase in self.demo.phases[: self.number]]}

    @property
    def is_done(self) -> bool:
        if not (self.bundle_dir / CARD).exists():
            return False
        if read_card(self.bundle_dir).trained_on != self.so_far:
            raise ModelError(
                f"{self.bundle_dir} was made with other settings than those of phase {self.number} and the ones before "
                f"it; remove it and all later phases to train them again"
            )
        return True

    def train(self, segmenter: Segmenter, training: Tiles) -> None:
        """Train in pieces, between which windows are mined, and save the bundle."""
        phase, checkpoint = self.phase, self.folder / "checkpoint.pt"
        assert phase.fit.max_steps is not None
        mined: list[Tiles] = []
        seed = (self.demo.seed, self.number)
        for start, end in itertools.pairwise(
            sorted({0, phase.wide_only_steps, *phase.mine_after_steps, phase.fit.max_steps})
        ):
            done = steps_done(checkpoint)
            if start in phase.mine_after_steps:
                mined.append(self._mine(len(mined) + 1, segmenter.eval()))
            shown = varied_tiles(training, mined, phase, seed, start)
            fit(
                segmenter,
                varied_tiles(training, mined, phase, seed, max(start, done)),
                replace(
                    phase.fit,
                    max_steps=end,
                    loss_px=(phase.wide_tile_px if start < phase.wide_only_steps else phase.tile_px) // STRIDE_PX,
                ),
                tiles_per_class=count_per_class(itertools.islice(shown, len(training))) if done < end else None,
                checkpoint=checkpoint,
                watch=lambda progress, _: self.report(progress_line(progress)),
            )
        self._save(self.bundle_dir, segmenter, f"phase-{self.number}", phase.tile_px)

    def _mine(self, number: int, segmenter: Segmenter) -> Tiles:
        """Windows on which the segmenter is wrong; begun and cut off, they stay those of the segmenter of that time."""
        phase, demo = self.phase, self.demo
        folder = self.folder / f"mined-{number}"
        if not (folder / "bundle" / CARD).exists():
            knows_wide_only = phase.mine_after_steps[number - 1] < phase.wide_only_steps
            self._save(folder / "bundle", segmenter, folder.name, None if knows_wide_only else phase.tile_px)
        return keep_tiles(
            folder,
            phase.num_mined,
            demo.drawn_px,
            demo.seed + _MINING_SEEDS[_MOST_MININGS * (self.number - 1) + number - 1],
            partial(_mined_tiles, folder / "bundle", self.frames, phase.num_false_alarms),
            workers=demo.workers,
            report=self.report,
        )

    def _save(self, folder: Path, segmenter: Segmenter, version: str, tile_px: int | None) -> None:
        """A bundle for tiles of this side and wide ones, or for wide ones only."""
        wide_px = self.phase.wide_tile_px
        save_bundle(
            folder,
            segmenter,
            name="demo",
            version=version,
            tile_px=tile_px or wide_px,
            wide_tile_px=wide_px if tile_px else None,
            trained_on=self.so_far,
        )


def _mined_tiles(
    bundle_dir: Path, frames: FrameSource, num_false_alarms: int, seed: int, side_px: int
) -> Iterator[TilePair]:
    return mined_windows(load_bundle(bundle_dir), frames(seed), side_px, num_false_alarms)


def varied_tiles(
    drawn: Tiles, mined: Sequence[Tiles], phase: Phase, seed: Sequence[int], first_step: int = 0
) -> Iterator[TilePair]:
    """Tiles without end, from drawn and mined pictures in random order: each from another place, turned, mirrored and
    in another light. Without all this a few thousand pictures are soon known by heart. Tiles of one step are of one
    size. Another first step gives another order.
    """
    rng = np.random.default_rng((*seed, first_step))
    pools = [_in_random_order(rng, pictures) for pictures in (drawn, *mined)]
    mined_share = phase.mined_share if mined else 0.0
    shares = [1 - mined_share, *(mined_share / len(mined) for _ in mined)]
    has_close_ones = first_step >= phase.wide_only_steps
    while True:
        side_px = phase.tile_px if has_close_ones and rng.random() >= phase.wide_share else phase.wide_tile_px
        for pool in rng.choice(len(pools), size=phase.fit.batch_size, p=shares):
            image_HW3, class_HW = next(pools[pool])
            if pool > 0:  # what was mined is in the middle
                centre_px = len(class_HW) // 2
                middle = (slice(max(centre_px - side_px, 0), centre_px + side_px),) * 2
                image_HW3, class_HW = image_HW3[middle], class_HW[middle]
            top, left = _place(rng, class_HW, side_px, has_close_ones and rng.random() < phase.aimed_share)
            here = np.s_[top : top + side_px, left : left + side_px]
            turns = int(rng.integers(4))
            image_HW3, class_HW = (np.rot90(array[here], turns) for array in (image_HW3, class_HW))
            yield augment(rng, image_HW3, class_HW, AugmentConfig(flip=True, light=0.3))


def count_per_class(tiles: Iterable[TilePair]) -> list[int]:
    """Tiles that show each class, as training shows them: in larger pictures hardly one would be of steel only."""
    seen = (class_HW[::STRIDE_PX, ::STRIDE_PX].ravel() for _, class_HW in tiles)
    return tiles_per_class(np.stack([np.bincount(ids, minlength=1 + len(SCRAP_CONTAMINANTS)) for ids in seen]))


def _place(rng: np.random.Generator, class_HW: NDArray[np.uint8], side_px: int, is_aimed: bool) -> NDArray[np.int64]:
    """Top and left of a tile: anywhere, or around any point of any contaminant, all of them equally often."""
    last_2 = np.array(class_HW.shape) - side_px
    if not is_aimed or not class_HW[::STRIDE_PX, ::STRIDE_PX].any():
        return rng.integers(last_2 + 1)
    labels_hw, number = ndimage.label(class_HW[::STRIDE_PX, ::STRIDE_PX], structure=EIGHT_CONNECTED)
    points_P2 = np.argwhere(labels_hw == rng.integers(number) + 1) * STRIDE_PX
    top_left_2: NDArray[np.int64] = rng.choice(points_P2) - rng.integers(side_px, size=2)
    return top_left_2.clip(0, last_2)


def _in_random_order(rng: np.random.Generator, pictures: Tiles) -> Iterator[TilePair]:
    while True:
        for place in rng.permutation(len(pictures)):
            yield pictures[int(place)]


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


def score_all(segmenter: Segmenter, pictures: Tiles, tile_sides_px: Sequence[int]) -> NDArray[np.float32]:
    """Scores of any contaminant and of each one, (N, 1 + K, h, w), of pictures cut into tiles of these sides."""
    blend = partial(
        blend_tiles,
        score_tiles=partial(score_tiles, segmenter, autocast=cpu_is_made_for_bf16()),
        sides_px=tile_sides_px,
        overlap_px=OVERLAP_PX,
        stride_px=STRIDE_PX,
    )
    return np.stack([blend(image_HW3) for image_HW3, _ in _each(pictures)])


def measure(scores_NCHW: NDArray[np.float32], tiles: Tiles) -> dict[str, Any]:
    """Figures for a card: pixels of each contaminant and of all together, with the recall where F1 is highest."""
    ends = np.cumsum([len(chunk) for chunk in tiles.classes])
    chunks = zip(np.split(scores_NCHW, ends[:-1]), tiles.classes, strict=True)
    figures = reduce(add, (Figures.of(scores, classes, _NAMES) for scores, classes in chunks))
    return {"pixels": {name: _with_recall(histogram) for name, histogram in figures.histograms.items()}}


def _with_recall(histogram: ScoreHistogram) -> dict[str, Any]:
    found = histogram.metrics()
    return asdict(found) | {"recall": None if found.f1_threshold is None else histogram.recall_at(found.f1_threshold)}


def _each(tiles: Tiles) -> Iterator[TilePair]:
    return (tiles[place] for place in range(len(tiles)))
