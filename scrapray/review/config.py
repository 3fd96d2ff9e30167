"""Settings of a review, read from one TOML file: ``read_settings(path, ReviewConfig)``."""

from dataclasses import dataclass, field, fields
from typing import ClassVar

from pydantic import ConfigDict, StrictInt

from scrapray.config import StorageConfig
from scrapray.settings import STRICT, require


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """``[queue]``: how many frames of a night and site are chosen for each reason; 0 leaves the reason out.

    ``seed`` draws the random sample: the same seed, the same frames. ``true`` is no number.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    high_severity: StrictInt = 10
    near_threshold: StrictInt = 10
    disagreement: StrictInt = 10
    rare_class: StrictInt = 5
    random_sample: StrictInt = 15
    seed: StrictInt = 1

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            require(value >= 0, f"{setting.name} is {value}, must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewConfig:
    """The whole file; ``[storage]`` is that of an audit."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    storage: StorageConfig = field(default_factory=StorageConfig)
    queue: QueueConfig = QueueConfig()
