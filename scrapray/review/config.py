"""Settings of a review, read from one TOML file: ``read_settings(path, ReviewConfig)``."""

from dataclasses import dataclass, field, fields
from typing import ClassVar

from pydantic import ConfigDict

from scrapray.config import StorageConfig
from scrapray.settings import STRICT, require


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """``[queue]``: how many frames of a night and site are chosen for each reason; 0 leaves the reason out.

    ``seed`` draws the random sample: the same seed, the same frames.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    high_severity: int = 10
    near_threshold: int = 10
    disagreement: int = 10
    rare_class: int = 5
    random_sample: int = 15
    seed: int = 1

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
