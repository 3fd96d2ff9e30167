"""A night of a lake -> a COCO file of frames to look at; reviewed frames -> a COCO file to train on."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from scrapray import schema
from scrapray.config import sha256_of
from scrapray.errors import ConfigurationError
from scrapray.lake import published_sites, write_table
from scrapray.review.coco import Mark, MarkedFrame, coco_file, key_of
from scrapray.review.config import QueueConfig
from scrapray.review.nights import (
    Night,
    frames_of_other_model,
    fullest,
    queue_uri,
    read_night,
    read_reviews,
)
from scrapray.review.queue import RANDOM_SAMPLE, REASONS, Chosen, choose_frames, reviewable, severities_of
from scrapray.storage import Storage

_ID_CHARACTERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is to be labelled.

    Attributes:
        data: The COCO file.
        queue_id: Name of what is asked; the same frames of the same runs have the same.
        reasons: Number of frames for each reason.
    """

    data: bytes
    queue_id: str
    num_frames: int
    num_prelabels: int
    reasons: Counter[str]

    def __str__(self) -> str:
        if not self.num_frames:
            return (
                "no frame to look at: no frame of a load was used on that night, or no reason with a quota above 0 in "
                "[queue] takes one"
            )
        why = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in self.reasons.items())
        return f"{self.num_frames} frames with {self.num_prelabels} pre-labels, queue {self.queue_id}; chosen for {why}"


def export_queue(
    lake_uri: str,
    date: dt.date,
    *,
    site: str | None = None,
    quotas: QueueConfig,
    is_blind: bool = False,
    storage: Storage,
    now_utc: dt.datetime,
) -> Export:
    """Choose frames of a night for review, and write down in the lake what is asked.

    The same night, run and quotas give the same frames, so a second export is for a second reviewer.

    Args:
        lake_uri: The lake.
        date: The night.
        site: One site only.
        quotas: See ``choose_frames``.
        is_blind: Leave the pre-labels out.
        storage: The door to it.
        now_utc: Time of the export.

    Raises:
        ConfigurationError: Nothing is published for that night, or sites have pictures of the same name.
        SchemaError: Another version of scrapray has published it.
        StorageError: The lake cannot be read or written.
    """
    sites = [name for name in published_sites(lake_uri, date, storage) if site in (None, name)]
    if not sites:
        where = f"{date}{f' and site {site}' if site else ''}"
        raise ConfigurationError(f"{lake_uri}: nothing is published for {where}; audit that night, or correct the name")
    asked: list[dict[str, Any]] = []
    marks: dict[str, list[Mark]] = defaultdict(list)
    for name in sites:
        night = read_night(lake_uri, date, name, storage)
        before = frames_of_other_model(lake_uri, date, name, night.run, storage)
        asked += _queue_rows(night, choose_frames(night.frames, night.detections, night.loads, before, quotas))
        for row in [] if is_blind else night.detections.to_pylist():
            marks[row["frame_id"]].append(_prelabel(row))
    if twice := [name for name, count in Counter(row["key"] for row in asked).items() if count > 1]:
        raise ConfigurationError(
            f"{len(twice)} pictures of several sites have one name, such as {twice[0]}; export each site alone, with "
            "--site"
        )
    rows, queue_id = _write_queue(lake_uri, asked, storage, now_utc)
    frames = [_to_label(row, marks[row["frame_id"]], is_blind) for row in rows]
    return Export(
        data=coco_file(
            frames,
            _class_names(rows),
            {"description": f"scrapray review queue {queue_id}", "queue_id": queue_id},
        ),
        queue_id=queue_id,
        num_frames=len(frames),
        num_prelabels=sum(len(frame.marks) for frame in frames),
        reasons=Counter(sorted((reason for row in rows for reason in row["reasons"]), key=REASONS.index)),
    )


