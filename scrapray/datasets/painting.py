"""What was annotated in a frame -> the class of each of its pixels, class_HW; 0 is steel."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scrapray.datasets.annotations import AnnotatedFrame, Region, Skipped
from scrapray.errors import FrameError
from scrapray.imagery.components import EIGHT_CONNECTED
from scrapray.imagery.decode import decode_class_indexes
from scrapray.imagery.masks import encode_mask, mask_area, outline_mask, paint_classes, shared_area

KEPT = "kept"
"""Stage of what is in the dataset all the same, but worth a look."""
_VALUES_SHOWN = _IDS_SHOWN = 5
_TINY_PX = 64
"""An object of 8 x 8 pixels in a 4K frame is some 2 cm of scrap: rather a slip of the mouse."""


class Painting(NamedTuple):
    """Classes of the pixels of one frame.

    Attributes:
        class_HW: uint8, the class id of each pixel.
        overlapped_px: Pixels that several classes claim; the highest id has them.
        skipped: Regions without a single pixel in the frame.
    """

    class_HW: NDArray[np.uint8]
    overlapped_px: int
    skipped: list[Skipped]


def paint_regions(frame: AnnotatedFrame, frame_hw: tuple[int, int], class_names: Sequence[str]) -> Painting:
    """Paint the regions of a frame; a crowd counts as its class.

    Args:
        frame: Its regions.
        frame_hw: Height and width of the picture itself.
        class_names: Classes of the dataset; ids are positions, from 1.

    Raises:
        FrameError: Stage ``annotation``. ``other_size``: they were drawn on a picture of another size; ``no_pixels``:
            none of them has a pixel in the frame, and what somebody marked must not pass for clean.
    """
    masks, skipped = [], []
    sizes = [(frame.height_px, frame.width_px)]
    for region in frame.regions:
        mask = _mask_of(region, frame_hw)
        sizes.append((mask["height_px"], mask["width_px"]))
        if mask_area(mask):
            masks.append((class_names.index(region.class_name) + 1, mask))
        else:
            skipped.append(
                Skipped(
                    picture=frame.uri,
                    stage="annotation",
                    reason="no_pixels",
                    annotation_id=region.annotation_id,
                    detail=region.class_name,
                )
            )
    for height, width in sizes:
        if (height, width) not in (frame_hw, (None, None)):
            raise FrameError(
                "annotation", "other_size", f"drawn on {width}x{height}, frame is {frame_hw[1]}x{frame_hw[0]}"
            )
    if skipped and not masks:
        ids = [region.annotation_id for region in frame.regions]
        raise FrameError("annotation", "no_pixels", f"annotations {', '.join(ids[:_IDS_SHOWN])}; {len(ids)} in all")
    return Painting(*paint_classes(masks, frame_hw), skipped)


def odd_regions(frame: AnnotatedFrame, bed_HW: NDArray[np.bool_]) -> list[Skipped]:
    """Regions that may be mistakes: ``tiny`` ones, and those that lie mostly ``outside_bed``."""
    frame_hw = bed_HW.shape[0], bed_HW.shape[1]
    bed = encode_mask(bed_HW, (0, 0), frame_hw) if frame.regions else {}
    found = []
    for region in frame.regions:
        mask = _mask_of(region, frame_hw)
        area_px = mask_area(mask)
        for reason in _oddities(area_px, shared_area(mask, bed)):
            detail = f"{region.class_name} of {area_px} px"
            found.append(_kept(frame.uri, reason, detail, region.annotation_id))
    return found


def odd_pieces(
    picture: str, class_HW: NDArray[np.uint8], bed_HW: NDArray[np.bool_], class_names: Sequence[str]
) -> list[Skipped]:
    """The same of the connected pieces of each class in a mask file, which knows no single objects."""
    found = []
    for class_id, name in enumerate(class_names, 1):
        piece_HW, num = ndimage.label(class_HW == class_id, structure=EIGHT_CONNECTED)
        areas_px = np.bincount(piece_HW.ravel(), minlength=num + 1)
        in_bed_px = np.bincount(piece_HW[bed_HW], minlength=num + 1)
        for place, (rows, columns) in enumerate(ndimage.find_objects(piece_HW), 1):
            for reason in _oddities(int(areas_px[place]), int(in_bed_px[place])):
                detail = f"{name} of {areas_px[place]} px at ({columns.start}, {rows.start})"
                found.append(_kept(picture, reason, detail))
    return found


def _kept(picture: str, reason: str, detail: str, annotation_id: str | None = None) -> Skipped:
    return Skipped(picture=picture, stage=KEPT, reason=reason, annotation_id=annotation_id, detail=detail)


def _oddities(area_px: int, in_bed_px: int) -> list[str]:
    reasons = {"tiny": 0 < area_px < _TINY_PX, "outside_bed": 2 * in_bed_px < area_px}
    return [reason for reason, holds in reasons.items() if holds]


def _mask_of(region: Region, frame_hw: tuple[int, int]) -> dict[str, Any]:
    """A value of ``schema.MASK``."""
    return region.mask or outline_mask(region.polygons, frame_hw)


def paint_mask_file(data: bytes, frame_hw: tuple[int, int], class_of_value: Mapping[int, int]) -> NDArray[np.uint8]:
    """Read a mask file as classes.

    Args:
        data: A PNG whose values stand for classes.
        frame_hw: Height and width of the picture that it belongs to.
        class_of_value: The class id of every value that may stand in it.

    Returns:
        class_HW.

    Raises:
        FrameError: Stage ``mask``: it cannot be read, has another size, or has a value without a class.
    """
    value_HW = decode_class_indexes(data, frame_hw)
    found = np.flatnonzero(np.bincount(value_HW.ravel()))
    if unknown := [value for value in found.tolist() if value not in class_of_value]:
        raise FrameError("mask", "unknown_class_index", ", ".join(map(str, unknown[:_VALUES_SHOWN])))
    class_of = np.zeros(found[-1] + 1, dtype=np.uint8)
    class_of[found] = [class_of_value[value] for value in found.tolist()]
    return class_of[value_HW]
