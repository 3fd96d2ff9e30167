"""Pictures of a report: chosen without looking at a frame, then cut out of the frames in parallel on Ray, each once.

A picture shows what the audit saw: a frame whose bytes are others now is not shown, whatever it holds.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from numpy.typing import NDArray

from scrapray import cluster
from scrapray.errors import FrameError, StorageError
from scrapray.imagery.decode import decode_frame
from scrapray.imagery.views import Box, encode_view
from scrapray.report.names import picture_name
from scrapray.report.night import Load, Row
from scrapray.storage import Storage, join

PICTURES = "pictures"
MAX_CLOSE_UPS = 12
"""Of a load."""
MAX_CLOSE_UP_PIXELS = 1_200_000
"""Of all close-ups of a load together: with three overviews, 200 loads of the finest scrap stay below 200 MB."""
OVERVIEW_WIDTH_PX = 1280
_MIN_CLOSE_UP_PX = 240
_MAX_CLOSE_UP_PX = 1200
_SURROUNDINGS = 1.6
"""Width of a close-up as a multiple of that of the detection."""
_FRAMES_PER_TASK = 4
_CPUS = 2
_PATIENCE_S = 600.0
Progress = Callable[[int, int], None]
"""Takes the number of finished frames and of all frames."""

_PICTURE = pa.struct(
    [
        *(pa.field(side, pa.int32(), nullable=False) for side in ("x0", "y0", "x1", "y1")),
        pa.field("width_px", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
    ]
)
_ORDERS = pa.schema(
    [
        pa.field("content_sha256", pa.string(), nullable=False),
        pa.field("uris", pa.list_(pa.string()), nullable=False),
        pa.field("num_pixels", pa.int64(), nullable=False),
        pa.field("pictures", pa.list_(_PICTURE), nullable=False),
    ]
)
"""What workers are told: one row per content, with all places where it lies and the pictures to be cut out of it."""
_DELIVERIES = pa.schema(
    [
        pa.field("content_sha256", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("data", pa.large_binary()),
        pa.field("fault", pa.string()),
    ]
)
"""What they give back: one row per picture, with its data or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A picture of a part of a frame, or of all of it.

    Attributes:
        frame: Row of ``schema.FRAMES``.
        box_xyxy: The part.
        width_px: Width of the picture.
        detection: The row of ``schema.DETECTIONS`` that it shows; None for an overview.
    """

    frame: Row
    box_xyxy: Box
    width_px: int
    detection: Row | None = None

    @property
    def name(self) -> str:
        """Of its file."""
        return picture_name(self.frame["content_sha256"], self.box_xyxy, self.width_px)

    @property
    def reduction(self) -> float:
        """Frame pixels per pixel of the picture, each way; 1 at full resolution."""
        return (self.box_xyxy[2] - self.box_xyxy[0]) / self.width_px


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a load's page shows in pictures.

    Attributes:
        overviews: Whole frames: its evidence frames; without any, the frame that the segmenter found most suspicious;
            without a used one, one that was left out.
        close_ups: Detections, worst first.
        left_out: Detections without a picture, worst first.
    """

    overviews: tuple[View, ...]
    close_ups: tuple[View, ...]
    left_out: tuple[Row, ...]

    @property
    def views(self) -> tuple[View, ...]:
        """All pictures."""
        return self.overviews + self.close_ups


def choose_evidence(load: Load) -> Evidence:
    """Choose the pictures of a load: the best sight of each contaminant, then what its evidence frames show."""
    frames = {frame["frame_id"]: frame for frame in load.frames}
    shown = [frames[name] for name in load.row["evidence_frame_ids"] if name in frames] or _most_suspicious(load)
    names = {frame["frame_id"] for frame in shown}
    best = {row["class_name"]: row for row in reversed(load.detections)}
    best_ids = {row["detection_id"] for row in best.values()}
    wanted = [row for row in load.detections if row["detection_id"] in best_ids]
    wanted += [row for row in load.detections if row["detection_id"] not in best_ids and row["frame_id"] in names]
    close_ups = tuple(_within_budget(_close_up(row, frames[row["frame_id"]]) for row in wanted))
    pictured = {view.detection["detection_id"] for view in close_ups if view.detection}
    return Evidence(
        overviews=tuple(map(_overview, shown)),
        close_ups=tuple(sorted(close_ups, key=lambda view: load.detections.index(view.detection))),
        left_out=tuple(row for row in load.detections if row["detection_id"] not in pictured),
    )


def _most_suspicious(load: Load) -> list[Row]:
    """The frame of a load in which nothing was found that comes nearest to it; of frames left out, one that opens."""
    used = [frame for frame in load.frames if frame["status"] == "used"]
    opened = [frame for frame in load.frames if frame["width_px"]]
    return [max(used, key=lambda frame: frame["peak_score"] or 0.0)] if used else opened[:1]


def _within_budget(views: Iterable[View]) -> Iterator[View]:
    """The first of some views, with fewer pixels than ``MAX_CLOSE_UP_PIXELS`` together."""
    num_views = num_pixels = 0
    for view in views:
        x0, y0, x1, y1 = view.box_xyxy
        size = round((x1 - x0) * (y1 - y0) / view.reduction**2)
        if num_views < MAX_CLOSE_UPS and num_pixels + size <= MAX_CLOSE_UP_PIXELS:
            num_views, num_pixels = num_views + 1, num_pixels + size
            yield view


def _overview(frame: Row) -> View:
    width, height = frame["width_px"], frame["height_px"]
    return View(frame=frame, box_xyxy=(0, 0, width, height), width_px=min(width, OVERVIEW_WIDTH_PX))


