"""What workers say on its way to the process that started the training, which alone knows the server's password."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

Receive = Callable[[int, Mapping[str, float]], None]
"""Takes the step and figures by name."""

_WAIT_S = 1.0


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
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    is_over = threading.Event()

    def deliver() -> None:
        while not (is_over.is_set() and queue.empty()):
            try:
                step, figures = queue.get(timeout=_WAIT_S)
            except Empty:
                continue
            receive(step, figures)

    thread = threading.Thread(target=deliver, name="post", daemon=True)
    thread.start()
    try:
        yield Post(queue)
    finally:
        is_over.set()
        thread.join()
        queue.shutdown()
