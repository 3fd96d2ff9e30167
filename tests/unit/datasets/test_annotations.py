import datetime as dt

import pytest

from scrapray.datasets.annotations import Annotations, PictureNames
from scrapray.keys import frame_id_of
from tests.fixtures.archives import GRAMMAR, stored

KEY = "north/2026-11-20/0007/L1/crane-1_063005.jpg"
OTHER = "north/2026-11-20/0007/L1/crane-1_063105.jpg"
SAME_NAME = "north/2026-11-21/0009/L4/crane-1_063005.jpg"


@pytest.mark.parametrize(
    "name",
    [
        KEY,
        "crane-1_063105.jpg",
        "0007/L1/crane-1_063005.jpg",
        "./0007/L1/crane-1_063005.jpg",
        "images/0007/L1/crane-1_063005.jpg",
        "images\\L1\\crane-1_063005.jpg",
        f"s3://frames/{KEY}",
        f"/mnt/archive/{KEY}",
        "images/3f9a1b2c-crane-1_063105.jpg",
        "images/0a1b2c3d__crane-1_063105.jpg",
        "../upload/4/0a1b2c3d__3f9a1b2c-crane-1_063105.jpg",
        "/data/local-files/?d=frames%2Fnorth/2026-11-20/0007/L1/crane-1_063005.jpg",
        "/storage-data/uploaded/?a=1&filepath=upload/4/3f9a1b2c-crane-1_063105.jpg",
    ],
)
def test_a_picture_is_found_by_what_tools_call_it(name: str) -> None:
    _, (picture,) = PictureNames(stored(KEY, OTHER, SAME_NAME)).find(name)
    assert picture.key == (OTHER if "063105" in name else KEY)


def test_a_key_is_taken_literally_first() -> None:
    keys = ("L1/3f9a1b2c-a.jpg", "L1/a.jpg", "L1/a%20b.jpg", "images/L1/a.jpg")
    names = PictureNames(stored(*keys))
    assert [names.find(key)[1][0].key for key in keys] == list(keys)


def test_a_name_that_fits_two_pictures_finds_both() -> None:
    _, found = PictureNames(stored(KEY, OTHER, SAME_NAME)).find("crane-1_063005.jpg")
    assert [picture.key for picture in found] == [KEY, SAME_NAME]


@pytest.mark.parametrize(
    "name", ["", "1_063005.jpg", "south/2026-11-20/0007/L1/crane-1_063005.jpg", "L2/crane-1_063005.jpg"]
)
def test_a_name_of_another_folder_finds_nothing(name: str) -> None:
    assert PictureNames(stored(KEY, OTHER)).find(name) == (name, ())


def test_a_frame_has_the_identity_that_its_key_tells() -> None:
    found = Annotations()
    (picture,) = stored(KEY)
    found.add(picture, GRAMMAR, height_px=10)
    (frame,) = found.frames
    assert (frame.site, frame.date, frame.truck_id) == ("north", dt.date(2026, 11, 20), "0007")
    assert (frame.load_id, frame.camera_id, frame.height_px) == ("L1", "crane-1", 10)
    assert frame.frame_id == frame_id_of(picture.uri, picture.etag)


def test_a_frame_whose_key_tells_nothing_is_recorded() -> None:
    found = Annotations()
    for picture in stored("somewhere/else.jpg", "n/2026-02-30/7/L1/c_063005.jpg"):
        found.add(picture, GRAMMAR)
    assert found.frames == []
    assert [(one.picture, one.stage, one.reason) for one in found.skipped] == [
        ("s3://frames/somewhere/else.jpg", "picture", "key_mismatch"),
        ("s3://frames/n/2026-02-30/7/L1/c_063005.jpg", "picture", "bad_time"),
    ]


def test_without_a_grammar_a_frame_has_no_identity_but_its_key() -> None:
    found = Annotations()
    found.add(*stored("train/good/1.png"), None)
    (frame,) = found.frames
    assert (frame.key, frame.date, frame.load_id) == ("train/good/1.png", None, None)
