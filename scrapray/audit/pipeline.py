"""The part of an audit that runs on Ray: frames of a manifest -> one row of results each, resumable at any time.

    to-do list (Parquet) -> small blocks -> fetch bytes (tasks) -> segment (actors) -> checkpointed write

    <work>/todo/part-0.parquet     frames to do
    <work>/checkpoint/             ids of the frames whose rows are written
    <work>/results/                the rows (``schema.RESULTS``)

A killed run leaves rows and their ids behind, and the next run with the same work folder does what is left; frames
that could not be downloaded, or are of another camera now, are left too. Start one run per process: after a failed one,
Ray may not give its actors back to a second.
"""

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.data._internal.logical.operators import ListFiles
from ray.data.checkpoint import CheckpointConfig

from scrapray import cluster
from scrapray.audit.actors import Segment, classes_of
from scrapray.audit.fetch import fetch
from scrapray.audit.ledger import Ledger, Progress
from scrapray.audit.retries import forget_outdated, forget_unfinished_writes
from scrapray.config import AuditConfig, ResourcesConfig
from scrapray.lake import write_table
from scrapray.schema import WORK_LIST
from scrapray.segmenter.bundle import BundleCard
from scrapray.storage import Storage, common_folder, join

_CPUS_PER_FETCH = 0.5
"""Unlike what an actor takes, or else Ray puts both stages into one and the actor waits for every frame."""
_FEW_HEAPS = {"env_vars": {"MALLOC_ARENA_MAX": "2"}}
"""How actors are started. With one heap per thread, glibc's default, their memory grows from frame to frame: what one
thread has freed another cannot have."""
_STAGES_BESIDE = ("read", "checkpoint filter", "write")
"""What takes a CPU each beside fetching and segmenting."""


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
        card: Its card; workers refuse a bundle with another one.
        config: What decides the result, and the resources to take.
        progress: Called every few seconds.

    Raises:
        ConfigurationError: Ray cannot hold all stages at once, or the configuration does not fit the bundle.
        ModelError: The bundle cannot be loaded.
        StorageError: Frames cannot be had for a reason that is not their own, or results cannot be written.
    """
    started_s = time.monotonic()
    classes_of(card, config.segment)
    todo = manifest.filter(pc.is_null(manifest["reject_stage"])).select(WORK_LIST.names)
    forget_unfinished_writes(_results_uri(work_uri), _checkpoint_uri(work_uri), storage)
    forget_outdated(_results_uri(work_uri), _checkpoint_uri(work_uri), todo, storage)
    ledger = Ledger(_checkpoint_uri(work_uri), storage, todo["frame_id"])
    num_done_before = ledger.num_done()
    if num_done_before < ledger.num_total:
        connect(config.resources)
        write_table(todo, WORK_LIST, _todo_uri(work_uri), storage)
        with (
            ledger.reported(progress),
            cluster.own_errors(work_uri, storage),
            _context(work_uri, storage, config.resources),
        ):
            rows = plan(
                _todo_uri(work_uri),
                archive_uri=common_folder(todo["uri"].to_pylist()),
                storage=storage,
                bundle_uri=bundle_uri,
                card=card,
                config=config,
            )
            write_checkpointed(rows, _results_uri(work_uri), storage)
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
            fn_constructor_args=(bundle_uri, card, config, storage),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=resources.actors),
            num_cpus=_cpus_per_actor(resources),
            num_gpus=resources.gpus_per_actor,
            runtime_env=_FEW_HEAPS,
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
    context = cluster.set_up_data(resources.no_progress_timeout_s)
    context.checkpoint_config = checkpoint
    try:
        yield
    finally:
        context.checkpoint_config = None


def connect(resources: ResourcesConfig) -> dict[str, float]:
    """Join Ray and make sure that it holds all stages of an audit at once.

    Returns:
        What the whole cluster has, by Ray's names.

    Raises:
        ConfigurationError: See ``cluster.join``.
    """
    actor = {"CPU": float(_cpus_per_actor(resources)), "GPU": resources.gpus_per_actor}
    num_others = math.ceil(resources.download_tasks * _CPUS_PER_FETCH) + len(_STAGES_BESIDE)
    return cluster.join(
        what="[resources]",
        bundles=[*[actor] * resources.actors, *[{"CPU": 1.0}] * num_others],
        wait_s=resources.wait_for_nodes_s,
        mend=f"lower actors ({resources.actors}), cpus_per_actor ({_cpus_per_actor(resources)}), "
        f"gpus_per_actor ({resources.gpus_per_actor:g}) or download_tasks ({resources.download_tasks}), or add nodes",
    )


def _cpus_per_actor(resources: ResourcesConfig) -> int:
    return resources.cpus_per_actor or max(1, cluster.num_cores() // resources.actors)


def _todo_uri(work_uri: str) -> str:
    return join(work_uri, "todo", "part-0.parquet")


def _results_uri(work_uri: str) -> str:
    return join(work_uri, "results")


def _checkpoint_uri(work_uri: str) -> str:
    return join(work_uri, "checkpoint")
