"""Our pixel metrics against scikit-learn's and torchmetrics' on the same pixels: time, peak memory, and agreement.

    python benchmarks/metrics.py [--pixels 100_000_000]

Each runs in a process of its own. Ours sees the pixels a map of a million at a time and also computes AUPRO, which the
others do not have; they need all at once. Time is that of the metrics alone. Asks for 10 times the speed of
scikit-learn and for its figures, and for memory that does not grow with the pixels: a tenth of them must take as much.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from scrapray.statistics.metrics import ScoreHistogram

PIXELS_OF_MAP = 1_000_000
PREVALENCE = 0.001
LEAST_SPEED_RATIO, MOST_MEMORY_RATIO, MOST_DIFFERENCE = 10.0, 1.2, 3e-6


def maps(num_pixels: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scores as a sure segmenter gives them, and the truth; the same ones every time."""
    for seed in range(num_pixels // PIXELS_OF_MAP):
        rng = np.random.default_rng(seed)
        truth = rng.random((1000, PIXELS_OF_MAP // 1000)) < PREVALENCE
        logits = rng.standard_normal(truth.shape, np.float32) * 2 - 6 + 6 * truth
        yield (1 / (1 + np.exp(-logits))).astype(np.float32), truth


def ours(num_pixels: int) -> tuple[float, dict[str, float | None]]:
    histogram, seconds = ScoreHistogram.empty(), 0.0
    for scores, truth in maps(num_pixels):
        started_s = time.perf_counter()
        histogram += ScoreHistogram.of(scores, truth)
        seconds += time.perf_counter() - started_s
    started_s = time.perf_counter()
    found = histogram.metrics()
    seconds += time.perf_counter() - started_s
    return seconds, {"auroc": found.auroc, "average_precision": found.average_precision, "f1_max": found.f1_max}


def all_pixels(num_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """The maps in one piece."""
    scores, truth = np.zeros(num_pixels, np.float32), np.zeros(num_pixels, np.bool_)
    for number, (map_scores, map_truth) in enumerate(maps(num_pixels)):
        place = slice(number * PIXELS_OF_MAP, (number + 1) * PIXELS_OF_MAP)
        scores[place], truth[place] = map_scores.ravel(), map_truth.ravel()
    return scores, truth


def of_scikit_learn(num_pixels: int) -> tuple[float, dict[str, float | None]]:
    scores, truth = all_pixels(num_pixels)
    started_s = time.perf_counter()
    auroc, average_precision = roc_auc_score(truth, scores), average_precision_score(truth, scores)
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1_max = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    seconds = time.perf_counter() - started_s
    return seconds, {"auroc": float(auroc), "average_precision": float(average_precision), "f1_max": float(f1_max)}


def of_torchmetrics(num_pixels: int) -> tuple[float, dict[str, float | None]]:
    # Here, since importing torch would take memory from the other sides too.
    import torch
    from torchmetrics.functional.classification import (
        binary_auroc,
        binary_average_precision,
        binary_precision_recall_curve,
    )

    scores, truth = (torch.from_numpy(each) for each in all_pixels(num_pixels))
    started_s = time.perf_counter()
    auroc, average_precision = binary_auroc(scores, truth), binary_average_precision(scores, truth)
    precision, recall, _ = binary_precision_recall_curve(scores, truth)
    f1_max = torch.max(2 * precision * recall / (precision + recall).clamp(min=1e-12))
    seconds = time.perf_counter() - started_s
    return seconds, {"auroc": float(auroc), "average_precision": float(average_precision), "f1_max": float(f1_max)}


SIDES = {"ours": ours, "scikit-learn": of_scikit_learn, "torchmetrics": of_torchmetrics}


def measure(side: str, num_pixels: int) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--pixels", str(num_pixels)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=100_000_000)
    parser.add_argument("--side", choices=SIDES, help="one side alone, as the benchmark calls itself")
    given = parser.parse_args()
    if given.side:
        seconds, figures = SIDES[given.side](given.pixels)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": round(seconds, 2), "peak_mb": round(peak_mb), **figures}))
        return 0
    whole, *others = (measure(side, given.pixels) for side in SIDES)
    tenth = measure("ours", given.pixels // 10)
    against = {name: compared(whole, theirs) for name, theirs in zip(list(SIDES)[1:], others, strict=True)}
    memory_against_a_tenth = round(whole["peak_mb"] / tenth["peak_mb"], 2)
    result = {"pixels": given.pixels, "ours": whole, **against, "memory_against_a_tenth": memory_against_a_tenth}
    print(json.dumps(result, indent=2))
    passed = (
        against["scikit-learn"]["speed_ratio"] >= LEAST_SPEED_RATIO
        and memory_against_a_tenth <= MOST_MEMORY_RATIO
        and against["scikit-learn"]["difference"] <= MOST_DIFFERENCE
    )
    return 0 if passed else 1


def compared(whole: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """What another side measured, and how ours stands beside it."""
    return {
        **theirs,
        "speed_ratio": round(theirs["seconds"] / whole["seconds"], 1),
        "memory_ratio": round(theirs["peak_mb"] / whole["peak_mb"], 1),
        "difference": max(abs(whole[name] - theirs[name]) for name in ("auroc", "average_precision", "f1_max")),
    }


if __name__ == "__main__":
    sys.exit(main())
