"""Names of work and of runs: equal inputs give equal names, so a rerun finds what is done and repeats what it said."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import scrapray
from scrapray import schema
from scrapray.config import AuditConfig, sha256_of
from scrapray.segmenter.bundle import BundleCard

_ID_CHARACTERS = 16
_SECTIONS_OF_A_FRAME = ("cameras", "quality", "segment")
"""Settings that decide the result of a single frame."""
_SECTIONS_OF_A_PLACE = ("storage", "resources", "alerts")
"""Settings that say where and on what an audit runs, and who is told of it; they move numbers by rounding at most, and
no table shows them."""


def public_settings(config: AuditConfig) -> dict[str, Any]:
    """The settings that published numbers depend on, as plain values for JSON."""
    return {name: section for name, section in config.as_dict().items() if name not in _SECTIONS_OF_A_PLACE}


def work_id_of(manifest: pa.Table, card: BundleCard, config: AuditConfig) -> str:
    """Name of the folder of unfinished work.

    It stands for all that decides the result of a frame, and the dates, but not for the frames: late ones join the
    work that is done, those of a late site too. What was measured of a bundle decides no frame, nor does a date of
    which no frame can be read, such as that of a strange key.
    """
    readable = manifest.filter(pc.is_null(manifest["reject_stage"]))
    return sha256_of(
        {
            "card": replace(card, trained_on={}, metrics={}).to_json(),
            "settings": config.as_dict(*_SECTIONS_OF_A_FRAME),
            "code_version": scrapray.__version__,
            "schema_version": schema.SCHEMA_VERSION,
            "dates": sorted(str(date) for date in pc.unique(readable["date"]).to_pylist()),
        }
    )[:_ID_CHARACTERS]


def run_id_of(
    work_id: str,
    card: BundleCard,
    settings: Mapping[str, Any],
    manifest: pa.Table,
    not_downloaded: Collection[str] = (),
) -> str:
    """Name of a run: the same for the same work, model, settings and frames, in whatever order the frames come.

    Args:
        work_id: See ``work_id_of``.
        card: Of the bundle; the measured error of its areas is in the intervals.
        settings: See ``public_settings``.
        manifest: All columns count, since a frame that moved to another load changes the tables.
        not_downloaded: Ids of frames that could not be had; when they can be, that is another run.
    """
    digest = hashlib.sha256(f"{work_id}|{card.to_json()}|{sha256_of(settings)}".encode())
    for batch in manifest.sort_by("frame_id").to_batches():
        for row in batch.to_pylist():
            digest.update(json.dumps(row, default=str).encode())
    for frame_id in sorted(set(manifest["frame_id"].to_pylist()).intersection(not_downloaded)):
        digest.update(f"|{frame_id}".encode())
    return digest.hexdigest()[:_ID_CHARACTERS]
