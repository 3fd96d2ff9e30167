import json
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from scrapray.datasets.annotations import Annotations
from scrapray.datasets.classes import ClassNames
from scrapray.datasets.coco import read_coco
from scrapray.errors import ConfigurationError, SchemaError
from scrapray.imagery.masks import decode_mask
from tests.fixtures.archives import GRAMMAR, stored

CLASSES = ClassNames(["motor", "cable"], {"motor": ["stator"]}, ["truck bed"])
A, B = "n/2026-11-20/7/L1/c_063005.jpg", "n/2026-11-20/7/L2/c_070000.jpg"
SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]
HEIGHT, WIDTH = 10, 20


def image(file_name: str = A, id: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": id, "file_name": file_name, "height": HEIGHT, "width": WIDTH} | more


def mark(segmentation: Any = None, category_id: int = 0, image_id: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": 5,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": segmentation,
        "iscrowd": 0,
    } | more


def read(
    *annotations: dict[str, Any],
    images: tuple[dict[str, Any], ...] = (image(),),
    categories: tuple[str, ...] = ("motor", "cable", "truck bed", "unused"),
) -> Annotations:
    file = {
        "images": images,
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
        "annotations": annotations,
        "info": {"year": 2026},
    }
    pictures = stored(A, B)
    return read_coco(json.dumps(file).encode(), pictures, source="a.json", classes=CLASSES, grammar=GRAMMAR)


def reasons(found: Annotations) -> list[tuple[str, str]]:
    return [(one.stage, one.reason) for one in found.skipped]


def test_polygons_become_regions_of_their_class_and_frame() -> None:
    found = read(
        mark([SQUARE, [8.5, 1, 12, 1, 10, 9]], id=17),
        mark([SQUARE], category_id=1, image_id=1, iscrowd=1),
        images=(image(B, 1), image(A, 0)),
    )
    assert found.skipped == []
    first, second = found.frames
    assert [first.key, second.key] == [A, B], "in the order of keys"
    (region,) = first.regions
    assert (region.class_name, region.annotation_id, region.is_crowd) == ("motor", "17", False)
    assert region.polygons == (tuple(SQUARE), (8.5, 1, 12, 1, 10, 9))
    assert (second.regions[0].class_name, second.regions[0].is_crowd) == ("cable", True)
    assert (second.load_id, second.height_px, second.width_px) == ("L2", HEIGHT, WIDTH)


def test_a_box_beside_its_own_outline_is_no_second_object() -> None:
    box = [2, 2, 4.1, 4]
    (frame,) = read(mark([SQUARE], id=1), mark([], id=2, bbox=box)).frames
    assert [region.annotation_id for region in frame.regions] == ["1"]


@pytest.mark.parametrize(
    "alone",
    [
        mark([], bbox=[2, 2, 9, 9], id=2),
        mark([], category_id=1, bbox=[2, 2, 4, 4], id=2),
        mark([], bbox=["a"], id=2),
        mark([], bbox=None, id=2),
    ],
    ids=["of another place", "of another class", "no box", "nothing"],
)
def test_any_other_box_still_lacks_an_outline(alone: dict[str, Any]) -> None:
    assert reasons(read(mark([SQUARE], id=1), alone)) == [("annotation", "no_mask"), ("picture", "incomplete")]


@pytest.mark.parametrize("packed", [False, True])
def test_run_lengths_of_both_kinds_become_the_same_mask(packed: bool) -> None:
    mask_HW = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask_HW[3:7, 5:15] = True
    changes = np.flatnonzero(np.diff(mask_HW.T.ravel(), prepend=False, append=False))
    plain = np.diff(changes, prepend=0, append=mask_HW.size).tolist()
    text = coco.encode(np.asfortranarray(mask_HW.astype(np.uint8)))["counts"].decode()
    found = read(mark({"size": [HEIGHT, WIDTH], "counts": text if packed else plain}, iscrowd=1))
    (region,) = found.frames[0].regions
    np.testing.assert_array_equal(decode_mask(region.mask or {}), mask_HW)
    assert region.is_crowd


def test_a_polygon_without_its_list_and_one_of_pairs_are_understood() -> None:
    pairs = [[2, 2], [6, 2], [6, 6], [2, 6]]
    found = read(mark(SQUARE), mark([pairs]), mark(pairs), mark([SQUARE, []]))
    assert [region.polygons for region in found.frames[0].regions] == [(tuple(SQUARE),)] * 4
    assert found.skipped == []


def test_two_points_in_pairs_are_no_polygon_either() -> None:
    found = read(mark([[2, 2], [6, 2]]))
    assert reasons(found) == [("annotation", "few_points")]


def test_ids_that_are_numbers_here_and_text_there_are_the_same() -> None:
    found = read(mark([SQUARE], image_id="7", category_id="0"), images=(image(id=7),))
    assert [region.class_name for region in found.frames[0].regions] == ["motor"]


def test_annotations_of_other_pictures_do_not_make_clean_frames() -> None:
    with pytest.raises(SchemaError, match=r"a\.json: no annotation belongs to one of its 1 images \(image_id 9 is"):
        read(mark([SQUARE], image_id=9))


def test_a_named_picture_without_annotations_is_clean_and_one_that_is_not_named_is_no_part() -> None:
    found = read(images=(image(B),))
    (frame,) = found.frames
    assert (frame.key, frame.regions, found.skipped) == (B, (), [])


@pytest.mark.parametrize("lacking", [{"height": None, "width": None}, {"height": 0, "width": 0}])
def test_a_picture_without_a_size_has_none(lacking: dict[str, Any]) -> None:
    found = read(mark([SQUARE]), images=(image(**lacking),))
    (frame,) = found.frames
    assert (frame.height_px, frame.width_px, len(frame.regions)) == (None, None, 1)


def test_a_picture_that_stands_twice_has_the_regions_of_both() -> None:
    found = read(mark([SQUARE]), mark([SQUARE], 1, image_id=1), images=(image(height=None), image(f"images/{A}", 1)))
    (frame,) = found.frames
    assert [region.class_name for region in frame.regions] == ["motor", "cable"]
    assert (frame.height_px, frame.width_px) == (HEIGHT, WIDTH)


def test_a_picture_of_two_sizes_is_left_out() -> None:
    found = read(mark([SQUARE]), images=(image(), image(A, 1, width=2 * WIDTH)))
    assert (found.frames, reasons(found)) == ([], [("picture", "several_sizes")])
    assert found.skipped[0].detail == f"{WIDTH}x{HEIGHT} and {2 * WIDTH}x{HEIGHT}"


@pytest.mark.parametrize(
    ("names", "are_one"),
    [
        (("cam1/a.jpg", "cam2/a.jpg"), False),
        (("a.jpg", "cam2/a.jpg"), True),
        (("0123abcd-a.jpg", "89efdead-a.jpg"), True),
        (("images/a.jpg", "a.jpg", "a.jpg"), True),
    ],
)
def test_names_of_different_pictures_are_not_taken_for_one(names: tuple[str, ...], are_one: bool) -> None:
    images = [image(name, number) for number, name in enumerate(names)]
    file = {"images": images, "categories": [{"id": 0, "name": "motor"}], "annotations": [mark([SQUARE])]}
    found = read_coco(json.dumps(file).encode(), stored("a.jpg"), source="a.json", classes=CLASSES, grammar=None)
    assert len(found.frames) == are_one
    assert reasons(found) == ([] if are_one else [("picture", "ambiguous_name")])


@pytest.mark.parametrize(
    ("polygon", "reason"),
    [
        ([1, 1, 5, 5], "few_points"),
        ([1, 1, 5, 5, 9, 9], "zero_area"),
        ([1, 1, 5, 5, 1, 1], "zero_area"),
        ([20, 1, 30, 1, 30, 9], "outside_frame"),
        ([1, -9, 5, -9, 5, 0], "outside_frame"),
    ],
)
def test_a_polygon_that_marks_nothing_is_recorded_and_the_rest_stays(polygon: list[float], reason: str) -> None:
    found = read(mark([SQUARE, polygon]), mark([polygon], id=6))
    (frame,) = found.frames
    assert [region.polygons for region in frame.regions] == [(tuple(SQUARE),)]
    assert [(one.annotation_id, one.reason) for one in found.skipped] == [("5", reason), ("6", reason)]


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([], "no_mask"),
        (None, "no_mask"),
        ([[]], "no_mask"),
        ([[1, 1, 5, 5, 9]], "bad_polygon"),
        ([[1, 1, 5, None, 9, 2]], "bad_polygon"),
        ([["a", 1, 5, 2, 9, 2]], "bad_polygon"),
        ([[1, 1, 5, 1e300, 9, 2]], "bad_polygon"),
        ([[1, 1, 5, float("nan"), 9, 2]], "bad_polygon"),
        ([[0.1, 0.1, 0.9, 0, 1, 0.8]], "not_in_pixels"),
        ({"size": [HEIGHT, WIDTH]}, "bad_run_lengths"),
        ({"size": [HEIGHT], "counts": [200]}, "bad_run_lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": [3, 4]}, "bad_run_lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": "0"}, "bad_run_lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": "é"}, "bad_run_lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": [-1, 201]}, "bad_run_lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": [0.5, 199.5]}, "bad_run_lengths"),
        ({"size": [5, 5], "counts": [5, 20]}, "other_size"),
    ],
)
def test_a_frame_with_something_nobody_knows_where_is_left_out_with_the_reason(segmentation: Any, reason: str) -> None:
    found = read(mark([SQUARE]), mark(segmentation), mark([SQUARE], image_id=1), images=(image(), image(B, 1)))
    assert [frame.key for frame in found.frames] == [B]
    assert reasons(found) == [("annotation", reason), ("picture", "incomplete")]
    assert found.skipped[1].detail == reason


