"""Masks of detections as COCO compressed run lengths.

Reference: the COCO API's mask format: runs of 0 and 1 alternate, down each column and column after column, starting
with 0; ``counts`` packs them into text.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco


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
    return {"height_px": height, "width_px": width, "counts": packed["counts"].decode("ascii")}


def decode_mask(mask: dict[str, Any]) -> NDArray[np.bool_]:
    """The pixels of a value of ``schema.MASK``, mask_HW."""
    packed = {"size": [mask["height_px"], mask["width_px"]], "counts": mask["counts"].encode("ascii")}
    return np.asarray(coco.decode(packed), dtype=np.bool_)
