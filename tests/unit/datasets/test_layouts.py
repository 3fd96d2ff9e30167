import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from scrapray.config import ArchiveConfig, read_config
from scrapray.datasets.classes import ClassNames
from scrapray.datasets.config import DatasetConfig
from scrapray.datasets.layouts import read_mask_pngs, read_mvtec, read_visa
from scrapray.datasets.painting import paint_mask_file
from scrapray.errors import ConfigurationError
from scrapray.imagery.bed import bed_mask
from scrapray.imagery.scenes import SceneSettings, draw_archive
from scrapray.storage import Storage
from tests.fixtures.archives import GRAMMAR, stored

SUFFIXES = ArchiveConfig().suffixes
CLASSES = ClassNames(["motor", "cable"], {"motor": ["bent"]}, ["color"])


def test_a_png_beside_a_picture_is_its_mask() -> None:
    folder = "n/2026-11-20/7/L1"
    names = ("c_063005.jpg", "c_063005.png", "c_063105.jpg", "c_063205.PNG", "notes.txt")
    found = read_mask_pngs(stored(*(f"{folder}/{name}" for name in names)), suffixes=SUFFIXES, grammar=GRAMMAR)
    (frame,) = found.frames
    assert (frame.key, frame.mask_uri) == (f"{folder}/c_063005.jpg", f"s3://frames/{folder}/c_063005.png")
    assert (frame.load_id, frame.mask_class) == ("L1", None)
    assert [(one.picture, one.stage, one.reason) for one in found.skipped] == [
        (f"s3://frames/{folder}/c_063105.jpg", "picture", "mask_not_found"),
        (f"s3://frames/{folder}/c_063205.PNG", "mask", "picture_not_found"),
    ]


def test_a_picture_of_another_ending_or_with_two_masks_is_recorded() -> None:
    folder = "n/2026-11-20/7/L1"
    names = ("c_063005.bmp", "c_063105.jpg", "c_063105.PNG", "c_063105.png")
    found = read_mask_pngs(stored(*(f"{folder}/{name}" for name in names)), suffixes=(".jpg",), grammar=GRAMMAR)
    assert found.frames == []
    assert [(one.picture.rpartition("/")[2], one.reason) for one in found.skipped] == [
        ("c_063005.bmp", "other_suffix"),
        ("c_063105.jpg", "ambiguous_mask"),
    ]


def test_a_drawn_archive_is_read_whole_and_its_masks_are_what_its_truth_says(tmp_path: Path) -> None:
    size = SceneSettings(width_px=480, height_px=270, contaminated_share=1.0)
    draw_archive(tmp_path, num_loads=1, frames_per_load=2, settings=size, masks=True)
    found = read_mask_pngs(
        [one for page in Storage().list_pages(str(tmp_path)) for one in page], suffixes=SUFFIXES, grammar=GRAMMAR
    )
    (load,) = json.loads((tmp_path / "truth.json").read_text())["loads"]
    assert [frame.key for frame in found.frames] == [frame["key"] for frame in load["frames"]]
    assert found.skipped == []
    assert {(frame.truck_id, frame.load_id) for frame in found.frames} == {(load["truck_id"], load["load_id"])}
    bed_polygon_px = read_config(tmp_path / "audit.toml").cameras["crane-1"].bed_polygon_px
    bed_HW = bed_mask(bed_polygon_px, (270, 480))
    class_of_value = DatasetConfig().class_of_mask_value
    for place, frame in enumerate(found.frames):
        class_HW = paint_mask_file(Path(frame.mask_uri or "").read_bytes(), (270, 480), class_of_value)
        seen = Counter({thing["class_index"]: 0 for thing in load["objects"]})
        for thing in load["objects"]:
            seen[thing["class_index"]] += thing["area_px"][place]
        for class_id in (1, 2, 3):
            assert np.count_nonzero(bed_HW & (class_HW == class_id)) == pytest.approx(seen[class_id], rel=0.1), (
                "but for the rim of the bed"
            )


MVTEC = (
    "bolt/train/good/000.png",
    "bolt/test/good/000.png",
    "bolt/test/bent/000.png",
    "bolt/test/bent/001.png",
    "bolt/test/color/000.png",
    "bolt/ground_truth/bent/000_mask.png",
    "bolt/ground_truth/bent/009_mask.png",
    "bolt/ground_truth/color/000_mask.png",
    "bolt/license.txt",
    "cover.png",
)


