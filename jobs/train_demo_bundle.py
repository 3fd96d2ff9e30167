"""Finetune the miniature CLIP on drawn scrap into the demo bundle, and measure both on scenes never trained on.

    python jobs/train_demo_bundle.py [scrapray/bundles/miniature-clip] [runs/demo] [scrapray/bundles/demo]

Draws tiles and trains, mines frames, chooses thresholds on drawn loads and measures verdicts and areas on others; then
the bundle is put into the third folder. Some eleven hours on two cores; killed and started again, it goes on.
"""

import shutil
import sys
from functools import partial
from pathlib import Path

from scrapray.audit.rehearsal import adjust_bundle
from scrapray.errors import in_one_line
from scrapray.imagery.scenes import SceneSettings, draw_frames, draw_tiles
from scrapray.segmenter.demo import train_demo_bundle
from scrapray.segmenter.recipe import DEMO_TRAINING

DRAW_FRAMES = partial(draw_frames, settings=SceneSettings(num_frames=1, contaminated_share=0.25))


def main(clip_dir: Path, run_dir: Path, bundle_dir: Path) -> None:
    """Train, mine, measure, and put the bundle in its place."""
    made_dir = run_dir / "bundle"
    train_demo_bundle(clip_dir, run_dir, made_dir, DEMO_TRAINING, partial(draw_tiles, cell_px=256), DRAW_FRAMES)
    # Neither training nor the benchmark of drawn loads uses seeds from this on to 9,000,000.
    card = adjust_bundle(
        made_dir,
        run_dir / "loads",
        num_for_thresholds=112,
        num_for_areas=40,
        frames_per_load=4,
        seed=8_000_000,
        max_flagged_frac=0.15,
        lowest_threshold=0.6,
    )
    print(card.to_json())
    shutil.copytree(made_dir, bundle_dir, dirs_exist_ok=True)


if __name__ == "__main__":
    folders = sys.argv[1:] or ("scrapray/bundles/miniature-clip", "runs/demo", "scrapray/bundles/demo")
    with in_one_line(f"python {sys.argv[0]}"):
        main(*map(Path, folders))
