"""Which old runs can go.

What is deleted lies in the folders of runs, never among published files; where it was killed, the next call goes on.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from scrapray import schema
from scrapray.errors import SchemaError, StorageError
from scrapray.lake import partition_uri, read_as_written, read_published
from scrapray.lake_care.faults import AUDIT_AGAIN, Fault, nothing_published
from scrapray.lake_care.places import Night, run_folders
from scrapray.lake_care.rows import rows_of
from scrapray.storage import Storage, join

_PARQUET = (".parquet",)
_ASKED = ["queue_id", "run_id", "date", "site"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """What became of old runs, each date and site counted.

    Attributes:
        num_deleted: Runs that were deleted.
        num_in_review: Old runs that stay because people are asked about them and no answer was imported.
        faults: What cannot be read, so that runs stay.
    """

    num_deleted: int
    num_in_review: int
    faults: tuple[Fault, ...]


def retire(lake_uri: str, keep: int, storage: Storage) -> Retired:
    """Delete what old runs have made, but for the newest of each date and site, what is published and what is asked.

    The table ``runs`` of a run goes last: as long as it is there, the next call finds what is left.

    Args:
        lake_uri: The lake.
        keep: Newest runs to keep for each date and site, 1 or more.
        storage: The door to it.

    Raises:
        SchemaError: What people are asked cannot be read, so that nobody knows of which runs.
        StorageError: The lake cannot be read or written, or there is none.
    """
    assert keep >= 1, "the newest run may be one that is being written"
    folders, _ = run_folders(lake_uri, storage)
    if not folders and not storage.list_names(join(lake_uri, "loads")):
        raise nothing_published(lake_uri)
    asked = _runs_in_review(lake_uri, storage)
    runs: dict[Night, list[str]] = defaultdict(list)
    for (run_id, night), tables in folders.items():
        if "runs" in tables:
            runs[night].append(run_id)
    old, faults = [], []
    for night, run_ids in runs.items():
        of_night, found = _old_runs(lake_uri, night, run_ids, keep, storage)
        old += [(run_id, night) for run_id in of_night]
        faults += found
    deleted = [run for run in old if run not in asked]
    _delete_runs(lake_uri, deleted, storage)
    return Retired(num_deleted=len(deleted), num_in_review=len(old) - len(deleted), faults=tuple(faults))


def _old_runs(
    lake_uri: str, night: Night, run_ids: Sequence[str], keep: int, storage: Storage
) -> tuple[list[str], list[Fault]]:
    """Runs of a night that are neither published nor among the newest, and what cannot be read of the others."""
    try:
        published = _published_runs(lake_uri, night, storage)
    except SchemaError as error:
        what = f"nobody knows which run is published, so all stay: {error}"
        return [], [Fault(place=f"{night[0]} {night[1]}", what=what, mend=AUDIT_AGAIN)]
    finished, faults = [], []
    for run_id in run_ids:
        uri = partition_uri(lake_uri, "runs", *night, run_id)
        try:
            (moment,) = read_as_written(uri, storage, ["finished_utc"])["finished_utc"].drop_null().to_pylist()
            finished.append((moment, run_id))
        except (SchemaError, ValueError):
            mend = f"delete what {run_id} has of {night[0]} {night[1]} if nobody needs it"
            mend = f"{AUDIT_AGAIN}: it is published" if run_id in published else mend
            faults.append(Fault(place=uri, what="does not tell how old its run is, so that it stays", mend=mend))
    by_age = [run_id for _, run_id in sorted(finished, reverse=True)]
    return [run_id for run_id in by_age[keep:] if run_id not in published], faults


def _runs_in_review(lake_uri: str, storage: Storage) -> set[tuple[str, Night]]:
    """Runs that people are asked about and have not answered: an import finds what it speaks of in their folders."""
    asked = {
        row
        for uri in storage.list_names(join(lake_uri, "_review_queues"), _PARQUET)
        for row in rows_of(read_as_written(uri, storage, _ASKED), *_ASKED)
    }
    answered = set()
    for uri in storage.list_names(join(lake_uri, "reviews"), _PARQUET):
        with suppress(SchemaError):  # what it answers is unknown, so that it stays
            answered.update(read_as_written(uri, storage, ["queue_id"])["queue_id"].to_pylist())
    return {(run_id, (date, site)) for queue_id, run_id, date, site in asked if queue_id not in answered}


def _published_runs(lake_uri: str, night: Night, storage: Storage) -> set[str]:
    """All runs that published rows of a night name: two of them when it is half published."""
    runs: set[str] = set()
    for table in schema.PUBLISHED:
        try:
            _, rows = read_published(lake_uri, table, *night, storage, ["run_id"])
        except StorageError as error:
            if error.reason != "missing":
                raise
        else:
            runs.update(rows["run_id"].unique().to_pylist())
    return runs


def _delete_runs(lake_uri: str, runs: Sequence[tuple[str, Night]], storage: Storage) -> None:
    for run_id, night in runs:
        for table in sorted(schema.PUBLISHED, key="runs".__eq__):
            storage.delete_folder(partition_uri(lake_uri, table, *night, run_id).rpartition("/")[0])
    for run_id in {run_id for run_id, _ in runs}:
        folder = join(lake_uri, "_runs", run_id)
        if not storage.list_names(folder):
            storage.delete_folder(folder)
