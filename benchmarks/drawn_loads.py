"""Are verdicts right and intervals honest? Loads of known contents, audited from frames to tables.

    python benchmarks/drawn_loads.py [--loads 24] [--frames 4] [--seed N] [--model demo] [--folder runs/drawn-loads]

Prints a confusion table of what was drawn against what was said, the three shares that must hold, and each load that
was judged wrongly. No bundle was trained or adjusted on seeds from 9,000,000 on. Run again, drawn loads and audited
frames are kept.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from scrapray.audit.rehearsal import LARGE_PX, RehearsedLoad, rehearse

SEED = 9_000_000
VERDICTS = ("accept", "review", "reject")
KINDS = (f"contaminant of {LARGE_PX} px or more", "smaller contaminants only", "clean")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=24)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--seed", type=int, default=SEED, help=f"from {SEED:,} on")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--folder", type=Path, default=Path("runs/drawn-loads"))
    given = parser.parse_args()
    loads = rehearse(given.folder, given.model, num_loads=given.loads, frames_per_load=given.frames, seed=given.seed)
    print_confusion(loads)
    print_faults(loads)
    return 0 if print_shares(loads) else 1


def print_confusion(loads: Sequence[RehearsedLoad]) -> None:
    counts = Counter((kind_of(load), load.row["verdict"]) for load in loads)
    print(f"{'drawn':<32}" + "".join(f"{verdict:>8}" for verdict in VERDICTS))
    for kind in KINDS:
        print(f"{kind:<32}" + "".join(f"{counts[kind, verdict]:>8}" for verdict in VERDICTS))


def print_shares(loads: Sequence[RehearsedLoad]) -> bool:
    large, clean = ([load for load in loads if kind_of(load) == kind] for kind in (KINDS[0], KINDS[2]))
    hold = [
        _share("flagged, of loads with a contaminant of 60 px or more", (load.is_flagged for load in large), 0.90),
        _share("accepted, of clean loads", (not load.is_flagged for load in clean), 0.85),
        _share("intervals that hold the truth, of all loads", map(_is_covered, loads), 0.90),
    ]
    return all(hold)


def print_faults(loads: Sequence[RehearsedLoad]) -> None:
    for load in loads:
        wrong = kind_of(load) != KINDS[1] and load.is_flagged == load.is_clean
        if wrong or not _is_covered(load):
            row = load.row
            said = f"said {row['verdict']} ({row['verdict_reason']})"
            print(f"  {row['site']} {row['load_id']}: largest {load.largest_px:.0f} px, {load.true_frac:.4%}; {said}")


def kind_of(load: RehearsedLoad) -> str:
    if load.is_clean:
        return KINDS[2]
    return KINDS[0] if load.should_be_flagged else KINDS[1]


def _share(what: str, holds: Iterable[bool], least: float) -> bool:
    held = list(holds)
    share = sum(held) / len(held) if held else 1.0
    print(f"{share:>6.0%} {what} ({sum(held)} of {len(held)}, at least {least:.0%})")
    return share >= least


def _is_covered(load: RehearsedLoad) -> bool:
    low, high = load.row["contamination_low"], load.row["contamination_high"]
    return low is not None and bool(low <= load.true_frac <= high)


if __name__ == "__main__":
    sys.exit(main())
