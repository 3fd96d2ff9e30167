import datetime as dt
import json
from collections import Counter
from pathlib import Path

import pytest

from scrapray.config import read_settings
from scrapray.errors import ConfigurationError, SchemaError
from scrapray.lake import partition_uri, read_partition
from scrapray.review.config import QueueConfig, ReviewConfig
from scrapray.review.exports import export_queue
from scrapray.review.nights import read_night, read_queues, read_reviews
from scrapray.review.queue import Chosen, choose_frames, thresholds_of
from tests.unit.review.nights import (
    CAN,
    MOTOR,
    NIGHT_OF_THREE_LOADS,
    SITE,
    STORAGE,
    exported,
    frame_id,
    imported,
    key,
    write_night,
)
from tests.unit.statistics.frames import NIGHT, THRESHOLDS, at

NOTHING = {"high_severity": 0, "near_threshold": 0, "disagreement": 0, "rare_class": 0, "random_sample": 0}


def chosen(lake: Path, reason: str, quota: int, before: str | None = None, **more: int) -> list[str]:
    """Keys of the frames that one reason takes."""
    night = read_night(str(lake), NIGHT, SITE, STORAGE)
    earlier = read_partition(str(lake), "frames", NIGHT, SITE, STORAGE, before) if before else None
    quotas = QueueConfig(**NOTHING | {reason: quota} | more)
    names = {row["frame_id"]: row["uri"] for row in night.frames.to_pylist()}
    found: list[Chosen] = choose_frames(night.frames, night.detections, night.loads, earlier, quotas)
    assert all(each.reasons == (reason,) for each in found)
    return [names[each.frame_id].removeprefix("s3://yard/archive/") for each in found]


def test_the_highest_severity_comes_first_and_no_load_fills_the_quota(tmp_path: Path) -> None:
    write_night(tmp_path.as_posix())
    assert chosen(tmp_path, "high_severity", 1) == [key("L3", 0)]
    assert chosen(tmp_path, "high_severity", 2) == [key("L1", 0), key("L3", 0)]
    assert chosen(tmp_path, "high_severity", 9) == [key("L1", 0), key("L1", 1), key("L3", 0)]


def test_what_hardly_counted_or_hardly_did_not_is_near_a_threshold(tmp_path: Path) -> None:
    write_night(tmp_path.as_posix())
    # The can has 0.32 where 0.3 is needed; all other peaks are half their thresholds, motors and the cable far above.
    assert chosen(tmp_path, "near_threshold", 1) == [key("L3", 0)]
    assert chosen(tmp_path, "near_threshold", 9) == [key("L1", 1), key("L3", 0)], "the rest is far away"
    frames = NIGHT_OF_THREE_LOADS | {key("L3", 0): [("spray can", (0, 0, 9, 9), 0.95)]}
    write_night(tmp_path.as_posix(), frames, run_id="run2")
    assert chosen(tmp_path, "near_threshold", 1) == [key("L1", 1)], "the cable has 0.5 where 0.4 is needed"


def test_a_quiet_frame_with_a_high_peak_is_near_a_threshold(tmp_path: Path) -> None:
    write_night(tmp_path.as_posix())
    night = read_night(str(tmp_path), NIGHT, SITE, STORAGE)
    rows = night.frames.to_pylist()
    for row in rows:
        if row["frame_id"] == frame_id(key("L2", 1)):
            row["classes"][0]["peak_score"] = 0.745
    frames = night.frames.from_pylist(rows, night.frames.schema)
    quotas = QueueConfig(**NOTHING | {"near_threshold": 1})
    (found,) = choose_frames(frames, night.detections, night.loads, None, quotas)
    assert found.frame_id == frame_id(key("L2", 1))


def test_thresholds_are_worked_out_of_what_is_published(tmp_path: Path) -> None:
    write_night(tmp_path.as_posix())
    loads = read_night(str(tmp_path), NIGHT, SITE, STORAGE).loads
    assert thresholds_of(loads) == pytest.approx(THRESHOLDS, abs=1e-6)
    assert thresholds_of(loads.slice(0, 0)) == {}


