"""The demo bundle's tower, once as open_clip runs its blocks and once as we do, in turns on the same tiles.

Prints core seconds (which other programs on the machine disturb less than seconds) and how many times as fast ours is.

    python benchmarks/tower_blocks.py [--tiles 8] [--rounds 5]
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor

from scrapray.segmenter.bundle import load_bundle
from scrapray.segmenter.tower import vision_stages

BUNDLE = Path(__file__).parents[1] / "scrapray" / "bundles" / "demo"


def open_clips_own(visual: VisionTransformer, images_N3HW: Tensor, stages: list[int]) -> Tensor:
    indices = [stage - 1 for stage in stages]
    found = visual.forward_intermediates(images_N3HW, indices=indices, normalize_intermediates=True, output_fmt="NLC")
    return torch.stack([tokens_NTD @ visual.proj for tokens_NTD in found["image_intermediates"]])


def ours(visual: VisionTransformer, images_N3HW: Tensor, stages: list[int]) -> Tensor:
    return torch.stack([tokens_NTE[:, 1:] for tokens_NTE in vision_stages(visual, images_N3HW, stages, None)[0]])


def score(tokens: Callable[[], Tensor]) -> None:
    with torch.no_grad():
        tokens()


def train(tokens: Callable[[], Tensor]) -> None:
    tokens().float().square().sum().backward()  # type: ignore[no-untyped-call]


def core_seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=8, help="tiles at a time")
    parser.add_argument("--rounds", type=int, default=5, help="times that each is run; the median counts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    segmenter = load_bundle(BUNDLE).model
    images_N3HW = torch.randn(arguments.tiles, 3, *segmenter.visual.image_size)
    for what in (score, train):
        segmenter.requires_grad_(what is train)
        for dtype in (torch.float32, torch.bfloat16):
            taken: dict[str, list[float]] = {"open_clip's": [], "ours": []}
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                for _ in range(1 + arguments.rounds):
                    for name, run in zip(taken, (open_clips_own, ours), strict=True):
                        tokens = partial(run, segmenter.visual, images_N3HW, list(segmenter.config.stages))
                        taken[name].append(core_seconds(partial(what, tokens)))
            theirs_s, ours_s = (np.median(seconds[1:]) for seconds in taken.values())
            print(
                f"{what.__name__:<6} {str(dtype).removeprefix('torch.'):<9} open_clip's blocks {theirs_s:6.3f} core s, "
                f"ours {ours_s:6.3f} core s: {theirs_s / ours_s:.2f} times as fast"
            )


if __name__ == "__main__":
    main()
