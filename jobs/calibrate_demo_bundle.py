"""Measure how far the demo bundle is off in area, and write it into its card: the intervals of loads rest on it.

    python jobs/calibrate_demo_bundle.py [runs/calibration] [scrapray/bundles/demo]

Takes a quarter of an hour on two cores; killed and started again, it goes on. To be run whenever weights or
thresholds of the bundle have changed. Two frames a load are fewer than a night has, which errs on the wide side.
"""

import sys
from pathlib import Path

from scrapray.audit.rehearsal import calibrate_bundle, rehearse

SEED = 8_000_000
"""Neither training nor the benchmark of drawn loads uses seeds from here on to 9,000,000."""
NUM_LOADS = 40
FRAMES_PER_LOAD = 2

if __name__ == "__main__":
    work_dir, bundle_dir = map(Path, sys.argv[1:] or ("runs/calibration", "scrapray/bundles/demo"))
    loads = rehearse(work_dir, str(bundle_dir), num_loads=NUM_LOADS, frames_per_load=FRAMES_PER_LOAD, seed=SEED)
    calibrate_bundle(bundle_dir, loads)
