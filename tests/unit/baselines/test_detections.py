"""Detections from a file: what is in it comes out as instances, and what is wrong with it is named."""

import json
from typing import Any

import numpy as np
import pytest

from scrapray.baselines.detections import DetectionsInFile
from scrapray.errors import SchemaError
from scrapray.imagery.masks import encode_mask

SIDE = 6


def entry(**changes: Any) -> dict[str, Any]:
    mask_HW = np.zeros((SIDE, SIDE), np.bool_)
    mask_HW[1:3, 2:5] = True
    packed = {"size": [SIDE, SIDE], "counts": encode_mask(mask_HW, (0, 0), (SIDE, SIDE))["counts"]}
    return {"image_id": "a", "category_id": 2, "score": 0.5, "segmentation": packed, **changes}


def read(*entries: dict[str, Any]) -> DetectionsInFile:
    return DetectionsInFile(json.dumps(entries).encode(), num_classes=3, tile_px=SIDE, source="found.json")


def test_entries_of_a_tile_become_its_instances() -> None:
    plain = {"size": [SIDE, SIDE], "counts": [0, 3, 33]}  # the first three pixels of the first column
    found = read(entry(), entry(image_id="b"), entry(category_id=1, score=1, segmentation=plain))
    assert found.tile_ids == ["a", "b"]
    instances = found("a")
    assert instances.labels_I.tolist() == [2, 1]
    assert instances.scores_I.tolist() == [0.5, 1.0]
    assert np.argwhere(instances.masks_IHW[0]).tolist() == [[y, x] for y in (1, 2) for x in (2, 3, 4)]
    assert np.argwhere(instances.masks_IHW[1]).tolist() == [[0, 0], [1, 0], [2, 0]]


def test_a_tile_without_entries_has_no_instances() -> None:
    assert read()("a").masks_IHW.shape == (0, SIDE, SIDE)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"score": 1.5}, r"0\.score: Input should be less than or equal to 1"),
        ({"score": "nan"}, r"0\.score: "),
        ({"category_id": 0}, r"0\.category_id: Input should be greater than or equal to 1"),
        ({"category_id": 4}, r"category_id of entry 0 is 4, must be from 1 to 3"),
        ({"segmentation": [[1, 1, 2, 2, 3, 3]]}, r"0\.segmentation: Input should be an object"),
        ({"segmentation": {"size": [5, 6], "counts": [30]}}, r"the mask of entry 0 has a size of \[5, 6\], must be"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(SchemaError, match=f"^found.json.*{fault}"):
        read(entry(**changes))


@pytest.mark.parametrize(
    ("counts", "fault"),
    [([3, 4], "run lengths of 7 pixels for a frame of 6x6"), ([40, -4], "a run length of -4")],
    ids=["too few", "negative"],
)
def test_run_lengths_that_do_not_fill_the_mask_are_refused(counts: list[int], fault: str) -> None:
    found = read(entry(segmentation={"size": [SIDE, SIDE], "counts": counts}))
    with pytest.raises(SchemaError, match=f"a mask of tile a is broken: {fault}"):
        found("a")
