"""A baseline that was trained: a folder with its weights and what it takes to open it.

<folder>/baseline.json         method, classes, settings, what it was trained on, hash of the weights
<folder>/weights.safetensors   what was learned
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from scrapray.config import sha256_of
from scrapray.errors import ModelError, first_fault
from scrapray.segmenter.whole_files import whole_file

CARD, WEIGHTS = "baseline.json", "weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a baseline is trained with.

    Attributes:
        method: Its name as commands take it.
        class_names: Contaminants that it tells apart; none if it tells any from steel only.
        settings: Sections of settings that it takes to open it, by name.
        trained_on: Dataset and its hash, and that of the weights of a CLIP that is frozen.
    """

    method: str
    class_names: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    trained_on: dict[str, str]

    @property
    def training_sha256(self) -> str:
        """Stands for all that decides what is learned; where the dataset lies does not."""
        return sha256_of([self.method, self.class_names, self.settings, self.trained_on["dataset_sha256"]])


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineCard(Training):
    """What a trained baseline says of itself.

    Attributes:
        weights_sha256: Of the file of weights.
    """

    weights_sha256: str


def save_baseline(folder: Path, state: Mapping[str, Tensor], training: Training) -> BaselineCard:
    """Write weights and card, the card last: a folder without one is unfinished."""
    data = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
    card = BaselineCard(**asdict(training), weights_sha256=hashlib.sha256(data).hexdigest())
    for name, content in ((WEIGHTS, data), (CARD, json.dumps(asdict(card), indent=2).encode())):
        with whole_file(folder / name) as part:
            part.write_bytes(content)
    return card


def finished_baseline(folder: Path, training: Training) -> BaselineCard | None:
    """The card of a training that is done already; None if it is not.

    Raises:
        ModelError: The folder holds another baseline, or its card is none.
    """
    source = folder / CARD
    if not (source.exists() and (folder / WEIGHTS).exists()):
        return None
    card = read_baseline(source.read_bytes(), source=str(source))
    if card.training_sha256 != training.training_sha256:
        raise ModelError(
            f"{folder} holds {card.method}, trained with other settings or on another dataset; give another "
            f"folder with --out, or delete the file {source} to train anew"
        )
    return card


def read_baseline(text: bytes, *, source: str) -> BaselineCard:
    """Read a card.

    Raises:
        ModelError: It is none.
    """
    try:
        return TypeAdapter(BaselineCard).validate_json(text)
    except ValidationError as error:
        what = first_fault(error, "its text")
        raise ModelError(f"{source} is no card of a baseline: {what}; delete it and train again") from error


def weights_of(data: bytes, card: BaselineCard, *, source: str) -> dict[str, Tensor]:
    """Weights from their file.

    Raises:
        ModelError: They are not those that the card was written for.
    """
    if hashlib.sha256(data).hexdigest() != card.weights_sha256:
        raise ModelError(f"{source} is not the file that {CARD} beside it was written for; copy both again")
    try:
        return load(data)
    except SafetensorError as error:
        raise ModelError(f"{source} cannot be read: {error}; delete it and train again") from error
