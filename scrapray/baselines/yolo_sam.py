"""YOLO finds boxes, SAM finds the mask in each: two detectors of one make, YOLOv8x-seg and YOLO11x-seg.

    tiles -> files -> ultralytics' own training -> boxes with scores from 0.001 on -> SAM -> ``rasterise``

Needs the extra ``yolo``. Ultralytics is AGPL-3.0, unlike all else here: who passes on a service or a program with it
has to heed its licence. It is imported in this module only, when a method is used. Its ``.pt`` files can run code when
they are opened, so take weights from people you trust; what is trained here is kept as safetensors.

Shapes: N tiles, I instances, H x W pixels of a tile.

Reference: YOLOv8 and YOLO11 (Jocher et al. 2023, 2024); masks of boxes by SAM in place of YOLO's own, as in the scrap
paper, which names neither the size of SAM nor what YOLO was trained with.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from torch import nn

from scrapray.baselines.epochs import Tiles, Watch, begin_anew
from scrapray.baselines.rasterise import Instances
from scrapray.errors import ConfigurationError, ModelError
from scrapray.imagery.png import encode_png
from scrapray.segmenter.box_masks import BoxMasker
from scrapray.segmenter.whole_files import whole_file
from scrapray.settings import STRICT, require

COCO, RANDOM = "coco", "random"
"""Weights of ultralytics' own, trained on COCO; and weights that are none."""
YoloVersion = Literal["v8", "11"]
_TELLS_OTHERS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")


@dataclass(frozen=True, slots=True, kw_only=True)
class YoloSamConfig:
    """``[yolo_sam]``: the defaults of ultralytics, but for the floor of scores.

    Attributes:
        version: YOLOv8 or YOLO11.
        size: Nano to extra large; the scrap paper took the largest of both.
        weights: ``coco`` for those of ultralytics (fetched by it), a ``.pt`` file, or ``random``.
        masker: SAM: a name on the hub, or a folder.
        input_px: Side to which tiles are resized.
        min_score: Boxes below are left out; its 0.25 would cut the precision-recall curve short.
        max_overlap: Of two boxes that share more of their union, the less sure one is dropped.
        max_instances: Most boxes of a tile.
        epochs: Times that each training tile is shown.
        batch_size: Tiles of a step.
        seed: Of new heads, order and changes of tiles.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    version: YoloVersion = "v8"
    size: Literal["n", "s", "m", "l", "x"] = "x"
    weights: str = COCO
    masker: str = "facebook/sam-vit-huge"
    input_px: int = 640
    min_score: float = 0.001
    max_overlap: float = 0.7
    max_instances: int = 300
    epochs: int = 100
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("input_px", 32), ("max_instances", 1), ("epochs", 1), ("batch_size", 1), ("seed", 0)):
            require(getattr(self, name) >= least, f"{name} is {getattr(self, name)}, must be {least} or more")
        for name in ("min_score", "max_overlap"):
            require(0 < getattr(self, name) < 1, f"{name} is {getattr(self, name)}, must be between 0 and 1")

    @property
    def model(self) -> str:
        """The model as ultralytics names it."""
        return f"yolo{self.version}{self.size}-seg"


class YoloSam:
    """Both models on a device, untrained until a state is loaded into ``learned``."""

    def __init__(self, config: YoloSamConfig, num_classes: int, device: str = "cpu") -> None:
        """Build them.

        Args:
            config: What to build.
            num_classes: Contaminants.
            device: Where to compute.

        Raises:
            ConfigurationError: The extra is not installed.
            ModelError: SAM cannot be had.
        """
        self._config, self._device = config, device
        library = _ultralytics()
        with _quiet():
            self._yolo = library.YOLO(f"{config.model}.yaml")
            self._yolo.model = library.nn.tasks.SegmentationModel(f"{config.model}.yaml", nc=num_classes, verbose=False)
        self._masks_in = BoxMasker(config.masker, device)

    @property
    def learned(self) -> nn.Module:
        """YOLO."""
        learned: nn.Module = self._yolo.model
        return learned

    def __call__(self, tiles_NHW3: NDArray[np.uint8]) -> Iterator[Instances]:
        """What is found in each tile; tile by tile, since masks of one, YOLO's own too, take 100s of MB."""
        return map(self._found_in, tiles_NHW3)

    def _found_in(self, tile_HW3: NDArray[np.uint8]) -> Instances:
        boxes = self._boxes_in(tile_HW3)
        return Instances(
            scores_I=boxes.conf.cpu().numpy(),
            labels_I=boxes.cls.cpu().numpy().astype(np.int64) + 1,
            masks_IHW=self._masks_in(tile_HW3, boxes.xyxy.cpu().numpy()),
        )

    def _boxes_in(self, tile_HW3: NDArray[np.uint8]) -> Any:
        config = self._config
        with _quiet():
            (found,) = self._yolo.predict(
                np.ascontiguousarray(tile_HW3[..., ::-1]),  # it takes blue first
                conf=config.min_score,
                iou=config.max_overlap,
                max_det=config.max_instances,
                imgsz=config.input_px,
                device=self._device,
                verbose=False,
            )
        return found.boxes


