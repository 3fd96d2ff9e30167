"""Second pass: results of frames -> published tables, one date and site at a time.

The workers of the first pass see one frame each. What takes several frames to know is worked out here: repeated
frames, loads, trucks. All of it is pure until ``publish`` hands the tables to the lake.
"""

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scrapray import lake, schema
from scrapray.audit.results import read_results
from scrapray.errors import SchemaError
from scrapray.statistics.loads import Reading, judge_loads, load_row, truck_rows
from scrapray.statistics.repeats import Look, find_repeats
from scrapray.storage import Storage

Tables = dict[str, pa.Table]
Night = tuple[dt.date, str]
"""One date at one site."""

_ORDER = [("truck_id", "ascending"), ("load_id", "ascending"), ("taken_utc", "ascending"), ("frame_id", "ascending")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One audit, as ``schema.RUNS`` has it, but for what is counted per date and site.

    ``num_computed`` and ``segment_s`` are those of the whole run, and stand beside each of its dates and sites.
    """

    run_id: str
    started_utc: dt.datetime
    finished_utc: dt.datetime
    model_uri: str
    model_name: str
    model_version: str
    weights_sha256: str
    config_json: str
    config_sha256: str
    code_version: str
    num_computed: int
    segment_s: float


@dataclass(frozen=True, slots=True)
class Published:
    """What a run has published, over its dates and sites; merges.

    Attributes:
        loads: Rows of ``schema.LOADS``.
        num_used: Frames that counted.
        rejected: Number of the other frames by stage and reason.
    """

    loads: tuple[dict[str, Any], ...] = ()
    num_used: int = 0
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, tables: Tables) -> "Published":
        """What the tables of one date and site hold."""
        frames = tables["frames"].select(["status", "reject_stage", "reject_reason"]).to_pylist()
        rejected = Counter((row["reject_stage"], row["reject_reason"]) for row in frames if row["status"] == "rejected")
        return cls(tuple(tables["loads"].to_pylist()), len(frames) - rejected.total(), rejected)

    def __add__(self, other: "Published") -> "Published":
        return Published(self.loads + other.loads, self.num_used + other.num_used, self.rejected + other.rejected)


def build_tables(
    date: dt.date,
    site: str,
    manifest: pa.Table,
    results: pa.Table,
    *,
    run: Run,
    reading: Reading,
    max_frozen_difference: float,
) -> Tables:
    """All published tables of one date and site.

    Args:
        date: The night.
        site: The yard.
        manifest: Their rows of the manifest.
        results: The results of its frames, in any order, at most one row each.
        run: What produced them.
        reading: How frames are read into loads.
        max_frozen_difference: Largest mean difference between two thumbnails of one picture, share of full scale.

    Returns:
        Tables by name, exactly of ``schema.PUBLISHED`` and sorted by truck, load and time.

    Raises:
        SchemaError: A frame that should have been audited has no result.
    """
    manifest = manifest.sort_by(_ORDER)
    results = _aligned(manifest, results)
    frames = _frames(manifest, results, run.run_id, max_frozen_difference)
    loads = judge_loads(frames, reading)
    tables = {
        "frames": frames,
        "detections": _detections(frames, results),
        "trucks": _table(schema.TRUCKS, truck_rows(loads, reading), run_id=run.run_id),
        "runs": _table(schema.RUNS, [_run_row(run, frames, len(loads))], date=date, site=site),
        "loads": _table(schema.LOADS, [load_row(load, reading.severities) for load in loads], run_id=run.run_id),
    }
    assert tables["frames"].num_rows == manifest.num_rows, "frames in must be frames out"
    return tables


def publish(
    nights: Sequence[Night],
    manifest: pa.Table,
    stored: pa.Table,
    lake_uri: str,
    *,
    run: Run,
    reading: Reading,
    max_frozen_difference: float,
    storage: Storage,
) -> Published:
    """Publish a run, one date and site after the other; memory holds one of them at a time.

    Args:
        nights: Dates and sites to publish; one without frames gets typed, empty tables.
        manifest: All frames of the run.
        stored: Where its results lie, see ``find_results``; may hold those of other frames too.
        lake_uri: Where to publish.
        run: What produced the results.
        reading: How frames are read into loads.
        max_frozen_difference: See ``build_tables``.
        storage: The door to both.

    Returns:
        What a person wants to know of it.

    Raises:
        SchemaError: A frame has no result or two, or a file of results is damaged; nothing of its date and site is
            published.
        StorageError: Storage failed; no date and site is half published.
    """
    total = Published()
    for date, site in nights:
        rows = manifest.filter((pc.field("date") == date) & (pc.field("site") == site))
        results = read_results(stored, rows["frame_id"], storage)
        tables = build_tables(
            date, site, rows, results, run=run, reading=reading, max_frozen_difference=max_frozen_difference
        )
        lake.publish_run(lake_uri, run.run_id, date, site, tables, storage, class_names=tuple(reading.severities))
        total += Published.of(tables)
    return total


def nights_of(manifest: pa.Table) -> list[Night]:
    """Dates and sites of a manifest, sorted."""
    pairs = manifest.group_by(["date", "site"]).aggregate([])
    return sorted(zip(pairs["date"].to_pylist(), pairs["site"].to_pylist(), strict=True))


def _aligned(manifest: pa.Table, results: pa.Table) -> pa.Table:
    """Results in the order of the manifest, a row of nulls where a frame has none."""
    if len(pc.unique(results["frame_id"])) != results.num_rows:
        raise SchemaError("a frame has more than one result; delete the folder of unfinished work and run again")
    places = pc.index_in(manifest["frame_id"], value_set=results["frame_id"].combine_chunks())
    missing = pc.sum(pc.and_(pc.is_null(places), pc.is_null(manifest["reject_stage"]))).as_py() or 0
    if missing:
        raise SchemaError(
            f"{missing} frames of the manifest have no result; run the audit again, it goes on from there"
        )
    return results.take(places)


def _frames(manifest: pa.Table, results: pa.Table, run_id: str, max_frozen_difference: float) -> pa.Table:
    """The frames table: identity from the manifest, measures from the results, and who has the last word on use."""
    repeats = find_repeats(_looks(manifest, results), max_difference=max_frozen_difference)
    says = {name: results[name].to_pylist() for name in ("status", "reject_stage", "reject_reason")}
    says["duplicate_of"] = manifest["duplicate_of"].to_pylist()
    for row, (frame_id, stage, reason) in enumerate(
        zip(*(manifest[name].to_pylist() for name in ("frame_id", "reject_stage", "reject_reason")), strict=True)
    ):
        if stage is not None:
            _reject(says, row, stage, reason)
        elif repeat := repeats.get(frame_id):
            _reject(says, row, repeat.stage, repeat.reason)
            says["duplicate_of"][row] = repeat.of
    columns = {
        **{name: results[name] for name in results.column_names},
        **{name: manifest[name] for name in manifest.column_names},
        **says,
        "run_id": [run_id] * manifest.num_rows,
    }
    return pa.table([_column(columns[field.name], field) for field in schema.FRAMES], schema=schema.FRAMES)


def _reject(says: dict[str, list[Any]], row: int, stage: str, reason: str | None) -> None:
    says["status"][row], says["reject_stage"][row], says["reject_reason"][row] = "rejected", stage, reason


def _looks(manifest: pa.Table, results: pa.Table) -> Iterator[Look]:
    """What the usable frames look like."""
    places = manifest.select(["frame_id", "site", "truck_id", "load_id", "camera_id", "taken_utc"]).to_pylist()
    pictures = results.select(["status", "content_sha256", "thumbnail"]).to_pylist()
    for place, picture in zip(places, pictures, strict=True):
        if picture["status"] == "used":
            load_key = (place["site"], place["truck_id"], place["load_id"]) if place["load_id"] else None
            camera_key = (place["site"], place["camera_id"]) if place["camera_id"] else None
            yield Look(
                frame_id=place["frame_id"],
                load_key=load_key,
                camera_key=camera_key,
                taken_utc=place["taken_utc"],
                content_sha256=picture["content_sha256"],
                thumbnail=picture["thumbnail"],
            )


def _detections(frames: pa.Table, results: pa.Table) -> pa.Table:
    """Detections of used frames, one row each, in the order of frames."""
    is_used = pc.equal(frames["status"], "used")
    frames, found = frames.filter(is_used), results["detections"].filter(is_used).combine_chunks()
    parents = pc.list_parent_indices(found)
    numbers = np.arange(len(parents)) - np.searchsorted(parents, parents)
    of_frame = frames.take(parents)
    flat = pc.list_flatten(found)
    names = [
        f"{frame_id}-{number:03d}" for frame_id, number in zip(of_frame["frame_id"].to_pylist(), numbers, strict=True)
    ]
    columns = {
        **{name: of_frame[name] for name in of_frame.column_names},
        **{field.name: pc.struct_field(flat, field.name) for field in flat.type},
        "detection_id": names,
    }
    return pa.table([_column(columns[field.name], field) for field in schema.DETECTIONS], schema=schema.DETECTIONS)


def _column(values: pa.ChunkedArray | list[Any], field: pa.Field) -> pa.ChunkedArray | pa.Array:
    return pa.array(values, type=field.type) if isinstance(values, list) else values.cast(field.type)


def _run_row(run: Run, frames: pa.Table, num_loads: int) -> dict[str, Any]:
    num_used = pc.sum(pc.equal(frames["status"], "used")).as_py() or 0
    return {
        **asdict(run),
        "num_frames": frames.num_rows,
        "num_used": num_used,
        "num_rejected": frames.num_rows - num_used,
        "num_loads": num_loads,
    }


def _table(columns: pa.Schema, rows: list[dict[str, Any]], **same: Any) -> pa.Table:
    """A table of rows, to each of which the same values are added."""
    return pa.Table.from_pylist([{**row, **same} for row in rows], schema=columns)
