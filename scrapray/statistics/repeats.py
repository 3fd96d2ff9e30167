"""Frames that show nothing new: files stored twice, and cameras that stand still.

A frozen camera repeats a picture while the clock moves on; counted, it would speak for bed that nobody saw. A heap
can also really stand still for some seconds, and such frames are good ones. What tells them apart is sensor noise:
two exposures of one scene never agree pixel by pixel. So a repeat is either the same bytes, or a picture whose
thumbnail (single pixels of the frame, noise included, not means) is that of the camera's frame before it, but for what
encoding anew changes.

What this cannot see: a live picture without noise, because most of it is pure black or white, looks frozen.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LATEST = dt.datetime.max.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a frame looks like, as far as repeats show in it.

    Attributes:
        frame_id: Of the frame.
        load_key: Site, truck and load; None where the frame belongs to no load.
        camera_key: Site and camera; None where the camera is not known.
        taken_utc: Time of exposure; None where not known.
        content_sha256: Of the file's bytes.
        thumbnail: Grey levels of single pixels spread over the bed, one byte each.
    """

    frame_id: str
    load_key: tuple[str | None, ...] | None
    camera_key: tuple[str | None, ...] | None
    taken_utc: dt.datetime | None
    content_sha256: str | None
    thumbnail: bytes | None


@dataclass(frozen=True, slots=True)
class Repeat:
    """Stage and reason for leaving a frame out, and the id of the frame that it repeats (never a repeat itself)."""

    stage: str
    reason: str
    of: str


def find_repeats(looks: Iterable[Look], *, max_difference: float) -> dict[str, Repeat]:
    """Frames that repeat an earlier one of their load or camera, by frame id. The earliest of equals is no repeat.

    Args:
        looks: Usable frames, in any order.
        max_difference: Largest mean difference between two thumbnails of one picture, as a share of full scale.
    """
    repeats: dict[str, Repeat] = {}
    first_with_bytes: dict[tuple[object, ...], Look] = {}
    last_of_camera: dict[tuple[str | None, ...], Look] = {}
    for look in sorted(looks, key=lambda each: (each.taken_utc or _LATEST, each.frame_id)):
        places = [(key, look.content_sha256) for key in (look.load_key, look.camera_key) if key and look.content_sha256]
        same_bytes = next((first_with_bytes[place] for place in places if place in first_with_bytes), None)
        before = last_of_camera.get(look.camera_key) if look.camera_key else None
        same_picture = before if before and _is_same_picture(before, look, max_difference) else None
        if earlier := same_bytes or same_picture:
            origin = repeats[earlier.frame_id].of if earlier.frame_id in repeats else earlier.frame_id
            repeats[look.frame_id] = Repeat(
                _stage(earlier, look), "same_bytes" if same_bytes else "same_picture", origin
            )
        for place in places:
            first_with_bytes.setdefault(place, look)
        if look.camera_key:
            last_of_camera[look.camera_key] = look
    return repeats


def _stage(earlier: Look, later: Look) -> str:
    """``frozen`` when the same camera's clock moved on, else ``duplicate``: one exposure stored twice."""
    is_one_camera = earlier.camera_key is not None and earlier.camera_key == later.camera_key
    has_times = earlier.taken_utc is not None and later.taken_utc is not None
    return "frozen" if is_one_camera and has_times and earlier.taken_utc != later.taken_utc else "duplicate"


def _is_same_picture(one: Look, other: Look, max_difference: float) -> bool:
    """Whether two pictures agree down to their noise. Unmeasured or differently sized ones do not."""
    if one.thumbnail is None or other.thumbnail is None or len(one.thumbnail) != len(other.thumbnail):
        return False
    difference = np.subtract(_grey(one.thumbnail), _grey(other.thumbnail))
    return float(np.abs(difference).mean()) <= max_difference


def _grey(thumbnail: bytes) -> npt.NDArray[np.float64]:
    return np.frombuffer(thumbnail, dtype=np.uint8) / 255
