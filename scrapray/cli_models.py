"""The commands of registered models, as in ``cli``: read the arguments, call one function, print what it says."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from scrapray.registry import Measured, ModelVersion

models = typer.Typer(
    no_args_is_help=True,
    help="""Versions of the segmenter in the registry, and which of them is in production.

    The registry is an MLflow server: set MLFLOW_TRACKING_URI to its address, and
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where it asks for them.
    Without an address it is mlflow.db in this folder.

    A version is named by its number or by an alias: [bold]champion[/] is in production, [bold]candidate[/] waits.
    """,
)
Version = Annotated[str, typer.Argument(metavar="V", help="Number or alias.")]
MeasureOn = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="URI",
        help="Measure both now on the test split of this dataset; without it, what training measured counts.",
    ),
]
MeasureSettings = Annotated[
    Path | None,
    typer.Option("--config", help="Settings of the measuring (TOML), as for [bold]scrapray evaluate[/]."),
]
MaxRecallDrop = Annotated[
    float,
    typer.Option(min=0, max=1, help="How much less of the pixels of a class may be found, as a share of all."),
]


def _in_words(reason: str | None) -> str | None:
    if reason is not None and not reason.strip():
        raise typer.BadParameter('the reason is blank; say why, such as --force "the yard has a new camera"')
    return reason


@models.command("list")
def list_models() -> None:
    """List all versions, the newest first.

    Example: [bold]scrapray models list[/]
    """
    from scrapray.registry import Registry
    from scrapray.screen import print_versions

    print_versions(Registry().list_versions())


@models.command("show")
def show_model(version: Version) -> None:
    """Show what is known of a version.

    Example: [bold]scrapray models show champion[/]
    """
    from scrapray.registry import Registry
    from scrapray.screen import print_version

    print_version(Registry().show(version))


@models.command("compare")
def compare_models(
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="Number or alias.")],
    champion: Annotated[str, typer.Argument(metavar="CHAMPION", help="Number or alias.")],
    dataset: MeasureOn = None,
    config: MeasureSettings = None,
    max_recall_drop: MaxRecallDrop = 0.05,
) -> None:
    """Compare two versions on one test split: that of their trainings, or with --dataset that of any dataset.

    Ends with 1 when the first may not replace the second.
    Neither --dataset nor anything else here changes a version or its bundle.

    Example: [bold]scrapray models compare candidate champion --dataset s3://datasets/scrap-8/[/]
    """
    from scrapray.registry import Registry
    from scrapray.screen import print_comparison

    registry = Registry()
    versions = registry.show(candidate), registry.show(champion)
    measured = _measured(versions, dataset, config) if dataset else None
    comparison = registry.compare(*versions, measured=measured, max_recall_drop=max_recall_drop)
    print_comparison(comparison)
    raise typer.Exit(0 if comparison.is_accepted else 1)


@models.command("promote")
def promote_model(
    version: Version,
    dataset: MeasureOn = None,
    config: MeasureSettings = None,
    max_recall_drop: MaxRecallDrop = 0.05,
    force: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            callback=_in_words,
            help="Promote whatever speaks against it; the reason and what speaks against it are recorded.",
        ),
    ] = None,
) -> None:
    """Make a version the champion, if it is not worse than the present one.

    The next audit with --model models:/scrap-segmenter@champion uses it.
    Have new loads or corrected masks changed the test split? --dataset measures both versions on the new one.

    Example: [bold]scrapray models promote candidate --dataset s3://datasets/scrap-8/[/]
    """
    from scrapray.registry import Registry

    registry = Registry()
    found = registry.show(version)
    rival = registry.rival_of(found)
    measured = _measured((found, rival), dataset, config) if dataset and rival else None
    comparison = registry.compare_with_champion(found, measured=measured, max_recall_drop=max_recall_drop)
    former = registry.promote(found, comparison=comparison, force_reason=force)
    for objection in comparison.objections if comparison else ():
        typer.echo(f"promoted by force against this: {objection}", err=True)
    typer.echo(f"{found.uri} is the champion{f', before it {former.uri}' if former else ''}")


@models.command("rollback")
def rollback_model() -> None:
    """Make the former champion the champion again; both versions are tagged with when, and from which to which.

    Example: [bold]scrapray models rollback[/]
    """
    from scrapray.registry import Registry

    typer.echo(f"{Registry().rollback().uri} is the champion again")


def _measured(versions: "tuple[ModelVersion, ModelVersion]", dataset: str, config: Path | None) -> "Measured":
    from scrapray.config import read_settings
    from scrapray.evaluation.config import EvaluateConfig
    from scrapray.evaluation.versions import measure_versions
    from scrapray.screen import progress

    settings = read_settings(config, EvaluateConfig) if config else EvaluateConfig()
    typer.echo("Loading both models and starting Ray; this takes some seconds.", err=True)
    with progress("tiles measured") as report:
        return measure_versions(versions, dataset, config=settings, progress=report)
