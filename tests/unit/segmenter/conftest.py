"""One tiny CLIP for the tests of this room; every test gets its own copy."""

import copy

import open_clip
import pytest
import torch

from scrapray.segmenter.tower import ClipConfig, new_clip
from tests.fixtures.pictures import TINY_CLIP

TINY_CONFIG = ClipConfig.from_dict(TINY_CLIP, source="tests")


@pytest.fixture(scope="session")
def _clip_once() -> open_clip.CLIP:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return new_clip(TINY_CONFIG).eval()


@pytest.fixture
def tiny_clip(_clip_once: open_clip.CLIP) -> open_clip.CLIP:
    return copy.deepcopy(_clip_once)
