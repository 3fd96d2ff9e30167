from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scrapray import schema
from scrapray.review.config import QueueConfig
from scrapray.review.figures import ALL_REVIEWED, ANY, SAMPLE, Figure, agreement, figures_of, precision, recall
from scrapray.review.nights import read_night, read_reviews
from scrapray.review.queue import choose_frames
from tests.unit.review.nights import (
    CABLE,
    CAN,
    MOTOR,
    SITE,
    STORAGE,
    Annotator,
    exported,
    frame_id,
    imported,
    key,
    write_night,
)
from tests.unit.statistics.frames import NIGHT

NO_SAMPLE = QueueConfig(random_sample=0)


def by(figures: list[Figure], *names: str) -> dict[tuple[Any, ...], Figure]:
    return {tuple(getattr(each, name) for name in names): each for each in figures}


def reviews(lake: Path) -> Any:
    return read_reviews(str(lake), STORAGE)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Ten loads of two frames; in each a motor in the first frame."""
    write_night(
        str(tmp_path), {key(f"L{load}", number): [MOTOR] * (1 - number) for load in range(10) for number in range(2)}
    )
    return tmp_path


def test_precision_is_the_share_of_detections_whose_class_was_left(lake: Path) -> None:
    work = Annotator(exported(str(lake)).data)
    work.remove(key("L0", 0), "motor")
    work.rename(key("L1", 0), "motor", "cable")
    work.move(key("L2", 0), "motor", (10, 10, 20, 20))
    work.add(key("L3", 1), "motor", (50, 50, 60, 60))
    imported(str(lake), work.file)
    found = by(precision(reviews(lake)), "class_name", "basis")
    for basis in (ALL_REVIEWED, SAMPLE):
        motor = found["motor", basis]
        assert (motor.num, motor.value, motor.subject) == (10, 0.8, "weights1")
        assert motor.interval == pytest.approx((0.4902, 0.9433), abs=1e-4), "Wilson's interval of 8 in 10"


def test_precision_of_the_random_sample_counts_its_frames_only(lake: Path) -> None:
    imported(str(lake), exported(str(lake), NO_SAMPLE).data)
    assert {each.basis for each in precision(reviews(lake))} == {ALL_REVIEWED}


def test_a_second_look_for_another_reason_takes_no_frame_out_of_the_sample(lake: Path) -> None:
    imported(str(lake), exported(str(lake)).data)
    work = Annotator(exported(str(lake), NO_SAMPLE).data)
    work.remove(key("L0", 0), "motor")
    work.add(key("L1", 0), "motor", (50, 50, 60, 60))
    imported(str(lake), work.file, second=6000)
    motor = by(precision(reviews(lake)), "class_name", "basis")["motor", SAMPLE]
    assert (motor.num, motor.value) == (10, 0.9)
    assert by(recall(reviews(lake)), "class_name")["motor",].num == 10


def test_a_detection_that_two_people_looked_at_counts_once_as_the_last_one_said(lake: Path) -> None:
    work = Annotator(exported(str(lake)).data)
    imported(str(lake), work.file, "ada")
    work.remove(key("L0", 0), "motor")
    imported(str(lake), work.file, "bob", second=6000)
    motor = by(precision(reviews(lake)), "class_name", "basis")["motor", ALL_REVIEWED]
    assert (motor.num, motor.value) == (10, 0.9)


def test_a_blind_reviewer_was_not_asked_about_detections(lake: Path) -> None:
    imported(str(lake), exported(str(lake), is_blind=True).data)
    assert precision(reviews(lake)) == []


def test_recall_counts_objects_of_the_random_sample_only(lake: Path) -> None:
    quotas = QueueConfig(high_severity=99, random_sample=10)
    work = Annotator(exported(str(lake), quotas).data)
    sampled = {image["file_name"] for image in work.file["images"] if image["is_random_sample"]}
    missed = [name for name in sorted(sampled) if name.endswith("01.jpg")][:3]
    outside = [name for name in (image["file_name"] for image in work.file["images"]) if name not in sampled]
    for name in (*missed, outside[0]):
        work.add(name, "motor", (50, 50, 60, 60))
    imported(str(lake), work.file)
    num_found = sum(name.endswith("00.jpg") for name in sampled)
    motor = by(recall(reviews(lake)), "class_name")["motor",]
    assert (motor.num, motor.value) == (num_found + 3, pytest.approx(num_found / (num_found + 3)))
    assert motor.interval is not None
    assert motor.interval[0] < num_found / (num_found + 3) < motor.interval[1]


def test_an_object_under_a_wrong_class_was_found_among_all_contaminants_only(lake: Path) -> None:
    work = Annotator(exported(str(lake)).data)
    work.rename(key("L0", 0), "motor", "cable")
    imported(str(lake), work.file)
    found = by(recall(reviews(lake)), "class_name")
    assert {name: figure.value for (name,), figure in found.items()} == {"cable": 0, "motor": 1, ANY: 1}


def test_a_frame_of_a_long_night_weighs_what_it_stands_for(tmp_path: Path) -> None:
    """One night has 8 frames, 2 of them drawn and reviewed; another has 1. Each has a motor, which one model missed."""
    row = dict.fromkeys(schema.REVIEWS.names) | {"is_random_sample": True, "weights_sha256": "w", "is_blind": False}
    motor = row | {"class_name": "motor", "date": NIGHT}
    rows = [
        motor | {"frame_id": "a", "site": "north", "num_drawn_from": 8, "outcome": "added"},
        row | {"frame_id": "b", "site": "north", "date": NIGHT, "num_drawn_from": 8, "outcome": "clean"},
        motor
        | {"frame_id": "c", "site": "south", "num_drawn_from": 1, "outcome": "confirmed", "machine_class": "motor"},
    ]
    table = pa.Table.from_pylist(rows, schema.REVIEWS)
    assert by(recall(table), "class_name")["motor",].value == pytest.approx(1 / 5)


def test_recall_from_samples_is_right_on_average(tmp_path: Path) -> None:
    """The truth is known: 12 motors, 8 of them found, in 40 frames. 60 samples of 16 frames, each reviewed in full."""
    frames = {key(f"L{load}", number): [] for load in range(20) for number in range(2)}
    names = list(frames)
    there = names[:12]
    found = {name: [MOTOR] for name in there[:8]}
    write_night(str(tmp_path), frames | found)
    night = read_night(str(tmp_path), NIGHT, SITE, STORAGE)
    values = []
    for seed in range(60):
        sample = choose_frames(night.frames, night.detections, night.loads, None, _sample_of(16, seed))
        drawn = {each.frame_id for each in sample}
        values.append((sum(frame_id(name) in drawn for name in found), sum(frame_id(name) in drawn for name in there)))
    num_found, num_there = np.sum(values, axis=0)
    assert 40 / 16 * num_there / 60 == pytest.approx(12, abs=1.2)
    assert num_found / num_there == pytest.approx(8 / 12, abs=0.06)


def _sample_of(num: int, seed: int) -> QueueConfig:
    return QueueConfig(high_severity=0, near_threshold=0, disagreement=0, rare_class=0, random_sample=num, seed=seed)


def test_kappa_of_two_reviewers_is_over_frames_that_one_of_them_saw_without_prelabels(lake: Path) -> None:
    imported(str(lake), exported(str(lake)).data, "ada")
    blind = Annotator(exported(str(lake), is_blind=True).data)
    for load in range(8):
        blind.add(key(f"L{load}", 0), "motor", MOTOR[1])
    blind.add(key("L9", 1), "motor", (50, 50, 60, 60))
    imported(str(lake), blind.file, "bob")
    motor = by(agreement(reviews(lake)), "class_name")["motor",]
    # Both say motor on 8 frames, ada alone on 2, bob alone on 1, neither on 9.
    observed, expected = 17 / 20, (10 * 9 + 10 * 11) / 400
    assert (motor.subject, motor.num) == ("ada and bob", 20)
    assert motor.value == pytest.approx((observed - expected) / (1 - expected))
    assert motor.interval is not None
    assert motor.interval[0] < motor.value < motor.interval[1]


def test_two_reviewers_who_were_both_shown_the_prelabels_have_no_kappa(lake: Path) -> None:
    for reviewer in ("ada", "bob"):
        imported(str(lake), exported(str(lake)).data, reviewer)
    assert agreement(reviews(lake)) == []


def test_two_reviewers_who_always_say_the_same_one_thing_have_no_number(tmp_path: Path) -> None:
    write_night(str(tmp_path), {key("L1", 0): [], key("L1", 1): []})
    for reviewer in ("ada", "bob"):
        imported(str(tmp_path), exported(str(tmp_path), is_blind=True).data, reviewer)
    (figure,) = agreement(reviews(tmp_path))
    assert (figure.class_name, figure.num, figure.value, figure.interval) == (ANY, 2, None, None)


def test_models_are_told_apart(tmp_path: Path) -> None:
    for run, found in (("run1", MOTOR), ("run2", CAN), ("run3", CABLE)):
        write_night(str(tmp_path), {key("L1", 0): [found], key("L1", 1): []}, run_id=run, weights=f"weights of {run}")
        imported(str(tmp_path), exported(str(tmp_path)).data)
    figures = figures_of(reviews(tmp_path))
    assert {(each.subject, each.class_name) for each in figures if each.name == "recall"} == {
        (f"weights of {run}", name)
        for run, kind in (("run1", "motor"), ("run2", "spray can"), ("run3", "cable"))
        for name in (kind, ANY)
    }


def test_without_reviews_there_are_no_figures(tmp_path: Path) -> None:
    assert figures_of(reviews(tmp_path)) == []


def test_a_second_reviewer_who_missed_an_object_does_not_take_it_away(lake: Path) -> None:
    work = Annotator(exported(str(lake)).data)
    work.add(key("L3", 1), "motor", (50, 50, 60, 60))
    imported(str(lake), work.file, "ada")
    imported(str(lake), exported(str(lake), is_blind=True).data, "bob", second=6000)
    motor = by(recall(reviews(lake)), "class_name")["motor",]
    assert (motor.num, motor.value) == (11, pytest.approx(10 / 11))


def test_where_all_was_found_the_interval_still_has_a_width(lake: Path) -> None:
    imported(str(lake), exported(str(lake)).data)
    motor = by(recall(reviews(lake)), "class_name")["motor",]
    assert motor.value == 1
    assert motor.interval == pytest.approx((0.7225, 1), abs=1e-4), "Wilson's interval of 10 loads in 10"
