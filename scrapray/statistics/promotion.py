"""Whether a candidate may take the champion's place: both measured on the same loads of a frozen test split.

What a model scored on a load is kept as counts of pixels by score, which merge; so chance over loads is
known without a look at a pixel (``bootstrap``). Both models are judged on the same draws of loads, so what makes a load
hard for both cancels out of the difference.

Shapes: L loads, U bins in use by a model, R draws of loads.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from scrapray.statistics.bootstrap import CONFIDENCE, LoadMatrix, draws, interval
from scrapray.statistics.metrics import ScoreHistogram

Counts = npt.NDArray[np.int64]

DROPPED_BITS = 11
"""A bin is 2^-12 of its distance to 0 or 1 wide, so that what is kept of a version is small."""
MAX_RECALL_DROP = 0.05
"""How much of a class's pixels a candidate may find less, as a share of all, where nobody says otherwise."""
_MEASURE_ANEW = "measure both models anew, on one dataset (scrapray models compare and promote do with --dataset)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadCounts:
    """What a model scored on the pixels of one load, for one class.

    Attributes:
        load_id: Of the load; unique in the split.
        class_name: Of the contaminant.
        threshold: Score from which a pixel counts as found.
        num_found_px: Pixels of the class that do.
        bins_U: Numbers of the bins of ``ScoreHistogram`` that are not empty, ``DROPPED_BITS`` wide.
        normal_U: Pixels in each of them that are not of the class.
        contaminant_U: Pixels that are.
    """

    load_id: str
    class_name: str
    threshold: float
    num_found_px: int
    bins_U: npt.NDArray[np.int32]
    normal_U: Counts
    contaminant_U: Counts

    @classmethod
    def of(cls, load_id: str, class_name: str, threshold: float, histogram: ScoreHistogram) -> Self:
        """Keep the pixels of a histogram, in coarse bins."""
        coarse = histogram.coarsened(DROPPED_BITS)
        return cls(
            load_id=load_id,
            class_name=class_name,
            threshold=threshold,
            num_found_px=histogram.num_found_at(threshold),
            bins_U=coarse.bins_U,
            normal_U=coarse.normal_U,
            contaminant_U=coarse.contaminant_U,
        )

    @property
    def histogram(self) -> ScoreHistogram:
        """The pixels again; of regions nothing is known."""
        return ScoreHistogram(
            self.bins_U.astype(np.int32), self.normal_U, self.contaminant_U, np.zeros(len(self.bins_U)), 0
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SplitStatistics:
    """What a model scored on a whole test split.

    Attributes:
        split_sha256: Hash of the split: frames and truth. Only figures on equal splits can be compared.
        counts: Of each load and class.
    """

    split_sha256: str
    counts: tuple[LoadCounts, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Rows of ``schema.TEST_STATISTICS``."""
        return [
            {
                "split_sha256": self.split_sha256,
                "load_id": each.load_id,
                "class_name": each.class_name,
                "threshold": each.threshold,
                "num_found_px": each.num_found_px,
                "score_bins": each.bins_U,
                "num_normal_px": each.normal_U,
                "num_contaminant_px": each.contaminant_U,
            }
            for each in self.counts
        ]

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Read what ``rows`` gave.

        Raises:
            ValueError: There is no row, or rows are of several splits.
        """
        counts, splits = [], set()
        for row in rows:
            splits.add(row["split_sha256"])
            counts.append(
                LoadCounts(
                    load_id=row["load_id"],
                    class_name=row["class_name"],
                    threshold=row["threshold"],
                    num_found_px=row["num_found_px"],
                    bins_U=np.asarray(row["score_bins"], np.int32),
                    normal_U=np.asarray(row["num_normal_px"], np.int64),
                    contaminant_U=np.asarray(row["num_contaminant_px"], np.int64),
                )
            )
        if len(splits) != 1:
            raise ValueError(f"the statistics are of {len(splits)} test splits, must be of one; {_MEASURE_ANEW}")
        return cls(split_sha256=splits.pop(), counts=tuple(counts))

    def by_class(self) -> dict[str, list[LoadCounts]]:
        """Counts of each class, loads in the order of their ids."""
        ordered = sorted(self.counts, key=lambda each: each.load_id)
        names = dict.fromkeys(each.class_name for each in self.counts)
        return {name: [each for each in ordered if each.class_name == name] for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassComparison:
    """Average precision of both models for one class, and recall at each model's own threshold.

    None where the split holds no pixel of the class, and for the champion where it does not know the class.
    """

    class_name: str
    candidate_ap: float | None
    champion_ap: float | None
    candidate_recall: float | None
    champion_recall: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate beside the champion, and what speaks against it.

    Attributes:
        candidate_ap: Average precision over pixels, mean over the champion's classes that the split holds.
        champion_ap: The same of the champion.
        ap_gain_low: Lower end of the 95 % interval of the difference, candidate less champion.
        ap_gain_high: Its upper end.
        classes: Class by class.
        num_loads: Loads of the split.
        split_sha256: Hash of the split.
        max_recall_drop: How much of a class's pixels the candidate was allowed to find less.
        faults: Why the candidate may not be promoted, with numbers; none if it may.
    """

    candidate_ap: float
    champion_ap: float
    ap_gain_low: float
    ap_gain_high: float
    classes: tuple[ClassComparison, ...]
    num_loads: int
    split_sha256: str
    max_recall_drop: float
    faults: tuple[str, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether nothing speaks against the candidate."""
        return not self.faults


def compare(
    candidate: SplitStatistics, champion: SplitStatistics, *, max_recall_drop: float = MAX_RECALL_DROP
) -> Comparison:
    """Compare two models on one test split.

    The candidate is refused when its average precision is lower and chance over loads does not explain it, or when it
    finds clearly fewer pixels of any class of the champion. It need not be better: a model as good may bring speed or a
    new class, which is shown and does not count.

    Args:
        candidate: Statistics of the model that waits.
        champion: Of the model in production.
        max_recall_drop: How much of a class's pixels the candidate may find less, as a share of all.

    Raises:
        ValueError: The statistics cannot be compared: other splits, loads or truth, a class of the champion that the
            candidate does not know, or fewer than two loads with a contaminant.

    Reference: paired percentile bootstrap (Efron and Tibshirani 1993, chapter 13).
    """
    _check_comparable(candidate, champion)
    ours, theirs = candidate.by_class(), champion.by_class()
    classes = tuple(_compare_class(name, ours[name], theirs.get(name)) for name in ours)
    shown = [each for each in classes if each.champion_ap is not None]
    low, high = _gain_interval([ours[name] for name in theirs], list(theirs.values()))
    candidate_ap, champion_ap = (
        float(np.mean([getattr(each, name) for each in shown])) for name in ("candidate_ap", "champion_ap")
    )
    faults = [
        f"recall of {each.class_name} falls from {each.champion_recall:.3f} to {each.candidate_recall:.3f}, by more "
        f"than {max_recall_drop:g}"
        for each in classes
        if each.champion_recall is not None
        and each.candidate_recall is not None
        and each.champion_recall - each.candidate_recall > max_recall_drop
    ]
    num_loads = len(next(iter(ours.values())))
    if high < 0:
        faults.insert(
            0,
            f"average precision {candidate_ap:.4f} is lower than {champion_ap:.4f}, and not by chance: the difference "
            f"is {low:+.4f} to {high:+.4f} with {CONFIDENCE:.0%} confidence over {num_loads} loads",
        )
    return Comparison(
        candidate_ap=candidate_ap,
        champion_ap=champion_ap,
        ap_gain_low=low,
        ap_gain_high=high,
        classes=classes,
        num_loads=num_loads,
        split_sha256=candidate.split_sha256,
        max_recall_drop=max_recall_drop,
        faults=tuple(faults),
    )


def _check_comparable(candidate: SplitStatistics, champion: SplitStatistics) -> None:
    if candidate.split_sha256 != champion.split_sha256:
        raise ValueError(
            f"the test splits differ ({candidate.split_sha256[:12]}… and {champion.split_sha256[:12]}…); "
            f"{_MEASURE_ANEW}"
        )
    known = {each.class_name for each in champion.counts}
    if missing := sorted(known - {each.class_name for each in candidate.counts}):
        raise ValueError(
            f"the candidate does not know {', '.join(missing)}, which the champion finds; train it on that"
        )
    truths = [
        {(each.load_id, each.class_name): int(each.contaminant_U.sum()) for each in counts if each.class_name in known}
        for counts in (candidate.counts, champion.counts)
    ]
    if odd := sorted(set(truths[0].items()) ^ set(truths[1].items())):
        (load_id, class_name), _ = odd[0]
        raise ValueError(f"load {load_id}, class {class_name}: not the same truth for both; {_MEASURE_ANEW}")
    loads = {load_id for load_id, _ in truths[0]}
    for counts in (candidate.counts, champion.counts):
        names = [(each.load_id, each.class_name) for each in counts]
        if not len(names) == len(set(names)) == len(loads) * len({class_name for _, class_name in names}):
            raise ValueError(f"a load does not have each class once; {_MEASURE_ANEW}")
    if len({load_id for (load_id, _), num_px in truths[0].items() if num_px}) < 2:
        raise ValueError(
            "a test split of which fewer than two loads hold a contaminant tells nothing about chance; make it larger"
        )


def _compare_class(
    name: str, candidate: Sequence[LoadCounts], champion: Sequence[LoadCounts] | None
) -> ClassComparison:
    figures: list[float | None] = []
    for counts in (candidate, champion):
        if counts is None:
            figures += [None, None]
            continue
        whole = reduce(add, (each.histogram for each in counts))
        num_px, num_found_px = int(whole.contaminant_U.sum()), sum(each.num_found_px for each in counts)
        figures += [whole.metrics().average_precision, num_found_px / num_px if num_px else None]
    return ClassComparison(
        class_name=name,
        candidate_ap=figures[0],
        candidate_recall=figures[1],
        champion_ap=figures[2],
        champion_recall=figures[3],
    )


def _gain_interval(
    candidate: Sequence[Sequence[LoadCounts]], champion: Sequence[Sequence[LoadCounts]]
) -> tuple[float, float]:
    """Interval of the gain in average precision; both arguments hold the loads of each class."""
    ours, theirs = (
        [LoadMatrix.of([each.histogram for each in counts]) for counts in model] for model in (candidate, champion)
    )
    gains = []
    for num_RL in draws(len(candidate[0])):
        gain_of_classes = [
            our.average_precision(num_RL) - their.average_precision(num_RL)
            for our, their in zip(ours, theirs, strict=True)
        ]
        # A draw may miss all loads that hold a class; the mean is over the classes that it has.
        gains.append(np.ma.masked_invalid(gain_of_classes).mean(axis=0).filled(np.nan))
    found = interval(gains)
    assert found is not None, "two loads hold a contaminant, so some draw has one"
    return found
