"""Lakes of small nights with frames of noise, published as an audit does it, without a model and without Ray."""

import datetime as dt
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scrapray import schema
from scrapray.imagery.masks import encode_mask
from scrapray.lake import publish_run
from scrapray.report.evidence import choose_evidence, cut_out, orders_for, store
from scrapray.report.night import read_night
from scrapray.storage import Storage, join
from tests.integration.nights import noise_jpeg

NIGHT = dt.date(2026, 11, 20)
SITE = "north"
FRAME_HW = (270, 480)
STORAGE = Storage()
SETTINGS = """{"archive": {"time_zone": "Europe/Rome"}, "verdict": {"rules": [
    {"name": "highest_severity", "verdict": "reject", "min_severity": 3, "min_count": null}]}}"""
SEVERITIES = {"motor": 2, "cable": 1, "spray can": 3}

Row = dict[str, Any]


def moment(second: int) -> dt.datetime:
    """Twenty past six in the morning in Rome, and so many seconds."""
    return dt.datetime(2026, 11, 20, 5, 20, tzinfo=dt.UTC) + dt.timedelta(seconds=second)


@cache
def _picture(seed: int) -> bytes:
    return noise_jpeg(seed, *FRAME_HW)


class Yard:
    """Loads of one site and date, to be published as one run."""

    def __init__(self, folder: Path, site: str = SITE, date: dt.date = NIGHT, run_id: str = "run-a") -> None:
        self.archive, self.lake, self.out = folder / "archive", str(folder / "lake"), str(folder / "report")
        self.site, self.date, self.run_id, self.settings = site, date, run_id, SETTINGS
        self.rows: dict[str, list[Row]] = {name: [] for name in schema.PUBLISHED}

    def add_load(
        self, truck_id: str | None, load_id: str, frames: list[list[tuple[str, float]]], **changes: Any
    ) -> None:
        """A load; each of its frames is given as the class and score of its detections."""
        place = {"truck_id": truck_id, "load_id": load_id, "supplier": changes.get("supplier")}
        rows = [self._add_frame(place, second, found) for second, found in enumerate(frames)]
        best = {
            name: max((score for found in frames for seen, score in found if seen == name), default=0.0)
            for name in SEVERITIES
        }
        counts = {name: sum(any(seen == name for seen, _ in found) for found in frames) >= 2 for name in SEVERITIES}
        worst = max((SEVERITIES[name] for name, counted in counts.items() if counted), default=0)
        contaminated, seen = (sum(row[key] for row in rows) for key in ("contaminated_area_px", "seen_area_px"))
        evidence = sorted((row for row in rows if row["classes"]), key=lambda row: -row["peak_score"])
        load = {
            **self._common(),
            **place,
            "camera_ids": ["crane-1"],
            "from_utc": moment(0),
            "until_utc": moment(len(frames)),
            "num_frames": len(frames),
            "num_used": len(frames),
            "num_rejected": 0,
            "seen_area_px": seen,
            "coverage_frac": 1.0,
            "contamination_frac": contaminated / seen if seen else None,
            "contamination_low": 0.0 if seen else None,
            "contamination_high": 0.02 if seen else None,
            "contamination_method": "ratio+block-bootstrap",
            "worst_severity": worst,
            "verdict": "reject" if worst == 3 else "review" if worst else "accept",
            "verdict_rule": "highest_severity" if worst == 3 else "contaminant" if worst else "no_rule",
            "verdict_reason": f"severity {worst}",
            "classes": [
                {
                    "class_name": name,
                    "severity": severity,
                    "area_frac": 0.0,
                    "count": int(counts[name]),
                    "max_score": best[name],
                    "certainty": best[name],
                }
                for name, severity in SEVERITIES.items()
            ],
            "evidence_frame_ids": [row["frame_id"] for row in evidence[:3]],
        }
        self.rows["loads"].append(load | changes)

    def add_rejected(self, stage: str, reason: str, camera_id: str | None = "crane-1", load: int | None = None) -> None:
        """A frame that could not be used, of the load with this place in the list or of none."""
        frame = dict.fromkeys(schema.FRAMES.names) | self._common()
        number = len(self.rows["frames"])
        frame |= {
            "frame_id": f"{self.site}-{number}",
            "uri": "x",
            "etag": "e",
            "size_bytes": 1,
            "taken_utc": moment(99),
        }
        frame |= {"status": "rejected", "reject_stage": stage, "reject_reason": reason, "camera_id": camera_id}
        if load is not None:
            row = self.rows["loads"][load]
            frame |= {"truck_id": row["truck_id"], "load_id": row["load_id"]}
            row["num_frames"], row["num_rejected"] = row["num_frames"] + 1, row["num_rejected"] + 1
        self.rows["frames"].append(frame)

    def _common(self) -> Row:
        return {"run_id": self.run_id, "site": self.site, "date": self.date}

    def _add_frame(self, place: Row, second: int, found: list[tuple[str, float]]) -> Row:
        number = len(self.rows["frames"])
        frame_id = f"{self.site}-{number}"
        data, path = _picture(number), self.archive / f"{frame_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        boxes = [(40 + 60 * (place_ % 6), 30 + 50 * (place_ // 6), 48, 32) for place_ in range(len(found))]
        frame = dict.fromkeys(schema.FRAMES.names) | self._common() | place
        frame |= {
            "frame_id": frame_id,
            "uri": str(path),
            "etag": "e",
            "size_bytes": len(data),
            "camera_id": "crane-1",
            "taken_utc": moment(second),
            "status": "used",
            "content_sha256": hashlib.sha256(data).hexdigest(),
            "height_px": FRAME_HW[0],
            "width_px": FRAME_HW[1],
            "bed_area_px": 100_000,
            "seen_area_px": 100_000,
            "coverage_frac": 1.0,
            "contaminated_area_px": sum(width * height for _, _, width, height in boxes),
            "peak_score": max((score for _, score in found), default=0.1),
            "classes": [
                {"class_name": name, "area_px": 1, "num_detections": 1, "max_score": score, "peak_score": score}
                for name, score in found
            ],
        }
        self.rows["frames"].append(frame)
        for number, ((class_name, score), (x, y, width, height)) in enumerate(zip(found, boxes, strict=True)):
            self.rows["detections"].append(
                {key: frame[key] for key in ("run_id", "frame_id", "site", "date", "camera_id", "taken_utc")}
                | {"truck_id": place["truck_id"], "load_id": place["load_id"]}
                | {"detection_id": f"{frame_id}-{number:03}", "class_name": class_name, "score": score}
                | {"severity": SEVERITIES[class_name], "area_px": width * height, "area_frac": width * height / 1e5}
                | {"bbox": {"x_min_px": x, "y_min_px": y, "x_max_px": x + width, "y_max_px": y + height}}
                | {"mask": encode_mask(np.ones((height, width), np.bool_), (x, y), FRAME_HW)}
            )
        return frame

    def publish(self, storage: Storage = STORAGE) -> None:
        """Publish the loads as one run."""
        texts = ("model_uri", "model_name", "model_version", "weights_sha256", "config_sha256", "code_version")
        num_used = sum(frame["status"] == "used" for frame in self.rows["frames"])
        run = self._common() | dict.fromkeys(texts, "x") | {"config_json": self.settings}
        run |= {"started_utc": moment(0), "finished_utc": moment(0), "num_computed": 0, "segment_s": 0.0}
        run |= {"num_frames": len(self.rows["frames"]), "num_used": num_used, "num_loads": len(self.rows["loads"])}
        rows = self.rows | {"runs": [run | {"num_rejected": len(self.rows["frames"]) - num_used}]}
        tables = {name: pa.Table.from_pylist(rows[name], columns) for name, columns in schema.PUBLISHED.items()}
        publish_run(self.lake, self.run_id, self.date, self.site, tables, storage)

    def make_pictures(self) -> None:
        """All pictures of the report of the night, made here and not on Ray: a report then takes them over."""
        loads = read_night(self.lake, self.date, STORAGE).loads
        orders = orders_for([view for load in loads for view in choose_evidence(load).views])
        assert store(cut_out(orders, STORAGE), join(self.out, "pictures"), STORAGE) == {}


CAN, MOTOR, CABLE = ("spray can", 0.9), ("motor", 0.8), ("cable", 0.7)


def two_loads(folder: Path, **changes: Any) -> Yard:
    """A clean load and a worse one with cans, motors and a cable."""
    yard = Yard(folder, **changes)
    yard.add_load("0007", "L1", [[], []], supplier="Alba")
    yard.add_load("0008", "L2", [[CAN, MOTOR], [CAN], [CABLE], []], supplier="Bora")
    return yard
