"""Rules of the yard -> accept, review or reject, with a reason that a person can check.

A rule fires when all its conditions hold. Its conditions on contaminants must hold for one and the same class. Of
the rules that fire, the most severe verdict wins, and among equals the one that stands first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scrapray.config import VerdictRule
from scrapray.errors import ConfigurationError
from scrapray.statistics.contamination import Contamination
from scrapray.statistics.wording import share_in_words

SEVERITY_OF_VERDICT = {"accept": 0, "review": 1, "reject": 2}
NO_RULE = "no_rule"
"""Stands in ``verdict_rule`` of an accepted load: nothing fired."""
NOTHING_SEEN = "nothing_seen"
"""Stands there when nothing fired because no frame of the load could be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassOfLoad:
    """One contaminant over a whole load.

    Attributes:
        class_name: The contaminant.
        severity: 1 to 3.
        area_frac: Share of the seen bed, 0 to 1, estimated as the whole contamination is.
        count: Robust count: at least so many different objects, see ``LoadStatistics.count``.
        max_score: Highest score of a detection, 0 to 1; 0 without any.
        certainty: How far that lies on the way from the class's threshold to 1, 0 to 1; 0 without any.
    """

    class_name: str
    severity: int
    area_frac: float
    count: int
    max_score: float
    certainty: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFindings:
    """All that a rule may look at."""

    num_frames: int
    num_used: int
    coverage_frac: float | None
    contamination: Contamination
    classes: tuple[ClassOfLoad, ...]

    @property
    def worst_severity(self) -> int:
        """Highest severity among the contaminants that are there (count of 1 or more), else 0."""
        return max((found.severity for found in self.classes if found.count >= 1), default=0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a load: ``accept``, ``review`` or ``reject``; the rule that said so; the numbers behind it."""

    verdict: str
    rule: str
    reason: str


def judge(findings: LoadFindings, rules: Sequence[VerdictRule]) -> Verdict:
    """The most severe verdict among the rules that fire; without any, accept, unless nobody saw the load."""
    fired = [
        Verdict(rule.verdict, rule.name, reason)
        for rule in rules
        if (reason := _reason_to_fire(rule, findings)) is not None
    ]
    if not fired and not findings.num_used:
        return Verdict("review", NOTHING_SEEN, f"none of {findings.num_frames} frames usable")
    accept = Verdict("accept", NO_RULE, _reason_to_accept(findings))
    return max(fired, key=lambda each: SEVERITY_OF_VERDICT[each.verdict], default=accept)


def worst_first(load: Mapping[str, Any]) -> tuple[Any, ...]:
    """Sorts rows of ``schema.LOADS``: by verdict, then by what is in them, then by contamination, then by name."""
    contamination = load["contamination_frac"] or 0.0
    return (-SEVERITY_OF_VERDICT[load["verdict"]], -load["worst_severity"], -contamination, load["load_id"])


def check_rules(rules: Sequence[VerdictRule], class_names: Sequence[str]) -> None:
    """See to it that no rule waits for a contaminant that the model does not know.

    Raises:
        ConfigurationError: Names the rule, the class and the classes there are.
    """
    for rule in rules:
        if rule.class_name is not None and rule.class_name not in class_names:
            raise ConfigurationError(
                f"[verdict] rule {rule.name!r}: the model has no class {rule.class_name!r}, only "
                f"{', '.join(class_names)}; correct class_name or remove the rule"
            )


def _reason_to_fire(rule: VerdictRule, findings: LoadFindings) -> str | None:
    """The numbers that made the rule fire; None where one of its conditions does not hold."""
    reasons = []
    if rule.max_used_frames is not None:
        if findings.num_used > rule.max_used_frames:
            return None
        reasons.append(f"{findings.num_used} of {findings.num_frames} frames usable, needs {rule.max_used_frames + 1}")
    if rule.max_coverage_frac is not None:
        if findings.coverage_frac is None or findings.coverage_frac > rule.max_coverage_frac:
            return None
        reasons.append(f"{findings.coverage_frac:.0%} of the bed seen, limit {rule.max_coverage_frac:.0%}")
    if rule.min_contamination_frac is not None:
        if findings.contamination.frac is None or findings.contamination.frac < rule.min_contamination_frac:
            return None
        reasons.append(f"contamination {_percent(findings.contamination)}, limit {rule.min_contamination_frac:.3%}")
    if rule.asks_for_a_contaminant:
        found = [each for each in findings.classes if _holds(rule, each)]
        if not found:
            return None
        best = max(found, key=lambda each: (each.severity, each.count, each.max_score))
        reasons.append(_describe(best))
        if rule.min_certainty is not None:
            reasons.append(f"certainty {best.certainty:.2f}, limit {rule.min_certainty:.2f}")
    return "; ".join(reasons)


def _holds(rule: VerdictRule, found: ClassOfLoad) -> bool:
    return (
        found.severity >= (rule.min_severity or 0)
        and found.class_name == (rule.class_name or found.class_name)
        and found.count >= (1 if rule.min_count is None else rule.min_count)
        and found.max_score >= (rule.min_score or 0)
        and found.certainty >= (rule.min_certainty or 0)
        and found.max_score > 0
    )


def _describe(found: ClassOfLoad) -> str:
    seen = f"{found.count} or more seen" if found.count else "seen in one frame only"
    return f"{found.class_name} (severity {found.severity}): {seen}, best score {found.max_score:.2f}"


def _percent(contamination: Contamination) -> str:
    return share_in_words(contamination.frac, contamination.low, contamination.high)


def _reason_to_accept(findings: LoadFindings) -> str:
    return (
        f"no rule fired: contamination {_percent(findings.contamination)} in {findings.num_used} of "
        f"{findings.num_frames} frames"
    )
