"""How long a year of audits takes to answer, and what is read for it.

    python benchmarks/lake_year.py [FOLDER]

Draws a lake of 365 nights at three sites with 200 loads each (made-up rows, published as an audit publishes them) into
FOLDER, where it stays for the next time, or into a folder that is removed. Then it asks what an analyst asks, each
question in a process of its own, and prints its time, the files it read and what Python and DuckDB took to start:
first of the nights as they are published, then of a second lake in which they are put together in months.
"""

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scrapray import schema
from scrapray.lake import publish_run
from scrapray.lake_care.compact import compact
from scrapray.storage import Storage

SITES = ("harbour", "north-yard", "Süd 2")
FIRST_DATE = dt.date(2025, 12, 1)
NUM_DATES = 365
AFTER_LAST_MONTH = dt.date(2026, 12, 1)
LOADS_PER_NIGHT = 200
FRAMES_PER_LOAD = 3
BED_PX = 4_000_000
CLASSES = {"motor": 2, "cable": 1, "spray can": 3}
"""Severity of each contaminant."""
SUPPLIERS = {"Alba Metalli": 0.02, "Brandt & Söhne": 0.05, "Castel Rottami": 0.10, "Delta Recycling": 0.25}
"""How many of its loads hold a contaminant of each class."""
DIRTY_SUPPLIER, DIRTY_FROM = "Castel Rottami", dt.date(2026, 9, 1)
"""From that day on this supplier brings three times as much: what a trend must show."""
MODELS = (("3", dt.date.min), ("4", dt.date(2026, 8, 17)))
"""Versions, and the night from which each was in production."""
FADING_CAMERA = "cam2"
"""Its lens gets dirtier by the day."""
FAULTS = (("quality", "blurred"), ("quality", "too_dark"), ("decode", "truncated"))
QUESTIONS = {
    "trend of a supplier, a year": "select week, num_loads, contamination_mean, reject_frac from suppliers "
    "where supplier = 'Castel Rottami' and site = 'north-yard' order by week",
    "trend of all suppliers, a year, three sites": "select * from suppliers",
    "trend of all suppliers, the last 13 weeks": "select * from suppliers where week >= '2026-08-31'",
    "loads of one night at one site": "select * from loads where date = '2026-11-20' and site = 'north-yard'",
    "frames of one night at one site": "select * from frames where date = '2026-11-20' and site = 'north-yard'",
    "contaminants by hour, a year": "select class_name, hour, sum(num_loads_with), sum(num_loads) from contaminants "
    "group by all",
    "cameras, a year": "select * from cameras",
}


def draw_lake(
    lake_uri: str,
    *,
    dates: Sequence[dt.date],
    sites: Sequence[str] = SITES,
    num_loads: int = LOADS_PER_NIGHT,
    seed: int = 1,
) -> None:
    """Publish made-up nights; the same arguments give the same tables."""
    storage = Storage()
    for date in dates:
        for number, site in enumerate(sites):
            rng = np.random.default_rng([seed, date.toordinal(), number])
            run_id = rng.bytes(8).hex()
            tables = draw_night(run_id, date, site, num_loads, rng)
            publish_run(lake_uri, run_id, date, site, tables, storage, class_names=tuple(CLASSES))


def draw_night(run_id: str, date: dt.date, site: str, num_loads: int, rng: np.random.Generator) -> dict[str, pa.Table]:
    """The tables of one night at one site."""
    same = {"run_id": run_id, "site": site, "date": date}
    frames, loads = [], []
    for number in range(num_loads):
        load = same | _arrival(number, date, rng)
        of_load = [same | frame for frame in _frames(load, rng)]
        frames += of_load
        loads.append(_load_row(load, of_load))
    tables = {
        "frames": frames,
        "detections": [detection for frame in frames for detection in _detections(frame)],
        "trucks": _truck_rows(loads),
        "runs": [_run_row(same, frames, num_loads)],
        "loads": loads,
    }
    for frame in frames:
        del frame["thing"]
    return {name: _table(rows, schema.PUBLISHED[name]) for name, rows in tables.items()}


def _table(rows: list[dict[str, Any]], columns: pa.Schema) -> pa.Table:
    """Rows as a table; what a row does not say is null."""
    return pa.Table.from_pylist(rows, schema=columns)


def _arrival(number: int, date: dt.date, rng: np.random.Generator) -> dict[str, Any]:
    """A truck that comes between 5 and 21 o'clock, each supplier with trucks of its own."""
    supplier = list(SUPPLIERS)[rng.integers(len(SUPPLIERS))]
    truck = 100 * list(SUPPLIERS).index(supplier) + int(rng.integers(1, 40))
    from_utc = dt.datetime.combine(date, dt.time(5), dt.UTC) + dt.timedelta(seconds=int(rng.integers(16 * 3600)))
    # Every 50th truck is not known to the gate.
    known = {"truck_id": f"{truck:04d}", "supplier": supplier} if number % 50 else {"truck_id": None, "supplier": None}
    return {**known, "load_id": f"L{number:03d}", "from_utc": from_utc}


