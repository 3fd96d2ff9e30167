"""Masks as COCO compressed run lengths: of detections, and of what people annotated.

Reference: the COCO API's mask format: runs of 0 and 1 alternate, down each column and column after column, starting
with 0; ``counts`` packs them into text.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import index
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

_MOST_PIXELS = 2**32 - 1
"""The COCO API counts with 32 bits."""


def encode_mask(mask_HW: NDArray[np.bool_], offset_xy: tuple[int, int], frame_hw: tuple[int, int]) -> dict[str, Any]:
    """Run lengths of a whole frame in which only a cut-out can hold something.

    Args:
        mask_HW: The cut-out.
        offset_xy: Where its top left pixel lies in the frame.
        frame_hw: Height and width of the frame.

    Returns:
        A value of ``schema.MASK``, as the COCO API would encode the whole frame; work grows with the cut-out only.
    """
    (x, y), (height, width) = offset_xy, frame_hw
    steps_WH = np.diff(np.pad(mask_HW.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    columns, rows = np.nonzero(steps_WH)
    # A run that ends at the foot of a column and goes on at the head of the next has two edges in one place: none.
    edges, times = np.unique((columns + x) * height + rows + y, return_counts=True)
    counts = np.diff(np.union1d(edges[times == 1], height * width), prepend=0)
    packed = coco.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return _value(packed)


def decode_mask(mask: dict[str, Any]) -> NDArray[np.bool_]:
    """The pixels of a value of ``schema.MASK``, mask_HW."""
    return np.asarray(coco.decode(_packed(mask)), dtype=np.bool_)


def decode_cut_out(mask: dict[str, Any]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """What ``encode_mask`` was given, cut out as tightly as can be: mask_HW and (x, y); work grows with the cut-out.

    The mask has one pixel at least.
    """
    edges = np.cumsum(_unpack(mask["counts"]))
    starts, ends = edges[:-1:2], edges[1::2]
    lengths = ends - starts
    places = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    xs, ys = np.divmod(places, mask["height_px"])
    x, y = int(xs.min()), int(ys.min())
    mask_HW = np.zeros((int(ys.max()) - y + 1, int(xs.max()) - x + 1), dtype=np.bool_)
    mask_HW[ys - y, xs - x] = True
    return mask_HW, (x, y)


def mask_area(mask: dict[str, Any]) -> int:
    """Number of pixels of a value of ``schema.MASK``."""
    return int(coco.area(_packed(mask)))


def shared_area(one: dict[str, Any], other: dict[str, Any]) -> int:
    """Number of pixels that two values of ``schema.MASK`` of one frame both have."""
    return int(coco.area(coco.merge([_packed(one), _packed(other)], intersect=True)))


def joint_area(masks: Sequence[dict[str, Any]]) -> int:
    """Number of pixels that at least one of some values of ``schema.MASK`` of one frame has."""
    return int(coco.area(coco.merge([_packed(mask) for mask in masks]))) if masks else 0


def overlaps(ones: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """Intersection over union of each value of ``schema.MASK`` with each other of the same frame, iou_NM."""
    if not ones or not others:
        return np.zeros((len(ones), len(others)))
    packed = [[_packed(mask) for mask in masks] for masks in (ones, others)]
    return np.asarray(coco.iou(*packed, [False] * len(others)), np.float64)


def mask_outlines(mask: dict[str, Any]) -> list[list[float]]:
    """Polygons along the edges of the pixels of a value of ``schema.MASK``; holes are filled, since COCO has none.

    Each is x0, y0, x1, y1, and so on. ``outline_mask`` gives the same pixels back, holes apart.
    """
    mask_HW = decode_mask(mask)
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if not len(rows):
        return []
    y, x = rows[0], columns[0]
    cut_HW = mask_HW[y : rows[-1] + 1, x : columns[-1] + 1].astype(np.uint8)
    # OpenCV follows the middles of pixels. Of pixels doubled each way these lie beside the edge they belong to.
    contours, _ = cv2.findContours(cut_HW.repeat(2, axis=0).repeat(2, axis=1), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    edges = ((contour.reshape(-1, 2) + 1) // 2 + (x, y) for contour in contours)
    return [_corners(edge_N2).astype(np.float64).ravel().tolist() for edge_N2 in edges]


def _corners(edge_N2: NDArray[np.int64]) -> NDArray[np.int64]:
    """The points of a closed line at which it turns."""
    edge_N2 = edge_N2[(edge_N2 != np.roll(edge_N2, 1, axis=0)).any(axis=1)]
    turns_N = (np.roll(edge_N2, -1, axis=0) - edge_N2 != edge_N2 - np.roll(edge_N2, 1, axis=0)).any(axis=1)
    corners_N2: NDArray[np.int64] = edge_N2[turns_N]
    return corners_N2


def parse_run_lengths(counts: str | Sequence[int], frame_hw: tuple[int, int]) -> dict[str, Any]:
    """A value of ``schema.MASK`` from COCO's run lengths, packed into text or not.

    Raises:
        TypeError: They are not whole numbers.
        ValueError: One is negative, or they do not fill a frame of this size; the COCO API would take whatever lies in
            memory there.
    """
    height, width = frame_hw
    runs = _unpack(counts) if isinstance(counts, str) else list(map(index, counts))
    if (shortest := min(runs, default=0)) < 0:
        raise ValueError(f"a run length of {shortest}")
    if min(height, width) < 0 or sum(runs) != height * width or height * width > _MOST_PIXELS:
        raise ValueError(f"run lengths of {sum(runs)} pixels for a frame of {width}x{height}")
    return _value(coco.frPyObjects({"size": [height, width], "counts": runs}, height, width))


def _unpack(counts: str) -> list[int]:
    """Runs from text: digits of five bits, least first, and a sixth that says whether more come.

    From the fourth run on, the text holds the difference to the run two places before.
    """
    runs: list[int] = []
    value = shift = 0
    for digit in (byte - 48 for byte in counts.encode("ascii")):
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            if digit & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def outline_mask(polygons: Iterable[Sequence[float]], frame_hw: tuple[int, int]) -> dict[str, Any]:
    """The pixels inside any of several polygons as the COCO API sees them, as a value of ``schema.MASK``.

    Args:
        polygons: Each x0, y0, x1, y1, and so on, three corners or more; what lies outside the frame is cut off.
        frame_hw: Height and width of the frame.
    """
    return _value(coco.merge(coco.frPyObjects([list(polygon) for polygon in polygons], *frame_hw)))


def paint_classes(
    masks: Iterable[tuple[int, dict[str, Any]]], frame_hw: tuple[int, int]
) -> tuple[NDArray[np.uint8], int]:
    """Put masks of classes (id, value of ``schema.MASK``) into one map; where classes overlap, the last id wins.

    Returns:
        class_HW, the class id of each pixel, 0 where there is no mask; and the number of pixels with several classes.
    """
    of_class: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for class_id, mask in masks:
        of_class[class_id].append(_packed(mask))
    class_HW = np.zeros(frame_hw, dtype=np.uint8)
    overlaps_HW = np.zeros(frame_hw, dtype=np.bool_)
    for class_id, packed in sorted(of_class.items()):
        mask_HW = np.asarray(coco.decode(coco.merge(packed)), dtype=np.bool_)
        overlaps_HW |= mask_HW & (class_HW > 0)
        class_HW[mask_HW] = class_id
    return class_HW, int(np.count_nonzero(overlaps_HW))


def _packed(mask: dict[str, Any]) -> dict[str, Any]:
    """A value of ``schema.MASK`` as the COCO API wants it."""
    return {"size": [mask["height_px"], mask["width_px"]], "counts": mask["counts"].encode("ascii")}


def _value(packed: dict[str, Any]) -> dict[str, Any]:
    """The other way."""
    height, width = packed["size"]
    return {"height_px": height, "width_px": width, "counts": packed["counts"].decode("ascii")}
