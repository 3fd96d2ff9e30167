"""Our tower, prompts and maps against what the official AnomalyCLIP code computed for the same weights."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scrapray.segmenter.model import gaussian_blur, resize_map, similarity_map
from scrapray.segmenter.prompts import TextTower, tokenize_prompts
from scrapray.segmenter.tower import ClipConfig, new_clip, set_input_size, vision_stages

_RELATIVE_TOLERANCE = 1e-5
_TEMPERATURE = 0.07


def _draw(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32))


def _drawn_weight(name: str, built: Tensor) -> Tensor:
    if name == "logit_scale":
        return built
    drawn = _draw(name, tuple(built.shape))
    if "ln_" in name and name.endswith("weight"):
        return 1 + 0.2 * drawn
    if name.endswith("bias"):
        return 0.1 * drawn
    if "embedding" in name:
        return 0.5 * drawn
    return drawn / built.shape[-1] ** 0.5


def _drawn_clip(shape: dict[str, Any]) -> open_clip.CLIP:
    clip = new_clip(
        ClipConfig(
            embed_dim=shape["embed_dim"],
            quick_gelu=True,
            vision_cfg={
                "image_size": shape["native_size"],
                "layers": shape["vision_layers"],
                "width": shape["vision_width"],
                "patch_size": shape["patch"],
            },
            text_cfg={
                "width": shape["text_width"],
                "heads": shape["text_width"] // 64,
                "layers": shape["text_layers"],
            },
        )
    )
    clip.load_state_dict({name: _drawn_weight(name, value) for name, value in clip.state_dict().items()})
    return clip.eval()


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    arrays = np.load(shared / "golden" / "anomalyclip_small.npz")
    return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def ours(golden: dict[str, Any]) -> dict[str, Tensor]:
    """Everything that the golden file holds, computed by our functions."""
    shape = json.loads(str(golden["cfg"]))
    clip = _drawn_clip(shape)
    assert sorted(name for name, _ in clip.named_parameters()) == sorted(golden["parameter_names"].tolist())
    set_input_size(clip.visual, shape["size"])
    images_N3HW = _draw("image", (shape["batch"], 3, shape["size"], shape["size"]))
    width = shape["text_width"]
    context_2Pd = torch.stack(
        [0.5 * _draw(f"prompt.{group}", (shape["n_ctx"], width)) for group in ("normal", "anomaly")]
    )
    deep = [0.5 * _draw(f"prompt.deep.{i}", (shape["deep_len"], width)) for i in range(shape["depth"] - 1)]
    ids_2L = tokenize_prompts(["object", "damaged object"], shape["n_ctx"])
    first_surgery = shape["vision_layers"] - shape["dpam_layer"] + 2
    with torch.no_grad():
        stages, class_NE = vision_stages(
            clip.visual, images_N3HW, shape["stages"], first_surgery, with_class_token=True
        )
        text_2E = TextTower(clip).encode(ids_2L, context_2Pd, deep, fp16_round=True)
    assert class_NE is not None
    maps = [
        resize_map(similarity_map(tokens[:, 1:], text_2E, _TEMPERATURE, clip.visual.grid_size), shape["size"])
        for tokens in stages
    ]
    anomaly_NHW = torch.stack([(each[:, 1] + 1 - each[:, 0]) / 2 for each in maps]).sum(dim=0)
    cosine_N2 = F.normalize(class_NE, dim=-1) @ F.normalize(text_2E, dim=-1).T
    return {
        "token_ids": ids_2L,
        "first_image_values": images_N3HW.flatten()[:8],
        "text_features_raw": text_2E,
        "cls": class_NE,
        **{f"stage_tokens_{i}": tokens for i, tokens in enumerate(stages)},
        **{f"stage_map_{i}": each for i, each in enumerate(maps)},
        "anomaly_map": anomaly_NHW,
        "anomaly_map_gaussian": gaussian_blur(anomaly_NHW[:, None], 4.0)[:, 0],
        "image_score": (cosine_N2 / _TEMPERATURE).softmax(dim=-1)[:, 1],
    }


_ARRAYS = [
    "token_ids",
    "first_image_values",
    "text_features_raw",
    "cls",
    *(f"stage_tokens_{i}" for i in range(4)),
    *(f"stage_map_{i}" for i in range(4)),
    "anomaly_map",
    "anomaly_map_gaussian",
    "image_score",
]


@pytest.mark.parametrize("name", _ARRAYS)
def test_our_functions_give_the_official_array(name: str, golden: dict[str, Any], ours: dict[str, Tensor]) -> None:
    expected, found = golden[name], ours[name].numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= _RELATIVE_TOLERANCE * np.abs(expected).max()


def test_no_array_of_the_golden_file_is_left_out(golden: dict[str, Any]) -> None:
    assert set(_ARRAYS) == set(golden) - {"cfg", "parameter_names"}
