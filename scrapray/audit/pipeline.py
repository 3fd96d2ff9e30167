"""The part of an audit that runs on Ray: frames of a manifest -> one row of results each, resumable at any time.

    to-do list (Parquet) -> small blocks -> fetch bytes (tasks) -> segment (actors) -> checkpointed write

    <work>/todo/part-0.parquet     frames to do
    <work>/checkpoint/             ids of the frames whose rows are written
    <work>/results/                the rows (``schema.RESULTS``)

A killed run leaves rows and their ids behind, and the next run with the same work folder does what is left. Start
one run per process: after a failed one, Ray may not give its actors back to a second.
"""

import logging
import math
import os
import re
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.autoscaler.sdk import request_resources
from ray.data._internal.logical.operators import ListFiles
from ray.data.checkpoint import CheckpointConfig
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from scrapray import errors
from scrapray.audit.actors import Segment, classes_of
from scrapray.audit.fetch import fetch
from scrapray.audit.ledger import Ledger, Progress
from scrapray.config import AuditConfig, ResourcesConfig, environment, set_default_environment
from scrapray.errors import ConfigurationError, ScraprayError, StorageError
from scrapray.lake import write_table
from scrapray.schema import TODO
from scrapray.segmenter.bundle import BundleCard
from scrapray.storage import Storage, common_folder, join

