"""README and docs say what is true: commands, settings, tables, reasons and links are checked against the code."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
import typer

from scrapray import cli, config, recipients, schema
from scrapray.baselines.anomalyclip import AnomalyClipConfig
from scrapray.baselines.maskrcnn import MaskRcnnConfig
from scrapray.baselines.winclip import WinClipConfig
from scrapray.baselines.yolo_sam import YoloSamConfig
from scrapray.datasets import config as datasets
from scrapray.evaluation import config as evaluation
from scrapray.review import config as review
from scrapray.training.config import StartConfig

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
DATASETS = (REPOSITORY / "docs" / "datasets.md").read_text(encoding="utf-8")
EVALUATION = (REPOSITORY / "docs" / "evaluation.md").read_text(encoding="utf-8")
REVIEW = (REPOSITORY / "docs" / "review.md").read_text(encoding="utf-8")
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

SECTIONS = {
    "[archive]": config.ArchiveConfig,
    "[storage]": config.StorageConfig,
    "[gate_log]": config.GateLogConfig,
    '[cameras."<camera_id>"]': config.CameraConfig,
    "[quality]": config.QualityConfig,
    "[segment]": config.SegmentConfig,
    "[resources]": config.ResourcesConfig,
    "[verdict]": config.VerdictConfig,
    "[[verdict.rules]]": config.VerdictRule,
    "[limits]": config.LimitsConfig,
    "[alerts]": recipients.AlertsConfig,
    "[alerts.webhook]": recipients.WebhookConfig,
    "[alerts.email]": recipients.EmailConfig,
}
DATASET_SECTIONS = {
    "[bed_by_words]": datasets.BedByWords,
    "[annotations]": datasets.AnnotationsConfig,
    "[[classes]]": datasets.ClassConfig,
    "[tiles]": datasets.TilesConfig,
    "[resources]": datasets.DatasetResources,
    "[split]": datasets.SplitConfig,
    "[[split.fixed]]": datasets.FixedDates,
}
EVALUATION_SECTIONS = {
    "[workers]": evaluation.WorkersConfig,
    "[bundle]": evaluation.BundleConfig,
    "[clip]": evaluation.FrozenClipConfig,
    "[winclip]": WinClipConfig,
    "[start]": StartConfig,
    "[anomalyclip]": AnomalyClipConfig,
    "[maskrcnn]": MaskRcnnConfig,
    "[yolo_sam]": YoloSamConfig,
    "[detector]": evaluation.DetectorConfig,
}
REVIEW_SECTIONS = {"[queue]": review.QueueConfig}
SECTIONS_OF_PAGE = {
    OPERATIONS: SECTIONS,
    DATASETS: DATASET_SECTIONS,
    EVALUATION: EVALUATION_SECTIONS,
    REVIEW: REVIEW_SECTIONS,
}
CONFIG_OF_PAGE = {
    "datasets": datasets.DatasetConfig,
    "evaluation": evaluation.EvaluateConfig,
    "review": review.ReviewConfig,
}


@pytest.mark.parametrize(
    ("page", "section", "kind"),
    [(page, *pair) for page, sections in SECTIONS_OF_PAGE.items() for pair in sections.items()],
    ids=[section for sections in SECTIONS_OF_PAGE.values() for section in sections],
)
def test_every_key_of_the_configuration_is_explained_with_its_default(page: str, section: str, kind: Any) -> None:
    _, _, text = page.partition(f"### `{section}`\n")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", text.partition("\n### ")[0], flags=re.MULTILINE)
    assert [(key, _value(default)) for key, default in rows] == [
        (field.name, _default(field)) for field in fields(kind)
    ]


def test_every_section_of_the_configuration_is_explained() -> None:
    names = {re.split(r"[.\]]", section.strip("["))[0] for section in SECTIONS}
    assert names == {field.name for field in fields(config.AuditConfig)}
    names = {re.split(r"[.\]]", section.strip("["))[0] for section in DATASET_SECTIONS}
    assert names | {"archive", "storage", "cameras"} == {field.name for field in fields(datasets.DatasetConfig)}
    for sections, kind in ((EVALUATION_SECTIONS, evaluation.EvaluateConfig), (REVIEW_SECTIONS, review.ReviewConfig)):
        names = {section.strip("[]") for section in sections}
        assert names | {"storage"} == {field.name for field in fields(kind)}


def _default(field: "Field[Any]") -> Any:
    """What the page must say of a field; rules are explained on another page."""
    if field.name == "rules":
        return "elsewhere"
    if field.default is MISSING and field.default_factory is MISSING:
        return "required"
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return list(value) if isinstance(value, tuple) else "none" if value is None else value


def _value(text: str) -> Any:
    if text.startswith("see "):
        return "elsewhere"
    return tomllib.loads(f"value = {text.strip('`')}")["value"] if text.startswith("`") else text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_shown_as_examples_are_accepted(page: Path) -> None:
    for block in re.findall(r"```toml\n(.+?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        kind = CONFIG_OF_PAGE.get(page.stem, config.AuditConfig)
        config.settings_of(tomllib.loads(block), kind, source=page.name)


def _shown_commands() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        for line in re.findall(r"^(?:\$ )?scrapray (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            name, *arguments = shlex.split(line.partition("  #")[0])
            yield name, arguments


def test_commands_shown_are_accepted() -> None:
    commands = typer.main.get_command(cli.app).commands
    shown = list(_shown_commands())
    assert {name for name, _ in shown} >= {"index", "audit", "doctor"}
    for name, arguments in shown:
        commands[name].make_context(name, arguments)


def test_make_targets_shown_are_there() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"`?make ([a-z]+)", README)) <= targets


def test_every_published_table_is_described() -> None:
    described = re.findall(r"^\| `(\w+)` \| one row per", README, flags=re.MULTILINE)
    assert set(described) == set(schema.PUBLISHED)


def test_every_reason_for_rejecting_a_frame_is_explained() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "scrapray").rglob("*.py")]
    raised = {reason for source in sources for reason in re.findall(r'FrameError\("\w+", "(\w+)"', source)}
    assert len(raised) >= 10
    assert [reason for reason in sorted(raised) if f"`{reason}`" not in OPERATIONS + DATASETS] == []


def test_every_reason_for_leaving_an_annotation_out_is_explained() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "scrapray" / "datasets").rglob("*.py")]
    faults = re.compile(r'(?:reason=|faults = \[|None, \[|faults\.append\(|return )"([a-z_]+)"')
    given = {reason for source in sources for reason in faults.findall(source)}
    assert len(given) >= 10
    assert [reason for reason in sorted(given) if f"`{reason}`" not in DATASETS] == []
