"""What a person sees: progress while a command works, tables when it is done.

On a terminal progress is a moving bar; anywhere else (a log, a pipe) it is one plain line every ten seconds, and tables
are as wide as what stands in them.
"""

import glob
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from scrapray.statistics.wording import found_in_words

if TYPE_CHECKING:
    import pyarrow as pa

    from scrapray.alerts.send import AlertReport
    from scrapray.audit.doctor import Finding
    from scrapray.audit.nightly import AuditSummary
    from scrapray.lake_care.faults import Fault
    from scrapray.lake_care.verify import Verified
    from scrapray.registry import ModelVersion
    from scrapray.review.figures import Figure
    from scrapray.statistics.promotion import Comparison
    from scrapray.training.produce import TrainingSummary

PLAIN_LINE_EVERY_S = 10.0
MAX_LOADS_SHOWN = 30
MAX_ROWS_SHOWN = 1000
WIDTH_IN_A_LOG = 200
VERDICT_STYLES = {"reject": "bold red", "review": "yellow", "accept": "green"}
STATUS_STYLES = {"fail": "bold red", "warn": "yellow", "ok": "green", "skip": "dim"}

Clock = Callable[[], float]


class Report(Protocol):
    """What a command calls as its work goes on."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Say how much is done by now, and of how much when that is known."""


