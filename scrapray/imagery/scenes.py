"""Drawn scrap, ready to use: training tiles without end, archives of truck loads, and a sheet to look at."""

import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np

from scrapray.imagery import camera as cameras
from scrapray.imagery import lighting, parts
from scrapray.imagery.drawing import Bytes, Random, Sprite, as_bytes, pick
from scrapray.imagery.heap import Corners, Heap
from scrapray.imagery.layers import Loader, Placed, draw_stock
from scrapray.imagery.loads import DrawnFrame, DrawnLoad, DrawnObject, SceneSettings, draw_load, random_size, shoot

__all__ = [
    "DrawnFrame",
    "DrawnLoad",
    "DrawnObject",
    "SceneSettings",
    "contact_sheet",
    "draw_archive",
    "draw_frames",
    "draw_load",
    "draw_tiles",
]

CAMERA_ID = "crane-1"


def draw_tiles(
    seed: int,
    tile_px: int = 512,
    contaminated_share: float = 0.5,
    settings: SceneSettings | None = None,
    cell_px: int | None = None,
) -> Iterator[tuple[Bytes, Bytes]]:
    """Draw training tiles without end: windows of truck beds, cut into squares and shuffled.

    Args:
        seed: The same arguments draw the same bytes.
        tile_px: Side of a tile.
        contaminated_share: Share of cells, of those that show scrap, into which a contaminant is put.
        settings: Scale and sizes of things; that of 4K frames by default.
        cell_px: Side of the squares that get a contaminant, a hard negative or neither; a tile's by default.

    Yields:
        Picture (tile_px, tile_px, 3), RGB, and class index per pixel (tile_px, tile_px), both uint8.
    """
    settings = settings or SceneSettings()
    per_side = max(round(1536 * settings.scale / tile_px), 2)
    scene = 0
    while True:
        rng = np.random.default_rng((seed, 1, scene))
        image_HW3, class_HW = _draw_window(rng, settings, tile_px * per_side, cell_px or tile_px, contaminated_share)
        for cell in rng.permutation(per_side**2):
            y, x = (part * tile_px for part in divmod(int(cell), per_side))
            here = np.s_[y : y + tile_px, x : x + tile_px]
            yield image_HW3[here].copy(), class_HW[here].copy()
        scene += 1