_LOCAL_CPUS = 8
"""Logical CPUs of a Ray that we start ourselves, at least: with one per stage and none left, Ray waits for ever."""
_KNOCK_S = 5.0
_LOOK_AGAIN_S = 1.0
_RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # 15 without it: workers that get no turn beside others
    "RAY_agent_register_timeout_ms": "120000",  # 15 s without it: too little for a busy machine to start Ray in
}
_CPUS_PER_FETCH = 0.5
"""Unlike what an actor takes, or else Ray puts both stages into one and the actor waits for every frame."""
_STAGES_BESIDE = ("read", "checkpoint filter", "write")
"""What takes a CPU each beside fetching and segmenting."""
_RAISED_AT_START = re.compile(r"^scrapray\.errors\.(\w+): (.+)$", re.MULTILINE)
"""Of an actor that cannot start, Ray gives no more than the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSummary:
    """What a run did: frames that had to be done in all, those that were done before it, and its wall time."""

    num_total: int
    num_done_before: int
    seconds: float


def segment_frames(
    manifest: pa.Table,
    work_uri: str,
    *,
    storage: Storage,
    bundle_uri: str,
    card: BundleCard,
    config: AuditConfig,
    progress: Progress = lambda done, total: None,
) -> SegmentSummary:
    """Segment every frame of a manifest that is not rejected there and not done yet.

    Args:
        manifest: Table of ``schema.MANIFEST``.
        work_uri: Folder of this work; whoever calls must give another one when anything changes that decides a
            frame's result.
        storage: Opens all URIs, here and on the workers.
        bundle_uri: Bundle of the segmenter, a folder that all workers see or a URI.
        card: Its card; workers refuse a bundle with other weights.
        config: What decides the result, and the resources to take.
        progress: Called every few seconds.

    Raises:
        ConfigurationError: Ray cannot hold all stages at once, or the configuration does not fit the bundle.
        ModelError: The bundle cannot be loaded.
        StorageError: Frames cannot be had for a reason that is not their own, or results cannot be written.
    """
    started_s = time.monotonic()
    classes_of(card, config.segment)
    todo = manifest.filter(pc.is_null(manifest["reject_stage"])).select(TODO.names)
    ledger = Ledger(_checkpoint_uri(work_uri), storage, todo["frame_id"])
    num_done_before = ledger.num_done()
    if num_done_before < ledger.num_total:
        connect(config.resources)
        write_table(todo, TODO, _todo_uri(work_uri), storage)
        with ledger.reported(progress), _own_errors(work_uri, storage), _context(work_uri, storage, config.resources):
            rows = plan(
                _todo_uri(work_uri),
                archive_uri=common_folder(todo["uri"].to_pylist()),
                storage=storage,
                bundle_uri=bundle_uri,
                card=card,
                config=config,
            )
            write_checkpointed(rows, join(work_uri, "results"), storage)
    progress(ledger.num_done(), ledger.num_total)
    return SegmentSummary(
        num_total=ledger.num_total, num_done_before=num_done_before, seconds=time.monotonic() - started_s
    )


def plan(
    todo_uri: str, *, archive_uri: str, storage: Storage, bundle_uri: str, card: BundleCard, config: AuditConfig
) -> ray.data.Dataset:
    """Rows of results for a to-do list, lazily. One row per frame all the way: tiles never leave an actor."""
    resources = config.resources
    filesystem, path = storage.arrow(todo_uri)
    return (
        ray.data.read_parquet(path, filesystem=filesystem)
        .repartition(target_num_rows_per_block=resources.frames_per_block)
        .map_batches(
            partial(fetch, archive_uri=archive_uri, storage=storage),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.TaskPoolStrategy(size=resources.download_tasks),
            num_cpus=_CPUS_PER_FETCH,
        )
        .map_batches(
            Segment,
            fn_constructor_args=(bundle_uri, card.weights_sha256, config, storage),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=resources.actors),
            num_cpus=_cpus_per_actor(resources),
            num_gpus=resources.gpus_per_actor,
        )
    )


def write_checkpointed(rows: ray.data.Dataset, results_uri: str, storage: Storage) -> None:
    """Write rows as they come, leaving out those whose frames the checkpoint of the context holds."""
    source = rows._logical_plan.dag
    while source.input_dependencies:
        (source,) = source.input_dependencies
    # From any other source Ray writes checkpoints and never reads them: a second run would write every row again.
    assert isinstance(source, ListFiles), f"rows that come from {source.name} cannot be resumed"
    filesystem, path = storage.arrow(results_uri)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*doesn't support checkpointing")  # Ray goes on without one
        warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")  # a short night
        rows.write_parquet(path, filesystem=filesystem)


@contextmanager
def _context(work_uri: str, storage: Storage, resources: ResourcesConfig) -> Iterator[None]:
    """Settings of Ray Data for a run; the checkpoint is gone from them afterwards."""
    filesystem, path = storage.arrow(_checkpoint_uri(work_uri))
    checkpoint = CheckpointConfig(
        id_column="frame_id",
        checkpoint_path=path,
        override_filesystem=filesystem,
        delete_checkpoint_on_success=False,
    )
    checkpoint.checkpoint_actor_pool_max_size = 1
    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = resources.no_progress_timeout_s
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.checkpoint_config = checkpoint
    try:
        yield
    finally:
        context.checkpoint_config = None


def connect(resources: ResourcesConfig) -> dict[str, float]:
    """Join the Ray that is there, or start one here, and make sure that it holds all stages at once.

    With less, Ray neither goes on nor complains. A cluster that grows is given ``wait_for_nodes_s`` to do so.

    Returns:
        What the whole cluster has, by Ray's names.

    Raises:
        ConfigurationError: No cluster answers at ``RAY_ADDRESS``, it is too small, or none can be started here.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it logs as an error, it raises too
    set_default_environment(**_RAY_SETTINGS)
    num_cpus = _needed_cpus(resources)
    if not ray.is_initialized():
        address = environment("RAY_ADDRESS")
        _check_address(address)
        with _started(address):
            ray.init(
                address=address or "local",
                num_cpus=None if address else max(_LOCAL_CPUS, _num_cores(), num_cpus),
                include_dashboard=None if address else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    num_gpus = resources.actors * resources.gpus_per_actor
    needed = {"CPU": float(num_cpus), "GPU": num_gpus}
    if _is_short_of(needed) and resources.wait_for_nodes_s:
        _wait_for_nodes(resources, needed)
    available: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if _is_short_of(needed):
        raise ConfigurationError(
            f"[resources] needs {num_cpus:g} CPUs and {num_gpus:g} GPUs at once, the Ray cluster has "
            f"{available.get('CPU', 0):g} and {available.get('GPU', 0):g}; lower actors ({resources.actors}), "
            f"cpus_per_actor ({_cpus_per_actor(resources)}), gpus_per_actor ({resources.gpus_per_actor:g}) or "
            f"download_tasks ({resources.download_tasks}), or add nodes"
        )
    return available


def _is_short_of(needed: Mapping[str, float]) -> bool:
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return any(there.get(name, 0) < amount for name, amount in needed.items())


def _wait_for_nodes(resources: ResourcesConfig, needed: Mapping[str, float]) -> None:
    """Ask the cluster's autoscaler for what all stages need; back when it is there or the time is up."""
    give_up_at = time.monotonic() + resources.wait_for_nodes_s
    num_cpus = _cpus_per_actor(resources)
    actors = [{"CPU": num_cpus, "GPU": resources.gpus_per_actor}] * resources.actors
    others = [{"CPU": 1, "GPU": 0}] * int(needed["CPU"] - resources.actors * num_cpus)
    request_resources(bundles=[*actors, *others])
    try:
        while _is_short_of(needed) and time.monotonic() < give_up_at:
            time.sleep(_LOOK_AGAIN_S)
    finally:
        request_resources(bundles=[])  # one that stands keeps idle nodes for ever; from here on the work does


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


def _num_cores() -> int:
    return os.cpu_count() or 1


def _cpus_per_actor(resources: ResourcesConfig) -> int:
    return resources.cpus_per_actor or max(1, _num_cores() // resources.actors)


def _needed_cpus(resources: ResourcesConfig) -> int:
    fetching = math.ceil(resources.download_tasks * _CPUS_PER_FETCH)
    return resources.actors * _cpus_per_actor(resources) + fetching + len(_STAGES_BESIDE)


@contextmanager
def _own_errors(work_uri: str, storage: Storage) -> Iterator[None]:
    """Bring what went wrong on a worker back as the error that was raised there."""
    try:
        yield
    except Exception as error:
        causes = [cause for cause in _causes(error) if not isinstance(cause, RayError)]
        for cause in causes:
            if isinstance(cause, ScraprayError):
                raise cause from error
        if raised_at_start := _RAISED_AT_START.search(str(error)):
            name, message = raised_at_start.groups()
            raise getattr(errors, name)(message) from error
        if isinstance(error, ExecutionTimeoutError):
            raise ConfigurationError(
                "no frame was finished within [resources] no_progress_timeout_s; see whether the cluster lost nodes "
                "or frames take longer than that, then run again: it goes on from there"
            ) from error
        storage.exists(_todo_uri(work_uri))  # says in our words why the lake cannot be reached, if that is what it was
        for cause in causes:
            if isinstance(cause, OSError):
                raise StorageError(f"cannot read or write {work_uri}: {cause}") from error
        raise


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


def _todo_uri(work_uri: str) -> str:
    return join(work_uri, "todo", "part-0.parquet")


def _checkpoint_uri(work_uri: str) -> str:
    return join(work_uri, "checkpoint")
