import os
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError
from botocore.exceptions import ClientError, EndpointConnectionError

from scrapray.cluster import num_cores, own_errors, without_room
from scrapray.errors import StorageError
from scrapray.storage import Storage

GPU_NODE, CPU_NODE = {"GPU": 1.0, "CPU": 2.0, "memory": 1e9}, {"CPU": 32.0}


@pytest.mark.parametrize(
    ("bundles", "nodes", "num_homeless"),
    [
        ([], [], 0),
        ([{"CPU": 1.0}], [], 1),
        ([{"CPU": 1.0}] * 8, [{"CPU": 8.0}], 0),
        ([{"CPU": 1.0}] * 9, [{"CPU": 8.0}], 1),
        ([{"GPU": 1.0, "CPU": 2.0}], [GPU_NODE, CPU_NODE], 0),
        ([{"GPU": 1.0, "CPU": 4.0}], [GPU_NODE, CPU_NODE], 1),
        ([{"CPU": 32.0}, {"GPU": 1.0, "CPU": 2.0}], [CPU_NODE, GPU_NODE], 0),
        ([{"CPU": 2.0}, {"GPU": 0.5, "CPU": 1.0}, {"GPU": 0.5, "CPU": 1.0}], [GPU_NODE, {"CPU": 2.0}], 0),
    ],
)
def test_every_bundle_needs_a_node_of_its_own_that_has_room(
    bundles: list[dict[str, float]], nodes: list[dict[str, float]], num_homeless: int
) -> None:
    """A cluster may have enough in all, and yet no node with enough for one worker."""
    assert len(without_room(bundles, nodes)) == num_homeless


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EndpointConnectionError(endpoint_url="http://inner-host:9000/lake/_work"), "unreachable"),
        (ClientPayloadError("http://inner-host:9000 broke off"), "unreachable"),
        (ClientError({"Error": {"Code": "AccessDenied", "Message": "by inner-host"}}, "PutObject"), "forbidden"),
    ],
)
def test_what_a_store_did_to_a_worker_is_told_in_our_words_even_when_it_is_back(
    error: Exception, reason: str, tmp_path: Path
) -> None:
    expected = pytest.raises(StorageError, match=f"cannot read or write {tmp_path}: the ")
    with expected as caught, own_errors(str(tmp_path), Storage()):
        raise RuntimeError("a task failed") from error
    assert caught.value.reason == reason
    assert "inner-host" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system gives processes all cores")
def test_only_cores_that_the_process_may_use_are_counted() -> None:
    allowed = os.sched_getaffinity(0)
    assert num_cores() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert num_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_an_error_of_no_store_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), own_errors(str(tmp_path), Storage()):
        raise ZeroDivisionError
