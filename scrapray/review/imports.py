"""A labelled COCO file -> rows of the reviews table."""

import datetime as dt
import hashlib
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scrapray import schema
from scrapray.config import sha256_of
from scrapray.datasets.annotations import AnnotatedFrame, Annotations, Region, Skipped
from scrapray.datasets.classes import ClassNames
from scrapray.datasets.coco import parse_coco, read_coco
from scrapray.errors import ConfigurationError
from scrapray.imagery.masks import mask_area, outline_mask
from scrapray.lake import published_run, write_table
from scrapray.review.asked import Queue, asked_queues, choose_queue, no_frame
from scrapray.review.matching import CLEAN, Object, Outcome, compare
from scrapray.review.nights import Night, imports_of, read_run, reviews_uri
from scrapray.storage import Storage

_ID_CHARACTERS = 16
_OPTIONS_CHARACTERS = 4
_SKIPPED_SHOWN = 10
_ASKED = [name for name in schema.REVIEWS.names if name in schema.REVIEW_QUEUE.names]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSummary:
    """What an import brought.

    Attributes:
        import_id: Of the file and its reviewer, which import of both it is, and the options; see ``_name``.
        queue_id: The export that the file belongs to; empty where nothing was written.
        is_new: False where the same file of the same reviewer is in the lake already, and nothing was written.
        outcomes: Number of rows for each outcome.
        num_replaced: Frames that were labelled for a run that is not the published one any more.
        skipped: What of the file could not be used, and why.
    """

    import_id: str
    is_new: bool
    queue_id: str = ""
    num_frames: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    num_replaced: int = 0
    skipped: tuple[Skipped, ...] = ()

    def __str__(self) -> str:
        if not self.is_new:
            return f"this file of this reviewer was imported before ({self.import_id}); nothing has changed"
        said = ", ".join(f"{outcome} {count}" for outcome, count in sorted(self.outcomes.items()))
        lines = [f"{self.num_frames} frames of export {self.queue_id} reviewed, import {self.import_id}: {said}"]
        if self.num_replaced:
            lines.append(
                f"{self.num_replaced} of them speak of a run that was replaced since; the reviews name their own run"
            )
        for (reason, stage), count in Counter((each.reason, each.stage) for each in self.skipped).most_common():
            lines.append(f"left out: {stage} {reason} {count}")
        for each in self.skipped[:_SKIPPED_SHOWN]:
            lines.append(f"  {each.picture} {each.annotation_id or ''}: {each.reason} {each.detail}".rstrip())
        return "\n".join(lines)


def import_reviews(
    lake_uri: str,
    data: bytes,
    reviewer: str,
    *,
    source: str,
    is_blind: bool = False,
    queue_id: str | None = None,
    storage: Storage,
    now_utc: dt.datetime,
) -> ImportSummary:
    """Bring what a reviewer has labelled into the lake, all of a file or nothing.

    Args:
        lake_uri: The lake that the frames were exported from.
        data: The COCO file, as the annotation tool has written it.
        reviewer: A name.
        source: Name of the file, for messages.
        is_blind: The reviewer saw no pre-labels; need not be said where the tool has kept what the export wrote.
        queue_id: The export that the file belongs to; need not be said where the tool has kept what the export wrote,
            or only one export fits.
        storage: The door to the lake.
        now_utc: Time of the import.

    Raises:
        ConfigurationError: No reviewer, nothing exported yet, no frame of the file was exported, nobody can tell by
            which export, or an object has a class that the model lacks.
        SchemaError: The file is not COCO.
        StorageError: The lake cannot be read or written.
    """
    reviewer = unicodedata.normalize("NFC", reviewer.strip())
    if not reviewer or not reviewer.isprintable():
        raise ConfigurationError(
            f"the reviewer has no name that can be printed ({reviewer!r}); give one with --reviewer"
        )
    import_id, is_new = _name(lake_uri, data, reviewer, [is_blind, queue_id], storage)
    if not is_new:
        return ImportSummary(import_id=import_id, is_new=False)
    queues = asked_queues(lake_uri, storage)
    file = parse_coco(data, source)
    extras = _Extras.of(data)
    names = [image.file_name for image in file.images]
    queue = choose_queue(queues, names, {queue_id} if queue_id else extras.queue_ids, source)
    severities = _severities(queues.values())
    labelled = _read(data, queue, list(severities), source)
    blind = frozenset[str]().union(*queue.find(extras.blind).values())
    rows: list[dict[str, Any]] = []
    for frames in _by_run(labelled, queue).values():
        rows += _review_run(lake_uri, frames, extras, labelled.skipped, storage)
    if not rows:
        raise no_frame(source, sorted({each.reason for each in labelled.skipped}))
    for row in rows:
        row |= {"import_id": import_id, "reviewer": reviewer, "reviewed_utc": now_utc}
        row |= {"is_blind": is_blind or row["uri"] in blind, "severity": severities.get(row.get("class_name", ""))}
    write_table(pa.Table.from_pylist(rows, schema.REVIEWS), schema.REVIEWS, reviews_uri(lake_uri, import_id), storage)
    return ImportSummary(
        import_id=import_id,
        is_new=True,
        queue_id=queue.queue_id,
        num_frames=len({row["frame_id"] for row in rows}),
        outcomes=Counter(row["outcome"] for row in rows),
        num_replaced=_num_replaced(lake_uri, rows, storage),
        skipped=tuple(labelled.skipped),
    )


