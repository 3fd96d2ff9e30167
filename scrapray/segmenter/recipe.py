"""How the demo bundle is made."""

from dataclasses import replace

from scrapray.segmenter.demo import DemoTraining, Phase
from scrapray.segmenter.fit import FitConfig
from scrapray.segmenter.losses import LossConfig
from scrapray.segmenter.measure import cpu_is_made_for_bf16
from scrapray.segmenter.model import SegmenterConfig
from scrapray.segmenter.step import OptimConfig

# Wide tiles first, since they show more scrap in the same time; then close ones too, without which most of what is
# shorter than 120 px is missed.
_FIRST = Phase(
    fit=FitConfig(
        batch_size=8,
        max_steps=34_000,
        checkpoint_every_steps=100,
        autocast=cpu_is_made_for_bf16(),
        # Over all classes, dice drives so small a tower to call everything steel, and no gradient leads back.
        loss=LossConfig(dice_classes="present"),
        optim=OptimConfig(lr_vision=3e-4, lr_prompt=5e-4, lr_msm=1e-3, warmup_steps=200),
    ),
    num_training=3_584,
    input_px=256,
    tile_px=128,
    wide_tile_px=256,
    wide_only_steps=10_000,
    mine_after_steps=(8_600, 12_500, 15_500, 21_000),
)

# More pictures, and rates of a third: at the full ones the second phase first loses what averaging has gained.
_SECOND = replace(
    _FIRST,
    fit=replace(
        _FIRST.fit,
        max_steps=10_000,
        optim=OptimConfig(lr_vision=1e-4, lr_prompt=1.5e-4, lr_msm=3e-4, warmup_steps=200),
    ),
    num_training=10_240,
    wide_only_steps=0,
    mine_after_steps=(0, 5_000),
    mined_share=0.3,
    num_false_alarms=24,
)

# What decides a verdict is the worst false alarm of a whole load, and each load is of other parts.
_THIRD = replace(
    _SECOND,
    fit=replace(_SECOND.fit, max_steps=11_000),
    mine_after_steps=(0, 4_000),
    num_mined=1_280,
    num_false_alarms=6,
    mined_share=0.45,
)

DEMO_TRAINING = DemoTraining(
    segmenter=SegmenterConfig(
        stages=(3, 4, 5, 6),
        dpam_from=None,
        prompt_depth=4,
        msm_hidden=64,
        gaussian_sigma_px=2.0,
    ),
    phases=(_FIRST, _SECOND, _THIRD),
    drawn_px=512,
    test_px=512,
    num_test=128,
)
