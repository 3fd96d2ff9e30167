"""Rows of a night as an audit publishes them, and a lake that holds it."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from scrapray import schema
from scrapray.lake import partition_uri, write_table
from scrapray.storage import Storage

NIGHT = dt.date(2026, 11, 20)
SITE = "north-yard"
CREATED_UTC = dt.datetime(2026, 11, 21, 3, 12, 44, tzinfo=dt.UTC)
WEIGHTS = "9f" * 32


def load_row(load_id: str = "L003", **changes: Any) -> dict[str, Any]:
    """A load with two spray cans."""
    cans = {"class_name": "spray can", "severity": 3, "area_frac": 2e-4, "count": 2, "max_score": 0.93}
    motor = {"class_name": "motor", "severity": 2, "area_frac": 0.0, "count": 0, "max_score": 0.0}
    row = {
        "run_id": "012dac8f7ac03759",
        "site": SITE,
        "date": NIGHT,
        "truck_id": "0419",
        "load_id": load_id,
        "supplier": "Rottami Rossi",
        "camera_ids": ["north"],
        "from_utc": dt.datetime(2026, 11, 20, 8, tzinfo=dt.UTC),
        "until_utc": dt.datetime(2026, 11, 20, 8, 12, tzinfo=dt.UTC),
        "num_frames": 4,
        "num_used": 4,
        "num_rejected": 0,
        "seen_area_px": 16_000_000,
        "coverage_frac": 0.97,
        "contamination_frac": 0.0002,
        "contamination_low": 0.0,
        "contamination_high": 0.0218,
        "contamination_method": "ratio+block-bootstrap+split-conformal",
        "worst_severity": 3,
        "verdict": "reject",
        "verdict_rule": "highest_severity",
        "verdict_reason": "spray can (severity 3): 2 or more seen, best score 0.93",
        "classes": [each | {"certainty": each["max_score"] and 0.8} for each in (cans, motor)],
        "evidence_frame_ids": ["4d3c9b", "77a0e1"],
    }
    return row | changes


def clean(load_id: str, **changes: Any) -> dict[str, Any]:
    """A load in which nothing was found."""
    reason = "no rule fired: contamination 0.000% in 4 of 4 frames"
    nothing = {"verdict": "accept", "verdict_rule": "no_rule", "verdict_reason": reason, "worst_severity": 0}
    return load_row(load_id, contamination_frac=0.0, classes=[], evidence_frame_ids=[], **nothing | changes)


def run_row(**changes: Any) -> dict[str, Any]:
    texts = dict.fromkeys(("config_json", "config_sha256", "code_version"), "x")
    model = {"model_uri": "models:/scrap-segmenter/3", "model_name": "scrap-segmenter", "model_version": "3"}
    counts = {"num_frames": 9, "num_used": 8, "num_rejected": 1, "num_loads": 2, "num_computed": 9, "segment_s": 1.0}
    times = dict.fromkeys(("started_utc", "finished_utc"), CREATED_UTC)
    row = {"run_id": "012dac8f7ac03759", "site": SITE, "date": NIGHT, "weights_sha256": WEIGHTS}
    return row | texts | model | counts | times | changes


def publish(lake: str, loads: Sequence[dict[str, Any]], **run: Any) -> None:
    """Publish a night of these loads: the two tables that alerts are made of."""
    row = run_row(**run)
    same = {name: row[name] for name in ("run_id", "site", "date")}
    tables = {"loads": [load | same for load in loads], "runs": [row]}
    for name, rows in tables.items():
        columns = schema.PUBLISHED[name]
        uri = partition_uri(lake, name, row["date"], row["site"])
        write_table(pa.Table.from_pylist(rows, columns), columns, uri, Storage())
