"""Mask R-CNN with a ResNet-50 and feature pyramid, as torchvision has it, finetuned on tiles and scored by pixel.

    class mask -> connected pieces -> boxes and masks -> torchvision's training losses
    tile -> instances with scores from 0.001 on -> ``rasterise``

Shapes: N tiles, I instances, H x W pixels of a tile, K contaminants.

Reference: Mask R-CNN (He et al. 2017), torchvision's build.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict
from scipy import ndimage
from torch import Tensor
from torchvision.models.detection import MaskRCNN, MaskRCNN_ResNet50_FPN_Weights
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d

from scrapray.baselines.epochs import Schedule
from scrapray.baselines.rasterise import Instances
from scrapray.errors import ModelError
from scrapray.imagery.components import EIGHT_CONNECTED
from scrapray.settings import STRICT, require

COCO, RANDOM = "coco", "random"
"""Weights of torchvision's own detector, trained on COCO; and weights that are none."""
_COCO_CLASSES = 91
_ALL_STAGES, _TRAINABLE_STAGES = 5, 3
_MASK_WIDTH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRcnnConfig:
    """``[maskrcnn]``: how it is built and trained.

    Attributes:
        weights: ``coco`` for torchvision's own (fetched by it), a file with them, or ``random``.
        input_px: Side to which tiles are resized.
        min_score: Instances below are left out; torchvision's 0.05 would cut the precision-recall curve short.
        max_instances: Most instances of a tile.
        learning_rate: Of SGD; torchvision's recipe for 16 pictures a step, scaled to 4.
        momentum: Of SGD.
        weight_decay: Of SGD.
        warmup_steps: Over which the rate rises.
        epochs: Times that each training tile is shown, or that some are.
        tiles_per_epoch: Training tiles that are shown in an epoch, others each time; all of them by default.
        batch_size: Tiles of a step.
        seed: Of new heads and order.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    weights: str = COCO
    input_px: int = 512
    min_score: float = 0.001
    max_instances: int = 300
    learning_rate: float = 0.005
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_steps: int = 500
    epochs: int = 15
    tiles_per_epoch: int | None = None
    batch_size: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("input_px", 32), ("max_instances", 1), ("epochs", 1), ("batch_size", 1), ("seed", 0)):
            require(getattr(self, name) >= least, f"{name} is {getattr(self, name)}, must be {least} or more")
        require(
            self.tiles_per_epoch is None or self.tiles_per_epoch >= 1,
            f"tiles_per_epoch is {self.tiles_per_epoch}, must be 1 or more",
        )
        for name in ("momentum", "weight_decay", "warmup_steps"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}, must be 0 or more")
        require(0 < self.min_score < 1, f"min_score is {self.min_score}, must be between 0 and 1")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}, must be above 0")


class MaskRcnn:
    """The detector, and what its training steps through."""

    def __init__(
        self, config: MaskRcnnConfig, num_classes: int, device: torch.device | str = "cpu", *, with_weights: bool = True
    ) -> None:
        """Build it, with new heads for these classes.

        Args:
            config: What to build.
            num_classes: Contaminants.
            device: Where to compute.
            with_weights: Begin from ``config.weights``; without, the caller loads a state of its own.

        Raises:
            ModelError: The weights cannot be had or do not fit.
        """
        self.config, self._device = config, device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.learned = _detector(config, with_weights=with_weights)
            _replace_heads(self.learned, 1 + num_classes)
        self.learned.to(device).eval()

    def loss(self, pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> Tensor:
        """The sum of torchvision's losses for tiles (H, W, 3) and their class ids (H, W), in training mode."""
        targets = [_on(self._device, targets_of(class_HW)) for _, class_HW in pairs]
        losses: dict[str, Tensor] = self.learned(self._images([tile_HW3 for tile_HW3, _ in pairs]), targets)
        return torch.stack(list(losses.values())).sum()

    @property
    def schedule(self) -> Schedule:
        """How long it is trained."""
        config = self.config
        return Schedule(
            epochs=config.epochs,
            batch_size=config.batch_size,
            seed=config.seed,
            warmup_steps=config.warmup_steps,
            tiles_per_epoch=config.tiles_per_epoch,
        )

    def optimizer(self) -> torch.optim.SGD:
        """SGD over all that is not frozen."""
        return torch.optim.SGD(
            [parameter for parameter in self.learned.parameters() if parameter.requires_grad],
            lr=self.config.learning_rate,
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
        )

    def __call__(self, tiles_NHW3: NDArray[np.uint8]) -> Iterator[Instances]:
        """What is found in each tile, masks as shares of pixels; tile by tile, since masks of one take 300 MB."""
        return map(self._found_in, tiles_NHW3)

    @torch.inference_mode()
    def _found_in(self, tile_HW3: NDArray[np.uint8]) -> Instances:
        (found,) = self.learned(self._images([tile_HW3]))
        return Instances(
            scores_I=found["scores"].cpu().numpy(),
            labels_I=found["labels"].cpu().numpy(),
            masks_IHW=found["masks"][:, 0].cpu().numpy(),
        )

    def _images(self, tiles: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        return [
            torch.from_numpy(np.ascontiguousarray(tile_HW3)).permute(2, 0, 1).to(self._device).float() / 255
            for tile_HW3 in tiles
        ]


def _on(device: torch.device | str, target: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in target.items()}


def targets_of(class_HW: NDArray[np.uint8]) -> dict[str, Tensor]:
    """Connected pieces of one class as instances: boxes (I, 4) xyxy, half-open, labels (I), masks (I, H, W)."""
    labels, masks, boxes = [], [], []
    for class_id in np.unique(class_HW[class_HW > 0]).tolist():
        pieces_HW, _ = ndimage.label(class_HW == class_id, structure=EIGHT_CONNECTED)
        for number, (rows, columns) in enumerate(ndimage.find_objects(pieces_HW), start=1):
            labels.append(class_id)
            masks.append(pieces_HW == number)
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.from_numpy(np.array(masks, np.uint8).reshape(-1, *class_HW.shape)),
    }


