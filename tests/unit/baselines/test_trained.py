"""The folder of a trained baseline: what is written is what is read, and nothing else is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scrapray.baselines.trained import (
    CARD,
    WEIGHTS,
    BaselineCard,
    Training,
    finished_baseline,
    read_baseline,
    save_baseline,
    weights_of,
)
from scrapray.errors import ModelError

TRAINING = Training(
    method="anomalyclip",
    class_names=("motor", "cable"),
    settings={"anomalyclip": {"stages": (3, 6), "seed": 0}},
    trained_on={"dataset": "/scrap-1", "dataset_sha256": "12"},
)


@pytest.fixture
def saved(tmp_path: Path) -> BaselineCard:
    return save_baseline(tmp_path, {"prompts": torch.arange(6.0).reshape(2, 3).T}, TRAINING)


def test_what_is_written_is_what_is_read(saved: BaselineCard, tmp_path: Path) -> None:
    card = read_baseline((tmp_path / CARD).read_bytes(), source=CARD)
    assert (card.method, card.class_names, card.trained_on) == (saved.method, saved.class_names, saved.trained_on)
    assert card.settings == {"anomalyclip": {"stages": [3, 6], "seed": 0}}
    weights = weights_of((tmp_path / WEIGHTS).read_bytes(), card, source=WEIGHTS)
    assert torch.equal(weights["prompts"], torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]))


def test_weights_of_another_card_are_refused(saved: BaselineCard, tmp_path: Path) -> None:
    data = bytearray((tmp_path / WEIGHTS).read_bytes())
    data[-1] ^= 1
    with pytest.raises(ModelError, match=r"weights\.safetensors is not the file that baseline\.json beside it"):
        weights_of(bytes(data), saved, source=WEIGHTS)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "its text: Invalid JSON"),
        (b"{}", "method: Field required"),
        (json.dumps({"method": 3}).encode(), "method: Input should be a valid string"),
    ],
)
def test_a_file_that_is_no_card_says_where(text: bytes, fault: str) -> None:
    with pytest.raises(
        ModelError, match=f"^/b/baseline.json is no card of a baseline: {fault}.*; delete it and train again$"
    ):
        read_baseline(text, source="/b/baseline.json")


def test_a_finished_folder_is_taken_wherever_its_dataset_lies(saved: BaselineCard, tmp_path: Path) -> None:
    moved = replace(TRAINING, trained_on={"dataset": "/moved", "dataset_sha256": "12"})
    assert finished_baseline(tmp_path, moved) == read_baseline((tmp_path / CARD).read_bytes(), source=CARD)
    assert finished_baseline(tmp_path / "empty", TRAINING) is None
    (tmp_path / WEIGHTS).unlink()
    assert finished_baseline(tmp_path, TRAINING) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "maskrcnn"},
        {"class_names": ("motor", "spray can")},
        {"settings": {"anomalyclip": {"stages": (3, 6), "seed": 1}}},
        {"trained_on": {"dataset": "/scrap-1", "dataset_sha256": "13"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_folder_of_another_training_is_refused(saved: BaselineCard, changes: dict[str, Any], tmp_path: Path) -> None:
    words = rf"holds anomalyclip, trained with other .* with --out, or delete the file {tmp_path / CARD} to"
    with pytest.raises(ModelError, match=words):
        finished_baseline(tmp_path, replace(TRAINING, **changes))
