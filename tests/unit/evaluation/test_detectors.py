"""Instances of tiles become maps one tile after another."""

import weakref
from collections.abc import Iterator

import numpy as np

from scrapray.baselines.maskrcnn import MaskRcnn, MaskRcnnConfig
from scrapray.baselines.rasterise import Instances
from scrapray.evaluation.config import DetectorConfig
from scrapray.evaluation.detectors import rasterised


def test_masks_of_a_tile_are_dropped_before_those_of_the_next() -> None:
    alive: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()

    def found() -> Iterator[Instances]:
        for tile in range(4):
            assert not alive
            masks_IHW = np.ones((2, 32, 32), np.bool_)
            alive[tile] = masks_IHW
            yield Instances(np.array([0.2, 0.7]), np.array([1, 2]), masks_IHW)
            del masks_IHW

    maps_NKhw = rasterised(found(), 2, 32, DetectorConfig()).maps_NKhw
    assert maps_NKhw.shape == (4, 3, 32, 32)
    np.testing.assert_allclose(maps_NKhw[:, :, 0, 0], [[0.7, 0.2, 0.7]] * 4, rtol=1e-6)


def test_mask_rcnn_looks_at_a_tile_when_it_is_asked_for() -> None:
    detector = MaskRcnn(MaskRcnnConfig(weights="random", input_px=32, max_instances=3), 2)
    looked_at = []
    detector.learned.register_forward_hook(lambda *_: looked_at.append(1))
    found = detector(np.zeros((3, 32, 32, 3), np.uint8))
    next(found)
    assert len(looked_at) == 1
    assert len(list(found)) == 2
