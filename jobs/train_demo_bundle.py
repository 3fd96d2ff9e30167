"""Finetune the miniature CLIP on drawn scrap into the demo bundle, and measure both on scenes never trained on.

    python jobs/train_demo_bundle.py [scrapray/bundles/miniature-clip] [runs/demo] [scrapray/bundles/demo]

Takes about an hour on two cores. Killed and started again, it goes on from its last checkpoint in the second folder;
for longer training raise ``max_steps`` and start it again.
"""

import sys
from functools import partial
from pathlib import Path

from scrapray.imagery.scenes import draw_tiles
from scrapray.segmenter.demo import DemoTraining, train_demo_bundle
from scrapray.segmenter.fit import FitConfig
from scrapray.segmenter.losses import LossConfig
from scrapray.segmenter.model import SegmenterConfig
from scrapray.segmenter.step import OptimConfig

DEMO = DemoTraining(
    segmenter=SegmenterConfig(
        input_px=256,
        stages=(3, 4, 5, 6),
        dpam_from=None,
        prompt_depth=4,
        msm_hidden=64,
        gaussian_sigma_px=2.0,
    ),
    fit=FitConfig(
        batch_size=8,
        loss_px=64,
        max_steps=7_500,
        checkpoint_every_steps=100,
        autocast=True,
        # Over all classes, dice drives so small a tower to call everything steel, and no gradient leads back.
        loss=LossConfig(dice_classes="present"),
        optim=OptimConfig(lr_vision=4e-4, lr_prompt=5e-4, lr_msm=1e-3, warmup_steps=100),
    ),
    tile_px=256,
    drawn_px=512,
    num_training=3_584,
    num_validation=768,
    num_test=768,
    max_false_per_tile=1 / 200,
)

if __name__ == "__main__":
    clip_dir, run_dir, bundle_dir = map(
        Path, sys.argv[1:] or ("scrapray/bundles/miniature-clip", "runs/demo", "scrapray/bundles/demo")
    )
    train_demo_bundle(clip_dir, run_dir, bundle_dir, DEMO, partial(draw_tiles, cell_px=DEMO.tile_px))
