"""The commands of registered models, as in ``cli``: read the arguments, call one function, print what it says."""

from contextlib import nullcontext, suppress
from typing import Annotated

import typer

from scrapray.errors import RegistryError

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
) -> None:
    """Compare two versions that were measured on the same test split.

    Ends with 1 when the first may not replace the second.

    Example: [bold]scrapray models compare candidate champion[/]
    """
    from scrapray.registry import Registry
    from scrapray.screen import print_comparison

    registry = Registry()
    comparison = registry.compare(registry.show(candidate), registry.show(champion))
    print_comparison(comparison)
    raise typer.Exit(0 if comparison.is_accepted else 1)


@models.command("promote")
def promote_model(
    version: Version,
    force: Annotated[
        str | None, typer.Option(metavar="REASON", help="Promote whatever the comparison says; both are recorded.")
    ] = None,
) -> None:
    """Make a version the champion, if it is not worse than the present one.

    The next audit with --model models:/scrap-segmenter@champion uses it.

    Example: [bold]scrapray models promote candidate[/]
    """
    from scrapray.registry import Registry

    registry = Registry()
    found = registry.show(version)
    comparison = None
    with suppress(RegistryError) if force else nullcontext():  # versions may not be comparable
        comparison = registry.compare_with_champion(found)
    former = registry.promote(found, comparison=comparison, force_reason=force)
    typer.echo(f"{found.uri} is the champion{f', before it {former.uri}' if former else ''}")


@models.command("rollback")
def rollback_model() -> None:
    """Make the former champion the champion again.

    Example: [bold]scrapray models rollback[/]
    """
    from scrapray.registry import Registry

    typer.echo(f"{Registry().rollback().uri} is the champion again")
