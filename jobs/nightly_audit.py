"""The night in one job: index yesterday's frames, audit them, publish.

    ray job submit -- python jobs/nightly_audit.py s3://yard-archive/ s3://yard-lake/ s3://models/scrap-3/ audit.toml

A fifth argument names another date than yesterday. Ends with the exit codes of ``scrapray audit``.
"""

import datetime as dt
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

from scrapray.audit.manifest import index_archive
from scrapray.audit.nightly import run_audit
from scrapray.config import read_config
from scrapray.storage import Storage, join


def main(archive_uri: str, lake_uri: str, model_uri: str, config_path: str, date: str | None = None) -> int:
    """Audit one night and print its verdicts; returns the exit code."""
    config = read_config(Path(config_path))
    yesterday = dt.datetime.now(ZoneInfo(config.archive.time_zone)).date() - dt.timedelta(days=1)
    night = dt.date.fromisoformat(date) if date else yesterday
    manifest_uri = join(lake_uri, "_manifest")
    archive, storage = config.archive, Storage(config.storage)
    print(
        index_archive(archive_uri, manifest_uri, storage=storage, archive=archive, gate_log=config.gate_log, date=night)
    )
    summary = run_audit(manifest_uri, lake_uri, model_uri, config=config, date=night)
    for load in summary.loads:
        print(load["verdict"], load["truck_id"], load["load_id"], load["verdict_reason"], sep="\t")
    print(f"{night}: {summary.num_used} of {summary.num_frames} frames used, run {summary.run_id} in {lake_uri}")
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
