import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scrapray.errors import ConfigurationError, ModelError
from scrapray.segmenter.checkpoint import steps_done
from scrapray.segmenter.fit import FitConfig, FitProgress, TilePair, fit
from scrapray.segmenter.model import Segmenter, prepare_tiles
from scrapray.segmenter.step import OptimConfig
from tests.fixtures.pictures import make_tiny_segmenter

OPTIM = OptimConfig(lr_vision=1e-3, lr_prompt=1e-2, lr_msm=1e-2, warmup_steps=2)


def settings(**changes: Any) -> FitConfig:
    return FitConfig(**({"batch_size": 2, "loss_px": 20, "max_steps": 4, "optim": OPTIM} | changes))


def squares(seed: int = 0) -> Iterator[TilePair]:
    """Grey tiles with now and then a square of a colour that tells its class."""
    rng = np.random.default_rng(seed)
    for number in itertools.count():
        tile_HW3 = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        ids_HW = np.zeros((64, 64), np.uint8)
        if label := number % 4:
            y, x = rng.integers(0, 40, 2)
            tile_HW3[y : y + 24, x : x + 24, label - 1] += 180
            ids_HW[y : y + 24, x : x + 24] = label
        yield tile_HW3, ids_HW


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return make_tiny_segmenter(tmp_path)


def test_training_stops_after_the_steps_asked_for_in_evaluation_mode(segmenter: Segmenter) -> None:
    assert fit(segmenter, squares(), settings(max_steps=3)) == 3
    assert not segmenter.training


def test_training_stops_when_its_seconds_are_over(segmenter: Segmenter) -> None:
    assert fit(segmenter, squares(), settings(max_steps=None, max_seconds=0.0)) == 1


def test_a_training_that_is_over_takes_no_further_step(segmenter: Segmenter, tmp_path: Path) -> None:
    config = settings(max_steps=2)
    assert fit(segmenter, squares(), config, checkpoint=tmp_path / "checkpoint.pt") == 2
    before = {name: value.clone() for name, value in segmenter.state().items()}
    assert fit(segmenter, squares(), config, checkpoint=tmp_path / "checkpoint.pt") == 2
    for name, value in segmenter.state().items():  # averaged weights lose a bit on the way to training and back
        torch.testing.assert_close(value, before[name], rtol=1e-5, atol=1e-6)


def test_training_uses_up_a_finite_stream_with_its_incomplete_last_batch(segmenter: Segmenter) -> None:
    seen: list[FitProgress] = []
    pairs = itertools.islice(squares(), 5)
    config = settings(max_steps=None, report_every_steps=1)
    assert fit(segmenter, pairs, config, watch=lambda progress, _: seen.append(progress)) == 3
    assert [progress.step for progress in seen] == [1, 2, 3]


def test_the_watcher_gets_means_since_its_last_look_and_a_segmenter_ready_to_score(segmenter: Segmenter) -> None:
    reports: list[FitProgress] = []

    def watch(progress: FitProgress, watched: Segmenter) -> None:
        assert not watched.training
        reports.append(progress)

    fit(segmenter, squares(), settings(max_steps=5, report_every_steps=2), watch=watch)
    assert [report.step for report in reports] == [2, 4, 5]
    assert all(report.tiles_per_second > 0 and report.mean.loss > 0 for report in reports)


def test_training_in_pieces_is_bit_equal_to_training_at_a_stretch(tmp_path: Path) -> None:
    whole, first, second = (make_tiny_segmenter(tmp_path) for _ in range(3))
    fit(whole, squares(), settings(max_steps=6, checkpoint_every_steps=3), checkpoint=tmp_path / "whole.pt")
    parts = tmp_path / "parts.pt"
    assert fit(first, squares(), settings(max_steps=3), checkpoint=parts) == steps_done(parts) == 3
    assert fit(second, itertools.islice(squares(), 6, None), settings(max_steps=6), checkpoint=parts) == 6
    assert all(torch.equal(value, second.state()[name]) for name, value in whole.state().items())


