"""Frames and what is marked on them -> a COCO file that CVAT and Label Studio read.

Reference: https://cocodataset.org/#format-data
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scrapray.config import ArchiveConfig
from scrapray.imagery.masks import mask_area, mask_outlines, outline_mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One outlined object on a frame.

    Attributes:
        class_name: What it is.
        mask: A value of ``schema.MASK``.
        more: Fields that scrapray adds to its annotation; a tool may drop them.
    """

    class_name: str
    mask: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedFrame:
    """One frame, by the name that the file gives it, with all that is marked on it; ``more`` as above."""

    name: str
    height_px: int
    width_px: int
    marks: Sequence[Mark]
    more: Mapping[str, Any] = field(default_factory=dict)


def coco_file(
    frames: Iterable[MarkedFrame], class_names: Sequence[str], info: Mapping[str, Any], *, exact: bool = False
) -> bytes:
    """The file; equal frames give equal bytes.

    Args:
        frames: With their marks.
        class_names: The categories, in this order.
        info: Of the file as a whole: its description, and what else there is to say.
        exact: Write masks as run lengths. Else as polygons, which every tool can edit, with holes filled.
    """
    category_ids = {name: number for number, name in enumerate(class_names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, frame in enumerate(frames, start=1):
        size = {"width": frame.width_px, "height": frame.height_px}
        images.append({"id": image_id, "file_name": frame.name, **size, **frame.more})
        for mark in frame.marks:
            ids = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": category_ids[mark.class_name],
            }
            # As attributes too: CVAT keeps those that its labels have, and drops every field that it does not know.
            attributes = {"attributes": dict(mark.more)} if mark.more else {}
            annotations.append({**ids, **_outlined(mark.mask, exact), "iscrowd": 0, **mark.more, **attributes})
    whole = {
        "info": dict(info),
        "licenses": [],
        "categories": [{"id": id_, "name": name, "supercategory": ""} for name, id_ in category_ids.items()],
        "images": images,
        "annotations": annotations,
    }
    return json.dumps(whole, ensure_ascii=False).encode()


def _outlined(mask: Mapping[str, Any], exact: bool) -> dict[str, Any]:
    polygons = mask_outlines(dict(mask))
    x_px = [x for polygon in polygons for x in polygon[::2]]
    y_px = [y for polygon in polygons for y in polygon[1::2]]
    box = [min(x_px), min(y_px), max(x_px) - min(x_px), max(y_px) - min(y_px)]
    if exact:
        run_lengths = {"size": [mask["height_px"], mask["width_px"]], "counts": mask["counts"]}
        return {"segmentation": run_lengths, "area": mask_area(dict(mask)), "bbox": box}
    area_px = mask_area(outline_mask(polygons, (mask["height_px"], mask["width_px"])))
    return {"segmentation": polygons, "area": area_px, "bbox": box}


def as_shown(mask: Mapping[str, Any]) -> dict[str, Any]:
    """The mask that an annotator sees: the one given without its holes."""
    return outline_mask(mask_outlines(dict(mask)), (mask["height_px"], mask["width_px"]))


def key_of(uri: str, archive: ArchiveConfig) -> str:
    """A frame's place in its archive: as many names from the end of its URI as the pattern of keys has."""
    pattern = archive.key_pattern.replace("{date}", archive.date_format).replace("{time}", archive.time_format)
    return "/".join(uri.split("/")[-pattern.count("/") - 1 :])
