from pathlib import Path

import numpy as np
import pytest

from scrapray import schema
from scrapray.lake import partition_uri
from scrapray.review.verdicts import METHOD, all_reviewed_loads, reviewed_loads
from tests.unit.review.nights import (
    CABLE,
    CAN,
    HEIGHT,
    MOTOR,
    SITE,
    STORAGE,
    WIDTH,
    Annotator,
    Found,
    exported,
    imported,
    key,
    write_night,
)
from tests.unit.statistics.frames import NIGHT

GLIMPSE: Found = ("spray can", (120, 80, 126, 84), 0.9)
SMALL_MOTOR: Found = ("motor", (10, 10, 13, 13), 0.9)


def judged(lake: str, load_id: str = "L1") -> dict[str, object]:
    (row,) = (row for row in reviewed_loads(lake, NIGHT, SITE, STORAGE).to_pylist() if row["load_id"] == load_id)
    return dict(row)


def night_of(lake: Path, *frames: list[Found]) -> str:
    write_night(str(lake), {key("L1", number): found for number, found in enumerate(frames)})
    return str(lake)


def work_on(lake: str, *numbers: int) -> Annotator:
    work = Annotator(exported(lake).data)
    work.keep_only(*(key("L1", number) for number in numbers))
    return work


def test_a_lake_without_reviews_has_typed_empty_tables(tmp_path: Path) -> None:
    write_night(str(tmp_path))
    for table in (reviewed_loads(str(tmp_path), NIGHT, SITE, STORAGE), all_reviewed_loads(str(tmp_path), STORAGE)):
        assert table.schema.equals(schema.REVIEWED_LOADS)
        assert table.num_rows == 0


@pytest.mark.parametrize("seed", range(8))
def test_a_reviewer_who_confirms_all_frames_leaves_counts_areas_and_verdict(seed: int, tmp_path: Path) -> None:
    """Unless a single frame alone shows a thing: what a person has seen once is there."""
    rng = np.random.default_rng(seed)
    pool = [MOTOR, CABLE, CAN]
    twice = [pool[place] for place in np.flatnonzero(rng.random(3) < 0.5)]
    lake = night_of(tmp_path, twice, twice, [], [each for each in twice if rng.random() < 0.5])
    imported(lake, exported(lake).data)
    row = judged(lake)
    assert row["reviewed_verdict"] == row["verdict"]
    assert row["reviewed_rule"] == row["verdict_rule"]
    assert row["reviewed_worst_severity"] == row["worst_severity"]
    assert row["reviewed_contamination_frac"] == pytest.approx(row["contamination_frac"], abs=1e-15)


def test_what_was_not_reviewed_still_counts_as_the_machine_saw_it(tmp_path: Path) -> None:
    lake = night_of(tmp_path, [MOTOR], [MOTOR], [MOTOR])
    work = work_on(lake, 0)
    work.remove(key("L1", 0), "motor")
    imported(lake, work.file)
    row = judged(lake)
    assert (row["num_reviewed"], row["num_used"]) == (1, 3)
    assert (row["verdict"], row["reviewed_verdict"]) == ("review", "review"), "two frames still show the motor"
    work = work_on(lake, 0, 1, 2)
    for number in range(3):
        work.remove(key("L1", number), "motor")
    imported(lake, work.file, second=6000)
    assert judged(lake)["reviewed_verdict"] == "accept"


def test_one_frame_is_enough_for_what_a_person_has_seen(tmp_path: Path) -> None:
    lake = night_of(tmp_path, [GLIMPSE], [], [])
    imported(lake, work_on(lake, 0).file)
    row = judged(lake)
    assert (row["verdict"], row["verdict_rule"]) == ("review", "sure_glimpse")
    assert (row["reviewed_verdict"], row["reviewed_rule"]) == ("reject", "highest_severity")
    assert row["reviewed_reason"] == "spray can (severity 3): 1 or more seen, best score 1.00"


