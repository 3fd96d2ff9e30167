"""WinCLIP and WinCLIP+: a frozen CLIP is asked of every window of a tile whether it looks flawed.

    windows of 2x2 and 3x3 tokens, and the whole tile -> how much nearer to "damaged ..." than to "flawless ..."
      -> harmonic mean of all windows that cover a token -> harmonic mean over window sizes
    WinCLIP+ also: how unlike windows and patches of normal references -> mean of both maps

Nothing is trained, and there is one map, of any contaminant.

Shapes: N tiles, R references, W windows, P patches of a window, G grid side, T tokens (class token + grid, or the grid
alone), B sequences, M vectors to compare with, D tower width, E joint width.

Reference: WinCLIP (Jeong et al. 2023), as three public implementations of it agree; where they differ, see
``WinClipConfig``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.transformer import VisionTransformer
from pydantic import ConfigDict
from torch import Tensor

from scrapray.errors import ConfigurationError
from scrapray.labels import ANY_CONTAMINANT_PROMPT, STEEL_PROMPT
from scrapray.segmenter.model import prepare_tiles, resize_map
from scrapray.segmenter.tower import ClipConfig, place_patches
from scrapray.settings import STRICT

_NORMAL = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
_FLAWED = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
_KINDS = ("cropped", "close-up", "bright", "dark", "jpeg corrupted", "blurry")
_TEMPLATES = (
    *(f"a {kind} photo of {article} {{}}" for kind in _KINDS for article in ("a", "the")),
    *(f"a photo of {article} {{}}" for article in ("a", "the")),
    *(f"a photo of {article} {size} {{}}" for article in ("a", "the") for size in ("small", "large")),
    *(
        f"a photo of {article} {{}} for {end}"
        for article in ("a", "the")
        for end in ("visual inspection", "anomaly detection")
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WinClipConfig:
    """``[winclip]``: what WinCLIP asks, and how finely.

    Attributes:
        object_name: What the states are said of.
        states: ``flaws`` for the states of the WinCLIP paper, each in 22 templates. ``steel`` for the two prompts of
            the scrap paper, which says no more than that it provided them.
        scales: Sides of windows in tokens.
        temperature: Of the softmax over both states; 0.07 in two implementations, 0.01 in another.
        num_references: Normal tiles that WinCLIP+ compares with; the scrap paper's 10.
        seed: Of their choice.
        patch_ln_post: Compare patches after the tower's last normalisation; one implementation takes them before.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    object_name: str = "steel scrap"
    states: Literal["flaws", "steel"] = "flaws"
    scales: tuple[int, ...] = (2, 3)
    temperature: float = 0.07
    num_references: int = 10
    seed: int = 0
    patch_ln_post: bool = True

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) < 1:
            raise ConfigurationError(f"scales are {self.scales}, must be one or more sides of windows, 1 or more")
        if self.temperature <= 0:
            raise ConfigurationError(f"temperature is {self.temperature}, must be above 0")
        if self.num_references < 1:
            raise ConfigurationError(f"num_references is {self.num_references}, must be 1 or more")


