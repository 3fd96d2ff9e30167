"""The yard's own table of arrivals, asked which load a frame shows.

One wrong record must not cost the night: it is left out and reported, and its frames fall to the time-gap rule. A
table without the columns it must have, or of wrong records alone, is an error before any work.
"""

import csv
import io
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import accumulate
from math import isnan
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from scrapray.config import GATE_LOG_COLUMNS, GateLogConfig
from scrapray.errors import SchemaError
from scrapray.storage import Storage

_OPTIONAL = ("supplier", "site")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One truck under one camera or crane, from its first moment to its last, both included.

    Attributes:
        record: Its place in the table, for messages; 1 is the first record.
        site: None where the table names no site.
        date: Local calendar date of its first moment.
    """

    record: int
    truck_id: str
    load_id: str
    supplier: str | None
    site: str | None
    place: str
    from_utc: datetime
    until_utc: datetime
    date: date


class GateLog:
    """Arrivals of one yard.

    Attributes:
        faults: One sentence for each record that was left out or overlaps another.
    """

    def __init__(self, arrivals: Iterable[Arrival], faults: Iterable[str] = ()) -> None:
        self._timelines: dict[tuple[str | None, str], _Timeline] = {}
        by_place: dict[tuple[str | None, str], list[Arrival]] = defaultdict(list)
        for arrival in arrivals:
            by_place[arrival.site, arrival.place].append(arrival)
        self.faults = list(faults)
        for key, there in by_place.items():
            there.sort(key=lambda arrival: (arrival.from_utc, arrival.record))
            self._timelines[key] = _Timeline(there)
            self.faults.extend(_overlaps(there))

    def find(self, site: str, place: str, moment: datetime) -> Arrival | None:
        """The arrival that a camera or crane saw at a moment; of several, the one that came last."""
        for key in ((site, place), (None, place)):
            timeline = self._timelines.get(key)
            arrival = timeline and timeline.find(moment)
            if arrival:
                return arrival
        return None


class _Timeline:
    """Arrivals at one place, ordered by their first moment."""

    def __init__(self, arrivals: list[Arrival]) -> None:
        self._arrivals = arrivals
        self._starts = [arrival.from_utc for arrival in arrivals]
        self._latest_end = list(accumulate((arrival.until_utc for arrival in arrivals), max))

    def find(self, moment: datetime) -> Arrival | None:
        index = bisect_right(self._starts, moment) - 1
        while index >= 0 and self._latest_end[index] >= moment:
            if self._arrivals[index].until_utc >= moment:
                return self._arrivals[index]
            index -= 1
        return None


def _overlaps(ordered: list[Arrival]) -> Iterator[str]:
    longest = ordered[0]
    for later in ordered[1:]:
        if later.from_utc < longest.until_utc:
            yield (
                f"records {longest.record} and {later.record} overlap at {later.place}; "
                "frames of both go to the one that came later"
            )
        longest = max(longest, later, key=lambda arrival: arrival.until_utc)


def read_gate_log(config: GateLogConfig, storage: Storage, time_zone: str = "UTC") -> GateLog:
    """Read the whole table.

    Args:
        config: Where it is and how to read it.
        storage: Door to it.
        time_zone: Of the site, which says what date it is there; also of times without an offset, where the
            configuration names none.

    Raises:
        SchemaError: The table cannot be read, has not the columns it must have, or has records and no right one.
        StorageError: It cannot be reached.
    """
    data = storage.read_bytes(config.uri)
    names, records = _read_parquet(config.uri, data) if data[:4] == b"PAR1" else _read_csv(config.uri, data)
    column_of = {name: config.columns.get(name, name) for name in GATE_LOG_COLUMNS}
    missing = [column for name, column in column_of.items() if column not in names and _must_be(name, config)]
    if missing:
        raise SchemaError(
            f"gate log {config.uri} has no column {', '.join(missing)}; it has {', '.join(names)}; "
            "say under [gate_log.columns] how the yard calls ours"
        )
    zone, site_zone = ZoneInfo(config.time_zone or time_zone), ZoneInfo(time_zone)
    arrivals, faults = [], []
    for number, record in enumerate(records, start=1):
        ours = {name: record.get(column) for name, column in column_of.items()}
        try:
            arrivals.append(_arrival(number, ours, zone, site_zone))
        except (ValueError, OverflowError) as error:  # the second of a time at the end of the calendar
            faults.append(f"record {number} left out: {error}")
    if faults and not arrivals:
        raise SchemaError(
            f"no record of gate log {config.uri} can be read; {faults[0]}; "
            "correct the table, or say under [gate_log.columns] which columns hold what"
        )
    return GateLog(arrivals, faults)


def _must_be(name: str, config: GateLogConfig) -> bool:
    return name not in _OPTIONAL or name in config.columns


def _read_parquet(uri: str, data: bytes) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        table = pq.read_table(pa.BufferReader(data))
        columns = [list(map(_value, column)) for column in table.columns]
    except (pa.ArrowException, OSError) as error:
        raise SchemaError(f"gate log {uri} is not readable as Parquet: {error}") from error
    return table.column_names, [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _value(scalar: pa.Scalar) -> Any:
    """A value; of a time beyond the calendar, as databases write infinity, its number, which is no time."""
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        return scalar.cast(pa.int64()).as_py()


def _read_csv(uri: str, data: bytes) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        return list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SchemaError(f"gate log {uri} is not readable as CSV in UTF-8: {error}") from error


def _arrival(record: int, values: Mapping[str, Any], zone: ZoneInfo, site_zone: ZoneInfo) -> Arrival:
    truck_id, load_id, place = (_filled(name, values[name]) for name in ("truck_id", "load_id", "camera"))
    begin, end = _moment("from", values["from"]), _moment("until", values["until"])
    begin = begin if begin.tzinfo else begin.replace(tzinfo=zone)
    end = end if end.tzinfo else end.replace(tzinfo=zone)
    if end < begin:
        # When the clocks go back one hour comes twice; the first is meant unless the record would end before it began.
        end = end.replace(fold=1)
    if end.astimezone(UTC) < begin.astimezone(UTC):
        raise ValueError(f"from {values['from']} is after until {values['until']}")
    return Arrival(
        record=record,
        truck_id=truck_id,
        load_id=load_id,
        supplier=_text("supplier", values["supplier"]),
        site=_text("site", values["site"]),
        place=place,
        from_utc=begin.astimezone(UTC),
        until_utc=end.astimezone(UTC),
        date=begin.astimezone(site_zone).date(),
    )


def _filled(name: str, value: Any) -> str:
    text = _text(name, value)
    if text is None:
        raise ValueError(f"{name} is empty")
    return text


def _text(name: str, value: Any) -> str | None:
    """A cell as the yard would write it, whatever its type: 7 for 7.0; None for an empty one and for NaN."""
    match value:
        case None:
            return None
        case float() if isnan(value):
            return None
        case float() if value.is_integer():
            return str(int(value))
        case bytes():
            try:
                return value.decode().strip() or None
            except UnicodeDecodeError:
                raise ValueError(f"{name} is {value!r}, not UTF-8") from None
    return str(value).strip() or None


def _moment(name: str, value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(_text(name, value) or "")
    except ValueError:
        raise ValueError(f"{name} is {value!r}, not a time such as 2026-11-20T06:30:00") from None