def test_a_file_whose_polygons_are_all_shares_of_the_picture_is_refused() -> None:
    shares = [0.1, 0.2, 0.3, 0.2, 0.3, 0.6]
    with pytest.raises(SchemaError, match=r"^a\.json: all polygons, 2, lie between 0 and 1, .* export them in pixels"):
        read(mark([shares]), mark([[0, 0, 1, 0, 1, 1]]), images=(image(), image(B, 1)))


def test_an_empty_mask_marks_nothing() -> None:
    found = read(mark({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}))
    assert (len(found.frames), reasons(found)) == (1, [("annotation", "zero_area")])


def test_an_ignored_class_is_recorded_and_counts_as_steel() -> None:
    found = read(mark([SQUARE], category_id=2), mark([SQUARE]))
    assert [region.class_name for region in found.frames[0].regions] == ["motor"]
    assert [(one.reason, one.detail) for one in found.skipped] == [("ignored_class", "category 2")]


def test_a_class_that_the_configuration_lacks_is_named_if_anything_has_it() -> None:
    with pytest.raises(ConfigurationError, match=r"a\.json has the classes 'unused', which the configuration lacks"):
        read(mark([SQUARE], category_id=3))


def test_ids_that_lead_nowhere_are_recorded() -> None:
    found = read(mark([SQUARE], category_id=9), mark([SQUARE], image_id=9), images=(image(), image(B, 1)))
    assert reasons(found) == [
        ("annotation", "unknown_image"),
        ("annotation", "unknown_category"),
        ("picture", "incomplete"),
    ]
    assert found.skipped[0].picture == "a.json: image 9"


