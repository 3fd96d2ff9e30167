"""Which export a labelled file belongs to: it says of which run, and for which reasons, each frame was looked at.

One export for the whole file. Frame by frame the latest one would seem to do, but then a review of one model's
pre-labels could be charged to another model, and a frame drawn by lot could lose its part in the sample.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scrapray.datasets.annotations import PictureNames
from scrapray.errors import ConfigurationError
from scrapray.review.nights import read_queues
from scrapray.storage import Storage, StoredObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What one export asked: rows of ``schema.REVIEW_QUEUE`` by the URI of their frame."""

    queue_id: str
    rows: Mapping[str, dict[str, Any]]

    def pictures(self) -> list[StoredObject]:
        """Its frames, as a reader of annotations wants them."""
        return [
            StoredObject(uri=uri, key=row["key"], etag="", size_bytes=0, modified_utc=row["exported_utc"])
            for uri, row in self.rows.items()
        ]

    def find(self, names: Iterable[str]) -> dict[str, frozenset[str]]:
        """URIs of the frames that each name may mean; names of no frame are left out."""
        pictures = PictureNames(self.pictures())
        found = ((name, pictures.find(name)[1]) for name in names)
        return {name: frozenset(picture.uri for picture in fitting) for name, fitting in found if fitting}

    def __str__(self) -> str:
        nights = sorted({f"{row['date']} {row['site']} run {row['run_id']}" for row in self.rows.values()})
        return f"{self.queue_id} of {' and '.join(nights)}"


def asked_queues(lake_uri: str, storage: Storage) -> dict[str, Queue]:
    """All that people were ever asked, by id, in the order of time.

    Raises:
        ConfigurationError: Nothing was exported yet.
        SchemaError: Another version of scrapray has written an export.
        StorageError: The lake cannot be read.
    """
    rows: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in read_queues(lake_uri, storage).sort_by("exported_utc").to_pylist():
        rows[row["queue_id"]][row["uri"]] = row
    if not rows:
        raise ConfigurationError(f"{lake_uri}: nothing was exported for review yet; run scrapray review export first")
    return {queue_id: Queue(queue_id=queue_id, rows=of) for queue_id, of in rows.items()}


def choose_queue(queues: Mapping[str, Queue], names: Collection[str], queue_ids: Collection[str], source: str) -> Queue:
    """The export that a file belongs to.

    Args:
        queues: All there are.
        names: Of the pictures of the file.
        queue_ids: What the file, or who imports it, says; none where nobody does. Then it is the one export that holds
            all frames of the file and no other; or, of a part of the work, the one export that holds them all.
        source: Name of the file, for messages.

    Raises:
        ConfigurationError: The file speaks of several exports or of one that the lake lacks, or none or several fit.
    """
    if len(queue_ids) > 1:
        raise ConfigurationError(
            f"{source} holds the work of several exports ({', '.join(sorted(queue_ids))}); import it once for each, "
            "with --queue ID"
        )
    for queue_id in queue_ids:
        if queue_id not in queues:
            raise ConfigurationError(
                f"{source}: export {queue_id} is not in this lake; give the lake that it was exported from, or say "
                "with --queue ID which export it is"
            )
        return queues[queue_id]
    return _fitting_queue(queues, names, source)


def _fitting_queue(queues: Mapping[str, Queue], names: Collection[str], source: str) -> Queue:
    found = {queue_id: queue.find(names) for queue_id, queue in queues.items()}
    known = {name for of in found.values() for name in of}
    if not known:
        raise no_frame(source, ["picture_not_found"])
    holding = [queue for queue_id, queue in queues.items() if found[queue_id].keys() == known]
    exact = [queue for queue in holding if frozenset().union(*found[queue.queue_id].values()) == queue.rows.keys()]
    fitting = exact or holding
    if len(fitting) == 1:
        return fitting[0]
    which = "; ".join(map(str, fitting)) or "no export holds all its frames"
    raise ConfigurationError(
        f"{source} does not say which export it belongs to ({which}); say it with --queue ID, the id that scrapray "
        "review export printed"
    )


def no_frame(source: str, reasons: Iterable[str]) -> ConfigurationError:
    """What is said of a file of which nothing can be used."""
    return ConfigurationError(
        f"{source}: no frame of it can be used ({', '.join(reasons) or 'it names none'}); give a file of frames that "
        "scrapray review export wrote for this lake"
    )
