"""What a lake holds for reviewers: the tables of a night's run, the run before, queues, and reviews.

<lake>/_review_queues/<queue id>.parquet   what people were asked, one file per export
<lake>/reviews/<import id>.parquet         what they said, one file per import; never changed
"""

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from scrapray import schema
from scrapray.config import ArchiveConfig, VerdictConfig, settings_of
from scrapray.errors import ConfigurationError, SchemaError, StorageError
from scrapray.lake import name_of, partition_uri, published_run, read_partition, read_table, run_of, runs_named
from scrapray.storage import Storage, join

_TABLES = ("frames", "detections", "loads", "runs")
_Section = TypeVar("_Section")


@dataclass(frozen=True)
class Night:
    """The tables of one run for one date and site."""

    frames: pa.Table
    detections: pa.Table
    loads: pa.Table
    runs: pa.Table

    @cached_property
    def run(self) -> dict[str, Any]:
        """The row of ``schema.RUNS``."""
        (row,) = self.runs.to_pylist()
        return dict(row)

    @cached_property
    def archive(self) -> ArchiveConfig:
        """How the run read keys."""
        return self._settings("archive", ArchiveConfig)

    @cached_property
    def verdicts(self) -> VerdictConfig:
        """The rules of the run."""
        return self._settings("verdict", VerdictConfig)

    def _settings(self, section: str, kind: type[_Section]) -> _Section:
        """A section as the run had it; one that it did not have yet has its defaults.

        Raises:
            SchemaError: Another version of scrapray has written it.
        """
        values = json.loads(self.run["config_json"]).get(section, {})
        try:
            return settings_of(values, kind, source=f"[{section}] of run {self.run['run_id']}")
        except ConfigurationError as error:
            raise SchemaError(
                f"{error}; another version of scrapray has published it: audit that night again"
            ) from error


def read_night(lake_uri: str, date: dt.date, site: str, storage: Storage, run_id: str | None = None) -> Night:
    """The published tables of a night, or those that one run has made.

    Raises:
        SchemaError: Another version of scrapray has written them, or they are of several runs.
        StorageError: They cannot be read.
    """
    tables: dict[str, pa.Table] = {}
    missing: dict[str, StorageError] = {}
    for name in _TABLES:
        try:
            tables[name] = read_partition(lake_uri, name, date, site, storage, run_id)
        except StorageError as error:
            if error.reason != "missing":
                raise
            missing[name] = error
    if missing and (run_id or not tables):
        raise next(iter(missing.values()))
    if missing or run_of(tables) is None:
        run_ids = sorted({run_id for named in runs_named(tables).values() for run_id in named})
        said = f"tables of runs {', '.join(run_ids) or 'none'}" + "".join(f", no table {name}" for name in missing)
        raise SchemaError(
            f"{lake_uri}: {date} {site} is half-published ({said}); an audit is replacing it just now or has stopped "
            "half-way: audit that night again"
        )
    return Night(**tables)


def read_run(lake_uri: str, date: dt.date, site: str, run_id: str, storage: Storage) -> Night | None:
    """The tables of a run, published or replaced since; None where they are gone.

    Raises:
        SchemaError: See ``read_night``.
        StorageError: Likewise, but for tables that are not there.
    """
    try:
        is_published = published_run(lake_uri, date, site, storage) == run_id
        return read_night(lake_uri, date, site, storage, None if is_published else run_id)
    except StorageError as error:
        if error.reason == "missing":
            return None
        raise


def frames_of_other_model(
    lake_uri: str, date: dt.date, site: str, run: dict[str, Any], storage: Storage
) -> pa.Table | None:
    """Frames of the latest other run of a night that had other weights; None where there is none.

    A run that another version of scrapray has written is passed over.
    """
    place = partition_uri("", "runs", date, site)
    others = []
    for uri in storage.list_names(join(lake_uri, "_runs")):
        if uri.endswith(place):
            with suppress(SchemaError):
                others += read_table(uri, schema.RUNS, storage).to_pylist()
    others = [row for row in others if row["weights_sha256"] != run["weights_sha256"]]
    for row in sorted(others, key=lambda row: row["finished_utc"], reverse=True):
        with suppress(SchemaError):
            if night := read_run(lake_uri, date, site, row["run_id"], storage):
                return night.frames
    return None