def test_a_wrong_glimpse_in_one_frame_and_none_elsewhere_is_accepted(tmp_path: Path) -> None:
    lake = night_of(tmp_path, [GLIMPSE], [], [])
    work = work_on(lake, 0)
    work.remove(key("L1", 0), "spray can")
    imported(lake, work.file)
    assert (judged(lake)["reviewed_verdict"], judged(lake)["reviewed_rule"]) == ("accept", "no_rule")


def test_certainty_of_what_the_machine_alone_saw_is_that_of_its_threshold(tmp_path: Path) -> None:
    sure, unsure = ("spray can", (120, 80, 126, 84), 0.9), ("spray can", (20, 80, 26, 84), 0.35)
    frames = {key(load, number): [] for load in ("L1", "L2") for number in range(3)}
    lake = str(tmp_path)
    write_night(lake, frames | {key("L1", 0): [sure], key("L2", 0): [unsure]})
    work = Annotator(exported(lake).data)
    work.keep_only(key("L1", 1), key("L2", 1))
    imported(lake, work.file)
    assert judged(lake, "L1")["reviewed_rule"] == "sure_glimpse"
    assert judged(lake, "L2")["reviewed_rule"] == judged(lake, "L2")["verdict_rule"] == "no_rule"


def test_where_reviewers_differ_the_one_who_saw_more_counts_until_he_looks_again(tmp_path: Path) -> None:
    lake = night_of(tmp_path, [SMALL_MOTOR], [SMALL_MOTOR], [])
    imported(lake, work_on(lake, 0, 1, 2).file, "ada")
    gone = work_on(lake, 0, 1, 2)
    for number in range(2):
        gone.remove(key("L1", number), "motor")
    imported(lake, gone.file, "bob", second=6000)
    row = judged(lake)
    assert (row["reviewers"], row["is_disputed"], row["reviewed_verdict"]) == (["ada", "bob"], True, "review")
    imported(lake, gone.file, "ada", second=7000)
    row = judged(lake)
    assert (row["is_disputed"], row["reviewed_verdict"]) == (False, "accept")


def test_overlapping_outlines_are_counted_once_in_the_area(tmp_path: Path) -> None:
    lake = night_of(tmp_path, [], [])
    work = work_on(lake, 0)
    work.add(key("L1", 0), "motor", (0, 0, 20, 20))
    work.add(key("L1", 0), "cable", (10, 0, 30, 20))
    imported(lake, work.file)
    assert judged(lake)["reviewed_contamination_frac"] == pytest.approx(600 / (2 * HEIGHT * WIDTH))
    assert METHOD == "ratio+review"


def test_reviews_stay_true_of_frames_that_another_run_has_audited_since(tmp_path: Path) -> None:
    lake = night_of(tmp_path, [GLIMPSE], [], [])
    work = work_on(lake, 0)
    work.remove(key("L1", 0), "spray can")
    imported(lake, work.file)
    write_night(lake, {key("L1", number): [GLIMPSE] if not number else [] for number in range(3)}, run_id="run2")
    row = judged(lake)
    assert (row["run_id"], row["verdict"], row["reviewed_verdict"]) == ("run2", "review", "accept")


def test_a_night_that_is_gone_is_passed_over_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lake = str(tmp_path)
    write_night(lake)
    south = {key("L1", 0, "south"): [MOTOR]}
    write_night(lake, south, run_id="run2", site="south")
    imported(lake, exported(lake).data)
    Path(partition_uri(lake, "frames", NIGHT, SITE)).unlink()
    assert all_reviewed_loads(lake, STORAGE)["site"].to_pylist() == ["south"]
    assert f"no verdicts of {NIGHT} {SITE}" in caplog.text


def test_loads_that_nobody_looked_at_are_left_out(tmp_path: Path) -> None:
    write_night(str(tmp_path))
    imported(str(tmp_path), work_on(str(tmp_path), 0).file)
    assert reviewed_loads(str(tmp_path), NIGHT, SITE, STORAGE)["load_id"].to_pylist() == ["L1"]
