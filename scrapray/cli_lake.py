"""The commands that look after a lake, below ``scrapray lake``."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

Lake = Annotated[str, typer.Argument(metavar="LAKE", help="Folder or URI that audits publish to.")]
LakeSettings = Annotated[
    Path | None, typer.Option("--config", help="Settings (TOML), where the lake needs an endpoint or a region.")
]

lake_group = typer.Typer(
    no_args_is_help=True,
    help="Look after published tables: is every row whole and traceable, which old runs can go, fewer files.",
)


@lake_group.command("verify")
def verify_lake(
    lake: Lake,
    date: Annotated[
        dt.datetime | None,
        typer.Option("--date", formats=["%Y-%m-%d"], help="Tables of one night only, for example 2026-11-20."),
    ] = None,
    config: LakeSettings = None,
) -> None:
    """Look whether every published row is whole and names a run that is there; changes nothing.

    Says what is wrong and what to do about it; ends with 1 then.

    Example: [bold]scrapray lake verify s3://yard-lake/ --date 2026-11-20[/]
    """
    from scrapray.config import read_config
    from scrapray.lake_care.verify import verify
    from scrapray.screen import print_verified
    from scrapray.storage import Storage

    verified = verify(lake, Storage(read_config(config).storage), date and date.date())
    print_verified(verified)
    raise typer.Exit(1 if verified.faults else 0)


@lake_group.command("retire")
def retire_runs(
    lake: Lake,
    keep: Annotated[int, typer.Option(min=1, help="Newest runs to keep of each date and site.")] = 2,
    config: LakeSettings = None,
) -> None:
    """Delete what old runs have left for rollback and comparison; what is published always stays.

    Runs that an exported review asks about stay until it is imported.
    Killed in the middle? Give the same command again.
    Ends with 1 where something cannot be read, so that runs stay that could go.

    Example: [bold]scrapray lake retire s3://yard-lake/ --keep 2[/]
    """
    from scrapray.config import read_config
    from scrapray.lake_care.retire import retire
    from scrapray.screen import print_faults
    from scrapray.storage import Storage

    retired = retire(lake, keep, Storage(read_config(config).storage))
    print_faults(retired.faults)
    if retired.num_in_review:
        typer.echo(f"{retired.num_in_review} old runs stay: a review asks about them and is not imported yet")
    typer.echo(f"{retired.num_deleted} old runs deleted, each date and site counted")
    raise typer.Exit(1 if retired.faults else 0)


@lake_group.command("compact")
def compact_months(
    lake: Lake,
    before: Annotated[
        dt.datetime | None,
        typer.Option(
            "--before",
            formats=["%Y-%m"],
            metavar="YYYY-MM",
            help="Months before this one; else those before the last one, whose nights reports and reviews look at.",
        ),
    ] = None,
    config: LakeSettings = None,
) -> None:
    """Put the nights of finished months into one file for each month, site and table: a year is quicker to read then.

    Every query, report and audit answers as before.
    Killed in the middle, or a night of an old month audited again? Give the same command again.
    Ends with 1 where a night is not whole, so that it stays as it is.

    Example: [bold]scrapray lake compact s3://yard-lake/ --before 2026-10[/]
    """
    from scrapray.config import read_config
    from scrapray.lake_care.compact import compact, month_before
    from scrapray.screen import print_faults
    from scrapray.storage import Storage

    today = dt.datetime.now(dt.UTC).date()
    first_kept = before.date() if before else month_before(today)
    compacted = compact(lake, first_kept, Storage(read_config(config).storage), today=today)
    print_faults(compacted.faults)
    if compacted.num_older:
        typer.echo(f"{compacted.num_older} nights stay as they are: an earlier version of scrapray has written them")
    typer.echo(f"{compacted.num_nights} nights put into files of months, each date and site counted")
    raise typer.Exit(1 if compacted.faults else 0)