class Pace:
    """Rate and time left from the first step that is seen on: neither start-up nor an earlier run's work counts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._done_before: int | None = None
        self._start: tuple[float, int] | None = None

    def describe(self, done: int, total: int | None) -> str:
        """For example ``1.3/s, 0:00:42 left``; empty as long as nothing can be said."""
        now_s = self._clock()
        if self._done_before is None:
            self._done_before = done
        if self._start is None and done > self._done_before:
            self._start = now_s, done
        start_s, start_done = self._start or (now_s, done)
        if done <= start_done or now_s <= start_s:
            return ""
        rate = (done - start_done) / (now_s - start_s)
        words = f"{rate:.1f}/s" if rate >= 1 else f"{rate:.2g}/s"
        if total is None or done >= total:
            return words
        return f"{words}, {timedelta(seconds=round((total - done) / rate))} left"


@contextmanager
def progress(what: str, console: Console | None = None, clock: Clock = monotonic) -> Iterator[Report]:
    """Show how far a piece of work is; yields the function to report with."""
    console = console or Console(stderr=True)
    yield from _moving_bar(what, console, clock) if console.is_terminal else _plain_lines(what, console, clock)


def _moving_bar(what: str, console: Console, clock: Clock) -> Iterator[Report]:
    pace = Pace(clock)
    columns = (
        SpinnerColumn(),
        TextColumn(what),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=None, pace="")

        def report(done: int, total: int | None = None) -> None:
            bar.update(task, completed=done, total=total, pace=pace.describe(done, total))

        yield report


def _plain_lines(what: str, console: Console, clock: Clock) -> Iterator[Report]:
    pace = Pace(clock)
    next_line_s = clock()

    def report(done: int, total: int | None = None) -> None:
        nonlocal next_line_s
        words = [f"{what}: {done}" + (f" of {total}" if total is not None else ""), pace.describe(done, total)]
        if clock() >= next_line_s or done == total:
            next_line_s = clock() + PLAIN_LINE_EVERY_S
            console.print(", ".join(filter(None, words)), highlight=False, soft_wrap=True)

    yield report


def print_summary(
    summary: "AuditSummary",
    console: Console | None = None,
    *,
    config: Path | None = None,
    alerts: "AlertReport | None" = None,
) -> None:
    """Print the loads with their verdicts, what became of the frames, how fast it went, and where the tables are.

    Args:
        summary: What the audit says.
        console: Where to print.
        config: File of settings that names the endpoint of the object storage; None where that is AWS.
        alerts: What became of messages; None where nobody is to be told.
    """
    console = console or _standard_output()
    lake_uri = summary.tables["loads"].rpartition("/")[0]
    lines = {
        "Frames": f"{summary.num_frames}: {summary.num_used} used, {summary.num_rejected} rejected{_reasons(summary)}",
        "Model": summary.model,
        "Speed": _speed(summary),
        "Tables": f"{lake_uri} ({', '.join(summary.tables)}), run {summary.run_id}",
        "Query": query_line(summary.tables["loads"], config),
    }
    if alerts is not None:
        lines["Alerts"] = str(alerts)
    console.print(_loads_table(summary.loads[:MAX_LOADS_SHOWN]))
    if len(summary.loads) > MAX_LOADS_SHOWN:
        console.print(f"and {len(summary.loads) - MAX_LOADS_SHOWN} more in the table of loads\n")
    _print_lines(lines, console)


def print_findings(findings: "Sequence[Finding]", console: Console | None = None) -> None:
    """Print one line per thing that an audit needs: how it is, and what to do about it."""
    table = _table()
    table.add_column("", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("found", ratio=1)
    table.add_column("what to do")
    for finding in findings:
        status = Text(finding.status, style=STATUS_STYLES[finding.status])
        table.add_row(status, finding.what, _safe(finding.found), _safe(finding.mend))
    (console or _standard_output()).print(table)


def print_versions(versions: "Sequence[ModelVersion]", console: Console | None = None) -> None:
    """Print one line per version of a model."""
    table = _table()
    for name in ("version", "alias", "registered", "weights"):
        table.add_column(name, no_wrap=True)
    table.add_column("metrics", overflow="fold")
    for version in versions:
        table.add_row(
            str(version.version),
            _safe(", ".join(version.aliases), style="bold"),
            f"{version.created_utc:%Y-%m-%d %H:%M}",
            version.tags.get("weights_sha256", "-")[:12],
            _safe(version.tags.get("metrics", "-")),
        )
    (console or _standard_output()).print(table if versions else "no version is registered yet")


def print_version(version: "ModelVersion", console: Console | None = None) -> None:
    """Print all that is known of one version."""
    console = console or _standard_output()
    lines = {
        "uri": version.uri,
        "alias": ", ".join(version.aliases) or "-",
        "registered": f"{version.created_utc:%Y-%m-%d %H:%M} UTC",
        "run": version.run_id,
        **dict(sorted(version.tags.items())),
    }
    _print_lines(lines, console, width=18)
    console.print(Text(f"\n{version.description}"), soft_wrap=True)


def print_comparison(comparison: "Comparison", console: Console | None = None) -> None:
    """Print candidate and champion side by side, and what speaks against the candidate."""
    console = console or _standard_output()
    table = _table(f"Candidate and champion on {comparison.num_loads} loads of the test split")
    table.add_column("class")
    for name in ("AP", "AP of champion", "recall", "recall of champion"):
        table.add_column(name, justify="right")
    for each in comparison.classes:
        figures = (each.candidate_ap, each.champion_ap, each.candidate_recall, each.champion_recall)
        table.add_row(_safe(each.class_name), *("-" if figure is None else f"{figure:.4f}" for figure in figures))
    table.add_row("mean", f"{comparison.candidate_ap:.4f}", f"{comparison.champion_ap:.4f}", "", "")
    console.print(table)
    console.print(
        f"AP differs by {comparison.candidate_ap - comparison.champion_ap:+.4f}, "
        f"95% interval {comparison.ap_gain_low:+.4f} to {comparison.ap_gain_high:+.4f}"
    )
    for fault in comparison.faults or ("nothing speaks against the candidate",):
        console.print(_safe(fault, style="red" if comparison.faults else "green"), soft_wrap=True)


def print_training(summary: "TrainingSummary", console: Console | None = None) -> None:
    """Print what a training reached, where it is, and what to do with it."""
    console = console or _standard_output()
    table = _table("Pixel figures, chance in brackets")
    table.add_column("class")
    for name in ("AP on validation", "AP on test", "AUROC on test", "F1-max on test", "threshold"):
        table.add_column(name, justify="right")
    for name, test in summary.test.items():
        threshold = summary.thresholds.get(name)
        validation = summary.validation[name]
        table.add_row(
            _safe(name),
            *(_with_chance(figures["average_precision"], figures["prevalence"]) for figures in (validation, test)),
            *("-" if (figure := test[key]) is None else f"{figure:.3f}" for key in ("auroc", "f1_max")),
            "-" if threshold is None else f"{threshold:.3f}",
        )
    console.print(table)
    lines = {
        "Run": f"{summary.name}, step {summary.steps} of {summary.num_steps} was best, {summary.seconds:.0f} s",
        "Bundle": summary.bundle_uri,
        "Model": f"{summary.model_uri}, the candidate"
        if summary.model_uri
        else "not registered yet, since the server does not take it now; the next run sends it",
        "Next": "scrapray models compare candidate champion; scrapray models promote candidate",
    }
    _print_lines(lines, console)


def print_reviews(
    figures: "Sequence[Figure]", loads: Sequence[Mapping[str, Any]], console: Console | None = None
) -> None:
    """Print what reviews say of models and reviewers, and the loads whose verdict they change."""
    console = console or _standard_output()
    if not figures and not loads:
        console.print("nothing was reviewed yet; scrapray review export says what is worth a look")
        return
    table = _table("What reviews say, with 95 % intervals")
    for name in ("figure", "of", "class", "counted on"):
        table.add_column(name)
    for name in ("number", "value", "interval"):
        table.add_column(name, justify="right")
    for each in figures:
        value = "-" if each.value is None else f"{each.value:.3f}"
        interval = "-" if each.interval is None else f"{each.interval[0]:.3f} to {each.interval[1]:.3f}"
        subject = each.subject if each.name == "kappa" else each.subject[:12]
        table.add_row(each.name, _safe(subject), _safe(each.class_name), each.basis, str(each.num), value, interval)
    console.print(table)
    changed = [load for load in loads if load["reviewed_verdict"] != load["verdict"]]
    console.print(f"{len(loads)} loads reviewed; the verdict of {len(changed)} changes")
    for load in changed:
        words = f"{load['date']} {load['site']} truck {load['truck_id'] or 'unknown'} load {load['load_id']}: "
        words += f"{load['verdict']} -> {load['reviewed_verdict']} ({load['reviewed_reason']})"
        console.print(_safe(words), soft_wrap=True)


def print_answer(answer: "pa.Table", console: Console | None = None) -> None:
    """Print the answer to a query as a table; where no terminal says how wide it is, each row is one line."""
    from scrapray.report.answers import rows_of

    console = console or _standard_output()
    table = _table()
    for field in answer.schema:
        is_number = str(field.type).startswith(("int", "uint", "float", "double", "decimal"))
        table.add_column(_safe(field.name), justify="right" if is_number else "left", overflow="fold")
    for row in rows_of(answer.slice(0, MAX_ROWS_SHOWN)):
        table.add_row(*map(_safe, row.values()))
    if not console.is_terminal:
        unlimited = console.options.update(max_width=sys.maxsize)
        console.width = max(console.width, console.measure(table, options=unlimited).maximum)
    console.print(table)
    if answer.num_rows > MAX_ROWS_SHOWN:
        console.print(f"and {answer.num_rows - MAX_ROWS_SHOWN} more rows: give --format csv or json for all of them")


def print_verified(verified: "Verified", console: Console | None = None) -> None:
    """Print what is wrong in a lake and what to do about it, and how much was looked at."""
    console = console or _standard_output()
    print_faults(verified.faults, console)
    counted = f"{verified.num_rows} rows of {_counted(verified.num_nights, 'night and site', 'nights and sites')}"
    num_faults = _counted(len(verified.faults), "fault", "faults")
    console.print(f"{counted}: {num_faults if verified.faults else 'all whole and traceable'}")


def print_faults(faults: "Sequence[Fault]", console: Console | None = None) -> None:
    """Print what is wrong in a lake and what to do about it; nothing where nothing is."""
    if not faults:
        return
    table = _table()
    table.add_column("where", overflow="fold")
    table.add_column("what", overflow="fold")
    table.add_column("what to do")
    for fault in faults:
        table.add_row(_safe(fault.place), _safe(fault.what, style="bold red"), _safe(fault.mend))
    (console or _standard_output()).print(table)


def _safe(value: Any, style: str = "") -> Text:
    """A value that others have named, such as a truck: neither markup nor anything that a terminal would obey."""
    from scrapray.report.answers import for_people

    return Text(for_people(value), style=style)


def _counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def _standard_output() -> Console:
    """Wide enough for every column where no terminal says how wide it is; rich would take 80 and leave columns out."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_IN_A_LOG)