def _name(lake_uri: str, data: bytes, reviewer: str, options: Sequence[Any], storage: Storage) -> tuple[str, bool]:
    """Id of an import, and whether it is new: the file and its reviewer, which import of it this is, the options.

    With other options than the last time the same file comes again, so that a wrong one can be mended, back and forth.
    """
    file_id = sha256_of([hashlib.sha256(data).hexdigest(), reviewer])[:_ID_CHARACTERS]
    said = sha256_of(options)[:_OPTIONS_CHARACTERS]
    before = imports_of(lake_uri, file_id, storage)
    if before and before[-1].endswith(said):
        return before[-1], False
    return f"{file_id}-{len(before) + 1:04d}-{said}", True


def _num_replaced(lake_uri: str, rows: Sequence[Mapping[str, Any]], storage: Storage) -> int:
    """Frames whose night has another run published than the one that they were labelled for."""
    runs = {(row["date"], row["site"], row["run_id"]) for row in rows}
    replaced = {run for run in runs if published_run(lake_uri, *run[:2], storage) != run[2]}
    return len({row["frame_id"] for row in rows if (row["date"], row["site"], row["run_id"]) in replaced})


@dataclass(frozen=True, slots=True)
class _Extras:
    """What scrapray wrote beside COCO's own fields, as far as the tool has kept it.

    Attributes:
        queue_ids: The exports that it names.
        blind: Names of pictures that were shown without pre-labels.
        detection_of: Id of the detection that an annotation was made of, by the annotation's id.
    """

    queue_ids: frozenset[str]
    blind: frozenset[str]
    detection_of: Mapping[str, str]

    @classmethod
    def of(cls, data: bytes) -> "_Extras":
        """Of a file that was found to be COCO."""
        file = json.loads(data)
        info = file.get("info")
        of_images = _texts(file["images"], "queue_id")
        known = {}
        for annotation in file["annotations"]:
            attributes = annotation.get("attributes")
            fields = (attributes if isinstance(attributes, dict) else {}) | annotation
            if isinstance(fields.get("detection_id"), str):
                known[str(annotation.get("id", ""))] = fields["detection_id"]
        return cls(
            queue_ids=of_images or _texts([info] if isinstance(info, dict) else [], "queue_id"),
            blind=frozenset(image["file_name"] for image in file["images"] if image.get("is_blind") is True),
            detection_of=known,
        )


def _texts(entries: Sequence[Mapping[str, Any]], name: str) -> frozenset[str]:
    """All texts that stand under a name."""
    return frozenset(entry[name] for entry in entries if isinstance(entry.get(name), str))


def _severities(queues: Iterable[Queue]) -> dict[str, int]:
    """What each class weighs that a model knew which people were asked about; the latest export has the last word."""
    rows = (row for queue in queues for row in queue.rows.values())
    return {each["class_name"]: each["severity"] for row in rows for each in row["classes"]}