def _detector(config: MaskRcnnConfig, *, with_weights: bool) -> MaskRCNN:
    """Torchvision's detector with heads for COCO; norms frozen where they are pretrained, ordinary where not."""
    is_random = config.weights == RANDOM
    norm: Any = torch.nn.BatchNorm2d if is_random else partial(FrozenBatchNorm2d, eps=0.0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=norm,
        trainable_layers=_ALL_STAGES if is_random else _TRAINABLE_STAGES,
    )
    detector = MaskRCNN(
        backbone,
        num_classes=_COCO_CLASSES,
        min_size=config.input_px,
        max_size=config.input_px,
        box_score_thresh=config.min_score,
        box_detections_per_img=config.max_instances,
    )
    if with_weights and not is_random:
        _load(detector, config.weights)
    return detector


def _load(detector: MaskRCNN, weights: str) -> None:
    try:
        if weights == COCO:
            state = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.get_state_dict(progress=False, check_hash=True)
        else:
            state = torch.load(Path(weights), map_location="cpu", weights_only=True)
        detector.load_state_dict(state)
    except OSError as error:
        raise ModelError(
            f"weights {weights} of Mask R-CNN cannot be had: {error}; give a file with torchvision's weights, or random"
        ) from error
    except (RuntimeError, AttributeError, TypeError, EOFError, UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or "it is empty"
        raise ModelError(f"{weights} are no weights of torchvision's maskrcnn_resnet50_fpn: {reason}") from error


def _replace_heads(detector: MaskRCNN, num_classes: int) -> None:
    heads: Any = detector.roi_heads
    heads.box_predictor = FastRCNNPredictor(heads.box_predictor.cls_score.in_features, num_classes)
    heads.mask_predictor = MaskRCNNPredictor(heads.mask_predictor.conv5_mask.in_channels, _MASK_WIDTH, num_classes)