class WinClip:
    """The scorer; holds the towers, what they say of both states, and of WinCLIP+ what references look like."""

    def __init__(
        self, clip: open_clip.CLIP, clip_config: ClipConfig, config: WinClipConfig, device: torch.device | str = "cpu"
    ) -> None:
        """Ask the text tower once.

        Args:
            clip: Both towers; the production build is ``ViT-B-16-plus-240`` with weights ``laion400m_e32``.
            clip_config: Their shape.
            config: What to ask.
            device: Where to compute.

        Raises:
            ConfigurationError: A window is larger than the tower's grid.
        """
        visual = clip.visual
        assert isinstance(visual, VisionTransformer), "build_clip makes no other"
        self._visual = visual.to(device).eval()
        self._config, self._clip_config, self._device = config, clip_config, device
        self._grid = visual.grid_size[0]
        if max(config.scales) > self._grid:
            raise ConfigurationError(f"a window of {max(config.scales)} tokens does not fit into {self._grid}")
        self._windows = {scale: windows_of(self._grid, scale).to(device) for scale in config.scales}
        self._states_2E = torch.stack([_mean_feature(clip, texts) for texts in prompts_of(config)]).to(device)
        self._references: _Seen | None = None

    @torch.inference_mode()
    def remember(self, references_RHW3: NDArray[np.uint8]) -> None:
        """Take normal tiles to compare with, 10 in the scrap paper: from now on this is WinCLIP+."""
        self._references = self._look(references_RHW3)

    @torch.inference_mode()
    def __call__(self, tiles_NHW3: NDArray[np.uint8], out_px: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Anomaly maps (N, 1, out_px, out_px) in [0, 1], and a score for each tile as a whole (N)."""
        seen = self._look(tiles_NHW3)
        tile_N = self._flawed(seen.whole_NE)
        scores = {scale: self._flawed(views_NWE) for scale, views_NWE in seen.windows.items()}
        whole_NGG = tile_N[:, None, None].expand(-1, self._grid, self._grid)
        map_NGG = harmonic_mean(torch.stack([whole_NGG, *self._spread(scores)]))
        if (known := self._references) is not None:
            unlike = {
                scale: association(views_NWE, known.windows[scale].flatten(0, 1))
                for scale, views_NWE in seen.windows.items()
            }
            unlike_patches_NT = association(seen.patches_NTD, known.patches_NTD.flatten(0, 1))
            few_NGG = torch.stack([unlike_patches_NT.view_as(map_NGG), *self._spread(unlike)]).mean(dim=0)
            map_NGG = (map_NGG + few_NGG) / 2
            tile_N = (tile_N + few_NGG.amax(dim=(1, 2))) / 2
        map_N1HW = resize_map(map_NGG[:, None].float(), out_px)
        return map_N1HW.cpu().numpy(), tile_N.float().cpu().numpy()

    def _look(self, tiles_NHW3: NDArray[np.uint8]) -> "_Seen":
        """One pass of the tower over the whole tile, and one over each window."""
        visual = self._visual
        images_N3HW = prepare_tiles(torch.tensor(tiles_NHW3), visual.image_size[0], self._clip_config, self._device)
        placed_NTD = place_patches(visual, images_N3HW)
        tokens_NTD = visual.transformer(visual.ln_pre(placed_NTD))
        patches_NTD = visual.ln_post(tokens_NTD) if self._config.patch_ln_post else tokens_NTD
        return _Seen(
            whole_NE=visual.ln_post(tokens_NTD[:, 0]) @ visual.proj,
            windows={
                scale: encode_windows(visual, placed_NTD, windows_WP) for scale, windows_WP in self._windows.items()
            },
            patches_NTD=patches_NTD[:, 1:],
        )

    def _flawed(self, views_E: Tensor) -> Tensor:
        """How much nearer to flawed than to normal, in [0, 1]."""
        cosine_2 = F.normalize(views_E, dim=-1) @ F.normalize(self._states_2E, dim=-1).T
        return (cosine_2 / self._config.temperature).softmax(dim=-1)[..., 1]

    def _spread(self, scores: Mapping[int, Tensor]) -> list[Tensor]:
        """Scores of windows -> scores of tokens."""
        return [harmonic_map(scores[scale], windows_WP, self._grid) for scale, windows_WP in self._windows.items()]


class _Seen(NamedTuple):
    """What the tower says of tiles: as a whole, window by window, and patch by patch without the projection."""

    whole_NE: Tensor
    windows: dict[int, Tensor]
    patches_NTD: Tensor


def prompts_of(config: WinClipConfig) -> tuple[list[str], list[str]]:
    """What is said of the normal state, and of the flawed one."""
    if config.states == "steel":
        return [STEEL_PROMPT], [ANY_CONTAMINANT_PROMPT]
    normal, flawed = (
        [template.format(state.format(config.object_name)) for state in states for template in _TEMPLATES]
        for states in (_NORMAL, _FLAWED)
    )
    return normal, flawed


def windows_of(grid_side: int, scale: int) -> Tensor:
    """Tokens of each square window of the grid, stride 1, windows_WP; token 0 is the first patch."""
    tokens_GG = torch.arange(grid_side**2).view(grid_side, grid_side)
    return tokens_GG.unfold(0, scale, 1).unfold(1, scale, 1).reshape(-1, scale**2)


def encode_windows(visual: VisionTransformer, placed_NTD: Tensor, windows_WP: Tensor) -> Tensor:
    """The class token after a pass over it and the patches of one window alone, (N, W, E).

    Args:
        visual: The tower.
        placed_NTD: Tokens with the positions they have in the whole tile, before ``ln_pre``.
        windows_WP: Patches of each window.
    """
    num, num_windows = len(placed_NTD), len(windows_WP)
    with_class_WP = F.pad(windows_WP + 1, (1, 0))
    # Sequences stay apart only with the batch in front, as open_clip has it since 2.26.
    sequences_BPD = placed_NTD[:, with_class_WP].flatten(0, 1)
    class_BD = visual.transformer(visual.ln_pre(sequences_BPD))[:, 0]
    views_BE: Tensor = visual.ln_post(class_BD) @ visual.proj
    return views_BE.view(num, num_windows, -1)


def harmonic_mean(scores: Tensor) -> Tensor:
    """Over the first axis, in double precision; 0 where a score is 0."""
    return len(scores) / scores.double().reciprocal().sum(dim=0)


def harmonic_map(scores_NW: Tensor, windows_WP: Tensor, grid_side: int) -> Tensor:
    """Of each token the harmonic mean over the windows that cover it, (N, G, G)."""
    covers_WT = torch.zeros(len(windows_WP), grid_side**2, dtype=torch.float64, device=scores_NW.device)
    covers_WT.scatter_(1, windows_WP, 1.0)
    # A score of 0 makes its sum infinite, and the mean 0; the windows elsewhere must not take part in that.
    reciprocal_NW = scores_NW.double().clamp(min=torch.finfo(torch.float64).tiny).reciprocal()
    map_NT = covers_WT.sum(dim=0) / (reciprocal_NW @ covers_WT)
    return map_NT.view(-1, grid_side, grid_side)


def association(views_NWE: Tensor, memory_ME: Tensor) -> Tensor:
    """How unlike all of the memory each view is, half of one less the cosine, in [0, 1]: (N, W)."""
    cosine_NWM = F.normalize(views_NWE, dim=-1) @ F.normalize(memory_ME, dim=-1).T
    return ((1 - cosine_NWM.amax(dim=-1)) / 2).clamp(0, 1)


@torch.inference_mode()
def _mean_feature(clip: open_clip.CLIP, texts: Sequence[str]) -> Tensor:
    """Mean of the features as they come, not normalised."""
    features_CE: Tensor = clip.encode_text(open_clip.SimpleTokenizer()(list(texts), clip.context_length))
    return features_CE.mean(dim=0)
