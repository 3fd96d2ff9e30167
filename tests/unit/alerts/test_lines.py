"""Messages as lines of a file."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scrapray.alerts.lines import Lines
from scrapray.errors import AlertError

MESSAGE = {"id": "1", "truck_id": "7\r\n\u2028\u0085ТРАК"}


def test_each_message_is_one_line_whatever_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "alerts.jsonl"
    for _ in range(2):
        assert Lines(path=path).send(MESSAGE) == ""
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [MESSAGE, MESSAGE]


def test_half_a_line_that_a_crash_has_left_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_bytes(b'{"id": "0"}\n{"id')
    Lines(path=path).send(MESSAGE)
    first, torn, last = path.read_bytes().splitlines()
    assert (json.loads(first), torn, json.loads(last)) == ({"id": "0"}, b'{"id', MESSAGE)


def test_writers_at_the_same_time_leave_no_empty_line(tmp_path: Path) -> None:
    way = Lines(path=tmp_path / "alerts.jsonl")
    with ThreadPoolExecutor(4) as writers:
        list(writers.map(way.send, [MESSAGE] * 200))
    assert [json.loads(line) for line in way.path.read_bytes().splitlines()] == [MESSAGE] * 200


def test_a_check_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    path.write_bytes(b"torn")
    assert Lines(path=path).check() == f"{path} can be written"
    assert path.read_bytes() == b"torn"


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(AlertError, match=r"cannot be written: Is a directory; give another path"):
        Lines(path=tmp_path).send(MESSAGE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no endless file that is full")
def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(AlertError, match="No space left on device"):
        Lines(path=Path("/dev/full")).send(MESSAGE)


def test_a_pipe_is_no_file_to_add_lines_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AlertError, match=r"cannot be written: .*not seekable"):
        Lines(path=tmp_path / "pipe").send(MESSAGE)


def test_a_full_disk_is_named(small_disk: Path) -> None:
    way = Lines(path=small_disk / "alerts.jsonl")
    with pytest.raises(AlertError, match="No space left on device"):
        way.send({"id": "x" * 400_000})
