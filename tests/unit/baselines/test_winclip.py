"""WinCLIP against a slow second implementation, window by window, on a small CLIP with random weights."""

import json

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from scrapray.baselines.winclip import (
    WinClip,
    WinClipConfig,
    association,
    encode_windows,
    harmonic_map,
    prompts_of,
    windows_of,
)
from scrapray.errors import ConfigurationError
from scrapray.segmenter.model import prepare_tiles
from scrapray.segmenter.tower import ClipConfig, build_clip, place_patches
from tests.fixtures.pictures import TINY_CLIP

GRID = 4
TILES_NHW3 = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[open_clip.CLIP, ClipConfig]:
    path = tmp_path_factory.mktemp("clip") / "tiny.json"
    path.write_text(json.dumps(TINY_CLIP))
    return build_clip(str(path), None)


def slow_view(clip: open_clip.CLIP, image_3HW: torch.Tensor, patches: list[int]) -> torch.Tensor:
    """One sequence alone through open_clip's own blocks: the class token and some patches, where they stand."""
    visual = clip.visual
    patches_TD = visual.conv1(image_3HW[None]).flatten(2)[0].T
    tokens_TD = torch.cat([visual.class_embedding[None], patches_TD]) + visual.positional_embedding
    sequence_1TD = visual.ln_pre(tokens_TD[[0, *(1 + patch for patch in patches)]])[None]
    for block in visual.transformer.resblocks:
        sequence_1TD = block(sequence_1TD)
    return visual.ln_post(sequence_1TD[0, 0]) @ visual.proj


def slow_windows(scale: int) -> list[list[int]]:
    starts = range(GRID - scale + 1)
    return [[GRID * (y + i) + x + j for i in range(scale) for j in range(scale)] for y in starts for x in starts]


@torch.no_grad()
def slow_map(clip: open_clip.CLIP, image_3HW: torch.Tensor, config: WinClipConfig) -> tuple[np.ndarray, float]:
    """As the paper says it, in plain loops."""
    tokenizer = open_clip.SimpleTokenizer()
    states = [
        torch.stack([clip.encode_text(tokenizer([text]))[0] for text in texts]).mean(dim=0)
        for texts in prompts_of(config)
    ]

    def flawed(view: torch.Tensor) -> float:
        cosines = torch.stack([F.cosine_similarity(view, state, dim=0) for state in states])
        return float((cosines / config.temperature).softmax(dim=0)[1])

    whole = flawed(slow_view(clip, image_3HW, list(range(GRID**2))))
    means = [np.full(GRID**2, whole)]
    for scale in config.scales:
        scores = [(window, flawed(slow_view(clip, image_3HW, window))) for window in slow_windows(scale)]
        covering = [[score for window, score in scores if token in window] for token in range(GRID**2)]
        means.append(np.array([len(each) / sum(1 / score for score in each) for each in covering]))
    return (len(means) / sum(1 / mean for mean in means)).reshape(GRID, GRID), whole


@pytest.mark.parametrize("states", [pytest.param("flaws", marks=pytest.mark.slow), "steel"])
def test_maps_are_those_of_plain_loops(tiny: tuple[open_clip.CLIP, ClipConfig], states: str) -> None:
    config = WinClipConfig(states=states, temperature=0.01)
    maps_N1GG, tile_N = WinClip(*tiny, config)(TILES_NHW3, out_px=GRID)
    images_N3HW = prepare_tiles(torch.tensor(TILES_NHW3), 64, tiny[1])
    for image_3HW, map_1GG, tile in zip(images_N3HW, maps_N1GG, tile_N, strict=True):
        expected_GG, whole = slow_map(tiny[0], image_3HW, config)
        np.testing.assert_allclose(map_1GG[0], expected_GG, rtol=1e-4)
        assert tile == pytest.approx(whole, rel=1e-4)
    assert maps_N1GG.std() > 1e-4, "maps of random towers differ from place to place"


def test_windows_are_every_square_of_the_grid() -> None:
    assert [len(windows_of(15, scale)) for scale in (2, 3)] == [196, 169]
    assert windows_of(GRID, 2).tolist() == slow_windows(2)
    assert windows_of(GRID, 3).tolist() == slow_windows(3)


