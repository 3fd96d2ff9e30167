"""How the demo bundle is made."""

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
    input_px=256,
    tile_px=128,
    wide_tile_px=256,
    wide_only_steps=10_000,
    mine_after_steps=(8_600, 12_500, 15_500, 21_000),
)

DEMO_TRAINING = DemoTraining(
    segmenter=SegmenterConfig(
        stages=(3, 4, 5, 6),
        dpam_from=None,
        prompt_depth=4,
        msm_hidden=64,
        gaussian_sigma_px=2.0,
    ),
    phases=(_FIRST,),
    drawn_px=512,
    num_training=3_584,
    test_px=512,
    num_test=128,
)
