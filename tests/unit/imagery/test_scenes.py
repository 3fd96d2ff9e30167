import datetime as dt
import itertools
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from scrapray.config import read_config
from scrapray.errors import ConfigurationError
from scrapray.imagery import parts
from scrapray.imagery.decode import decode_frame
from scrapray.imagery.scenes import SceneSettings, contact_sheet, draw_archive, draw_frames, draw_load, draw_tiles

SMALL = SceneSettings(
    width_px=480, height_px=270, num_frames=3, contaminated_share=1.0, contamination_frac=0.01, num_parts=24
)


@pytest.fixture(scope="module")
def load():
    return draw_load(11, SMALL)


def in_bed(settings):
    mask = np.zeros((settings.height_px, settings.width_px), np.uint8)
    cv2.fillPoly(mask, [np.array(settings.bed_polygon_px, np.int32)], 1)
    return mask > 0


def take(num, *arguments):
    return list(itertools.islice(draw_tiles(*arguments), num))


def test_the_same_seed_draws_the_same_bytes_with_any_number_of_threads(load):
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        again = draw_load(11, SMALL)
    finally:
        cv2.setNumThreads(threads)
    assert again.objects == load.objects
    for first, second in zip(load.frames, again.frames, strict=True):
        assert first.jpeg == second.jpeg
        assert np.array_equal(first.object_HW, second.object_HW)
    assert draw_load(12, SMALL).frames[0].jpeg != load.frames[0].jpeg


def test_masks_have_the_size_of_the_frame_and_agree_with_each_other(load):
    for frame in load.frames:
        assert frame.image_HW3.shape == (270, 480, 3)
        assert (frame.class_HW.dtype, frame.object_HW.dtype) == (np.uint8, np.uint16)
        assert frame.class_HW.shape == frame.object_HW.shape == (270, 480)
        contaminated = {thing.object_id for thing in load.objects if thing.class_index}
        assert np.array_equal(frame.class_HW > 0, np.isin(frame.object_HW, list(contaminated)))


def test_truth_counts_what_the_masks_show_inside_the_bed(load):
    bed_HW = in_bed(SMALL)
    assert load.bed_area_px == bed_HW.sum()
    shares = [(frame.class_HW[bed_HW] > 0).mean() for frame in load.frames]
    assert load.contamination_per_frame == pytest.approx(shares)
    assert load.contamination_frac == pytest.approx(np.mean(shares))
    assert load.contamination_frac > 0
    for thing in load.objects:
        areas = tuple(int((frame.object_HW[bed_HW] == thing.object_id).sum()) for frame in load.frames)
        assert thing.area_px == areas
        assert thing.class_index == (thing.name in parts.CONTAMINANTS and parts.CONTAMINANTS.index(thing.name) + 1)


def test_size_is_the_longest_visible_extent_in_any_frame(load):
    bed_HW = in_bed(SMALL)
    for thing in load.objects:
        farthest = 0.0
        for frame in load.frames:
            points = np.argwhere((frame.object_HW == thing.object_id) & bed_HW).astype(float)
            if len(points):
                farthest = max(farthest, np.linalg.norm(points[:, None] - points[None], axis=2).max() + 1)
        assert farthest / np.sqrt(2) - 1 <= thing.size_px <= farthest + 1


def test_the_heap_goes_down_and_what_is_gone_stays_gone(load):
    tops = [int(frame.object_HW.max()) for frame in load.frames]
    assert tops == sorted(tops, reverse=True)
    assert len(set(tops)) == len(tops)


def test_what_stays_is_seen_at_the_same_place_but_for_the_shaking_of_the_camera():
    load = draw_load(5, replace(SMALL, width_px=960, height_px=540, num_frames=2))
    before, after = load.frames[0].object_HW, load.frames[1].object_HW
    moved = []
    for number in np.unique(after)[1:]:
        here, there = before == number, after == number
        if here.sum() > 200 and here.sum() == pytest.approx(there.sum(), rel=0.02):
            moved.append(np.argwhere(there).mean(0) - np.argwhere(here).mean(0))
    assert len(moved) > 20
    assert np.abs(np.median(moved, 0)).max() < 4
    assert np.abs(np.std(moved, 0)).max() < 1
    assert load.frames[0].jpeg != load.frames[1].jpeg


def test_a_clean_load_has_hard_negatives_but_no_contaminant():
    loads = [draw_load(seed, replace(SMALL, contaminated_share=0.0, num_frames=1)) for seed in range(2)]
    assert all(load.contamination_frac == 0 and not load.frames[0].class_HW.any() for load in loads)
    assert {thing.name for load in loads for thing in load.objects} <= set(parts.HARD_NEGATIVES)
    assert any(load.objects for load in loads)


def test_contaminants_cover_about_the_share_asked_for():
    settings = replace(SMALL, contamination_frac=0.004, num_frames=3)
    shares = [draw_load(seed, settings).contamination_frac for seed in range(4)]
    assert 0.3 < np.mean(shares) / settings.contamination_frac < 3


