import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file
from torch import Tensor

from scrapray.errors import ConfigurationError, ModelError
from scrapray.segmenter.tower import (
    build_clip,
    freeze_dead_parameters,
    read_clip_config,
    resize_positions,
    save_clip,
    set_input_size,
    vision_stages,
)
from tests.fixtures.pictures import TINY_CLIP
from tests.unit.segmenter.conftest import TINY_CONFIG

STAGES = (1, 2, 3, 4)


def images(num: int, size: int = 64) -> Tensor:
    return torch.randn(num, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_without_v_v_attention_the_stages_are_those_of_open_clip(tiny_clip: open_clip.CLIP) -> None:
    ours, class_NE = vision_stages(tiny_clip.visual, images(2), STAGES, None)
    theirs = tiny_clip.visual.forward_intermediates(
        images(2), indices=[0, 1, 2, 3], normalize_intermediates=True, output_fmt="NLC"
    )["image_intermediates"]
    assert class_NE is None
    for stage, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(stage[:, 1:], expected @ tiny_clip.visual.proj, rtol=1e-5, atol=1e-6)


def test_gradients_of_the_first_block_are_those_of_open_clip(tiny_clip: open_clip.CLIP) -> None:
    """Where gradients are wanted on a CPU, attention is written out."""
    visual = tiny_clip.visual
    rows = visual.transformer.resblocks[0].attn.in_proj_weight
    (ours,), _ = vision_stages(visual, images(2), (4,), None)
    (theirs,) = visual.forward_intermediates(images(2), indices=[3], normalize_intermediates=True, output_fmt="NLC")[
        "image_intermediates"
    ]
    (gradient,) = torch.autograd.grad(ours[:, 1:].square().sum(), rows)
    (expected,) = torch.autograd.grad((theirs @ visual.proj).square().sum(), rows)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_ordinary_path_stays_that_of_clip_under_v_v_attention(tiny_clip: open_clip.CLIP) -> None:
    visual = tiny_clip.visual
    _, class_NE = vision_stages(visual, images(2), STAGES, 2, with_class_token=True)
    _, plain_NE = vision_stages(visual, images(2), STAGES, None, with_class_token=True)
    torch.testing.assert_close(class_NE, plain_NE, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_with_tied_projections_the_surgery_path_is_the_sum_of_clips_own_attention(tiny_clip: open_clip.CLIP) -> None:
    """When query, key and value rows are equal, v-v attention is ordinary attention, which hooks can catch."""
    visual, first = tiny_clip.visual, 2
    for block in visual.transformer.resblocks:
        for packed in (block.attn.in_proj_weight, block.attn.in_proj_bias):
            packed.copy_(packed.chunk(3)[2].repeat(3, *[1] * (packed.ndim - 1)))
    added: list[Tensor] = []
    entered: list[Tensor] = []
    for block in visual.transformer.resblocks[first - 1 :]:
        block.attn.register_forward_hook(lambda _, __, out: added.append(out[0]))
        block.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    visual(images(2))
    surgery, _ = vision_stages(visual, images(2), STAGES, first)
    for stage in range(first, 5):
        tokens_NTD = entered[0] + torch.stack(added[: stage - first + 1]).sum(dim=0)
        expected = visual.ln_post(tokens_NTD) @ visual.proj
        torch.testing.assert_close(surgery[stage - 1], expected, rtol=1e-5, atol=2e-6)


@torch.no_grad()
def test_v_v_attention_is_the_loop_over_heads_in_which_values_ask_values(tiny_clip: open_clip.CLIP) -> None:
    visual = tiny_clip.visual
    block = visual.transformer.resblocks[3]
    entered: list[Tensor] = []
    block.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    visual(images(1))
    weight, bias = block.attn.in_proj_weight.chunk(3)[2], block.attn.in_proj_bias.chunk(3)[2]
    values_TD = (block.ln_1(entered[0]) @ weight.T + bias)[0]
    heads = [v @ v.T / 32**0.5 for v in values_TD.split(32, dim=1)]
    mixed_TD = torch.cat([h.softmax(dim=1) @ v for h, v in zip(heads, values_TD.split(32, dim=1), strict=True)], dim=1)
    expected = visual.ln_post(entered[0] + block.attn.out_proj(mixed_TD)) @ visual.proj
    (found,), _ = vision_stages(visual, images(1), (4,), 4)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)


@torch.no_grad()
def test_stages_before_the_first_surgery_block_are_plain(tiny_clip: open_clip.CLIP) -> None:
    plain, _ = vision_stages(tiny_clip.visual, images(1), STAGES, None)
    surgery, _ = vision_stages(tiny_clip.visual, images(1), STAGES, 3)
    equal = [torch.equal(a, b) for a, b in zip(plain, surgery, strict=True)]
    assert equal == [True, True, False, False]


def test_the_stages_are_different_tensors_and_gradients_reach_the_first_layer_through_each(
    tiny_clip: open_clip.CLIP,
) -> None:
    visual = tiny_clip.visual
    stages, _ = vision_stages(visual, images(1), STAGES, 2)
    assert len({stage.data_ptr() for stage in stages}) == 4
    for i, j in ((0, 1), (1, 2), (2, 3)):
        assert not torch.allclose(stages[i], stages[j], atol=1e-3)
    for stage in stages:
        (gradient,) = torch.autograd.grad(stage.square().sum(), visual.conv1.weight, retain_graph=True)
        assert gradient.abs().max() > 0


def test_exactly_the_parameters_that_get_no_gradient_are_frozen(tiny_clip: open_clip.CLIP) -> None:
    visual = tiny_clip.visual
    stages, _ = vision_stages(visual, images(1), STAGES, 2)
    torch.stack(stages).square().sum().backward()
    without = [name for name, parameter in visual.named_parameters() if parameter.grad is None]
    value_rows = visual.transformer.resblocks[1].attn.in_proj_weight.grad.chunk(3)[2]
    assert value_rows.abs().max() > 0
    assert visual.transformer.resblocks[0].mlp.c_fc.weight.grad.abs().max() > 0
    assert without == freeze_dead_parameters(visual, STAGES, 2)
    assert sorted({name.rsplit(".", 1)[0] for name in without}) == [
        "transformer.resblocks.3.ln_2",
        "transformer.resblocks.3.mlp.c_fc",
        "transformer.resblocks.3.mlp.c_proj",
    ]


@pytest.mark.parametrize(("stages", "dpam_from", "dead_blocks"), [((1, 4), None, set()), ((1, 2), None, {"2", "3"})])
def test_blocks_after_the_last_stage_are_frozen_and_plain_stages_need_their_whole_block(
    stages: tuple[int, ...], dpam_from: int | None, dead_blocks: set[str], tiny_clip: open_clip.CLIP
) -> None:
    frozen = freeze_dead_parameters(tiny_clip.visual, stages, dpam_from)
    assert {name.split(".")[2] for name in frozen} == dead_blocks


@pytest.mark.parametrize("dpam_from", [None, 2])
def test_gradients_are_the_same_when_blocks_are_computed_again(
    tiny_clip: open_clip.CLIP, dpam_from: int | None
) -> None:
    visual = tiny_clip.visual
    gradients, kept = [], []
    for again in (False, True):
        visual.set_grad_checkpointing(again)
        visual.zero_grad()
        saved: list[int] = []

        def keep(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            stages, _ = vision_stages(visual, images(2), STAGES, dpam_from)
        sum(stage.square().sum() for stage in stages).backward()
        gradients.append(visual.conv1.weight.grad.clone())
        kept.append(sum(saved))
    assert torch.equal(*gradients)
    assert kept[1] < 0.5 * kept[0], "less is kept between the ways"


def test_positions_stay_as_they_are_on_the_native_grid() -> None:
    positions_TD = torch.randn(17, 5)
    assert resize_positions(positions_TD, (4, 4)) is positions_TD


def test_resized_positions_are_bilinear_between_pixel_centres() -> None:
    positions_TD = torch.randn(1 + 9, 2, dtype=torch.float64)
    grid_33D = positions_TD[1:].reshape(3, 3, 2).numpy()
    expected = np.zeros((5, 5, 2))
    for row in range(5):
        for column in range(5):
            y, x = (np.clip((i + 0.5) * 3 / 5 - 0.5, 0, 2) for i in (row, column))
            top, left = int(y), int(x)
            below, right = min(top + 1, 2), min(left + 1, 2)
            upper = grid_33D[top, left] * (1 - (x - left)) + grid_33D[top, right] * (x - left)
            lower = grid_33D[below, left] * (1 - (x - left)) + grid_33D[below, right] * (x - left)
            expected[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    resized_TD = resize_positions(positions_TD, (5, 5))
    assert torch.equal(resized_TD[0], positions_TD[0])
    np.testing.assert_allclose(resized_TD[1:].reshape(5, 5, 2).numpy(), expected, atol=1e-12)


@torch.no_grad()
def test_the_shape_of_a_checkpoint_does_not_depend_on_whether_the_tower_has_run(tiny_clip: open_clip.CLIP) -> None:
    visual = tiny_clip.visual
    set_input_size(visual, 80)
    before = {name: value.shape for name, value in visual.state_dict().items()}
    vision_stages(visual, images(1, 80), STAGES, 2)
    assert {name: value.shape for name, value in visual.state_dict().items()} == before
    assert before["positional_embedding"] == (26, 64)


def test_images_of_another_size_than_the_tower_was_set_to_are_a_programming_error(tiny_clip: open_clip.CLIP) -> None:
    with pytest.raises(AssertionError, match="set_input_size"):
        vision_stages(tiny_clip.visual, images(1, 80), STAGES, None)


@pytest.mark.parametrize("input_px", [0, 15, 79])
def test_an_input_size_that_the_patches_do_not_divide_is_refused(input_px: int, tiny_clip: open_clip.CLIP) -> None:
    with pytest.raises(ConfigurationError, match=f"input_px is {input_px}, must be a multiple of .* 16"):
        set_input_size(tiny_clip.visual, input_px)


def test_the_production_name_has_the_activation_that_openai_trained_with() -> None:
    assert read_clip_config("ViT-L-14-336-quickgelu").quick_gelu
    assert not read_clip_config("ViT-L-14-336").quick_gelu


def test_openai_weights_for_a_model_of_the_other_activation_are_refused_before_any_download() -> None:
    with pytest.raises(ModelError, match=r"trained with QuickGELU but the model has GELU.*-quickgelu"):
        build_clip("ViT-L-14-336", "openai")


def test_a_saved_clip_comes_back_as_fp16_left_it(tmp_path: Path, tiny_clip: open_clip.CLIP) -> None:
    save_clip(tiny_clip, TINY_CONFIG, tmp_path)
    again, config = build_clip(str(tmp_path / "model.json"), tmp_path / "weights.safetensors")
    assert config == TINY_CONFIG
    assert isinstance(again.visual.transformer.resblocks[0].mlp.gelu, QuickGELU)
    for name, value in tiny_clip.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float()), name


def test_a_local_file_that_says_another_activation_is_refused(tmp_path: Path, tiny_clip: open_clip.CLIP) -> None:
    save_clip(tiny_clip, TINY_CONFIG, tmp_path)
    other = tmp_path / "gelu.json"
    other.write_text(json.dumps(TINY_CLIP | {"quick_gelu": False}))
    with pytest.raises(ModelError, match="trained with QuickGELU but the model has GELU"):
        build_clip(str(other), tmp_path / "weights.safetensors")


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_weights_that_differ_from_the_model_in_any_key_are_refused(
    change: str, tmp_path: Path, tiny_clip: open_clip.CLIP
) -> None:
    save_clip(tiny_clip, TINY_CONFIG, tmp_path)
    state = load_file(tmp_path / "weights.safetensors")
    if change == "missing":
        del state["visual.proj"]
    elif change == "unknown":
        state["visual.extra"] = torch.zeros(1)
    else:
        state["visual.proj"] = torch.zeros(3, 3)
    save_file(state, tmp_path / "changed.safetensors")
    with pytest.raises(ModelError, match=r"changed.safetensors: weights do not fit the model.*visual\.(proj|extra)"):
        build_clip(str(tmp_path / "model.json"), tmp_path / "changed.safetensors")


def test_a_torch_state_dict_serves_as_well_as_safetensors(tmp_path: Path, tiny_clip: open_clip.CLIP) -> None:
    save_clip(tiny_clip, TINY_CONFIG, tmp_path)
    torch.save({"state_dict": tiny_clip.state_dict()}, tmp_path / "weights.pt")
    again, _ = build_clip(str(tmp_path / "model.json"), tmp_path / "weights.pt")
    assert torch.equal(again.visual.proj, tiny_clip.visual.proj)


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pt"])
def test_a_file_that_is_not_weights_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(TINY_CLIP))
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(ModelError, match=f"{name}: not readable"):
        build_clip(str(tmp_path / "tiny.json"), tmp_path / name)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ViT-Nothing", "open_clip has no model of this name"),
        ("nowhere.json", "no such model configuration"),
        ("ViT-B-16-SigLIP", "not the configuration of a plain CLIP"),
    ],
)
def test_a_model_that_this_room_cannot_build_is_refused(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_clip(model, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "not the configuration of a plain CLIP"),
        ({"embed_dim": 4}, r"missing: \['text_cfg', 'vision_cfg'\]"),
        (TINY_CLIP | {"custom_text": True}, r"not understood: \['custom_text'\]"),
        (TINY_CLIP | {"vision_cfg": {"depth": 1}}, "open_clip cannot build this model"),
        (TINY_CLIP | {"vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 32}}, "not a plain CLIP"),
        (TINY_CLIP | {"vision_cfg": TINY_CLIP["vision_cfg"] | {"patch_dropout": 0.5}}, "not a plain CLIP"),
    ],
)
def test_a_model_file_that_this_room_cannot_build_is_refused(values: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match=message):
        build_clip(str(path), None)


def test_an_unknown_tag_names_those_that_exist() -> None:
    with pytest.raises(ModelError, match=r"neither a file nor a tag .*openai"):
        build_clip("ViT-L-14-336-quickgelu", "opnai")


def test_random_weights_follow_the_seed_and_leave_the_callers_random_state_alone(tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY_CLIP))
    state = torch.random.get_rng_state()
    first, second, other = (build_clip(str(path), None, seed=seed)[0].visual.proj for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_failed_download_asks_for_a_local_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "download_pretrained", unreachable)
    with pytest.raises(ModelError, match="cannot download weights 'openai': no route to host; give a local file"):
        build_clip("ViT-L-14-336-quickgelu", "openai")
