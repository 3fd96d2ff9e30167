"""How the demo bundle is made: small tiles for long, then large ones."""

from dataclasses import replace

from scrapray.segmenter.demo import DemoTraining, Phase
from scrapray.segmenter.fit import FitConfig
from scrapray.segmenter.losses import LossConfig
from scrapray.segmenter.measure import cpu_is_made_for_bf16
from scrapray.segmenter.model import SegmenterConfig
from scrapray.segmenter.step import OptimConfig

# Over all classes, dice drives so small a tower to call everything steel, and no gradient leads back.
_LOSS = LossConfig(dice_classes="present")


def _fit(max_steps: int, batch_size: int, rate: float = 1.0) -> FitConfig:
    """So many steps at so much of the first learning rates."""
    optim = OptimConfig(lr_vision=3e-4 * rate, lr_prompt=5e-4 * rate, lr_msm=1e-3 * rate, warmup_steps=200)
    return FitConfig(
        batch_size=batch_size,
        max_steps=max_steps,
        checkpoint_every_steps=100,
        autocast=cpu_is_made_for_bf16(),
        loss=_LOSS,
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
LARGE = Phase(fit=_fit(1_200, batch_size=4, rate=0.3), input_px=512, tile_px=256, wide_tile_px=512)
LARGE_SETTLED = replace(LARGE, fit=_fit(2_400, batch_size=4, rate=0.1), mine_after_steps=(0,), num_mined=512)

DEMO_TRAINING = DemoTraining(
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
    num_test=128,
)
