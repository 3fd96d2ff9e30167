"""Annotated frames: what people marked in archived frames, whatever tool and format they used.

    pictures of an archive (their keys) + an export of annotations -> annotated frames, and what was left out and why

Nothing here opens a picture. Where a mask lies in a file of its own, the frame says where. Coordinates are frame
pixels (x, y), origin at the top left corner of the top left pixel.
"""

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from posixpath import normpath
from typing import Any
from urllib.parse import unquote

from scrapray.errors import FrameError
from scrapray.keys import KeyGrammar, frame_id_of
from scrapray.storage import StoredObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One annotated object.

    Attributes:
        class_name: A class of the dataset.
        annotation_id: Its id in the file that it comes from.
        is_crowd: Several objects under one mask; they count as their class.
        polygons: Outlines, each x0, y0, x1, y1, and so on; together they are the region.
        mask: In their place: run lengths of the whole frame, a value of ``schema.MASK``.
    """

    class_name: str
    annotation_id: str
    is_crowd: bool = False
    polygons: tuple[tuple[float, ...], ...] = ()
    mask: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedFrame:
    """A frame that somebody has looked at; without regions and mask file it is clean.

    Attributes:
        frame_id: The same as in the tables of an audit.
        key: Its place below the archive.
        site: Where and when it was taken, and what it shows, as far as its key tells.
        height_px: As the annotations say it; the picture itself has the last word.
        mask_uri: Picture of classes, pixel by pixel.
        mask_etag: Changes when that picture is replaced.
        mask_class: The class of everything in that picture that is not 0; None if its values are class indexes.
    """

    frame_id: str
    uri: str
    key: str
    site: str | None = None
    date: dt.date | None = None
    camera_id: str | None = None
    truck_id: str | None = None
    load_id: str | None = None
    height_px: int | None = None
    width_px: int | None = None
    regions: tuple[Region, ...] = ()
    mask_uri: str | None = None
    mask_etag: str | None = None
    mask_class: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """One picture, mask or annotation that was left out of a dataset, or (stage ``kept``) is worth a look.

    Attributes:
        picture: URI where it is known, else the name that the annotations give.
        stage: Where it was found out: ``picture``, ``annotation``, ``mask`` or a stage of ``FrameError``.
        reason: Short word for tables.
    """

    picture: str
    stage: str
    reason: str
    annotation_id: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Annotations:
    """All that an annotated archive holds: frames in the order of their keys, and what was left out."""

    frames: list[AnnotatedFrame] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, picture: StoredObject, grammar: KeyGrammar | None, **known: Any) -> None:
        """Add a frame with all that its key tells, or say why the key tells nothing.

        Args:
            picture: The archived frame.
            grammar: None for pictures that belong to no load.
            known: More attributes of ``AnnotatedFrame``.
        """
        try:
            parts = grammar and grammar.parse(picture.key)
        except FrameError as error:
            self.skipped.append(
                Skipped(picture=picture.uri, stage="picture", reason=error.reason, detail=error.detail or picture.key)
            )
            return
        names = ("site", "date", "camera_id", "truck_id", "load_id")
        told = {name: getattr(parts, name) for name in names} if parts else {}
        frame_id = frame_id_of(picture.uri, picture.etag)
        self.frames.append(AnnotatedFrame(frame_id=frame_id, uri=picture.uri, key=picture.key, **told, **known))


class PictureNames:
    """Finds the archived picture that a file of annotations names in its own way.

    A name may be a whole key, its end, or a URI or path that ends in a whole key; it may have backslashes or lie below
    ``images/``. Label Studio puts eight hexadecimal digits before the name of what it was given, once for an upload
    and once for a download, and drops the folders; or it names the picture in a query (``?d=``, ``?filepath=``).
    """

    def __init__(self, pictures: Iterable[StoredObject]) -> None:
        self._by_file_name: dict[str, list[StoredObject]] = defaultdict(list)
        for picture in pictures:
            self._by_file_name[_file_name(picture.key)].append(picture)

    def find(self, name: str) -> tuple[str, Sequence[StoredObject]]:
        """How a name is to be read, and the pictures that it may mean: one, none, or several that look alike."""
        for written in _ways_to_read(name):
            candidates = self._by_file_name.get(_file_name(written), ())
            exact = [picture for picture in candidates if written == picture.key]
            fitting = exact or [p for p in candidates if _is_end(written, p.key) or _is_end(p.key, written)]
            if fitting:
                return written, fitting
        return name, ()


def may_be_one(names: Iterable[str]) -> bool:
    """Whether names of a picture, as ``PictureNames`` reads them, can all be its: each is the end of any longer one."""
    rising = sorted(set(names), key=len)
    return all(_is_end(short, long) for short, long in pairwise(rising))


_QUERY = re.compile(r".*\?(?:.*&)?(?:d|filepath)=([^&]+).*")
_UPLOADED = re.compile(r"(?:[0-9a-f]{8}(?:-|__))+(.+)")


def _ways_to_read(name: str) -> Iterable[str]:
    """What a name may mean, the most literal first."""
    yield name
    in_query = _QUERY.fullmatch(name)
    path = normpath(unquote(in_query[1]) if in_query else name.replace("\\", "/"))
    yield path
    yield path.removeprefix("images/")
    yield unquote(path)
    if uploaded := _UPLOADED.fullmatch(_file_name(path)):
        yield uploaded[1]
        yield unquote(uploaded[1])


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_end(end: str, path: str) -> bool:
    return path.endswith("/" + end)
