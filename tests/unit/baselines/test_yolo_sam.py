"""YOLO and SAM with random weights: ultralytics' own training on our tiles, its boxes, SAM's masks in them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scrapray.baselines.yolo_sam import YoloSam, YoloSamConfig, train_yolo
from scrapray.errors import ModelError

pytest.importorskip("ultralytics", reason="needs the extra yolo (AGPL): pip install 'scrapray[yolo]'")

NAMES = ("motor", "cable", "spray can")
SETTINGS = YoloSamConfig(
    version="11", size="n", weights="random", input_px=64, epochs=2, batch_size=4, max_instances=5, min_score=1e-6
)


class Tiles:
    """A bright square of the second class on dark ground, and every third tile without one."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        image_HW3, class_HW = np.full((64, 64, 3), 30, np.uint8), np.zeros((64, 64), np.uint8)
        if place % 3:
            image_HW3[8:40, 8 + place : 40 + place] = (220, 40, 40)
            class_HW[8:40, 8 + place : 40 + place] = 2
        return image_HW3, class_HW


@pytest.mark.filterwarnings("ignore")  # of ultralytics and what it uses
def test_it_is_trained_on_tiles_and_finds_what_sam_outlines(tmp_path: Path, masker: str) -> None:
    config = replace(SETTINGS, masker=masker)
    steps: list[tuple[int, int]] = []
    trained = train_yolo(
        config,
        Tiles(),
        Tiles(),
        len(NAMES),
        tmp_path,
        "12",
        "cpu",
        lambda done, total, loss: steps.append((done, total)),
    )
    assert steps == [(2, 4), (4, 4)]
    labels = {path.name: path.read_text() for path in (tmp_path / "tiles" / "labels" / "train").iterdir()}
    assert labels["0000000.txt"] == ""
    assert labels["0000001.txt"].startswith("1 0.140625 0.125 ")  # class, then corners as shares of the side
    detector = YoloSam(config, len(NAMES))
    detector.learned.load_state_dict(trained.state_dict())
    tiles_NHW3 = np.stack([Tiles()[place][0] for place in range(3)])
    found_N = list(detector(tiles_NHW3))
    assert len(found_N) == 3
    for found in found_N:
        assert 1 <= len(found.scores_I) <= 5
        assert found.masks_IHW.shape == (len(found.scores_I), 64, 64) and found.masks_IHW.dtype == np.bool_
        assert set(found.labels_I.tolist()) <= {1, 2, 3}
    again = train_yolo(config, Tiles(), Tiles(), len(NAMES), tmp_path, "12", "cpu")
    assert all((again.state_dict()[name] == value).all() for name, value in trained.state_dict().items())


def test_weights_that_cannot_be_had_are_named(tmp_path: Path) -> None:
    (tmp_path / "torn.pt").write_bytes(b"torn")
    config = replace(SETTINGS, weights=str(tmp_path / "torn.pt"))
    with pytest.raises(ModelError, match=r"weights .*torn\.pt of yolo11n-seg cannot be had: .*; give a \.pt file"):
        train_yolo(config, Tiles(), Tiles(), len(NAMES), tmp_path, "12", "cpu")


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_was_cut_goes_on_with_the_epoch_it_was_at(tmp_path: Path) -> None:
    config = replace(SETTINGS, epochs=3)
    seen: list[int] = []

    def cut(done: int, total: int, loss: float) -> None:
        seen.append(done)
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_yolo(config, Tiles(), Tiles(), len(NAMES), tmp_path, "12", "cpu", cut)
    train_yolo(config, Tiles(), Tiles(), len(NAMES), tmp_path, "12", "cpu", lambda done, total, loss: seen.append(done))
    assert seen == [2, 4, 4, 6]
