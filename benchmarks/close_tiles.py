"""Frames audited as they are, with close tiles only where wide ones leave a threshold in reach, and with all of them.

    python benchmarks/close_tiles.py [--frames 6] [--model scrapray/bundles/demo]

Prints what share of the close tiles is looked at, how many times as fast that is (in turns on the same frames, one
thread), and how many detections of the whole look are found by the shorter one, in the same class and place.
"""

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scrapray.audit.actors import classes_of
from scrapray.audit.frames import ArchivedFrame, FrameSegmenter, Row, _Sight
from scrapray.config import AuditConfig, CameraConfig, SegmentConfig
from scrapray.imagery.bed import touches
from scrapray.imagery.scenes import SceneSettings, draw_load
from scrapray.imagery.tiling import tile_boxes
from scrapray.segmenter.bundle import Bundle, load_bundle

SEED = 9_500_000
OVERLAP_PX = 32


class Counting(FrameSegmenter):
    """Counts tiles of the closest side."""

    num_close = 0

    def _boxes(self, sight: _Sight, side_px: int) -> NDArray[np.intp]:
        boxes_N4 = super()._boxes(sight, side_px)
        self.num_close += len(boxes_N4) * (side_px == min(self._tile_sides_px))
        return boxes_N4


class Everywhere(Counting):
    """Looks at all tiles that touch the bed."""

    def _boxes(self, sight: _Sight, side_px: int) -> NDArray[np.intp]:
        height, width = sight.pixels_HW3.shape[:2]
        boxes_N4 = tile_boxes(height, width, side_px, OVERLAP_PX)
        boxes_N4 = boxes_N4[touches(boxes_N4, sight.bed_HW)]
        self.num_close += len(boxes_N4) * (side_px == min(self._tile_sides_px))
        return boxes_N4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--model", type=Path, default=Path("scrapray/bundles/demo"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    scene = SceneSettings(num_frames=1, contaminated_share=1.0)
    bundle = load_bundle(given.model)
    camera = CameraConfig(bed_polygon_px=tuple(scene.bed_polygon_px))
    config = AuditConfig(segment=SegmentConfig(overlap_px=OVERLAP_PX), cameras={"c": camera})
    looks = {kind: segmenter(kind, bundle, config) for kind in (Everywhere, Counting)}
    seconds = dict.fromkeys(looks, 0.0)
    num_found = num_again = 0
    loads = (draw_load(seed, scene) for seed in itertools.count(SEED))
    for frame in itertools.islice((frame for load in loads for frame in load.frames), given.frames):
        rows: list[Row] = []
        for kind, look in looks.items():
            began = time.perf_counter()
            rows += look([ArchivedFrame("f", "c", frame.jpeg)])
            seconds[kind] += time.perf_counter() - began
        whole, shorter = (row["detections"] for row in rows)
        num_found += len(whole)
        num_again += sum(any(overlap(one, other) for other in shorter) for one in whole)
    all_close, some_close = (look.num_close for look in looks.values())
    print(f"close tiles looked at: {some_close} of {all_close} ({some_close / all_close:.0%})")
    print(f"seconds a frame: {' against '.join(f'{spent / given.frames:.1f}' for spent in seconds.values())}, ", end="")
    print(f"{seconds[Everywhere] / seconds[Counting]:.2f} times as fast")
    print(f"detections of the whole look found again: {num_again} of {num_found}")


def segmenter(kind: type[Counting], bundle: Bundle, config: AuditConfig) -> Counting:
    return kind(
        config=config,
        classes=classes_of(bundle.card, config.segment),
        tile_sides_px=bundle.card.tile_sides_px,
        score_tiles=lambda tiles_NHW3: bundle.score_tiles(tiles_NHW3, tiles_NHW3.shape[1] // 4),
    )


def overlap(one: Row, other: Row) -> bool:
    a, b = one["bbox"], other["bbox"]
    apart = (a[f"{axis}_max_px"] <= b[f"{axis}_min_px"] or b[f"{axis}_max_px"] <= a[f"{axis}_min_px"] for axis in "xy")
    return one["class_name"] == other["class_name"] and not any(apart)


if __name__ == "__main__":
    main()
