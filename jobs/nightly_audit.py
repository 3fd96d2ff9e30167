r"""The night in one job: index yesterday's frames, audit them, publish, and tell who must know.

    ray job submit --working-dir settings/ -- \
      python /opt/scrapray/jobs/nightly_audit.py s3://yard-archive/ s3://yard-lake/ s3://models/scrap-3/ audit.toml

A fifth argument names another date than yesterday. A date beside it that is published otherwise than archive and gate
log say by now is done again too: late frames come in, and a gate log is corrected in the morning. Ends with the exit
codes of ``scrapray audit``.
"""

import datetime as dt
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from scrapray.alerts.send import send_alerts
from scrapray.audit.manifest import days_beside, index_archive
from scrapray.audit.nightly import run_audit
from scrapray.audit.outdated import is_outdated
from scrapray.config import read_config
from scrapray.errors import in_one_line
from scrapray.report.answers import for_people
from scrapray.storage import Storage, join


def main(archive: str, lake: str, model: str, config: Path, date: dt.date | None = None) -> int:
    """Audit one night and print its verdicts; returns the exit code."""
    settings = read_config(config)
    yesterday = dt.datetime.now(ZoneInfo(settings.archive.time_zone)).date() - dt.timedelta(days=1)
    night, manifest, storage = date or yesterday, join(lake, "_manifest"), Storage(settings.storage)
    index = partial(
        index_archive, archive, manifest, storage=storage, archive=settings.archive, gate_log=settings.gate_log
    )
    indexed = index(date=night)
    print(indexed, *(index(date=day) for day in indexed.outdated), sep="\n")
    exit_codes = []
    # By what is published and not by what was indexed just now: this job may have been killed between the two.
    for day in (night, *(beside for beside in days_beside(night) if is_outdated(lake, manifest, beside, storage))):
        summary = run_audit(manifest, lake, model, config=settings, date=day)
        for load in summary.loads:
            print(*(for_people(load[name]) for name in ("verdict", "truck_id", "load_id", "verdict_reason")), sep="\t")
        print(f"{day}: {summary.num_used} of {summary.num_frames} frames used, run {summary.run_id} in {lake}")
        print("alerts:", send_alerts(lake, summary.nights, config=settings.alerts, storage=storage) or "off")
        exit_codes.append(summary.exit_code)
    return max(exit_codes)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    for name in ("archive", "lake", "model"):
        parser.add_argument(name)
    parser.add_argument("config", type=Path)
    parser.add_argument("date", type=dt.date.fromisoformat, nargs="?")
    with in_one_line(f"python {sys.argv[0]}"):
        sys.exit(main(**vars(parser.parse_args())))
