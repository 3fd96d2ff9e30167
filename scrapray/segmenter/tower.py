"""The vision tower: an open_clip transformer read at several depths, with v-v attention in its later blocks.

Shapes: N images, C channels, H x W pixels, B batch, T tokens (1 class token + grid), D tower width, E joint width.
Blocks and stages are counted from 1.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from scrapray.errors import ConfigurationError, ModelError

_SHAPE_KEYS = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipConfig:
    """Shape of a CLIP and of the pictures it was trained on.

    Attributes:
        embed_dim: Width E of the joint space.
        quick_gelu: Activation of both towers: ``x * sigmoid(1.702 x)`` when true, else GELU.
        vision_cfg: open_clip's own words for the vision tower.
        text_cfg: open_clip's own words for the text tower.
        mean_rgb: Taken from pictures in [0, 1] before the tower sees them.
        std_rgb: What they are divided by then.
    """

    embed_dim: int
    quick_gelu: bool
    vision_cfg: Mapping[str, Any]
    text_cfg: Mapping[str, Any]
    mean_rgb: tuple[float, float, float] = open_clip.OPENAI_DATASET_MEAN
    std_rgb: tuple[float, float, float] = open_clip.OPENAI_DATASET_STD

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in open_clip's layout."""
        return {
            "model_cfg": {name: value for name, value in asdict(self).items() if name in _SHAPE_KEYS},
            "preprocess_cfg": {"mean": list(self.mean_rgb), "std": list(self.std_rgb)},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str) -> "ClipConfig":
        """Read open_clip's layout, with or without the part for preprocessing.

        Raises:
            ModelError: A part is missing, or the tower is of a kind that this room does not build.
        """
        shape = values.get("model_cfg", values) if isinstance(values, Mapping) else {}
        unknown = sorted(set(shape) - _SHAPE_KEYS)
        missing = sorted({"embed_dim", "vision_cfg", "text_cfg"} - set(shape))
        if unknown or missing:
            raise ModelError(
                f"{source}: not the configuration of a plain CLIP (missing: {missing}, not understood: {unknown}); "
                f"choose a model such as ViT-L-14-336-quickgelu"
            )
        preprocess = values.get("preprocess_cfg", {})
        return cls(
            embed_dim=shape["embed_dim"],
            quick_gelu=shape.get("quick_gelu", False),
            vision_cfg=dict(shape["vision_cfg"]),
            text_cfg=dict(shape["text_cfg"]),
            mean_rgb=tuple(preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN)),
            std_rgb=tuple(preprocess.get("std", open_clip.OPENAI_DATASET_STD)),
        )


def read_clip_config(model: str) -> ClipConfig:
    """Shape of a CLIP by open_clip's name for it, or from a JSON file in open_clip's layout.

    Raises:
        ModelError: The name is not known or the file cannot be used.
    """
    if not model.endswith(".json"):
        values = open_clip.get_model_config(model)
        if values is None:
            raise ModelError(f"{model}: open_clip has no model of this name; see open_clip.list_models()")
        return ClipConfig.from_dict(values, source=model)
    try:
        return ClipConfig.from_dict(json.loads(Path(model).read_text(encoding="utf-8")), source=model)
    except FileNotFoundError as error:
        raise ModelError(f"{model}: no such model configuration file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{model}: not readable as JSON: {error}") from error