def train_yolo(
    config: YoloSamConfig,
    training: Tiles,
    validation: Tiles,
    num_classes: int,
    work_dir: Path,
    training_sha256: str,
    device: str,
    watch: Watch = lambda done, total, loss: None,
) -> nn.Module:
    """Train YOLO as ultralytics does by default; the best of its epochs on validation comes out.

    Args:
        config: What to train.
        training: Tiles that it is shown.
        validation: Tiles that choose the epoch; without any, those of training do.
        num_classes: Contaminants.
        work_dir: Takes the tiles as files, and a checkpoint after each epoch, from which a training that was cut goes
            on.
        training_sha256: Stands for all that decides what is learned; a checkpoint with another one is not gone on with.
        device: Where to compute.
        watch: Called after each epoch, in steps.

    Raises:
        ConfigurationError: The extra is not installed.
        ModelError: Weights to begin from cannot be had, or the checkpoint is of another training.
    """
    library = _ultralytics()
    last, best = (work_dir / "run" / "weights" / name for name in ("last.pt", "best.pt"))
    is_begun = _is_begun(last, work_dir / "training_sha256", training_sha256)
    data = _write_data(work_dir / "tiles", training, validation if len(validation) else training, num_classes)
    with _quiet():
        yolo = library.YOLO(str(last)) if is_begun else _begin(config, library)
        if not is_begun or yolo.ckpt["epoch"] >= 0:  # that of a finished training is -1
            yolo.add_callback("on_train_epoch_end", lambda trainer: _tell(trainer, watch))
            yolo.train(
                resume=is_begun,
                data=str(data),
                epochs=config.epochs,
                batch=config.batch_size,
                imgsz=config.input_px,
                seed=config.seed,
                device=device,
                amp=device != "cpu",
                workers=0,  # tiles are small, and a process for each would read the same files
                plots=False,
                verbose=False,
                project=str(work_dir),
                name="run",
                exist_ok=True,
            )
        trained: nn.Module = library.YOLO(str(best)).model.float()
    return trained


def _is_begun(last: Path, belongs_to: Path, training_sha256: str) -> bool:
    """Whether a checkpoint of this training is there; where none is, a file is to say whose the next one will be."""
    if not last.exists():
        with whole_file(belongs_to) as part:
            part.write_text(training_sha256)
        return False
    if not belongs_to.exists() or belongs_to.read_text() != training_sha256:
        raise ModelError(f"{last} is of a training with other settings or another dataset; {begin_anew(last)}")
    return True


def _begin(config: YoloSamConfig, library: Any) -> Any:
    if config.weights == RANDOM:
        return library.YOLO(f"{config.model}.yaml")
    try:
        return library.YOLO(f"{config.model}.pt" if config.weights == COCO else config.weights, task="segment")
    except Exception as error:  # its own, and those of files, pickles and downloads
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"weights {config.weights} of {config.model} cannot be had: {reason}; give a .pt file of ultralytics, or "
            "random"
        ) from error


def _tell(trainer: Any, watch: Watch) -> None:
    per_epoch = len(trainer.train_loader)
    watch((trainer.epoch + 1) * per_epoch, trainer.epochs * per_epoch, sum(map(float, trainer.tloss.values())))


def _write_data(folder: Path, training: Tiles, validation: Tiles, num_classes: int) -> Path:
    """Tiles as ultralytics reads them: pictures, and polygons of connected pieces in text files beside them.

    Classes have numbers only: it reads meaning into some names, and none is asked for.
    """
    from ultralytics.data.converter import convert_segment_masks_to_yolo_seg

    shutil.rmtree(folder, ignore_errors=True)
    for split, tiles in (("train", training), ("val", validation)):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for place in range(len(tiles)):
            for kind, pixels in zip(("images", "masks"), tiles[place], strict=True):
                (folder / kind / split / f"{place:07d}.png").write_bytes(encode_png(pixels))
        with _quiet():
            convert_segment_masks_to_yolo_seg(
                str(folder / "masks" / split), str(folder / "labels" / split), num_classes
            )
    data = folder / "data.yaml"
    about = {"path": str(folder.absolute()), "train": "images/train", "val": "images/val", "nc": num_classes}
    data.write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")  # JSON is YAML
    return data


def _ultralytics() -> Any:
    try:
        import ultralytics
    except ImportError as error:
        raise ConfigurationError(
            "for YOLO, install the extra: pip install 'scrapray[yolo]'; ultralytics is AGPL-3.0, unlike scrapray"
        ) from error
    # Of this process only: its own ``update`` would change the settings file of the user.
    dict.update(ultralytics.settings, dict.fromkeys(_TELLS_OTHERS, False))
    return ultralytics


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its lines of progress; ours come from ``watch``."""
    log = logging.getLogger("ultralytics")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)