def _print_lines(lines: Mapping[str, str], console: Console, width: int = 7) -> None:
    """Print words with their names before them."""
    for name, words in lines.items():
        console.print(_safe(f"{name:{width}}", style="bold") + _safe(words), soft_wrap=True)


def _with_chance(figure: float | None, chance: float | None) -> str:
    return "-" if figure is None else f"{figure:.4f} ({chance:.4f})"


def query_line(loads_uri: str, config: Path | None = None) -> str:
    """A line for the shell that asks DuckDB, with the interpreter that runs us.

    S3 keys come from its environment, and the endpoint from a file of settings, so that the line shows neither. It
    reads nights, not months that were put together: these may hold what a night was before it was audited again.
    """
    python = os.path.relpath(sys.executable)
    python = sys.executable if python.startswith(os.pardir) else python
    columns = "truck_id, load_id, verdict, verdict_reason, contamination_frac"
    files = f"{glob.escape(loads_uri)}/date=*-*-*/*/*.parquet".replace("'", "''")
    ask = f"print(duckdb.sql('''SELECT {columns} FROM '{files}' ORDER BY contamination_frac DESC'''))"
    code = f"import duckdb; {ask}"
    if loads_uri.startswith("s3://"):
        endpoint = f"tomllib.load(open({str(config)!r}, 'rb'))['storage']['endpoint_url']" if config else None
        store = f"s3fs.S3FileSystem(endpoint_url={endpoint})"
        code = f"import duckdb, s3fs, tomllib; duckdb.register_filesystem({store}); {ask}"
    is_plain = not set(code) & set('"$`\\!')
    return f'{python} -c "{code}"' if is_plain else f"{python} -c {shlex.quote(code)}"