def build_clip(model: str, weights: str | Path | None, *, seed: int = 0) -> tuple[open_clip.CLIP, ClipConfig]:
    """Build both towers of a CLIP with the weights asked for, at the tower's native image size.

    Args:
        model: open_clip's name, for example ``ViT-L-14-336-quickgelu``, or a JSON file in open_clip's layout.
        weights: ``openai`` or another of open_clip's tags (downloaded), a local file (safetensors or a torch state
            dict), or None for random weights.
        seed: Of the random weights; the caller's random state is left alone.

    Raises:
        ModelError: Weights and model differ in activation or in names or shapes, or cannot be had.
    """
    config = read_clip_config(model)
    path = find_weights(model, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = new_clip(config)
    if path is not None:
        _load_strictly(clip, path)
    return clip, config


def new_clip(config: ClipConfig) -> open_clip.CLIP:
    """Both towers with fresh weights; under ``torch.device("meta")`` without any memory for them.

    Raises:
        ModelError: open_clip refuses the shape, or builds blocks that the v-v path does not know.
    """
    try:
        clip = open_clip.CLIP(config.embed_dim, config.vision_cfg, config.text_cfg, config.quick_gelu)
    except (TypeError, AssertionError) as error:
        raise ModelError(f"open_clip cannot build this model: {error}") from error
    visual = clip.visual
    blocks = visual.transformer.resblocks if isinstance(visual, VisionTransformer) else []
    plain = bool(blocks) and all(type(block) is ResidualAttentionBlock for block in blocks)
    if not plain or visual.attn_pool is not None or not isinstance(visual.patch_dropout, nn.Identity):
        raise ModelError("the vision tower is not a plain CLIP transformer; choose a ViT model of open_clip's")
    return clip


def save_clip(clip: open_clip.CLIP, config: ClipConfig, folder: Path) -> None:
    """Write ``model.json`` and ``weights.safetensors`` (fp16), which ``build_clip`` takes as model and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(config.as_dict(), indent=2) + "\n", encoding="utf-8")
    state = {name: value.detach().half().contiguous().cpu() for name, value in clip.state_dict().items()}
    save_file(state, folder / "weights.safetensors", metadata={"quick_gelu": json.dumps(config.quick_gelu)})


def find_weights(model: str, weights: str | Path | None) -> Path | None:
    """Path of the weights that ``build_clip`` takes, downloaded when they are a tag; None if they are random.

    Raises:
        ModelError: They cannot be had, or were trained with another activation.
    """
    if weights is None:
        return None
    config, weights = read_clip_config(model), str(weights)
    path = Path(weights)
    if path.is_file():
        _check_activation(weights, _activation_in_file(path), config)
        return path
    tag = open_clip.get_pretrained_cfg(model, weights)
    if not tag:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ModelError(f"{weights}: neither a file nor a tag of {model}'s weights (tags: {known})")
    _check_activation(weights, tag.get("quick_gelu", False), config)
    try:
        return Path(open_clip.download_pretrained(tag))
    except Exception as error:  # the hub's client raises many kinds, and all mean the same here
        raise ModelError(f"{model}: cannot download weights {weights!r}: {error}; give a local file instead") from error


def _activation_in_file(path: Path) -> bool | None:
    """Whether the file says that its weights were trained with QuickGELU; None when it does not say."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get("quick_gelu")
    except SafetensorError as error:
        raise ModelError(f"{path}: not readable as safetensors: {error}") from error
    return None if said is None else bool(json.loads(said))


def _check_activation(weights: str, quick_gelu: bool | None, config: ClipConfig) -> None:
    if quick_gelu is None or quick_gelu == config.quick_gelu:
        return
    need, have = ("QuickGELU", "GELU") if quick_gelu else ("GELU", "QuickGELU")
    raise ModelError(
        f"weights {weights!r} were trained with {need} but the model has {have}; "
        f"{'use the model name that ends in -quickgelu' if quick_gelu else 'use the model name without -quickgelu'}"
    )


def _load_strictly(clip: nn.Module, path: Path) -> None:
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors faults all mean that the file is not weights
        raise ModelError(f"{path}: not readable as weights; give safetensors or a torch state dict") from error
    try:
        clip.load_state_dict(cast(dict[str, Tensor], state.get("state_dict", state)), strict=True)
    except (RuntimeError, AttributeError) as error:
        raise ModelError(f"{path}: weights do not fit the model: {' '.join(str(error).split())}") from error


def resize_positions(positions_TD: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Position embedding of a square grid, interpolated to another grid; the class token's row is kept.

    Reference: AnomalyCLIP's code (bilinear without antialias). open_clip's own loader is bicubic with antialias,
    which moves the anomaly map by some percent.
    """
    side = round((len(positions_TD) - 1) ** 0.5)
    if grid_hw == (side, side):
        return positions_TD
    grid_1DHW = positions_TD[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized_1DHW = F.interpolate(grid_1DHW, grid_hw, mode="bilinear", align_corners=False)
    return torch.cat([positions_TD[:1], resized_1DHW.flatten(2)[0].T])


def set_input_size(visual: VisionTransformer, input_px: int) -> None:
    """Make the tower take square pictures of another size. Once, before an optimizer holds its parameters.

    Raises:
        ConfigurationError: The size is not a multiple of the patch size.
    """
    patch_px = visual.patch_size[0]
    if input_px < patch_px or input_px % patch_px:
        raise ConfigurationError(f"input_px is {input_px}, must be a multiple of the tower's patch size {patch_px}")
    visual.grid_size = (input_px // patch_px,) * 2
    visual.image_size = (input_px, input_px)
    resized_TD = resize_positions(visual.positional_embedding.detach(), visual.grid_size)
    visual.positional_embedding = nn.Parameter(resized_TD.clone())


def place_patches(visual: VisionTransformer, images_NCHW: Tensor) -> Tensor:
    """Class token and patches with their positions, before ``ln_pre``, in fp32 whatever the autocast: (N, T, D)."""
    assert images_NCHW.shape[-2:] == tuple(visual.image_size), "set_input_size decides the size, once"
    patches_NTD = visual.conv1(images_NCHW).flatten(2).transpose(1, 2).float()
    first_N1D = visual.class_embedding.float().expand(len(patches_NTD), 1, -1)
    return torch.cat([first_N1D, patches_NTD], dim=1) + cast(Tensor, visual.positional_embedding)


def embed_patches(visual: VisionTransformer, images_NCHW: Tensor) -> Tensor:
    """Tokens that enter block 1, the beginning of the residual stream: (N, T, D)."""
    return cast(Tensor, visual.ln_pre(place_patches(visual, images_NCHW)))


def project_heads(block: ResidualAttentionBlock, tokens_NTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of one block's attention, each (N, heads, T, D / heads)."""
    attention = block.attn
    packed = F.linear(block.ln_1(tokens_NTD), attention.in_proj_weight, attention.in_proj_bias)
    heads = packed.reshape(*packed.shape[:2], 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = heads.unbind(0)
    return query, key, value


def attend(block: ResidualAttentionBlock, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What a block's attention adds to its tokens: (N, T, D)."""
    if query.is_cpu and query.requires_grad and query.dtype == torch.bfloat16:
        # torch's fused attention for CPUs is slow backwards in bf16 (not in fp32), see benchmarks/tower_blocks.py.
        mixed_NHTd = (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1) @ value
    else:
        mixed_NHTd = F.scaled_dot_product_attention(query, key, value)
    return cast(Tensor, block.ls_1(block.attn.out_proj(mixed_NHTd.transpose(1, 2).flatten(2))))


def vision_stages(
    visual: VisionTransformer,
    images_NCHW: Tensor,
    stages: Sequence[int],
    dpam_from: int | None,
    *,
    with_class_token: bool = False,
) -> tuple[list[Tensor], Tensor | None]:
    """Tokens after the blocks named, in the joint space, and the class token of the ordinary path when asked for.

    Before ``dpam_from`` a stage holds CLIP's own tokens. From there on it holds the surgery path: the tokens that
    entered block ``dpam_from`` plus the v-v attention of every block since, each fed by the ordinary path, which
    stays as CLIP has it. In v-v attention the values also serve as queries and keys. All additions are out of
    place, so that gradients reach every stage.

    Args:
        visual: A tower whose input size is that of the images; after ``visual.set_grad_checkpointing()`` what a block
            computed is computed again on the way back, which takes less memory and more time.
        images_NCHW: Normalised images.
        stages: Blocks to read, ascending.
        dpam_from: First block with v-v attention; None for plain CLIP.
        with_class_token: Also run what only the class token needs, the rest of the last stage's block.

    Returns:
        One (N, T, E) per stage, after the shared ``ln_post`` and projection; and (N, E), the class token after the
        last stage's block, projected without ``ln_post``, or None.

    Reference: AnomalyCLIP's code with distinct stages ("DPAM", ``ffn=False``).
    """
    tokens_NTD = embed_patches(visual, images_NCHW)
    surgery_NTD: Tensor | None = None
    last = max(stages)
    run = _compute_again if visual.transformer.grad_checkpointing and torch.is_grad_enabled() else _compute
    read: list[Tensor] = []
    for number, block in enumerate(visual.transformer.resblocks[:last], start=1):
        if number == dpam_from:
            surgery_NTD = tokens_NTD
        forward = getattr(block, BLOCK_PATHS, None) or partial(block_paths, block)
        with_tokens = number < last or surgery_NTD is None or with_class_token
        tokens_NTD, surgery_NTD = run(forward, tokens_NTD, surgery_NTD, with_tokens)
        if number in stages:
            read.append(visual.ln_post(tokens_NTD if surgery_NTD is None else surgery_NTD) @ visual.proj)
    return read, tokens_NTD[:, 0] @ visual.proj if with_class_token else None


BLOCK_PATHS = "block_paths"
"""Attribute of a block that takes the place of the function, where something must be done around it."""


def block_paths(
    block: ResidualAttentionBlock, tokens_NTD: Tensor, surgery_NTD: Tensor | None, with_tokens: bool
) -> tuple[Tensor, Tensor | None]:
    """CLIP's own path after one block, and the surgery path where there is one.

    The first stays where it is when nothing needs it. The block is not called as open_clip has it: that gives its
    attention a transposed view, for which torch copies a frozen projection once per token, see
    ``benchmarks/tower_blocks.py``.
    """
    query, key, value = project_heads(block, tokens_NTD)
    if surgery_NTD is not None:
        surgery_NTD = surgery_NTD + attend(block, value, value, value)
    if with_tokens:
        tokens_NTD = tokens_NTD + attend(block, query, key, value)
        tokens_NTD = tokens_NTD + block.ls_2(block.mlp(block.ln_2(tokens_NTD)))
    return tokens_NTD, surgery_NTD


def _compute(function: Callable[..., Any], *given: Any) -> Any:
    return function(*given)


def _compute_again(function: Callable[..., Any], *given: Any) -> Any:
    """Keep what is given, and compute the rest anew on the way back."""
    return checkpoint(function, *given, use_reentrant=False)


def freeze_dead_parameters(visual: VisionTransformer, stages: Sequence[int], dpam_from: int | None) -> list[str]:
    """Freeze what no map depends on, since distributed training stops at parameters without a gradient.

    These are the blocks after the last stage, and, when that stage is read from the surgery path, its block's second
    norm and MLP. (Its query and key rows stand in one tensor with the values and simply get zero gradients.)

    Returns:
        Names of the parameters frozen, within the tower.
    """
    last = max(stages)
    blocks = visual.transformer.resblocks
    dead: list[nn.Module] = list(blocks[last:])
    if dpam_from is not None and last >= dpam_from:
        dead += [blocks[last - 1].ln_2, blocks[last - 1].mlp, blocks[last - 1].ls_2]
    for module in dead:
        module.requires_grad_(False)
    return [name for name, parameter in visual.named_parameters() if not parameter.requires_grad]
