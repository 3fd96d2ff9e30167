import dataclasses
import datetime as dt

import pytest

from scrapray.audit.identity import public_settings, run_id_of, work_id_of
from scrapray.audit.nightly import MEASURED_WITH, area_settings, calibration_of, exit_code_of, reading_of
from scrapray.config import (
    AuditConfig,
    LimitsConfig,
    QualityConfig,
    ResourcesConfig,
    SegmentConfig,
    StorageConfig,
    VerdictConfig,
    VerdictRule,
)
from scrapray.errors import ConfigurationError, ModelError
from scrapray.recipients import AlertsConfig
from scrapray.segmenter.bundle import read_card
from scrapray.statistics.contamination import calibrate_areas
from tests.unit.audit.test_publish import manifest

CONFIG = AuditConfig(segment=SegmentConfig(overlap_px=16))
FRAMES = manifest(("1", {}), ("2", {}))


@pytest.fixture(scope="module")
def card(tiny_bundle):
    return read_card(tiny_bundle)


def run_id(card, config=CONFIG, frames=FRAMES):
    return run_id_of(work_id_of(frames, card, config), card, public_settings(config), frames)


def loads(*severities):
    return [{"worst_severity": severity} for severity in severities]


@pytest.mark.parametrize(
    ("found", "num_used", "limits", "code"),
    [
        (loads(0, 2), 8, LimitsConfig(max_rejected_frac=0.2), 0),
        (loads(0, 2), 7, LimitsConfig(max_rejected_frac=0.2), 1),
        (loads(0, 3), 10, LimitsConfig(), 3),
        (loads(0, 3), 10, LimitsConfig(alert_exit_code=False), 0),
        (loads(3), 0, LimitsConfig(), 3),
        (loads(3), 0, LimitsConfig(alert_exit_code=False), 1),
    ],
)
def test_the_exit_code_says_what_asks_for_attention(found, num_used, limits, code):
    assert exit_code_of(found, 10, num_used, limits) == code


def test_a_night_without_frames_is_done():
    assert exit_code_of([], 0, 0, LimitsConfig(max_rejected_frac=0.0)) == 0


def test_frames_in_another_order_are_the_same_run(card):
    assert run_id(card, frames=FRAMES.take([1, 0])) == run_id(card)


@pytest.mark.parametrize(
    "change",
    [
        {"segment": SegmentConfig(overlap_px=16, min_area_px=50)},
        {"quality": QualityConfig(min_sharpness=0.3)},
        {"verdict": VerdictConfig(rules=())},
        {"limits": LimitsConfig(max_rejected_frac=0.1)},
    ],
)
def test_other_settings_are_another_run(card, change):
    assert run_id(card, dataclasses.replace(CONFIG, **change)) != run_id(card)


@pytest.mark.parametrize(
    "change",
    [
        {"resources": ResourcesConfig(actors=7)},
        {"storage": StorageConfig(endpoint_url="http://elsewhere")},
        {"alerts": AlertsConfig(file="elsewhere.jsonl")},
    ],
)
def test_where_it_runs_does_not_make_another_run(card, change):
    elsewhere = dataclasses.replace(CONFIG, **change)
    assert run_id(card, elsewhere) == run_id(card)
    assert "elsewhere" not in str(public_settings(elsewhere))


def test_late_frames_are_another_run_of_the_same_work(card):
    more = manifest(("1", {}), ("2", {}), ("3", {}))
    assert run_id(card, frames=more) != run_id(card)
    assert work_id_of(more, card, CONFIG) == work_id_of(FRAMES, card, CONFIG)


def test_a_late_site_joins_the_work_of_its_date_and_another_date_is_another_work(card):
    late_site = manifest(("1", {}), ("2", {"site": "late"}))
    assert work_id_of(late_site, card, CONFIG) == work_id_of(FRAMES, card, CONFIG)
    next_night = manifest(("1", {}), ("2", {"date": dt.date(2030, 1, 1)}))
    assert work_id_of(next_night, card, CONFIG) != work_id_of(FRAMES, card, CONFIG)


def test_a_frame_that_can_be_downloaded_by_now_makes_another_run(card):
    settings = public_settings(CONFIG)
    work_id = work_id_of(FRAMES, card, CONFIG)
    without, with_it = (run_id_of(work_id, card, settings, FRAMES, gone) for gone in (["2"], []))
    assert without != with_it == run_id(card)
    assert run_id_of(work_id, card, settings, FRAMES, ["of another night"]) == with_it


