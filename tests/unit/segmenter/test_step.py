import copy
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import schedulefree
import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from scrapray.errors import ConfigurationError, ModelError
from scrapray.segmenter.losses import ClassMean, LossConfig
from scrapray.segmenter.model import Segmenter
from scrapray.segmenter.step import (
    OptimConfig,
    StepReport,
    TileBatch,
    evaluation_mode,
    make_batch,
    make_optimizer,
    train_step,
)
from tests.fixtures.pictures import make_tiny_segmenter

OPTIM = OptimConfig(lr_vision=1e-4, lr_prompt=1e-2, lr_msm=1e-3, warmup_steps=0)


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return make_tiny_segmenter(tmp_path)


@pytest.fixture
def batch(segmenter: Segmenter) -> TileBatch:
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), rng.integers(0, 4, (64, 64), dtype=np.uint8))
        for _ in range(2)
    ]
    return make_batch(pairs, segmenter, 32)


def step(
    module: nn.Module, optimizer: schedulefree.AdamWScheduleFree, batch: TileBatch, clip_norm: float = 1.0
) -> StepReport:
    return take_step(module, optimizer, [batch], clip_norm)


def take_step(
    module: nn.Module,
    optimizer: schedulefree.AdamWScheduleFree,
    batches: list[TileBatch],
    clip_norm: float = 1.0,
    classes: ClassMean = "all",
) -> StepReport:
    return train_step(
        module,
        optimizer,
        batches,
        weights_C=torch.ones(4),
        multiscale_stage_weights=(0.1, 0.1, 0.1, 0.7),
        loss=LossConfig(dice_classes=classes),
        clip_norm=clip_norm,
    )


def test_each_part_has_its_own_rate_and_frozen_parameters_are_in_none(segmenter: Segmenter) -> None:
    optimizer = make_optimizer(segmenter, OPTIM)
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {
        "vision": 1e-4,
        "prompt": 1e-2,
        "msm": 1e-3,
    }
    given = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert given == {id(p) for p in segmenter.parameters() if p.requires_grad}


@pytest.mark.parametrize(("given", "steps"), [(None, 20), (7, 7), (0, 0)])
def test_rates_rise_over_a_twentieth_of_all_steps_or_as_many_as_are_given(
    segmenter: Segmenter, given: int | None, steps: int
) -> None:
    optimizer = make_optimizer(segmenter, replace(OPTIM, warmup_steps=given), 400)
    assert {group["warmup_steps"] for group in optimizer.param_groups} == {steps}


def test_a_training_without_an_end_has_no_share_of_its_steps(segmenter: Segmenter) -> None:
    with pytest.raises(ConfigurationError, match="without an end needs warmup_steps"):
        make_optimizer(segmenter, replace(OPTIM, warmup_steps=None))


def test_a_vision_rate_of_zero_keeps_the_tower_as_it_is(segmenter: Segmenter, batch: TileBatch) -> None:
    before = copy.deepcopy(segmenter.visual.state_dict())
    optimizer = make_optimizer(segmenter, OptimConfig(lr_vision=0, lr_prompt=1e-2, lr_msm=1e-2, warmup_steps=0))
    optimizer.train()
    step(segmenter.train(), optimizer, batch)
    assert all(torch.equal(value, before[name]) for name, value in segmenter.visual.state_dict().items())
    assert "vision" not in [group["name"] for group in optimizer.param_groups]


def test_labels_are_picked_and_never_mixed(segmenter: Segmenter) -> None:
    ids_HW = np.zeros((64, 64), np.uint8)
    ids_HW[:32] = 3
    pair = (np.zeros((64, 64, 3), np.uint8), ids_HW)
    labels = make_batch([pair], segmenter, 40).labels_Nhw
    assert labels.shape == (1, 40, 40)
    assert labels[0, :20].unique().tolist() == [3]
    assert labels[0, 20:].unique().tolist() == [0]


def test_a_smaller_label_map_takes_the_middle_pixel_of_each_cell(segmenter: Segmenter) -> None:
    ids_HW = np.zeros((60, 60), np.uint8)
    ids_HW[1::3, 1::3] = 2
    labels = make_batch([(np.zeros((60, 60, 3), np.uint8), ids_HW)], segmenter, 20).labels_Nhw
    assert labels.unique().tolist() == [2]


def test_a_step_before_training_mode_is_refused_by_the_optimizer(segmenter: Segmenter, batch: TileBatch) -> None:
    with pytest.raises(Exception, match="not in train mode"):
        step(segmenter, make_optimizer(segmenter, OPTIM), batch)


def test_the_loss_falls_on_a_batch_seen_again_and_again(segmenter: Segmenter, batch: TileBatch) -> None:
    optimizer = make_optimizer(segmenter, OPTIM)
    optimizer.train()
    losses = [step(segmenter.train(), optimizer, batch).loss for _ in range(8)]
    assert losses[-1] < 0.95 * losses[0]


