"""Mask R-CNN with random weights: what it is trained on, what it finds, and that both are the same thing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from scrapray.baselines.maskrcnn import MaskRcnn, MaskRcnnConfig, targets_of
from scrapray.errors import ModelError

SETTINGS = MaskRcnnConfig(weights="random", input_px=64, max_instances=20)


def pair(at: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A bright square of the second class on dark ground."""
    image_HW3, class_HW = np.full((64, 64, 3), 30, np.uint8), np.zeros((64, 64), np.uint8)
    image_HW3[at : at + 32, at : at + 32] = 220
    class_HW[at : at + 32, at : at + 32] = 2
    return image_HW3, class_HW


def test_each_connected_piece_of_a_class_is_an_instance() -> None:
    class_HW = np.zeros((10, 12), np.uint8)
    class_HW[1:3, 1:4] = 1
    class_HW[3, 4] = 1  # joined by its corner
    class_HW[7:9, 2:5] = 1
    class_HW[6, 9] = 3  # a single pixel has a box too
    found = targets_of(class_HW)
    assert found["labels"].tolist() == [1, 1, 3]
    assert found["boxes"].tolist() == [[1, 1, 5, 4], [2, 7, 5, 9], [9, 6, 10, 7]]
    assert found["masks"].sum(dim=(1, 2)).tolist() == [7, 6, 1]
    assert torch.equal(found["masks"].sum(dim=0) > 0, torch.from_numpy(class_HW > 0))


def test_a_tile_of_steel_is_trained_on_as_one_without_instances() -> None:
    found = targets_of(np.zeros((10, 12), np.uint8))
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "boxes": (0, 4),
        "labels": (0,),
        "masks": (0, 10, 12),
    }
    detector = MaskRcnn(SETTINGS, 3)
    detector.learned.train()
    steel = np.full((64, 64, 3), 30, np.uint8), np.zeros((64, 64), np.uint8)
    assert torch.isfinite(detector.loss([steel, pair()]))


@pytest.mark.slow  # 30 s on a quiet core, and minutes on a busy one
def test_it_learns_what_it_is_shown() -> None:
    torch.manual_seed(0)
    detector = MaskRcnn(replace(SETTINGS, learning_rate=0.002), 3)
    detector.learned.train()
    optimizer = detector.optimizer()
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = detector.loss([pair(), pair(20)])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.6 * np.mean(losses[:3])


def test_scores_come_down_to_the_floor_and_masks_have_the_size_of_the_tile() -> None:
    detector = MaskRcnn(replace(SETTINGS, min_score=0.05), 3)
    (found,) = detector(pair()[0][None])
    assert len(found.scores_I) == SETTINGS.max_instances
    assert found.masks_IHW.shape == (SETTINGS.max_instances, 64, 64)
    assert found.scores_I.min() >= 0.05 and set(found.labels_I.tolist()) <= {1, 2, 3}
    (none,) = MaskRcnn(replace(SETTINGS, min_score=0.99), 3)(pair()[0][None])
    assert none.masks_IHW.shape == (0, 64, 64)


@pytest.fixture(scope="module")
def coco_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in a file as torchvision's own detector has it."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "maskrcnn.pth"
    state = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    torch.save({name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}, path)
    return path


def test_a_file_of_torchvisions_weights_is_taken_whole_but_for_the_heads(coco_file: Path) -> None:
    detector = MaskRcnn(replace(SETTINGS, weights=str(coco_file)), 3)
    state = torch.load(coco_file, weights_only=True)
    mine = detector.learned.state_dict()
    new = {name for name in mine if name not in state or not torch.equal(mine[name], state[name])}
    assert {name.rsplit(".", 2)[0] for name in new} <= {
        "roi_heads.box_predictor",
        "roi_heads.mask_predictor",
    }
    frozen = {name for name, parameter in detector.learned.named_parameters() if not parameter.requires_grad}
    assert frozen and all(name.startswith(("backbone.body.conv1", "backbone.body.layer1")) for name in frozen)


@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_a_file_that_holds_no_such_weights_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"other\.pth"):
        MaskRcnn(replace(SETTINGS, weights=str(path)), 3)
    with pytest.raises(ModelError, match="cannot be had"):
        MaskRcnn(replace(SETTINGS, weights=str(tmp_path / "absent.pth")), 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_score": 0.0}, "min_score is 0.0, must be between 0 and 1"),
        ({"input_px": 8}, "input_px is 8, must be 32 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SETTINGS, **changes)
