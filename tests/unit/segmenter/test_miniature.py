import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from scrapray.errors import ModelError
from scrapray.imagery.things import NAMES
from scrapray.segmenter.miniature import (
    Drawings,
    MiniatureTraining,
    draw_collection,
    measure_zero_shot,
    train_miniature_clip,
)
from scrapray.segmenter.tower import ClipConfig, build_clip, new_clip

TINY = ClipConfig(
    embed_dim=32,
    quick_gelu=True,
    vision_cfg={"image_size": 32, "layers": 2, "width": 64, "head_width": 64, "patch_size": 8},
    text_cfg={"context_length": 40, "vocab_size": 49408, "layers": 1, "width": 16, "heads": 1},
)


def training(**changes: int | float) -> MiniatureTraining:
    few: dict[str, int | float] = {
        "num_drawings": 32,
        "num_held_out": 32,
        "batch_size": 16,
        "max_steps": 4,
        "warmup_steps": 1,
        "report_every_steps": 1,
        "checkpoint_every_steps": 2,
        "workers": 1,
    }
    return MiniatureTraining(**(few | changes))  # type: ignore[arg-type]


class KilledError(Exception):
    pass


def test_a_training_that_was_killed_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def stop_after_the_checkpoint(line: str) -> None:
        if line.startswith("step 2  names"):
            raise KilledError

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_miniature_clip(whole, whole / "bundle", training(), config=TINY, report=lambda line: None)
    with pytest.raises(KilledError):
        train_miniature_clip(cut, cut / "bundle", training(), config=TINY, report=stop_after_the_checkpoint)
    lines: list[str] = []
    train_miniature_clip(cut, cut / "bundle", training(), config=TINY, report=lines.append)
    assert next(line for line in lines if line.startswith("step")).startswith("step 3/4")
    expected, found = (
        build_clip(str(run / "bundle/model.json"), run / "bundle/weights.safetensors")[0] for run in (whole, cut)
    )
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=0, atol=0)


def test_the_card_says_what_was_reached_and_what_chance_is(tmp_path: Path) -> None:
    reached = train_miniature_clip(tmp_path, tmp_path / "bundle", training(), config=TINY, report=lambda line: None)
    card = json.loads((tmp_path / "bundle/card.json").read_text())
    assert card["zero_shot"]["name_accuracy"] == reached.name_accuracy
    assert card["zero_shot"]["name_chance"] == 1 / len(NAMES)
    assert card["training"]["max_steps"] == 4


def test_pictures_and_captions_come_together(tmp_path: Path) -> None:
    losses: list[float] = []

    def note(line: str) -> None:
        if "loss" in line:
            losses.append(float(line.split("loss ")[1].split()[0]))

    settings = training(max_steps=60, report_every_steps=10, checkpoint_every_steps=60, learning_rate=3e-3)
    train_miniature_clip(tmp_path, tmp_path / "bundle", settings, config=TINY, report=note)
    assert losses[0] > 0.8 * math.log(16)
    assert losses[-1] < 0.8 * losses[0]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    train_miniature_clip(tmp_path, tmp_path / "bundle", training(), config=TINY, report=lambda line: None)
    with pytest.raises(ModelError, match="other settings"):
        train_miniature_clip(
            tmp_path, tmp_path / "bundle", training(learning_rate=0.5), config=TINY, report=lambda line: None
        )


def test_drawings_depend_on_the_seed_alone_and_are_drawn_once(tmp_path: Path) -> None:
    one = draw_collection(tmp_path / "one", 300, seed=5, size_px=16, workers=1)
    two = draw_collection(tmp_path / "two", 300, seed=5, size_px=16, workers=2)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()}
    again = draw_collection(tmp_path / "one", 300, seed=5, size_px=16)
    assert len(one.images_NHW3) == 300
    assert (one.images_NHW3 == two.images_NHW3).all()
    assert (one.captions_NK == again.captions_NK).all()
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()}


def test_an_even_collection_shows_each_name_equally_often(tmp_path: Path) -> None:
    drawn = draw_collection(tmp_path, 2 * len(NAMES), seed=0, size_px=16, evenly=True)
    assert (np.bincount(drawn.names_N) == 2).all()


def test_an_untrained_clip_names_things_by_chance() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    drawings = Drawings(
        rng.integers(0, 256, (640, 32, 32, 3), dtype=np.uint8),
        np.array([["a"]] * 640),
        np.arange(640) % len(NAMES),
        np.arange(640) % 2 == 0,
    )
    reached = measure_zero_shot(new_clip(TINY).eval(), TINY, drawings)
    assert reached.name_accuracy < 4 / len(NAMES)
    assert reached.steel_accuracy == pytest.approx(0.5, abs=0.1)
