"""The main path: nights that an audit has published -> messages -> every way that is configured."""

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from scrapray.alerts.lines import Lines
from scrapray.alerts.mail import Mail
from scrapray.alerts.messages import Message, new_messages
from scrapray.alerts.outbox import Entry, Outbox
from scrapray.alerts.webhook import Webhook
from scrapray.errors import AlertError, ScraprayError
from scrapray.lake import read_partition
from scrapray.recipients import AlertsConfig
from scrapray.storage import Storage

GIVE_UP_AFTER = dt.timedelta(days=14)
IN_FLIGHT = dt.timedelta(minutes=15)
"""So long an audit of other nights leaves a message alone that nobody has tried to send yet: its own run is at it."""


TIME_OF_A_WAY_S = 300.0
"""So long a run sends by one way, however much there is to tell: a slow server must not hold up the night."""


class Way(Protocol):
    """One way by which messages go."""

    name: ClassVar[str]

    def send(self, message: Message) -> str:
        """Deliver one message; gives what is still to be said of it. Raises ``AlertError``."""

    def check(self) -> str:
        """See to it that one could be delivered; says what is there. Raises ``AlertError``."""


@dataclass(frozen=True, slots=True)
class AlertReport:
    """What became of messages.

    Attributes:
        outcomes: How many, by way and outcome.
        fault: Why the lake could not be asked or told what was sent; empty where it could.
        passed_over: Files among the records of alerts that are none, each with what to do.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    fault: str = ""
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [f"{way}: {count} {outcome}" for (way, outcome), count in self.outcomes.items()]
        if self.passed_over:
            more = f" ({len(self.passed_over)} such files)" * (len(self.passed_over) > 1)
            words.append(f"passed over: {self.passed_over[0]}{more}")
        if self.fault:
            words.append(f"stopped, give the same command again: {self.fault}")
        return "; ".join(words) or "nothing new to tell"


def ways_of(config: AlertsConfig) -> list[Way]:
    """The ways that are configured."""
    ways: list[Way] = []
    if config.webhook:
        keys = {"url_env": config.webhook.url_env, "secret_env": config.webhook.secret_env}
        ways.append(Webhook(**keys, timeout_s=config.timeout_s))
    if config.email:
        ways.append(Mail(config=config.email, timeout_s=config.timeout_s))
    if config.file:
        ways.append(Lines(path=Path(config.file)))
    return ways


def send_alerts(
    lake_uri: str,
    nights: Sequence[tuple[dt.date, str]],
    *,
    config: AlertsConfig,
    storage: Storage,
    now_utc: dt.datetime | None = None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> AlertReport | None:
    """Tell of the nights that an audit has published, and of what an earlier run could not tell.

    Nothing that a user can mend raises an error: it becomes part of the report, and the next run tries again.

    Args:
        lake_uri: Where they are published; what was told is kept there too.
        nights: Their dates and sites.
        config: Who is told.
        storage: The door to the lake.
        now_utc: The time of this run.
        pause: Waits so many seconds between two tries.
        clock: Seconds since some moment.

    Returns:
        What became of each message; None where nobody is to be told.
    """
    ways = {way.name: _Patient(way, config.max_attempts, pause, clock) for way in ways_of(config)}
    if not ways:
        return None
    now_utc = now_utc or dt.datetime.now(dt.UTC)
    outbox, outcomes, fault = Outbox(lake_uri, storage), Counter[tuple[str, str]](), ""
    try:
        waiting = outbox.waiting()
        new = _new_entries(lake_uri, nights, waiting, tuple(ways), outbox, storage, now_utc)
        for entry in [entry for entry in waiting if _is_ours(entry, nights, now_utc)] + new:
            outcomes += _deliver(entry, ways, outbox, now_utc)
    except ScraprayError as error:
        fault = str(error)
    return AlertReport(outcomes, fault, tuple(outbox.passed_over))


def _new_entries(
    lake_uri: str,
    nights: Sequence[tuple[dt.date, str]],
    waiting: Sequence[Entry],
    ways: tuple[str, ...],
    outbox: Outbox,
    storage: Storage,
    now_utc: dt.datetime,
) -> list[Entry]:
    """Messages about nights that were not told yet, all of them written down before the first is sent."""
    entries: list[Entry] = []
    for date, site in nights:
        loads, runs = (read_partition(lake_uri, name, date, site, storage).to_pylist() for name in ("loads", "runs"))
        told = [*outbox.told(date, site), *(entry.message for entry in waiting)]
        for message in new_messages(loads, runs[0], told, created_utc=now_utc):
            entries.append(Entry(message=message, waiting_for=ways, order=len(waiting) + len(entries)))
            outbox.keep(entries[-1])
    return entries


def _is_ours(entry: Entry, nights: Sequence[tuple[dt.date, str]], now_utc: dt.datetime) -> bool:
    """Whether this run sends a message that was written down by another."""
    return entry.night in nights or bool(entry.failed) or now_utc - entry.created_utc > IN_FLIGHT


def _deliver(
    entry: Entry, ways: "dict[str, _Patient]", outbox: Outbox, now_utc: dt.datetime
) -> Counter[tuple[str, str]]:
    """Send one message each way that it waits for, and write down after each what became of it."""
    outcomes = Counter[tuple[str, str]]()
    for name in entry.waiting_for:
        if name not in ways:
            entry, outcome = entry.refused(name, "not configured any more").without(name), "dropped, not configured now"
        else:
            entry, outcome = _attempt(entry, ways[name], now_utc)
        outbox.keep(entry)
        outcomes[name, outcome] += 1
    return outcomes


def _attempt(entry: Entry, way: "_Patient", now_utc: dt.datetime) -> tuple[Entry, str]:
    try:
        remark = way.send(entry.message)
    except AlertError as error:
        entry = entry.refused(way.name, str(error))
        if now_utc - entry.created_utc > GIVE_UP_AFTER:
            return entry.without(way.name), f"given up after {GIVE_UP_AFTER.days} days ({error})"
        return entry, f"not sent, the next run tries again ({error})"
    return entry.sent(way.name, now_utc), f"sent{f', but {remark}' * bool(remark)}"


class _Patient:
    """A way that is tried again where that may help, and no more in this run once all tries for a message are used up.

    So a server that is down costs one message's tries, and not those of all; a slow one costs ``TIME_OF_A_WAY_S``.
    """

    def __init__(self, way: Way, max_attempts: int, pause: Callable[[float], None], clock: Callable[[], float]) -> None:
        self.name = way.name
        self._way = way
        self._max_attempts = max_attempts
        self._pause = pause
        self._clock = clock
        self._spent_s = 0.0
        self._given_up: AlertError | None = None

    def send(self, message: Message) -> str:
        if self._given_up:
            raise self._given_up
        if self._spent_s > TIME_OF_A_WAY_S:
            raise AlertError(f"the {TIME_OF_A_WAY_S:.0f} s that a run gives this way are used up")
        begin_s = self._clock()
        try:
            return self._try(message)
        except AlertError as error:
            if error.is_temporary:
                self._given_up = error
            raise
        finally:
            self._spent_s += self._clock() - begin_s

    def _try(self, message: Message) -> str:
        for attempt in range(self._max_attempts - 1):
            try:
                return self._way.send(message)
            except AlertError as error:
                if not error.is_temporary:
                    raise
                self._pause(2.0**attempt)
        return self._way.send(message)
