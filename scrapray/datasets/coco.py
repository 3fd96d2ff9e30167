"""COCO files, as COCO itself, CVAT and Label Studio write them -> annotated frames.

What the tools do differently: ids of categories and pictures may start at 0; a box that was never made a mask has an
empty ``segmentation``, or one with an empty polygon; ``width`` and ``height`` may lack or be null; CVAT writes masks as
plain run lengths with ``iscrowd`` 1, COCO packs them; some write a single polygon without the list around it, or its
corners as pairs. Label Studio makes two regions of an outline with a box, and writes both. Ids are numbers here and
text there. A picture may stand twice when exports were merged: its regions come together.

Reference: https://cocodataset.org/#format-data
"""

import codecs
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from scrapray.datasets.annotations import Annotations, PictureNames, Region, Skipped, may_be_one
from scrapray.datasets.classes import ClassNames
from scrapray.errors import SchemaError, first_fault
from scrapray.imagery.masks import mask_area, parse_run_lengths
from scrapray.keys import KeyGrammar
from scrapray.storage import StoredObject

_Id = Annotated[str, BeforeValidator(lambda id_: str(id_) if isinstance(id_, int) else id_)]
_FARTHEST_PX = 100_000.0
"""No picture is that large (JPEG ends at 65,535 px); a polygon that reaches further is broken."""
_SAME_PX = 0.5
"""Tools round boxes and corners."""
_NAMES_SHOWN = 3
_NOTHING_THERE = frozenset({"ignored_class", "few_points", "zero_area", "outside_frame"})
"""Faults after which the rest of a frame is still the truth. Any other means that something is there, nobody knows
just where; as the frame would teach that it is steel, the frame is left out."""


@dataclass(frozen=True, slots=True)
class _Image:
    id: _Id
    file_name: str
    width: int | None = None
    height: int | None = None

    @property
    def hw(self) -> tuple[int, int] | None:
        return (self.height, self.width) if self.height and self.width else None


@dataclass(frozen=True, slots=True)
class _Category:
    id: _Id
    name: str


@dataclass(frozen=True, slots=True)
class _Annotation:
    image_id: _Id
    category_id: _Id
    id: _Id = ""
    segmentation: list[Any] | dict[str, Any] | None = None
    bbox: Any = None
    iscrowd: int | None = None


@dataclass(frozen=True, slots=True)
class CocoFile:
    """The fields of a file that are read."""

    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


def read_coco(
    data: bytes, pictures: Sequence[StoredObject], *, source: str, classes: ClassNames, grammar: KeyGrammar | None
) -> Annotations:
    """Read a COCO file against the pictures of an archive.

    Pictures that the file does not name are not annotated and have no part in it; those that it names without an
    annotation are clean.

    Args:
        data: The file.
        pictures: All of the archive.
        source: Name of the file, for messages.
        classes: What names of categories mean.
        grammar: What keys mean; None for pictures that belong to no load.

    Raises:
        ConfigurationError: Annotations have a class that the configuration lacks.
        SchemaError: The file is not COCO, or an id stands for two things.
    """
    file = parse_coco(data, source)
    class_of = _classes_of_categories(file, classes, source)
    of_image: dict[_Id, list[_Annotation]] = defaultdict(list)
    for annotation in file.annotations:
        of_image[annotation.image_id].append(annotation)
    found = Annotations()
    found.skipped.extend(of_unknown := list(_of_unknown_images(file, source)))
    if of_unknown and len(of_unknown) == len(file.annotations):
        # Were they left out, all pictures of the file would count as clean.
        raise SchemaError(
            f"{source}: no annotation belongs to one of its {len(file.images)} images (image_id "
            f"{file.annotations[0].image_id} is not among their ids); export images and annotations together"
        )
    for picture, images in _matched(file.images, pictures, found.skipped):
        if len(sizes := {image.hw for image in images if image.hw}) > 1:
            detail = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
            found.skipped.append(Skipped(picture=picture.uri, stage="picture", reason="several_sizes", detail=detail))
            continue
        entries = [(annotation, image.hw) for image in images for annotation in _each_once(of_image[image.id])]
        parts = [part for entry, frame_hw in entries for part in _read(entry, class_of, frame_hw, picture.uri)]
        faults = [part for part in parts if isinstance(part, Skipped)]
        found.skipped.extend(faults)
        if unclear := sorted({fault.reason for fault in faults} - _NOTHING_THERE):
            found.skipped.append(
                Skipped(picture=picture.uri, stage="picture", reason="incomplete", detail=", ".join(unclear))
            )
            continue
        regions = tuple(part for part in parts if isinstance(part, Region))
        height_px, width_px = next(filter(None, (image.hw for image in images)), (None, None))
        found.add(picture, grammar, regions=regions, height_px=height_px, width_px=width_px)
    in_shares = sum(one.reason == "not_in_pixels" for one in found.skipped)
    if in_shares and not any(region.polygons for frame in found.frames for region in frame.regions):
        # All that is left are frames without polygons, so a dataset of steel.
        raise SchemaError(
            f"{source}: all polygons, {in_shares}, lie between 0 and 1, so they are shares of the picture's sides; "
            "export them in pixels, or multiply x by the width and y by the height"
        )
    return found


