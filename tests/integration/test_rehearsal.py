"""Drawn loads through the whole main path, and what is learned of a bundle from them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from scrapray.audit.nightly import calibration_of
from scrapray.audit.rehearsal import adjust_bundle, drawn_settings, rehearse
from scrapray.imagery.scenes import SceneSettings
from scrapray.segmenter.bundle import load_bundle

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("engine"), pytest.mark.timeout(600)]

FLAGS = ("highest_severity", "several_severe", "contaminant", "sure_glimpse")
SCENE = SceneSettings(width_px=320, height_px=180, num_parts=12, contamination_frac=0.01)


def test_a_bundle_learns_its_thresholds_and_its_error_from_drawn_loads(tmp_path: Path, tiny_bundle: Path) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    before = load_bundle(folder).card
    adjust_bundle(
        folder,
        tmp_path / "loads",
        num_for_thresholds=40,
        num_for_areas=40,
        frames_per_load=2,
        seed=5,
        max_flagged_frac=0.2,
        lowest_threshold=0.05,
        scene=SCENE,
    )
    card = load_bundle(folder).card
    assert card.thresholds != before.thresholds
    for_thresholds, for_areas = tmp_path / "loads" / "for-thresholds", tmp_path / "loads" / "for-areas"
    calibration = calibration_of(card, drawn_settings(for_areas).segment)
    assert calibration is not None and len(calibration.residuals) == 40
    verdicts = card.metrics["verdicts"]
    assert 20 <= verdicts["clean_loads"] + verdicts["contaminated_loads"] <= 40
    assert 0 <= verdicts["flagged"] <= verdicts["contaminated_loads"]
    drawn = [{path.read_bytes() for path in loads.rglob("*.jpg")} for loads in (for_thresholds, for_areas)]
    assert len(drawn[0] | drawn[1]) == 160, "areas are measured on loads that chose no threshold"

    mostly_clean = replace(SCENE, contaminated_share=0.25)
    loads = rehearse(for_thresholds, str(folder), num_loads=40, frames_per_load=2, seed=5, scene=mostly_clean)
    clean = [load.row for load in loads if load.largest_px == 0]
    assert len(clean) == 30
    flagged = sum(row["verdict_rule"] in FLAGS for row in clean)
    assert flagged <= 3, "of 30 clean loads and 3 contaminants, three more may pass for a promise of a fifth"
