import pytest

from scrapray.config import DEFAULT_RULES, VerdictConfig, VerdictRule
from scrapray.errors import ConfigurationError
from scrapray.statistics.contamination import Contamination
from scrapray.statistics.verdict import ClassOfLoad, LoadFindings, check_rules, judge


def found(class_name, severity, count, max_score=0.8, certainty=0.0):
    return ClassOfLoad(
        class_name=class_name,
        severity=severity,
        area_frac=0.0,
        count=count,
        max_score=max_score,
        certainty=certainty,
    )


def findings(*classes, frac=0.0, coverage_frac=0.9, num_used=12, num_frames=14):
    return LoadFindings(
        num_frames=num_frames,
        num_used=num_used,
        coverage_frac=coverage_frac,
        contamination=Contamination(frac, 0.0, 0.002, "ratio+block-bootstrap"),
        classes=classes,
    )


@pytest.mark.parametrize(
    ("load", "verdict", "rule"),
    [
        (findings(), "accept", "no_rule"),
        (findings(found("spray can", 3, 1)), "reject", "highest_severity"),
        (findings(found("motor", 2, 1)), "review", "contaminant"),
        (findings(found("motor", 2, 3)), "reject", "several_severe"),
        (findings(found("cable", 1, 5)), "review", "contaminant"),
        (findings(found("spray can", 3, 0, certainty=0.35)), "review", "sure_glimpse"),
        (findings(found("spray can", 3, 0, certainty=0.34)), "accept", "no_rule"),
        (findings(frac=0.001), "review", "contamination"),
        (findings(num_used=1), "review", "few_frames"),
        (findings(num_used=0, coverage_frac=None), "review", "few_frames"),
        (findings(coverage_frac=0.4), "review", "low_coverage"),
        (findings(found("cable", 1, 1), found("spray can", 3, 1), coverage_frac=0.1), "reject", "highest_severity"),
    ],
)
def test_the_rules_that_ship(load, verdict, rule):
    given = judge(load, DEFAULT_RULES)
    assert (given.verdict, given.rule) == (verdict, rule)


@pytest.mark.parametrize("rules", [(), (VerdictRule(name="blind", verdict="review", max_coverage_frac=0.5),)])
def test_a_load_that_nobody_saw_is_never_accepted(rules):
    given = judge(findings(num_used=0, num_frames=5, coverage_frac=None), rules)
    assert (given.verdict, given.rule, given.reason) == ("review", "nothing_seen", "none of 5 frames usable")


def test_the_most_severe_verdict_wins_wherever_it_stands():
    rules = (
        VerdictRule(name="first", verdict="review", min_severity=1),
        VerdictRule(name="second", verdict="reject", min_severity=1),
        VerdictRule(name="third", verdict="reject", min_severity=1),
    )
    assert judge(findings(found("cable", 1, 1)), rules).rule == "second"


def test_conditions_on_contaminants_must_hold_for_one_class():
    rules = (VerdictRule(name="sure_motor", verdict="reject", class_name="motor", min_score=0.9),)
    assert judge(findings(found("motor", 2, 1, 0.5), found("cable", 1, 1, 0.99)), rules).verdict == "accept"
    assert judge(findings(found("motor", 2, 1, 0.9)), rules).verdict == "reject"


def test_all_conditions_of_a_rule_must_hold():
    rules = (VerdictRule(name="both", verdict="review", min_severity=1, max_coverage_frac=0.5),)
    assert judge(findings(found("cable", 1, 1)), rules).verdict == "accept"
    assert judge(findings(found("cable", 1, 1), coverage_frac=0.5), rules).verdict == "review"


def test_a_single_frame_speaks_only_where_a_rule_lets_it():
    seen_once = findings(found("spray can", 3, 0, 0.95))
    assert judge(seen_once, DEFAULT_RULES).verdict == "accept"
    rules = (VerdictRule(name="glimpse", verdict="review", min_severity=3, min_count=0, min_score=0.9),)
    given = judge(seen_once, rules)
    assert given.verdict == "review"
    assert given.reason == "spray can (severity 3): seen in one frame only, best score 0.95"


def test_a_class_that_was_never_detected_fires_nothing():
    rules = (VerdictRule(name="glimpse", verdict="review", class_name="motor", min_count=0),)
    assert judge(findings(found("motor", 2, 0, 0.0)), rules).verdict == "accept"


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (findings(found("spray can", 3, 2, 0.931)), "spray can (severity 3): 2 or more seen, best score 0.93"),
        (
            findings(found("spray can", 3, 0, 0.97, 0.9)),
            "spray can (severity 3): seen in one frame only, best score 0.97; certainty 0.90, limit 0.35",
        ),
        (findings(frac=0.0015), "contamination 0.150% (95 %: 0.000% to 0.200%), limit 0.100%"),
        (findings(num_used=1), "1 of 14 frames usable, needs 2"),
        (findings(coverage_frac=0.4), "40% of the bed seen, limit 50%"),
        (findings(), "no rule fired: contamination 0.000% (95 %: 0.000% to 0.200%) in 12 of 14 frames"),
    ],
)
def test_a_reason_gives_the_numbers(load, reason):
    assert judge(load, DEFAULT_RULES).reason == reason


def test_a_rule_for_an_unknown_class_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="'no_batteries': the model has no class 'battery', only motor, cable"):
        check_rules([VerdictRule(name="no_batteries", verdict="reject", class_name="battery")], ["motor", "cable"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VerdictRule(name="all", verdict="reject"), "no condition"),
        (lambda: VerdictRule(name=" ", verdict="reject", min_severity=1), "name is empty"),
        (lambda: VerdictRule(name="a", verdict="reject", min_score=1.2), "min_score is 1.2, must be 0 to 1"),
        (lambda: VerdictRule(name="a", verdict="reject", min_certainty=-1), "min_certainty is -1, must be 0 to 1"),
        (lambda: VerdictRule(name="a", verdict="reject", min_count=-1), "min_count is -1, must be 0 or more"),
        (lambda: VerdictConfig(rules=(DEFAULT_RULES[0],) * 2), "same name: highest_severity"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
