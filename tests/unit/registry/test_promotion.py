"""What a promotion asks for, and what it leaves in the tags of versions, in a registry that is a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from scrapray import cli, schema
from scrapray.errors import RegistryError
from scrapray.lake import read_table
from scrapray.registry import CANDIDATE, TEST_STATISTICS, Measured, ModelVersion, Registry
from scrapray.statistics.promotion import SplitStatistics
from scrapray.storage import Storage
from tests.fixtures.tracking import make_bundle

pytestmark = pytest.mark.usefixtures("registry_folder")

Add = Callable[..., ModelVersion]


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def add(registry: Registry, tiny_bundle: Path, tmp_path: Path) -> Add:
    """Registers a bundle, see ``make_bundle``."""

    def register(name: str, **changes: Any) -> ModelVersion:
        with registry.start_run(name) as run:
            version = run.register_bundle(make_bundle(tmp_path / name, tiny_bundle, **changes))
        assert version is not None
        return version

    return register


@pytest.fixture
def elsewhere(tiny_bundle: Path, tmp_path: Path) -> Callable[..., Measured]:
    """What versions scored on the test split of another dataset: how well each tells contaminants, by number."""

    def measured(separations: dict[int, float]) -> Measured:
        statistics = {}
        for number, separation in separations.items():
            folder = tmp_path / f"elsewhere-{number}-{separation}"
            make_bundle(folder, tiny_bundle, separation=separation, split="e" * 64)
            table = read_table(str(folder / TEST_STATISTICS), schema.TEST_STATISTICS, Storage())
            statistics[number] = SplitStatistics.from_rows(table.to_pylist())
        return Measured(dataset="s3://datasets/scrap-8", statistics=statistics)

    return measured


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["models", *arguments], terminal_width=100)


def promotion_of(registry: Registry, number: int) -> dict[str, str]:
    """Tags of a version, without those of its bundle and without times."""
    of_bundle = {"weights_sha256", "bundle_sha256", "test_split_sha256", "classes", "metrics", "code_version"}
    tags = registry.show(str(number)).tags
    return {name: value for name, value in tags.items() if name not in of_bundle and not name.endswith("_utc")}


def test_a_promotion_notes_what_was_compared_on_which_split_and_how_strictly(registry: Registry, add: Add) -> None:
    registry.promote(add("one"), comparison=None)
    assert promotion_of(registry, 1) == {}
    two = add("two", separation=3.0)
    comparison = registry.compare_with_champion(two, max_recall_drop=0.2)
    registry.promote(two, comparison=comparison)
    assert comparison and comparison.result
    assert promotion_of(registry, 2) == {
        "replaced": "version 1",
        "compared": f"AP {comparison.result.candidate_ap:.4f}, that of version 1 {comparison.result.champion_ap:.4f}",
        "compared_split": "a" * 64,
        "max_recall_drop": "0.2",
    }


def test_what_was_measured_elsewhere_counts_in_place_of_what_training_measured(
    registry: Registry, add: Add, elsewhere: Callable[..., Measured]
) -> None:
    one, two = add("one"), add("two", split="b" * 64)
    registry.promote(one, comparison=None)
    assert not registry.compare(two, one, measured=elsewhere({1: 3.0, 2: 1.0})).is_accepted
    registry.promote(two, comparison=registry.compare_with_champion(two, measured=elsewhere({1: 1.0, 2: 3.0})))
    noted = promotion_of(registry, 2)
    assert (noted["compared_on"], noted["compared_split"]) == ("s3://datasets/scrap-8", "e" * 64)
    assert registry.show("2").tags["test_split_sha256"] == "b" * 64, "the bundle keeps what training measured"


def test_a_later_promotion_leaves_nothing_of_a_forced_one(registry: Registry, add: Add) -> None:
    registry.promote(add("one"), comparison=None)
    two = add("two", split="b" * 64)
    registry.promote(two, comparison=registry.compare_with_champion(two), force_reason=" the yard has changed ")
    noted = promotion_of(registry, 2)
    assert noted.keys() == {"replaced", "forced_because", "forced_against"}
    assert noted["forced_because"] == "the yard has changed"
    assert "the test splits differ" in noted["forced_against"]
    registry.promote(add("three", split="b" * 64), comparison=None, force_reason="a drill")
    registry.promote(two, comparison=registry.compare_with_champion(two))
    assert promotion_of(registry, 2).keys() == {"replaced", "compared", "compared_split", "max_recall_drop"}


def test_a_rollback_notes_when_and_from_which_version_until_the_next_promotion(registry: Registry, add: Add) -> None:
    for name in ("one", "two"):
        registry.promote(add(name), comparison=None, force_reason="a drill")
    registry.rollback()
    one, two = registry.show("1").tags, registry.show("2").tags
    assert (one["restored_from"], two["rolled_back_to"]) == ("version 2", "version 1")
    assert one["restored_utc"] == two["rolled_back_utc"] >= two["promoted_utc"]
    assert two["forced_because"] == "a drill", "of the promotion that was taken back"
    registry.promote(registry.show("2"), comparison=None, force_reason="once more")
    registry.promote(registry.show("1"), comparison=None, force_reason="and back")
    for number in (1, 2):
        assert not {"rolled_back_to", "rolled_back_utc", "restored_from", "restored_utc"} & set(
            registry.show(str(number)).tags
        )


def test_a_version_that_comes_and_goes_says_the_last_of_it_only(registry: Registry, add: Add) -> None:
    for name in ("one", "two", "three"):
        registry.promote(add(name), comparison=None, force_reason="a drill")
    registry.rollback()
    assert promotion_of(registry, 2)["restored_from"] == "version 3"
    registry.rollback()
    noted = promotion_of(registry, 2)
    assert (noted["rolled_back_to"], "restored_from" in noted) == ("version 1", False)


def test_a_champion_that_came_meanwhile_is_not_replaced_unseen(
    registry: Registry, add: Add, elsewhere: Callable[..., Measured]
) -> None:
    one, two, three = add("one"), add("two"), add("three", separation=3.0)
    registry.promote(one, comparison=None)
    comparison = registry.compare_with_champion(three)
    registry.promote(two, comparison=None, force_reason="meanwhile")
    for reason in (None, "a drill"):
        with pytest.raises(RegistryError, match="compared with version 1, but version 3 would replace version 2"):
            registry.promote(three, comparison=comparison, force_reason=reason)
    with pytest.raises(RegistryError, match="version 2 became the champion while others were measured"):
        registry.compare_with_champion(three, measured=elsewhere({1: 2.0, 3: 2.0}))
    assert (champion := registry.champion()) and champion.version == 2


def test_a_candidate_that_came_meanwhile_stays_the_candidate(registry: Registry, add: Add) -> None:
    one = add("one")
    assert CANDIDATE in one.aliases
    two = add("two")
    registry.promote(one, comparison=None)
    assert registry.show(CANDIDATE).version == two.version


def test_a_blank_reason_is_none(registry: Registry, add: Add) -> None:
    one = add("one")
    for reason in ("", " \n"):
        with pytest.raises(RegistryError, match="by force is blank; say why in words"):
            registry.promote(one, comparison=None, force_reason=reason)


def test_what_a_promotion_was_forced_against_is_said_and_kept(registry: Registry, add: Add) -> None:
    add("one")
    invoke("promote", "1")
    add("two", split="b" * 64)
    refused = invoke("promote", "2")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "version 2 does not replace champion 1: cannot compare" in refused.stderr
    assert "with --dataset" in refused.stderr
    forced = invoke("promote", "2", "--force", "a drill")
    assert forced.exit_code == 0
    assert forced.stderr.startswith("promoted by force against this: cannot compare version 2 with version 1")
    assert forced.stderr.count("\n") == 1
    shown = invoke("show", "champion").stdout
    assert "forced_because" in shown
    assert "the test splits differ" in shown


def test_how_much_recall_may_be_lost_can_be_said(add: Add) -> None:
    add("one", threshold=0.5)
    invoke("promote", "1")
    add("two", threshold=0.95)
    compared = invoke("compare", "2", "1")
    assert (compared.exit_code, "by more than 0.05" in compared.stdout) == (1, True)
    assert invoke("promote", "2").exit_code == 2
    assert invoke("compare", "2", "1", "--max-recall-drop", "1").exit_code == 0
    assert invoke("promote", "2", "--max-recall-drop", "1").exit_code == 0
    assert invoke("promote", "1", "--max-recall-drop", "1.5").exit_code == 2


def test_a_champion_is_not_measured_to_promote_it_again(add: Add) -> None:
    add("one")
    invoke("promote", "1")
    again = invoke("promote", "1", "--dataset", "no-dataset")
    assert again.stderr == "scrapray: version 1 is the champion already; promote another\n"


@pytest.mark.parametrize("arguments", [("compare", "2", "1"), ("promote", "2")])
def test_a_dataset_that_is_not_there_is_said_before_any_work(add: Add, arguments: tuple[str, ...]) -> None:
    add("one")
    invoke("promote", "1")
    add("two")
    answer = invoke(*arguments, "--dataset", "nowhere")
    assert answer.exit_code == 2
    assert "nowhere holds no finished dataset; run scrapray prepare" in answer.stderr
