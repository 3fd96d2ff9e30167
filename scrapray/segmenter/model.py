"""The segmenter: image tokens at several depths compared with the text of every class.

Shapes: S stages, N tiles, C classes (0 is steel), K = C - 1 contaminants, T tokens without the class token, E joint
width, H x W pixels of a map. Tiles are square; maps come out at any size asked for.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, get_args

import open_clip
import torch
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from scrapray.errors import ConfigurationError, ModelError
from scrapray.labels import ANY_CONTAMINANT_PROMPT, STEEL_PROMPT, Contaminant
from scrapray.segmenter.multiscale import MultiScale
from scrapray.segmenter.prompts import Binarisation, PromptBank, TextTower, tokenize_prompts
from scrapray.segmenter.tower import (
    ClipConfig,
    build_clip,
    freeze_dead_parameters,
    set_input_size,
    vision_stages,
)
from scrapray.settings import STRICT

_GAUSSIAN_TRUNCATE = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterConfig:
    """What the segmenter is made of beside its CLIP; the defaults are those of the scrap paper on ViT-L/14@336.

    Attributes:
        input_px: Side of the square that the tower sees; a multiple of its patch size.
        stages: Blocks whose tokens are read, counted from 1.
        dpam_from: First block with v-v attention; None for none.
        num_context: Learnable vectors in front of each prompt.
        prompt_depth: Text blocks that see learnable vectors, the first one included.
        deep_length: Vectors that are overwritten in each deeper one.
        temperature: Divides cosines before the softmax over classes.
        msm_hidden: Width of the multi-scale mechanism.
        msm_scales: Its window sizes in tokens.
        msm_stage_weights: Weight of each stage's multi-scale map, in the loss and in the fused score.
        similarity_share: Share of the similarity maps in the fused score; the rest is multi-scale.
        binarisation: How the map of all contaminants is had from class prompts.
        gaussian_sigma_px: Smoothing of the fused score, in input pixels; 0 for none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    input_px: int = 518
    stages: tuple[int, ...] = (6, 12, 18, 24)
    dpam_from: int | None = 6
    num_context: int = 16
    prompt_depth: int = 9
    deep_length: int = 4
    temperature: float = 0.07
    msm_hidden: int = 256
    msm_scales: tuple[int, ...] = (3, 9)
    msm_stage_weights: tuple[float, ...] = (0.1, 0.1, 0.1, 0.7)
    similarity_share: float = 0.5
    binarisation: Binarisation = "avg_ctx"
    gaussian_sigma_px: float = 4.0

    def __post_init__(self) -> None:
        if not self.stages or list(self.stages) != sorted(set(self.stages)) or self.stages[0] < 1:
            raise ConfigurationError(f"stages are {self.stages}, must ascend from 1 or more without repeating")
        weights = self.msm_stage_weights
        if len(weights) != len(self.stages) or min(weights) < 0 or not 0 < sum(weights) < math.inf:
            raise ConfigurationError(
                f"msm_stage_weights are {weights}, must be one for each of {len(self.stages)} stages, none below 0 and "
                "not all 0"
            )
        for name in ("input_px", "num_context", "prompt_depth", "deep_length", "msm_hidden", "dpam_from"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} is {value}, must be 1 or more")
        if self.deep_length > self.num_context:
            raise ConfigurationError(f"deep_length is {self.deep_length}, must be at most num_context")
        if not self.msm_scales or min(self.msm_scales) < 1:
            raise ConfigurationError(f"msm_scales are {self.msm_scales}, must be 1 or more each")
        if not 0 <= self.similarity_share <= 1:
            raise ConfigurationError(f"similarity_share is {self.similarity_share}, must be 0 to 1")
        if not (0 < self.temperature < math.inf and 0 <= self.gaussian_sigma_px < math.inf):
            raise ConfigurationError("temperature must be above 0 and gaussian_sigma_px 0 or more")
        if self.binarisation not in get_args(Binarisation):
            raise ConfigurationError(f"binarisation is {self.binarisation!r}, must be one of {get_args(Binarisation)}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str) -> "SegmenterConfig":
        """Read what ``as_dict`` wrote.

        Raises:
            ModelError: A value is missing, unknown or out of range.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise ModelError(f"{source}: the segmenter's settings differ by {sorted(names ^ set(values))}")
        try:
            settings: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
            return cls(**settings)
        except (ConfigurationError, TypeError) as error:
            raise ModelError(f"{source}: {error}") from error


class ScoreMaps(NamedTuple):
    """Scores in [0, 1]: of each contaminant (N, K, H, W), and of any contaminant (N, H, W)."""

    classes_NKHW: Tensor
    any_NHW: Tensor


class Segmenter(nn.Module):
    """CLIP finetuned to tell contaminants from steel, pixel by pixel.

    ``forward`` gives what the losses need; ``score`` what an audit needs. Going to ``eval()`` renews the cached text
    features, with which a segmenter without a text tower works alone.
    """

    class_text_CE: Tensor
    pair_text_2E: Tensor
    ids_CL: Tensor
    pair_ids_2L: Tensor

    def __init__(
        self,
        config: SegmenterConfig,
        clip_config: ClipConfig,
        classes: Sequence[Contaminant],
        clip: open_clip.CLIP,
        *,
        with_text: bool,
    ) -> None:
        """Take a CLIP apart.

        Args:
            config: What to build.
            clip_config: Shape of the CLIP.
            classes: The contaminants, in the order of their maps.
            clip: Gives the vision tower, and the text tower if asked for.
            with_text: Keep the text tower, for training.

        Raises:
            ConfigurationError: The settings ask for more blocks than the towers have, or no class is given.
        """
        super().__init__()
        check_depths(config, clip_config, classes)
        self.config = config
        self.clip_config = clip_config
        self.classes = tuple(classes)
        num_classes = 1 + len(classes)
        self.visual = clip.visual
        set_input_size(self.visual, config.input_px)
        freeze_dead_parameters(self.visual, config.stages, config.dpam_from)
        self.prompts = PromptBank(
            num_classes,
            clip_config.text_cfg["width"],
            num_context=config.num_context,
            depth=config.prompt_depth,
            deep_length=config.deep_length,
        )
        self.msm = nn.ModuleList(
            MultiScale(clip_config.embed_dim, num_classes, hidden=config.msm_hidden, scales=config.msm_scales)
            for _ in config.stages
        )
        self.register_buffer("class_text_CE", torch.zeros(num_classes, clip_config.embed_dim))
        self.register_buffer("pair_text_2E", torch.zeros(2, clip_config.embed_dim))
        self.text = TextTower(clip) if with_text else None
        if with_text:
            texts = [STEEL_PROMPT, *(contaminant.prompt for contaminant in classes), ANY_CONTAMINANT_PROMPT]
            ids = tokenize_prompts(texts, config.num_context, clip.context_length)
            ids = ids[:, : int(ids.argmax(dim=1).max()) + 1]
            self.register_buffer("ids_CL", ids[:-1], persistent=False)
            self.register_buffer("pair_ids_2L", ids[[0, -1]], persistent=False)
            self.refresh_text()

    def train(self, mode: bool = True) -> Self:
        """Switch mode; to evaluation mode with text features of the prompts as they are now."""
        super().train(mode)
        if not mode:
            self.refresh_text()
        return self

    def see_at(self, input_px: int) -> None:
        """Take tiles of another size from now on, see ``set_input_size``; before an optimizer holds its parameters."""
        set_input_size(self.visual, input_px)
        self.config = replace(self.config, input_px=input_px)

    @torch.no_grad()
    def refresh_text(self) -> None:
        """Compute the cached text features again; without a text tower they stay."""
        if self.text is None:
            return
        how = self.config.binarisation
        self.class_text_CE.copy_(self.prompts.class_features(self.text, self.ids_CL))
        self.pair_text_2E.copy_(self.prompts.pair_features(self.text, self.ids_CL, self.pair_ids_2L, how))

    def state(self) -> dict[str, Tensor]:
        """Everything but the frozen text tower: what a checkpoint or a bundle holds."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("text.")}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what ``state`` gave.

        Raises:
            ModelError: A tensor is missing, unknown or of another shape.
        """
        mine = self.state()
        differing = {name for name in mine.keys() & state.keys() if mine[name].shape != state[name].shape}
        if mine.keys() != state.keys() or differing:
            raise ModelError(
                f"weights do not fit the segmenter: missing {_few(mine.keys() - state.keys())}, "
                f"unknown {_few(state.keys() - mine.keys())}, of another shape {_few(differing)}"
            )
        self.load_state_dict(state, strict=False, assign=self.class_text_CE.is_meta)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Tokens down and across."""
        height, width = self.visual.grid_size
        return height, width

    def forward(self, tiles_N3HW: Tensor, out_px: int) -> tuple[Tensor, Tensor]:
        """Probability of each class at each pixel, for the losses. An autocast around it reaches the tower only.

        Args:
            tiles_N3HW: Prepared tiles (see ``prepare_tiles``).
            out_px: Side of the maps.

        Returns:
            Similarity maps and multi-scale maps, each (S, N, C, H, W); channels sum to 1.
        """
        stages = self._tokens(tiles_N3HW)
        with torch.autocast(tiles_N3HW.device.type, enabled=False):
            text_CE = self.class_text_CE if self.text is None else self.prompts.class_features(self.text, self.ids_CL)
            return resize_map(self._similarity(stages, text_CE), out_px), self._multiscale(stages, text_CE, out_px)

    @torch.no_grad()
    def score(self, tiles_N3HW: Tensor, out_px: int) -> ScoreMaps:
        """Fused scores of each contaminant and of any contaminant, from the cached text features.

        Fused means ``share * mean of the similarity maps + (1 - share) * weighted mean of the multi-scale maps``,
        then smoothed. Any contaminant is the two-class softmax on the similarity side (or 1 - steel under
        ``marginal``) and 1 - steel on the multi-scale side. An autocast around it reaches the tower only.
        """
        assert not self.training, "the cached text features are those of evaluation mode"
        stages = self._tokens(tiles_N3HW)
        with torch.autocast(tiles_N3HW.device.type, enabled=False):
            fused_N1KHW = self._fuse(stages, out_px)
            sigma = self.config.gaussian_sigma_px * out_px / self.config.input_px
            smooth_N1KHW = gaussian_blur(fused_N1KHW, sigma).clamp(0, 1)
        return ScoreMaps(smooth_N1KHW[:, 1:], smooth_N1KHW[:, 0])

    def _fuse(self, stages: Sequence[Tensor], out_px: int) -> Tensor:
        """Scores of any contaminant and of each: (N, 1 + K, H, W)."""
        share = self.config.similarity_share
        similarity_NChw = self._similarity(stages, self.class_text_CE).mean(dim=0)
        any_N1hw = 1 - similarity_NChw[:, :1]
        if self.config.binarisation != "marginal":
            any_N1hw = self._similarity(stages, self.pair_text_2E).mean(dim=0)[:, 1:]
        from_similarity_N1KHW = resize_map(torch.cat([any_N1hw, similarity_NChw[:, 1:]], dim=1), out_px)
        weights_S = torch.tensor(self.config.msm_stage_weights, device=any_N1hw.device)
        multiscale_SNCHW = self._multiscale(stages, self.class_text_CE, out_px)
        multiscale_NCHW = torch.tensordot(weights_S / weights_S.sum(), multiscale_SNCHW, dims=1)
        from_multiscale_N1KHW = torch.cat([1 - multiscale_NCHW[:, :1], multiscale_NCHW[:, 1:]], dim=1)
        return share * from_similarity_N1KHW + (1 - share) * from_multiscale_N1KHW

    def _tokens(self, tiles_N3HW: Tensor) -> list[Tensor]:
        """Tokens of each stage without the class token, as fp32: S times (N, T, E)."""
        stages, _ = vision_stages(self.visual, tiles_N3HW, self.config.stages, self.config.dpam_from)
        return [tokens[:, 1:].float() for tokens in stages]

    def _similarity(self, stages: Sequence[Tensor], text_CE: Tensor) -> Tensor:
        """Probabilities on the token grid: (S, N, C, h, w)."""
        temperature, grid_hw = self.config.temperature, self.grid_hw
        return torch.stack([similarity_map(tokens, text_CE, temperature, grid_hw) for tokens in stages])

    def _multiscale(self, stages: Sequence[Tensor], text_CE: Tensor, out_px: int) -> Tensor:
        """Probabilities, made from resized logits: (S, N, C, H, W)."""
        logits = [msm(tokens, text_CE, self.grid_hw) for msm, tokens in zip(self.msm, stages, strict=True)]
        return resize_map(torch.stack(logits), out_px).softmax(dim=2)


def build_segmenter(
    config: SegmenterConfig,
    classes: Sequence[Contaminant],
    *,
    model: str = "ViT-L-14-336-quickgelu",
    weights: str | Path | None,
    seed: int = 0,
) -> Segmenter:
    """A segmenter ready for training, with both towers.

    Args:
        config: What to build.
        classes: The contaminants, in the order of their maps.
        model: open_clip's name or a JSON model configuration.
        weights: ``openai`` or another tag, a local file, or None for random weights.
        seed: Of everything random in it.

    Raises:
        ModelError: Model and weights do not go together or cannot be had.
        ConfigurationError: Settings and model do not go together.
    """
    clip, clip_config = build_clip(model, weights, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Segmenter(config, clip_config, classes, clip, with_text=True)


def prepare_tiles(
    tiles_NHW3: Tensor, input_px: int, clip_config: ClipConfig, device: torch.device | str = "cpu"
) -> Tensor:
    """RGB tiles as uint8 on the CPU, resized and normalised for the tower, on a device: (N, 3, H, W) float32.

    The resize is bicubic with antialias, in uint8 as PIL does it: ten times faster than in floats, and the same for
    every device.
    """
    tiles_N3HW = tiles_NHW3.permute(0, 3, 1, 2)
    if tiles_N3HW.shape[-2:] != (input_px, input_px):
        tiles_N3HW = F.interpolate(tiles_N3HW, (input_px, input_px), mode="bicubic", antialias=True)
    mean_311, std_311 = (
        torch.tensor(values, device=device).view(3, 1, 1) for values in (clip_config.mean_rgb, clip_config.std_rgb)
    )
    return (tiles_N3HW.to(device).float() / 255 - mean_311) / std_311


def similarity_map(tokens_NTE: Tensor, text_CE: Tensor, temperature: float, grid_hw: tuple[int, int]) -> Tensor:
    """Softmax over classes of the cosine between token and text, on the token grid: (N, C, h, w)."""
    cosine_NTC = F.normalize(tokens_NTE, dim=-1) @ F.normalize(text_CE, dim=-1).T
    classes_NCT = (cosine_NTC / temperature).softmax(dim=-1).transpose(1, 2)
    return classes_NCT.reshape(*classes_NCT.shape[:2], *grid_hw)


def resize_map(maps_hw: Tensor, out_px: int) -> Tensor:
    """Bilinear resize of the last two axes to a square; channels that sum to 1 still do."""
    resized = F.interpolate(maps_hw.flatten(0, -4), (out_px, out_px), mode="bilinear", align_corners=False)
    return resized.view(*maps_hw.shape[:-2], out_px, out_px)


def gaussian_blur(map_NCHW: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing as ``scipy.ndimage.gaussian_filter`` does it: cut at 4 sigma, edge pixel repeated."""
    if sigma == 0:
        return map_NCHW
    height, width = map_NCHW.shape[-2:]
    return _gaussian_matrix(height, sigma).to(map_NCHW) @ map_NCHW @ _gaussian_matrix(width, sigma).to(map_NCHW).T


def _gaussian_matrix(length: int, sigma: float) -> Tensor:
    """Smoothing of one axis as a matrix; on a CPU that is much faster than a convolution of single channels."""
    radius = int(_GAUSSIAN_TRUNCATE * sigma + 0.5)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    reached = torch.arange(-radius, length + radius) % (2 * length)
    mirrored = torch.where(reached < length, reached, 2 * length - 1 - reached).unfold(0, len(kernel), 1)
    weights = (kernel / kernel.sum()).expand(length, -1)
    return torch.zeros(length, length, dtype=torch.float64).scatter_add_(1, mirrored, weights)


def check_depths(config: SegmenterConfig, clip_config: ClipConfig, classes: Sequence[Contaminant]) -> None:
    """See to it that settings and towers go together, before either is built.

    Raises:
        ConfigurationError: They do not, or no class is given.
    """
    vision_blocks, text_blocks = clip_config.vision_cfg["layers"], clip_config.text_cfg["layers"]
    if not classes:
        raise ConfigurationError("no contaminant is given; a segmenter needs one or more")
    if config.stages[-1] > vision_blocks:
        raise ConfigurationError(f"stages are {config.stages} but the vision tower has {vision_blocks} blocks")
    if config.dpam_from is not None and config.dpam_from > config.stages[-1]:
        raise ConfigurationError(
            f"dpam_from is {config.dpam_from}, after the last of the stages {config.stages}, so no block would have it"
        )
    if config.prompt_depth > text_blocks:
        raise ConfigurationError(f"prompt_depth is {config.prompt_depth}, the text tower has {text_blocks} blocks")


def _few(names: set[str]) -> str:
    """The first names of a set, for a message."""
    shown = ", ".join(sorted(names)[:3])
    return f"{shown or 'none'}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