def _loads_table(loads: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Loads, worst first")
    for name in ("verdict", "truck", "load", "frames", "contamination"):
        table.add_column(name, no_wrap=True)
    table.add_column("found")
    table.add_column("rule", overflow="fold")
    for load in loads:
        table.add_row(
            Text(load["verdict"], style=VERDICT_STYLES[load["verdict"]]),
            _safe(load["truck_id"] or "unknown"),
            _safe(load["load_id"]),
            f"{load['num_used']} of {load['num_frames']}",
            _contamination(load),
            _safe(found_in_words(load["classes"])),
            _safe(load["verdict_rule"].replace("_", " ")),
        )
    return table


def _table(title: str | None = None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )


def _contamination(load: Mapping[str, Any]) -> str:
    """Share of the seen bed in percent, on a second line its 95 % interval."""
    if load["contamination_frac"] is None:
        return "nothing seen"
    share = f"{load['contamination_frac']:.3%}"
    if load["contamination_low"] is None or load["contamination_high"] is None:
        return share
    return f"{share}\n{load['contamination_low']:.3%} - {load['contamination_high']:.3%}"


def _reasons(summary: "AuditSummary") -> str:
    reasons = [f"{stage} {reason} {count}" for (stage, reason), count in summary.rejected.most_common()]
    return f" ({', '.join(reasons)})" if reasons else ""


def _speed(summary: "AuditSummary") -> str:
    if not summary.num_frames:
        return "nothing to segment, the manifest has no frames"
    if not summary.frames_per_s:
        return "nothing to segment: what can be read was done by an earlier run"
    return (
        f"{summary.num_computed} frames segmented in {summary.segment_s:.0f} s, {summary.frames_per_s:.2f} frames/s "
        "with start-up"
    )
