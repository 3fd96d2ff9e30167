"""Settings of an evaluation, read from one TOML file."""

from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from scrapray.baselines.anomalyclip import AnomalyClipConfig
from scrapray.baselines.maskrcnn import MaskRcnnConfig
from scrapray.baselines.rasterise import Reduce
from scrapray.baselines.winclip import WinClipConfig
from scrapray.baselines.yolo_sam import YoloSamConfig
from scrapray.config import StorageConfig
from scrapray.settings import STRICT, require
from scrapray.training.config import StartConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersConfig:
    """``[workers]``: what to take of the cluster.

    Attributes:
        actors: Copies of the method that score at the same time.
        cpus_per_actor: For each.
        gpus_per_actor: For each; 0 scores on CPUs.
        wait_for_nodes_s: Given to a cluster without room, to grow.
        no_progress_timeout_s: After which a run in which nothing was finished is given up.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    actors: int = 1
    cpus_per_actor: int = 1
    gpus_per_actor: float = 0.0
    wait_for_nodes_s: float = 0.0
    no_progress_timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        for name, least in (("actors", 1), ("cpus_per_actor", 1), ("gpus_per_actor", 0), ("wait_for_nodes_s", 0)):
            require(getattr(self, name) >= least, f"{name} is {getattr(self, name)}, must be {least} or more")
        require(
            self.no_progress_timeout_s > 0, f"no_progress_timeout_s is {self.no_progress_timeout_s}, must be above 0"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleConfig:
    """``[bundle]``: how a bundle is run.

    Attributes:
        autocast: Run its vision tower in bf16.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    autocast: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenClipConfig(StartConfig):
    """``[clip]``: the CLIP that baselines without training ask; otherwise as ``[start]`` of a training."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    clip: str = "ViT-B-16-plus-240"
    weights: str = "laion400m_e32"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """``[detector]``: how instances that a detector found become maps.

    Attributes:
        reduce: Where instances overlap: ``max``, the surest counts; ``noisy_or``, each finds what others miss.
        min_score: Instances below do not count. Detectors are usually run with a floor, 0.05 by torchvision and 0.25
            by ultralytics, which cuts their precision-recall curves short.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    reduce: Reduce = "max"
    min_score: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.min_score <= 1, f"min_score is {self.min_score}, must be from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """The whole file; ``[start]`` is the CLIP that AnomalyCLIP learns prompts for."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    storage: StorageConfig = field(default_factory=StorageConfig)
    workers: WorkersConfig = WorkersConfig()
    bundle: BundleConfig = BundleConfig()
    clip: FrozenClipConfig = FrozenClipConfig()
    winclip: WinClipConfig = field(default_factory=WinClipConfig)
    start: StartConfig = field(default_factory=StartConfig)
    anomalyclip: AnomalyClipConfig = field(default_factory=AnomalyClipConfig)
    maskrcnn: MaskRcnnConfig = field(default_factory=MaskRcnnConfig)
    yolo_sam: YoloSamConfig = field(default_factory=YoloSamConfig)
    detector: DetectorConfig = DetectorConfig()
