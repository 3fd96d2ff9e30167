"""Train the miniature CLIP that stands in for real weights on machines without any.

    python jobs/train_miniature_clip.py [runs/miniature-clip] [scrapray/bundles/miniature-clip]

Takes about an hour on two cores. Killed and started again, it goes on from its last checkpoint in the first folder.
"""

import sys
from pathlib import Path

from scrapray.errors import in_one_line
from scrapray.segmenter.miniature import MiniatureTraining, train_miniature_clip

TRAINING = MiniatureTraining(
    num_drawings=65_536,
    num_held_out=2_048,
    batch_size=128,
    max_steps=4_000,
    learning_rate=2e-3,
    warmup_steps=100,
    weight_decay=0.1,
    patch_dropout=0.5,
    checkpoint_every_steps=250,
    seed=0,
)

if __name__ == "__main__":
    run_dir, bundle_dir = sys.argv[1:] or ("runs/miniature-clip", "scrapray/bundles/miniature-clip")
    with in_one_line(f"python {sys.argv[0]}"):
        print(train_miniature_clip(Path(run_dir), Path(bundle_dir), TRAINING))
