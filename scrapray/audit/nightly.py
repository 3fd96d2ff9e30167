"""The main path: a manifest of archived frames -> published tables of loads and trucks."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import scrapray
from scrapray import schema
from scrapray.audit.actors import classes_of, precision_of
from scrapray.audit.identity import public_settings, run_id_of, work_id_of
from scrapray.audit.ledger import Progress
from scrapray.audit.manifest import read_manifest
from scrapray.audit.model import FoundModel, find_model
from scrapray.audit.outdated import emptied_sites
from scrapray.audit.pipeline import segment_frames
from scrapray.audit.publish import Night, Published, Run, nights_of, publish
from scrapray.audit.results import find_results
from scrapray.config import AuditConfig, LimitsConfig, SegmentConfig, sha256_of
from scrapray.errors import ModelError
from scrapray.labels import MAX_SEVERITY
from scrapray.segmenter.bundle import BundleCard
from scrapray.statistics.contamination import AreaCalibration
from scrapray.statistics.loads import Reading
from scrapray.statistics.verdict import check_rules, worst_first
from scrapray.storage import Storage, absolute, join

MEASURED_WITH = "measured_with"
"""Beside a card's area calibration: the ``area_settings`` that it was measured with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSummary:
    """What a person wants to know when an audit has ended.

    Attributes:
        run_id: The same for the same inputs.
        nights: Dates and sites that were published.
        loads: Rows of ``schema.LOADS``, worst verdict first.
        tables: Place of each published table by its name.
        model: Which one judged, and what it has seen in training as far as its card says so in words.
        num_frames: Frames in the manifest.
        num_used: Frames that counted.
        num_computed: Frames that this run segmented; the others were finished by an earlier run.
        segment_s: Wall time of that work.
        rejected: Number of frames left out, by stage and reason.
        exit_code: 0 done; 1 more frames were rejected than ``[limits]`` allows; 3 a load holds a contaminant of the
            highest severity, which weighs more than 1.
    """

    run_id: str
    nights: tuple[Night, ...]
    loads: tuple[dict[str, Any], ...]
    tables: Mapping[str, str]
    model: str
    num_frames: int
    num_used: int
    num_computed: int
    segment_s: float
    rejected: Counter[tuple[str, str]]
    exit_code: int

    @property
    def num_rejected(self) -> int:
        """Frames that did not count."""
        return self.num_frames - self.num_used

    @property
    def frames_per_s(self) -> float | None:
        """Frames segmented per second; None where there was nothing left to segment."""
        return self.num_computed / self.segment_s if self.num_computed else None


def run_audit(
    manifest_uri: str,
    lake_uri: str,
    model_uri: str,
    *,
    config: AuditConfig,
    date: dt.date | None = None,
    progress: Progress = lambda done, total: None,
) -> AuditSummary:
    """Audit the frames of a manifest and publish what is in their loads.

    Killed in the middle, the next call with the same arguments goes on where this one stopped.

    Args:
        manifest_uri: What ``index_archive`` wrote.
        lake_uri: Where tables are published; work in progress lies there too.
        model_uri: See ``find_model``.
        config: All settings.
        date: One night only.
        progress: Called with the number of frames done and the number of all frames.

    Raises:
        ScraprayError: Something a user can mend; nothing of the date and site at hand is published.
    """
    started_utc = dt.datetime.now(dt.UTC)
    config = replace(config, segment=replace(config.segment, precision=precision_of(config)))
    storage, lake_uri = Storage(config.storage), absolute(lake_uri)
    model = find_model(model_uri, storage, lake_uri)
    card = model.card
    reading = reading_of(card, config)
    manifest = read_manifest(manifest_uri, storage, date)

    work_id = work_id_of(manifest, card, config)
    work_uri = join(lake_uri, "_work", work_id)
    work = segment_frames(
        manifest, work_uri, storage=storage, bundle_uri=model.bundle_uri, card=card, config=config, progress=progress
    )

    settings, stored = public_settings(config), find_results(join(work_uri, "results"), storage)
    not_downloaded = stored.filter(pc.field("reject_stage") == "download")["frame_id"].to_pylist()
    run = Run(
        run_id=run_id_of(work_id, card, settings, manifest, not_downloaded),
        started_utc=started_utc,
        finished_utc=dt.datetime.now(dt.UTC),
        model_uri=model.uri,
        model_name=model.name,
        model_version=model.version,
        weights_sha256=card.weights_sha256,
        config_json=json.dumps(settings, sort_keys=True),
        config_sha256=sha256_of(settings),
        code_version=scrapray.__version__,
        num_computed=work.num_total - work.num_done_before,
        segment_s=work.seconds,
    )
    nights = _nights(manifest, manifest_uri, lake_uri, date, config, storage)
    published = publish(
        nights,
        manifest,
        stored,
        lake_uri,
        run=run,
        reading=reading,
        max_frozen_difference=config.quality.min_frozen_difference,
        storage=storage,
    )
    return _summarise(run, model, nights, published, manifest.num_rows, lake_uri, config.limits)