def _draw_window(
    rng: Random, settings: SceneSettings, side: int, cell_px: int, contaminated_share: float
) -> tuple[Bytes, Bytes]:
    """Draw a square window of a bed in which each cell gets a contaminant, a hard negative or neither."""
    scale, per_side = settings.scale, side // cell_px
    bed_xy = _seen_from_window(rng, settings.bed_polygon_px, side)
    heap = Heap(rng, (side, side), bed_xy, scale)
    loader = Loader(rng, heap, draw_stock(rng, scale, max(settings.num_parts // 4, 1)), bed_xy)
    specials: list[Placed] = []
    for cell in range(per_side**2):
        if rng.random() < contaminated_share:
            name = pick(rng, parts.CONTAMINANTS)
        elif rng.random() < 0.6:
            name = pick(rng, parts.HARD_NEGATIVES)
        else:
            continue
        length = random_size(rng, settings)
        row, column = divmod(cell, per_side)
        margin = min(length / 2, cell_px / 2)
        x, y = (rng.uniform(start * cell_px + margin, (start + 1) * cell_px - margin) for start in (column, row))
        specials.append((name, length, x, y))
    loader.add_window(specials, side, cover=rng.uniform(1.2, 2.8))
    light, camera = lighting.random_light(rng), cameras.random_camera(rng, scale)
    jpeg, object_HW = shoot(rng, heap, light, camera, scale)
    return cameras.develop(jpeg), loader.class_of_object()[object_HW]


def _seen_from_window(rng: Random, bed_xy: Corners, side_px: int) -> Corners:
    """The bed from a window that lies within it, or in one of three cases over its edge."""
    low, high = np.min(bed_xy, 0), np.max(bed_xy, 0)
    over = (0.25 if rng.random() < 1 / 3 else 0.0) * side_px
    corner = rng.uniform(low - over, np.maximum(high - side_px, low) + over)
    return [(x - float(corner[0]), y - float(corner[1])) for x, y in bed_xy]


def draw_frames(seed: int, settings: SceneSettings | None = None) -> Iterator[tuple[Bytes, Bytes]]:
    """Draw the frames of one load after the other, without end.

    Args:
        seed: The same arguments draw the same bytes.
        settings: What loads are drawn like; 4K by default.

    Yields:
        Picture (H, W, 3), RGB, and class index per pixel (H, W), both uint8.
    """
    rng = np.random.default_rng((seed, 4))
    while True:
        for frame in draw_load(int(rng.integers(2**62)), settings).frames:
            yield frame.image_HW3, frame.class_HW


def draw_archive(
    out_dir: Path,
    *,
    num_loads: int,
    frames_per_load: int = 6,
    seed: int = 1,
    settings: SceneSettings | None = None,
    site: str = "north-yard",
    date: dt.date = dt.date(2026, 11, 20),
    masks: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw one day of a yard: frames, settings of an audit for them, and the truth.

    Writes ``<site>/<date>/<truck>/<load>/<camera>_<time>.jpg``, ``audit.toml`` and ``truth.json``: per load its
    truck, whether it is contaminated and how much, the number and largest size of each class, its objects, and its
    frames. One load at a time is held in memory.

    Args:
        out_dir: Folder to write; made when it is not there.
        num_loads: Loads to draw; some trucks bring two or three.
        frames_per_load: Frames of each load.
        seed: The same arguments write the same bytes.
        settings: What loads are drawn like; ``contaminated_share`` of them, rounded, hold contaminants.
        site: Name of the yard.
        date: The day.
        masks: Write the class mask of each frame beside it, as PNG.
        progress: Called with frames drawn and frames to draw.
    """
    settings = replace(settings or SceneSettings(), num_frames=frames_per_load)
    rng = np.random.default_rng((seed, 2))
    contaminated = rng.permutation(num_loads) < round(settings.contaminated_share * num_loads)
    arrivals = _arrivals(rng, num_loads, dt.datetime.combine(date, dt.time(5, 30)))
    truth = []
    for number, (truck_id, load_id, began) in enumerate(arrivals):
        load = draw_load(int(rng.integers(2**62)), replace(settings, contaminated_share=float(contaminated[number])))
        keys = []
        for place, frame in enumerate(load.frames):
            began += dt.timedelta(seconds=int(rng.integers(40, 110)))
            keys.append(f"{site}/{date}/{truck_id}/{load_id}/{CAMERA_ID}_{began:%H%M%S}.jpg")
            path = out_dir / keys[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(frame.jpeg)
            if masks:
                path.with_suffix(".png").write_bytes(bytes(cv2.imencode(".png", frame.class_HW)[1]))
            if progress:
                progress(number * frames_per_load + place + 1, num_loads * frames_per_load)
        truth.append({"site": site, "date": str(date), "truck_id": truck_id, "load_id": load_id, **_truth(load, keys)})
    (out_dir / "audit.toml").write_text(_audit_toml(settings.bed_polygon_px), encoding="utf-8")
    text = json.dumps({"classes": parts.CONTAMINANTS, "seed": seed, "loads": truth}, indent=1)
    (out_dir / "truth.json").write_text(text + "\n", encoding="utf-8")


def _arrivals(rng: Random, num_loads: int, first: dt.datetime) -> Iterator[tuple[str, str, dt.datetime]]:
    """Truck, load and time of each unloading; ids of trucks have leading zeros, as they do."""
    trucks = rng.choice(np.arange(1, 1000), num_loads, replace=False)
    truck, left, began = 0, 0, first
    for number in range(num_loads):
        if left == 0:
            truck, left = truck + 1, int(rng.choice([1, 1, 2, 3]))
        left -= 1
        yield f"{trucks[truck - 1]:04d}", f"L{number + 1:03d}", began
        began += dt.timedelta(minutes=int(rng.integers(18, 30)))


def _truth(load: DrawnLoad, keys: list[str]) -> dict[str, object]:
    """What ``truth.json`` says about one load."""
    seen = [thing for thing in load.objects if any(thing.area_px)]
    per_class = {}
    for index, name in enumerate(parts.CONTAMINANTS, 1):
        sizes = [thing.size_px for thing in seen if thing.class_index == index]
        per_class[name] = {"count": len(sizes), "largest_px": round(max(sizes, default=0.0), 1)}
    return {
        "contaminated": load.contamination_frac > 0,
        "contamination_frac": load.contamination_frac,
        "bed_area_px": load.bed_area_px,
        "classes": per_class,
        "objects": [asdict(thing) for thing in seen],
        "frames": [
            {"key": key, "contamination_frac": share}
            for key, share in zip(keys, load.contamination_per_frame, strict=True)
        ],
    }


def _audit_toml(bed_polygon_px: Corners) -> str:
    corners = ", ".join(f"[{x:.0f}, {y:.0f}]" for x, y in bed_polygon_px)
    return f"""# Settings for the audit of this drawn archive.
[archive]
key_pattern = "{{site}}/{{date}}/{{truck_id}}/{{load_id}}/{{camera_id}}_{{time}}.jpg"
date_format = "%Y-%m-%d"
time_format = "%H%M%S"
time_zone = "UTC"
suffixes = [".jpg"]

[cameras."{CAMERA_ID}"]
bed_polygon_px = [{corners}]

# Less than the default, so that there are fewer tiles and a laptop is done sooner.
[segment]
overlap_px = 32

# Two small segmenters that share a laptop's cores do more than one that has them all. Small blocks, so that progress is
# seen on a short night.
[resources]
actors = 2
frames_per_block = 2
"""


def contact_sheet(seed: int = 1) -> Bytes:
    """One picture of everything: a load's first and last frame, details in full resolution, single things.

    Returns:
        RGB, uint8 (1340, 1920, 3); contaminants in the details are outlined.
    """
    load = draw_load(seed, SceneSettings(contaminated_share=1.0))
    shown = (load.frames[0].image_HW3, load.frames[-1].image_HW3)
    frames = [as_bytes(cv2.resize(image, (960, 540), interpolation=cv2.INTER_AREA)) for image in shown]
    rng = np.random.default_rng((seed, 3))
    details = [_marked_tile(seed + place) for place in range(4)]
    names = [name for name in parts.CONTAMINANTS for _ in range(4)] + [*parts.HARD_NEGATIVES * 2]
    portraits = [_portrait(rng, parts.draw_part(name, rng, 140), 160) for name in names]
    rows: list[list[Bytes]] = [frames, details, portraits[:12], portraits[12:]]
    return np.vstack([np.hstack(row) for row in rows])


def _marked_tile(seed: int) -> Bytes:
    """A tile with a contaminant that shows well, outlined."""
    tiles = draw_tiles(seed, 480, 0.9)
    image_HW3, class_HW = next((image, classes) for image, classes in tiles if (classes > 0).sum() > 1500)
    outlines = cv2.findContours((class_HW > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return as_bytes(cv2.drawContours(image_HW3, outlines, -1, (255, 60, 255), 1))


def _portrait(rng: Random, sprite: Sprite, side_px: int) -> Bytes:
    """One thing on a plain ground."""
    heap = Heap(rng, (side_px, side_px), ((0, 0), (side_px, 0), (side_px, side_px), (0, side_px)), 1.0)
    heap.rgb_HW3[:], heap.height_HW[:] = 105, 0
    heap.drop(sprite, side_px / 2, side_px / 2)
    lit_HW3 = lighting.shade(heap.rgb_HW3, heap.height_HW, heap.gloss_HW, lighting.random_light(rng))
    return as_bytes(cv2.convertScaleAbs(lit_HW3, alpha=255))
