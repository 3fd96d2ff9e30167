"""Settings of an audit, read from one TOML file.

Each section of the file is one frozen dataclass here; a missing section or key takes its default, an unknown key
is refused by name. Functions elsewhere take plain numbers, not these objects.
"""

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ConfigDict, TypeAdapter, ValidationError

from scrapray.errors import ConfigurationError
from scrapray.labels import MAX_SEVERITY
from scrapray.recipients import AlertsConfig
from scrapray.settings import STRICT, require

_MOST_PIXELS = 178_956_970
_LAST_PORT = 65535
_MOST_TILES = 1024
_MOST_AT_ONCE = 10_000
_ENDPOINT = re.compile(r"(?i)https?://([a-z0-9.-]+|\[[^]\s]+])(:(?P<port>[0-9]{1,5}))?(/\S*)?")
Corner = tuple[float, float]
"""x, y."""
_Settings = TypeVar("_Settings")


def _require_time_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"time_zone {name!r} is not known; use a name such as Europe/Rome") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """``[storage]``: how to reach object storage. Keys and secrets come from the AWS environment or profile.

    A server that does not answer is given up after about ``max_attempts * connect_timeout_s`` and pauses between.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    endpoint_url: str | None = None
    region: str | None = None
    max_attempts: int = 4
    connect_timeout_s: float = 3.0
    read_timeout_s: float = 15.0

    def __post_init__(self) -> None:
        if self.endpoint_url is not None:
            # The value is left out of the messages: it may hold a secret.
            require(
                "@" not in self.endpoint_url, "endpoint_url holds a user name; give keys through the AWS environment"
            )
            parts = _ENDPOINT.fullmatch(self.endpoint_url)
            require(
                parts is not None and int(parts["port"] or 0) <= _LAST_PORT,
                "endpoint_url must be a URL such as https://s3.example.com:9000, with a host of letters, digits, "
                f"hyphens and dots (botocore refuses an underscore) and a port up to {_LAST_PORT}",
            )
        require(self.max_attempts >= 1, f"max_attempts is {self.max_attempts}, must be 1 or more")
        require(self.connect_timeout_s > 0, f"connect_timeout_s is {self.connect_timeout_s}, must be above 0")
        require(self.read_timeout_s > 0, f"read_timeout_s is {self.read_timeout_s}, must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveConfig:
    """``[archive]``: what the keys of archived frames mean.

    ``key_pattern`` must match a whole key. It has named parts in braces: site, date, time, truck_id, load_id,
    camera_id, supplier; other names are matched and thrown away, but ``[gate_log] join_on`` may name one. ``date``
    and ``time`` are read with ``date_format`` and ``time_format`` (which may hold the date too) in ``time_zone``.
    ``site`` is the site of all frames whose keys do not name one. A frame without a recorded load begins a new one
    when its camera made none for more than ``max_gap_s``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    key_pattern: str = "{site}/{date}/{truck_id}/{load_id}/{camera_id}_{time}.{ext}"
    date_format: str = "%Y-%m-%d"
    time_format: str = "%H%M%S"
    time_zone: str = "UTC"
    site: str | None = None
    suffixes: tuple[str, ...] = (".jpg", ".jpeg", ".png")
    max_gap_s: float = 900.0

    def __post_init__(self) -> None:
        require(bool(self.key_pattern), "key_pattern is empty")
        require(
            "{" in self.key_pattern,
            f"key_pattern {self.key_pattern!r} has no named part such as {{camera_id}}",
        )
        require(self.site is None or bool(self.site.strip()), "site is empty; leave it out where keys name the site")
        require(
            bool(self.suffixes) and all(suffix == suffix.lower() and suffix for suffix in self.suffixes),
            f"suffixes are {list(self.suffixes)}, must be endings of keys in lower case, which match any case",
        )
        require(self.max_gap_s > 0, f"max_gap_s is {self.max_gap_s}, must be above 0")
        _require_time_zone(self.time_zone)