def test_a_checkpoint_holds_the_averaged_weights(segmenter: Segmenter, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "checkpoint.pt"
    fit(segmenter, squares(), settings(), checkpoint=path)
    saved = torch.load(path, weights_only=True)
    assert all(torch.equal(value, segmenter.state()[name]) for name, value in saved["segmenter"].items())
    assert not any(group["train_mode"] for group in saved["optimizer"]["param_groups"])
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_broken_write_leaves_the_last_checkpoint(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    fit(segmenter, squares(), settings(max_steps=1), checkpoint=path)

    def disk_full(_: Any, part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="no space"):
        fit(segmenter, squares(), settings(max_steps=2), checkpoint=path)
    assert steps_done(path) == 1


def test_rates_asked_for_now_count_when_training_goes_on(segmenter: Segmenter, tmp_path: Path) -> None:
    """With all rates at nearly nothing the second piece must not move the iterate."""
    path = tmp_path / "checkpoint.pt"
    fit(segmenter, squares(), settings(max_steps=2), checkpoint=path)
    before = torch.load(path, weights_only=True)["optimizer"]["state"]
    tiny = OptimConfig(lr_vision=1e-30, lr_prompt=1e-30, lr_msm=1e-30, warmup_steps=0)
    fit(segmenter, squares(), settings(max_steps=3, optim=tiny), checkpoint=path)
    after = torch.load(path, weights_only=True)["optimizer"]["state"]
    for key in before:
        torch.testing.assert_close(after[key]["z"], before[key]["z"], rtol=0, atol=1e-20)


def test_a_checkpoint_of_another_segmenter_is_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    fit(segmenter, squares(), settings(max_steps=1), checkpoint=path)
    with pytest.raises(ModelError, match="checkpoint of another segmenter"):
        fit(make_tiny_segmenter(tmp_path, temperature=0.1), squares(), settings(), checkpoint=path)
    frozen = OptimConfig(lr_vision=0, lr_prompt=1e-2, lr_msm=1e-2)
    with pytest.raises(ModelError, match="trained other parts"):
        fit(make_tiny_segmenter(tmp_path), squares(), settings(optim=frozen), checkpoint=path)


@pytest.mark.parametrize("content", ["text", "other"])
def test_a_file_that_is_not_a_checkpoint_is_refused(content: str, segmenter: Segmenter, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    if content == "text":
        path.write_text("not a checkpoint")
    else:
        torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"checkpoint\.pt: not .*; remove it to start again"):
        fit(segmenter, squares(), settings(), checkpoint=path)


def test_steps_done_of_no_checkpoint_are_none(tmp_path: Path) -> None:
    assert steps_done(tmp_path / "none.pt") == 0


def test_class_counts_weigh_the_loss_and_must_be_one_per_class(segmenter: Segmenter, tmp_path: Path) -> None:
    losses = []
    for counts in (None, (1000, 1, 1, 1)):
        fit(
            make_tiny_segmenter(tmp_path),
            squares(),
            settings(max_steps=1),
            tiles_per_class=counts,
            watch=lambda progress, _: losses.append(progress.mean.similarity_focal),
        )
    assert losses[0] != pytest.approx(losses[1], rel=1e-2)
    with pytest.raises(ConfigurationError, match="tiles_per_class has 2 counts, needs 4"):
        fit(segmenter, squares(), settings(), tiles_per_class=(1, 1))


def test_a_few_seconds_of_training_find_coloured_squares_of_unseen_tiles(tmp_path: Path) -> None:
    segmenter = make_tiny_segmenter(tmp_path, stages=(2, 3), msm_stage_weights=(0.3, 0.7))
    fit(segmenter, squares(), settings(max_steps=40, batch_size=4))
    pairs = list(itertools.islice(squares(seed=9), 1, 4))
    tiles = prepare_tiles(torch.from_numpy(np.stack([tile for tile, _ in pairs])), 80, segmenter.clip_config)
    for scores_KHW, (_, ids_HW) in zip(segmenter.score(tiles, 64).classes_NKHW, pairs, strict=True):
        label = int(ids_HW.max())
        truth_HW = torch.from_numpy(ids_HW == label)
        inside, outside = scores_KHW[label - 1][truth_HW].mean(), scores_KHW[label - 1][~truth_HW].mean()
        assert inside > 2 * outside


@pytest.mark.parametrize("name", ["batch_size", "report_every_steps", "checkpoint_every_steps"])
def test_a_setting_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is 0"):
        FitConfig(**{name: 0})
