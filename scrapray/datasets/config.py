"""Settings of a dataset, read from one TOML file: ``read_settings(path, DatasetConfig)``.

``[archive]``, ``[storage]`` and ``[cameras]`` are those of an audit.
"""

import datetime as dt
import re
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import ConfigDict

from scrapray.config import ArchiveConfig, CameraConfig, StorageConfig
from scrapray.datasets.classes import ClassNames
from scrapray.datasets.split import Split
from scrapray.labels import MAX_SEVERITY, SCRAP_CONTAMINANTS, Contaminant
from scrapray.settings import STRICT, require

_KNOWN = {contaminant.name: contaminant for contaminant in SCRAP_CONTAMINANTS}
_MOST_CLASSES = 255
_SHARES_TOLERANCE = 1e-9
_CELL_PX = 4
_RESERVED = ("any", "steel")
"""Names that figures and masks use themselves."""
_NAME = re.compile(r"[\w][\w .:/-]*")
"""What a tracking server takes as part of a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassConfig:
    """``[[classes]]``: one contaminant; its place in the list, from 1, is its class id.

    ``aliases`` are what annotators call it; the alias ``*`` takes every name that nothing else takes. The contaminants
    of the paper are known by their names; any other needs a ``definition`` and a ``severity``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: str
    aliases: tuple[str, ...] = ()
    definition: str | None = None
    severity: int | None = None

    def __post_init__(self) -> None:
        require(
            self.name.lower() not in _RESERVED and _NAME.fullmatch(self.name) is not None,
            f"{self.name!r} cannot be the name of a class: take letters, digits, blanks and _ - . / : and none of "
            f"{', '.join(_RESERVED)}",
        )
        require(
            self.name in _KNOWN or None not in (self.definition, self.severity),
            f"{self.name!r} is new, so give its definition and its severity",
        )
        require(
            self.severity is None or 1 <= self.severity <= MAX_SEVERITY,
            f"{self.name!r}: severity is {self.severity}, must be 1 to {MAX_SEVERITY}",
        )

    @property
    def contaminant(self) -> Contaminant:
        """The class as a segmenter knows it."""
        given: dict[str, Any] = {"definition": self.definition, "severity": self.severity}
        given = {key: value for key, value in given.items() if value is not None}
        known = _KNOWN.get(self.name)
        return replace(known, **given) if known else Contaminant(name=self.name, **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationsConfig:
    """``[annotations]``: how to read them.

    ``ignored_classes`` are names that mean no class here; what has one counts as steel. ``mask_values`` names what the
    values 1, 2, and so on of class-index masks mean; left out, they are the classes in their order.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    ignored_classes: tuple[str, ...] = ()
    mask_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TilesConfig:
    """``[tiles]``: how frames are cut.

    ``clean_share`` is the share of tiles without a contaminant that are kept, chosen by their names.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    tile_px: int = 512
    overlap_px: int = 64
    clean_share: float = 1.0
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        require(
            self.tile_px >= 1 and self.tile_px % _CELL_PX == 0,
            f"tile_px is {self.tile_px}, must be a multiple of {_CELL_PX}, the side of a cell of a map",
        )
        require(
            0 <= self.overlap_px < self.tile_px,
            f"overlap_px is {self.overlap_px}, must be 0 to {self.tile_px - 1}, less than tile_px",
        )
        require(0 <= self.clean_share <= 1, f"clean_share is {self.clean_share}, must be 0 to 1")
        require(self.max_pixels >= 1, f"max_pixels is {self.max_pixels}, must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedDates:
    """``[[split.fixed]]``: all frames from ``first`` to ``last``, both included, belong to one split."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    split: Split
    first: dt.date = dt.date.min
    last: dt.date = dt.date.max

    def __post_init__(self) -> None:
        require(self.first <= self.last, f"first is {self.first}, which is after last, {self.last}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitConfig:
    """``[split]``: shares of loads, and dates whose split is fixed."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    train: float = 0.7
    validation: float = 0.15
    test: float = 0.15
    seed: int = 1
    fixed: tuple[FixedDates, ...] = ()

    def __post_init__(self) -> None:
        for name, share in self.shares.items():
            require(0 <= share <= 1, f"{name} is {share}, must be 0 to 1")
        total = sum(self.shares.values())
        require(abs(total - 1) < _SHARES_TOLERANCE, f"train, validation and test add up to {total:g}, must be 1")
        for place, dates in enumerate(self.fixed):
            for other in self.fixed[:place]:
                require(
                    dates.split == other.split or dates.last < other.first or other.last < dates.first,
                    f"fixed: dates of {dates.split} and of {other.split} overlap; end one before the other begins",
                )

    @property
    def shares(self) -> dict[Split, float]:
        """By split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def fixed_dates(self) -> list[tuple[Split, dt.date, dt.date]]:
        """As ``split_of`` takes them."""
        return [(dates.split, dates.first, dates.last) for dates in self.fixed]


@dataclass(frozen=True, slots=True, kw_only=True)
class BedByWords:
    """``[bed_by_words]``: find the truck bed in frames of cameras that have no polygon, by naming what is there.

    Needs the extra ``words``. ``detector`` is a Grounding DINO and ``masker`` a SAM: names on the hub, or folders that
    all nodes have.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    phrases: tuple[str, ...] = ("scrap", "truck bed")
    detector: str = "IDEA-Research/grounding-dino-base"
    masker: str = "facebook/sam-vit-huge"
    min_score: float = 0.3

    def __post_init__(self) -> None:
        require(bool(self.phrases) and all(map(str.strip, self.phrases)), "phrases must be one or more, none empty")
        require(0 < self.min_score < 1, f"min_score is {self.min_score}, must be between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetResources:
    """``[resources]``: a cluster without room is given ``wait_for_nodes_s`` to grow, or refused at once."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    wait_for_nodes_s: float = 0.0

    def __post_init__(self) -> None:
        require(self.wait_for_nodes_s >= 0, f"wait_for_nodes_s is {self.wait_for_nodes_s}, must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetConfig:
    """The whole file."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    cameras: dict[str, CameraConfig] = field(default_factory=dict)
    bed_by_words: BedByWords | None = None
    classes: tuple[ClassConfig, ...] = tuple(ClassConfig(name=name) for name in _KNOWN)
    annotations: AnnotationsConfig = AnnotationsConfig()
    tiles: TilesConfig = TilesConfig()
    split: SplitConfig = SplitConfig()
    resources: DatasetResources = DatasetResources()

    def __post_init__(self) -> None:
        names = [one.name for one in self.classes]
        require(1 <= len(names) <= _MOST_CLASSES, f"classes has {len(names)} entries, must have 1 to {_MOST_CLASSES}")
        require(len(set(names)) == len(names), f"classes {', '.join(names)}: a name stands twice")
        assert self.class_names  # refuses names with two meanings

    @property
    def class_names(self) -> ClassNames:
        """What names of annotators mean."""
        return ClassNames(
            [one.name for one in self.classes],
            {one.name: one.aliases for one in self.classes},
            self.annotations.ignored_classes,
        )

    @property
    def class_of_mask_value(self) -> dict[int, int]:
        """The class id of every value that may stand in a class-index mask.

        Raises:
            ConfigurationError: ``mask_values`` has a name without a meaning.
        """
        names = self.class_names
        words = self.annotations.mask_values or names.names
        class_of = names.resolve(words, "[annotations] mask_values")
        class_names = [class_of[word] for word in words]
        return {0: 0} | {value: names.class_id(name) if name else 0 for value, name in enumerate(class_names, 1)}