def test_frames_on_which_two_models_disagree_are_chosen_and_others_are_not(tmp_path: Path) -> None:
    lake = tmp_path.as_posix()
    earlier = NIGHT_OF_THREE_LOADS | {key("L2", 2): [MOTOR], key("L1", 1): [MOTOR], key("L3", 0): [CAN]}
    write_night(lake, earlier, run_id="run1", weights="weights1")
    write_night(lake, run_id="run2", weights="weights2")
    assert chosen(tmp_path, "disagreement", 9, "run1") == [key("L1", 1), key("L2", 2)]
    assert chosen(tmp_path, "disagreement", 1, "run1") == [key("L2", 2)], "a motor weighs more than a cable"
    assert exported(lake).reasons["disagreement"] == 2


def test_a_run_with_the_same_weights_or_of_another_night_is_no_other_opinion(tmp_path: Path) -> None:
    lake = tmp_path.as_posix()
    write_night(lake, NIGHT_OF_THREE_LOADS | {key("L2", 2): [MOTOR]}, run_id="run1")
    write_night(lake, run_id="run2")
    assert exported(lake).reasons["disagreement"] == 0


def test_every_class_but_the_common_one_is_rare(tmp_path: Path) -> None:
    write_night(tmp_path.as_posix(), NIGHT_OF_THREE_LOADS | {key("L2", 0): [MOTOR]})
    assert chosen(tmp_path, "rare_class", 9) == [key("L1", 1), key("L3", 0)]
    assert chosen(tmp_path, "rare_class", 1) == [key("L1", 1)], "of classes on as many frames, the higher score"
    write_night(tmp_path.as_posix(), {key("L1", 0): [MOTOR]}, run_id="run2")
    assert chosen(tmp_path, "rare_class", 9) == []


def test_the_random_sample_knows_nothing_of_what_was_found(tmp_path: Path) -> None:
    frames = {key(f"L{load}", number): [] for load in range(1, 9) for number in range(5)}
    write_night(tmp_path.as_posix(), frames)
    sample = chosen(tmp_path, "random_sample", 10)
    assert len(sample) == 10
    assert sample == chosen(tmp_path, "random_sample", 10), "the same seed, the same frames"
    assert sample != chosen(tmp_path, "random_sample", 10, seed=2)
    write_night(tmp_path.as_posix(), {name: [MOTOR] for name in frames}, run_id="run2", weights="weights2")
    assert sample == chosen(tmp_path, "random_sample", 10)


def test_every_frame_is_drawn_about_as_often_as_any_other(tmp_path: Path) -> None:
    write_night(tmp_path.as_posix(), {key(f"L{load}", number): [] for load in range(1, 6) for number in range(4)})
    night = read_night(str(tmp_path), NIGHT, SITE, STORAGE)
    drawn = Counter(
        each.frame_id
        for seed in range(150)
        for each in choose_frames(
            night.frames,
            night.detections,
            night.loads,
            None,
            QueueConfig(**NOTHING | {"random_sample": 5, "seed": seed}),
        )
    )
    assert len(drawn) == 20
    # 150 draws of a quarter: 37.5 each, with a standard deviation of 5.3.
    assert all(18 < count < 58 for count in drawn.values())


def test_a_frame_carries_all_its_reasons_and_stands_once(tmp_path: Path) -> None:
    write_night(tmp_path.as_posix())
    export = exported(tmp_path.as_posix())
    assert export.num_frames == len(json.loads(export.data)["images"]) == 9
    assert sum(export.reasons.values()) > 9
    assert "random sample 9" in str(export)


def test_rejected_frames_and_frames_of_no_load_are_not_asked_about(tmp_path: Path) -> None:
    lake = tmp_path.as_posix()
    write_night(lake, status="rejected")
    export = exported(lake)
    assert export.num_frames == 0
    assert "no frame to look at" in str(export)
    assert read_queues(lake, STORAGE).num_rows == 0
    write_night(lake, run_id="run2", load_id=None)
    assert exported(lake).num_frames == 0


