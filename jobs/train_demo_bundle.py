"""Finetune the miniature CLIP on drawn scrap into the demo bundle, and measure both on scenes never trained on.

    python jobs/train_demo_bundle.py [scrapray/bundles/miniature-clip] [runs/demo] [scrapray/bundles/demo]

Draws tiles and trains, draws frames and goes on with what was wrong in them, chooses thresholds on drawn loads, and
measures on others how far areas are off. Takes some seven hours on two cores. Killed and started again, it goes on
from its last checkpoint in the second folder; for longer training raise ``max_steps`` and start it again.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from scrapray.audit.rehearsal import adjust_bundle
from scrapray.imagery.scenes import SceneSettings, draw_frames, draw_tiles
from scrapray.segmenter.demo import DemoTraining, Phase, draw_test_tiles, measure_at_thresholds, train_demo_bundle
from scrapray.segmenter.fit import FitConfig
from scrapray.segmenter.losses import LossConfig
from scrapray.segmenter.measure import cpu_is_made_for_bf16
from scrapray.segmenter.model import SegmenterConfig
from scrapray.segmenter.step import OptimConfig

# Over all classes, dice drives so small a tower to call everything steel, and no gradient leads back.
LOSS = LossConfig(dice_classes="present")


def _fit(max_steps: int, batch_size: int, rate: float = 1.0) -> FitConfig:
    """So many steps at so much of the first learning rates."""
    optim = OptimConfig(lr_vision=3e-4 * rate, lr_prompt=5e-4 * rate, lr_msm=1e-3 * rate, warmup_steps=200)
    return FitConfig(
        batch_size=batch_size,
        max_steps=max_steps,
        checkpoint_every_steps=100,
        autocast=cpu_is_made_for_bf16(),
        loss=LOSS,
        optim=optim,
    )


# Where most is learnt soonest: small tiles at a small input.
SMALL = Phase(
    fit=_fit(34_000, batch_size=8),
    input_px=256,
    tile_px=128,
    wide_tile_px=256,
    wide_only_steps=10_000,
    mine_after_steps=(8_600, 12_500, 15_500, 21_000),
)
# A tile of 128 px shows no large thing whole; the same scale at a larger input does, and takes five times as long.
LARGE = Phase(fit=_fit(1_000, batch_size=4, rate=0.3), input_px=512, tile_px=256, wide_tile_px=512)
LARGE_SETTLED = replace(LARGE, fit=_fit(2_500, batch_size=4, rate=0.1), mine_after_steps=(0,), num_mined=512)

DEMO = DemoTraining(
    segmenter=SegmenterConfig(
        stages=(3, 4, 5, 6),
        dpam_from=None,
        prompt_depth=4,
        msm_hidden=64,
        gaussian_sigma_px=2.0,
    ),
    phases=(SMALL, LARGE, LARGE_SETTLED),
    drawn_px=512,
    num_training=3_584,
    test_px=512,
    num_test=384,
)
DRAW = partial(draw_tiles, cell_px=256)
DRAW_FRAMES = partial(draw_frames, settings=SceneSettings(num_frames=2))

if __name__ == "__main__":
    clip_dir, run_dir, bundle_dir = map(
        Path, sys.argv[1:] or ("scrapray/bundles/miniature-clip", "runs/demo", "scrapray/bundles/demo")
    )
    train_demo_bundle(clip_dir, run_dir, bundle_dir, DEMO, DRAW, DRAW_FRAMES)
    # Neither training nor the benchmark of drawn loads uses seeds from this on to 9,000,000.
    adjust_bundle(bundle_dir, run_dir / "loads", num_loads=40, frames_per_load=4, seed=8_000_000, max_flagged_frac=0.15)
    print(measure_at_thresholds(bundle_dir, draw_test_tiles(run_dir, DEMO, DRAW)).to_json())
