import codecs
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scrapray.errors import ConfigurationError, SchemaError, ScraprayError
from scrapray.imagery.masks import decode_mask
from scrapray.review.config import QueueConfig
from scrapray.review.nights import read_reviews
from tests.unit.review.nights import (
    CAN,
    HEIGHT,
    MOTOR,
    STORAGE,
    WIDTH,
    Annotator,
    box_mask,
    exported,
    imported,
    key,
    write_night,
)


@pytest.fixture
def lake(tmp_path: Path) -> str:
    write_night(str(tmp_path))
    return str(tmp_path)


@pytest.fixture
def work(lake: str) -> Annotator:
    return Annotator(exported(lake).data)


def reasons(summary: Any) -> list[str]:
    return [each.reason for each in summary.skipped]


def rows(lake: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_reviews(lake, STORAGE).to_pylist()
    return found


def test_the_same_file_of_the_same_reviewer_changes_nothing_and_says_so(lake: str, work: Annotator) -> None:
    first = imported(lake, work.file)
    before = {uri: STORAGE.read_bytes(uri) for uri in STORAGE.list_names(lake)}
    again = imported(lake, work.file, second=9000)
    assert not again.is_new
    assert "imported before" in str(again)
    assert again.import_id == first.import_id
    assert {uri: STORAGE.read_bytes(uri) for uri in STORAGE.list_names(lake)} == before


def test_another_reviewer_with_the_same_file_is_another_import(lake: str, work: Annotator) -> None:
    imported(lake, work.file, "ada")
    assert imported(lake, work.file, "bob").is_new
    assert {row["reviewer"] for row in rows(lake)} == {"ada", "bob"}


def test_every_row_says_of_which_run_and_model_it_speaks_and_what_it_was_asked_for(lake: str, work: Annotator) -> None:
    imported(lake, work.file)
    (can,) = (row for row in rows(lake) if row["class_name"] == "spray can")
    assert (can["run_id"], can["weights_sha256"], can["load_id"], can["truck_id"]) == ("run1", "weights1", "L3", "T3")
    assert (can["is_random_sample"], can["num_drawn_from"], can["is_blind"]) == (True, 9, False)
    assert can["reasons"] == ["high_severity", "near_threshold", "rare_class", "random_sample"]
    assert (can["machine_score"], can["severity"], can["iou"]) == (pytest.approx(CAN[2]), 3, 1.0)


def test_frames_of_a_run_that_was_replaced_since_are_taken_and_counted(lake: str, work: Annotator) -> None:
    write_night(lake, {key("L1", 0): []}, run_id="run2", weights="weights2")
    summary = imported(lake, work.file)
    assert (summary.num_frames, summary.num_replaced) == (9, 9)
    assert "9 of them speak of a run that was replaced since" in str(summary)
    assert {row["run_id"] for row in rows(lake)} == {"run1"}
    assert {row["outcome"] for row in rows(lake) if row["detection_id"]} == {"confirmed"}


def test_frames_of_a_run_that_is_gone_are_left_out_with_a_reason(lake: str, work: Annotator) -> None:
    write_night(lake, run_id="run2", weights="weights2")
    shutil.rmtree(Path(lake) / "_runs" / "run1")
    with pytest.raises(ConfigurationError, match=r"no frame of it can be used \(run_removed\)"):
        imported(lake, work.file)


def with_motor_and_can(lake: str) -> None:
    """Another model's run of one frame, exported later than all that was asked before."""
    write_night(lake, {key("L1", 0): [MOTOR, CAN]}, run_id="run2", weights="weights2")
    exported(lake, second=100)


def test_a_file_that_names_no_export_belongs_to_the_one_with_just_its_frames(lake: str, work: Annotator) -> None:
    with_motor_and_can(lake)
    imported(lake, work.as_another_tool_writes_it())
    assert {row["run_id"] for row in rows(lake)} == {"run1"}
    assert {row["outcome"] for row in rows(lake)} == {"confirmed", "clean"}, "nobody was shown what run2 has found"


def test_a_part_of_the_work_belongs_to_the_one_export_that_holds_it(lake: str, work: Annotator) -> None:
    with_motor_and_can(lake)
    work.keep_only(key("L1", 0), key("L2", 0))
    imported(lake, work.as_another_tool_writes_it())
    assert {row["run_id"] for row in rows(lake)} == {"run1"}


def test_a_later_export_for_other_reasons_takes_no_frame_out_of_the_random_sample(lake: str, work: Annotator) -> None:
    exported(lake, QueueConfig(random_sample=0), second=100)
    imported(lake, work.as_another_tool_writes_it())
    assert all(row["is_random_sample"] for row in rows(lake))


def test_where_several_exports_fit_it_must_be_said_which(lake: str, work: Annotator) -> None:
    first = work.file["info"]["queue_id"]
    write_night(lake, run_id="run2", weights="weights2")
    second = exported(lake, second=100).queue_id
    file = work.as_another_tool_writes_it()
    with pytest.raises(ConfigurationError, match=rf"{first} of .* run run1; {second} of .* run run2\).* --queue ID"):
        imported(lake, file)
    assert rows(lake) == []
    summary = imported(lake, file, queue_id=first)
    assert f"9 frames of export {first} reviewed" in str(summary)
    assert {row["weights_sha256"] for row in rows(lake)} == {"weights1"}


def test_where_no_export_holds_all_frames_the_file_is_refused(lake: str) -> None:
    parts = []
    for number, name in enumerate((key("L1", 0), key("L2", 0))):
        write_night(lake, {name: []}, run_id=f"run{number + 2}")
        parts.append(Annotator(exported(lake, second=number).data).as_another_tool_writes_it())
    file = parts[0] | {"images": [parts[0]["images"][0], parts[1]["images"][0] | {"id": 7}]}
    with pytest.raises(ConfigurationError, match=r"no export holds all its frames.*--queue ID"):
        imported(lake, file)


def test_a_file_of_several_exports_is_imported_once_for_each(lake: str, work: Annotator) -> None:
    with_motor_and_can(lake)
    other = Annotator(exported(lake).data).file["images"][0]
    work.keep_only(key("L2", 0))
    work.file["images"].append(other | {"id": 77})
    with pytest.raises(ConfigurationError, match="the work of several exports"):
        imported(lake, work.file)
    summary = imported(lake, work.file, queue_id=other["queue_id"])
    assert (summary.num_frames, reasons(summary)) == (1, ["picture_not_found"])


def test_an_export_that_the_lake_lacks_is_refused(lake: str, work: Annotator) -> None:
    with pytest.raises(ConfigurationError, match="export nowhere is not in this lake"):
        imported(lake, work.file, queue_id="nowhere")


@pytest.mark.parametrize("where", ["images", "info"])
def test_where_the_tool_has_kept_the_queue_it_says_which_run_was_looked_at(
    where: str, lake: str, work: Annotator
) -> None:
    with_motor_and_can(lake)
    work.keep_only(key("L1", 0))
    file = work.as_another_tool_writes_it()
    queue_id = {"queue_id": work.file["info"]["queue_id"]}
    if where == "info":
        file["info"] = queue_id
    else:
        file["images"][0] |= queue_id
    imported(lake, file)
    assert [(row["run_id"], row["outcome"]) for row in rows(lake)] == [("run1", "confirmed")]


def test_a_blind_export_is_known_by_its_file_or_by_the_option(lake: str) -> None:
    blind = Annotator(exported(lake, is_blind=True).data)
    imported(lake, blind.file, "ada")
    imported(lake, blind.as_another_tool_writes_it(), "bob", is_blind=True)
    imported(lake, blind.as_another_tool_writes_it(), "eve")
    assert {(row["reviewer"], row["is_blind"]) for row in rows(lake)} == {("ada", True), ("bob", True), ("eve", False)}


def test_a_blind_export_is_known_by_its_file_however_its_pictures_are_called(lake: str) -> None:
    blind = Annotator(exported(lake, is_blind=True).data)
    for image in blind.file["images"]:
        image["file_name"] = f"s3://yard/archive/{image['file_name']}"
    imported(lake, blind.file)
    assert all(row["is_blind"] for row in rows(lake))


def test_a_forgotten_option_is_mended_by_the_same_import_with_it_and_back_again(lake: str) -> None:
    file = Annotator(exported(lake, is_blind=True).data).as_another_tool_writes_it()
    for second, is_blind in ((5000, False), (6000, True), (7000, False)):
        assert imported(lake, file, is_blind=is_blind, second=second).is_new
        assert not imported(lake, file, is_blind=is_blind, second=second + 1).is_new
        assert [row["is_blind"] for row in rows(lake)] == [is_blind] * len(rows(lake))


def test_masks_as_run_lengths_are_read_as_outlines_are(lake: str, work: Annotator) -> None:
    motor = work.on(key("L1", 0), "motor")
    changes = np.flatnonzero(np.diff(decode_mask(box_mask(MOTOR[1])).T.ravel(), prepend=False, append=False))
    plain = np.diff(changes, prepend=0, append=HEIGHT * WIDTH).tolist()
    motor |= {"segmentation": {"size": [HEIGHT, WIDTH], "counts": plain}, "iscrowd": 1}
    summary = imported(lake, work.file)
    assert summary.outcomes == {"confirmed": 4, "clean": 6}


# ---- what is left out, with a reason ----------------------------------------------------------------------------


def test_an_annotation_of_an_unknown_image_is_left_out_and_counted(lake: str, work: Annotator) -> None:
    work.add(key("L2", 0), "motor", (1, 1, 9, 9))
    work.file["annotations"][-1]["image_id"] = 999
    summary = imported(lake, work.file)
    assert reasons(summary) == ["unknown_image"]
    assert "left out: annotation unknown_image 1" in str(summary)
    assert summary.num_frames == 9


def test_an_image_that_was_never_exported_is_left_out_and_counted(lake: str, work: Annotator) -> None:
    work.file["images"].append({"id": 77, "file_name": "holiday.jpg", "width": 10, "height": 10})
    summary = imported(lake, work.file)
    assert reasons(summary) == ["picture_not_found"]
    assert "holiday.jpg" in str(summary)


def test_a_polygon_of_two_points_is_left_out_and_counted(lake: str, work: Annotator) -> None:
    work.add(key("L2", 0), "motor", (1, 1, 9, 9))
    work.file["annotations"][-1]["segmentation"] = [[1, 1, 9, 9]]
    summary = imported(lake, work.file)
    assert reasons(summary) == ["few_points"]
    assert summary.outcomes["added"] == 0


@pytest.mark.parametrize(
    "points",
    [(1, 1, 9, 9), (1, 1, 9, 1, 5, 1), (900, 1, 930, 1, 930, 9), (1.6, 1.6, 1.9, 1.6, 1.9, 1.9), None],
    ids=["two points", "no area", "outside", "no pixel", "of an unknown image"],
)
def test_a_prelabel_that_was_broken_was_not_taken_away(
    points: tuple[float, ...] | None, lake: str, work: Annotator
) -> None:
    can = next(each for each in work.file["annotations"] if each == work.on(key("L3", 0), "spray can"))
    can |= {"image_id": 999} if points is None else {"segmentation": [list(points)]}
    summary = imported(lake, work.file)
    assert reasons(summary)[-1] == "incomplete"
    assert (summary.num_frames, summary.outcomes["rejected"]) == (8, 0)


def test_an_outline_without_a_pixel_is_left_out_and_counted(lake: str, work: Annotator) -> None:
    work.add(key("L2", 0), "motor", (1.6, 1.6, 1.9, 1.9))
    assert reasons(imported(lake, work.file)) == ["no_pixel"]


def test_a_frame_with_a_box_in_place_of_an_outline_is_left_out(lake: str, work: Annotator) -> None:
    work.add(key("L2", 0), "motor", (1, 1, 9, 9))
    work.file["annotations"][-1] |= {"segmentation": [], "bbox": [1, 1, 8, 8]}
    summary = imported(lake, work.file)
    assert reasons(summary) == ["no_mask", "incomplete"]
    assert summary.num_frames == 8


def test_a_frame_that_was_scaled_is_left_out(lake: str, work: Annotator) -> None:
    for image in work.file["images"]:
        if image["file_name"] == key("L2", 0):
            image |= {"width": 80, "height": 60}
    summary = imported(lake, work.file)
    assert reasons(summary) == ["other_size"]
    assert "80x60, archived as 160x120" in str(summary)
    assert summary.num_frames == 8


# ---- what is refused --------------------------------------------------------------------------------------------


def _unknown_class(work: Annotator) -> None:
    work.file["categories"].append({"id": 9, "name": "battery"})
    work.add(key("L2", 0), "battery", (1, 1, 9, 9))


def _all_images_unknown(work: Annotator) -> None:
    for annotation in work.file["annotations"]:
        annotation["image_id"] += 1000


def _other_lake(work: Annotator) -> None:
    for image in work.file["images"]:
        image["file_name"] = f"elsewhere/{image['id']}.jpg"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_unknown_class, ConfigurationError, "rename it to one of motor, cable, spray can.*'battery'"),
        (_all_images_unknown, SchemaError, "no annotation belongs to one of its 9 images"),
        (_other_lake, ConfigurationError, r"no frame of it can be used \(picture_not_found\)"),
    ],
)
def test_a_file_that_cannot_be_meant_changes_nothing(
    change: Callable[[Annotator], None], error: type[ScraprayError], message: str, lake: str, work: Annotator
) -> None:
    change(work)
    with pytest.raises(error, match=message) as caught:
        imported(lake, work.file)
    assert "\n" not in str(caught.value)
    assert rows(lake) == []


