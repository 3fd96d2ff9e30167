"""The folder of a trained baseline: what is written is what is read, and nothing else is."""

import json
from pathlib import Path

import pytest
import torch

from scrapray.baselines.trained import CARD, WEIGHTS, BaselineCard, read_baseline, save_baseline, weights_of
from scrapray.errors import ModelError


@pytest.fixture
def saved(tmp_path: Path) -> BaselineCard:
    return save_baseline(
        tmp_path,
        {"prompts": torch.arange(6.0).reshape(2, 3).T},
        method="anomalyclip",
        class_names=("motor", "cable"),
        settings={"anomalyclip": {"stages": (3, 6)}},
        trained_on={"dataset": "/scrap-1", "dataset_sha256": "12"},
    )


def test_what_is_written_is_what_is_read(saved: BaselineCard, tmp_path: Path) -> None:
    card = read_baseline((tmp_path / CARD).read_bytes(), source=CARD)
    assert (card.method, card.class_names, card.trained_on) == (saved.method, saved.class_names, saved.trained_on)
    assert card.settings == {"anomalyclip": {"stages": [3, 6]}}
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
    with pytest.raises(ModelError, match=f"^/b/baseline.json is no card of a baseline: {fault}.*train it again$"):
        read_baseline(text, source="/b/baseline.json")
