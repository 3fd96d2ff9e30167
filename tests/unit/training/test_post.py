import logging
import queue
import threading
from collections.abc import Mapping

import pytest

from scrapray.training import post

LETTERS = [(20, {"loss": 2.0}), (40, {"loss": 1.0})]


def over(letters: "queue.Queue[tuple[int, Mapping[str, float]]]") -> threading.Event:
    for letter in LETTERS:
        letters.put(letter)
    event = threading.Event()
    event.set()
    return event


def test_all_that_was_sent_arrives_in_order_though_it_is_over() -> None:
    letters: queue.Queue[tuple[int, Mapping[str, float]]] = queue.Queue()
    arrived: list[tuple[int, Mapping[str, float]]] = []
    post.deliver(letters, lambda *letter: arrived.append(letter), over(letters), [])
    assert arrived == LETTERS


def test_what_the_receiver_raises_is_kept_and_the_rest_arrives() -> None:
    letters: queue.Queue[tuple[int, Mapping[str, float]]] = queue.Queue()
    arrived, faults = list[int](), list[Exception]()

    def receive(step: int, figures: Mapping[str, float]) -> None:
        if step == 20:
            raise OSError("disk full")
        arrived.append(step)

    post.deliver(letters, receive, over(letters), faults)
    assert (arrived, [str(fault) for fault in faults]) == ([40], ["disk full"])


def test_long_silence_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An elastic training that has too few nodes waits for others without a word of Ray's."""
    monkeypatch.setattr(post, "_WAIT_S", 0.01)
    monkeypatch.setattr(post, "SILENT_S", 0.02)
    is_over = threading.Event()
    threading.Timer(0.2, is_over.set).start()
    with caplog.at_level(logging.WARNING):
        post.deliver(queue.Queue(), lambda step, figures: None, is_over, [])
    assert "`ray status` shows what is missing" in caplog.text
