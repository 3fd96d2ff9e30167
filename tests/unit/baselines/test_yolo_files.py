"""What is written for ultralytics, and what is gone on with; a stand-in for it only notes what it is asked."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml

from scrapray.baselines.yolo_sam import YoloSamConfig, train_yolo
from scrapray.errors import ModelError

TILE = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.uint8)


class Yolo:
    """Stops in its first epoch, with a checkpoint written."""

    ckpt: ClassVar = {"epoch": 0}
    asked: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, weights: str) -> None:
        pass

    def add_callback(self, event: str, callback: object) -> None:
        pass

    def train(self, **settings: Any) -> None:
        self.asked.append(settings)
        last = Path(settings["project"], settings["name"], "weights", "last.pt")
        last.parent.mkdir(parents=True, exist_ok=True)
        last.touch()
        raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _library(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ultralytics", "ultralytics.data", "ultralytics.data.converter")
    library, data, converter = (ModuleType(name) for name in names)
    library.settings, library.YOLO = {}, Yolo
    converter.convert_segment_masks_to_yolo_seg = lambda *arguments: None
    for name, module in zip(names, (library, data, converter), strict=True):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Yolo, "asked", [])


def begin(folder: Path, training_sha256: str = "12") -> dict[str, Any]:
    """Train until it stops; gives what ultralytics was asked."""
    with pytest.raises(KeyboardInterrupt):
        train_yolo(YoloSamConfig(weights="random"), [TILE], [TILE], 3, folder, training_sha256, "cpu")
    return Yolo.asked[-1]


def test_any_folder_can_be_read_from_the_file_that_tells_of_the_data(tmp_path: Path) -> None:
    folder = tmp_path / "runs #2: 'größe' 📷"
    data = Path(begin(folder)["data"])
    read = yaml.safe_load(data.read_text(encoding="utf-8"))
    assert read == {"path": str(folder / "tiles"), "train": "images/train", "val": "images/val", "nc": 3}
    assert Path(read["path"], read["train"], "0000000.png").exists()


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    last = tmp_path / "run" / "weights" / "last.pt"
    assert [begin(tmp_path)["resume"], begin(tmp_path)["resume"]] == [False, True]
    words = rf"{last} is of a training with other settings or another dataset; .* or delete the file {last} to begin"
    with pytest.raises(ModelError, match=words):
        begin(tmp_path, "13")
    last.unlink()
    assert [begin(tmp_path, "13")["resume"], begin(tmp_path, "13")["resume"]] == [False, True]
    (tmp_path / "training_sha256").unlink()  # as an earlier version left it
    with pytest.raises(ModelError, match=words):
        begin(tmp_path, "13")