GATE_LOG_COLUMNS = ("truck_id", "load_id", "supplier", "site", "camera", "from", "until")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLogConfig:
    """``[gate_log]``: the yard's own table of arrivals (CSV or Parquet), joined to frames by camera and time.

    ``join_on`` names the key part that the table's ``camera`` column holds, for example ``camera_id`` or ``crane``.
    ``columns`` gives the yard's names for ours (``GATE_LOG_COLUMNS``) where they differ; supplier and site may lack.
    Times without an offset are read in ``time_zone``, or in that of the archive.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    uri: str
    join_on: str = "camera_id"
    time_zone: str | None = None
    columns: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.time_zone is not None:
            _require_time_zone(self.time_zone)
        for name in self.columns:
            require(name in GATE_LOG_COLUMNS, f"columns.{name} is not one of {', '.join(GATE_LOG_COLUMNS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraConfig:
    """``[cameras."<camera_id>"]``: corners of the truck bed in frame pixels (x, y), at least three."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    bed_polygon_px: tuple[Corner, ...]

    def __post_init__(self) -> None:
        require(
            len(self.bed_polygon_px) >= 3,
            f"bed_polygon_px has {len(self.bed_polygon_px)} corners, needs 3 or more",
        )
        for corner in self.bed_polygon_px:
            require(
                all(value >= 0 for value in corner),
                f"bed_polygon_px has the corner {list(corner)}; coordinates are pixels from the top left, 0 or more",
            )
        require(_enclosed_area(self.bed_polygon_px) >= 1, "bed_polygon_px encloses no area; give its corners in order")
        require(not _crosses_itself(self.bed_polygon_px), "bed_polygon_px has sides that cross; give corners in order")


def _enclosed_area(corners: tuple[Corner, ...]) -> float:
    """Area of a polygon by the shoelace formula."""
    following = (*corners[1:], corners[0])
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, following, strict=True))) / 2


def _crosses_itself(corners: tuple[Corner, ...]) -> bool:
    sides = list(zip(corners, (*corners[1:], corners[0]), strict=True))
    return any(_parts(*one, *other) and _parts(*other, *one) for one, other in combinations(sides, 2))


