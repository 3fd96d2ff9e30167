"""What the key of an archived frame tells: where, when, and by which camera it was taken."""

import re
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import NamedTuple
from zoneinfo import ZoneInfo

from scrapray.config import ArchiveConfig, GateLogConfig
from scrapray.errors import ConfigurationError, FrameError

_PART = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_DIRECTIVE = re.compile(r"%(.)")
_DIRECTIVES = {
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    "m": "[0-9]{2}",
    "d": "[0-9]{2}",
    "j": "[0-9]{3}",
    "H": "[0-9]{2}",
    "M": "[0-9]{2}",
    "S": "[0-9]{2}",
    "f": "[0-9]{1,6}",
    "z": "(?:Z|[+-][0-9]{2}:?[0-9]{2})",
}


class KeyParts(NamedTuple):
    """What one key tells.

    Attributes:
        place: The part by which frames of one load belong together: the camera, or what the gate log joins on.
        taken_utc: Moment of the frame.
        date: Local calendar date of that moment.
    """

    site: str
    taken_utc: datetime
    date: date
    camera_id: str | None
    truck_id: str | None
    load_id: str | None
    supplier: str | None
    place: str | None


class KeyGrammar:
    """Reads keys by a pattern such as ``{site}/{date}/{truck_id}/{load_id}/{camera_id}_{time}.{ext}``.

    A part matches within one folder; ``date`` and ``time`` match just what their formats can hold, slashes included.
    A name that stands twice must match the same text. A local hour that comes twice, when the clocks go back, is
    taken as the first; a format with ``%z`` leaves no doubt.

    Raises:
        ConfigurationError: The pattern or a format cannot work; says why.
    """

    def __init__(
        self,
        pattern: str,
        *,
        date_format: str,
        time_format: str,
        time_zone: str,
        site: str | None,
        place_part: str = "camera_id",
    ) -> None:
        self.site = site
        self._place_part = place_part
        self.zone = ZoneInfo(time_zone)
        self._matcher = re.compile(_regex(pattern, {"date": date_format, "time": time_format}))
        parts = self._matcher.groupindex
        used = [form for part, form in (("date", date_format), ("time", time_format)) if part in parts]
        self._has_date = "date" in parts
        self._whole_date_format = date_format if self._has_date and _tells_date(date_format) else None
        self._format = " ".join(used)
        _check_moment(pattern, self._format)
        if site is None and "site" not in parts:
            raise ConfigurationError(f"[archive] key_pattern {pattern!r} has no {{site}}; add it or set [archive] site")
        if place_part != "camera_id" and place_part not in parts:
            raise ConfigurationError(f"[gate_log] join_on is {place_part!r}, but key_pattern has no {{{place_part}}}")

    def parse(self, key: str) -> KeyParts:
        """Take a key apart.

        Raises:
            FrameError: ``key_mismatch`` or ``bad_time``.
        """
        match = self._matcher.fullmatch(key)
        if match is None:
            raise FrameError("manifest", "key_mismatch")
        parts = match.groupdict()
        try:
            taken = self._moment(parts)
            taken_utc, date = taken.astimezone(UTC), taken.astimezone(self.zone).date()
        except (ValueError, OverflowError) as error:
            raise FrameError("manifest", "bad_time", str(error)) from error
        return KeyParts(
            site=parts.get("site") or self.site or "",
            taken_utc=taken_utc,
            date=date,
            camera_id=parts.get("camera_id"),
            truck_id=parts.get("truck_id"),
            load_id=parts.get("load_id"),
            supplier=parts.get("supplier"),
            place=parts.get(self._place_part),
        )

    def date_of(self, key: str) -> date | None:
        """The date in a key whose time may be none; None where the key does not fit or holds no date by itself."""
        match = self._matcher.fullmatch(key)
        if match is None or self._whole_date_format is None:
            return None
        try:
            return datetime.strptime(match["date"], self._whole_date_format).date()
        except ValueError:
            return None

    def _moment(self, parts: dict[str, str]) -> datetime:
        text = f"{parts['date']} {parts['time']}" if self._has_date else parts["time"]
        taken = datetime.strptime(text, self._format)
        return taken if taken.tzinfo else taken.replace(tzinfo=self.zone)


def frame_id_of(uri: str, etag: str) -> str:
    """Name of an archived frame: another one when its content is replaced, the same in audits and datasets."""
    return blake2b(f"{uri}|{etag}".encode(), digest_size=16).hexdigest()


def grammar_of(archive: ArchiveConfig, gate_log: GateLogConfig | None) -> KeyGrammar:
    """The grammar that the configuration describes.

    Raises:
        ConfigurationError: It cannot work.
    """
    return KeyGrammar(
        archive.key_pattern,
        date_format=archive.date_format,
        time_format=archive.time_format,
        time_zone=archive.time_zone,
        site=archive.site,
        place_part=gate_log.join_on if gate_log else "camera_id",
    )


def _regex(pattern: str, formats: dict[str, str]) -> str:
    """A regular expression with one named group for each part."""
    pieces = _PART.split(pattern)
    seen: set[str] = set()
    regex = ""
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            if "{" in piece or "}" in piece:
                raise ConfigurationError(f"[archive] key_pattern {pattern!r} has a brace without its partner")
            regex += re.escape(piece)
        elif not _NAME.fullmatch(piece):
            raise ConfigurationError(
                f"[archive] key_pattern {pattern!r}: {{{piece}}} is not a name of lower-case letters and digits"
            )
        elif piece in seen:
            regex += f"(?P={piece})"
        else:
            seen.add(piece)
            inner = _format_regex(formats[piece]) if piece in formats else "[^/]+"
            regex += f"(?P<{piece}>{inner})"
    return regex


def _format_regex(form: str) -> str:
    """What texts a date or time format can hold."""
    pieces = _DIRECTIVE.split(form)
    for unknown in (name for name in pieces[1::2] if name not in _DIRECTIVES):
        known = " ".join(f"%{name}" for name in _DIRECTIVES)
        raise ConfigurationError(f"[archive] format {form!r} has %{unknown}; known are {known}")
    return "".join(_DIRECTIVES[piece] if index % 2 else re.escape(piece) for index, piece in enumerate(pieces))


def _tells_date(form: str) -> bool:
    told = set(_DIRECTIVE.findall(form))
    return bool(told & {"Y", "y"}) and (told >= {"m", "d"} or "j" in told)


def _check_moment(pattern: str, form: str) -> None:
    if not (_tells_date(form) and "%H" in form):
        raise ConfigurationError(
            f"[archive] key_pattern {pattern!r} with the formats {form!r} tells no full date and time; "
            "it needs {date} and {time}, or a {time} whose time_format holds both"
        )
