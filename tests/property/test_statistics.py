from functools import reduce

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scrapray.statistics.contamination import calibrate_areas, estimate_contamination
from scrapray.statistics.loads import LoadStatistics
from tests.unit.statistics.frames import SEVERITIES, audited, on_frame

classes = st.lists(
    st.builds(
        on_frame,
        st.sampled_from(sorted(SEVERITIES)),
        st.integers(0, 4),
        area_px=st.integers(0, 300),
        max_score=st.floats(0.125, 1, width=32),
    ),
    max_size=3,
    unique_by=lambda each: each.class_name,
)
frames = st.lists(
    st.builds(
        lambda name, found, second, is_used: audited(name, *found, second=second, is_used=is_used),
        st.integers(0, 999),
        classes,
        st.integers(0, 60),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda frame: frame.frame_id,
)


def read_out(statistics):
    return (
        statistics.contamination(seed="a", blind_area_px=10),
        statistics.coverage_frac,
        statistics.evidence(SEVERITIES),
        [statistics.summary_of(name, severity, 0.1) for name, severity in SEVERITIES.items()],
    )


@settings(max_examples=60, deadline=None)
@given(frames, st.randoms(use_true_random=False))
def test_statistics_merge_in_any_order_and_grouping(some, random):
    whole = LoadStatistics.of(some)
    shuffled = random.sample(some, len(some))
    cut = random.randint(0, len(some))
    one_by_one = reduce(lambda total, frame: total + LoadStatistics.of([frame]), shuffled, LoadStatistics())
    in_two = LoadStatistics.of(shuffled[cut:]) + LoadStatistics.of(shuffled[:cut])
    assert one_by_one == in_two == whole
    assert read_out(one_by_one) == read_out(in_two) == read_out(whole)


@settings(max_examples=60, deadline=None)
@given(frames)
def test_no_frame_alone_decides_a_count(some):
    """Oracle in plain words: for every n, look for two used frames that show n."""
    statistics = LoadStatistics.of(some)
    for name in SEVERITIES:
        shown = [each.num_detections for frame in statistics.used for each in frame.classes if each.class_name == name]
        needed = 1 if len(statistics.used) == 1 else 2
        expected = max((n for n in range(1, 5) if sum(number >= n for number in shown) >= needed), default=0)
        assert statistics.count(name) == expected


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(1000, 5000)), min_size=1, max_size=15),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=39, max_size=60),
    st.booleans(),
)
def test_an_interval_is_a_share_and_holds_its_estimate(areas, loads, is_calibrated):
    contaminated_px, seen_px = zip(*areas, strict=True)
    calibration = calibrate_areas(*zip(*loads, strict=True)) if is_calibrated else None
    found = estimate_contamination(contaminated_px, seen_px, seed="a", blind_area_px=0, calibration=calibration)
    assert found.frac == np.sum(contaminated_px) / np.sum(seen_px)
    if found.low is not None:
        assert 0 <= found.low <= found.frac <= found.high <= 1
