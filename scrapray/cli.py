"""The commands: read the arguments, call one function, print what it says.

All that is heavy is imported inside the command that needs it, so that ``--help`` answers at once.
"""

import datetime as dt
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from scrapray.cli_lake import Lake, LakeSettings, lake_group
from scrapray.cli_models import models
from scrapray.cli_review import review
from scrapray.errors import EXIT_USAGE, in_one_line
from scrapray.folders import local_folder


class _Commands(TyperGroup):
    """Turns errors that a user can mend into one line, and an interruption into how to go on."""

    def invoke(self, ctx: Any) -> Any:
        with in_one_line("scrapray"):
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Nightly audit of archived frames of steel scrap: which loads hold motors, cables or spray cans.

    The main path: [bold]index[/] an archive into a manifest, [bold]audit[/] the manifest into tables.
    Ask [bold]doctor[/] before the first night; [bold]draw[/] makes an archive to try it on.
    In the morning: [bold]report[/] shows a night with its evidence, [bold]sql[/] answers questions to all nights.
    A better segmenter: [bold]prepare[/] annotated frames, [bold]train[/] on them, [bold]evaluate[/] what came out;
    [bold]models[/] says which one is in production, and promotes.
    People look at what was found: [bold]review[/]. [bold]lake[/] looks after the tables.

    Exit codes:
    [bold]0[/] done
    [bold]1[/] done, but more frames were rejected than the limits allow
    [bold]2[/] wrong configuration or usage, or something cannot be reached
    [bold]3[/] done, and a load holds a contaminant of the highest severity
    [bold]130[/] stopped; the same command goes on from there
    """,
)


def _within_reach(date: dt.datetime | None) -> dt.datetime | None:
    """A date that has one before and one after it: an index looks at both."""
    if date and not dt.date.min < date.date() < dt.date.max:
        raise typer.BadParameter(f"{date.date()} is no night of an archive; give one such as 2026-11-20.")
    return date


Config = Annotated[
    Path, typer.Option("--config", help="Settings of the audit (TOML); every key is in docs/operations.md.")
]
Night = Annotated[
    dt.datetime | None,
    typer.Option(
        "--date",
        formats=["%Y-%m-%d"],
        callback=_within_reach,
        help="One night only, for example 2026-11-20; all dates without it.",
    ),
]


@app.command()
def draw(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", parser=local_folder, help="Folder to write; made when it is not there.")
    ],
    loads: Annotated[int, typer.Option(min=1, help="Truck loads to draw.")] = 4,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each load.")] = 6,
    width: Annotated[int, typer.Option(min=320, help="Frame width in px; the height is 9/16 of it.")] = 3840,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same bytes.")] = 1,
    masks: Annotated[
        bool, typer.Option("--masks", help="Also write the class of each pixel, as a PNG beside each frame.")
    ] = False,
) -> None:
    """Draw an archive of truck loads whose contents are known, to try an audit on, or, with masks, a training.

    Writes JPEG frames, audit.toml for them, and truth.json: what is seen where.

    Example: [bold]scrapray draw demo/archive --loads 4 --frames 6 --seed 1[/]
    """
    from scrapray.imagery.scenes import SceneSettings, draw_archive
    from scrapray.screen import progress

    size = SceneSettings(width_px=width, height_px=width * 9 // 16)
    with progress("frames drawn") as report:
        draw_archive(
            out, num_loads=loads, frames_per_load=frames, seed=seed, settings=size, masks=masks, progress=report
        )
    typer.echo(f"{loads} loads with {frames} frames each, their truth and audit.toml: {out}")


@app.command()
def index(
    archive: Annotated[
        str, typer.Argument(metavar="ARCHIVE", help="Bucket or folder of frames, such as s3://yard-archive/2026/.")
    ],
    manifest: Annotated[
        str, typer.Argument(metavar="MANIFEST", help="Folder or URI for the manifest, one Parquet folder per date.")
    ],
    config: Config,
    date: Night = None,
) -> None:
    """List an archive and say of each frame which truck and load it shows.

    Frames that cannot be placed stay in the manifest with a reason.
    Indexing again replaces what was indexed before.

    Example: [bold]scrapray index s3://yard-archive/ manifest/ --config audit.toml --date 2026-11-20[/]
    """
    from scrapray.audit.manifest import index_archive
    from scrapray.config import read_config
    from scrapray.screen import progress
    from scrapray.storage import Storage

    settings = read_config(config)
    with progress("keys listed") as report:
        summary = index_archive(
            archive,
            manifest,
            storage=Storage(settings.storage),
            archive=settings.archive,
            gate_log=settings.gate_log,
            date=date and date.date(),
            progress=report,
        )
    typer.echo(str(summary))


@app.command()
def audit(
    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help="What [bold]scrapray index[/] wrote.")],
    lake: Annotated[
        str, typer.Argument(metavar="LAKE", help="Folder or URI for the tables; what other nights published stays.")
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Bundle: a folder, a URI, [bold]demo[/] for the one that is shipped, or a registered model such as "
            "models:/scrap-segmenter@champion."
        ),
    ],
    config: Config,
    date: Night = None,
) -> None:
    """Find what is not steel in the frames of a manifest, judge every load and publish the tables.

    Killed in the middle? Give the same command again: finished frames count.
    The tables of a date are replaced together, once its last frame is done.
    Exit code 3 can be switched off: alert_exit_code among the limits.
    Who is told of the night by webhook, e-mail or in a file stands in the section alerts.

    Example: [bold]scrapray audit manifest/ s3://yard-lake/ --model s3://models/scrap-3/ --config audit.toml[/]
    """
    from scrapray.alerts.send import send_alerts
    from scrapray.audit.nightly import run_audit
    from scrapray.config import read_config
    from scrapray.screen import print_summary, progress
    from scrapray.storage import Storage

    settings = read_config(config)
    typer.echo("Loading the model and starting Ray; this takes some seconds.", err=True)
    with progress("frames") as report:
        summary = run_audit(manifest, lake, model, config=settings, date=date and date.date(), progress=report)
    alerts = send_alerts(lake, summary.nights, config=settings.alerts, storage=Storage(settings.storage))
    print_summary(summary, config=config if settings.storage.endpoint_url else None, alerts=alerts)
    raise typer.Exit(summary.exit_code)


@app.command()
def prepare(
    annotations: Annotated[
        str,
        typer.Argument(
            metavar="ANNOTATIONS",
            help="A COCO file; or [bold]masks[/], [bold]mvtec[/], [bold]visa[/] where mask files lie among the frames.",
        ),
    ],
    frames: Annotated[str, typer.Argument(metavar="FRAMES", help="Bucket or folder of the annotated frames.")],
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Folder or URI to write, one for each dataset.")],
    config: Annotated[Path, typer.Option("--config", help="Settings of the dataset (TOML).")],
    check: Annotated[
        bool, typer.Option("--check", help="Also look for odd annotations and near copies, and draw a sheet of tiles.")
    ] = False,
) -> None:
    """Cut annotated frames into tiles to train on, split by load into train, validation and test.

    What cannot be used is left out, with the reason, in skipped.parquet.
    Killed in the middle? Give the same command again: finished frames count.

    Example: [bold]scrapray prepare annotations.coco.json s3://frames/ s3://datasets/scrap-7/ --config dataset.toml[/]
    """
    from scrapray.config import read_settings
    from scrapray.datasets.check import check_dataset
    from scrapray.datasets.config import DatasetConfig
    from scrapray.datasets.prepare import prepare_dataset
    from scrapray.screen import progress
    from scrapray.storage import Storage

    command = shlex.join(["scrapray", "prepare", annotations, frames, dataset, "--config", str(config)])
    settings = read_settings(config, DatasetConfig)
    with progress("frames cut") as report:
        summary = prepare_dataset(annotations, frames, dataset, config=settings, command=command, progress=report)
    typer.echo(str(summary))
    if check:
        typer.echo(str(check_dataset(dataset, Storage(settings.storage))))


@app.command()
def train(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="What [bold]scrapray prepare[/] wrote.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings of the training (TOML); every key is in docs/training.md.")
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help="Named settings; given twice, one over the other: paper, split and demo, under those of the file; the "
            "ablations frozen, no-msm, scales-5-11 and scales-7-13, over them."
        ),
    ] = None,
    runs: Annotated[
        str, typer.Option(help="Folder or URI for checkpoints and bundles; on a cluster one that all nodes reach.")
    ] = "runs/training",
) -> None:
    """Finetune a segmenter on a dataset and register it as the candidate.

    Without any settings it trains as the paper does: ViT-L/14@336 at 518 px, on one GPU.
    Runs, curves and models are found on the MLflow server: see [bold]scrapray models --help[/].
    Killed in the middle? Give the same command again: it goes on from the last checkpoint.

    Example: [bold]scrapray train s3://datasets/scrap-7/ --config finetune.toml --runs s3://datasets/runs/[/]
    """
    from scrapray.screen import print_training, progress
    from scrapray.training.produce import train_model
    from scrapray.training.profiles import read_finetune

    settings = read_finetune(config, profile or ())
    typer.echo("Starting Ray and its workers, and loading the model; this takes some seconds.", err=True)
    with progress("steps") as report:
        summary = train_model(dataset, runs, config=settings, progress=report)
    print_training(summary)


@app.command()
def evaluate(
    method: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_OR_BASELINE",
            help="A bundle: a folder, a URI, [bold]demo[/] for the one that is shipped, or a registered model such as "
            "models:/scrap-segmenter@champion; [bold]winclip[/], [bold]winclip+[/]; what "
            "[bold]scrapray train-baseline[/] wrote; or a .json file of detections.",
        ),
    ],
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="What [bold]scrapray prepare[/] wrote.")],
    out: Annotated[str, typer.Option(help="Folder or URI for the tables.")] = "results",
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Measure on test what was not chosen on it.")
    ] = "test",
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings (TOML); every key is in docs/evaluation.md.")
    ] = None,
) -> None:
    """Measure a model or a baseline on a split of a dataset: pixels, tiles and objects, with intervals over loads.

    What chance reaches stands beside every figure. The figures also become a run on the MLflow server.

    Example: [bold]scrapray evaluate models:/scrap-segmenter@champion s3://datasets/scrap-7/ --out results/[/]
    """
    from scrapray.config import read_settings
    from scrapray.datasets.read import open_dataset
    from scrapray.evaluation.config import EvaluateConfig
    from scrapray.evaluation.evaluate import evaluate as measure
    from scrapray.evaluation.evaluate import find_subject
    from scrapray.evaluation.results import as_markdown, check_out, files_of, rows_of, write_files
    from scrapray.evaluation.tracking import EXPERIMENT, track
    from scrapray.registry import Registry
    from scrapray.screen import progress
    from scrapray.storage import Storage

    settings = read_settings(config, EvaluateConfig) if config else EvaluateConfig()
    storage, registry = Storage(settings.storage), Registry()
    opened = open_dataset(dataset, storage)
    subject = find_subject(method, opened, split=split, config=settings)
    check_out(out, subject.name, split, opened.split(split).sha256, storage)
    registry.check()
    with progress("tiles") as report:
        evaluation = measure(subject, opened, split=split, workers=settings.workers, progress=report)
    rows = rows_of(evaluation)
    page = as_markdown(evaluation, rows)
    files = files_of(evaluation, rows, page)
    written = write_files(files, out, storage)
    typer.echo(page)
    typer.echo(f"written: {', '.join(written)}")
    run_id = track(evaluation, rows, files, settings=evaluation.subject_settings, registry=registry)
    typer.echo(f"MLflow: run {run_id} of experiment {EXPERIMENT}")


@app.command("train-baseline")
def train_baseline(
    method: Annotated[Literal["anomalyclip", "maskrcnn", "yolo-sam"], typer.Argument(metavar="BASELINE")],
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="What [bold]scrapray prepare[/] wrote.")],
    out: Annotated[
        Path, typer.Option(metavar="PATH", parser=local_folder, help="Folder of this machine for weights and card.")
    ],
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings (TOML); every key is in docs/evaluation.md.")
    ] = None,
) -> None:
    """Train a baseline on a dataset by its own recipe, to measure it beside the segmenter.

    [bold]anomalyclip[/] learns prompts for a frozen CLIP, [bold]maskrcnn[/] is torchvision's detector,
    [bold]yolo-sam[/] is a YOLO of ultralytics (AGPL, an extra) with masks by SAM.
    It runs in this process, on a GPU if gpus_per_actor in the settings is above 0.
    Killed in the middle? Give the same command again: it goes on from the last epoch.

    Example: [bold]scrapray train-baseline maskrcnn s3://datasets/scrap-7/ --out baselines/maskrcnn[/]
    """
    from scrapray.config import read_settings
    from scrapray.evaluation import trained
    from scrapray.evaluation.config import EvaluateConfig
    from scrapray.screen import progress

    settings = read_settings(config, EvaluateConfig) if config else EvaluateConfig()
    with progress("steps") as report:
        trained.train_baseline(
            method, dataset, out, config=settings, watch=lambda done, total, loss: report(done, total)
        )
    typer.echo(f"To measure it: scrapray evaluate {out} {dataset}")


@app.command()
def doctor(
    config: Config,
    archive: Annotated[str | None, typer.Option(help="Archive to look into.")] = None,
    lake: Annotated[str | None, typer.Option(help="Lake to write a probe to.")] = None,
    model: Annotated[str | None, typer.Option(help="Bundle or registered model to load.")] = None,
) -> None:
    """Look at all that an audit needs: what is there, what is missing, and what to do about it.

    Ends with 0 when an audit can start and with 2 when something must be mended first.

    Example: [bold]scrapray doctor --config audit.toml --archive s3://yard-archive/ --lake s3://yard-lake/[/]
    """
    from scrapray.audit.doctor import examine
    from scrapray.config import read_config
    from scrapray.screen import print_findings

    findings = examine(read_config(config), archive_uri=archive, lake_uri=lake, model_uri=model)
    print_findings(findings)
    raise typer.Exit(EXIT_USAGE if any(finding.status == "fail" for finding in findings) else 0)


app.add_typer(models, name="models")
app.add_typer(review, name="review")
app.add_typer(lake_group, name="lake")


@app.command()
def sql(
    lake: Lake,
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY",
            help="In DuckDB's SQL, after -- if it begins with a comment; without it the views are listed.",
        ),
    ] = None,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print it.")] = "table",
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the views to a database (.duckdb) or a script (.sql)."),
    ] = None,
    config: LakeSettings = None,
) -> None:
    """Ask the published tables: loads, suppliers, contaminants, cameras, models and more.

    Views show published runs only. What each column means, and questions to begin with: docs/queries.md.
    A night is read alone where the query says which: date = '2026-11-20' and site = 'north-yard'.

    Example: [bold]scrapray sql s3://yard-lake/ "select supplier, count(*) from loads group by all"[/]
    """
    import sys

    from scrapray.config import read_config
    from scrapray.report import answers, queries
    from scrapray.screen import print_answer
    from scrapray.storage import Storage

    storage = Storage(read_config(config).storage)
    if save:
        queries.save_views(lake, save, storage)
    if query or not save:
        connection = queries.open_lake(lake, storage)
        if queries.REVIEWED_LOADS in (query or "").lower():  # not always: it reads all nights that were reviewed
            queries.add_reviewed_loads(connection, lake, storage)
        answer = queries.ask(connection, query or queries.LIST_VIEWS)
        if form == "table":
            print_answer(answer)
        else:
            {"csv": answers.write_csv, "json": answers.write_json}[form](answer, sys.stdout)


@app.command("report")
def report_night(
    lake: Lake,
    date: Annotated[
        dt.datetime, typer.Option("--date", formats=["%Y-%m-%d"], help="The night, for example 2026-11-20.")
    ],
    out: Annotated[str, typer.Option(help="Folder or URI for the pages of this one night.")] = "report",
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings of the audit (TOML), where they name an endpoint.")
    ] = None,
) -> None:
    """Make the report of a night: static pages with every load, its verdict and its evidence in pictures.

    Open index.html of the folder; it needs no server and asks nothing of the network.
    Made again, it takes the pictures over that are there.

    Example: [bold]scrapray report s3://yard-lake/ --date 2026-11-20 --out report/[/]
    """
    from scrapray.config import read_config
    from scrapray.report.nightly import write_report
    from scrapray.screen import progress
    from scrapray.storage import Storage

    storage = Storage(read_config(config).storage)
    with progress("frames cut") as report:
        summary = write_report(lake, date.date(), out, storage=storage, progress=report)
    typer.echo(str(summary))