def _read(data: bytes, queue: Queue, class_names: Sequence[str], source: str) -> Annotations:
    """The frames of a file that were exported, and what of it cannot be used."""
    try:
        return read_coco(data, queue.pictures(), source=source, classes=ClassNames(class_names), grammar=None)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{source}: an object has a class that the model does not know; rename it to one of "
            f"{', '.join(class_names)} ({error})"
        ) from error


Labelled = tuple[AnnotatedFrame, dict[str, Any]]
"""A frame of the file and its row of the queue."""


def _by_run(labelled: Annotations, queue: Queue) -> dict[tuple[Any, ...], list[Labelled]]:
    """Frames with what was asked of them, by run, date and site."""
    runs: dict[tuple[Any, ...], list[Labelled]] = defaultdict(list)
    for frame in labelled.frames:
        row = queue.rows[frame.uri]
        runs[row["run_id"], row["date"], row["site"]].append((frame, row))
    return runs


def _review_run(
    lake_uri: str, frames: Sequence[Labelled], extras: _Extras, skipped: list[Skipped], storage: Storage
) -> list[dict[str, Any]]:
    """Rows of the frames of one run of a night."""
    first = frames[0][1]
    night = read_run(lake_uri, first["date"], first["site"], first["run_id"], storage)
    if night is None:
        detail = f"run {first['run_id']} is not in the lake any more; export the night again"
        skipped += [_left_out(row, "run_removed", detail) for _, row in frames]
        return []
    detections = _detections(night, [row["frame_id"] for _, row in frames])
    rows: list[dict[str, Any]] = []
    for frame, row in frames:
        if (frame.height_px or row["height_px"], frame.width_px or row["width_px"]) != _hw(row):
            detail = f"{frame.width_px}x{frame.height_px}, archived as {row['width_px']}x{row['height_px']}"
            skipped.append(_left_out(row, "other_size", detail))
            continue
        marks = list(_marks(frame.regions, row, extras, skipped))
        # A pre-label with a broken outline was not taken away: nobody knows what became of it.
        broken = {extras.detection_of.get(each.annotation_id or "") for each in skipped}
        kept = {mark.detection_id for mark in marks}
        if any(each.detection_id in broken - kept for each in detections[row["frame_id"]]):
            skipped.append(_left_out(row, "incomplete", "the outline of a pre-label is broken"))
            continue
        rows += _rows(row, compare(detections[row["frame_id"]], marks))
    return rows


def _detections(night: Night, frame_ids: Sequence[str]) -> Mapping[str, Sequence[Object]]:
    """What the run found on some frames."""
    detections: dict[str, list[Object]] = defaultdict(list)
    names = ("detection_id", "class_name", "score", "mask")
    for found in night.detections.filter(pc.is_in(night.detections["frame_id"], pa.array(frame_ids))).to_pylist():
        detections[found["frame_id"]].append(Object(**{name: found[name] for name in names}))
    return detections


def _marks(
    regions: Sequence[Region], row: Mapping[str, Any], extras: _Extras, skipped: list[Skipped]
) -> Iterator[Object]:
    for region in regions:
        mask = region.mask or outline_mask(region.polygons, _hw(row))
        detection_id = extras.detection_of.get(region.annotation_id)
        if mask_area(mask):
            yield Object(class_name=region.class_name, mask=mask, detection_id=detection_id)
        else:
            skipped.append(replace(_left_out(row, "no_pixel"), stage="annotation", annotation_id=region.annotation_id))


def _left_out(row: Mapping[str, Any], reason: str, detail: str = "") -> Skipped:
    return Skipped(picture=row["uri"], stage="picture", reason=reason, detail=detail)


def _hw(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["height_px"], row["width_px"]


def _rows(row: Mapping[str, Any], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Rows of ``schema.REVIEWS`` of one frame, but for what all of an import share."""
    frame = {name: row[name] for name in _ASKED}
    if not outcomes:
        return [frame | {"outcome": CLEAN}]
    rows = []
    for each in outcomes:
        said: dict[str, Any] = {"outcome": each.outcome, "iou": each.iou}
        if each.detection:
            said |= {"detection_id": each.detection.detection_id, "machine_class": each.detection.class_name}
            said |= {"machine_score": each.detection.score}
        if each.mark:
            mask = dict(each.mark.mask)
            said |= {"class_name": each.mark.class_name, "mask": mask, "area_px": mask_area(mask)}
        rows.append(frame | said)
    return rows