def test_tiles_come_without_end_and_the_same_for_the_same_seed():
    first, again = take(40, 7, 64, 0.5, SMALL), take(40, 7, 64, 0.5, SMALL)
    for (image, classes), (same_image, same_classes) in zip(first, again, strict=True):
        assert image.shape == (64, 64, 3) and classes.shape == (64, 64)
        assert image.dtype == classes.dtype == np.uint8
        assert np.array_equal(image, same_image) and np.array_equal(classes, same_classes)
    assert len({image.tobytes() for image, _ in first}) == 40
    assert take(1, 8, 64, 0.5, SMALL)[0][0].tobytes() not in {image.tobytes() for image, _ in first}


def test_frames_of_one_load_after_the_other_come_the_same_for_the_same_seed():
    first, again = (list(itertools.islice(draw_frames(5, SMALL), 2 * SMALL.num_frames)) for _ in range(2))
    assert all(
        (a == b).all() for pair, other in zip(first, again, strict=True) for a, b in zip(pair, other, strict=True)
    )
    within, across = (np.mean(cv2.absdiff(first[a][0], first[b][0])) for a, b in ((0, 1), (0, SMALL.num_frames)))
    assert within < across


@pytest.mark.slow
def test_the_sheet_shows_frames_and_outlined_details_and_single_things():
    sheet_HW3 = contact_sheet()
    assert (sheet_HW3.shape, sheet_HW3.dtype) == ((1340, 1920, 3), np.uint8)
    is_outline = (sheet_HW3 == (255, 60, 255)).all(axis=-1)
    assert not is_outline[:540].any() and not is_outline[1020:].any()
    assert all(detail.any() for detail in np.split(is_outline[540:1020], 4, axis=1))


def test_the_share_of_contaminated_tiles_follows_the_option():
    settings = replace(SMALL, width_px=960, height_px=540)
    assert not any(classes.any() for _, classes in take(16, 1, 96, 0.0, settings))
    shares = [np.mean([classes.any() for _, classes in take(96, 2, 96, share, settings)]) for share in (0.3, 0.9)]
    assert 0.15 < shares[0] < 0.5 < 0.65 < shares[1]


def test_cells_smaller_than_a_tile_put_several_contaminants_into_it():
    settings = replace(SMALL, width_px=960, height_px=540)
    shown = [
        np.mean([(classes > 0).mean() for _, classes in take(16, 2, 192, 0.9, settings, cell_px)])
        for cell_px in (192, 96)
    ]
    assert shown[1] > 2 * shown[0]


def test_an_archive_is_ready_to_be_audited_and_tells_its_truth(tmp_path):
    reported = []
    draw_archive(
        tmp_path,
        num_loads=4,
        frames_per_load=2,
        seed=3,
        settings=replace(SMALL, contaminated_share=0.5),
        date=dt.date(2026, 11, 20),
        masks=True,
        progress=lambda done, total: reported.append((done, total)),
    )
    truth = json.loads((tmp_path / "truth.json").read_text())
    keys = [frame["key"] for load in truth["loads"] for frame in load["frames"]]
    assert sorted(keys) == sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.jpg"))
    assert sum(load["contaminated"] for load in truth["loads"]) == 2
    assert reported == [(done, 8) for done in range(1, 9)]
    assert all(load["truck_id"] == keys[2 * at].split("/")[2] for at, load in enumerate(truth["loads"]))
    assert all(len(load["truck_id"]) == 4 and load["truck_id"][0] == "0" for load in truth["loads"])
    config = read_config(tmp_path / "audit.toml")
    assert set(config.cameras) == {key.rsplit("/")[-1].partition("_")[0] for key in keys}
    bed_HW = in_bed(SMALL)
    for load in truth["loads"]:
        for frame in load["frames"]:
            path = tmp_path / frame["key"]
            assert decode_frame(path.read_bytes(), 10**6).shape == (270, 480, 3)
            class_HW = cv2.imread(str(path.with_suffix(".png")), cv2.IMREAD_UNCHANGED)
            assert (class_HW[bed_HW] > 0).mean() == pytest.approx(frame["contamination_frac"])


def test_the_same_archive_is_written_twice_to_the_byte(tmp_path):
    for name in ("first", "second"):
        draw_archive(tmp_path / name, num_loads=1, frames_per_load=1, seed=5, settings=SMALL)
    first, second = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("first", "second")
    )
    assert first == second


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("width_px", 10),
        ("num_frames", 0),
        ("contaminated_share", 1.5),
        ("contamination_frac", 0.0),
        ("size_px", (50.0, 20.0)),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(setting, value):
    with pytest.raises(ConfigurationError, match=setting if setting != "width_px" else "too small"):
        replace(SMALL, **{setting: value})