def _parts(start: Corner, end: Corner, first: Corner, second: Corner) -> bool:
    """Whether the line from start to end runs between two corners and touches neither."""
    (x0, y0), (x1, y1) = start, end
    left, right = ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) for x, y in (first, second))
    return left * right < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityConfig:
    """``[quality]``: limits outside which a frame is left out of its load's statistics.

    The defaults were set on real frames from cranes above rail wagons: they catch a stuck colour channel and a blur
    of 3 px at full HD, and keep every other frame. ``imagery/quality.py`` says what is measured.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    max_pixels: int = 50_000_000
    min_sharpness: float = 0.25
    min_brightness: float = 0.06
    max_brightness: float = 0.94
    max_dark_frac: float = 0.6
    max_bright_frac: float = 0.4
    max_color_cast: float = 0.15
    min_frozen_difference: float = 0.002

    def __post_init__(self) -> None:
        require(
            1 <= self.max_pixels <= _MOST_PIXELS,
            f"max_pixels is {self.max_pixels}, must be 1 to {_MOST_PIXELS}, more than which Pillow does not open",
        )
        for limit in fields(self):
            value = getattr(self, limit.name)
            if limit.name not in ("max_pixels", "min_sharpness"):
                require(0 <= value <= 1, f"{limit.name} is {value}, must be 0 to 1")
        require(self.min_sharpness >= 0, f"min_sharpness is {self.min_sharpness}, must be 0 or more")
        require(
            self.min_brightness < self.max_brightness,
            f"min_brightness is {self.min_brightness}, must be below max_brightness, {self.max_brightness}",
        )


SUSPICION = 0.4
"""Score in a wide tile from which on a place is looked at again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentConfig:
    """``[segment]``: how frames are cut, scored and turned into detections.

    ``suspicion`` is the score in a wide tile from which on a place is looked at again, by a model with tiles of two
    sides; a threshold that is lower counts instead. ``map_stride_px`` is the grid of the blended anomaly map: one value
    per that many frame pixels each way. ``precision`` is that of the vision tower; ``auto`` takes bf16 on a GPU and on
    a CPU that is made for it, which is settled once for all workers of an audit. ``thresholds`` overrides the bundle's
    own, class by class.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    overlap_px: int = 64
    suspicion: float = SUSPICION
    tiles_per_batch: int = 8
    map_stride_px: int = 4
    min_area_px: int = 100
    thresholds: dict[str, float] = field(default_factory=dict)
    severities: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.overlap_px >= 0, f"overlap_px is {self.overlap_px}, must be 0 or more")
        require(0 < self.suspicion < 1, f"suspicion is {self.suspicion}, must be between 0 and 1")
        require(
            1 <= self.tiles_per_batch <= _MOST_TILES,
            f"tiles_per_batch is {self.tiles_per_batch}, must be 1 to {_MOST_TILES}, since a batch lies in memory",
        )
        require(self.map_stride_px >= 1, f"map_stride_px is {self.map_stride_px}, must be 1 or more")
        require(
            self.overlap_px % self.map_stride_px == 0,
            f"overlap_px is {self.overlap_px}, must be a multiple of map_stride_px, {self.map_stride_px}",
        )
        require(self.min_area_px >= 1, f"min_area_px is {self.min_area_px}, must be 1 or more")
        for name, value in self.thresholds.items():
            require(0 < value < 1, f"thresholds.{name} is {value}, must be between 0 and 1")
        for name, severity in self.severities.items():
            require(1 <= severity <= MAX_SEVERITY, f"severities.{name} is {severity}, must be 1 to {MAX_SEVERITY}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcesConfig:
    """``[resources]``: what the audit takes from the cluster. One actor holds one segmenter.

    ``cpus_per_actor`` is also the number of threads that an actor computes with; left out, the cores of this machine
    are shared among the actors. With ``gpus_per_actor`` above 0 the segmenter runs on the GPU. A cluster
    that is smaller than all this is refused, or given ``wait_for_nodes_s`` to grow when that is above 0.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    actors: int = 1
    cpus_per_actor: int | None = None
    gpus_per_actor: float = 0.0
    download_tasks: int = 2
    frames_per_block: int = 8
    no_progress_timeout_s: float = 600.0
    wait_for_nodes_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("actors", "download_tasks"):
            number = getattr(self, name)
            require(1 <= number <= _MOST_AT_ONCE, f"{name} is {number}, must be 1 to {_MOST_AT_ONCE}")
        require(
            self.cpus_per_actor is None or self.cpus_per_actor >= 1,
            f"cpus_per_actor is {self.cpus_per_actor}, must be 1 or more",
        )
        require(
            self.gpus_per_actor >= 0 and (self.gpus_per_actor < 1 or self.gpus_per_actor % 1 == 0),
            f"gpus_per_actor is {self.gpus_per_actor}, must be a share below 1 or a whole number, 0 or more",
        )
        require(self.frames_per_block >= 1, f"frames_per_block is {self.frames_per_block}, must be 1 or more")
        require(
            self.no_progress_timeout_s > 0,
            f"no_progress_timeout_s is {self.no_progress_timeout_s}, must be above 0",
        )
        require(self.wait_for_nodes_s >= 0, f"wait_for_nodes_s is {self.wait_for_nodes_s}, must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRule:
    """``[[verdict.rules]]``: a verdict for loads that meet all the conditions given.

    Conditions on a contaminant (one class must meet all of them): ``min_severity``, ``class_name``, ``min_count``
    (robust count; 1 unless said otherwise, 0 lets a single frame speak), ``min_score``, ``min_certainty`` (how far the
    best score lies on the way from the threshold to 1). Conditions on the load: ``min_contamination_frac``,
    ``max_coverage_frac``, ``max_used_frames``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: str
    verdict: Literal["review", "reject"]
    min_severity: int | None = None
    class_name: str | None = None
    min_count: int | None = None
    min_score: float | None = None
    min_certainty: float | None = None
    min_contamination_frac: float | None = None
    max_coverage_frac: float | None = None
    max_used_frames: int | None = None

    def __post_init__(self) -> None:
        conditions = (self.min_contamination_frac, self.max_coverage_frac, self.max_used_frames)
        require(bool(self.name.strip()), "name is empty; it stands in the tables, so give the rule one")
        require(
            self.asks_for_a_contaminant or any(value is not None for value in conditions),
            f"rule {self.name!r} has no condition; without one it would fire for every load",
        )
        for name in ("min_score", "min_certainty", "min_contamination_frac", "max_coverage_frac"):
            value = getattr(self, name)
            require(value is None or 0 <= value <= 1, f"rule {self.name!r}: {name} is {value}, must be 0 to 1")
        require(
            self.min_severity is None or 1 <= self.min_severity <= MAX_SEVERITY,
            f"rule {self.name!r}: min_severity is {self.min_severity}, must be 1 to {MAX_SEVERITY}",
        )
        for name in ("min_count", "max_used_frames"):
            value = getattr(self, name)
            require(value is None or value >= 0, f"rule {self.name!r}: {name} is {value}, must be 0 or more")

    @property
    def asks_for_a_contaminant(self) -> bool:
        """Whether a condition looks at single classes."""
        conditions = (self.min_severity, self.class_name, self.min_count, self.min_score, self.min_certainty)
        return any(value is not None for value in conditions)


SURE_CERTAINTY = 0.35
"""Certainty from which the rules that ship let a single frame speak."""

DEFAULT_RULES = (
    VerdictRule(name="highest_severity", verdict="reject", min_severity=MAX_SEVERITY),
    VerdictRule(name="several_severe", verdict="reject", min_severity=2, min_count=3),
    VerdictRule(name="contaminant", verdict="review", min_severity=1),
    VerdictRule(name="sure_glimpse", verdict="review", min_severity=1, min_count=0, min_certainty=SURE_CERTAINTY),
    VerdictRule(name="contamination", verdict="review", min_contamination_frac=0.001),
    VerdictRule(name="few_frames", verdict="review", max_used_frames=1),
    VerdictRule(name="low_coverage", verdict="review", max_coverage_frac=0.5),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictConfig:
    """``[verdict]``: rules of the yard; a list given here takes the place of the whole default list."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    rules: tuple[VerdictRule, ...] = DEFAULT_RULES

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, f"rules have the same name: {', '.join(twice)}; give each its own")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """``[limits]``: when an audit that ran to its end still asks for attention by its exit code.

    ``max_rejected_frac`` is the share of frames above which it ends with 1; ``alert_exit_code`` lets it end with 3
    when a load holds a contaminant of the highest severity.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    max_rejected_frac: float = 0.5
    alert_exit_code: bool = True

    def __post_init__(self) -> None:
        require(0 <= self.max_rejected_frac <= 1, f"max_rejected_frac is {self.max_rejected_frac}, must be 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """The whole file."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    archive: ArchiveConfig = ArchiveConfig()
    storage: StorageConfig = StorageConfig()
    gate_log: GateLogConfig | None = None
    cameras: dict[str, CameraConfig] = field(default_factory=dict)
    quality: QualityConfig = QualityConfig()
    segment: SegmentConfig = SegmentConfig()
    resources: ResourcesConfig = ResourcesConfig()
    verdict: VerdictConfig = VerdictConfig()
    limits: LimitsConfig = LimitsConfig()
    alerts: AlertsConfig = field(default_factory=AlertsConfig)

    def as_dict(self, *sections: str) -> dict[str, Any]:
        """Plain values for JSON, of all sections or of those named."""
        whole = asdict(self)
        return {name: whole[name] for name in sections} if sections else whole


