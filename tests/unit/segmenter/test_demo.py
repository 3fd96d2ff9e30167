import itertools
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional as F

from scrapray.errors import ConfigurationError, ModelError
from scrapray.labels import CONTAMINANT_PROMPT, SCRAP_CONTAMINANTS, STEEL_PROMPT
from scrapray.segmenter.bundle import load_bundle
from scrapray.segmenter.demo import (
    DemoTraining,
    Phase,
    count_per_class,
    frozen_segmenter,
    measure,
    train_demo_bundle,
    varied_tiles,
)
from scrapray.segmenter.drawn_tiles import Tiles, keep_tiles
from scrapray.segmenter.fit import FitConfig, TilePair
from scrapray.segmenter.measure import STRIDE_PX
from scrapray.segmenter.model import SegmenterConfig
from scrapray.segmenter.step import OptimConfig
from scrapray.segmenter.tower import ClipConfig, build_clip, new_clip, save_clip
from tests.unit.segmenter.test_drawn_tiles import some_tiles, squares

TINY = ClipConfig(
    embed_dim=32,
    quick_gelu=True,
    vision_cfg={"image_size": 32, "layers": 2, "width": 64, "head_width": 64, "patch_size": 8},
    text_cfg={"context_length": 40, "vocab_size": 49408, "layers": 2, "width": 16, "heads": 1},
)
SETTINGS = SegmenterConfig(
    input_px=32, stages=(1, 2), dpam_from=None, prompt_depth=2, msm_hidden=8, msm_stage_weights=(0.5, 0.5)
)


PHASE = Phase(
    fit=FitConfig(batch_size=4, max_steps=3, report_every_steps=1),
    num_training=96,
    input_px=32,
    tile_px=48,
    wide_tile_px=64,
)
DEMO = DemoTraining(segmenter=SETTINGS, phases=(PHASE,), drawn_px=64, test_px=64, num_test=16)
GREY = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64), np.uint8)


def frames_of_squares(seed: int) -> Iterator[TilePair]:
    return squares(seed, 192)


def scores_of(tiles: Tiles) -> np.ndarray:
    """What a perfect segmenter would answer."""
    class_NHW = np.stack([tiles[place][1] for place in range(len(tiles))])
    return np.stack([class_NHW > 0, *(class_NHW == k for k in (1, 2, 3))], axis=1).astype(np.float16)