def _frames(load: dict[str, Any], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Frames of a load, 20 seconds apart; ``thing`` is the class and score of what is seen, None for nothing."""
    share = SUPPLIERS.get(load["supplier"], 0.05)
    if load["supplier"] == DIRTY_SUPPLIER and load["date"] >= DIRTY_FROM:
        share *= 3
    brought = list(CLASSES)[rng.integers(len(CLASSES))] if rng.random() < share else None
    area_px = int(rng.lognormal(7.5, 1.0))
    camera = f"cam{rng.integers(1, 4)}"
    fading = 0.0008 * (load["date"] - FIRST_DATE).days if camera == FADING_CAMERA else 0.0
    for number in range(FRAMES_PER_LOAD):
        fault = FAULTS[rng.integers(len(FAULTS))] if rng.random() < 0.03 + fading / 2 else None
        is_seen = brought is not None and fault is None and rng.random() < 0.85
        seen_px = 0 if fault else int(BED_PX * rng.uniform(0.85, 1.0))
        thing = (brought, float(rng.uniform(0.6, 0.99)), area_px) if is_seen else None
        yield {
            "frame_id": f"{load['run_id']}-{load['load_id']}-{number}",
            "uri": f"s3://yard-archive/{load['site']}/{load['date']}/{load['load_id']}/{camera}_{number}.jpg",
            "etag": f"{number}",
            "size_bytes": 1_800_000,
            "camera_id": camera,
            "taken_utc": load["from_utc"] + dt.timedelta(seconds=20 * number),
            "truck_id": load["truck_id"],
            "load_id": load["load_id"],
            "supplier": load["supplier"],
            "load_source": "key",
            "status": "rejected" if fault else "used",
            "reject_stage": fault and fault[0],
            "reject_reason": fault and fault[1],
            "thing": thing,
            **_measures(fault, seen_px, thing, fading, rng),
        }


def _measures(
    fault: tuple[str, str] | None,
    seen_px: int,
    thing: tuple[Any, float, int] | None,
    fading: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What is measured of a frame: nothing where it cannot be decoded, no areas where its quality is too low."""
    if fault and fault[0] == "decode":
        return {}
    picture = {
        "height_px": 2160,
        "width_px": 3840,
        "bed_area_px": BED_PX,
        "sharpness": rng.normal(0.9, 0.05) - fading,
        "brightness": rng.normal(0.45, 0.03) - fading / 2,
        "dark_frac": 0.05,
        "bright_frac": 0.01,
        "color_cast": 0.02,
    }
    if fault:
        return picture
    peaks = rng.beta(2, 12, len(CLASSES))
    classes: list[dict[str, Any]] = [
        {"class_name": name, "area_px": thing[2], "num_detections": 1, "max_score": thing[1], "peak_score": thing[1]}
        if thing and thing[0] == name
        else {"class_name": name, "area_px": 0, "num_detections": 0, "max_score": 0.0, "peak_score": float(peak)}
        for name, peak in zip(CLASSES, peaks, strict=True)
    ]
    return picture | {
        "seen_area_px": seen_px,
        "coverage_frac": seen_px / BED_PX,
        "contaminated_area_px": thing[2] if thing else 0,
        "peak_score": max(each["peak_score"] for each in classes),
        "classes": classes,
    }


def _detections(frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if frame["thing"]:
        name, score, area_px = frame["thing"]
        side = max(int(area_px**0.5), 1)
        yield {name: frame[name] for name in schema.DETECTIONS.names if name in frame} | {
            "detection_id": f"{frame['frame_id']}-000",
            "class_name": name,
            "score": score,
            "severity": CLASSES[name],
            "bbox": {"x_min_px": 900, "y_min_px": 700, "x_max_px": 900 + side, "y_max_px": 700 + side},
            "area_px": area_px,
            "area_frac": area_px / frame["seen_area_px"],
            "mask": {"height_px": 2160, "width_px": 3840, "counts": "0"},
        }


def _load_row(load: dict[str, Any], frames: list[dict[str, Any]]) -> dict[str, Any]:
    used = [frame for frame in frames if frame["status"] == "used"]
    found = [frame for frame in used if frame["thing"]]
    seen_px = sum(frame["seen_area_px"] for frame in used)
    area_px = sum(frame["contaminated_area_px"] for frame in used)
    return load | {
        "camera_ids": [frames[0]["camera_id"]],
        "until_utc": frames[-1]["taken_utc"],
        "num_frames": len(frames),
        "num_used": len(used),
        "num_rejected": len(frames) - len(used),
        "seen_area_px": seen_px,
        "classes": [_class_of_load(name, found, len(used), seen_px) for name in CLASSES],
        "evidence_frame_ids": [frame["frame_id"] for frame in found],
        **_judged(area_px, seen_px, len(used), found),
    }


def _class_of_load(name: str, found: list[dict[str, Any]], num_used: int, seen_px: int) -> dict[str, Any]:
    things = [frame["thing"] for frame in found if frame["thing"][0] == name]
    best = max((score for _, score, _ in things), default=0.0)
    return {
        "class_name": name,
        "severity": CLASSES[name],
        "area_frac": sum(area_px for _, _, area_px in things) / seen_px if seen_px else 0.0,
        "count": int(len(things) >= min(num_used, 2)) if things else 0,
        "max_score": best,
        "certainty": max((best - 0.5) / 0.5, 0.0),
    }


def _judged(area_px: int, seen_px: int, num_used: int, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Contamination and verdict, by rules that are like those of an audit."""
    frac = area_px / seen_px if seen_px else None
    severity = CLASSES[found[0]["thing"][0]] if len(found) >= min(num_used, 2) and found else 0
    verdict = "reject" if severity == 3 else "review" if severity or not num_used else "accept"
    return {
        "coverage_frac": seen_px / (BED_PX * num_used) if num_used else None,
        "contamination_frac": frac,
        "contamination_low": None if frac is None else frac * 0.4,
        "contamination_high": None if frac is None else frac * 2 + 0.001,
        "contamination_method": "none" if frac is None else "ratio+block-bootstrap+split-conformal",
        "worst_severity": severity,
        "verdict": verdict,
        "verdict_rule": {"reject": "highest_severity", "review": "contaminant", "accept": "no_rule"}[verdict],
        "verdict_reason": f"{found[0]['thing'][0]} in {len(found)} of {num_used} frames" if found else "nothing found",
    }


def _truck_rows(loads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per known truck: the worst of its loads, with the contamination of that load."""
    worst: dict[str, dict[str, Any]] = {}
    for load in loads:
        truck = load["truck_id"]
        if truck and (truck not in worst or load["worst_severity"] > worst[truck]["worst_severity"]):
            worst[truck] = load
    return [
        {name: load[name] for name in schema.TRUCKS.names if name in load}
        | {
            "num_loads": sum(each["truck_id"] == truck for each in loads),
            "num_used": sum(each["num_used"] for each in loads if each["truck_id"] == truck),
        }
        for truck, load in sorted(worst.items())
    ]


def _run_row(same: dict[str, Any], frames: list[dict[str, Any]], num_loads: int) -> dict[str, Any]:
    version = [version for version, since in MODELS if since <= same["date"]][-1]
    finished = dt.datetime.combine(same["date"] + dt.timedelta(days=1), dt.time(4), dt.UTC)
    num_used = sum(frame["status"] == "used" for frame in frames)
    return same | {
        "started_utc": finished - dt.timedelta(hours=3),
        "finished_utc": finished,
        "model_uri": f"models:/scrap-segmenter/{version}",
        "model_name": "scrap-segmenter",
        "model_version": version,
        "weights_sha256": version * 64,
        "config_json": '{"archive": {"time_zone": "Europe/Rome"}}',
        "config_sha256": "c" * 64,
        "code_version": "0.1.0",
        "num_frames": len(frames),
        "num_used": num_used,
        "num_rejected": len(frames) - num_used,
        "num_loads": num_loads,
        "num_computed": len(frames),
        "segment_s": 9000.0,
    }


def answer(lake_uri: str, question: str) -> None:
    """Answer one question, and say what it took."""
    begin = time.perf_counter()
    from scrapray.report.queries import ask, open_lake

    connection = open_lake(lake_uri, Storage())
    opened, busy_before = time.perf_counter(), time.process_time()
    table = ask(connection, QUESTIONS[question])
    took, busy = time.perf_counter() - opened, time.process_time() - busy_before
    plan = connection.execute("explain analyze " + QUESTIONS[question]).fetchall()[0][1]
    files = sum(int(number) for number in re.findall(r"Total Files Read: (\d+)", plan))
    (read,) = re.findall(r"Data Read:\s+(.+?)\s*│", plan)
    print(
        f"{question:45} {took:6.2f} s ({busy:5.2f} s of CPU) {table.num_rows:>7,} rows {files:>5,} files {read:>9}"
        f"  start {opened - begin:.1f} s",
        flush=True,
    )


def measure(lake: Path) -> None:
    if not (lake / "loads").exists():
        begin = time.perf_counter()
        draw_lake(str(lake), dates=[FIRST_DATE + dt.timedelta(days=day) for day in range(NUM_DATES)])
        print(f"drawn in {time.perf_counter() - begin:.0f} s")
    months = lake / "put together"
    if not months.exists():
        for name in schema.PUBLISHED:
            shutil.copytree(lake / name, months / name, copy_function=os.link)
        begin = time.perf_counter()
        done = compact(str(months), AFTER_LAST_MONTH, Storage(), today=AFTER_LAST_MONTH)
        print(f"{done.num_nights} nights put together in {time.perf_counter() - begin:.0f} s")
    for place in (lake, months):
        for name in schema.PUBLISHED:
            files = list((place / name).glob("*/*/*.parquet"))
            print(f"{name:12} {len(files):>5,} files {sum(file.stat().st_size for file in files) / 1e6:8.1f} MB")
    for question in QUESTIONS:
        for place in (lake, months):
            subprocess.run([sys.executable, __file__, str(place), question], check=True)


if __name__ == "__main__":
    if sys.argv[2:]:
        answer(sys.argv[1], sys.argv[2])
    elif sys.argv[1:]:
        measure(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder))
