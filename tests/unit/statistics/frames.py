"""Frames made by hand for tests of the statistics."""

import datetime as dt

import pyarrow as pa

from scrapray import schema
from scrapray.config import DEFAULT_RULES
from scrapray.statistics.loads import AuditedFrame, ClassOnFrame, Reading

NIGHT = dt.date(2026, 11, 20)
SEVERITIES = {"motor": 2, "cable": 1, "spray can": 3}
THRESHOLDS = {"motor": 0.75, "cable": 0.4, "spray can": 0.3}


def at(seconds):
    return dt.datetime(2026, 11, 20, 8, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)


def on_frame(class_name, num_detections, *, area_px=400, max_score=0.8):
    return ClassOnFrame(class_name=class_name, area_px=area_px, num_detections=num_detections, max_score=max_score)


def audited(name, *classes, second=None, is_used=True, seen_area_px=1000, bed_area_px=2000, camera_id="north"):
    """One frame; its name is its id and, unless said otherwise, the second it was taken at."""
    return AuditedFrame(
        frame_id=str(name),
        camera_id=camera_id,
        taken_utc=at(name if second is None else second),
        is_used=is_used,
        bed_area_px=bed_area_px if is_used else 0,
        seen_area_px=seen_area_px if is_used else 0,
        contaminated_area_px=sum(each.area_px for each in classes),
        classes=classes,
    )


def row(name, *classes, load_id="L1", truck_id="T1", site="yard", status="used", supplier=None, **other):
    """One row of the frames table."""
    is_used = status == "used"
    return {
        "run_id": "0" * 16,
        "frame_id": str(name),
        "uri": f"archive/{name}.jpg",
        "etag": "e",
        "size_bytes": 1,
        "site": site,
        "date": NIGHT,
        "camera_id": "north",
        "taken_utc": at(int(name)),
        "truck_id": truck_id,
        "load_id": load_id,
        "supplier": supplier,
        "load_source": "key",
        "status": status,
        "bed_area_px": 2000 if is_used else None,
        "seen_area_px": 1000 if is_used else None,
        "contaminated_area_px": sum(each.area_px for each in classes) if is_used else None,
        "classes": [
            {
                "class_name": each.class_name,
                "area_px": each.area_px,
                "num_detections": each.num_detections,
                "max_score": each.max_score,
                "peak_score": each.max_score,
            }
            for each in classes
        ]
        if is_used
        else None,
        **other,
    }


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=schema.FRAMES)


def reading(**changes):
    known = {"severities": SEVERITIES, "thresholds": THRESHOLDS, "rules": DEFAULT_RULES, "blind_area_px": 0}
    return Reading(**{**known, **changes})
