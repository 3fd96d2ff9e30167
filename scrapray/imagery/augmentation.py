"""Ways to show a tile and its classes differently each time, so that a few annotated loads teach more than themselves.

All are off unless asked for: the scrap paper trains without any.
"""

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from scrapray.errors import ConfigurationError
from scrapray.settings import STRICT

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """``[augment]``: how much tiles are varied.

    Attributes:
        flip: Mirror half of the tiles.
        rotate: Turn tiles by any angle; what comes in at the corners is the mirror image of what is there.
        scale: Smallest and largest enlargement.
        light: Brightness and each colour vary by up to this share.
        copy_paste: Share of tiles into which the contaminants of another tile are pasted
            (Reference: Ghiasi et al. 2021, "Simple Copy-Paste").
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    flip: bool = False
    rotate: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    light: float = 0.0
    copy_paste: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigurationError(f"[augment] scale is {self.scale}, must be a smallest and a largest, above 0")
        if not 0 <= self.light < 1:
            raise ConfigurationError(f"[augment] light is {self.light}, must be 0 or more and below 1")
        if not 0 <= self.copy_paste <= 1:
            raise ConfigurationError(f"[augment] copy_paste is {self.copy_paste}, must be 0 to 1")


def augment(
    rng: np.random.Generator, image_HW3: Pixels, class_HW: Pixels, config: AugmentConfig
) -> tuple[Pixels, Pixels]:
    """Turn, mirror, scale and light a tile; its classes go with it, picked nearest and never mixed.

    Args:
        rng: Source of chance.
        image_HW3: RGB.
        class_HW: Class ids.
        config: What may be done.

    Returns:
        Both in the size they came in.
    """
    if config.flip and rng.random() < 0.5:
        image_HW3, class_HW = image_HW3[:, ::-1], class_HW[:, ::-1]
    if config.rotate or config.scale != (1.0, 1.0):
        height, width = class_HW.shape
        angle_deg = rng.uniform(0, 360) if config.rotate else 0.0
        middle_xy = ((width - 1) / 2, (height - 1) / 2)
        matrix_23 = cv2.getRotationMatrix2D(middle_xy, angle_deg, rng.uniform(*config.scale))
        image_HW3 = _warped(image_HW3, matrix_23, cv2.INTER_LINEAR)
        class_HW = _warped(class_HW, matrix_23, cv2.INTER_NEAREST)
    if config.light:
        gain_3 = rng.uniform(1 - config.light, 1 + config.light) * rng.uniform(
            1 - config.light / 3, 1 + config.light / 3, 3
        )
        image_HW3 = np.clip(image_HW3 * gain_3.astype(np.float32), 0, 255).astype(np.uint8)
    return image_HW3, class_HW


def _warped(array: Pixels, matrix_23: cv2.typing.MatLike, how: int) -> Pixels:
    height, width = array.shape[:2]
    warped = cv2.warpAffine(
        np.ascontiguousarray(array), matrix_23, (width, height), flags=how, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(warped, np.uint8)


def paste_contaminants(
    rng: np.random.Generator, tile: tuple[Pixels, Pixels], donor: tuple[Pixels, Pixels]
) -> tuple[Pixels, Pixels]:
    """Lay the contaminants of another tile of the same size over this one, moved to another place.

    Args:
        rng: Source of chance.
        tile: Picture (H, W, 3) and class ids (H, W).
        donor: Likewise; what is pasted is what it shows beside steel. It goes round at the edges.
    """
    (image_HW3, class_HW), (donor_HW3, donor_class_HW) = tile, donor
    shift_yx = [int(rng.integers(side)) for side in class_HW.shape]
    moved_HW3 = np.roll(donor_HW3, shift_yx, axis=(0, 1))
    moved_class_HW = np.roll(donor_class_HW, shift_yx, axis=(0, 1))
    pasted_HW = moved_class_HW > 0
    return np.where(pasted_HW[..., None], moved_HW3, image_HW3), np.where(pasted_HW, moved_class_HW, class_HW)
