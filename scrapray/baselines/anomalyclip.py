"""AnomalyCLIP: prompts are learned for a frozen CLIP, on the same tiles and with losses of its own.

    tile -> frozen tower with v-v attention -> tokens of the stages named -> cosine with two learned prompts -> softmax
      -> mean over stages, smoothed -> map of any contaminant

It differs from ``segmenter`` in what is learned, in its losses and in what it tells: flawed or not, no classes.

Shapes: N tiles, S stages, T tokens, E joint width, H x W pixels of a map. Class 0 is normal, class 1 flawed.

Reference: AnomalyCLIP (Zhou et al. 2024) as its code has it since April 2025; the texts are those of the scrap paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import Tensor
from torch.nn import functional as F

from scrapray.baselines.epochs import Schedule
from scrapray.errors import ConfigurationError
from scrapray.labels import ANY_CONTAMINANT_PROMPT, STEEL_PROMPT
from scrapray.segmenter.model import gaussian_blur, prepare_tiles, resize_map, similarity_map
from scrapray.segmenter.prompts import PromptBank, TextTower, tokenize_prompts
from scrapray.segmenter.tower import ClipConfig, set_input_size, vision_stages
from scrapray.settings import STRICT, require

_GAMMA = 2.0
_SMOOTHING = 1e-5
_DICE_SMOOTH = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyClipConfig:
    """``[anomalyclip]``: the defaults are those of its code on ViT-L/14@336.

    Attributes:
        input_px: Side of the square that the tower sees.
        stages: Blocks whose tokens are read. Its code reads block 24 alone; its paper describes 6, 12, 18 and 24, and
            in all that was published before April 2025 these four were, by mistake, all the last one.
        dpam_from: First block with v-v attention.
        num_context: Learnable vectors in front of each prompt.
        prompt_depth: Text blocks that see learnable vectors, the first one included.
        deep_length: Vectors that are overwritten in each deeper one.
        temperature: Divides cosines before the softmax.
        gaussian_sigma_px: Smoothing of the map, in input pixels.
        learning_rate: Of Adam.
        betas: Of Adam.
        epochs: Times that each training tile is shown.
        batch_size: Tiles of a step.
        local_weight: Of the losses on maps beside that on the tile as a whole; 4 times as much where four stages
            should be the last one, as they once were.
        seed: Of prompts and order.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    input_px: int = 518
    stages: tuple[int, ...] = (24,)
    dpam_from: int = 6
    num_context: int = 12
    prompt_depth: int = 9
    deep_length: int = 4
    temperature: float = 0.07
    gaussian_sigma_px: float = 4.0
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    epochs: int = 15
    batch_size: int = 8
    local_weight: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            bool(self.stages) and list(self.stages) == sorted(set(self.stages)) and self.stages[0] >= 1,
            f"stages are {self.stages}, must ascend from 1 or more without repeating",
        )
        for name in ("input_px", "dpam_from", "num_context", "prompt_depth", "deep_length", "epochs", "batch_size"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, must be 1 or more")
        for name in ("temperature", "learning_rate"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, must be above 0")
        for name in ("gaussian_sigma_px", "local_weight", "seed"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}, must be 0 or more")


class AnomalyClip:
    """The scorer, and what its training steps through: prompts."""

    def __init__(
        self,
        clip: open_clip.CLIP,
        clip_config: ClipConfig,
        config: AnomalyClipConfig,
        device: torch.device | str = "cpu",
    ) -> None:
        """Freeze a CLIP and put new prompts in front of its text tower.

        Args:
            clip: Both towers; the production build is ``ViT-L-14-336-quickgelu`` with weights ``openai``.
            clip_config: Their shape.
            config: What to build.
            device: Where to compute.

        Raises:
            ConfigurationError: The towers have fewer blocks than the settings ask for.
        """
        blocks, text_blocks = clip_config.vision_cfg["layers"], clip_config.text_cfg["layers"]
        if config.stages[-1] > blocks or config.prompt_depth > text_blocks:
            raise ConfigurationError(
                f"stages are {config.stages} and prompt_depth is {config.prompt_depth}, the towers have {blocks} and "
                f"{text_blocks} blocks"
            )
        self.config, self._clip_config, self._device = config, clip_config, device
        self._visual = clip.visual.to(device).eval().requires_grad_(False)
        set_input_size(self._visual, config.input_px)
        self._text = TextTower(clip).to(device).eval()
        texts = [STEEL_PROMPT, ANY_CONTAMINANT_PROMPT]
        self._ids_2L = tokenize_prompts(texts, config.num_context, clip.context_length).to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.learned = PromptBank(
                2,
                clip_config.text_cfg["width"],
                num_context=config.num_context,
                depth=config.prompt_depth,
                deep_length=config.deep_length,
            ).to(device)

    @torch.no_grad()
    def __call__(self, tiles_NHW3: NDArray[np.uint8], out_px: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Anomaly maps (N, 1, out_px, out_px) in [0, 1], and a score for each tile as a whole (N)."""
        maps_SN2HW, tile_N2 = self._look(tiles_NHW3, out_px)
        flawed_N1HW = maps_SN2HW.mean(dim=0)[:, 1:]
        sigma = self.config.gaussian_sigma_px * out_px / self.config.input_px
        map_N1HW = gaussian_blur(flawed_N1HW, sigma).clamp(0, 1)
        return map_N1HW.cpu().numpy(), tile_N2.softmax(dim=-1)[:, 1].cpu().numpy()

    def loss(self, pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> Tensor:
        """What a step of training minimises, for tiles (H, W, 3) and their class ids (H, W)."""
        flawed_N1HW = torch.from_numpy(np.stack([class_HW > 0 for _, class_HW in pairs]))[:, None].float()
        out_px = self.config.input_px
        flawed_NHW = F.interpolate(flawed_N1HW, (out_px, out_px), mode="nearest-exact")[:, 0].to(self._device)
        maps_SN2HW, tile_N2 = self._look(np.stack([tile_HW3 for tile_HW3, _ in pairs]), out_px)
        local = torch.stack([local_loss(maps_N2HW, flawed_NHW) for maps_N2HW in maps_SN2HW]).sum()
        whole = F.cross_entropy(tile_N2, flawed_NHW.amax(dim=(1, 2)).long())
        return self.config.local_weight * local + whole

    @property
    def schedule(self) -> Schedule:
        """How long it is trained."""
        config = self.config
        return Schedule(epochs=config.epochs, batch_size=config.batch_size, seed=config.seed)

    def optimizer(self) -> torch.optim.Adam:
        """Adam over the prompts."""
        return torch.optim.Adam(self.learned.parameters(), lr=self.config.learning_rate, betas=self.config.betas)

    def _look(self, tiles_NHW3: NDArray[np.uint8], out_px: int) -> tuple[Tensor, Tensor]:
        """Probabilities of normal and flawed of each stage (S, N, 2, H, W), and the logits of the whole tile (N, 2)."""
        config = self.config
        images_N3HW = prepare_tiles(torch.from_numpy(tiles_NHW3), config.input_px, self._clip_config, self._device)
        with torch.no_grad():
            stages, class_NE = vision_stages(
                self._visual, images_N3HW, config.stages, config.dpam_from, with_class_token=True
            )
        assert class_NE is not None
        text_2E = self.learned.class_features(self._text, self._ids_2L)
        grid_hw = self._visual.grid_size
        maps = [similarity_map(tokens[:, 1:], text_2E, config.temperature, grid_hw) for tokens in stages]
        return resize_map(torch.stack(maps), out_px), F.normalize(class_NE, dim=-1) @ text_2E.T / config.temperature


def local_loss(maps_N2HW: Tensor, flawed_NHW: Tensor) -> Tensor:
    """Focal loss, and dice of both channels, of one stage's probabilities against a mask of 0 and 1.

    Reference: the code of AnomalyCLIP: focal with gamma 2 and labels smoothed by 1e-5, dice per tile with both
    denominators linear and 1 added to both sides.
    """
    truth_N2HW = torch.stack([1 - flawed_NHW, flawed_NHW], dim=1)
    chosen_NHW = (truth_N2HW.clamp(_SMOOTHING, 1 - _SMOOTHING) * maps_N2HW).sum(dim=1) + _SMOOTHING
    focal = (-((1 - chosen_NHW) ** _GAMMA) * chosen_NHW.log()).mean()
    overlap_N2 = (maps_N2HW * truth_N2HW).sum(dim=(2, 3))
    size_N2 = maps_N2HW.sum(dim=(2, 3)) + truth_N2HW.sum(dim=(2, 3))
    dice_2 = 1 - ((2 * overlap_N2 + _DICE_SMOOTH) / (size_N2 + _DICE_SMOOTH)).mean(dim=0)
    return focal + dice_2.sum()