def test_a_strange_key_does_not_undo_finished_work(card):
    strange = {"site": "unknown", "date": dt.date(2026, 11, 22), "reject_stage": "manifest", "reject_reason": "x"}
    more = manifest(("1", {}), ("2", {}), ("3", strange))
    assert work_id_of(more, card, CONFIG) == work_id_of(FRAMES, card, CONFIG)


def test_a_frame_that_moved_to_another_load_is_another_run(card):
    assert run_id(card, frames=manifest(("1", {}), ("2", {"load_id": "L2"}))) != run_id(card)


def test_rules_do_not_undo_finished_work_but_another_model_does(card):
    rules_changed = dataclasses.replace(CONFIG, verdict=VerdictConfig(rules=()))
    assert work_id_of(FRAMES, card, rules_changed) == work_id_of(FRAMES, card, CONFIG)
    other = dataclasses.replace(card, weights_sha256="0" * 64)
    assert work_id_of(FRAMES, other, CONFIG) != work_id_of(FRAMES, card, CONFIG)


def test_a_bundle_whose_error_was_measured_makes_another_run_of_the_same_work(card):
    measured = dataclasses.replace(card, metrics={"area_calibration": {}})
    assert work_id_of(FRAMES, measured, CONFIG) == work_id_of(FRAMES, card, CONFIG)
    assert run_id(measured) != run_id(card)


def test_severities_come_from_the_card_unless_the_settings_say_otherwise(card):
    config = dataclasses.replace(CONFIG, segment=SegmentConfig(overlap_px=16, severities={"cable": 3}))
    assert reading_of(card, CONFIG).severities == {"motor": 2, "cable": 1, "spray can": 3}
    assert reading_of(card, config).severities == {"motor": 2, "cable": 3, "spray can": 3}


def test_a_rule_for_a_class_that_the_model_does_not_know_stops_before_any_work(card):
    rule = VerdictRule(name="batteries", verdict="reject", class_name="battery")
    with pytest.raises(ConfigurationError, match="no class 'battery'"):
        reading_of(card, dataclasses.replace(CONFIG, verdict=VerdictConfig(rules=(rule,))))


def calibrated(card, values):
    """A card with an area calibration that was measured with the settings of these tests."""
    measured = {**values, MEASURED_WITH: area_settings(CONFIG.segment)}
    return dataclasses.replace(card, metrics={"area_calibration": measured})


def test_the_area_calibration_comes_from_the_card(card):
    calibration = calibrate_areas([0.001] * 40, [0.002] * 40)
    assert calibration_of(card, CONFIG.segment) is None
    assert reading_of(calibrated(card, calibration.as_dict()), CONFIG).calibration == calibration


@pytest.mark.parametrize(
    "change",
    [{"thresholds": {"motor": 0.9}}, {"overlap_px": 32}, {"suspicion": 0.5}, {"map_stride_px": 8}, {"min_area_px": 10}],
)
def test_settings_that_change_areas_void_the_area_calibration(card, change):
    calibration = calibrate_areas([0.001] * 40, [0.002] * 40)
    config = dataclasses.replace(CONFIG, segment=dataclasses.replace(CONFIG.segment, **change))
    assert reading_of(calibrated(card, calibration.as_dict()), config).calibration is None


def test_settings_that_change_no_area_keep_the_area_calibration(card):
    calibration = calibrate_areas([0.001] * 40, [0.002] * 40)
    segment = dataclasses.replace(CONFIG.segment, severities={"cable": 3}, tiles_per_batch=1)
    config = dataclasses.replace(CONFIG, segment=segment)
    assert reading_of(calibrated(card, calibration.as_dict()), config).calibration == calibration


@pytest.mark.parametrize("values", [{}, {"residuals": [0.1], "offset_frac": 1e-4}, {"residuals": 3, "offset_frac": 1}])
def test_a_broken_area_calibration_is_the_bundles_fault(card, values):
    with pytest.raises(ModelError, match=r"bundle tiny 1: .*calibrate the bundle again"):
        calibration_of(calibrated(card, values), CONFIG.segment)
