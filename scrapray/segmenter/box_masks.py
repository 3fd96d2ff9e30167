"""SAM: the mask of what is in a box.

Needs the extra ``words`` (transformers). Pretrained weights have not been run here, only small models with random ones.

Reference: Segment Anything (Kirillov et al. 2023); with a box as prompt it answers with one mask.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scrapray.errors import ConfigurationError, ModelError

_BOXES_AT_ONCE = 64
"""Masks of so many are in memory together."""


def load_transformers(what_for: str) -> Any:
    """The library, much of which has no types.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigurationError(f"{what_for}, install the extra: pip install 'scrapray[words]'") from error
    library: Any = transformers
    library.utils.logging.disable_progress_bar()
    return library


class BoxMasker:
    """SAM on a device."""

    def __init__(self, masker: str, device: torch.device | str) -> None:
        """Load it.

        Args:
            masker: A name on the hub, or a folder.
            device: Where to compute.

        Raises:
            ConfigurationError: The extra is not installed.
            ModelError: It cannot be had.
        """
        hub = load_transformers("for masks by SAM")
        self._device = device
        try:
            self._processor = hub.SamProcessor.from_pretrained(masker)
            self._model = hub.SamModel.from_pretrained(masker).to(device).eval()
        except (OSError, ValueError) as error:
            what = " ".join(str(error).split())
            raise ModelError(f"cannot load {masker}: {what}; give a name on the hub or a folder") from error

    @torch.inference_mode()
    def __call__(self, image_HW3: NDArray[np.uint8], boxes_N4: NDArray[np.floating]) -> NDArray[np.bool_]:
        """A mask for each box, (N, H, W).

        Args:
            image_HW3: RGB.
            boxes_N4: xyxy in its pixels.
        """
        if not len(boxes_N4):
            return np.zeros((0, *image_HW3.shape[:2]), np.bool_)
        writable_HW3 = np.require(image_HW3, requirements="W")  # torch warns of what it could not write to
        asked = self._processor(images=writable_HW3, input_boxes=[boxes_N4.tolist()], return_tensors="pt")
        sizes = (asked["original_sizes"], asked["reshaped_input_sizes"])
        seen = self._model.get_image_embeddings(asked["pixel_values"].to(self._device))
        masks = []
        for boxes_1n4 in asked["input_boxes"].to(self._device).split(_BOXES_AT_ONCE, dim=1):
            answer = self._model(input_boxes=boxes_1n4, image_embeddings=seen, multimask_output=False)
            masks.append(self._processor.post_process_masks(answer.pred_masks.cpu(), *sizes)[0][:, 0].numpy())
        return np.concatenate(masks)
