"""Answers to queries as text: for people, for spreadsheets, for programs."""

import csv
import datetime as dt
import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TextIO

import pyarrow as pa

from scrapray.errors import ConfigurationError

_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]")
"""Characters that move the cursor, end a line, colour, or turn the direction of writing."""


def rows_of(answer: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows as plain values, as JSON has them: ISO 8601 for times and durations, hex for bytes, null for what is NaN.

    Raises:
        ConfigurationError: A value cannot be shown.
    """
    try:
        for batch in answer.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist(maps_as_pydicts="strict"):
                yield {name: _plain(value) for name, value in row.items()}
    except (OverflowError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the answer holds a value that cannot be shown ({error}): an infinite time, one outside the years 1 to "
            "9999, or a map of what is no text; write column::varchar in the query"
        ) from error


def write_csv(answer: pa.Table, file: TextIO) -> None:
    """Write a header and one line per row; null is empty, and lists and structures are JSON."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(answer.column_names)
    writer.writerows([_cell(value) for value in row.values()] for row in rows_of(answer))


def write_json(answer: pa.Table, file: TextIO) -> None:
    """Write an array with one object per row, each on a line of its own."""
    separator = "[\n"
    for row in rows_of(answer):
        file.write(separator + json.dumps(row, ensure_ascii=False, allow_nan=False))
        separator = ",\n"
    file.write("\n]\n" if answer.num_rows else "[]\n")


def for_people(value: Any) -> str:
    """One value of a row, with six figures that count at most, and nothing that a terminal would obey."""
    if value is None:
        return "-"
    text = f"{value:.6g}" if isinstance(value, float) else str(_cell(value))
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dt.date | dt.time):  # a moment is a date too
        return value.isoformat()
    if isinstance(value, pa.MonthDayNano):
        return _duration(value)
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _duration(value: pa.MonthDayNano) -> str:
    """ISO 8601, such as P1M2DT3.5S: months and days have no fixed length, so nothing is added up."""
    days = "".join(f"{number}{unit}" for number, unit in ((value.months, "M"), (value.days, "D")) if number)
    seconds = f"T{value.nanoseconds / 1e9:.15g}S" if value.nanoseconds or not days else ""
    return f"P{days}{seconds}"
