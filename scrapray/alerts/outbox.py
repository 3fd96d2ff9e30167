"""What was told and what waits to be told, kept in the lake, one small file for each message.

    <lake>/_alerts/waiting/<id>.json                            has not gone every way yet
    <lake>/_alerts/date=YYYY-MM-DD/site=<site>/<id>.json        has, with the times

A message is written down before it is sent, and what became of it after each way. Killed between sending and writing,
the next run sends the same bytes with the same id by that one way again. Two runs at the same time may both send what
an earlier one could not: at least once, and twice only then.
"""

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from urllib.parse import quote

from pydantic import TypeAdapter

from scrapray.alerts.messages import Message
from scrapray.errors import StorageError
from scrapray.storage import Storage, join

_HEAD = {"number": int} | dict.fromkeys(("id", "kind", "created_utc", "site", "date", "weights_sha256", "text"), str)
"""Fields by which messages are told apart and put in order, and what they hold."""
_SAID = {"load": {"verdict"}, "night": set[str]()}
"""Fields by kind without which it is not known what was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One message and what became of it.

    Attributes:
        message: As it is sent.
        waiting_for: Ways that it has still to go.
        order: Its place among those that were made at the same time.
        sent_utc: When it went each of the others.
        failed: Why it has not gone some way, when it was tried last.
    """

    message: Message
    waiting_for: tuple[str, ...]
    order: int = 0
    sent_utc: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def created_utc(self) -> dt.datetime:
        """When the message was made."""
        return dt.datetime.fromisoformat(self.message["created_utc"])

    @property
    def night(self) -> tuple[dt.date, str]:
        """The date and site that the message is about."""
        return dt.date.fromisoformat(self.message["date"]), self.message["site"]

    def sent(self, way: str, now_utc: dt.datetime) -> "Entry":
        """The same after it has gone one way."""
        sent_utc = {**self.sent_utc, way: now_utc.isoformat(timespec="seconds")}
        failed = {name: reason for name, reason in self.failed.items() if name != way}
        return replace(self.without(way), sent_utc=sent_utc, failed=failed)

    def refused(self, way: str, reason: str) -> "Entry":
        """The same after one way has failed; it still waits for it."""
        return replace(self, failed={**self.failed, way: reason})

    def without(self, way: str) -> "Entry":
        """The same, no longer waiting for one way."""
        return replace(self, waiting_for=tuple(name for name in self.waiting_for if name != way))


class Outbox:
    """The folder ``_alerts`` of a lake.

    Attributes:
        passed_over: Files met so far that should be records and are none, each with what to do.
    """

    def __init__(self, lake_uri: str, storage: Storage) -> None:
        self._root = join(lake_uri, "_alerts")
        self._storage = storage
        self.passed_over: list[str] = []

    def waiting(self) -> list[Entry]:
        """Messages that have not gone every way, the oldest first and those of one run in its order.

        Raises:
            ScraprayError: They cannot be read.
        """
        entries = []
        for uri, entry in self._records(join(self._root, "waiting")):
            if self._storage.exists(self._place_of(entry, is_done=True)):  # killed before this one was cleared away
                self._storage.delete(uri)
            else:
                entries.append(entry)
        return sorted(entries, key=lambda entry: (entry.created_utc, entry.order))

    def told(self, date: dt.date, site: str) -> list[Message]:
        """Messages about a night that have gone every way.

        Raises:
            ScraprayError: They cannot be read.
        """
        return [entry.message for _, entry in self._records(self._folder_of(str(date), site))]

    def keep(self, entry: Entry) -> None:
        """Write down how it stands with a message.

        Raises:
            StorageError: The lake cannot be written; what was written before is still there.
        """
        is_done = not entry.waiting_for
        self._storage.write_bytes(self._place_of(entry, is_done), json.dumps(asdict(entry), indent=1).encode())
        if is_done:
            self._storage.delete(self._place_of(entry, is_done=False))

    def _place_of(self, entry: Entry, is_done: bool) -> str:
        name, message = f"{entry.message['id']}.json", entry.message
        folder = self._folder_of(message["date"], message["site"]) if is_done else join(self._root, "waiting")
        return join(folder, name)

    def _folder_of(self, date: str, site: str) -> str:
        return join(self._root, f"date={date}", f"site={quote(site, safe='')}")

    def _records(self, folder: str) -> Iterator[tuple[str, Entry]]:
        """Records below a folder with their URIs. One that is broken must not keep all others from being sent."""
        for uri in self._storage.list_names(folder):
            if not uri.endswith(".json"):  # what a file manager has left there
                continue
            try:
                entry = _entry_of(self._storage.read_bytes(uri))
            except StorageError as error:
                if error.reason != "missing":  # else another run has just cleared it away
                    raise
            except (ValueError, KeyError, TypeError):
                self.passed_over.append(f"{uri} is no record of an alert; delete it")
            else:
                yield uri, entry


def _entry_of(content: bytes) -> Entry:
    """What is in a record. Raises ``ValueError``, ``KeyError`` or ``TypeError`` where it is none."""
    entry = TypeAdapter(Entry).validate_json(content)
    message = entry.message
    wrong = [name for name, form in _HEAD.items() if not isinstance(message[name], form)]
    if wrong or _SAID[message["kind"]].difference(message) or not entry.created_utc.tzinfo or not all(entry.night):
        raise ValueError(wrong)
    return entry