def read_config(path: Path | None) -> AuditConfig:
    """Read an audit's settings; without a path, all defaults.

    Raises:
        ConfigurationError: See ``read_settings``.
    """
    return AuditConfig() if path is None else read_settings(path, AuditConfig)


def read_settings(path: Path, kind: type[_Settings]) -> _Settings:
    """Read a file of settings (TOML) as one dataclass of sections.

    Raises:
        ConfigurationError: The file is missing, is not TOML, or holds an unknown key, or a value of another type or out
            of range; the message names the file, the key and the mend.
    """
    return settings_of(read_toml(path), kind, source=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The plain values of a file of settings.

    Raises:
        ConfigurationError: The file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such configuration file") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read as a file: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not readable as TOML: {error}") from error


def settings_of(values: Mapping[str, Any], kind: type[_Settings], *, source: str) -> _Settings:
    """Plain values as one dataclass of sections.

    Args:
        values: Section by section.
        kind: The dataclass.
        source: Where they come from, for messages.

    Raises:
        ConfigurationError: An unknown key, or a value of another type or out of range; the message names source, key
            and mend.
    """
    try:
        # As JSON, where a strict check still takes lists for tuples and text for dates.
        return TypeAdapter(kind).validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise ConfigurationError(f"{source}: " + "; ".join(map(_explain, error.errors()))) from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from error


def _explain(fault: Mapping[str, Any]) -> str:
    """One fault that pydantic found, in one phrase: where, what, and the value that was given."""
    place = ".".join(str(part) for part in fault["loc"]) or "file"
    if fault["type"] == "unexpected_keyword_argument":
        return f"unknown key {place}; remove it or correct its name"
    if fault["type"] == "value_error":
        return f"[{place}] {fault['ctx']['error']}"
    what = fault["msg"][0].lower() + fault["msg"][1:]
    # An address may hold a secret, and a person may give one where its name belongs.
    is_secret = "endpoint_url" in fault["loc"] or place.endswith("_env")
    return f"{place}: {what}" if is_secret else f"{place} is {fault['input']!r}: {what}"


def sha256_of(values: Any) -> str:
    """Hex digest of plain values, the same for the same values in any order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def environment(name: str) -> str | None:
    """One environment variable; the only door to ``os.environ``."""
    return os.environ.get(name)


def set_default_environment(**values: str) -> None:
    """Set environment variables that libraries read, where the user has not set them."""
    for name, value in values.items():
        os.environ.setdefault(name, value)
