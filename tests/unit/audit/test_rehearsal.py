import json
import shutil
from dataclasses import asdict

import pytest

from benchmarks import drawn_loads
from scrapray.audit import rehearsal
from scrapray.audit.nightly import calibration_of
from scrapray.audit.rehearsal import RehearsedLoad, calibrate_bundle, count_verdicts, rehearse
from scrapray.config import SegmentConfig
from scrapray.errors import ConfigurationError
from scrapray.imagery.scenes import SceneSettings
from scrapray.segmenter.bundle import load_bundle

SEGMENT = SegmentConfig()


def rehearsed(largest_px, verdict, *, true_frac=0.0, predicted=0.0, low=0.0, high=0.001, peaks_FK=()):
    row = {
        "site": "yard-part-0",
        "load_id": "L1",
        "verdict": verdict,
        "verdict_reason": "because",
        "contamination_frac": predicted,
        "contamination_low": low,
        "contamination_high": high,
    }
    return RehearsedLoad(true_frac=true_frac, largest_px=largest_px, row=row, peaks_FK=peaks_FK)


def test_a_calibrated_bundle_still_loads_and_has_its_error_in_the_card(tiny_bundle, tmp_path):
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    calibrate_bundle(folder, [rehearsed(80, "review", true_frac=0.002, predicted=0.001)] * 40, SEGMENT)
    calibration = calibration_of(load_bundle(folder).card, SEGMENT)
    assert calibration is not None
    assert calibration.residuals[0] == pytest.approx(0.646627)


def test_too_few_loads_leave_the_card_as_it_was(tiny_bundle, tmp_path):
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    with pytest.raises(ValueError, match="3 loads, needs 39 or more"):
        calibrate_bundle(folder, [rehearsed(0, "accept")] * 3, SEGMENT)
    assert calibration_of(load_bundle(folder).card, SEGMENT) is None


def test_verdicts_count_clean_loads_and_those_with_a_large_contaminant():
    loads = [rehearsed(*load) for load in ((0, "accept"), (0, "review"), (0, "accept"), (59, "accept"), (60, "reject"))]
    assert count_verdicts(loads) == {"contaminated_loads": 1, "flagged": 1, "clean_loads": 3, "accepted": 2}


def test_a_folder_of_drawn_loads_is_not_taken_for_another(tmp_path):
    tiny = SceneSettings(width_px=320, height_px=180, num_parts=1)
    rehearsed_before = {"seed": 1, "frames_per_load": 2, "scene": None}
    (tmp_path / "drawn.json").write_text(json.dumps(rehearsed_before), encoding="utf-8")
    for change in ({"seed": 2}, {"frames_per_load": 3}, {"scene": tiny}):
        with pytest.raises(ConfigurationError, match=r"holds loads that were drawn with .* take another folder"):
            rehearse(tmp_path, "demo", num_loads=4, **{**rehearsed_before, **change})


def test_a_folder_of_drawn_loads_is_known_again(tmp_path):
    for _ in range(2):
        rehearsal._keep_to(tmp_path / "drawn.json", seed=1, frames_per_load=2, scene=asdict(SceneSettings()))


def test_the_benchmark_counts_verdicts_by_what_was_drawn(capsys):
    loads = [rehearsed(100, "reject"), rehearsed(59, "accept"), rehearsed(0, "review"), rehearsed(0, "accept")]
    drawn_loads.print_confusion(loads)
    counts = [line.split()[-3:] for line in capsys.readouterr().out.splitlines()[1:]]
    assert counts == [["0", "0", "1"], ["1", "0", "0"], ["1", "1", "0"]]


@pytest.mark.parametrize(
    ("loads", "holds"),
    [
        ([rehearsed(60, "review")] * 9 + [rehearsed(60, "accept")], True),
        ([rehearsed(60, "review")] * 8 + [rehearsed(60, "accept")] * 2, False),
        ([rehearsed(0, "accept")] * 85 + [rehearsed(0, "review")] * 15, True),
        ([rehearsed(0, "accept")] * 84 + [rehearsed(0, "review")] * 16, False),
        ([rehearsed(0, "accept")] * 9 + [rehearsed(0, "accept", low=None)], True),
        ([rehearsed(59, "accept", true_frac=0.002)] * 2 + [rehearsed(0, "accept")] * 8, False),
    ],
)
def test_the_benchmark_fails_when_a_share_does_not_hold(loads, holds):
    assert drawn_loads.print_shares(loads) is holds


def test_the_benchmark_names_every_load_that_was_judged_wrongly(capsys):
    drawn_loads.print_faults([rehearsed(0, "reject"), rehearsed(70, "accept"), rehearsed(30, "accept")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "largest 0 px, 0.0000%; said reject (because)" in lines[0]