def parse_coco(data: bytes, source: str) -> CocoFile:
    """What a file says, not yet matched with anything.

    Raises:
        SchemaError: See ``read_coco``.
    """
    try:
        file = TypeAdapter(CocoFile).validate_json(data.removeprefix(codecs.BOM_UTF8))
    except ValidationError as error:
        raise SchemaError(
            f"{source} is not a COCO file: {first_fault(error)}; export it again with images, categories and "
            "annotations"
        ) from error
    for kind, entries in (("images", file.images), ("categories", file.categories)):
        times = Counter(entry.id for entry in entries)
        if twice := [id_ for id_, count in times.items() if count > 1]:
            raise SchemaError(
                f"{source}: {len(twice)} ids of {kind} stand twice, such as {twice[0]}; merge exports with a tool "
                "that gives new ids"
            )
    return file


def _classes_of_categories(file: CocoFile, classes: ClassNames, source: str) -> dict[_Id, str | None]:
    """The class of each category that an annotation has; None for those that are ignored."""
    used = {annotation.category_id for annotation in file.annotations}
    names = {category.id: category.name for category in file.categories if category.id in used}
    class_of = classes.resolve(names.values(), source)
    return {category_id: class_of[name] for category_id, name in names.items()}


def _of_unknown_images(file: CocoFile, source: str) -> Iterator[Skipped]:
    known = {image.id for image in file.images}
    for annotation in file.annotations:
        if annotation.image_id not in known:
            picture = f"{source}: image {annotation.image_id}"
            yield _skipped(annotation, picture, "unknown_image")


def _matched(
    images: Sequence[_Image], pictures: Sequence[StoredObject], skipped: list[Skipped]
) -> Iterator[tuple[StoredObject, list[_Image]]]:
    """Each picture that is named, in the order of keys, with all entries that name it."""
    names = PictureNames(pictures)
    images_of: dict[StoredObject, list[_Image]] = defaultdict(list)
    written_of: dict[StoredObject, list[str]] = defaultdict(list)
    for image in images:
        written, fitting = names.find(image.file_name)
        if len(fitting) == 1:
            images_of[fitting[0]].append(image)
            written_of[fitting[0]].append(written)
        else:
            reason = "ambiguous_picture" if fitting else "picture_not_found"
            detail = ", ".join(picture.key for picture in fitting[:_NAMES_SHOWN])
            skipped.append(Skipped(picture=image.file_name, stage="picture", reason=reason, detail=detail))
    for picture in sorted(images_of, key=lambda picture: picture.key):
        if may_be_one(written_of[picture]):
            yield picture, images_of[picture]
        else:
            detail = ", ".join(sorted(set(written_of[picture]))[:_NAMES_SHOWN])
            skipped.append(Skipped(picture=picture.uri, stage="picture", reason="ambiguous_name", detail=detail))


def _each_once(annotations: Sequence[_Annotation]) -> list[_Annotation]:
    """The annotations of a picture without boxes that are those of an outline of the same category."""
    outlined: dict[_Id, list[tuple[float, ...]]] = defaultdict(list)
    for annotation in annotations:
        if isinstance(annotation.segmentation, list):
            polygons, _ = _read_polygons(_polygons_in(annotation.segmentation), None)
            outlined[annotation.category_id] += [_extent(polygon) for polygon in polygons]
    return [each for each in annotations if not _is_box_of(each, outlined[each.category_id])]