def test_pictures_that_cannot_be_found_or_told_apart_are_recorded() -> None:
    pictures = stored(A, A.replace("L1", "L9"))
    file = {"images": [image("gone.jpg"), image("c_063005.jpg", 1)], "categories": [], "annotations": []}
    found = read_coco(json.dumps(file).encode(), pictures, source="a.json", classes=CLASSES, grammar=GRAMMAR)
    assert found.frames == []
    assert [(one.picture, one.reason) for one in found.skipped] == [
        ("gone.jpg", "picture_not_found"),
        ("c_063005.jpg", "ambiguous_picture"),
    ]
    assert found.skipped[1].detail == f"{A}, {A.replace('L1', 'L9')}"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"{", "a.json is not a COCO file: the file: Invalid JSON"),
        (b"[]", "a.json is not a COCO file: the file: Input should be"),
        (b'{"images": [], "annotations": []}', "categories: Field required"),
        (b'{"images": [{"id": 1}], "annotations": [], "categories": []}', "images.0.file_name: Field required"),
        (
            b'{"images": [], "annotations": [{"image_id": 1, "category_id": 1, "segmentation": 5}], "categories": []}',
            "annotations.0.segmentation",
        ),
    ],
)
def test_a_file_that_is_not_coco_is_refused_with_the_place(file: bytes, message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        read_coco(file, [], source="a.json", classes=CLASSES, grammar=GRAMMAR)
    assert message in str(caught.value)


def test_an_id_that_stands_for_two_pictures_is_refused() -> None:
    with pytest.raises(SchemaError, match="1 ids of images stand twice, such as 0"):
        read(images=(image(A), image(B)))
