from functools import reduce
from operator import add

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from scrapray.statistics.counts import SIZE_BANDS, ClassCounts


def drawn(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth_Nhw = rng.random((num, 16, 16)) < 0.003
    return (0.7 * rng.random(truth_Nhw.shape) + 0.3 * truth_Nhw).astype(np.float32), truth_Nhw


def test_a_tile_scores_what_its_highest_pixel_scores() -> None:
    scores_Nhw, truth_Nhw = drawn(60)
    found = ClassCounts.of(scores_Nhw, truth_Nhw).tiles.metrics()
    peaks_N, shows_N = scores_Nhw.max(axis=(1, 2)), truth_Nhw.any(axis=(1, 2))
    assert 0 < shows_N.sum() < 60
    assert found.auroc == pytest.approx(roc_auc_score(shows_N, peaks_N))
    assert found.average_precision == pytest.approx(average_precision_score(shows_N, peaks_N))


def test_objects_are_found_or_not_band_by_band() -> None:
    truth_NHW = np.zeros((2, 160, 160), bool)
    scores_Nhw = np.zeros((2, 40, 40), np.float32)
    truth_NHW[0, 7:36, 8:16] = True  # 29 px long, found
    scores_Nhw[0, 8, 3] = 0.6
    truth_NHW[0, 80:110, 21] = True  # 30 px long and thin, missed
    scores_Nhw[0, 20, 5] = 0.4
    truth_NHW[0, 140, 4:64] = True  # 60 px, found
    scores_Nhw[0, 35, 1] = 0.5
    truth_NHW[1, 18, 18] = truth_NHW[1, 19, 19] = True  # one object of two pixels that touch at a corner, missed
    recall = ClassCounts.of(scores_Nhw, truth_NHW).object_recall(0.5)
    assert recall == dict(zip(SIZE_BANDS, (0.5, 0.0, 1.0, None), strict=True))


def test_what_is_thinner_than_a_cell_counts_as_what_it_is() -> None:
    truth_NHW = np.zeros((1, 64, 64), bool)
    truth_NHW[0, np.arange(64), np.arange(64) // 3 + 5] = True  # a cable of one pixel, across the cells
    counted = ClassCounts.of(np.full((1, 16, 16), 0.5, np.float32), truth_NHW)
    assert counted.pixels.metrics().prevalence == 1 / 64
    assert (counted.pixels.num_regions, counted.tiles.contaminant_U.sum()) == (1, 1)
    assert counted.object_recall(0.5) == dict.fromkeys(SIZE_BANDS) | {"60 to 120 px": 1.0}


@pytest.mark.parametrize("num_shards", [1, 7])
def test_shards_add_up_to_what_one_worker_counts(num_shards: int) -> None:
    scores_Nhw, truth_Nhw = drawn(28)
    whole = ClassCounts.of(scores_Nhw, truth_Nhw)
    parts = [
        ClassCounts.of(scores, truth)
        for scores, truth in zip(
            np.array_split(scores_Nhw, num_shards), np.array_split(truth_Nhw, num_shards), strict=True
        )
    ]
    merged = reduce(add, parts[::-1], ClassCounts.empty())
    assert merged.pixels.metrics() == whole.pixels.metrics()
    assert merged.tiles.metrics() == whole.tiles.metrics()
    assert merged.object_recall(0.8) == whole.object_recall(0.8)


def test_where_nothing_is_to_be_found_nothing_is_said() -> None:
    scores_Nhw, _ = drawn(3)
    counted = ClassCounts.of(scores_Nhw, np.zeros(scores_Nhw.shape, bool))
    assert counted.tiles.metrics().auroc is None
    assert counted.object_recall(0.5) == dict.fromkeys(SIZE_BANDS)
    assert ClassCounts.empty().pixels.metrics().average_precision is None
