import datetime as dt
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from scrapray.datasets.annotations import AnnotatedFrame
from scrapray.datasets.split import Split, refuse_leaks, split_of, unit_of
from scrapray.errors import SchemaError

SHARES: dict[Split, float] = {"train": 0.7, "validation": 0.2, "test": 0.1}
DAY = dt.date(2026, 11, 20)
SPLITS_OF_TWELVE = "errarearerar"
"""Second letters, noted when this was written: a change of the rule would tear every dataset that is out there."""


def frame(**ids: Any) -> AnnotatedFrame:
    known = {"site": "n", "date": DAY, "truck_id": "0007", "load_id": "L1", "camera_id": "c1"}
    return AnnotatedFrame(**({"frame_id": "f", "uri": "u", "key": "k"} | known | ids))


def test_frames_of_a_load_stay_together_whatever_their_camera_or_name() -> None:
    assert unit_of(frame()) == unit_of(frame(camera_id="c2", frame_id="g", key="l"))


@pytest.mark.parametrize(
    "other",
    [{"load_id": "L2"}, {"truck_id": "0008"}, {"date": dt.date(2026, 11, 21)}, {"site": "s"}, {"load_id": None}],
)
def test_another_load_is_another_unit(other: dict[str, Any]) -> None:
    assert unit_of(frame()) != unit_of(frame(**other))


@pytest.mark.parametrize("ids", [{"load_id": None}, {"load_id": None, "truck_id": None}])
def test_without_a_load_two_cameras_over_one_pile_stay_together(ids: dict[str, Any]) -> None:
    """By the day of the truck, or of the site."""
    cameras = [frame(**ids, camera_id=camera_id, key=camera_id) for camera_id in ("c1", "c2")]
    assert len(set(map(unit_of, cameras))) == 1
    for seed in range(20):
        assert len({split_of(one, shares=SHARES, seed=seed) for one in cameras}) == 1
    assert unit_of(frame(**ids, date=dt.date(2026, 11, 21))) != unit_of(cameras[0]) != unit_of(frame(**ids, site="s"))


def test_without_a_load_each_truck_has_its_own_unit() -> None:
    assert unit_of(frame(load_id=None)) != unit_of(frame(load_id=None, truck_id="0008"))


def test_a_frame_of_no_date_stands_for_itself() -> None:
    nothing = dict.fromkeys(("site", "date", "truck_id", "load_id", "camera_id"))
    assert unit_of(frame(**nothing)) != unit_of(frame(**nothing, key="l"))


def test_the_split_of_a_load_is_the_same_today_and_in_years() -> None:
    splits = [split_of(frame(load_id=f"L{number}"), shares=SHARES, seed=1) for number in range(12)]
    assert "".join(split[1] for split in splits) == SPLITS_OF_TWELVE


def test_many_loads_come_near_their_shares() -> None:
    splits = Counter(split_of(frame(load_id=f"L{number}"), shares=SHARES, seed=3) for number in range(4000))
    assert {split: pytest.approx(share * 4000, abs=130) for split, share in SHARES.items()} == splits


def test_a_test_of_whole_dates_and_no_share_stays_frozen_when_later_frames_come() -> None:
    shares: dict[Split, float] = {"train": 0.85, "validation": 0.15, "test": 0.0}
    fixed: list[tuple[Split, dt.date, dt.date]] = [("test", DAY, DAY)]
    days = (DAY - dt.timedelta(1), DAY, DAY + dt.timedelta(1))
    splits = {
        day: {split_of(frame(date=day, load_id=f"L{n}"), shares=shares, seed=1, fixed=fixed) for n in range(50)}
        for day in days
    }
    assert [splits[day] for day in days] == [{"train", "validation"}, {"test"}, {"train", "validation"}]


def test_another_seed_is_another_split() -> None:
    frames = [frame(load_id=f"L{number}") for number in range(50)]
    first, second = ([split_of(one, shares=SHARES, seed=seed) for one in frames] for seed in (1, 2))
    assert first != second


def test_fixed_dates_count_before_shares_with_both_their_ends() -> None:
    fixed: list[tuple[Split, dt.date, dt.date]] = [("test", DAY, dt.date(2026, 11, 22))]
    days = [dt.date(2026, 11, day) for day in (19, 20, 22, 23)]
    found = [
        split_of(frame(date=day), shares={"train": 1, "validation": 0, "test": 0}, seed=1, fixed=fixed) for day in days
    ]
    assert found == ["train", "test", "test", "train"]


def table(*rows: tuple[str, str, str]) -> pa.Table:
    names = ("frame_id", "content_sha256", "split")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) | {"uri": f"s3://f/{row[0]}.jpg"} for row in rows])


def test_frames_of_many_rows_and_copies_on_one_side_are_no_leak() -> None:
    refuse_leaks(table(("a", "1", "train"), ("a", "1", "train"), ("b", "1", "train"), ("c", "2", "test")), "scrap-7")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (
            [("a", "1", "train"), ("a", "1", "test")],
            "the same frame_id is in two splits, 1 times.*s3://f/a.jpg in test and train",
        ),
        (
            [("a", "1", "train"), ("b", "1", "validation")],
            "the same content_sha256 is in two splits.*s3://f/a.jpg and s3://f/b.jpg in train and validation",
        ),
    ],
)
def test_a_leak_is_refused_and_named(rows: list[tuple[str, str, str]], told: str) -> None:
    with pytest.raises(SchemaError, match=f"scrap-7: {told}"):
        refuse_leaks(table(*rows), "scrap-7")