@pytest.fixture
def clip_dir(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_clip(new_clip(TINY), TINY, tmp_path / "clip")
    return tmp_path / "clip"


def test_pictures_and_classes_are_varied_together(tmp_path: Path) -> None:
    tiles = some_tiles(tmp_path)
    stream = varied_tiles(tiles, [], PHASE, (0,))
    for _ in range(2 * len(tiles)):
        image_HW3, class_HW = next(stream)
        assert image_HW3.shape == (*class_HW.shape, 3)
        for kind in np.unique(class_HW[class_HW > 0]):
            assert (image_HW3[class_HW == kind][:, kind - 1] > 150).all()
            assert (image_HW3[class_HW != kind][:, kind - 1] < 150).all()


def test_the_first_tiles_are_wide_and_later_ones_close_too_and_aimed_at_contaminants(tmp_path: Path) -> None:
    phase = replace(PHASE, tile_px=8, wide_tile_px=48, wide_only_steps=2, aimed_share=1.0)
    tiles = some_tiles(tmp_path)
    wide = varied_tiles(tiles, [], phase, (0,), 1)
    assert {next(wide)[0].shape for _ in range(50)} == {(48, 48, 3)}
    later = varied_tiles(tiles, [], phase, (0,), 2)
    steps = [[next(later)[1] for _ in range(phase.fit.batch_size)] for _ in range(400)]
    assert all(len({class_HW.shape for class_HW in step}) == 1 for step in steps)
    close = [class_HW for step in steps for class_HW in step if len(class_HW) == 8]
    assert len(close) / (400 * phase.fit.batch_size) == pytest.approx(1 - phase.wide_share, abs=0.08)
    with_something = sum(tiles[place][1].any() for place in range(len(tiles))) / len(tiles)
    assert np.mean([class_HW.any() for class_HW in close]) == pytest.approx(with_something, abs=0.05)


def test_of_a_mined_picture_the_middle_is_shown(tmp_path: Path) -> None:
    image_HW3, class_HW = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    image_HW3[24:40, 24:40] = 255
    mined = keep_tiles(tmp_path, 4, 64, 0, lambda seed, side_px: itertools.repeat((image_HW3, class_HW)))
    stream = varied_tiles(mined, [mined], replace(PHASE, tile_px=16, wide_share=0.0, mined_share=1.0), (0,))
    assert all(next(stream)[0].any() for _ in range(100))


def test_mined_pictures_are_met_as_often_as_asked_for(tmp_path: Path) -> None:
    grey = keep_tiles(tmp_path, 4, 64, 0, lambda seed, side_px: itertools.repeat(GREY))
    stream = varied_tiles(some_tiles(tmp_path), [grey, grey], PHASE, (0,))
    met = sum(not np.ptp(next(stream)[0], axis=(0, 1)).any() for _ in range(1_000))
    assert met == pytest.approx(1_000 * PHASE.mined_share, abs=60)


def test_classes_are_counted_by_the_tiles_that_training_shows(tmp_path: Path) -> None:
    tiles, phase = some_tiles(tmp_path, 128), replace(PHASE, tile_px=16, wide_share=0.0, aimed_share=0.0)
    shown = list(itertools.islice(varied_tiles(tiles, [], phase, (0,)), 400))
    kinds = [set(np.unique(class_HW[::STRIDE_PX, ::STRIDE_PX])) for _, class_HW in shown]
    counts = count_per_class(shown)
    assert counts == [sum(kind == {0} for kind in kinds), *(sum(k in kind for kind in kinds) for k in (1, 2, 3))]
    whole = count_per_class([tiles[place] for place in range(len(tiles))])
    assert counts[0] / 400 > 0.7 > 0.6 > whole[0] / 128, "of whole pictures every second one shows a contaminant"


def test_a_mining_that_was_killed_while_it_wrote_its_bundle_goes_on(tmp_path: Path, clip_dir: Path) -> None:
    phase = replace(PHASE, mine_after_steps=(1,), num_mined=8, num_false_alarms=2)
    demo = replace(DEMO, phases=(phase,), drawn_px=96, test_px=64, workers=1)
    (tmp_path / "run" / "phase-1" / "mined-1" / "bundle").mkdir(parents=True)
    train_demo_bundle(clip_dir, tmp_path / "run", tmp_path / "demo", demo, squares, frames_of_squares)
    assert load_bundle(tmp_path / "run" / "phase-1" / "mined-1" / "bundle").card.version == "mined-1"


def test_a_phase_goes_on_from_the_bundle_of_the_one_before(tmp_path: Path, clip_dir: Path) -> None:
    still = replace(PHASE, fit=replace(PHASE.fit, max_steps=1, optim=OptimConfig(warmup_steps=1_000_000)))
    larger = replace(
        still, num_training=160, input_px=64, tile_px=64, wide_tile_px=96, mine_after_steps=(0,), num_mined=8
    )
    demo = replace(DEMO, phases=(PHASE, larger), drawn_px=96, test_px=96, workers=1)
    lines: list[str] = []
    card = train_demo_bundle(
        clip_dir, tmp_path / "run", tmp_path / "demo", demo, squares, frames_of_squares, lines.append
    )
    small, large = (load_bundle(tmp_path / folder) for folder in ("run/phase-1/bundle", "demo"))
    assert (small.card.input_px, card.input_px, card.tile_sides_px) == (32, 64, (64, 96))
    before, after = small.model.state(), large.model.state()
    for name in before.keys() - {"visual.positional_embedding"}:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-3)
    second = lines.index(next(line for line in lines if "at 64 px" in line))
    assert "training: 96 of 96 pictures drawn" in lines[:second]
    assert lines[second + 1 : second + 4] == [
        "training: 128 of 160 pictures drawn",
        "training: 160 of 160 pictures drawn",
        "mined-1: 8 of 8 pictures drawn",
    ]


