"""AnomalyCLIP on a small CLIP with random weights; its forward pass is held by the golden arrays."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scrapray.baselines.anomalyclip import AnomalyClip, AnomalyClipConfig, local_loss
from scrapray.baselines.epochs import Schedule, run_epochs
from scrapray.errors import ConfigurationError, DivergedError, ModelError
from scrapray.labels import ANY_CONTAMINANT_PROMPT, STEEL_PROMPT
from scrapray.segmenter.fit import TilePair
from scrapray.segmenter.model import gaussian_blur, prepare_tiles, resize_map, similarity_map
from scrapray.segmenter.prompts import tokenize_prompts
from scrapray.segmenter.tower import build_clip, vision_stages
from tests.fixtures.pictures import TINY_CLIP

SETTINGS = AnomalyClipConfig(input_px=80, stages=(4,), dpam_from=2, prompt_depth=2, num_context=6, learning_rate=0.02)


def learner(tmp_path: Path, **changes: object) -> AnomalyClip:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY_CLIP))
    return AnomalyClip(*build_clip(str(path), None), replace(SETTINGS, **changes))


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and in every second tile something red."""
    image_HW3 = np.random.default_rng(seed).integers(0, 90, (64, 64, 3), np.uint8)
    class_HW = np.zeros((64, 64), np.uint8)
    if seed % 2:
        image_HW3[8:40, 16:56, 0] = 250
        class_HW[8:40, 16:56] = 1 + seed % 3
    return image_HW3, class_HW


TILES = [pair(seed) for seed in range(6)]
SHA256 = "12"


