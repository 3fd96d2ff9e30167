"""What a method says of itself, and scores that are none."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scrapray.baselines.winclip import WinClipConfig
from scrapray.errors import ModelError
from scrapray.evaluation.config import FrozenClipConfig
from scrapray.evaluation.subjects import Scored, Subject, references_of, winclip_subject
from scrapray.segmenter.bundle import sha256_of_file, shipped

TILES: Any = SimpleNamespace(class_px_NC=np.array([[64, 0]] * 6), tile_ids=[f"tile-{place}" for place in range(6)])


def saying(score: float, of_tile: float | None = None) -> Subject:
    """A method that says the same of all."""

    def score_tiles(tiles_NHW3: np.ndarray, tile_ids: Sequence[str]) -> Scored:
        num = len(tiles_NHW3)
        maps_NKhw = np.full((num, 1, 2, 2), score, np.float32)
        return Scored(maps_NKhw, None if of_tile is None else np.full(num, of_tile, np.float32))

    return Subject(name="broken", class_names=(), open=lambda device: score_tiles)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 1.5])
def test_scores_that_are_no_numbers_from_0_to_1_name_the_method_and_the_tiles(wrong: float) -> None:
    tiles_NHW3, tile_ids = np.zeros((2, 8, 8, 3), np.uint8), ["tile-4", "tile-5"]
    for subject in (saying(wrong), saying(0.5, of_tile=wrong)):
        with pytest.raises(ModelError, match=r"^broken gives scores from .* the tiles from tile-4 to tile-5, must be"):
            subject.scorer("cpu")(tiles_NHW3, tile_ids)
    assert saying(1.0, of_tile=0.0).scorer("cpu")(tiles_NHW3, tile_ids).maps_NKhw.max() == 1


def test_winclip_says_which_weights_and_references_it_has() -> None:
    config, start = WinClipConfig(num_references=3, seed=7), FrozenClipConfig(clip="miniature")
    alone, with_references = (winclip_subject("winclip", config, start, tiles).tags for tiles in (None, TILES))
    weights_sha256 = sha256_of_file(shipped("miniature-clip") / "weights.safetensors")
    assert alone["weights_sha256"] == with_references["weights_sha256"] == weights_sha256
    assert "references" not in alone
    expected = [TILES.tile_ids[place] for place in references_of(TILES, 3, 7)]
    assert (with_references["seed"], with_references["references"].split()) == ("7", expected)


def test_random_weights_have_no_hash() -> None:
    start = FrozenClipConfig(weights="random")
    assert winclip_subject("winclip", WinClipConfig(), start, None).tags == {"clip": start.clip, "weights": "random"}