def test_a_token_has_the_harmonic_mean_of_the_windows_that_cover_it() -> None:
    map_GG = harmonic_map(torch.tensor([[1.0, 0.75, 0.5, 0.25]]), windows_of(3, 2), 3)[0]
    expected = [[1, 0.8571, 0.75], [0.6667, 0.48, 0.375], [0.5, 0.3333, 0.25]]
    np.testing.assert_allclose(map_GG.numpy(), expected, atol=5e-5)


def test_a_score_of_zero_makes_its_tokens_zero_and_no_others() -> None:
    map_GG = harmonic_map(torch.tensor([[0.0, 0.5, 0.5, 0.5]]), windows_of(3, 2), 3)[0]
    assert map_GG[:2, :2].max() < 1e-300
    np.testing.assert_allclose(map_GG.numpy()[[0, 2, 2], [2, 0, 2]], 0.5)


def test_a_window_is_seen_the_same_alone_and_among_others(tiny: tuple[open_clip.CLIP, ClipConfig]) -> None:
    """In older versions of open_clip sequences of a batch, put the wrong way round, see each other."""
    visual = tiny[0].visual
    with torch.no_grad():
        placed_NTD = place_patches(visual, prepare_tiles(torch.tensor(TILES_NHW3), 64, tiny[1]))
        windows_WP = windows_of(GRID, 2)
        together_NWE = encode_windows(visual, placed_NTD, windows_WP)
        alone_11E = encode_windows(visual, placed_NTD[1:2], windows_WP[5:6])
    np.testing.assert_allclose(together_NWE[1, 5].numpy(), alone_11E[0, 0].numpy(), rtol=1e-4, atol=1e-5)


def test_what_the_memory_holds_is_not_unlike_it() -> None:
    views_NWE = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    unlike_NW = association(views_NWE, views_NWE[0])
    assert unlike_NW[0].max() < 1e-6
    assert 0 < unlike_NW[1].min() <= unlike_NW[1].max() <= 1
    opposite = association(-views_NWE[:1, :1], views_NWE[0, :1])
    assert float(opposite) == pytest.approx(1)


def test_with_references_maps_are_halfway_to_what_is_unlike_them(tiny: tuple[open_clip.CLIP, ClipConfig]) -> None:
    config = WinClipConfig(temperature=0.01)
    alone = WinClip(*tiny, config)
    zero_N1GG, zero_N = alone(TILES_NHW3, out_px=GRID)
    few = WinClip(*tiny, config)
    few.remember(TILES_NHW3[:1])
    maps_N1GG, tile_N = few(TILES_NHW3, out_px=GRID)
    np.testing.assert_allclose(maps_N1GG[0], zero_N1GG[0] / 2, atol=1e-5, err_msg="a reference is like itself")
    np.testing.assert_allclose(tile_N[0], zero_N[0] / 2, atol=1e-5)
    unlike_N1GG = 2 * maps_N1GG[1:] - zero_N1GG[1:]
    assert unlike_N1GG.min() > 0
    np.testing.assert_allclose(tile_N[1:], (zero_N[1:] + unlike_N1GG.max(axis=(1, 2, 3))) / 2, rtol=1e-4)


def test_there_are_as_many_prompts_as_the_paper_has() -> None:
    normal, flawed = prompts_of(WinClipConfig())
    assert (len(set(normal)), len(set(flawed))) == (7 * 22, 4 * 22)
    assert "a cropped photo of the flawless steel scrap" in normal
    assert "a photo of a steel scrap with damage for visual inspection" in flawed
    assert prompts_of(WinClipConfig(states="steel")) == (
        ["object which is made of steel"],
        ["object which is not steel"],
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"scales": ()}, "scales"), ({"temperature": 0.0}, "temperature"), ({"num_references": 0}, "num_references")],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        WinClipConfig(**changes)


def test_a_window_larger_than_the_grid_is_refused(tiny: tuple[open_clip.CLIP, ClipConfig]) -> None:
    with pytest.raises(ConfigurationError, match="5 tokens does not fit into 4"):
        WinClip(*tiny, WinClipConfig(scales=(2, 5)))
