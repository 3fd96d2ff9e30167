"""A lake with one small audited night, made without a model; and what an annotator does to a COCO file."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from scrapray import schema
from scrapray.config import AuditConfig
from scrapray.imagery.masks import encode_mask
from scrapray.keys import frame_id_of
from scrapray.lake import publish_run
from scrapray.review.config import QueueConfig
from scrapray.review.exports import Export, export_queue
from scrapray.review.imports import ImportSummary, import_reviews
from scrapray.statistics.loads import judge_loads, load_row, truck_rows
from scrapray.storage import Storage
from tests.unit.statistics.frames import NIGHT, SEVERITIES, THRESHOLDS, at, reading

SITE = "north"
HEIGHT, WIDTH = 120, 160
STORAGE = Storage()
ALL_FRAMES = QueueConfig(random_sample=100)
SETTINGS = AuditConfig().as_dict("archive", "verdict", "segment")

Found = tuple[str, tuple[int, int, int, int], float]
"""Class, box and score of a detection."""

MOTOR: Found = ("motor", (10, 10, 30, 30), 0.9)
CABLE: Found = ("cable", (60, 40, 100, 46), 0.5)
CAN: Found = ("spray can", (120, 80, 132, 100), 0.32)


def key(load_id: str, number: int, site: str = SITE) -> str:
    return f"{site}/{NIGHT}/T{load_id[1:]}/{load_id}/c1_08{load_id[1:]:0>2}{number:02d}.jpg"


NIGHT_OF_THREE_LOADS: Mapping[str, Sequence[Found]] = {
    key("L1", 0): [MOTOR],
    key("L1", 1): [MOTOR, CABLE],
    key("L1", 2): [],
    key("L2", 0): [],
    key("L2", 1): [],
    key("L2", 2): [],
    key("L3", 0): [CAN],
    key("L3", 1): [],
    key("L3", 2): [],
}
"""L1 has a motor in two frames and a cable in one, L2 is clean, L3 has a glimpse of a spray can."""


def box_mask(box_xyxy: Sequence[int]) -> dict[str, Any]:
    left, top, right, bottom = box_xyxy
    return encode_mask(np.ones((bottom - top, right - left), np.bool_), (left, top), (HEIGHT, WIDTH))


def polygon(box_xyxy: Sequence[float]) -> list[float]:
    left, top, right, bottom = box_xyxy
    return [left, top, right, top, right, bottom, left, bottom]


def uri_of(frame_key: str) -> str:
    return f"s3://yard/archive/{frame_key}"


def frame_id(frame_key: str) -> str:
    return frame_id_of(uri_of(frame_key), "e")


def write_night(
    lake: str,
    frames: Mapping[str, Sequence[Found]] = NIGHT_OF_THREE_LOADS,
    *,
    run_id: str = "run1",
    weights: str = "weights1",
    site: str = SITE,
    **changes: Any,
) -> None:
    """Publish a night; ``changes`` are for the rows of all frames."""
    rows = [_frame_row(name, found, run_id) | {"site": site} | changes for name, found in frames.items()]
    detections = [row for name, found in frames.items() for row in _detection_rows(name, found, run_id)]
    table = pa.Table.from_pylist(rows, schema.FRAMES)
    judged = judge_loads(table, reading())
    same = {"run_id": run_id}
    num_used = sum(row["status"] == "used" for row in rows)
    same_night = {"site": site, "num_frames": len(rows), "num_loads": len(judged)}
    same_night |= {"num_used": num_used, "num_rejected": len(rows) - num_used}
    tables = {
        "frames": table,
        "detections": pa.Table.from_pylist([row | {"site": site} for row in detections], schema.DETECTIONS),
        "loads": pa.Table.from_pylist([load_row(load, SEVERITIES) | same for load in judged], schema.LOADS),
        "trucks": pa.Table.from_pylist([row | same for row in truck_rows(judged, reading())], schema.TRUCKS),
        "runs": pa.Table.from_pylist([_run_row(run_id, weights) | same_night], schema.RUNS),
    }
    publish_run(lake, run_id, NIGHT, site, tables, STORAGE)


def _frame_row(frame_key: str, found: Sequence[Found], run_id: str) -> dict[str, Any]:
    _, _, truck_id, load_id, name = frame_key.split("/")
    classes = []
    for class_name in SEVERITIES:
        of = [each for each in found if each[0] == class_name]
        best = max((score for _, _, score in of), default=0.0)
        area_px = sum(_area(box) for _, box, _ in of)
        peak = best or THRESHOLDS[class_name] / 2
        classes.append(
            {
                "class_name": class_name,
                "area_px": area_px,
                "num_detections": len(of),
                "max_score": best,
                "peak_score": peak,
            }
        )
    return {
        "run_id": run_id,
        "frame_id": frame_id(frame_key),
        "uri": uri_of(frame_key),
        "etag": "e",
        "size_bytes": 1,
        "site": SITE,
        "date": NIGHT,
        "camera_id": "c1",
        "taken_utc": at(int(name[3:9])),
        "truck_id": truck_id,
        "load_id": load_id,
        "load_source": "key",
        "status": "used",
        "height_px": HEIGHT,
        "width_px": WIDTH,
        "bed_area_px": HEIGHT * WIDTH,
        "seen_area_px": HEIGHT * WIDTH,
        "contaminated_area_px": sum(_area(box) for _, box, _ in found),
        "peak_score": max(each["peak_score"] for each in classes),
        "classes": classes,
    }


def _detection_rows(frame_key: str, found: Sequence[Found], run_id: str) -> list[dict[str, Any]]:
    frame = _frame_row(frame_key, found, run_id)
    names = ("run_id", "frame_id", "site", "date", "camera_id", "taken_utc", "truck_id", "load_id")
    return [
        {name: frame[name] for name in names}
        | {
            "detection_id": f"{frame['frame_id']}-{number:03d}",
            "class_name": class_name,
            "score": score,
            "severity": SEVERITIES[class_name],
            "bbox": dict(zip(("x_min_px", "y_min_px", "x_max_px", "y_max_px"), box, strict=True)),
            "area_px": _area(box),
            "area_frac": _area(box) / (HEIGHT * WIDTH),
            "mask": box_mask(box),
        }
        for number, (class_name, box, score) in enumerate(found)
    ]


def _area(box: Sequence[int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _run_row(run_id: str, weights: str) -> dict[str, Any]:
    texts = ("model_uri", "model_name", "model_version", "config_sha256", "code_version")
    counts = ("num_frames", "num_used", "num_rejected", "num_loads", "num_computed")
    finished = at(1000 + sum(map(ord, run_id)))
    return (
        dict.fromkeys(texts, "x")
        | dict.fromkeys(counts, 0)
        | {"run_id": run_id, "site": SITE, "date": NIGHT, "weights_sha256": weights, "segment_s": 0.0}
        | {"started_utc": finished, "finished_utc": finished, "config_json": json.dumps(SETTINGS)}
    )


def exported(lake: str, quotas: QueueConfig = ALL_FRAMES, *, second: int = 0, **more: Any) -> Export:
    return export_queue(lake, NIGHT, quotas=quotas, storage=STORAGE, now_utc=at(second), **more)


def imported(
    lake: str, file: dict[str, Any] | bytes, reviewer: str = "ada", *, second: int = 5000, **more: Any
) -> ImportSummary:
    data = file if isinstance(file, bytes) else json.dumps(file).encode()
    return import_reviews(lake, data, reviewer, source="labelled.json", storage=STORAGE, now_utc=at(second), **more)


class Annotator:
    """Edits a COCO file as a person with a tool would."""

    def __init__(self, data: bytes) -> None:
        self.file: dict[str, Any] = json.loads(data)

    def on(self, frame_key: str, class_name: str) -> dict[str, Any]:
        """The annotation of a class on a frame."""
        image_id, category_id = self._image(frame_key)["id"], self._category(class_name)
        (found,) = (
            each
            for each in self.file["annotations"]
            if (each["image_id"], each["category_id"]) == (image_id, category_id)
        )
        return found

    def remove(self, frame_key: str, class_name: str) -> None:
        self.file["annotations"].remove(self.on(frame_key, class_name))

    def rename(self, frame_key: str, class_name: str, other: str) -> None:
        self.on(frame_key, class_name)["category_id"] = self._category(other)

    def move(self, frame_key: str, class_name: str, box_xyxy: Sequence[float]) -> None:
        self.on(frame_key, class_name)["segmentation"] = [polygon(box_xyxy)]

    def add(self, frame_key: str, class_name: str, box_xyxy: Sequence[float]) -> None:
        self.file["annotations"].append(
            {
                "id": 1 + max((each["id"] for each in self.file["annotations"]), default=0),
                "image_id": self._image(frame_key)["id"],
                "category_id": self._category(class_name),
                "segmentation": [polygon(box_xyxy)],
                "iscrowd": 0,
            }
        )

    def keep_only(self, *frame_keys: str) -> None:
        """Hand back a part of the frames."""
        images = [image for image in self.file["images"] if image["file_name"] in frame_keys]
        ids = {image["id"] for image in images}
        self.file["images"] = images
        self.file["annotations"] = [each for each in self.file["annotations"] if each["image_id"] in ids]

    def as_another_tool_writes_it(self) -> dict[str, Any]:
        """New ids from 0 in another order, a folder before the names, and no field that COCO does not have."""
        images = list(reversed(self.file["images"]))
        image_ids = {image["id"]: number for number, image in enumerate(images)}
        categories = list(reversed(self.file["categories"]))
        category_ids = {category["id"]: number for number, category in enumerate(categories)}
        return {
            "images": [
                {
                    "id": image_ids[image["id"]],
                    "file_name": f"images/{image['file_name']}",
                    "width": image["width"],
                    "height": image["height"],
                }
                for image in images
            ],
            "categories": [{"id": category_ids[each["id"]], "name": each["name"]} for each in categories],
            "annotations": [
                {
                    "id": 100 + number,
                    "image_id": image_ids[each["image_id"]],
                    "category_id": category_ids[each["category_id"]],
                    "segmentation": [[round(x + 0.001, 2) for x in part] for part in each["segmentation"]],
                    "iscrowd": 0,
                    "attributes": {"occluded": False},
                }
                for number, each in enumerate(reversed(self.file["annotations"]))
            ],
        }

    def _image(self, frame_key: str) -> dict[str, Any]:
        (found,) = (image for image in self.file["images"] if image["file_name"] == frame_key)
        return dict(found)

    def _category(self, class_name: str) -> int:
        (found,) = (each["id"] for each in self.file["categories"] if each["name"] == class_name)
        return int(found)