def queue_uri(lake_uri: str, queue_id: str) -> str:
    """Where the frames of an export stand."""
    return join(lake_uri, "_review_queues", f"{queue_id}.parquet")


def reviews_uri(lake_uri: str, import_id: str) -> str:
    """Where an import stands."""
    return join(lake_uri, "reviews", f"{import_id}.parquet")


def imports_of(lake_uri: str, file_id: str, storage: Storage) -> list[str]:
    """Ids of the imports of one file of one reviewer, the first one first."""
    names = map(name_of, storage.list_names(join(lake_uri, "reviews"), (".parquet",)))
    return [name for name in names if name.startswith(f"{file_id}-")]


def read_queues(lake_uri: str, storage: Storage) -> pa.Table:
    """All that people were ever asked, ``schema.REVIEW_QUEUE``."""
    return _read_all(join(lake_uri, "_review_queues"), schema.REVIEW_QUEUE, "queue_id", storage)


def read_reviews(lake_uri: str, storage: Storage) -> pa.Table:
    """All that reviewers ever said, ``schema.REVIEWS``, in the order of time.

    Where the same file of the same reviewer came again, with a wrong option mended, its last import counts.

    Raises:
        SchemaError: A file is damaged, or another version of scrapray has written it.
        StorageError: The lake cannot be read.
    """
    reviews = _read_all(join(lake_uri, "reviews"), schema.REVIEWS, "import_id", storage)
    reviews = reviews.sort_by([("reviewed_utc", "ascending"), ("import_id", "ascending")])
    import_ids = reviews["import_id"].to_pylist()
    looks = [(name.partition("-")[0], uri) for name, uri in zip(import_ids, reviews["uri"].to_pylist(), strict=True)]
    last = dict(zip(looks, import_ids, strict=True))
    counts = [last[look] == name for look, name in zip(looks, import_ids, strict=True)]
    return reviews.filter(pa.array(counts, pa.bool_()))


def _read_all(folder_uri: str, columns: pa.Schema, named_by: str, storage: Storage) -> pa.Table:
    """All files of a folder; rows of a copy under another name than that of its import or queue do not count again."""
    tables = [columns.empty_table()]
    for uri in storage.list_names(folder_uri, (".parquet",)):
        rows = read_table(uri, columns, storage)
        tables.append(rows.filter(pc.field(named_by) == name_of(uri)))
    return pa.concat_tables(tables)


def latest(reviews: pa.Table, by: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the last import that speaks of each frame; ``by`` names what else it is the last of, if anything."""
    key = ["frame_id", *by]
    order: dict[tuple[Any, ...], str] = {}
    rows = reviews.to_pylist()
    for row in rows:  # in the order of time
        order[tuple(row[name] for name in key)] = row["import_id"]
    return [row for row in rows if order[tuple(row[name] for name in key)] == row["import_id"]]


def fullest(reviews: pa.Table) -> list[dict[str, Any]]:
    """Rows of one review of each frame: of the last ones of all its reviewers, that with most objects, and the later.

    Who saw nothing has more often missed a thing than who saw it has made it up; a blind review finds less anyway.
    """
    of_frame: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in latest(reviews, by=("reviewer",)):
        of_frame[row["frame_id"]][row["import_id"]].append(row)
    return [row for by_import in of_frame.values() for row in max(reversed(by_import.values()), key=_num_objects)]


def _num_objects(rows: Sequence[dict[str, Any]]) -> int:
    return sum(row["class_name"] is not None for row in rows)


def of_night(table: pa.Table, date: dt.date, site: str) -> pa.Table:
    """The rows of one date and site."""
    return table.filter((pc.field("date") == date) & (pc.field("site") == site))