def test_a_night_that_is_not_published_is_an_error_with_its_name(tmp_path: Path) -> None:
    write_night(tmp_path.as_posix())
    for date, site in ((dt.date(2026, 11, 21), None), (NIGHT, "south")):
        with pytest.raises(ConfigurationError, match=rf"nothing is published for {date}.*audit that night"):
            export_queue(str(tmp_path), date, site=site, quotas=QueueConfig(), storage=STORAGE, now_utc=at(0))


def test_a_quota_below_0_is_refused() -> None:
    with pytest.raises(ValueError, match="rare_class is -1, must be 0 or more"):
        QueueConfig(rare_class=-1)


def test_true_is_no_quota(tmp_path: Path) -> None:
    path = tmp_path / "review.toml"
    path.write_text("[queue]\nrandom_sample = true\n")
    with pytest.raises(ConfigurationError, match=r"queue\.random_sample"):
        read_settings(path, ReviewConfig)


def test_quotas_of_0_are_named_as_a_reason_for_no_frame(tmp_path: Path) -> None:
    write_night(tmp_path.as_posix())
    assert "quota above 0" in str(exported(tmp_path.as_posix(), QueueConfig(**NOTHING)))


def test_pictures_of_one_name_at_two_sites_are_exported_site_by_site(tmp_path: Path) -> None:
    lake = tmp_path.as_posix()
    write_night(lake, {key("L1", 0): []})
    write_night(lake, {key("L1", 0): []}, run_id="run2", site="south")
    with pytest.raises(ConfigurationError, match="export each site alone, with --site"):
        exported(lake)
    assert exported(lake, site="south").num_frames == 1


def test_what_was_asked_says_among_how_many_frames_was_drawn(tmp_path: Path) -> None:
    lake = tmp_path.as_posix()
    write_night(lake)
    export = exported(lake, QueueConfig(**NOTHING | {"random_sample": 3}))
    assert export.num_frames == 3
    assert read_queues(lake, STORAGE)["num_drawn_from"].to_pylist() == [9] * 3


def test_all_sites_of_a_night_are_in_one_file_unless_one_is_asked_for(tmp_path: Path) -> None:
    lake = tmp_path.as_posix()
    write_night(lake)
    south = {key(load, number, "south"): [CAN] for load in ("L1", "L2") for number in range(2)}
    write_night(lake, south, run_id="run2", site="south")
    assert exported(lake).num_frames == 13
    file = json.loads(exported(lake, site="south").data)
    assert {image["file_name"] for image in file["images"]} == set(south)
    imported(lake, exported(lake).data)
    asked = {(row["site"], row["run_id"], row["num_drawn_from"]) for row in read_reviews(lake, STORAGE).to_pylist()}
    assert asked == {("north", "run1", 9), ("south", "run2", 4)}


def test_a_half_published_night_is_refused(tmp_path: Path) -> None:
    lake = tmp_path.as_posix()
    write_night(lake)
    write_night(lake, {key("L1", 0): [MOTOR]}, run_id="run2", weights="weights2")
    STORAGE.copy(partition_uri(lake, "loads", NIGHT, SITE, "run1"), partition_uri(lake, "loads", NIGHT, SITE))
    with pytest.raises(SchemaError, match=r"half-published \(tables of runs run1, run2\).*audit that night again"):
        exported(lake)


def test_a_damaged_run_is_no_other_opinion(tmp_path: Path) -> None:
    lake = tmp_path.as_posix()
    write_night(lake, NIGHT_OF_THREE_LOADS | {key("L2", 2): [MOTOR]}, run_id="run1", weights="weights1")
    write_night(lake, run_id="run2", weights="weights2")
    uri = partition_uri(lake, "frames", NIGHT, SITE, "run1")
    Path(uri).unlink()
    assert exported(lake).reasons["disagreement"] == 0
    STORAGE.write_bytes(uri, b"not parquet")
    assert exported(lake).reasons["disagreement"] == 0
