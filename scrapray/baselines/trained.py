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

from scrapray.errors import ModelError, first_fault
from scrapray.segmenter.whole_files import whole_file

CARD, WEIGHTS = "baseline.json", "weights.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineCard:
    """What a trained baseline says of itself.

    Attributes:
        method: Its name as commands take it.
        class_names: Contaminants that it tells apart; none if it tells any from steel only.
        settings: Sections of settings that it takes to open it, by name.
        trained_on: Dataset and its hash.
        weights_sha256: Of the file of weights.
    """

    method: str
    class_names: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    trained_on: dict[str, str]
    weights_sha256: str


def save_baseline(
    folder: Path,
    state: Mapping[str, Tensor],
    *,
    method: str,
    class_names: tuple[str, ...],
    settings: Mapping[str, Mapping[str, Any]],
    trained_on: Mapping[str, str],
) -> BaselineCard:
    """Write weights and card, the card last: a folder without one is unfinished."""
    data = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
    card = BaselineCard(
        method=method,
        class_names=class_names,
        settings={name: dict(section) for name, section in settings.items()},
        trained_on=dict(trained_on),
        weights_sha256=hashlib.sha256(data).hexdigest(),
    )
    for name, content in ((WEIGHTS, data), (CARD, json.dumps(asdict(card), indent=2).encode())):
        with whole_file(folder / name) as part:
            part.write_bytes(content)
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
        raise ModelError(f"{source} is no card of a baseline: {what}; train it again") from error


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
        raise ModelError(f"{source} cannot be read: {error}; train it again") from error