def _write_queue(
    lake_uri: str, asked: Sequence[Mapping[str, Any]], storage: Storage, now_utc: dt.datetime
) -> tuple[list[dict[str, Any]], str]:
    """Write down what is asked, once; gives the rows and the queue's id."""
    queue_id = sha256_of([[row[name] for name in ("run_id", "frame_id", "reasons")] for row in asked])[:_ID_CHARACTERS]
    rows = [{**row, "queue_id": queue_id, "exported_utc": now_utc} for row in asked]
    uri = queue_uri(lake_uri, queue_id)
    if rows and not storage.exists(uri):
        write_table(pa.Table.from_pylist(rows, schema.REVIEW_QUEUE), schema.REVIEW_QUEUE, uri, storage)
    return rows, queue_id


def _queue_rows(night: Night, chosen: Sequence[Chosen]) -> list[dict[str, Any]]:
    """Rows of ``schema.REVIEW_QUEUE``, but for what all frames of an export share."""
    classes = [{"class_name": name, "severity": weight} for name, weight in severities_of(night.loads).items()]
    names = ("run_id", "site", "date", "truck_id", "load_id", "frame_id", "uri", "height_px", "width_px")
    frames = {row["frame_id"]: row for row in night.frames.select(names).to_pylist()}
    num_drawn_from = reviewable(night.frames).num_rows
    return [
        {
            **frames[each.frame_id],
            "weights_sha256": night.run["weights_sha256"],
            "key": key_of(frames[each.frame_id]["uri"], night.archive),
            "reasons": list(each.reasons),
            "is_random_sample": RANDOM_SAMPLE in each.reasons,
            "num_drawn_from": num_drawn_from,
            "classes": classes,
        }
        for each in chosen
    ]


def _prelabel(row: Mapping[str, Any]) -> Mark:
    more = {"detection_id": row["detection_id"], "score": round(row["score"], 4)}
    return Mark(class_name=row["class_name"], mask=row["mask"], more=more)


def _to_label(row: Mapping[str, Any], marks: Sequence[Mark], is_blind: bool) -> MarkedFrame:
    more = {name: row[name] for name in ("frame_id", "queue_id", "is_random_sample")}
    more |= {"reason": ", ".join(row["reasons"]), "is_blind": is_blind}
    return _marked(row["key"], row, marks, more)


def _marked(name: str, row: Mapping[str, Any], marks: Sequence[Mark], more: Mapping[str, Any]) -> MarkedFrame:
    return MarkedFrame(name=name, height_px=row["height_px"], width_px=row["width_px"], marks=marks, more=more)


def _class_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """All classes of the models that were asked, each once, in their order."""
    return list(dict.fromkeys(each["class_name"] for row in rows for each in row["classes"]))


def reviewed_frames(lake_uri: str, storage: Storage) -> tuple[bytes, int, int]:
    """All frames that were ever reviewed, with what is there by the ``fullest`` review of each, as a COCO file.

    ``scrapray prepare`` takes it as any other. A frame on which nothing was found stands in it without an annotation:
    it teaches what steel looks like.

    Returns:
        The file, its number of frames, and of objects.

    Raises:
        ConfigurationError: Nothing was reviewed yet.
        SchemaError: See ``read_reviews``.
        StorageError: Likewise.
    """
    frames: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in fullest(read_reviews(lake_uri, storage)):
        frames[row["frame_id"]].append(row)
    if not frames:
        raise ConfigurationError(f"{lake_uri}: nothing was reviewed yet; scrapray review import brings reviews in")
    # A picture that was replaced after its review is another frame under the same name; the one reviewed last counts.
    of_name = {rows[0]["uri"]: rows for rows in sorted(frames.values(), key=lambda rows: rows[0]["reviewed_utc"])}
    marked = []
    for uri, rows in sorted(of_name.items()):
        marks = [Mark(class_name=row["class_name"], mask=row["mask"]) for row in rows if row["class_name"]]
        marked.append(_marked(uri, rows[0], marks, {"frame_id": rows[0]["frame_id"]}))
    names = sorted({mark.class_name for frame in marked for mark in frame.marks})
    data = coco_file(marked, names, {"description": "frames reviewed by people, from scrapray"}, exact=True)
    return data, len(marked), sum(len(frame.marks) for frame in marked)
