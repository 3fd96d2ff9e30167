"""Ray, as every engine needs it: joined or started, large enough, and with errors that a user understands."""

import logging
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import ray
import ray.data
from ray.autoscaler.sdk import request_resources
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from scrapray import errors
from scrapray.config import environment, set_default_environment
from scrapray.errors import ConfigurationError, ScraprayError, StorageError
from scrapray.storage import Storage, as_storage_error

_LOCAL_CPUS = 8
"""Logical CPUs of a Ray that we start ourselves, at least: with one per stage and none left, Ray waits for ever."""
_KNOCK_S = 5.0
_LOOK_AGAIN_S = 1.0
_RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 without it: workers that get no turn beside others
    "RAY_agent_register_timeout_ms": "120000",  # 15 s without it: too little for a busy machine to start Ray in
}
_ADVICE_OF_RAY = "\nFailed to apply UDF transform"
"""What Ray adds to the message of an error in a task, with advice on its own settings after it."""
_RAISED_AT_START = re.compile(r"^scrapray\.errors\.(\w+): (.+)$", re.MULTILINE)
"""Of an actor that cannot start, Ray gives no more than the text."""


def join(*, what: str, bundles: Sequence[Mapping[str, float]], mend: str, wait_s: float = 0.0) -> dict[str, float]:
    """Join the Ray that is there, or start one here, and make sure that it holds all stages of some work at once.

    With less, Ray neither goes on nor complains.

    Args:
        what: The work, for the message.
        bundles: What it takes, by Ray's names, for each of its actors and tasks that live at the same time.
        mend: What to do when the cluster has less, for the message.
        wait_s: How long a cluster that grows is given to do so.

    Returns:
        What the whole cluster has, by Ray's names.

    Raises:
        ConfigurationError: No cluster answers at ``RAY_ADDRESS``, it is too small, or none can be started here.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it logs as an error, it raises too
    set_default_environment(**_RAY_SETTINGS)
    needed = {name: sum(bundle.get(name, 0) for bundle in bundles) for name in ("CPU", "GPU")}
    if not ray.is_initialized():
        address = environment("RAY_ADDRESS")
        _check_address(address)
        with _started(address):
            ray.init(
                address=address or "local",
                num_cpus=None if address else max(_LOCAL_CPUS, num_cores(), int(needed["CPU"])),
                include_dashboard=None if address else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    homeless = without_room(bundles, _nodes())
    if homeless and wait_s:
        homeless = _wait_for_nodes(bundles, wait_s)
    available: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if homeless:
        raise ConfigurationError(
            f"{what} needs {needed['CPU']:g} CPUs and {needed['GPU']:g} GPUs at once, the Ray cluster has "
            f"{available.get('CPU', 0):g} and {available.get('GPU', 0):g}, and none of its {len(_nodes())} nodes has "
            f"room left for {homeless[0].get('CPU', 0):g} and {homeless[0].get('GPU', 0):g} more; {mend}"
        )
    return available


def without_room(
    bundles: Sequence[Mapping[str, float]], nodes: Sequence[Mapping[str, float]]
) -> list[Mapping[str, float]]:
    """Bundles that find no node with all that they take, when the largest choose first; exact where all are alike.

    Args:
        bundles: What each actor or task takes, by Ray's names.
        nodes: What each node has.
    """
    left = [dict(node) for node in nodes]
    homeless = []
    for bundle in sorted(bundles, key=lambda each: (-each.get("GPU", 0), -each.get("CPU", 0))):
        home = next((node for node in left if all(node.get(name, 0) >= num for name, num in bundle.items())), None)
        if home is None:
            homeless.append(bundle)
        else:
            home.update({name: home.get(name, 0) - num for name, num in bundle.items()})
    return homeless


def _nodes() -> list[dict[str, float]]:
    """What each living node has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _wait_for_nodes(bundles: Sequence[Mapping[str, float]], wait_s: float) -> list[Mapping[str, float]]:
    """Ask the cluster's autoscaler for what all stages need; what has no room yet when the time is up."""
    give_up_at = time.monotonic() + wait_s
    request_resources(bundles=[dict(bundle) for bundle in bundles])
    try:
        while (homeless := without_room(bundles, _nodes())) and time.monotonic() < give_up_at:
            time.sleep(_LOOK_AGAIN_S)
        return homeless
    finally:
        request_resources(bundles=[])  # one that stands keeps idle nodes for ever; from here on the work does


def set_up_data(no_progress_timeout_s: float) -> ray.data.DataContext:
    """Let Ray Data work without a word, give up when nothing goes on, and raise errors as they were.

    Returns:
        Its settings, for more.
    """
    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = no_progress_timeout_s
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    return context


def num_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _started(address: str | None) -> Iterator[None]:
    """Say in one line why Ray does not start; what it raises itself is of many kinds, ``Exception`` among them."""
    try:
        yield
    except Exception as error:
        what = " ".join(str(error).split())
        raise ConfigurationError(
            f"cannot join the Ray cluster at {address}: {what}"
            if address
            else f"cannot start Ray on this machine: {what}; it may be too busy or short of memory or room in its "
            "temporary folder, so see to that and run again, or set RAY_ADDRESS to a cluster"
        ) from error


def _check_address(address: str | None) -> None:
    """Knock at the cluster's door: Ray itself waits for minutes before it says that nobody is there."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()
        except OSError as error:
            raise ConfigurationError(
                f"RAY_ADDRESS is {address}, where nobody answers ({error}); start the cluster, correct it or unset it"
            ) from error


@contextmanager
def own_errors(work_uri: str, storage: Storage) -> Iterator[None]:
    """Bring what went wrong on a worker back as the error that was raised there."""
    try:
        yield
    except Exception as error:
        causes = [cause for cause in _causes(error) if not isinstance(cause, RayError)]
        for cause in causes:
            if isinstance(cause, ScraprayError):
                cause.args = (str(cause.args[0]).partition(_ADVICE_OF_RAY)[0], *cause.args[1:])
                raise cause from error
        if raised_at_start := _RAISED_AT_START.search(str(error)):
            name, message = raised_at_start.groups()
            raise getattr(errors, name)(message) from error
        if isinstance(error, ExecutionTimeoutError):
            raise ConfigurationError(
                f"nothing was finished within {_patience_s():g} s; see whether the cluster lost nodes or frames take "
                "longer than that ([resources] no_progress_timeout_s), then run again: it goes on from there"
            ) from error
        storage.exists(work_uri)  # says in our words why it cannot be reached, if that is what it was
        for cause in causes:
            if explained := as_storage_error("read or write", work_uri, cause):
                raise explained from error
            if isinstance(cause, OSError):
                raise StorageError(f"cannot read or write {work_uri}: {cause}") from error
        raise


def _patience_s() -> float:
    return float(ray.data.DataContext.get_current().execution_no_progress_timeout_s)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it, as Python and Ray remember it."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause is not None and all(cause is not other for other in seen):
            seen.append(cause)
            waiting += [getattr(cause, "cause", None), cause.__cause__, cause.__context__]
            yield cause
