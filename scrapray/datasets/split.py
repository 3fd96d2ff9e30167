"""Which frames a segmenter is trained on, which it is tuned on, and which it is judged by.

The split of a frame follows from its own ids: no other frame, no order and no run has a part in it. So it stays when
frames of next week come in, and everything that belongs to one load is on one side.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from scrapray.datasets.annotations import AnnotatedFrame
from scrapray.errors import SchemaError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("test", "validation", "train")
"""In the order in which they take their shares of the hash: what a growing test share takes, it never gives back."""
_LEAKS_SHOWN = 3


def unit_of(frame: AnnotatedFrame) -> tuple[str, ...]:
    """What a frame must not be torn from: its load; without one its truck's day, or its site's day.

    Ids of loads may begin anew every day, so the date is part of it; a load that goes on over midnight is two. Several
    cameras may look at one load, so without load and truck a camera is no unit. A frame whose key tells no date stands
    for itself.
    """
    if frame.date is None:
        return ("key", frame.key)
    day = (frame.site or "", frame.date.isoformat())
    if frame.load_id is not None:
        return ("load", *day, frame.truck_id or "", frame.load_id)
    if frame.truck_id is not None:
        return ("truck", *day, frame.truck_id)
    return ("day", *day)


def split_of(
    frame: AnnotatedFrame,
    *,
    shares: Mapping[Split, float],
    seed: int,
    fixed: Sequence[tuple[Split, dt.date, dt.date]] = (),
) -> Split:
    """The split of a frame.

    Args:
        frame: Its ids count, nothing else.
        shares: Of each split; they add up to 1. Over few loads the real shares differ much from these.
        seed: Another seed, another split.
        fixed: Splits of whole ranges of dates, both ends included; the first that fits counts, before any share.
    """
    for split, first, last in fixed:
        if frame.date is not None and first <= frame.date <= last:
            return split
    place = place_of(json.dumps([seed, *unit_of(frame)]))
    for split in SPLITS[:-1]:
        place -= shares[split]
        if place < 0:
            return split
    return SPLITS[-1]


def place_of(name: str) -> float:
    """A number from 0 to 1 that is the name's own, whatever else there is."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def refuse_leaks(frames: pa.Table, what: str) -> None:
    """Make sure that nothing is in two splits.

    Args:
        frames: Rows with ``uri``, ``frame_id``, ``content_sha256`` and ``split``, one or more per frame.
        what: Name of the dataset, for the message.

    Raises:
        SchemaError: The same frame or the same content is in two splits; they are named.
    """
    for column in ("frame_id", "content_sha256"):
        groups = frames.group_by(column).aggregate([("split", "distinct"), ("uri", "distinct")])
        torn = groups.filter(pc.greater(pc.list_value_length(groups["split_distinct"]), 1)).sort_by(column).to_pylist()
        if torn:
            shown = "; ".join(
                f"{' and '.join(sorted(leak['uri_distinct']))} in {' and '.join(sorted(leak['split_distinct']))}"
                for leak in torn[:_LEAKS_SHOWN]
            )
            raise SchemaError(
                f"{what}: the same {column} is in two splits, {len(torn)} times, so a segmenter would be judged by "
                f"what it has seen: {shown}; leave copies out of the annotations, or give their dates to one split"
            )