def test_the_reported_loss_is_the_weighted_sum_of_the_reported_parts(segmenter: Segmenter, batch: TileBatch) -> None:
    optimizer = make_optimizer(segmenter, OPTIM)
    optimizer.train()
    report = step(segmenter.train(), optimizer, batch)
    parts = report.similarity_focal + report.similarity_dice + report.multiscale_focal + report.multiscale_dice
    assert report.loss == pytest.approx(parts, rel=1e-5)


def test_the_gradient_is_clipped_before_the_step_and_reported_as_it_was(segmenter: Segmenter, batch: TileBatch) -> None:
    """Schedule-free AdamW starts with mean square = (1 - beta2) gradient^2, which shows what the step was given."""
    optimizer = make_optimizer(segmenter, OPTIM)
    optimizer.train()
    report = step(segmenter.train(), optimizer, batch, clip_norm=1e-3)
    squares = sum(float(state["exp_avg_sq"].double().sum()) for state in optimizer.state.values())
    assert (squares / (1 - 0.999)) ** 0.5 == pytest.approx(1e-3, rel=1e-3)
    assert report.grad_norm > 0.1


def test_a_diverged_step_stops_with_the_parameters_as_they_were(segmenter: Segmenter, batch: TileBatch) -> None:
    optimizer = make_optimizer(segmenter, OPTIM)
    optimizer.train()
    before = copy.deepcopy(segmenter.state())
    broken = TileBatch(batch.tiles_N3HW * float("nan"), batch.labels_Nhw)
    with pytest.raises(ModelError, match=r"training diverged: loss nan.*lower the learning rates"):
        step(segmenter.train(), optimizer, broken)
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state().items())


def test_evaluation_sees_averaged_weights_and_gives_the_training_weights_back(
    segmenter: Segmenter, batch: TileBatch
) -> None:
    optimizer = make_optimizer(segmenter, OPTIM)
    optimizer.train()
    for _ in range(3):
        step(segmenter.train(), optimizer, batch)
    training = segmenter.prompts.context_CPd.detach().clone()
    with evaluation_mode(segmenter, optimizer):
        averaged = segmenter.prompts.context_CPd.detach().clone()
        assert not segmenter.training
    assert segmenter.training
    assert not torch.allclose(averaged, training, rtol=0, atol=1e-4)
    torch.testing.assert_close(segmenter.prompts.context_CPd.detach(), training, rtol=0, atol=1e-6)


def test_averaged_weights_are_those_of_the_papers_recursion(segmenter: Segmenter, batch: TileBatch) -> None:
    """x_{t+1} = (1 - 1/t) x_t + 1/t z_{t+1} without warm-up, whatever the gradients were."""
    optimizer = make_optimizer(segmenter, OPTIM)
    optimizer.train()
    parameter = segmenter.prompts.context_CPd
    iterates = []
    for _ in range(4):
        step(segmenter.train(), optimizer, batch)
        iterates.append(optimizer.state[parameter]["z"].clone())
    with evaluation_mode(segmenter, optimizer):
        torch.testing.assert_close(parameter.detach(), torch.stack(iterates).mean(dim=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("classes", ["all", "present"])
def test_a_step_in_parts_is_the_step_over_the_whole(segmenter: Segmenter, batch: TileBatch, classes: ClassMean) -> None:
    """Also where one tile shows more of the classes than the other."""
    labels = batch.labels_Nhw.clone()
    labels[0] = 0
    whole = TileBatch(batch.tiles_N3HW, labels)
    parts = [TileBatch(whole.tiles_N3HW[place : place + 1], labels[place : place + 1]) for place in (0, 1)]
    parts.append(replace(parts[0], counts=False))
    cut = copy.deepcopy(segmenter)
    reports = []
    for trained, batches in ((segmenter, [whole]), (cut, parts)):
        optimizer = make_optimizer(trained, OPTIM)
        optimizer.train()
        reports.append(take_step(trained.train(), optimizer, batches, classes=classes))
    assert asdict(reports[0]) == pytest.approx(asdict(reports[1]), rel=1e-4)
    for name, value in cut.state().items():
        torch.testing.assert_close(value, segmenter.state()[name], rtol=1e-3, atol=2e-4)


@pytest.fixture
def one_process_group(tmp_path: Path) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process_group")
def test_the_same_step_trains_a_segmenter_wrapped_for_several_processes(segmenter: Segmenter, batch: TileBatch) -> None:
    """DistributedDataParallel refuses the second step when a parameter got no gradient in the first."""
    alone = copy.deepcopy(segmenter)
    optimizers = [make_optimizer(alone, OPTIM), make_optimizer(segmenter, OPTIM)]
    modules: list[nn.Module] = [alone.train(), DistributedDataParallel(segmenter.train())]
    for optimizer in optimizers:
        optimizer.train()
    for _ in range(2):
        first, second = (step(module, opt, batch) for module, opt in zip(modules, optimizers, strict=True))
    assert first.loss == pytest.approx(second.loss, rel=1e-5)


@pytest.mark.parametrize(
    ("setting", "message"), [({"lr_msm": -1.0}, "lr_msm is -1.0"), ({"clip_norm": 0.0}, "clip_norm is 0.0")]
)
def test_a_setting_out_of_range_is_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        OptimConfig(**setting)
