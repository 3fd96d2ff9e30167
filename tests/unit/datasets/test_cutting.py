import datetime as dt
import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scrapray.datasets.annotations import AnnotatedFrame, Region
from scrapray.datasets.config import BedByWords
from scrapray.datasets.cutting import TileCutter
from scrapray.errors import FrameError
from scrapray.imagery.png import decode_png, encode_png
from scrapray.segmenter.truck_bed import bed_finder

PIXELS_HW3 = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
DATA = encode_png(PIXELS_HW3)
CUTTER = TileCutter(
    class_names=("motor", "cable"),
    class_of_value={0: 0, 1: 1, 2: 2},
    beds={"c1": [(0, 0), (30, 0), (30, 40), (0, 40)]},
    tile_px=20,
    overlap_px=0,
    clean_share=1.0,
    max_pixels=10_000,
)
MOTOR = Region(class_name="motor", annotation_id="1", polygons=((2.0, 3.0, 8.0, 3.0, 8.0, 9.0, 2.0, 9.0),))
CABLE = Region(class_name="cable", annotation_id="2", polygons=((6.0, 3.0, 24.0, 3.0, 24.0, 5.0, 6.0, 5.0),))


def frame(*regions: Region, **more: Any) -> AnnotatedFrame:
    ids = {"site": "n", "date": dt.date(2026, 11, 20), "truck_id": "0007", "load_id": "L1", "camera_id": "c1"}
    return AnnotatedFrame(
        **({"frame_id": "f", "uri": "s3://frames/f.jpg", "key": "f.jpg", "regions": regions} | ids | more)
    )


def test_tiles_that_touch_the_bed_come_with_their_pixels_classes_and_counts() -> None:
    tiles, skipped = CUTTER.cut(frame(MOTOR, CABLE), "train", DATA, None)
    assert [tile["box_xyxy"] for tile in tiles] == [[0, 0, 20, 20], [20, 0, 40, 20], [0, 20, 20, 40], [20, 20, 40, 40]]
    for tile in tiles:
        x0, y0, x1, y1 = tile["box_xyxy"]
        np.testing.assert_array_equal(decode_png(tile["image"]), PIXELS_HW3[y0:y1, x0:x1])
        counted = np.bincount(decode_png(tile["mask"]).ravel(), minlength=3).tolist()
        assert tile["class_px"] == counted
        assert tile["tile_sha256"] == hashlib.sha256(tile["image"] + tile["mask"]).hexdigest()
    assert [tile["class_px"] for tile in tiles] == [[400 - 60, 32, 28], [392, 0, 8], [400, 0, 0], [400, 0, 0]]
    assert (decode_png(tiles[0]["mask"])[3:9, 2:6] == 1).all()
    assert [(one.stage, one.reason, one.detail) for one in skipped] == [
        ("kept", "tiny", "motor of 36 px"),
        ("kept", "tiny", "cable of 36 px"),
        ("annotation", "overlap", "4 px of several classes; the last of them has them"),
    ]


def test_every_tile_says_where_it_comes_from() -> None:
    first, second, *_ = CUTTER.cut(frame(), "test", DATA, None)[0]
    assert second["tile_id"] == first["tile_id"].removesuffix("-0-0") + "-20-0"
    assert (first["truck_id"], first["unit"], first["split"]) == ("0007", "load/n/2026-11-20/0007/L1", "test")
    assert first["content_sha256"] == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_clean_tiles_are_thinned_out_in_training_only(split: Any) -> None:
    tiles, _ = replace(CUTTER, clean_share=0.0).cut(frame(MOTOR), split, DATA, None)
    assert len(tiles) == (1 if split == "train" else 4)


def test_which_clean_tiles_stay_is_decided_by_their_names() -> None:
    half = replace(CUTTER, clean_share=0.5, tile_px=4, beds={})
    kept = [tile["tile_id"] for tile in half.cut(frame(), "train", DATA, None)[0]]
    assert len(kept) == pytest.approx(75, abs=20)
    assert kept == [tile["tile_id"] for tile in half.cut(frame(), "train", DATA, None)[0]]
    more = [tile["tile_id"] for tile in replace(half, clean_share=0.7).cut(frame(), "train", DATA, None)[0]]
    assert set(kept) < set(more)


def test_names_of_tiles_follow_from_key_and_content_of_the_frame() -> None:
    def names(data: bytes = DATA, **more: Any) -> list[str]:
        return [tile["tile_id"] for tile in CUTTER.cut(frame(**more), "test", data, None)[0]]

    assert names() == names(frame_id="g", uri="s3://copies/f.jpg"), "what a copy or a touched file changes"
    assert not {*names()} & {*names(key="g.jpg")}, "copies are two frames"
    assert not {*names()} & {*names(encode_png(255 - PIXELS_HW3))}


@pytest.mark.parametrize(("mask_class", "expected"), [(None, [398, 1, 1]), ("cable", [398, 0, 2])])
def test_a_mask_file_holds_class_indexes_or_one_class(mask_class: str | None, expected: list[int]) -> None:
    mask_HW = np.zeros((40, 60), np.uint8)
    mask_HW[0, :2] = (1, 2)
    masked = frame(mask_uri="s3://frames/f.png", mask_class=mask_class)
    tiles, _ = CUTTER.cut(masked, "train", DATA, encode_png(mask_HW))
    assert tiles[0]["class_px"] == expected


@pytest.mark.parametrize(
    ("cutter", "given", "data", "mask", "fault"),
    [
        (CUTTER, frame(), b"junk", None, ("decode", "not_an_image")),
        (replace(CUTTER, max_pixels=100), frame(), DATA, None, ("decode", "too_many_pixels")),
        (replace(CUTTER, tile_px=41), frame(), DATA, None, ("cut", "frame_smaller_than_tile")),
        (CUTTER, frame(camera_id="c2"), DATA, None, ("bed", "unknown_camera")),
        (CUTTER, frame(MOTOR, height_px=80, width_px=120), DATA, None, ("annotation", "other_size")),
        (CUTTER, frame(), DATA, b"junk", ("mask", "unreadable")),
        (CUTTER, frame(), DATA, encode_png(np.zeros((20, 30), np.uint8)), ("mask", "other_size")),
        (CUTTER, frame(), DATA, encode_png(np.full((40, 60), 3, np.uint8)), ("mask", "unknown_class_index")),
    ],
)
def test_a_frame_that_cannot_be_used_says_why(
    cutter: TileCutter, given: AnnotatedFrame, data: bytes, mask: bytes | None, fault: tuple[str, str]
) -> None:
    with pytest.raises(FrameError) as caught:
        cutter.cut(given, "train", data, mask)
    assert (caught.value.stage, caught.value.reason) == fault


def test_tiles_are_cut_where_words_find_the_bed(detector: str, masker: str) -> None:
    words = BedByWords(detector=detector, masker=masker, min_score=0.001)
    cutter = replace(CUTTER, beds={}, bed_by_words=words, tile_px=1)
    boxes_N4 = np.array([tile["box_xyxy"] for tile in cutter.cut(frame(), "train", DATA, None)[0]])
    bed_HW = bed_finder(detector, masker).find(PIXELS_HW3, words.phrases, words.min_score)
    assert 0 < len(boxes_N4) < PIXELS_HW3[..., 0].size
    np.testing.assert_array_equal(boxes_N4[:, 1::-1], np.argwhere(bed_HW))
