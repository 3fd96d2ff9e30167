"""Settings of a finetuning, read from one TOML file (see ``profiles.read_finetune``).

The defaults are the scrap paper's: ViT-L/14@336 at 518 px, batches of 4 tiles, 15 epochs, one learning rate, no
augmentation.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from scrapray.config import StorageConfig, sha256_of
from scrapray.imagery.augmentation import AugmentConfig
from scrapray.segmenter.bundle import shipped
from scrapray.segmenter.losses import LossConfig
from scrapray.segmenter.model import SegmenterConfig
from scrapray.segmenter.step import OptimConfig
from scrapray.settings import STRICT, require

MINIATURE, RANDOM = "miniature", "random"
"""Names of the CLIP that is shipped with the package, and of weights that are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartConfig:
    """``[start]``: the CLIP that finetuning begins from.

    Attributes:
        clip: open_clip's name, a JSON file in open_clip's layout, or ``miniature`` for the one that is shipped.
        weights: ``openai`` or another of open_clip's tags, a file, or ``random``; the CLIP that is shipped has its
            own, ``miniature``, if they are left out. Files must be there on all nodes.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    clip: str = "ViT-L-14-336-quickgelu"
    weights: str = "openai"

    def __post_init__(self) -> None:
        own = next(each.default for each in fields(self) if each.name == "weights")
        if self.clip == MINIATURE and self.weights == own:
            object.__setattr__(self, "weights", MINIATURE)
        require(
            self.weights in (MINIATURE, RANDOM) if self.clip == MINIATURE else self.weights != MINIATURE,
            f"weights is {self.weights!r} with clip {self.clip!r}: the CLIP that is shipped has its own, and no other "
            "has those; leave weights out, or give clip the name or JSON file of the model that they are of",
        )

    def places(self) -> tuple[str, str | None]:
        """Model and weights as ``build_segmenter`` takes them, on this node."""
        folder = shipped("miniature-clip")
        model = str(folder / "model.json") if self.clip == MINIATURE else self.clip
        weights = str(folder / "weights.safetensors") if self.weights == MINIATURE else self.weights
        return model, None if weights == RANDOM else weights


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """``[training]``: how long, and with how many tiles at a time.

    Attributes:
        epochs: Times that each training tile is shown; the paper's 15.
        batch_size: Tiles of one step over all workers together; the paper's 4.
        tiles_per_pass: Tiles that a worker holds in memory at once; the rest of its share follows in further passes.
        loss_px: Side of the maps on which losses are computed; the segmenter's input if left out.
        balanced: Show tiles of each class equally often, instead of each tile once an epoch.
        autocast: Run the vision tower in bf16.
        activation_checkpointing: Keep only what enters each block of the tower, and compute the rest again on the way
            back: less memory, more time, the same result.
        seed: Of everything that is random.
        checkpoint_every_steps: Between two checkpoints; each epoch ends with one too.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    epochs: int = 15
    batch_size: int = 4
    tiles_per_pass: int = 1
    loss_px: int | None = None
    balanced: bool = False
    autocast: bool = True
    activation_checkpointing: bool = False
    seed: int = 0
    checkpoint_every_steps: int = 500

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "tiles_per_pass", "checkpoint_every_steps"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, must be 1 or more")
        require(self.loss_px is None or self.loss_px >= 1, f"loss_px is {self.loss_px}, must be 1 or more")
        require(self.seed >= 0, f"seed is {self.seed}, must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersConfig:
    """``[workers]``: on what to train. Training begins with ``min`` workers and takes up to ``max`` as they come.

    Attributes:
        min: Fewest workers to begin and to go on with.
        max: Most workers; at most one for each tile of a batch.
        strategy: ``ddp`` holds the whole segmenter on each worker; ``fsdp`` divides it among them, for towers that
            outgrow one GPU.
        gpus_per_worker: 0 trains on CPUs.
        cpus_per_worker: For the worker and its loaders.
        loaders: Processes of each worker that read and vary tiles; 0 does it in the worker itself.
        max_failures: Times that training goes on from its last checkpoint after losing a worker.
        wait_for_nodes_s: Given to a cluster that is smaller than ``min`` workers need, to grow.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    min: int = 1
    max: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    gpus_per_worker: float = 1.0
    cpus_per_worker: int = 4
    loaders: int = 2
    max_failures: int = 3
    wait_for_nodes_s: float = 0.0

    def __post_init__(self) -> None:
        require(1 <= self.min <= self.max, f"min is {self.min} and max {self.max}, must be 1 <= min <= max")
        for name, least in (
            ("gpus_per_worker", 0),
            ("cpus_per_worker", 1),
            ("loaders", 0),
            ("max_failures", 0),
            ("wait_for_nodes_s", 0),
        ):
            require(getattr(self, name) >= least, f"{name} is {getattr(self, name)}, must be {least} or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig:
    """The whole file."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    storage: StorageConfig = field(default_factory=StorageConfig)
    start: StartConfig = field(default_factory=StartConfig)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)

    def __post_init__(self) -> None:
        require(
            self.workers.max <= self.training.batch_size,
            f"[workers] max is {self.workers.max} but [training] batch_size only {self.training.batch_size}: each "
            "worker needs at least one tile of every step",
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for the registry."""
        return asdict(self)

    def sha256(self) -> str:
        """Stands for all that decides what comes out; storage does not, and workers only by rounding."""
        return sha256_of({name: value for name, value in asdict(self).items() if name not in ("storage", "workers")})
