"""The commands of a review, as in ``cli``: read the arguments, call one function, print what it says."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from scrapray.cli_lake import Lake

review = typer.Typer(
    no_args_is_help=True,
    help="""People look at what the audit found: choose frames, bring back what they say, see what it shows.

    [bold]export[/] writes the frames of a night that are worth a look, for CVAT or Label Studio;
    [bold]import[/] takes what comes back; [bold]show[/] says how right the model is;
    [bold]truth[/] writes all that was reviewed, to train on.
    """,
)
ReviewSettings = Annotated[
    Path | None, typer.Option("--config", help="Settings (TOML); every key is in docs/review.md.")
]


@review.command("export")
def export_review(
    lake: Lake,
    date: Annotated[dt.datetime, typer.Option(formats=["%Y-%m-%d"], help="The night, for example 2026-11-20.")],
    out: Annotated[str, typer.Option(help="COCO file to write: a path or URI.")],
    site: Annotated[str | None, typer.Option(help="One site only; all of the night without it.")] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="Without pre-labels, for a second reviewer of the same frames.")
    ] = False,
    config: ReviewSettings = None,
) -> None:
    """Choose the frames of a night that are worth a look, and write them with pre-labels as a COCO file.

    Chosen for high severity, scores near a threshold, models that disagree, rare classes, and by lot.
    The same command writes the same frames again.

    Example: [bold]scrapray review export s3://yard-lake/ --date 2026-11-20 --out to-label.coco.json[/]
    """
    from scrapray.config import read_settings
    from scrapray.review.config import ReviewConfig
    from scrapray.review.exports import export_queue
    from scrapray.storage import Storage

    settings = read_settings(config, ReviewConfig) if config else ReviewConfig()
    storage = Storage(settings.storage)
    export = export_queue(
        lake,
        date.date(),
        site=site,
        quotas=settings.queue,
        is_blind=blind,
        storage=storage,
        now_utc=dt.datetime.now(dt.UTC),
    )
    storage.write_bytes(out, export.data)
    typer.echo(f"{export}\nwritten: {out}")


@review.command("import")
def import_review(
    lake: Lake,
    labelled: Annotated[
        str, typer.Argument(metavar="LABELLED", help="COCO file that the annotation tool wrote, a path or URI.")
    ],
    reviewer: Annotated[str, typer.Option(help="Who has looked.")],
    blind: Annotated[
        bool, typer.Option("--blind", help="No pre-labels were shown, and the tool dropped the note that says so.")
    ] = False,
    queue: Annotated[
        str | None, typer.Option(metavar="ID", help="The export it belongs to, where several fit or none does.")
    ] = None,
    config: ReviewSettings = None,
) -> None:
    """Bring what a reviewer confirmed, corrected, rejected and added into the lake's table of reviews.

    Import finished work only: a pre-label that nobody looked at counts as confirmed.
    The same file twice changes nothing.

    Example: [bold]scrapray review import s3://yard-lake/ labelled.coco.json --reviewer ada[/]
    """
    from scrapray.config import read_settings
    from scrapray.review.config import ReviewConfig
    from scrapray.review.imports import import_reviews
    from scrapray.storage import Storage

    storage = Storage((read_settings(config, ReviewConfig) if config else ReviewConfig()).storage)
    summary = import_reviews(
        lake,
        storage.read_bytes(labelled),
        reviewer,
        source=labelled,
        is_blind=blind,
        queue_id=queue,
        storage=storage,
        now_utc=dt.datetime.now(dt.UTC),
    )
    typer.echo(str(summary))


@review.command("show")
def show_reviews(lake: Lake, config: ReviewSettings = None) -> None:
    """Show what reviews say: precision and recall of each model, agreement of reviewers, and changed verdicts.

    Example: [bold]scrapray review show s3://yard-lake/[/]
    """
    from scrapray.config import read_settings
    from scrapray.review.config import ReviewConfig
    from scrapray.review.figures import figures_of
    from scrapray.review.nights import read_reviews
    from scrapray.review.verdicts import all_reviewed_loads
    from scrapray.screen import print_reviews
    from scrapray.storage import Storage

    storage = Storage((read_settings(config, ReviewConfig) if config else ReviewConfig()).storage)
    print_reviews(figures_of(read_reviews(lake, storage)), all_reviewed_loads(lake, storage).to_pylist())


@review.command("truth")
def write_truth(
    lake: Lake,
    out: Annotated[str, typer.Option(help="COCO file to write: a path or URI.")],
    config: ReviewSettings = None,
) -> None:
    """Write every reviewed frame with what is there as a COCO file, which [bold]scrapray prepare[/] takes.

    Example: [bold]scrapray review truth s3://yard-lake/ --out reviewed.coco.json[/]
    """
    from scrapray.config import read_settings
    from scrapray.review.config import ReviewConfig
    from scrapray.review.exports import reviewed_frames
    from scrapray.storage import Storage

    storage = Storage((read_settings(config, ReviewConfig) if config else ReviewConfig()).storage)
    data, num_frames, num_objects = reviewed_frames(lake, storage)
    storage.write_bytes(out, data)
    typer.echo(f"{num_frames} reviewed frames with {num_objects} objects: {out}")
