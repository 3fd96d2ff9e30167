"""A cluster that begins with a head that runs no tasks and grows when an audit asks, by Ray's own autoscaler (v2).

Its nodes are processes of this machine, made by a provider of Ray's own tests; all else is as in cluster.yaml.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

REPOSITORY = Path(__file__).parents[2]
HEAD = "ray.head.default"  # the provider knows the head by this name
PROVIDER = {
    "type": "external",
    "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
    "head_node_id": FAKE_HEAD_NODE_ID,
    "disable_node_updaters": True,
}
NODE_TYPES = {
    HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    "gpu": {"resources": {"CPU": 4, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 1},
    "cpu": {"resources": {"CPU": 4}, "node_config": {}, "min_workers": 0, "max_workers": 1},
}
"""8 CPUs and a GPU at most."""

AUTHENTICATION = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex()}
ENVIRONMENT = {
    **AUTHENTICATION,
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_FAKE_CLUSTER": "1",
    "RAY_NODE_TYPE_NAME": HEAD,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    "RAY_enable_autoscaler_v2": "1",
}
CONNECT = """
import json, sys
from scrapray.audit.pipeline import connect
from scrapray.config import ResourcesConfig
print(json.dumps(connect(ResourcesConfig(**json.loads(sys.argv[1])))))
"""
NEEDS = {"actors": 1, "gpus_per_actor": 1, "cpus_per_actor": 3, "download_tasks": 4}


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A head in a session of its own; whatever it starts ends with it."""
    folder = tmp_path_factory.mktemp("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "cluster.json"
    settings = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
    provider = {**PROVIDER, "gcs_address": f"127.0.0.1:{port}"}
    settings |= {"provider": provider, "available_node_types": NODE_TYPES, "head_node_type": HEAD, "docker": {}}
    config.write_text(json.dumps(settings))
    ray = [str(Path(sysconfig.get_path("scripts")) / "ray"), "start", "--head", "--block", "--num-cpus=0"]
    options = [f"--port={port}", f"--temp-dir={folder}", f"--autoscaling-config={config}", "--include-dashboard=false"]
    with (folder / "log").open("w") as log:
        head = subprocess.Popen(
            [*ray, *options], env={**os.environ, **ENVIRONMENT}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_up(port)
        yield f"127.0.0.1:{port}"
    finally:
        _end_session(head.pid)
        head.wait(timeout=30)


def _wait_until_up(port: int) -> None:
    for _ in range(120):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"nobody answers at port {port}")


def _end_session(session: int) -> None:
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _connect(address: str, **resources: float) -> "subprocess.CompletedProcess[str]":
    """What a driver of its own finds; Ray takes one cluster per process."""
    return subprocess.run(
        [sys.executable, "-c", CONNECT, json.dumps(resources)],
        env={**os.environ, **AUTHENTICATION, "RAY_ADDRESS": address},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_audit_asks_for_nodes_waits_for_them_and_refuses_what_can_never_come(address: str) -> None:
    at_once = _connect(address, **NEEDS)
    assert "needs 8 CPUs and 1 GPUs at once, the Ray cluster has 0 and 0" in at_once.stderr

    grown = _connect(address, **NEEDS, wait_for_nodes_s=150)
    assert grown.returncode == 0, grown.stderr
    there = json.loads(grown.stdout.splitlines()[-1])
    assert (there["CPU"], there["GPU"]) == (8, 1)

    never = _connect(address, **{**NEEDS, "gpus_per_actor": 2}, wait_for_nodes_s=3)
    assert "needs 8 CPUs and 2 GPUs at once, the Ray cluster has 8 and 1" in never.stderr
