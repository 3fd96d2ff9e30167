import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scrapray.errors import ConfigurationError
from scrapray.segmenter.losses import (
    LossConfig,
    class_balanced_weights,
    dice,
    focal,
    segmentation_loss,
    tiles_per_class,
)
from scrapray.training.order import balanced_chances, epoch_order

PAPER_TILES = (7838, 467, 172, 97)


@pytest.fixture(name="maps_SNCHW")
def _maps() -> Tensor:
    return torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0)).softmax(dim=2)


@pytest.fixture(name="labels_NHW")
def _labels() -> Tensor:
    return torch.randint(0, 3, (2, 3, 3), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0.9999, (0.0396, 0.4714, 1.2611, 2.2279)),
        (0.999, (0.192, 0.515, 1.215, 2.078)),
        (0.99, (0.828, 0.836, 1.007, 1.330)),
    ],
)
def test_class_balanced_weights_of_the_papers_tile_counts(beta: float, expected: tuple[float, ...]) -> None:
    weights = class_balanced_weights(PAPER_TILES, beta)
    assert weights.tolist() == pytest.approx(expected, abs=6e-4 if beta < 0.9999 else 6e-5)
    assert float(weights.sum()) == pytest.approx(4)


def test_pixel_counts_would_balance_nothing() -> None:
    weights = class_balanced_weights([count * 512 * 512 for count in PAPER_TILES], 0.9999)
    assert weights.tolist() == pytest.approx([1.0] * 4, abs=1e-4)


def test_a_class_without_tiles_has_no_weight_to_give() -> None:
    with pytest.raises(ConfigurationError, match=r"\[5, 0\], every class needs 1 or more"):
        class_balanced_weights([5, 0], 0.99)


def test_tiles_count_as_often_as_they_are_shown_and_steel_where_it_is_alone() -> None:
    class_px_NC = np.array([[100, 0, 0]] * 6 + [[90, 10, 0]] * 3 + [[80, 10, 10]])
    assert tiles_per_class(class_px_NC) == [6, 4, 1]
    chances_N = balanced_chances(class_px_NC)
    steel, first, second = tiles_per_class(class_px_NC, chances_N)
    shown = class_px_NC[epoch_order(100_000, seed=0, epoch=0, chances_N=np.tile(chances_N, 10_000)) % 10] > 0
    assert [(~shown[:, 1:].any(axis=1)).mean(), *shown[:, 1:].mean(axis=0)] == pytest.approx(
        [steel / 10, first / 10, second / 10], abs=0.06
    ), "to the nearest of ten tiles"


def test_focal_is_the_loop_over_pixels(maps_SNCHW: Tensor, labels_NHW: Tensor) -> None:
    weights = [0.5, 1.0, 2.0, 0.7]
    for stage, loss in enumerate(focal(maps_SNCHW, labels_NHW, torch.tensor(weights), 2.0)):
        terms = []
        for tile in range(2):
            for y in range(3):
                for x in range(3):
                    label = int(labels_NHW[tile, y, x])
                    p = float(maps_SNCHW[stage, tile, label, y, x])
                    terms.append(-weights[label] * (1 - p) ** 2 * math.log(p))
        assert float(loss) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_focal_without_gamma_and_weights_is_cross_entropy(maps_SNCHW: Tensor, labels_NHW: Tensor) -> None:
    losses = focal(maps_SNCHW, labels_NHW, torch.ones(4), 0.0)
    expected = [F.nll_loss(maps.log(), labels_NHW) for maps in maps_SNCHW]
    torch.testing.assert_close(losses, torch.stack(expected))


def test_focal_stays_finite_where_the_right_class_has_no_probability(labels_NHW: Tensor) -> None:
    maps = torch.zeros(1, 2, 4, 3, 3, requires_grad=True)
    loss = focal(maps, labels_NHW, torch.ones(4), 2.0).sum()
    loss.backward()
    assert loss.isfinite()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


@pytest.mark.parametrize("classes", ["all", "present"])
def test_dice_is_the_loop_over_tiles_and_classes(classes: str, maps_SNCHW: Tensor, labels_NHW: Tensor) -> None:
    for stage, loss in enumerate(dice(maps_SNCHW, labels_NHW, 1.0, classes)):
        terms = []
        for tile in range(2):
            for label in range(4):
                truth = (labels_NHW[tile] == label).float()
                p = maps_SNCHW[stage, tile, label]
                if classes == "all" or truth.any():
                    terms.append(1 - (2 * float((p * truth).sum()) + 1) / (float(p.sum() + truth.sum()) + 1))
        assert float(loss) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


@pytest.mark.parametrize("classes", ["all", "present"])
def test_dice_of_a_perfect_map_is_zero(classes: str, labels_NHW: Tensor) -> None:
    perfect = F.one_hot(labels_NHW, 4).permute(0, 3, 1, 2).float()[None]
    assert float(dice(perfect, labels_NHW, 1.0, classes)) == pytest.approx(0, abs=1e-6)


def test_the_whole_loss_is_the_weighted_sum_of_its_parts(maps_SNCHW: Tensor, labels_NHW: Tensor) -> None:
    config = LossConfig(gamma=1.5, dice_weight=0.3, similarity_weight=2.0, multiscale_weight=0.5)
    weights_C, stage_weights = torch.tensor([0.1, 1.0, 1.0, 2.0]), (0.1, 0.9)
    other_SNCHW = maps_SNCHW.flip(0, 2)
    terms = segmentation_loss(
        maps_SNCHW, other_SNCHW, labels_NHW, weights_C=weights_C, multiscale_stage_weights=stage_weights, config=config
    )
    total = 0.0
    for stage in range(2):
        for maps, weight in ((maps_SNCHW, 2.0), (other_SNCHW, 0.5 * stage_weights[stage])):
            one = maps[stage : stage + 1]
            total += weight * float(focal(one, labels_NHW, weights_C, 1.5) + 0.3 * dice(one, labels_NHW, 1.0))
    assert float(terms.total) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(
    ("setting", "message"), [({"beta": 1.0}, "beta is 1.0"), ({"gamma": -1}, "gamma is -1, must be 0 or more")]
)
def test_a_setting_out_of_range_is_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        LossConfig(**setting)