def test_losses_are_those_of_its_code_in_plain_loops() -> None:
    maps_N2HW = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    maps_N2HW = torch.cat([maps_N2HW, 1 - maps_N2HW], dim=1)
    flawed_NHW = torch.tensor([[[0, 1, 0], [1, 1, 0], [0, 0, 0]], [[0] * 3] * 3]).float()
    focal = 0.0
    for n in range(2):
        for y in range(3):
            for x in range(3):
                truth = int(flawed_NHW[n, y, x])
                likely = sum(float(maps_N2HW[n, c, y, x]) * (1 - 1e-5 if c == truth else 1e-5) for c in range(2))
                focal -= (1 - likely - 1e-5) ** 2 * math.log(likely + 1e-5) / 18
    dice = 0.0
    for c in range(2):
        for n in range(2):
            truth = flawed_NHW[n] if c else 1 - flawed_NHW[n]
            overlap = float((maps_N2HW[n, c] * truth).sum())
            dice += (1 - (2 * overlap + 1) / (float(maps_N2HW[n, c].sum() + truth.sum()) + 1)) / 2
    assert local_loss(maps_N2HW, flawed_NHW).item() == pytest.approx(focal + dice, rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("stages", [(4,), (1, 2, 4)])
def test_maps_and_tile_scores_are_softmaxes_of_cosines(stages: tuple[int, ...], tmp_path: Path) -> None:
    method = learner(tmp_path, stages=stages)
    tiles_NHW3 = np.stack([image_HW3 for image_HW3, _ in TILES])
    map_N1HW, tile_N = method(tiles_NHW3, 16)
    assert (map_N1HW.shape, tile_N.shape) == ((6, 1, 16, 16), (6,))
    clip, clip_config = build_clip(str(tmp_path / "tiny.json"), None)
    visual = method._visual  # resized; its weights are the CLIP's
    images_N3HW = prepare_tiles(torch.from_numpy(tiles_NHW3), 80, clip_config)
    tokens, class_NE = vision_stages(visual, images_N3HW, stages, 2, with_class_token=True)
    ids_2L = tokenize_prompts([STEEL_PROMPT, ANY_CONTAMINANT_PROMPT], 6, clip.context_length)
    text_2E = method.learned.class_features(method._text, ids_2L)
    maps = [resize_map(similarity_map(each[:, 1:], text_2E, 0.07, visual.grid_size), 16) for each in tokens]
    expected = gaussian_blur(torch.stack(maps).mean(dim=0)[:, 1:], 4.0 * 16 / 80)
    np.testing.assert_allclose(map_N1HW, expected, atol=1e-6)
    cosine_N2 = torch.nn.functional.normalize(class_NE, dim=-1) @ text_2E.T
    np.testing.assert_allclose(tile_N, (cosine_N2 / 0.07).softmax(dim=-1)[:, 1], atol=1e-6)
    alone, _ = method(tiles_NHW3[2:3], 16)
    np.testing.assert_allclose(alone, map_N1HW[2:3], atol=1e-6)


def test_training_moves_prompts_and_nothing_else_and_learns(tmp_path: Path) -> None:
    method = learner(tmp_path)
    tower = {name: value.clone() for name, value in method._visual.state_dict().items()}
    before = {name: value.clone() for name, value in method.learned.state_dict().items()}
    losses: list[float] = []
    schedule = Schedule(epochs=8, batch_size=3, seed=0)
    run_epochs(
        method, TILES, schedule, tmp_path / "checkpoint.pt", SHA256, lambda done, total, loss: losses.append(loss)
    )
    assert len(losses) == 16
    assert np.mean(losses[-2:]) < 0.9 * np.mean(losses[:2])
    assert all(torch.equal(value, tower[name]) for name, value in method._visual.state_dict().items())
    assert not any(torch.equal(value, before[name]) for name, value in method.learned.state_dict().items())


def test_an_epoch_can_show_some_of_the_tiles_and_the_next_one_others(tmp_path: Path) -> None:
    shown: list[int] = []

    class Noted:
        def __len__(self) -> int:
            return len(TILES)

        def __getitem__(self, place: int) -> TilePair:
            shown.append(place)
            return TILES[place]

    steps: list[tuple[int, int]] = []
    schedule = Schedule(epochs=3, batch_size=2, seed=0, tiles_per_epoch=3)
    run_epochs(
        learner(tmp_path),
        Noted(),
        schedule,
        tmp_path / "c.pt",
        SHA256,
        lambda done, total, _: steps.append((done, total)),
    )
    assert steps == [(step, 6) for step in range(1, 7)]
    assert len(shown) == 9 and len(set(shown[:3])) == 3
    assert len(set(shown)) > 3
    shown.clear()
    more = replace(schedule, epochs=1, tiles_per_epoch=10 * len(TILES))
    run_epochs(learner(tmp_path), Noted(), more, tmp_path / "all.pt", SHA256)
    assert sorted(shown) == list(range(len(TILES)))


def test_a_training_that_was_cut_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, cut = learner(tmp_path), learner(tmp_path)
    schedule = Schedule(epochs=3, batch_size=4, seed=5, warmup_steps=4)
    run_epochs(whole, TILES, schedule, tmp_path / "whole.pt", SHA256)
    run_epochs(cut, TILES, replace(schedule, epochs=1), tmp_path / "cut.pt", SHA256)
    again, steps = learner(tmp_path, seed=9), []
    run_epochs(again, TILES, schedule, tmp_path / "cut.pt", SHA256, lambda done, total, loss: steps.append(done))
    assert steps == [3, 4, 5, 6]
    for name, value in whole.learned.state_dict().items():
        assert torch.equal(again.learned.state_dict()[name], value), name


def test_what_cannot_go_on_says_so(tmp_path: Path) -> None:
    method = learner(tmp_path, learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"training diverged in step 2: loss .*; lower the learning rate$"):
        run_epochs(method, TILES, Schedule(epochs=9, batch_size=3, seed=0), tmp_path / "checkpoint.pt", SHA256)
    assert not (tmp_path / "checkpoint.pt").exists()
    (tmp_path / "torn.pt").write_bytes(b"torn")
    with pytest.raises(ModelError, match=r"torn\.pt is no checkpoint of this training; give another folder with --out"):
        run_epochs(learner(tmp_path), TILES, Schedule(epochs=1, batch_size=6, seed=0), tmp_path / "torn.pt", SHA256)
    with pytest.raises(ConfigurationError, match=r"stages are \(9,\) .* the towers have 4 and"):
        learner(tmp_path, stages=(9,))


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    checkpoint, schedule = tmp_path / "checkpoint.pt", Schedule(epochs=2, batch_size=6, seed=0)
    run_epochs(learner(tmp_path), TILES, replace(schedule, epochs=1), checkpoint, SHA256)
    other = learner(tmp_path, seed=9)
    before = {name: value.clone() for name, value in other.learned.state_dict().items()}
    with pytest.raises(ModelError, match=rf"other settings or another dataset; .* or delete the file {checkpoint} to"):
        run_epochs(other, TILES, schedule, checkpoint, "13")
    assert all(torch.equal(value, before[name]) for name, value in other.learned.state_dict().items())
    torch.save({name: value for name, value in torch.load(checkpoint).items() if name != "training_sha256"}, checkpoint)
    with pytest.raises(ModelError, match="is no checkpoint of this training; give another folder"):
        run_epochs(other, TILES, schedule, checkpoint, SHA256)


def test_weights_that_are_no_numbers_are_never_written(tmp_path: Path) -> None:
    """In the last step of an epoch no loss tells of them."""
    method, checkpoint = learner(tmp_path), tmp_path / "checkpoint.pt"

    def break_in_step_2(done: int, total: int, loss: float) -> None:
        if done == 2:
            next(method.learned.parameters()).data.view(-1)[:3] = float("inf")

    with pytest.raises(
        DivergedError, match=rf"by step 2: 3 weights are no .*; lower .*; then .* delete .* {checkpoint}"
    ):
        run_epochs(method, TILES, Schedule(epochs=2, batch_size=6, seed=0), checkpoint, SHA256, break_in_step_2)
    kept = torch.load(checkpoint)
    assert kept["epochs"] == 1
    assert all(value.isfinite().all() for value in kept["learned"].values())
