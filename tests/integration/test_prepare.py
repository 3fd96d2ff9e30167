"""Datasets prepared on a real local Ray."""

import json
import pickle
import re
import shlex
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from scrapray import cli
from scrapray.config import read_config
from scrapray.datasets.config import BedByWords, ClassConfig, DatasetConfig, SplitConfig, TilesConfig
from scrapray.datasets.prepare import PrepareSummary, prepare_dataset
from scrapray.datasets.read import open_dataset
from scrapray.datasets.split import SPLITS
from scrapray.errors import ConfigurationError, SchemaError, StorageError
from scrapray.imagery.decode import decode_class_indexes, decode_frame
from scrapray.imagery.png import decode_png, encode_png
from scrapray.imagery.scenes import SceneSettings, draw_archive
from scrapray.lake import read_table
from scrapray.schema import SKIPPED
from scrapray.storage import Storage, join
from tests.fixtures.services import S3Server

pytestmark = pytest.mark.usefixtures("engine")

TILES = TilesConfig(tile_px=128, overlap_px=16)
SPLIT = SplitConfig(train=0.5, validation=0.3, test=0.2, seed=22)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine loads of two frames each, with masks."""
    folder = tmp_path_factory.mktemp("archive")
    size = SceneSettings(width_px=480, height_px=270, contaminated_share=0.7)
    draw_archive(folder, num_loads=9, frames_per_load=2, settings=size, masks=True)
    return folder


def config_of(archive: Path, **changes: object) -> DatasetConfig:
    cameras = read_config(archive / "audit.toml").cameras
    return replace(DatasetConfig(cameras=cameras, tiles=TILES, split=SPLIT), **changes)


def prepare(archive: Path, out: Path, config: DatasetConfig | None = None, **given: str) -> PrepareSummary:
    annotations = given.get("annotations", "masks")
    return prepare_dataset(annotations, str(archive), str(out), config=config or config_of(archive), command="prepare")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def copy_of(archive: Path, target: Path) -> Path:
    for name, data in files_of(archive).items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return target


def test_a_drawn_archive_becomes_the_same_dataset_every_time(archive: Path, tmp_path: Path) -> None:
    first = prepare(archive, tmp_path / "first")
    prepare(archive, tmp_path / "second")
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")
    assert not (tmp_path / "first" / "_work").exists()

    card = first.card
    assert (first.num_frames, first.num_done_before) == (18, 0)
    assert sum(counts.num_loads for counts in card.splits.values()) == 9
    assert sum(counts.num_frames for counts in card.splits.values()) == 18
    assert card.class_names == ("motor", "cable", "spray can")
    assert all(reason.startswith("kept: ") for reason in card.skipped), "nothing was left out"

    dataset = open_dataset(str(tmp_path / "first"), Storage())
    assert dataset.card == card
    unit_splits = set(zip(dataset.manifest["unit"].to_pylist(), dataset.manifest["split"].to_pylist(), strict=True))
    assert len(unit_splits) == 9, "no load is torn"
    for split in SPLITS:
        tiles = dataset.split(split)
        counts = card.splits[split]
        assert len(tiles) == counts.num_tiles > 0
        assert tiles.class_px_NC.sum(axis=0).tolist() == list(counts.class_px)
        assert (tiles.class_px_NC > 0).sum(axis=0).tolist() == list(counts.class_tiles)
        assert len(set(tiles.load_ids)) == counts.num_loads


def test_a_copied_archive_becomes_a_dataset_of_the_same_content(archive: Path, tmp_path: Path) -> None:
    config = config_of(archive, tiles=replace(TILES, clean_share=0.5))
    first = prepare(archive, tmp_path / "first", config).card
    again = prepare(copy_of(archive, tmp_path / "copy"), tmp_path / "again", config).card
    assert again.dataset_sha256 == first.dataset_sha256
    assert again.sources["frames_sha256"] == first.sources["frames_sha256"]
    assert again.splits == first.splits


def test_a_tile_is_the_piece_of_the_frame_and_of_the_mask_that_its_box_says(archive: Path, tmp_path: Path) -> None:
    prepare(archive, tmp_path / "out")
    dataset = open_dataset(str(tmp_path / "out"), Storage())
    rows = dataset.manifest.to_pylist()
    tiles = {split: dataset.split(split) for split in SPLITS}
    for row in rows[:: max(1, len(rows) // 20)]:
        x0, y0, x1, y1 = row["box_xyxy"]
        path = Path(row["uri"])
        split = tiles[row["split"]]
        image_HW3, class_HW = split[split.tile_ids.index(row["tile_id"])]
        np.testing.assert_array_equal(image_HW3, decode_frame(path.read_bytes(), 10**6)[y0:y1, x0:x1])
        np.testing.assert_array_equal(class_HW, decode_png(path.with_suffix(".png").read_bytes())[y0:y1, x0:x1])


def test_a_stopped_preparation_goes_on_where_it_was(archive: Path, tmp_path: Path) -> None:
    prepare(archive, tmp_path / "whole")
    out = tmp_path / "stopped"
    (out / "manifest.parquet").mkdir(parents=True)  # where a file must be written after all parts
    with pytest.raises(StorageError, match=r"cannot write .*manifest\.parquet"):
        prepare(archive, out)
    assert not (out / "card.json").exists()
    (out / "manifest.parquet").rmdir()
    (undone,) = out.glob("_work/*/skipped/split=test/part-00000-*.parquet")
    undone.unlink()
    (untouched,) = out.glob("tiles/split=train/part-00000-*.parquet")
    written_ns = untouched.stat().st_mtime_ns

    again = prepare(archive, out)
    assert again.num_done_before == 18 - again.card.splits["test"].num_frames
    assert untouched.stat().st_mtime_ns == written_ns
    assert files_of(out) == files_of(tmp_path / "whole")

    third = prepare(archive, out)
    assert (third.num_done_before, third.card) == (18, again.card)


def test_two_inputs_that_were_begun_in_one_folder_are_never_mixed(archive: Path, tmp_path: Path) -> None:
    inputs = {name: copy_of(archive, tmp_path / name) for name in ("first", "second")}
    for mask in inputs["second"].rglob("*.png"):
        mask.write_bytes(encode_png(np.zeros((270, 480), np.uint8)))
    out = tmp_path / "out"
    (out / "manifest.parquet").mkdir(parents=True)
    for frames in inputs.values():
        with pytest.raises(StorageError, match=r"cannot write .*manifest\.parquet"):
            prepare(frames, out)
    (out / "manifest.parquet").rmdir()
    assert prepare(inputs["first"], out).num_done_before == 18
    dataset = open_dataset(str(out), Storage())
    for tiles in map(dataset.split, SPLITS):
        for place, class_px in enumerate(tiles.class_px_NC):
            assert np.bincount(tiles[place][1].ravel(), minlength=4).tolist() == class_px.tolist()
    left = {str(path.relative_to(out / "tiles")) for path in out.rglob("part-*")}
    assert left == set(dataset.manifest["part"].to_pylist()), "nothing of the second"


def test_what_others_keep_beside_a_dataset_stays(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    theirs = [out / "tiles/notes.txt", out / "_work/plan.md", out / "tiles/split=train/labels.parquet"]
    stale = [out / "tiles/split=train/part-00099-0123456789abcdef.parquet", out / "_work/0123456789abcdef/skipped/a"]
    for path in (*theirs, *stale):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("somebody's")
    prepare(archive, out)
    assert all(path.exists() for path in theirs)
    assert not any(path.exists() for path in stale)


def test_a_split_of_frames_without_a_tile_is_refused(archive: Path, tmp_path: Path) -> None:
    clean = {"images": [], "categories": [], "annotations": []}
    keys = (str(path.relative_to(archive)) for path in sorted(archive.rglob("*.jpg")))
    clean["images"] = [{"id": number, "file_name": key} for number, key in enumerate(keys)]
    (tmp_path / "a.json").write_text(json.dumps(clean))
    config = config_of(archive, tiles=replace(TILES, clean_share=0.0))
    with pytest.raises(SchemaError, match=r"no tile of train is left.* clean_share is 0"):
        prepare(archive, tmp_path / "out", config, annotations=str(tmp_path / "a.json"))


def test_bad_frames_are_recorded_and_the_rest_becomes_a_dataset(archive: Path, tmp_path: Path) -> None:
    mine = copy_of(archive, tmp_path / "archive")
    junk, small_mask, no_mask, *_ = sorted(mine.rglob("*.jpg"))
    junk.write_bytes(b"junk")
    small_mask.with_suffix(".png").write_bytes(encode_png(np.zeros((10, 10), np.uint8)))
    no_mask.with_suffix(".png").unlink()
    summary = prepare(mine, tmp_path / "out")
    left_out = {reason: count for reason, count in summary.card.skipped.items() if not reason.startswith("kept: ")}
    assert left_out == {"decode: not_an_image": 1, "mask: other_size": 1, "picture: mask_not_found": 1}
    rows = read_table(str(tmp_path / "out" / "skipped.parquet"), SKIPPED, Storage()).to_pylist()
    pictures = {row["picture"] for row in rows if row["stage"] != "kept"}
    assert pictures == {str(junk), str(small_mask), str(no_mask)}
    assert sum(counts.num_frames for counts in summary.card.splits.values()) == 18 - 3


def test_copies_of_a_frame_in_two_splits_are_refused_by_name(archive: Path, tmp_path: Path) -> None:
    mine = copy_of(archive, tmp_path / "archive")
    summary = prepare(mine, tmp_path / "clean")
    assert summary.card.splits["test"].num_frames > 0
    manifest = open_dataset(str(tmp_path / "clean"), Storage()).manifest.to_pylist()
    one, other = (next(Path(row["uri"]) for row in manifest if row["split"] == split) for split in ("train", "test"))
    other.write_bytes(one.read_bytes())
    with pytest.raises(SchemaError, match="the same content_sha256 is in two splits") as caught:
        prepare(mine, tmp_path / "leaking")
    assert str(one) in str(caught.value) and str(other) in str(caught.value)
    assert not (tmp_path / "leaking" / "card.json").exists()


def test_a_folder_is_kept_for_one_dataset(archive: Path, tmp_path: Path) -> None:
    prepare(archive, tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"holds another dataset: .*; give each a folder of its own"):
        prepare(archive, tmp_path / "out", config_of(archive, tiles=replace(TILES, overlap_px=0)))


@pytest.mark.parametrize("annotations", ["masks", "mvtec", "visa"])
@pytest.mark.parametrize("out", ["s3://yard", "s3://yard/sets/1"])
def test_a_dataset_among_its_own_masks_is_refused_by_name_before_storage_is_asked(
    archive: Path, annotations: str, out: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{out} lies in s3://yard/, so .*; give the dataset a folder"):
        prepare_dataset(annotations, "s3://yard/", out, config=config_of(archive), command="prepare")


def test_a_split_that_no_load_falls_into_is_named_before_any_work(archive: Path, tmp_path: Path) -> None:
    config = config_of(archive, split=SplitConfig(train=0.7999, validation=0.0001, test=0.2, seed=22))
    with pytest.raises(ConfigurationError, match="none of the 9 loads falls into validation; give it dates"):
        prepare(archive, tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


def test_an_archive_without_annotated_frames_is_refused_with_the_reasons(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    with pytest.raises(SchemaError, match="there is no annotated frame to use; left out: nothing"):
        prepare(tmp_path / "archive", tmp_path / "out", config_of(archive))


def test_coco_annotations_in_object_storage_become_a_dataset_that_is_read_from_there(
    archive: Path, tmp_path: Path, s3: S3Server
) -> None:
    storage, bucket = Storage(s3.config), s3.make_bucket("prepare")
    keys = [str(path.relative_to(archive)) for path in sorted(archive.rglob("*.jpg"))]
    for key in keys:
        storage.write_bytes(join(bucket, "frames", key), (archive / key).read_bytes())
    corners = [200, 120, 300, 120, 300, 180, 200, 180]
    file = {
        "images": [{"id": number, "file_name": key} for number, key in enumerate(keys)],
        "categories": [{"id": 0, "name": "Spray_Can"}],
        "annotations": [
            {"id": 1, "image_id": number, "category_id": 0, "segmentation": [corners]} for number in (0, 5)
        ],
    }
    storage.write_bytes(join(bucket, "a.json"), json.dumps(file).encode())
    summary = prepare_dataset(
        join(bucket, "a.json"),
        join(bucket, "frames"),
        join(bucket, "scrap-7"),
        config=config_of(archive, storage=s3.config),
        command="prepare",
    )
    assert summary.num_frames == 18
    assert len(summary.card.sources["annotations_sha256"]) == 64
    dataset = open_dataset(join(bucket, "scrap-7"), storage)
    annotated_px = 0
    for split in SPLITS:
        tiles = pickle.loads(pickle.dumps(dataset.split(split, cache=tmp_path / "cache")))
        for place, class_px in enumerate(tiles.class_px_NC):
            _, class_HW = tiles[place]
            assert np.bincount(class_HW.ravel(), minlength=4).tolist() == class_px.tolist()
            annotated_px += class_px[3]
    assert annotated_px >= 2 * 100 * 60
    part = next(part for part in dataset.manifest["part"].to_pylist() if part.startswith("split=train/"))
    damaged = tmp_path / "other" / part
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"half a file")
    with pytest.raises(SchemaError, match=r"tile .* cannot be read, row 0 of .*; prepare the dataset again"):
        dataset.split("train", cache=tmp_path / "other")[0]


def test_the_command_prints_what_each_split_holds_and_says_in_the_card_how_it_was_called(
    archive: Path, tmp_path: Path
) -> None:
    config = tmp_path / "dataset.toml"
    config.write_text("[tiles]\ntile_px = 128\n[split]\ntrain = 0.5\nvalidation = 0.3\ntest = 0.2\nseed = 22\n")
    arguments = ["prepare", "masks", str(archive), str(tmp_path / "out"), "--config", str(config)]
    answer = CliRunner().invoke(cli.app, arguments)
    assert (answer.exit_code, answer.exception) == (0, None)
    first, *splits, left_out, odd = answer.stdout.splitlines()
    assert re.fullmatch(r"\d+ tiles of 18 frames, in [0-9.]+ s", first)
    assert [line.partition(":")[0] for line in splits] == ["test", "validation", "train"]
    assert re.fullmatch(r"test: \d loads, \d+ frames, \d+ tiles; with motor \d+, cable \d+, spray can \d+", splits[0])
    assert left_out == "left out: nothing"
    assert re.fullmatch(r"worth a look: kept: tiny \d+", odd), "pieces that parts lie upon"
    card = open_dataset(str(tmp_path / "out"), Storage()).card
    assert card.command == shlex.join(["scrapray", *arguments])


def test_a_check_tells_what_is_odd_and_draws_the_tiles(archive: Path, tmp_path: Path) -> None:
    mine = copy_of(archive, tmp_path / "archive")
    frames = sorted(mine.rglob("*.jpg"))
    again = cv2.imread(str(frames[0]))
    again[0, 0] += 1  # another file of the same picture
    cv2.imwrite(str(frames[1]), again)
    corners = {"tiny": [230, 130, 236, 130, 236, 136, 230, 136], "odd": [0, 0, 12, 0, 12, 12, 0, 12]}
    annotations = {
        "images": [{"id": 1, "file_name": str(frames[0].relative_to(mine))}]
        + [{"id": 2 + number, "file_name": str(path.relative_to(mine))} for number, path in enumerate(frames[1:])],
        "categories": [{"id": 1, "name": "motor"}],
        "annotations": [
            {"id": name, "image_id": 1, "category_id": 1, "segmentation": [polygon]}
            for name, polygon in corners.items()
        ]
        + [{"id": "slip", "image_id": 2, "category_id": 1, "segmentation": [[5, 5, 9, 9]]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    bed = [[100, 60], [400, 60], [400, 250], [100, 250]]
    text = ["[tiles]", "tile_px = 128", "[split]", "train = 0.5", "validation = 0.3", "test = 0.2", "seed = 22"]
    text += [f'[cameras."{name}"]\nbed_polygon_px = {bed}' for name in config_of(archive).cameras]
    (tmp_path / "dataset.toml").write_text("\n".join(text))
    arguments = ["prepare", str(tmp_path / "a.json"), str(mine), str(tmp_path / "out"), "--check"]
    answer = CliRunner().invoke(cli.app, [*arguments, "--config", str(tmp_path / "dataset.toml")])
    assert (answer.exit_code, answer.exception) == (0, None)
    lines = answer.stdout.splitlines()
    assert "worth a look: kept: outside_bed 1, kept: tiny 1" in lines
    assert f"annotations, tiny: 1: {frames[0]} annotation tiny, motor of 36 px" in lines
    assert any(line.startswith("annotations, outside bed: 1: ") and "annotation odd" in line for line in lines)
    assert f"annotations, few points: 1: {frames[1]} annotation slip, category 1" in lines
    pixels = next(line for line in lines if line.startswith("pixels in "))
    assert re.fullmatch(r"pixels in test: steel [\d,]+, motor [\d,]+, cable 0, spray can 0", pixels)
    assert any(
        line.startswith("near copies in one split: ") and f"{frames[0]} and {frames[1]}" in line for line in lines
    )
    assert lines[-1] == f"tiles with their classes: {tmp_path / 'out' / 'sheet.png'}"
    assert decode_png((tmp_path / "out" / "sheet.png").read_bytes()).shape[1] >= 128


@pytest.mark.slow
def test_real_pictures_of_cookies_become_a_dataset(shared: Path, tmp_path: Path) -> None:
    config = DatasetConfig(
        classes=(ClassConfig(name="crack", definition="a crack", severity=1, aliases=("*",)),),
        tiles=TilesConfig(tile_px=512, overlap_px=0),
    )
    summary = prepare(shared / "data" / "cookies", tmp_path / "out", config, annotations="mvtec")
    assert all(reason.startswith("kept: ") for reason in summary.card.skipped)
    assert sum(counts.num_frames for counts in summary.card.splits.values()) == 77
    cracked = sum(counts.class_px[1] for counts in summary.card.splits.values())
    masks = (shared / "data" / "cookies" / "ground_truth").rglob("*.png")
    in_masks = sum(int((decode_class_indexes(path.read_bytes(), (768, 576)) > 0).sum()) for path in masks)
    assert in_masks < cracked < 4 * in_masks, "tiles of 512 px show most pixels of a cookie several times"


def test_without_polygons_the_bed_is_found_by_words(archive: Path, tmp_path: Path, detector: str, masker: str) -> None:
    def given(min_score: float) -> DatasetConfig:
        words = BedByWords(detector=detector, masker=masker, min_score=min_score)
        return config_of(archive, cameras={}, bed_by_words=words)

    card = prepare(archive, tmp_path / "found", given(min_score=0.001)).card
    assert sum(counts.num_frames for counts in card.splits.values()) == 18
    with pytest.raises(SchemaError, match=r"left out: bed: not_found \d+"):
        prepare(archive, tmp_path / "nothing", given(min_score=0.9999))