def test_mvtec_folders_say_what_is_good_and_what_each_mask_means() -> None:
    found = read_mvtec(stored(*MVTEC), suffixes=SUFFIXES, source="bolts", classes=CLASSES)
    assert [(frame.key, frame.mask_uri, frame.mask_class) for frame in found.frames] == [
        ("bolt/test/bent/000.png", "s3://frames/bolt/ground_truth/bent/000_mask.png", "motor"),
        ("bolt/test/good/000.png", None, None),
        ("bolt/train/good/000.png", None, None),
    ]
    assert [(one.picture.removeprefix("s3://frames/"), one.stage, one.reason) for one in found.skipped] == [
        ("cover.png", "picture", "other_folder"),
        ("bolt/test/bent/001.png", "picture", "mask_not_found"),
        ("bolt/test/color/000.png", "picture", "ignored_class"),
        ("bolt/ground_truth/bent/009_mask.png", "mask", "picture_not_found"),
    ]


def test_masks_of_mvtec_are_png_whatever_pictures_are() -> None:
    keys = ("bolt/test/bent/000.jpg", "bolt/test/bent/001.bmp", "bolt/ground_truth/bent/000_mask.png")
    found = read_mvtec(stored(*keys), suffixes=(".jpg",), source="bolts", classes=CLASSES)
    assert [frame.mask_uri for frame in found.frames] == ["s3://frames/bolt/ground_truth/bent/000_mask.png"]
    assert [(one.picture, one.reason) for one in found.skipped] == [
        ("s3://frames/bolt/test/bent/001.bmp", "other_suffix")
    ]


def test_a_defect_that_the_configuration_lacks_is_named() -> None:
    with pytest.raises(ConfigurationError, match="bolts has the classes 'scratch', which the configuration lacks"):
        read_mvtec(stored("test/scratch/1.png"), suffixes=SUFFIXES, source="bolts", classes=CLASSES)


def test_visa_folders_say_what_is_normal_and_where_each_mask_is() -> None:
    keys = (
        "candle/Data/Images/Normal/0000.JPG",
        "candle/Data/Images/Anomaly/000.JPG",
        "candle/Data/Images/Anomaly/001.JPG",
        "candle/Data/Masks/Anomaly/000.png",
        "candle/Data/Masks/Anomaly/009.png",
        "candle/image_anno.csv",
        "split_csv/1cls.csv",
        "samples.png",
    )
    classes = ClassNames(["motor", "flaw"], {"flaw": ["anomaly"]})
    found = read_visa(stored(*keys), suffixes=SUFFIXES, source="visa", classes=classes)
    assert [(frame.key, frame.mask_uri, frame.mask_class) for frame in found.frames] == [
        ("candle/Data/Images/Anomaly/000.JPG", "s3://frames/candle/Data/Masks/Anomaly/000.png", "flaw"),
        ("candle/Data/Images/Normal/0000.JPG", None, None),
    ]
    assert [(one.picture.removeprefix("s3://frames/"), one.stage, one.reason) for one in found.skipped] == [
        ("samples.png", "picture", "other_folder"),
        ("candle/Data/Images/Anomaly/001.JPG", "picture", "mask_not_found"),
        ("candle/Data/Masks/Anomaly/009.png", "mask", "picture_not_found"),
    ]


def test_real_pictures_in_the_layout_of_mvtec_are_read_with_their_masks(shared: Path) -> None:
    pages = Storage().list_pages(str(shared / "data" / "cookies"))
    found = read_mvtec(
        [one for page in pages for one in page],
        suffixes=SUFFIXES,
        source="cookies",
        classes=ClassNames(["motor"], {"motor": ["*"]}),
    )
    cracked = [frame for frame in found.frames if frame.mask_uri]
    assert (len(found.frames), len(cracked), found.skipped) == (31 + 14 + 32, 32, [])
    for frame in cracked:
        data = Path(frame.mask_uri or "").read_bytes()
        class_HW = paint_mask_file(data, (768, 576), {value: int(value > 0) for value in range(256)})
        assert 0.001 < class_HW.mean() < 0.5
        expected_HW = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) > 0
        np.testing.assert_array_equal(class_HW > 0, expected_HW)
