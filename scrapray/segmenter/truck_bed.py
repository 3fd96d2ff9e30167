"""The truck bed found by words: boxes around what phrases name, and the masks of what is in the boxes.

Needs the extra ``words`` (transformers). Pretrained weights have not been run here, only small models with random ones.

Reference: the scrap paper crops trucks by language-prompted segmentation; Grounding DINO (Liu et al. 2023) finds the
boxes and SAM (Kirillov et al. 2023) the masks, as in Grounded SAM (Ren et al. 2024).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from scrapray.errors import FrameError, ModelError
from scrapray.segmenter.box_masks import BoxMasker, load_transformers


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
        hub = load_transformers("to find the truck bed by words")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._boxes_in = hub.GroundingDinoProcessor.from_pretrained(detector)
            self._detector = hub.GroundingDinoForObjectDetection.from_pretrained(detector).to(self._device).eval()
        except (OSError, ValueError) as error:
            what = " ".join(str(error).split())
            raise ModelError(f"cannot load {detector}: {what}; give a name on the hub or a folder") from error
        self._masks_in = BoxMasker(masker, self._device)

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
        bed_HW: NDArray[np.bool_] = np.any(self._masks_in(frame_HW3, boxes_N4.numpy()), axis=0)
        if not bed_HW.any():
            raise FrameError("bed", "not_found", f"empty masks for: {text}")
        return bed_HW


@lru_cache(maxsize=1)
def bed_finder(detector: str, masker: str) -> BedFinder:
    """The finder of this process, loaded once."""
    return BedFinder(detector, masker)
