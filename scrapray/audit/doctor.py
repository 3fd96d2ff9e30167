"""All that an audit needs, looked at before the first night: what is there, what is missing, what to do about it."""

import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Literal
from uuid import uuid4

from scrapray.alerts.send import ways_of
from scrapray.audit.gate_log import read_gate_log
from scrapray.audit.model import find_model
from scrapray.audit.nightly import reading_of
from scrapray.audit.pipeline import connect
from scrapray.config import AuditConfig
from scrapray.errors import AlertError, FrameError, ScraprayError
from scrapray.imagery.bed import bed_mask
from scrapray.imagery.decode import decode_frame
from scrapray.keys import grammar_of
from scrapray.storage import Storage, StoredObject, join

MIN_FREE_GB = 10
"""Ray moves frames to disk when its memory is full."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one thing is that an audit needs.

    Attributes:
        what: The thing, one or two words.
        status: ``ok``; ``warn``, an audit runs but not as it could; ``fail``, it cannot run; ``skip``, not looked at.
        found: What is there.
        mend: What to do; empty where nothing is.
    """

    what: str
    status: Literal["ok", "warn", "fail", "skip"]
    found: str
    mend: str = ""


def examine(
    config: AuditConfig, *, archive_uri: str | None, lake_uri: str | None, model_uri: str | None
) -> list[Finding]:
    """Look at everything, whatever is broken among it; never raises a ``ScraprayError``.

    Leaves nothing behind but, for a moment, one small object in the lake; an empty file where alerts go into a file.
    """
    storage = Storage(config.storage)
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "disk": _disk,
        "cameras": lambda: _cameras(config),
        "gate log": lambda: _gate_log(config, storage),
        "archive": lambda: _archive(archive_uri, config, storage),
        "lake": lambda: _lake(lake_uri, storage),
        "model": lambda: _model(model_uri, config, storage),
        "alerts": lambda: _alerts(config),
        "ray": lambda: _ray(config),
    }
    return [_outcome(what, check) for what, check in checks.items()]