def _extent(polygon: Sequence[float]) -> tuple[float, ...]:
    x, y = polygon[::2], polygon[1::2]
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


def _is_box_of(annotation: _Annotation, extents: Sequence[tuple[float, ...]]) -> bool:
    if annotation.segmentation not in (None, []) or not isinstance(annotation.bbox, list):
        return False
    try:
        return any(np.allclose(annotation.bbox, extent, rtol=0, atol=_SAME_PX) for extent in extents)
    except (TypeError, ValueError):  # a box that is none
        return False


def _read(
    annotation: _Annotation, class_of: dict[_Id, str | None], frame_hw: tuple[int, int] | None, picture: str
) -> Iterator[Region | Skipped]:
    """The region of an annotation, and what of it cannot be used."""
    category_id, segmentation = annotation.category_id, annotation.segmentation
    class_name = class_of.get(category_id)
    region: dict[str, Any] = {}
    if category_id not in class_of:
        faults = ["unknown_category"]
    elif class_name is None:
        faults = ["ignored_class"]
    elif isinstance(segmentation, dict):
        region["mask"], faults = _read_run_lengths(segmentation, frame_hw)
    elif polygons := _polygons_in(segmentation or []):
        region["polygons"], faults = _read_polygons(polygons, frame_hw)
    else:
        faults = ["no_mask"]
    if class_name and any(region.values()):
        yield Region(
            class_name=class_name,
            annotation_id=str(annotation.id),
            is_crowd=bool(annotation.iscrowd),
            **region,
        )
    yield from (_skipped(annotation, picture, fault) for fault in faults)


def _skipped(annotation: _Annotation, picture: str, reason: str) -> Skipped:
    return Skipped(
        picture=picture,
        stage="annotation",
        reason=reason,
        annotation_id=str(annotation.id),
        detail=f"category {annotation.category_id}",
    )


def _read_run_lengths(
    segmentation: dict[str, Any], frame_hw: tuple[int, int] | None
) -> tuple[dict[str, Any] | None, list[str]]:
    try:
        height, width = segmentation["size"]
        mask = parse_run_lengths(segmentation["counts"], (height, width))
    except (KeyError, TypeError, ValueError):
        return None, ["bad_run_lengths"]
    if frame_hw not in (None, (height, width)):
        return None, ["other_size"]
    return (mask, []) if mask_area(mask) else (None, ["zero_area"])


def _polygons_in(segmentation: list[Any]) -> list[Any]:
    """The polygons that a list stands for: it may be one of them, flat or as pairs, and have empty ones in it."""
    filled = [part for part in segmentation if part != []]
    is_flat = any(isinstance(part, int | float) for part in filled)
    is_pairs = len(filled) > 1 and all(isinstance(part, list) and len(part) == 2 for part in filled)
    return [filled] if is_flat or (is_pairs and not isinstance(filled[0][0], list)) else filled


def _read_polygons(
    polygons: list[Any], frame_hw: tuple[int, int] | None
) -> tuple[tuple[tuple[float, ...], ...], list[str]]:
    usable, faults = [], []
    for coordinates in polygons:
        try:
            points_N2 = np.asarray(coordinates, dtype=np.float64).reshape(-1, 2)
        except (TypeError, ValueError):
            faults.append("bad_polygon")
            continue
        if fault := _fault_of(points_N2, frame_hw):
            faults.append(fault)
        else:
            usable.append(tuple(points_N2.ravel().tolist()))
    return tuple(usable), faults


def _fault_of(points_N2: NDArray[np.float64], frame_hw: tuple[int, int] | None) -> str | None:
    if not (np.abs(points_N2) <= _FARTHEST_PX).all():  # nor is it with NaN
        return "bad_polygon"
    if len(points_N2) < 3:
        return "few_points"
    if np.linalg.matrix_rank(points_N2 - points_N2[0]) < 2:
        return "zero_area"
    if ((points_N2 >= 0) & (points_N2 <= 1)).all():  # no more than the first pixel: shares of width and height
        return "not_in_pixels"
    if frame_hw and ((points_N2.max(axis=0) <= 0).any() or (points_N2.min(axis=0) >= frame_hw[::-1]).any()):
        return "outside_frame"
    return None
