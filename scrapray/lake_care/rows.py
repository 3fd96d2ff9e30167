"""Whether the tables of one run fit together."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Tables = Mapping[str, pa.Table]


def faults_of_rows(tables: Tables) -> Iterator[str]:
    """What does not fit together in the tables of one run."""
    (run,) = tables["runs"].to_pylist()
    frames: dict[str, str] = dict(rows_of(tables["frames"], "frame_id", "status"))
    num_used = sum(status == "used" for status in frames.values())
    counted = {
        "num_frames": tables["frames"].num_rows,
        "num_used": num_used,
        "num_rejected": tables["frames"].num_rows - num_used,
        "num_loads": tables["loads"].num_rows,
    }
    for name, count in counted.items():
        if run[name] != count:
            yield f"runs says {name} = {run[name]}, the tables hold {count}"
    if len(frames) != tables["frames"].num_rows:
        yield "a frame stands twice in frames"
    yield from _faults_of_detections(tables, {name for name, status in frames.items() if status == "used"})
    yield from _faults_of_loads(tables, set(frames))


def _faults_of_detections(tables: Tables, used: set[str]) -> Iterator[str]:
    """What does not fit to the frames that were used, and to what these say was detected on them."""
    frames, detections = tables["frames"], tables["detections"]
    if len(detections["detection_id"].unique()) != detections.num_rows:
        yield "a detection stands twice in detections"
    places = set(rows_of(detections, "frame_id", "truck_id", "load_id"))
    yield from _unknown("frames of detections", {frame for frame, *_ in places} - used, "frames with status used")
    if moved := {row[0] for row in places - set(rows_of(frames, "frame_id", "truck_id", "load_id"))} & used:
        yield f"detections name another truck or load than their frame: {_some(moved)}"
    classes = frames["classes"].combine_chunks()
    found = pc.list_flatten(classes)
    of_class = {name: pc.struct_field(found, name) for name in ("class_name", "num_detections")}
    said = pa.table({"frame_id": frames["frame_id"].take(pc.list_parent_indices(classes)), **of_class})
    said = said.filter(pc.field("num_detections") > 0)
    said = said.group_by(["frame_id", "class_name"]).aggregate([("num_detections", "sum")])
    there = detections.group_by(["frame_id", "class_name"]).aggregate([([], "count_all")])
    said_rows = set(rows_of(said, "frame_id", "class_name", "num_detections_sum"))
    if differing := {row[0] for row in said_rows ^ set(rows_of(there, "frame_id", "class_name", "count_all"))}:
        yield f"detections are not as many as frames say: {_some(differing)}"


def _faults_of_loads(tables: Tables, frame_ids: set[str]) -> Iterator[str]:
    """What does not fit to the frames that loads were made of, and to trucks."""
    loads = tables["loads"]
    evidence = {frame_id for ids in loads["evidence_frame_ids"].to_pylist() for frame_id in ids}
    yield from _unknown("evidence frames of loads", evidence - frame_ids, "frames")
    names = set(rows_of(loads, "truck_id", "load_id"))
    if len(names) != loads.num_rows:
        yield "a load stands twice in loads"
    num_frames: Counter[Any] = Counter()
    num_used: Counter[Any] = Counter()
    for truck, load, status in rows_of(tables["frames"], "truck_id", "load_id", "status"):
        if load is not None:
            num_frames[truck, load] += 1
            num_used[truck, load] += status == "used"
    yield from _unknown("loads of frames", {load for _, load in set(num_frames) - names}, "loads")
    if empty := {load for _, load in names - set(num_frames)}:
        yield f"loads have no frame: {_some(empty)}"
    differing = {
        load
        for truck, load, *said in rows_of(loads, "truck_id", "load_id", "num_frames", "num_used")
        if (truck, load) in num_frames and said != [num_frames[truck, load], num_used[truck, load]]
    }
    if differing:
        yield f"loads have other numbers of frames than they say: {_some(differing)}"
    trucks = {truck for truck, _ in names if truck is not None}
    yield from _unknown("trucks of loads", trucks - set(tables["trucks"]["truck_id"].to_pylist()), "trucks")


def _unknown(what: str, names: set[Any], table: str) -> Iterator[str]:
    if names:
        yield f"{what} are not in {table}: {_some(names)}"


def _some(names: set[Any]) -> str:
    """One of them, and how many more there are."""
    return f"{min(names)}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"


def rows_of(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    """The values of some columns, row by row."""
    return zip(*(table[name].to_pylist() for name in names), strict=True)
