import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scrapray.errors import StorageError
from scrapray.imagery.decode import decode_frame
from scrapray.report.evidence import (
    MAX_CLOSE_UP_PIXELS,
    MAX_CLOSE_UPS,
    Evidence,
    choose_evidence,
    cut_out,
    make_pictures,
    orders_for,
    store,
)
from scrapray.report.night import Load, read_night
from tests.unit.report.nights import CABLE, CAN, FRAME_HW, MOTOR, NIGHT, STORAGE, Yard, two_loads


def loads_of(yard: Yard) -> list[Load]:
    yard.publish()
    return read_night(yard.lake, NIGHT, STORAGE).loads


def pixels(evidence: Evidence) -> float:
    return sum(
        (view.box_xyxy[2] - view.box_xyxy[0]) * (view.box_xyxy[3] - view.box_xyxy[1]) / view.reduction**2
        for view in evidence.close_ups
    )


def test_each_contaminant_is_seen_though_another_frame_shows_it(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[CAN, MOTOR], [CAN], [CAN], [CABLE], [CABLE], [MOTOR]])
    yard.rows["loads"][0]["evidence_frame_ids"] = ["north-0", "north-1"]
    (load,) = loads_of(yard)
    evidence = choose_evidence(load)
    shown = [(view.frame["frame_id"], view.detection["class_name"]) for view in evidence.close_ups if view.detection]
    assert shown == [("north-0", "spray can"), ("north-1", "spray can"), ("north-0", "motor"), ("north-3", "cable")]
    assert [view.frame["frame_id"] for view in evidence.overviews] == ["north-0", "north-1"]
    assert [row["detection_id"] for row in evidence.left_out] == ["north-2-000", "north-5-000", "north-4-000"]


def test_close_ups_are_the_worst_and_not_too_many(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[("motor", 0.5 + 0.01 * number) for number in range(20)]])
    evidence = choose_evidence(loads_of(yard)[0])
    assert len(evidence.close_ups) == MAX_CLOSE_UPS
    assert len(evidence.left_out) == 20 - MAX_CLOSE_UPS
    least = min(view.detection["score"] for view in evidence.close_ups if view.detection)
    assert least > max(row["score"] for row in evidence.left_out)


def test_huge_detections_keep_to_the_budget_of_pixels(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[("motor", 0.5 + 0.01 * number) for number in range(10)]])
    for frame in yard.rows["frames"]:
        frame["width_px"], frame["height_px"] = 3840, 2160
    for row in yard.rows["detections"]:
        row["bbox"] = {"x_min_px": 100, "y_min_px": 100, "x_max_px": 3000, "y_max_px": 1500}
    evidence = choose_evidence(loads_of(yard)[0])
    assert 1 <= len(evidence.close_ups) < 10
    assert pixels(evidence) <= MAX_CLOSE_UP_PIXELS
    assert all(view.width_px == 1200 and view.reduction > 2 for view in evidence.close_ups)


@pytest.mark.parametrize("corner", [(0, 0), (460, 0), (0, 250), (460, 250), (230, 100)])
def test_a_close_up_shows_its_detection_with_surroundings_inside_the_frame(
    corner: tuple[int, int], tmp_path: Path
) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[MOTOR]])
    x, y = corner
    box = {"x_min_px": x, "y_min_px": y, "x_max_px": x + 20, "y_max_px": y + 20}
    yard.rows["detections"][0]["bbox"] = box
    (view,) = choose_evidence(loads_of(yard)[0]).close_ups
    x0, y0, x1, y1 = view.box_xyxy
    assert (x1 - x0, y1 - y0, view.reduction) == (240, 180, 1)
    assert (0 <= x0 <= x, x + 20 <= x1 <= FRAME_HW[1]) == (True, True)
    assert (0 <= y0 <= y, y + 20 <= y1 <= FRAME_HW[0]) == (True, True)


def test_a_clean_load_shows_its_most_suspicious_frame(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[], [], []])
    yard.rows["frames"][1]["peak_score"] = 0.4
    evidence = choose_evidence(loads_of(yard)[0])
    assert [view.frame["frame_id"] for view in evidence.overviews] == ["north-1"]
    assert (evidence.close_ups, evidence.left_out) == ((), ())


def test_a_load_that_nobody_saw_has_no_picture(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [])
    yard.add_rejected("quality", "blurred", load=0)
    assert choose_evidence(loads_of(yard)[0]).views == ()


def test_a_load_without_a_usable_frame_shows_one_that_was_left_out(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    yard.add_load("0007", "L1", [[], []])
    for frame in yard.rows["frames"]:
        frame |= {"status": "rejected", "reject_stage": "quality", "reject_reason": "too_dark", "peak_score": None}
    yard.add_rejected("decode", "truncated", load=0)
    evidence = choose_evidence(loads_of(yard)[0])
    assert [view.frame["frame_id"] for view in evidence.overviews] == ["north-0"]


# ---- cutting ----------------------------------------------------------------------------------------------------


def evidence_of(yard: Yard) -> Evidence:
    return choose_evidence(loads_of(yard)[0])


def test_pictures_show_the_frame_and_each_is_ordered_once(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    evidence = evidence_of(yard)
    orders = orders_for([*evidence.views, *evidence.views])
    assert orders.num_rows == len({view.frame["frame_id"] for view in evidence.views})
    made = {row["name"]: row["data"] for row in cut_out(orders, STORAGE).to_pylist()}
    assert set(made) == {view.name for view in evidence.views}
    view = evidence.close_ups[0]
    frame_HW3 = decode_frame(Path(view.frame["uri"]).read_bytes(), 10**6)
    x0, y0, x1, y1 = view.box_xyxy
    shown = np.asarray(Image.open(io.BytesIO(made[view.name])).convert("RGB"))
    assert np.abs(shown.astype(int) - frame_HW3[y0:y1, x0:x1]).mean() < 12  # noise, which no coder keeps


def test_a_frame_that_is_gone_or_another_is_told_and_the_others_are_made(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    evidence = evidence_of(yard)
    Path(yard.rows["frames"][2]["uri"]).unlink()
    Path(yard.rows["frames"][3]["uri"]).write_bytes(b"another picture")
    faults = store(cut_out(orders_for(evidence.views), STORAGE), f"{yard.out}/pictures", STORAGE)
    whys = {"north-2": "missing", "north-3": "changed"}
    told = {view.name: whys[view.frame["frame_id"]] for view in evidence.views if view.frame["frame_id"] in whys}
    assert faults == told
    kept = {view.name for view in evidence.views if view.frame["frame_id"] == "north-4"}
    assert kept
    assert {path.name for path in Path(yard.out, "pictures").iterdir()} == kept


def test_a_frame_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    yard.rows["frames"][2]["width_px"] = 10  # larger than it was said to be
    evidence = evidence_of(yard)
    rows = cut_out(orders_for(evidence.views), STORAGE).to_pylist()
    unreadable = {view.name for view in evidence.views if view.frame["frame_id"] == "north-2"}
    assert {row["name"] for row in rows if row["fault"] == "unreadable"} == unreadable


def test_an_archive_that_cannot_be_reached_stops_the_report(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    yard.rows["frames"][2]["uri"] = "ftp://somewhere/frame.jpg"
    with pytest.raises(StorageError, match="cannot use ftp://"):
        cut_out(orders_for(evidence_of(yard).views), STORAGE)


def test_pictures_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    evidence = evidence_of(yard)
    yard.make_pictures()
    for frame in yard.rows["frames"]:
        Path(frame["uri"]).unlink()
    assert make_pictures(evidence.views, yard.out, STORAGE) == {}