def test_a_phase_whose_bundle_is_there_is_done(tmp_path: Path, clip_dir: Path) -> None:
    last = replace(PHASE, fit=replace(PHASE.fit, max_steps=1))
    demo = replace(DEMO, phases=(PHASE, last), workers=1)
    train_demo_bundle(clip_dir, tmp_path / "run", tmp_path / "demo", demo, squares, frames_of_squares)
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "run" / "phase-1" / "bundle", other / "phase-1" / "bundle")
    lines: list[str] = []
    train_demo_bundle(clip_dir, other, tmp_path / "demo-2", demo, squares, frames_of_squares, lines.append)
    assert sum(line.startswith("step") for line in lines) == 1
    at_once, in_pieces = (load_bundle(tmp_path / name).card.weights_sha256 for name in ("demo", "demo-2"))
    assert at_once == in_pieces

    longer = replace(PHASE, fit=replace(PHASE.fit, max_steps=4))
    with pytest.raises(ModelError, match=r"phase-1.bundle was made with other settings .* remove it and all later"):
        train_demo_bundle(
            clip_dir, other, tmp_path / "demo-3", replace(demo, phases=(longer, last)), squares, frames_of_squares
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fit": FitConfig()}, "needs max_steps"),
        ({"wide_only_steps": 4}, "wide_only_steps is 4, must be 0 to max_steps, 3"),
        ({"mine_after_steps": (3,)}, r"mine_after_steps are \(3,\), must ascend, each below 3"),
        ({"mine_after_steps": (2, 1)}, "must ascend"),
        ({"tile_px": 64}, "tile_px is 64, must be less than wide_tile_px, 64"),
    ],
)
def test_a_phase_that_would_fail_after_hours_is_refused_at_once(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replace(PHASE, **changes)


def test_tiles_and_minings_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="wide_tile_px is 96, more than drawn_px, 64"):
        replace(DEMO, phases=(replace(PHASE, wide_tile_px=96),))
    often = replace(PHASE, fit=replace(PHASE.fit, max_steps=20), mine_after_steps=tuple(range(11)))
    with pytest.raises(ConfigurationError, match="11 minings in a phase, at most 10"):
        replace(DEMO, phases=(often,))


def test_a_perfect_map_has_perfect_figures(tmp_path: Path) -> None:
    tiles = some_tiles(tmp_path)
    found = measure(scores_of(tiles), tiles)
    assert found["pixels"]["any"]["average_precision"] == 1
    assert found["pixels"]["motor"]["recall"] == 1


def test_recall_is_that_at_the_highest_f1(tmp_path: Path) -> None:
    tiles = some_tiles(tmp_path)
    missed_NCHW = np.random.default_rng(0).random(scores_of(tiles).shape) < 0.25
    found = measure(np.where(missed_NCHW, 0, scores_of(tiles)), tiles)["pixels"]["motor"]
    assert 0.6 < found["recall"] < 0.9
    assert found["f1_max"] == pytest.approx(2 * found["recall"] / (1 + found["recall"]))


def test_the_frozen_segmenter_reads_plain_sentences(clip_dir: Path) -> None:
    model, weights = str(clip_dir / "model.json"), clip_dir / "weights.safetensors"
    frozen = frozen_segmenter(SETTINGS, model, weights)
    clip, _ = build_clip(model, weights)
    texts = [f"an {text}." for text in (STEEL_PROMPT, *(CONTAMINANT_PROMPT.format(c.name) for c in SCRAP_CONTAMINANTS))]
    ids = open_clip.SimpleTokenizer()(texts, context_length=clip.context_length)
    with torch.no_grad():
        expected = F.normalize(clip.encode_text(ids), dim=-1)
    torch.testing.assert_close(frozen.class_text_CE, expected, rtol=1e-5, atol=1e-6)


def test_from_tiles_to_a_bundle_in_pieces(tmp_path: Path, clip_dir: Path) -> None:
    phase = replace(PHASE, wide_tile_px=64, wide_only_steps=1, mine_after_steps=(2,), num_mined=8, num_false_alarms=2)
    demo = replace(DEMO, phases=(phase,), drawn_px=96, test_px=64, workers=1)
    lines: list[str] = []
    made = partial(train_demo_bundle, clip_dir, tmp_path / "run", tmp_path / "bundle", demo, squares, frames_of_squares)
    made(lines.append)
    card = made(lines.append)
    bundle = load_bundle(tmp_path / "bundle")
    assert (bundle.card.weights_sha256, bundle.card.trained_on["phases"][0]["fit"]["max_steps"]) == (
        card.weights_sha256,
        3,
    )
    assert card.metrics["frozen_clip"]["pixels"]["any"]["prevalence"] > 0
    assert sum(line.startswith("step") for line in lines) == 3
    assert "training: 96 of 96 pictures drawn" in lines
    assert (
        lines.index("mined-1: 8 of 8 pictures drawn")
        == lines.index(next(line for line in lines if "step 2 " in line)) + 1
    )
    assert bundle.score_tiles(np.zeros((1, 48, 48, 3), np.uint8), 12).shape == (1, 3, 12, 12)
    assert bundle.card.tile_px == load_bundle(tmp_path / "run" / "phase-1" / "mined-1" / "bundle").card.tile_px == 48
