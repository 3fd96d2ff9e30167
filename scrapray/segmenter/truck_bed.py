"""The truck bed found by words: boxes around what phrases name, and the masks of what is in the boxes.

Needs the extra ``words`` (transformers). Pretrained weights have not been run here, only small models with random ones.

Reference: the scrap paper crops trucks by language-prompted segmentation; Grounding DINO (Liu et al. 2023) finds the
boxes and SAM (Kirillov et al. 2023) the masks, as in Grounded SAM (Ren et al. 2024).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scrapray.errors import ConfigurationError, FrameError, ModelError


class BedFinder:
    """Both models, on the GPU where there is one."""

    def __init__(self, detector: str, masker: str) -> None:
        """Load the models.

        Args:
            detector: Grounding DINO: a name on the hub, or a folder.
            masker: SAM, likewise.

        Raises:
            ConfigurationError: The extra is not installed.
            ModelError: A model cannot be had.
        """
        try:
            import transformers
        except ImportError as error:
            raise ConfigurationError(
                "to find the truck bed by words, install the extra: pip install 'scrapray[words]'"
            ) from error
        hub: Any = transformers  # much of it has no types
        hub.utils.logging.disable_progress_bar()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._boxes_in = hub.GroundingDinoProcessor.from_pretrained(detector)
            self._detector = hub.GroundingDinoForObjectDetection.from_pretrained(detector).to(self._device).eval()
            self._masks_in = hub.SamProcessor.from_pretrained(masker)
            self._masker = hub.SamModel.from_pretrained(masker).to(self._device).eval()
        except (OSError, ValueError) as error:
            what = " ".join(str(error).split())
            raise ModelError(
                f"cannot load {detector} and {masker}: {what}; give names on the hub or folders"
            ) from error

    @torch.inference_mode()
    def find(self, frame_HW3: NDArray[np.uint8], phrases: Sequence[str], min_score: float) -> NDArray[np.bool_]:
        """The pixels of all that the phrases name, bed_HW.

        Args:
            frame_HW3: RGB.
            phrases: Such as ``scrap`` and ``truck bed``.
            min_score: Below it a box does not count, nor does a phrase for a box.

        Raises:
            FrameError: Stage ``bed``, ``not_found``.
        """
        height, width = frame_HW3.shape[:2]
        frame_HW3 = np.require(frame_HW3, requirements="W")  # torch warns of what it could not write to
        text = " ".join(f"{phrase.strip().lower().rstrip('.')}." for phrase in phrases)
        asked = self._boxes_in(images=frame_HW3, text=text, return_tensors="pt").to(self._device)
        found = self._boxes_in.post_process_grounded_object_detection(
            self._detector(**asked),
            asked["input_ids"],
            threshold=min_score,
            text_threshold=min_score,
            target_sizes=[(height, width)],
        )[0]
        boxes_N4 = found["boxes"].clamp(min=0).cpu()
        if not len(boxes_N4):
            raise FrameError("bed", "not_found", f"nothing scores {min_score} or more for: {text}")
        asked = self._masks_in(images=frame_HW3, input_boxes=[boxes_N4.tolist()], return_tensors="pt")
        sizes = asked["original_sizes"], asked["reshaped_input_sizes"]
        answer = self._masker(**asked.to(self._device))
        masks_N3HW = self._masks_in.post_process_masks(answer.pred_masks.cpu(), *sizes)[0]
        best_N = answer.iou_scores[0].argmax(dim=1).cpu()
        bed_HW: NDArray[np.bool_] = masks_N3HW[torch.arange(len(best_N)), best_N].any(dim=0).numpy()
        if not bed_HW.any():
            raise FrameError("bed", "not_found", f"empty masks for: {text}")
        return bed_HW


@lru_cache(maxsize=1)
def bed_finder(detector: str, masker: str) -> BedFinder:
    """The finder of this process, loaded once."""
    return BedFinder(detector, masker)