@pytest.mark.parametrize("data", [b"", b"not json", b"[1, 2]", b'{"images": []}', b"\xff\xfe"])
def test_a_file_that_is_not_coco_is_refused(data: bytes, lake: str, work: Annotator) -> None:
    with pytest.raises(SchemaError, match=r"labelled\.json is not a COCO file"):
        imported(lake, data)


def test_a_mark_of_the_order_of_bytes_does_no_harm(lake: str, work: Annotator) -> None:
    imported(lake, codecs.BOM_UTF8 + json.dumps(work.file).encode())
    assert len(rows(lake)) > 0


def test_without_an_export_nothing_can_be_imported(lake: str) -> None:
    with pytest.raises(ConfigurationError, match="run scrapray review export first"):
        imported(lake, b"{}")


def test_a_reviewer_has_a_name(lake: str, work: Annotator) -> None:
    for name in ("  ", "ada\x1b[31m", "ada\nbob"):
        with pytest.raises(ConfigurationError, match="the reviewer has no name") as caught:
            imported(lake, work.file, name)
        assert str(caught.value).isprintable()


def test_one_name_in_two_spellings_of_unicode_is_one_reviewer(lake: str, work: Annotator) -> None:
    imported(lake, work.file, "Ren\u00e9e")
    assert not imported(lake, work.file, "Rene\u0301e").is_new