def _outcome(what: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except ScraprayError as error:
        found, _, mend = str(error).rpartition("; ")
        return Finding(what, "fail", found or mend, mend if found else "")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    required = {
        re.split(r"[^\w.-]", line, maxsplit=1)[0]
        for line in metadata.requires("scrapray") or ()
        if "extra ==" not in line
    }
    missing = sorted(name for name in required if not _is_installed(name))
    if missing:
        return Finding("python", "fail", f"{version}, without {', '.join(missing)}", "run `make`")
    return Finding(
        "python",
        "ok",
        f"{version}, all {len(required)} packages, ray {metadata.version('ray')}, torch {metadata.version('torch')}",
    )


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _disk() -> Finding:
    folder = tempfile.gettempdir()
    free_gb = shutil.disk_usage(folder).free / 1e9
    found = f"{free_gb:.0f} GB free in {folder}"
    if free_gb < MIN_FREE_GB:
        return Finding(
            "disk", "warn", found, f"make room: Ray moves frames there when memory is full, {MIN_FREE_GB} GB or more"
        )
    return Finding("disk", "ok", found)


def _cameras(config: AuditConfig) -> Finding:
    if not config.cameras:
        return Finding(
            "cameras", "warn", "no truck bed is drawn for any camera", 'give [cameras."<camera_id>"] bed_polygon_px'
        )
    return Finding("cameras", "ok", f"{len(config.cameras)} with a truck bed: {', '.join(sorted(config.cameras))}")


def _gate_log(config: AuditConfig, storage: Storage) -> Finding:
    if config.gate_log is None:
        return Finding("gate log", "skip", "none is configured; trucks are known by the keys of frames")
    log = read_gate_log(config.gate_log, storage, config.archive.time_zone)
    if log.faults:
        more = f", and {len(log.faults) - 1} more" if log.faults[1:] else ""
        return Finding("gate log", "warn", f"{log.faults[0]}{more}", "correct these records, or live without them")
    return Finding("gate log", "ok", f"{config.gate_log.uri} is readable")


def _archive(uri: str | None, config: AuditConfig, storage: Storage) -> Finding:
    if uri is None:
        return Finding("archive", "skip", "not looked at", "give --archive")
    pictures = next(filter(None, storage.list_pages(uri, config.archive.suffixes)), [])
    if not pictures:
        return Finding("archive", "fail", f"no frame in {uri}", "correct the URI, or suffixes in [archive]")
    grammar = grammar_of(config.archive, config.gate_log)
    frame_of: dict[str | None, StoredObject] = {}
    strange = []
    for stored in pictures:
        try:
            frame_of.setdefault(grammar.parse(stored.key).camera_id, stored)
        except FrameError:
            strange.append(stored.key)
    found = f"{len(pictures) - len(strange)} of the first {len(pictures)} keys fit key_pattern"
    if strange:
        return Finding("archive", "warn", f"{found}, {strange[0]} does not", "correct key_pattern in [archive]")
    for camera_id in sorted(config.cameras.keys() & frame_of.keys()):
        try:
            frame_HW3 = decode_frame(storage.read_bytes(frame_of[camera_id].uri), config.quality.max_pixels)
            bed_mask(config.cameras[camera_id].bed_polygon_px, frame_HW3.shape[:2])
        except FrameError as error:
            if error.stage == "bed":
                what = f"{found}; truck bed of {camera_id} in {frame_of[camera_id].key}: {error}"
                return Finding("archive", "warn", what, f"draw bed_polygon_px of {camera_id} for its frames of today")
    return Finding("archive", "ok", found)


def _lake(uri: str | None, storage: Storage) -> Finding:
    if uri is None:
        return Finding("lake", "skip", "not looked at", "give --lake")
    probe = join(uri, f"_doctor-{uuid4().hex}")
    storage.write_bytes(probe, b"scrapray doctor")
    storage.read_bytes(probe)
    storage.delete(probe)
    is_empty = not any(storage.list_pages(uri))
    return Finding("lake", "ok", f"{uri} can be written, read and cleaned{', and is empty so far' * is_empty}")


def _model(uri: str | None, config: AuditConfig, storage: Storage) -> Finding:
    if uri is None:
        return Finding("model", "skip", "not looked at", "give --model")
    model = find_model(uri, storage)
    card, reading = model.card, reading_of(model.card, config)
    found = f"{model.name} {model.version} tells {', '.join(reading.severities)}, weights {card.weights_sha256[:12]}"
    if reading.calibration is None:
        return Finding(
            "model", "warn", f"{found}; error in area not known", "intervals will be narrower than the truth"
        )
    return Finding("model", "ok", found)


def _alerts(config: AuditConfig) -> Finding:
    """Whether each way can be gone; an audit runs without, so that nothing here is more than a warning."""
    found, mends = [], []
    for way in ways_of(config.alerts):
        try:
            found.append(f"{way.name}: {way.check()}")
        except AlertError as error:
            what, _, mend = str(error).partition("; ")
            found.append(f"{way.name}: {what}")
            mends.append(mend or "correct [alerts]")
    if not found:
        return Finding("alerts", "skip", "nobody is told of a night", "give [alerts], see docs/alerts.md")
    return Finding("alerts", "warn" if mends else "ok", "; ".join(found), "; ".join(mends))


def _ray(config: AuditConfig) -> Finding:
    there = connect(config.resources)
    num_gpus = there.get("GPU", 0)
    found = f"{there['CPU']:g} CPUs and {num_gpus:g} GPUs, enough for [resources]"
    if num_gpus and not config.resources.gpus_per_actor:
        return Finding("ray", "warn", f"{found}; no actor uses a GPU", "set gpus_per_actor = 1 in [resources]")
    return Finding("ray", "ok", found)