def _summarise(
    run: Run,
    model: FoundModel,
    nights: Sequence[Night],
    published: Published,
    num_frames: int,
    lake_uri: str,
    limits: LimitsConfig,
) -> AuditSummary:
    return AuditSummary(
        run_id=run.run_id,
        nights=tuple(nights),
        loads=tuple(sorted(published.loads, key=worst_first)),
        tables={name: join(lake_uri, name) for name in schema.PUBLISHED},
        model=str(model),
        num_frames=num_frames,
        num_used=published.num_used,
        num_computed=run.num_computed,
        segment_s=run.segment_s,
        rejected=published.rejected,
        exit_code=exit_code_of(published.loads, num_frames, published.num_used, limits),
    )


def reading_of(card: BundleCard, config: AuditConfig) -> Reading:
    """How frames are read into loads with this model and these settings.

    Raises:
        ConfigurationError: A setting names a class that the model does not have.
        ModelError: The card's area calibration cannot be used.
    """
    classes = classes_of(card, config.segment)
    check_rules(config.verdict.rules, classes.names)
    return Reading(
        severities=dict(zip(classes.names, classes.severities, strict=True)),
        thresholds=dict(zip(classes.names, classes.thresholds, strict=True)),
        rules=config.verdict.rules,
        blind_area_px=config.segment.min_area_px,
        calibration=calibration_of(card, config.segment),
    )


def area_settings(segment: SegmentConfig) -> dict[str, Any]:
    """The settings that areas depend on, as plain values; those of a calibration hold for no others."""
    names = ("min_area_px", "map_stride_px", "overlap_px", "suspicion", "thresholds")
    return {name: getattr(segment, name) for name in names}


def calibration_of(card: BundleCard, segment: SegmentConfig) -> AreaCalibration | None:
    """The segmenter's error in area as its card has it; None where it was never measured, or with other settings."""
    values = card.metrics.get("area_calibration")
    if values is None or values.get(MEASURED_WITH) != area_settings(segment):
        return None
    try:
        return AreaCalibration.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"bundle {card.name} {card.version}: {error}; calibrate the bundle again") from error


def exit_code_of(loads: Sequence[Mapping[str, Any]], num_frames: int, num_used: int, limits: LimitsConfig) -> int:
    """See ``AuditSummary.exit_code``."""
    if limits.alert_exit_code and any(load["worst_severity"] == MAX_SEVERITY for load in loads):
        return 3
    return 1 if num_frames - num_used > limits.max_rejected_frac * num_frames else 0


def _nights(
    manifest: pa.Table, manifest_uri: str, lake_uri: str, date: dt.date | None, config: AuditConfig, storage: Storage
) -> list[Night]:
    """What to publish: dates and sites that have frames, and typed, empty tables for those that have none any more.

    Without any frame these are tables of the night that was asked for.
    """
    nights = nights_of(manifest)
    for day in sorted({day for day, _ in nights} | ({date} if date else set())):
        nights += [(day, site) for site in emptied_sites(lake_uri, manifest_uri, manifest, day, storage)]
    return nights or ([(date, config.archive.site or "unknown")] if date else [])
