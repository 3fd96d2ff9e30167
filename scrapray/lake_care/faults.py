"""What is said of a lake that is not as it should be."""

import datetime as dt
from dataclasses import dataclass

from scrapray.errors import StorageError

AUDIT_AGAIN = "audit that night again"
MEND_MONTH = "put it back from a copy, or audit the nights of that month again and delete it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something in a lake that is not as it should be.

    Attributes:
        place: Date and site, or a file or folder.
        what: What is wrong.
        mend: What to do about it.
    """

    place: str
    what: str
    mend: str


def nothing_published(lake_uri: str, date: dt.date | None = None) -> StorageError:
    """What is said where a lake, or a date of it, has nothing to look at."""
    what = f"nothing is published in {lake_uri}"
    if date:
        return StorageError(f"{what} for {date}; give a date that was audited", reason="missing")
    return StorageError(
        f"{what}: it has no table of loads; give the folder or URI that scrapray audit published to", reason="missing"
    )
