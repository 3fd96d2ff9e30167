"""What workers say on its way to the process that started the training, which alone knows the server's password."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import ray
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_log = logging.getLogger(__name__)

Receive = Callable[[int, Mapping[str, float]], None]
"""Takes the step and figures by name."""

_WAIT_S = 1.0
SILENT_S = 600.0
"""After so long without a word a person is told: an elastic training that has lost its nodes waits for others."""


@dataclass(frozen=True, slots=True)
class Post:
    """A worker's end: sends and goes on."""

    queue: Queue

    def __call__(self, step: int, figures: Mapping[str, float]) -> None:
        """Send the figures of a step."""
        self.queue.put((step, dict(figures)))


@contextmanager
def delivered(receive: Receive) -> Iterator[Post]:
    """Hand over what is sent, in a thread of its own; at the end all that was sent has arrived.

    Args:
        receive: Called in the order of sending.

    Raises:
        Exception: The first that ``receive`` raised, when the rest has arrived.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    letters = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    is_over, faults = threading.Event(), list[Exception]()
    thread = threading.Thread(target=deliver, args=(letters, receive, is_over, faults), name="post", daemon=True)
    thread.start()
    try:
        yield Post(letters)
    finally:
        is_over.set()
        thread.join()
        letters.shutdown()
    if faults:
        raise faults[0]


def deliver(
    letters: "Queue | queue.Queue[tuple[int, Mapping[str, float]]]",
    receive: Receive,
    is_over: threading.Event,
    faults: list[Exception],
) -> None:
    """Hand over letters until it is over and none is left, and say so when none comes for long.

    Args:
        letters: Arguments of ``receive``.
        receive: Takes them.
        is_over: Set when no more will come.
        faults: Takes what ``receive`` raises, since nobody listens to this thread.
    """
    heard_s = monotonic()
    while not (is_over.is_set() and letters.empty()):
        try:
            step, figures = letters.get(timeout=_WAIT_S)
        except queue.Empty:
            if monotonic() >= heard_s + SILENT_S:
                heard_s = monotonic()
                _log.warning(
                    "no step for %.0f minutes: training starts, or waits for nodes; `ray status` shows what is missing",
                    SILENT_S / 60,
                )
            continue
        heard_s = monotonic()
        try:
            receive(step, figures)
        except Exception as error:
            faults.append(error)
