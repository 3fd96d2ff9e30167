"""How fast frames are segmented, against a bare loop, and that memory does not grow with their number.

    python benchmarks/audit_throughput.py [--bundle FOLDER] [--actors 2] [--frames 24] [--memory-frames 20 100]

The bare loop decodes the same 4K frames and runs the same model over the same tiles with all cores in one process; it
checks nothing, finds nothing and writes nothing. Both look at each frame once, all over: to the pipeline nothing is
suspicious here. Half of the loop runs before the pipeline and half after, since a machine is rarely the same for long.
Both are measured in steady state: without the start of Ray and of the model.

It fails where the pipeline is slower than 0.9 of the bare loop, or takes more than 1.2 times the memory with the
larger number of frames.

Memory is measured with a truck bed of a few tiles, so that many frames pass in little time: what a frame takes of
memory is its pixels, not its tiles. Each run is a process of its own.
"""

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pyarrow as pa

import scrapray
from scrapray.config import AuditConfig, CameraConfig, ResourcesConfig, SegmentConfig
from scrapray.imagery.decode import decode_frame
from scrapray.imagery.tiling import tile_boxes
from scrapray.schema import MANIFEST
from scrapray.storage import Storage

DEMO_BUNDLE = Path(scrapray.__file__).parent / "bundles" / "demo"
NUM_DRAWN = 4
"""Different frames; the archive repeats them under other names."""
CAMERA = "crane"
SMALL_BED = ((1400.0, 800.0), (2200.0, 800.0), (2200.0, 1300.0), (1400.0, 1300.0))
FRAMES_PER_BLOCK = 2
OUT_OF_REACH = 0.999999
"""No score of the demo bundle."""
LEAST_SPEED_RATIO, MOST_MEMORY_RATIO = 0.9, 1.2


def draw_frames(folder: Path) -> list[Path]:
    from scrapray.imagery.scenes import draw_archive

    draw_archive(folder, num_loads=1, frames_per_load=NUM_DRAWN, seed=1)
    return sorted(folder.rglob("*.jpg"))


def manifest_of(drawn: list[Path], num_frames: int) -> pa.Table:
    rows = [
        dict.fromkeys(MANIFEST.names)
        | {
            "frame_id": f"{number:032x}",
            "uri": str(drawn[number % len(drawn)]),
            "etag": "drawn",
            "size_bytes": 0,
            "site": "bench",
            "date": datetime.date(2026, 1, 1),
            "camera_id": CAMERA,
        }
        for number in range(num_frames)
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST)


def bare_loop(drawn: list[Path], num_frames: int, bundle_folder: Path, config: AuditConfig) -> float:
    """Frames per second of a loop that does nothing but decode and score."""
    from scrapray.segmenter.bundle import load_bundle
    from scrapray.segmenter.measure import cpu_is_made_for_bf16

    bundle = load_bundle(bundle_folder)

    def run(path: Path) -> None:
        frame_HW3 = decode_frame(path.read_bytes(), config.quality.max_pixels)
        height, width = frame_HW3.shape[:2]
        side_px = max(bundle.card.tile_sides_px)
        boxes_N4 = tile_boxes(height, width, side_px, config.segment.overlap_px)
        for start in range(0, len(boxes_N4), config.segment.tiles_per_batch):
            boxes = boxes_N4[start : start + config.segment.tiles_per_batch]
            tiles_NHW3 = np.stack([frame_HW3[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes])
            bundle.score_tiles(tiles_NHW3, side_px // config.segment.map_stride_px, autocast=cpu_is_made_for_bf16())

    run(drawn[0])
    started_s = time.monotonic()
    for number in range(num_frames):
        run(drawn[number % len(drawn)])
    return num_frames / (time.monotonic() - started_s)


def pipeline(drawn: list[Path], num_frames: int, bundle_folder: Path, config: AuditConfig) -> dict[str, Any]:
    """Run the pipeline: frames per second once each actor has written a block, and peak memory of its processes."""
    from scrapray.audit.pipeline import segment_frames
    from scrapray.segmenter.bundle import read_card

    with tempfile.TemporaryDirectory() as work, PeakMemory() as peak:
        segment_frames(
            manifest_of(drawn, num_frames),
            work,
            storage=Storage(),
            bundle_uri=str(bundle_folder),
            card=read_card(bundle_folder),
            config=config,
        )
        assert peak.by_role["actors"], "Ray calls the processes of segmenting actors otherwise now"
        written_s = sorted(path.stat().st_mtime for path in Path(work, "checkpoint").iterdir())
    first = config.resources.actors - 1
    num_steady = (len(written_s) - 1 - first) * config.resources.frames_per_block
    return {"frames_per_s": num_steady / (written_s[-1] - written_s[first]), "peak_mb": peak.by_role}


class PeakMemory:
    """Largest resident memory of this process and of the segmenting actors below it, shared pages included."""

    def __init__(self) -> None:
        self.by_role = {"driver": 0.0, "actors": 0.0}
        self._actors: dict[int, float] = {}
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            for folder in Path("/proc").glob("[0-9]*"):
                if "Segment" in _read(folder / "cmdline"):
                    self._actors[int(folder.name)] = _peak_mb(folder)
            self.by_role = {"driver": _peak_mb(Path("/proc/self")), "actors": sum(self._actors.values())}


def _peak_mb(process: Path) -> float:
    lines = [line for line in _read(process / "status").splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def in_its_own_process(task: Any, *arguments: Any) -> Any:
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(task, *arguments).result()


def main() -> int:
    from scrapray.segmenter.bundle import read_card

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=DEMO_BUNDLE)
    parser.add_argument("--actors", type=int, default=2, help="segmenters that share the cores")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--memory-frames", type=int, nargs=2, default=(20, 100))
    arguments = parser.parse_args()
    resources = ResourcesConfig(actors=arguments.actors, frames_per_block=FRAMES_PER_BLOCK)
    thresholds = dict.fromkeys(read_card(arguments.bundle).class_names, OUT_OF_REACH)
    segment = SegmentConfig(overlap_px=32, suspicion=OUT_OF_REACH, thresholds=thresholds)
    whole = AuditConfig(resources=resources, segment=segment)
    small = AuditConfig(resources=resources, segment=segment, cameras={CAMERA: CameraConfig(bed_polygon_px=SMALL_BED)})
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_frames(Path(folder))
        half = (drawn, max(1, arguments.frames // 2), arguments.bundle, whole)
        before = in_its_own_process(bare_loop, *half)
        measured = in_its_own_process(pipeline, drawn, arguments.frames, arguments.bundle, whole)
        after = in_its_own_process(bare_loop, *half)
        few, many = (
            in_its_own_process(pipeline, drawn, num, arguments.bundle, small)["peak_mb"]
            for num in arguments.memory_frames
        )
    bare = 2 / (1 / before + 1 / after)
    report = {
        "cores": os.cpu_count(),
        "frames": arguments.frames,
        "bare_loop_frames_per_s": [round(before, 3), round(after, 3)],
        "pipeline_frames_per_s": round(measured["frames_per_s"], 3),
        "speed_ratio": round(measured["frames_per_s"] / bare, 3),
        "memory_frames": list(arguments.memory_frames),
        "peak_mb": {role: [round(few[role]), round(many[role])] for role in few},
        "memory_ratio": {role: round(many[role] / few[role], 3) for role in few},
    }
    print(json.dumps(report, indent=2))
    holds = report["speed_ratio"] >= LEAST_SPEED_RATIO and max(report["memory_ratio"].values()) <= MOST_MEMORY_RATIO
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