def _close_up(detection: Row, frame: Row) -> View:
    """A part around a detection, four wide and three high, inside the frame."""
    box = detection["bbox"]
    x0, y0, x1, y1 = (box[side] for side in ("x_min_px", "y_min_px", "x_max_px", "y_max_px"))
    width = max(_MIN_CLOSE_UP_PX, round(_SURROUNDINGS * max(x1 - x0, (y1 - y0) * 4 / 3)))
    left, right = _around(x0, x1, width, frame["width_px"])
    top, bottom = _around(y0, y1, round(width * 3 / 4), frame["height_px"])
    return View(
        frame=frame,
        box_xyxy=(left, top, right, bottom),
        width_px=min(right - left, _MAX_CLOSE_UP_PX),
        detection=detection,
    )


def _around(low: int, high: int, length: int, limit: int) -> tuple[int, int]:
    """A stretch of some length around another, moved so that it lies between 0 and a limit."""
    length = min(length, limit)
    start = min(max(0, (low + high - length) // 2), limit - length)
    return start, start + length


def make_pictures(
    views: Iterable[View], out_uri: str, storage: Storage, progress: Progress = lambda done, total: None
) -> dict[str, str]:
    """Make the pictures that are not there yet, in parallel on Ray; one frame is read and decoded once.

    Args:
        views: All pictures of the report.
        out_uri: The report; pictures lie in a folder of it.
        storage: Opens the archive and the report.
        progress: Called as frames are finished.

    Returns:
        Why a picture could not be made, by its name. One that was there already counts, whatever became of its frame.

    Raises:
        ConfigurationError: Ray cannot be had.
        StorageError: The archive cannot be reached or the report not be written; that a frame is gone is no error.
    """
    folder = join(out_uri, PICTURES)
    there = _whole_files(folder, storage)
    orders = orders_for([view for view in views if view.name not in there])
    if not orders.num_rows:
        return {}
    cluster.join(what="a report", bundles=[{"CPU": 1.0}] * _CPUS, mend="add nodes")
    cluster.set_up_data(_PATIENCE_S)
    faults: dict[str, str] = {}
    done: set[str] = set()
    batch: pa.Table
    with cluster.own_errors(out_uri, storage):
        starts = range(0, orders.num_rows, _FRAMES_PER_TASK)
        blocks = ray.data.from_arrow([orders.slice(start, _FRAMES_PER_TASK) for start in starts])
        cut = blocks.map_batches(partial(cut_out, storage=storage), batch_size=None, batch_format="pyarrow")
        for batch in cut.iter_batches(batch_size=None, batch_format="pyarrow"):
            faults |= store(batch, folder, storage)
            done.update(batch["content_sha256"].to_pylist())
            progress(len(done), orders.num_rows)
    return faults


def _whole_files(folder: str, storage: Storage) -> set[str]:
    """Names of the files of a folder, but for empty ones."""
    try:
        return {stored.key for page in storage.list_pages(folder) for stored in page if stored.size_bytes}
    except StorageError as error:
        if error.reason == "missing":
            return set()
        raise


def orders_for(views: Iterable[View]) -> pa.Table:
    """What workers are told to make these pictures, each once; frames with the same bytes stand in for each other."""
    same: dict[str, list[View]] = defaultdict(list)
    for view in views:
        same[view.frame["content_sha256"]].append(view)
    orders = [
        {
            "content_sha256": content_sha256,
            "uris": list(dict.fromkeys(view.frame["uri"] for view in views)),
            "num_pixels": views[0].frame["width_px"] * views[0].frame["height_px"],
            "pictures": [_picture(view) for view in {view.name: view for view in views}.values()],
        }
        for content_sha256, views in same.items()
    ]
    return pa.Table.from_pylist(orders, _ORDERS)


def _picture(view: View) -> Row:
    corners = dict(zip(("x0", "y0", "x1", "y1"), view.box_xyxy, strict=True))
    return corners | {"width_px": view.width_px, "name": view.name}


def store(deliveries: pa.Table, folder: str, storage: Storage) -> dict[str, str]:
    """Write the pictures that came, and say which could not be made, and why."""
    rows = deliveries.to_pylist()
    for row in rows:
        if row["data"] is not None:
            storage.write_bytes(join(folder, row["name"]), row["data"])
    return {row["name"]: row["fault"] for row in rows if row["fault"]}


def cut_out(orders: pa.Table, storage: Storage) -> pa.Table:
    """What a worker does: read frames and cut pictures out of them, ``_ORDERS`` to ``_DELIVERIES``.

    Raises:
        StorageError: The archive cannot be reached.
    """
    rows = [delivery for order in orders.to_pylist() for delivery in _deliver(order, storage)]
    return pa.Table.from_pylist(rows, _DELIVERIES)


def _deliver(order: dict[str, Any], storage: Storage) -> Iterator[Row]:
    frame_HW3, fault = None, ""
    for uri in order["uris"]:
        frame_HW3, fault = _open(uri, order, storage)
        if frame_HW3 is not None:
            break
    for part in order["pictures"]:
        made = {"content_sha256": order["content_sha256"], "name": part["name"]}
        if frame_HW3 is None:
            yield made | {"fault": fault}
        else:
            box = (part["x0"], part["y0"], part["x1"], part["y1"])
            yield made | {"data": encode_view(frame_HW3, box, part["width_px"])}


def _open(uri: str, order: dict[str, Any], storage: Storage) -> tuple[NDArray[np.uint8] | None, str]:
    """The frame at one of its places; or None, and why not."""
    try:
        data = storage.read_bytes(uri)
        if hashlib.sha256(data).hexdigest() != order["content_sha256"]:
            return None, "changed"
        return decode_frame(data, order["num_pixels"]), ""
    except StorageError as error:
        if not error.is_of_one_object:
            raise
        return None, error.reason
    except FrameError:
        return None, "unreadable"
