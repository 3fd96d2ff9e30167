import datetime as dt

import pyarrow as pa
import pytest

from scrapray import schema
from scrapray.statistics.loads import LoadStatistics, judge_loads, load_row, truck_rows
from tests.unit.statistics.frames import NIGHT, SEVERITIES, at, audited, on_frame, reading, row, table


def test_one_false_frame_cannot_raise_the_count():
    load = LoadStatistics.of([audited(1), audited(2, on_frame("motor", 7)), audited(3)])
    assert load.count("motor") == 0


def test_two_frames_that_agree_are_counted_by_the_lesser():
    load = LoadStatistics.of([audited(1, on_frame("motor", 2)), audited(2, on_frame("motor", 3)), audited(3)])
    assert load.count("motor") == 2


def test_the_only_used_frame_speaks_for_its_load():
    load = LoadStatistics.of([audited(1, on_frame("motor", 2)), audited(2, is_used=False)])
    assert load.count("motor") == 2
    assert load.count("cable") == 0


def test_the_same_object_in_many_frames_is_one_object_of_the_same_area():
    load = LoadStatistics.of([audited(i, on_frame("spray can", 1, area_px=50)) for i in range(20)])
    found = load.summary_of("spray can", 3, 0.6)
    assert (found.count, found.area_frac, found.max_score) == (1, 0.05, 0.8)
    assert found.certainty == pytest.approx(0.5)


def test_what_was_never_found_is_not_certain_at_all():
    found = LoadStatistics.of([audited(1), audited(2)]).summary_of("motor", 2, 0.6)
    assert (found.max_score, found.certainty) == (0, 0)


def test_coverage_is_seen_over_bed_of_used_frames():
    load = LoadStatistics.of([audited(1), audited(2, seen_area_px=2000), audited(3, is_used=False)])
    assert load.coverage_frac == pytest.approx(3000 / 4000)
    assert LoadStatistics.of([audited(1, is_used=False)]).coverage_frac is None


def test_a_frame_that_comes_twice_counts_once():
    load = LoadStatistics.of([audited(1), audited(2)])
    assert load + load == load


def test_evidence_is_the_best_frame_first_and_then_spread_over_time():
    frames = [audited(second, on_frame("cable", 1, max_score=0.5)) for second in range(0, 61, 10)]
    frames[3] = audited(30, on_frame("spray can", 1, max_score=0.9))
    frames.append(audited(31, on_frame("spray can", 1, max_score=0.89)))
    assert LoadStatistics.of(frames).evidence(SEVERITIES) == ("30", "0", "10")


def test_evidence_is_filled_up_with_neighbours_when_nothing_else_was_found():
    frames = [audited(second) for second in range(0, 61, 10)]
    frames += [audited(second, on_frame("motor", 1, max_score=0.9 - second / 1000)) for second in (11, 12)]
    assert LoadStatistics.of(frames).evidence(SEVERITIES) == ("11", "12")


def test_evidence_weighs_score_by_severity_and_leaves_out_clean_frames():
    load = LoadStatistics.of(
        [
            audited(1),
            audited(2, on_frame("cable", 1, max_score=0.99)),
            audited(3, on_frame("spray can", 1, max_score=0.4)),
        ]
    )
    assert load.evidence(SEVERITIES) == ("3", "2")


def test_loads_are_told_apart_by_site_truck_and_load():
    frames = table(
        row(1), row(2), row(3, load_id="L2"), row(4, truck_id="T2"), row(5, site="dock"), row(6, load_id=None)
    )
    loads = judge_loads(frames, reading())
    assert [(load.site, load.truck_id, load.load_id, load.findings.num_frames) for load in loads] == [
        ("dock", "T1", "L1", 1),
        ("yard", "T1", "L1", 2),
        ("yard", "T1", "L2", 1),
        ("yard", "T2", "L1", 1),
    ]


def test_a_load_row_has_every_column_of_its_table():
    frames = table(
        row(1, on_frame("spray can", 1), supplier="Rossi"),
        row(2, on_frame("spray can", 1)),
        row(3, status="rejected", reject_stage="decode", reject_reason="truncated"),
    )
    (load,) = judge_loads(frames, reading())
    found = load_row(load, SEVERITIES)
    assert set(found) == set(schema.LOADS.names) - {"run_id"}
    pa.Table.from_pylist([{"run_id": "r", **found}], schema=schema.LOADS).validate(full=True)
    assert found["supplier"] == "Rossi"
    assert (found["num_frames"], found["num_used"], found["num_rejected"]) == (3, 2, 1)
    assert (found["from_utc"], found["until_utc"]) == (at(1), at(3))
    assert found["contamination_frac"] == pytest.approx(0.4)
    assert (found["worst_severity"], found["verdict"]) == (3, "reject")
    assert [each["class_name"] for each in found["classes"]] == ["motor", "cable", "spray can"]


def test_a_load_without_a_usable_frame_is_kept_for_review():
    (load,) = judge_loads(table(row(1, status="rejected", reject_stage="quality", reject_reason="dark")), reading())
    found = load_row(load, SEVERITIES)
    assert (found["verdict"], found["verdict_rule"]) == ("review", "few_frames")
    assert found["contamination_frac"] is None
    assert found["evidence_frame_ids"] == []
    pa.Table.from_pylist([{"run_id": "r", **found}], schema=schema.LOADS).validate(full=True)


def test_a_truck_pools_its_loads_and_takes_the_worst_verdict():
    frames = table(
        row(1),
        row(2),
        row(3, on_frame("motor", 1), load_id="L2"),
        row(4, on_frame("motor", 1), load_id="L2"),
        row(5, truck_id=None),
    )
    (truck,) = truck_rows(judge_loads(frames, reading()), reading())
    assert set(truck) == set(schema.TRUCKS.names) - {"run_id"}
    assert (truck["truck_id"], truck["num_loads"], truck["num_used"]) == ("T1", 2, 4)
    assert truck["contamination_frac"] == pytest.approx(0.2)
    assert (truck["verdict"], truck["worst_severity"]) == ("review", 2)
    assert truck["verdict_reason"].startswith("load L2: motor (severity 2)")


def test_no_frames_make_no_loads_and_no_trucks():
    assert judge_loads(table(), reading()) == []
    assert truck_rows([], reading()) == []


def test_a_load_keeps_its_night():
    (load,) = judge_loads(table(row(1, taken_utc=None)), reading())
    assert load.date == NIGHT == dt.date(2026, 11, 20)
    assert load_row(load, SEVERITIES)["from_utc"] is None
