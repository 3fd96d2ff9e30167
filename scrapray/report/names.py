"""Names of the files of a report: safe in every file system and address, whatever stands in a key.

loads/0277-l002-6f1c0a9b.html    readable part, then a hash of the whole identity, which makes it unique
"""

import hashlib
import json
import re
import unicodedata

_READABLE = 40
_DIGITS = 12
PAGE = re.compile(rf"[a-z0-9-]{{1,{_READABLE}}}-[0-9a-f]{{{_DIGITS}}}\.html")
PICTURE = re.compile(rf"[0-9a-f]{{{_DIGITS}}}\.webp")
"""What ``page_name`` and ``picture_name`` give; nothing else in a report's folders is ours to delete."""


def page_name(*identity: str | None) -> str:
    """Name of the page of a load or a supplier: the same for the same words, another for others.

    Lower case only, since some file systems do not tell cases apart.
    """
    plain = unicodedata.normalize("NFKD", "-".join(filter(None, identity))).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^a-z0-9]+", "-", plain.lower())[:_READABLE].strip("-")
    return f"{readable or 'unnamed'}-{_digest(*identity)}.html"


def picture_name(content_sha256: str, box_xyxy: tuple[int, int, int, int], width_px: int) -> str:
    """Name of a part of a frame in one size: equal pictures have one name, and are made once."""
    return f"{_digest(content_sha256, *map(str, box_xyxy), str(width_px))}.webp"


def _digest(*words: str | None) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:_DIGITS]
