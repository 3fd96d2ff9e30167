"""What a second look at suspicions brings, against tiles of both sides all over the bed and the mean of their maps.

    python benchmarks/second_look.py [--frames 12] [--model scrapray/bundles/demo]

Draws 4K frames with contaminants and scores each of them in both ways, in turns, with one thread. Prints the seconds
that a frame takes, decoding included, and how many contaminants of 60 px or more are found at the score that lets pass
one false detection of their class per frame. Quality is in the time of the second look only, as in an audit.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from scrapray.audit.frames import ArchivedFrame, Classes, FrameSegmenter
from scrapray.audit.rehearsal import LARGE_PX
from scrapray.config import SUSPICION, AuditConfig, CameraConfig, SegmentConfig
from scrapray.imagery.bed import bed_mask, touches
from scrapray.imagery.components import find_components, inside_bed
from scrapray.imagery.loads import DrawnFrame
from scrapray.imagery.masks import decode_mask
from scrapray.imagery.scenes import SceneSettings, draw_load
from scrapray.imagery.tiling import blend_boxes, tile_boxes
from scrapray.segmenter.bundle import Bundle, load_bundle

SEED = 9_500_000
LOWEST = SUSPICION
"""What scores less is no detection in either way."""
SEGMENT = SegmentConfig(overlap_px=32)


class Found(NamedTuple):
    """One detection: its class from 1 on, its score, and where it is."""

    class_index: int
    score: float
    mask_HW: NDArray[np.bool_]


Look = Callable[[DrawnFrame], Iterator[Found]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--model", type=Path, default=Path("scrapray/bundles/demo"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    scene = SceneSettings(num_frames=1, contaminated_share=1.0)
    bundle = load_bundle(given.model)
    names = bundle.card.class_names
    looks = {"all over": all_over(bundle, scene), "second look": second_look(bundle, scene)}
    seconds = dict.fromkeys(looks, 0.0)
    best: dict[str, list[list[float]]] = {look: [[] for _ in names] for look in looks}
    false: dict[str, list[list[float]]] = {look: [[] for _ in names] for look in looks}
    frames = (frame for seed in itertools.count(SEED) for frame in draw_load(seed, scene).frames)
    for frame in itertools.islice(frames, given.frames):
        for name, look in looks.items():
            began = time.perf_counter()
            found = list(look(frame))
            seconds[name] += time.perf_counter() - began
            judge(frame, found, best[name], false[name])
    for name in looks:
        print(f"{name}: {seconds[name] / given.frames:.1f} s a frame")
        for k, scores in enumerate(best[name]):
            limit = sorted([*false[name][k], *[0.0] * (given.frames + 1)], reverse=True)[given.frames]
            print(f"  {names[k]}: {sum(score > limit for score in scores)} of {len(scores)} found above {limit:.3f}")
    whole, again = seconds.values()
    print(f"the second look is {whole / again:.1f} times as fast")


def all_over(bundle: Bundle, scene: SceneSettings) -> Look:
    bed_HW = bed_mask(scene.bed_polygon_px, (scene.height_px, scene.width_px))
    stride_px, sides_px = SEGMENT.map_stride_px, bundle.card.tile_sides_px
    grids = (tile_boxes(scene.height_px, scene.width_px, side_px, SEGMENT.overlap_px) for side_px in sides_px)
    boxes = [boxes_N4[touches(boxes_N4, bed_HW)] for boxes_N4 in grids]

    def look(frame: DrawnFrame) -> Iterator[Found]:
        image_HW3 = frame.image_HW3
        maps = [blend_boxes(image_HW3, boxes_N4, scorer(bundle), stride_px) for boxes_N4 in boxes]
        map_Khw = inside_bed(np.mean(maps, axis=0), bed_HW, stride_px)
        lowest_K = (LOWEST,) * len(map_Khw)
        for component in find_components(map_Khw, lowest_K, bed_HW, stride_px, SEGMENT.min_area_px):
            mask_HW = np.zeros(bed_HW.shape, np.bool_)
            x0, y0, x1, y1 = component.bbox_xyxy
            mask_HW[y0:y1, x0:x1] = component.mask
            yield Found(component.class_index + 1, component.score, mask_HW)

    return look


def second_look(bundle: Bundle, scene: SceneSettings) -> Look:
    names = bundle.card.class_names
    segment = FrameSegmenter(
        config=AuditConfig(segment=SEGMENT, cameras={"c": CameraConfig(bed_polygon_px=tuple(scene.bed_polygon_px))}),
        classes=Classes(names=names, severities=(1,) * len(names), thresholds=(LOWEST,) * len(names)),
        tile_sides_px=bundle.card.tile_sides_px,
        score_tiles=scorer(bundle),
    )

    def look(frame: DrawnFrame) -> Iterator[Found]:
        (row,) = segment([ArchivedFrame("f", "c", frame.jpeg)])
        for detection in row["detections"]:
            yield Found(1 + names.index(detection["class_name"]), detection["score"], decode_mask(detection["mask"]))

    return look


def scorer(bundle: Bundle) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    return lambda tiles_NHW3: bundle.score_tiles(tiles_NHW3, tiles_NHW3.shape[1] // SEGMENT.map_stride_px)


def judge(frame: DrawnFrame, found: list[Found], best: list[list[float]], false: list[list[float]]) -> None:
    """Add the best score on each large contaminant, and the score of each detection that touches none of its class."""
    class_HW = frame.class_HW
    for class_index, score, mask_HW in found:
        if not (class_HW[mask_HW] == class_index).any():
            false[class_index - 1].append(score)
    for thing, box in enumerate(ndimage.find_objects(frame.object_HW), start=1):
        class_index = int(frame.class_of_object[thing])
        if box is None or not class_index or max(side.stop - side.start for side in box) < LARGE_PX:
            continue
        shown = frame.object_HW[box] == thing
        scores = [each.score for each in found if each.class_index == class_index and each.mask_HW[box][shown].any()]
        best[class_index - 1].append(max(scores, default=0.0))


if __name__ == "__main__":
    main()
