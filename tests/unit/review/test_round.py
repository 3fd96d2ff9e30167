"""The whole loop: export, edit as an annotator would, import; verdicts change and the dataset grows."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scrapray.cli import app
from scrapray.datasets.classes import ClassNames
from scrapray.datasets.coco import read_coco
from scrapray.datasets.config import DatasetConfig
from scrapray.imagery.masks import decode_mask
from scrapray.keys import grammar_of
from scrapray.lake import partition_uri
from scrapray.lake_care.compact import compact
from scrapray.lake_care.retire import retire
from scrapray.lake_care.verify import verify
from scrapray.report.queries import ask, open_lake
from scrapray.review.exports import reviewed_frames
from scrapray.review.nights import read_reviews
from scrapray.review.verdicts import all_reviewed_loads, reviewed_loads
from scrapray.storage import StoredObject
from tests.unit.review.nights import (
    CABLE,
    CAN,
    MOTOR,
    NIGHT_OF_THREE_LOADS,
    SITE,
    STORAGE,
    Annotator,
    at,
    box_mask,
    exported,
    frame_id,
    imported,
    key,
    uri_of,
    write_night,
)
from tests.unit.statistics.frames import NIGHT


@pytest.fixture
def lake(tmp_path: Path) -> str:
    write_night(str(tmp_path))
    return str(tmp_path)


def edited(lake: str) -> Annotator:
    """One pre-label removed, one of another class, one object added, one outline moved, one left alone."""
    work = Annotator(exported(lake).data)
    work.remove(key("L3", 0), "spray can")
    work.rename(key("L1", 1), "cable", "spray can")
    work.move(key("L1", 1), "motor", (12, 12, 36, 36))
    work.add(key("L2", 1), "motor", (50, 50, 80, 90))
    return work


def said(lake: str) -> dict[tuple[str, str | None, str | None], str]:
    rows = read_reviews(lake, STORAGE).to_pylist()
    keys = {frame_id(name): name for name in NIGHT_OF_THREE_LOADS}
    return {(keys[row["frame_id"]], row["machine_class"], row["class_name"]): row["outcome"] for row in rows}


EXPECTED = {
    (key("L1", 0), "motor", "motor"): "confirmed",
    (key("L1", 1), "motor", "motor"): "corrected",
    (key("L1", 1), "cable", "spray can"): "corrected",
    (key("L3", 0), "spray can", None): "rejected",
    (key("L2", 1), None, "motor"): "added",
    **{(key(*place), None, None): "clean" for place in [("L1", 2), ("L2", 0), ("L2", 2), ("L3", 1), ("L3", 2)]},
}


@pytest.mark.parametrize("rewritten", [False, True], ids=["as edited", "ids rewritten and unknown fields dropped"])
def test_what_an_annotator_did_comes_back(lake: str, rewritten: bool) -> None:
    work = edited(lake)
    summary = imported(lake, work.as_another_tool_writes_it() if rewritten else work.file)
    assert summary.skipped == ()
    assert (summary.is_new, summary.num_frames, summary.num_replaced) == (True, 9, 0)
    assert said(lake) == EXPECTED


def test_verdicts_change_beside_those_of_the_machine_and_nothing_published_does(lake: str) -> None:
    before = {name: STORAGE.read_bytes(partition_uri(lake, name, NIGHT, SITE)) for name in ("loads", "detections")}
    imported(lake, edited(lake).file)
    loads = {row["load_id"]: row for row in reviewed_loads(lake, NIGHT, SITE, STORAGE).to_pylist()}
    assert {name: (row["verdict"], row["reviewed_verdict"]) for name, row in loads.items()} == {
        "L1": ("review", "reject"),  # the cable is a spray can
        "L2": ("accept", "review"),  # a motor was missed
        "L3": ("review", "accept"),  # there is no spray can
    }
    assert loads["L1"]["reviewed_rule"] == "highest_severity"
    assert loads["L3"]["reviewed_contamination_frac"] == 0
    after = {name: STORAGE.read_bytes(partition_uri(lake, name, NIGHT, SITE)) for name in before}
    assert after == before
    assert all_reviewed_loads(lake, STORAGE).to_pylist() == list(loads.values())


def test_a_night_that_is_put_into_its_month_before_the_import_is_reviewed_as_before(lake: str) -> None:
    before = exported(lake)
    december = NIGHT.replace(month=12, day=1)
    assert compact(lake, december, STORAGE, today=december).num_nights == 1
    assert exported(lake).data == before.data
    imported(lake, edited(lake).file)
    assert said(lake) == EXPECTED
    loads = reviewed_loads(lake, NIGHT, SITE, STORAGE).to_pylist()
    assert [row["reviewed_verdict"] for row in loads] == ["reject", "review", "accept"]
    assert retire(lake, 1, STORAGE).num_deleted == 0
    assert verify(lake, STORAGE).faults == ()


def test_reviews_and_both_verdicts_answer_questions_in_sql(lake: str) -> None:
    query = "select load_id, verdict, reviewed_verdict from reviewed_loads order by 1"
    command = ["sql", lake, query, "--format", "csv"]
    assert CliRunner().invoke(app, command).stdout.splitlines() == ["load_id,verdict,reviewed_verdict"]
    before = verify(lake, STORAGE).faults
    imported(lake, edited(lake).file)
    lines = CliRunner().invoke(app, command).stdout.splitlines()[1:]
    assert lines == ["L1,review,reject", "L2,accept,review", "L3,review,accept"]
    counted = "select outcome, count(*)::int as num from reviews group by 1"
    answer = ask(open_lake(lake, STORAGE), counted).to_pylist()
    assert {row["outcome"]: row["num"] for row in answer} == Counter(EXPECTED.values())
    assert verify(lake, STORAGE).faults == before, "reviews and what was asked are no strays"


def test_a_copied_file_counts_once_and_is_named(lake: str) -> None:
    imported(lake, edited(lake).file)
    count = "select count(*) as num from reviews"
    reviews, counted = read_reviews(lake, STORAGE), ask(open_lake(lake, STORAGE), count)
    for folder in ("reviews", "_review_queues"):
        (path,) = Path(lake, folder).iterdir()
        shutil.copy(path, path.with_stem(f"{path.stem} (copy)"))
    assert read_reviews(lake, STORAGE).equals(reviews)
    assert ask(open_lake(lake, STORAGE), count).equals(counted)
    assert [
        (Path(fault.place).stem.endswith(" (copy)"), "no longer named" in fault.what)
        for fault in verify(lake, STORAGE).faults
    ] == [(True, True)] * 2


def test_reviewed_frames_are_annotations_that_a_dataset_takes(lake: str) -> None:
    imported(lake, edited(lake).file)
    data, num_frames, num_objects = reviewed_frames(lake, STORAGE)
    assert (num_frames, num_objects) == (9, 4)
    config = DatasetConfig()
    pictures = [
        StoredObject(uri=f"s3://copy/{name}", key=name, etag="e", size_bytes=1, modified_utc=at(0))
        for name in NIGHT_OF_THREE_LOADS
    ]
    names: ClassNames = config.class_names
    found = read_coco(data, pictures, source="r", classes=names, grammar=grammar_of(config.archive, None))
    assert found.skipped == []
    regions = {(frame.key, region.class_name): region.mask for frame in found.frames for region in frame.regions}
    assert regions == {
        (key("L1", 0), "motor"): box_mask(MOTOR[1]),
        (key("L1", 1), "motor"): box_mask((12, 12, 36, 36)),
        (key("L1", 1), "spray can"): box_mask(CABLE[1]),
        (key("L2", 1), "motor"): box_mask((50, 50, 80, 90)),
    }
    assert {frame.load_id for frame in found.frames} == {"L1", "L2", "L3"}, "clean frames teach what steel looks like"


def test_a_dataset_grows_with_every_import(lake: str) -> None:
    work = Annotator(exported(lake).data)
    work.keep_only(key("L1", 0))
    imported(lake, work.file)
    assert reviewed_frames(lake, STORAGE)[1] == 1
    imported(lake, Annotator(exported(lake).data).file, second=6000)
    assert reviewed_frames(lake, STORAGE)[1] == 9


def test_what_a_tool_must_be_given_stands_in_the_export(lake: str) -> None:
    file = json.loads(exported(lake).data)
    assert [category["name"] for category in file["categories"]] == ["motor", "cable", "spray can"]
    assert {image["file_name"] for image in file["images"]} == set(NIGHT_OF_THREE_LOADS)
    (can,) = (each for each in file["annotations"] if each["category_id"] == 3)
    left, top, right, bottom = CAN[1]
    assert can["bbox"] == [left, top, right - left, bottom - top]
    assert can["area"] == (right - left) * (bottom - top)
    assert can["iscrowd"] == 0
    assert can["detection_id"] == can["attributes"]["detection_id"] == f"{frame_id(key('L3', 0))}-000"
    ids: list[Any] = [entry["id"] for kind in ("images", "categories", "annotations") for entry in file[kind]]
    assert all(isinstance(id_, int) and id_ >= 1 for id_ in ids)
    (image,) = (image for image in file["images"] if image["id"] == can["image_id"])
    assert image["frame_id"] == frame_id(key("L3", 0))
    assert image["reason"] == "high_severity, near_threshold, rare_class, random_sample"
    assert image["is_random_sample"] is True


def test_the_coco_api_reads_the_export(lake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    path = tmp_path / "to-label.json"
    path.write_bytes(exported(lake).data)
    coco = COCO(str(path))
    capsys.readouterr()
    (motor, *_) = coco.loadAnns(coco.getAnnIds(catIds=coco.getCatIds(catNms=["motor"])))
    assert (coco.annToMask(motor) == decode_mask(box_mask(MOTOR[1]))).all()


def test_a_second_export_is_of_the_same_frames_and_a_blind_one_has_no_prelabels(lake: str) -> None:
    first, again, blind = exported(lake), exported(lake, second=60), exported(lake, second=90, is_blind=True)
    assert first.data == again.data
    one, other = json.loads(first.data), json.loads(blind.data)
    names = [[image["file_name"] for image in file["images"]] for file in (one, other)]
    assert names[0] == names[1]
    assert other["annotations"] == []
    assert blind.queue_id == first.queue_id
    assert [category["name"] for category in other["categories"]] == ["motor", "cable", "spray can"]


def test_names_of_pictures_are_the_keys_of_the_archive(lake: str) -> None:
    assert uri_of(key("L1", 0)).endswith(json.loads(exported(lake).data)["images"][0]["file_name"])


def test_the_truth_of_a_frame_is_what_the_reviewer_saw_who_saw_most(lake: str) -> None:
    imported(lake, edited(lake).file, "ada")
    imported(lake, exported(lake, is_blind=True).data, "bob", second=9000)
    assert reviewed_frames(lake, STORAGE)[1:] == (9, 4)
    gone = edited(lake)
    gone.remove(key("L2", 1), "motor")
    imported(lake, gone.file, "ada", second=9900)
    assert reviewed_frames(lake, STORAGE)[1:] == (9, 3), "the last review of one and the same reviewer"
