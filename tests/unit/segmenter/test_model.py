from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from scrapray.errors import ConfigurationError, ModelError
from scrapray.labels import SCRAP_CONTAMINANTS, Contaminant
from scrapray.segmenter.model import (
    Segmenter,
    SegmenterConfig,
    build_segmenter,
    gaussian_blur,
    prepare_tiles,
    resize_map,
    similarity_map,
)
from tests.fixtures.pictures import make_tiny_segmenter
from tests.unit.segmenter.conftest import TINY_CONFIG


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return make_tiny_segmenter(tmp_path).eval()


def tiles(num: int) -> Tensor:
    return torch.randn(num, 3, 80, 80, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_class_maps_of_both_branches_have_the_size_asked_for_and_sum_to_one(segmenter: Segmenter) -> None:
    for maps in segmenter(tiles(2), 48):
        assert maps.shape == (4, 2, 4, 48, 48)
        torch.testing.assert_close(maps.sum(dim=2), torch.ones(4, 2, 48, 48))


def test_a_tile_is_scored_alone_as_in_a_batch(segmenter: Segmenter) -> None:
    together = segmenter.score(tiles(3), 20)
    for index in range(3):
        alone = segmenter.score(tiles(3)[index : index + 1], 20)
        torch.testing.assert_close(alone.classes_NKHW[0], together.classes_NKHW[index], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(alone.any_NHW[0], together.any_NHW[index], rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_scores_are_the_weighted_mean_of_the_training_maps(share: float, tmp_path: Path) -> None:
    segmenter = make_tiny_segmenter(
        tmp_path,
        similarity_share=share,
        gaussian_sigma_px=0.0,
        binarisation="marginal",
        msm_stage_weights=(1.0, 2.0, 3.0, 4.0),
    )
    similarity, multiscale = segmenter.eval()(tiles(2), 20)
    weights = (0.1, 0.2, 0.3, 0.4)
    mixed_NCHW = share * similarity.mean(dim=0) + (1 - share) * sum(
        weight * maps for weight, maps in zip(weights, multiscale, strict=True)
    )
    scores = segmenter.score(tiles(2), 20)
    torch.testing.assert_close(scores.classes_NKHW, mixed_NCHW[:, 1:], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scores.any_NHW, 1 - mixed_NCHW[:, 0], rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("how", ["avg_ctx", "avg_text"])
def test_any_contaminant_is_read_from_two_classes_on_the_similarity_side(how: str, tmp_path: Path) -> None:
    segmenter = make_tiny_segmenter(tmp_path, similarity_share=1.0, gaussian_sigma_px=0.0, binarisation=how).eval()
    stages = segmenter._tokens(tiles(2))
    expected = torch.stack(
        [resize_map(similarity_map(stage, segmenter.pair_text_2E, 0.07, (5, 5)), 20)[:, 1] for stage in stages]
    ).mean(dim=0)
    torch.testing.assert_close(segmenter.score(tiles(2), 20).any_NHW, expected, rtol=1e-4, atol=1e-6)


def test_with_one_contaminant_every_reading_of_any_is_that_contaminant(tmp_path: Path) -> None:
    one = make_tiny_segmenter(tmp_path, binarisation="marginal")
    config = one.config
    single = build_segmenter(config, SCRAP_CONTAMINANTS[:1], model=str(tmp_path / "tiny.json"), weights=None).eval()
    scores = single.score(tiles(1), 20)
    torch.testing.assert_close(scores.any_NHW, scores.classes_NKHW[:, 0], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_permuted_text_permutes_the_similarity_maps() -> None:
    tokens_NTE, text_CE, order = torch.randn(2, 25, 8), torch.randn(4, 8), [3, 0, 2, 1]
    before = similarity_map(tokens_NTE, text_CE, 0.07, (5, 5))
    torch.testing.assert_close(similarity_map(tokens_NTE, text_CE[order], 0.07, (5, 5)), before[:, order])


@torch.no_grad()
def test_autocast_reaches_the_tower_and_leaves_text_and_maps_in_fp32(segmenter: Segmenter) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = [*segmenter(tiles(1), 20), *segmenter.score(tiles(1), 20)]
    for each in maps:
        assert each.dtype == torch.float32
        assert (each != each.bfloat16().float()).float().mean() > 0.9
    assert not torch.equal(maps[0], segmenter(tiles(1), 20)[0])


@pytest.mark.parametrize(("sigma", "size"), [(4.0, 84), (1.0, 20), (2.5, 7), (0.0, 9)])
def test_the_gaussian_is_that_of_scipy_up_to_the_border(sigma: float, size: int) -> None:
    maps = torch.rand(2, 1, size, size + 3, generator=torch.Generator().manual_seed(0))
    for found, given in zip(gaussian_blur(maps, sigma), maps, strict=True):
        expected = gaussian_filter(given[0].numpy(), sigma) if sigma else given[0].numpy()
        np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-6)


def test_smoothing_means_the_same_at_every_output_size(tmp_path: Path) -> None:
    sharp = make_tiny_segmenter(tmp_path, gaussian_sigma_px=0.0).eval().score(tiles(1), 40).any_NHW
    smooth = make_tiny_segmenter(tmp_path, gaussian_sigma_px=8.0).eval().score(tiles(1), 40).any_NHW
    torch.testing.assert_close(smooth, gaussian_blur(sharp[:, None], 4.0)[:, 0], rtol=1e-4, atol=1e-6)


def test_tiles_are_resized_as_pictures_and_normalised_as_clip_was_trained() -> None:
    tiles_NHW3 = torch.randint(0, 256, (2, 64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    same = prepare_tiles(tiles_NHW3, 64, TINY_CONFIG)
    mean, std = (torch.tensor(values) for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    torch.testing.assert_close(same, ((tiles_NHW3 / 255 - mean) / std).permute(0, 3, 1, 2))
    for size in (80, 48):
        resized = prepare_tiles(tiles_NHW3, size, TINY_CONFIG) * std[:, None, None] + mean[:, None, None]
        picture = Image.fromarray(tiles_NHW3[1].numpy()).resize((size, size), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(resized[1].permute(1, 2, 0).numpy() * 255, np.asarray(picture), atol=2.01)


def test_going_to_evaluation_mode_renews_the_cached_text(segmenter: Segmenter) -> None:
    before = segmenter.class_text_CE.clone()
    with torch.no_grad():
        segmenter.prompts.context_CPd.mul_(2)
    assert torch.equal(segmenter.train().class_text_CE, before)
    assert not torch.allclose(segmenter.eval().class_text_CE, before)


def test_the_state_leaves_the_frozen_text_tower_out_and_loads_again(segmenter: Segmenter, tmp_path: Path) -> None:
    assert not any(name.startswith("text.") for name in segmenter.state())
    other = build_segmenter(
        segmenter.config, SCRAP_CONTAMINANTS, model=str(tmp_path / "tiny.json"), weights=None, seed=5
    ).eval()
    assert not torch.equal(other.class_text_CE, segmenter.class_text_CE)
    other.load_state(segmenter.state())
    assert all(torch.equal(value, segmenter.state()[name]) for name, value in other.state().items())


@pytest.mark.parametrize("change", ["missing", "unknown", "of another shape"])
def test_a_state_that_does_not_fit_is_refused_by_name(change: str, segmenter: Segmenter) -> None:
    state = dict(segmenter.state())
    if change == "missing":
        del state["visual.proj"]
    elif change == "unknown":
        state["visual.proj2"] = torch.zeros(1)
    else:
        state["visual.proj"] = torch.zeros(1)
    with pytest.raises(ModelError, match=rf"{change} visual\.proj"):
        segmenter.load_state(state)


def test_every_parameter_that_is_not_frozen_gets_a_gradient(segmenter: Segmenter) -> None:
    similarity, multiscale = segmenter.train()(tiles(2), 20)
    (similarity[:, :, 0].sum() + multiscale[:, :, 0].sum()).backward()
    without = [name for name, p in segmenter.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": (2, 1)}, "must ascend"),
        ({"stages": (0, 1)}, "must ascend from 1"),
        ({"stages": (1, 2)}, "one for each of 2 stages"),
        ({"num_context": 0}, "num_context is 0"),
        ({"dpam_from": 0}, "dpam_from is 0"),
        ({"deep_length": 20}, "at most num_context"),
        ({"msm_scales": ()}, "msm_scales"),
        ({"similarity_share": 1.5}, "similarity_share is 1.5"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"binarisation": "average"}, "must be one of"),
    ],
)
def test_a_setting_out_of_range_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SegmenterConfig(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": (1, 2, 3, 5)}, "the vision tower has 4 blocks"),
        ({"prompt_depth": 9}, "prompt_depth is 9, the text tower has 3 blocks"),
        ({"dpam_from": 5}, "dpam_from is 5, after the last of the stages"),
        ({"input_px": 70}, "multiple of the tower's patch size 16"),
    ],
)
def test_settings_that_the_towers_cannot_meet_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_tiny_segmenter(tmp_path, **change)


def test_a_segmenter_without_classes_is_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no contaminant"):
        build_segmenter(segmenter.config, (), model=str(tmp_path / "tiny.json"), weights=None)


def test_settings_come_back_from_json_and_a_differing_key_is_named() -> None:
    config = SegmenterConfig(input_px=70, dpam_from=None)
    assert SegmenterConfig.from_dict(config.as_dict(), source="card") == config
    with pytest.raises(ModelError, match=r"card: the segmenter's settings differ by \['tempo'\]"):
        SegmenterConfig.from_dict(config.as_dict() | {"tempo": 1}, source="card")
    with pytest.raises(ModelError, match="card: temperature must be above 0"):
        SegmenterConfig.from_dict(config.as_dict() | {"temperature": 0}, source="card")


def test_yards_can_add_their_own_class(segmenter: Segmenter, tmp_path: Path) -> None:
    tyre = Contaminant(name="tyre", definition="rubber tyre", severity=2)
    four = build_segmenter(
        segmenter.config, (*SCRAP_CONTAMINANTS, tyre), model=str(tmp_path / "tiny.json"), weights=None
    )
    assert four.eval().score(tiles(1), 10).classes_NKHW.shape == (1, 4, 10, 10)


def test_scores_in_training_mode_would_use_stale_text_and_are_a_programming_error(segmenter: Segmenter) -> None:
    with pytest.raises(AssertionError, match="cached text features"):
        segmenter.train().score(tiles(1), 10)
