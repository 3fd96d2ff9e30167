"""Checkpoints of a training: the averaged weights and all that the optimizer needs to go on from them."""

from pathlib import Path
from typing import Any

import schedulefree
import torch

from scrapray.errors import ModelError
from scrapray.segmenter.model import Segmenter

_FORMAT = 1


def save_checkpoint(path: Path, step: int, segmenter: Segmenter, optimizer: schedulefree.AdamWScheduleFree) -> None:
    """Write a checkpoint whole; the caller has put both into evaluation mode, the only one that can be resumed."""
    assert not optimizer.param_groups[0]["train_mode"], "a checkpoint holds the averaged weights"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(
        {
            "format": _FORMAT,
            "step": step,
            "segmenter_config": segmenter.config.as_dict(),
            "classes": [contaminant.name for contaminant in segmenter.classes],
            "segmenter": segmenter.state(),
            "optimizer": optimizer.state_dict(),
        },
        part,
    )
    part.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch faults all mean that the file is not a checkpoint
        raise ModelError(f"{path}: not readable as a checkpoint; remove it to start again") from error
    if not isinstance(saved, dict) or saved.get("format") != _FORMAT:
        raise ModelError(f"{path}: not a checkpoint of format {_FORMAT}; remove it to start again")
    return saved


def load_checkpoint(path: Path, segmenter: Segmenter, optimizer: schedulefree.AdamWScheduleFree) -> int:
    """Go on from a checkpoint if there is one; learning rates are those asked for now.

    Returns:
        Steps that it holds; 0 when there is none.

    Raises:
        ModelError: It is of another segmenter, or of other trained parts.
    """
    if not path.exists():
        return 0
    saved = _load(path, segmenter)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    try:
        optimizer.load_state_dict(saved["optimizer"])
    except ValueError as error:
        raise ModelError(f"{path}: trained other parts of the segmenter than asked for now: {error}") from error
    for group in optimizer.param_groups:
        group["lr"] = rates[group["name"]]
    return int(saved["step"])


def load_weights(path: Path, segmenter: Segmenter) -> int:
    """Take over the averaged weights of a checkpoint, without what further training needs.

    Returns:
        Steps that it holds.

    Raises:
        ModelError: The file is not a checkpoint of ours, or one of another segmenter.
    """
    return int(_load(path, segmenter)["step"])


def _load(path: Path, segmenter: Segmenter) -> dict[str, Any]:
    saved = _read(path)
    classes = [contaminant.name for contaminant in segmenter.classes]
    if saved["segmenter_config"] != segmenter.config.as_dict() or saved["classes"] != classes:
        raise ModelError(
            f"{path}: checkpoint of another segmenter (classes {saved['classes']}, settings "
            f"{saved['segmenter_config']}); use another path or the same settings"
        )
    segmenter.load_state(saved["segmenter"])
    return saved


def steps_done(checkpoint: Path) -> int:
    """Steps that a checkpoint holds; 0 when there is none.

    Raises:
        ModelError: The file is not a checkpoint of ours.
    """
    return int(_read(checkpoint)["step"]) if checkpoint.exists() else 0
