"""Checkpoints of a training: the averaged weights and all that the optimizer needs to go on from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import schedulefree
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from scrapray.errors import ModelError
from scrapray.segmenter.model import Segmenter
from scrapray.segmenter.whole_files import whole_file

_FORMAT = 1


def save_checkpoint(path: Path, step: int, segmenter: Segmenter, optimizer: schedulefree.AdamWScheduleFree) -> None:
    """Write a checkpoint whole; the caller has put both into evaluation mode, the only one that can be resumed."""
    write_checkpoint(path, checkpoint_of(step, segmenter, optimizer))


def checkpoint_of(step: int, segmenter: Segmenter, optimizer: schedulefree.AdamWScheduleFree) -> dict[str, Any]:
    """What a checkpoint holds; where weights are shared among processes, all of them have to ask for it."""
    assert not optimizer.param_groups[0]["train_mode"], "a checkpoint holds the averaged weights"
    return {
        "format": _FORMAT,
        "step": step,
        "segmenter_config": segmenter.config.as_dict(),
        "classes": [contaminant.name for contaminant in segmenter.classes],
        "segmenter": _whole(segmenter.state()),
        "optimizer": _whole(optimizer.state_dict()),
    }


def write_checkpoint(path: Path, values: Mapping[str, Any]) -> None:
    """Write what ``checkpoint_of`` gave, at once or not at all."""
    with whole_file(path) as part:
        torch.save(values, part)


def _whole(value: Any) -> Any:
    """The same with tensors of which this process has a share put together."""
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _share(value: Any, like: Tensor) -> Any:
    """This process's share of a tensor, where it has a share of the other one."""
    if isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape:
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value


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
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = saved["optimizer"]["state"]
    for number, parameter in enumerate(trained):
        state[number] = {name: _share(value, parameter) for name, value in state.get(number, {}).items()}
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
    mine = segmenter.state()
    segmenter.load_state({name: _share(value, mine.get(name, value)) for name, value in saved["segmenter"].items()})
    return saved


def steps_done(checkpoint: Path) -> int:
    """Steps that a checkpoint holds; 0 when there is none.

    Raises:
        ModelError: The file is not a checkpoint of ours.
    """
    return int(_read(checkpoint)["step"]) if checkpoint.exists() else 0
