"""cluster.yaml: Ray's own checks and ours, and the two modules that its nodes run."""

import copy
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from ray.autoscaler._private.providers import _get_node_provider_cls
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent

from infra.fetch_secret import fetch_secret
from infra.spot_first import SpotFirstNodeProvider
from tests.unit.infra.files import (
    KEEPALIVES,
    finetune_settings,
    ray_start_faults,
    run_tool,
    secrets_in,
    text_of,
    yaml_of,
)

Config = dict[str, Any]
START_COMMANDS = ("head_start_ray_commands", "worker_start_ray_commands")
SECRETS = ("scrapray/ray-token ~/.ray/auth_token", "scrapray/env ~/.ray/env")
"""By their names and where Ray and the commands look for them."""


@pytest.fixture
def cluster() -> Config:
    """The file as ``ray up`` reads it, each time a new one."""
    prepared: Config = prepare_config(yaml_of("cluster.yaml"))
    return copy.deepcopy(prepared)


def faults(cluster: Config) -> list[str]:
    """What is wrong with a cluster that Ray itself would start without complaint, one phrase each."""
    return [*_head_faults(cluster), *_node_faults(cluster), *_start_faults(cluster)]


def _head_faults(cluster: Config) -> Iterator[str]:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    if head["resources"].get("CPU") != 0 or "--num-cpus=0" not in _ray_start(cluster, "head_start_ray_commands"):
        yield "the head runs tasks"
    if "InstanceMarketOptions" in head["node_config"]:
        yield "the head is on spot"


def _node_faults(cluster: Config) -> Iterator[str]:
    provider = cluster["provider"]
    falls_back = issubclass(_get_node_provider_cls(provider), SpotFirstNodeProvider)
    for name, node in cluster["available_node_types"].items():
        if "InstanceMarketOptions" in node["node_config"] and not falls_back:
            yield f"{name} is on spot without a fallback"
        if "IamInstanceProfile" not in node["node_config"]:
            yield f"{name} has no instance profile, so it cannot read Ray's token"
    if f"--env=AWS_DEFAULT_REGION={provider['region']}" not in cluster["docker"]["run_options"]:
        yield "the containers do not know their region"
    if "--entrypoint=/usr/bin/env" not in cluster["docker"]["run_options"]:
        yield "Ray's bash is given to the image's entrypoint"


def _start_faults(cluster: Config) -> Iterator[str]:
    for kind in START_COMMANDS:
        commands = cluster[kind]
        *before, last = commands
        for secret in SECRETS:
            if f"python -m infra.fetch_secret {secret}" not in before:
                yield f"{kind}: Ray starts before the secret {secret} is there"
        for setting in ["RAY_AUTH_MODE=token", *(f"{name}={value}" for name, value in KEEPALIVES.items())]:
            if setting not in shlex.split(last.rpartition(";")[0].rpartition(";")[2]):
                yield f"{kind}: no {setting}"
        yield from ray_start_faults(_ray_start(cluster, kind)[2:])
        # The file with the settings is on the nodes only.
        lint = run_tool("shellcheck", "--shell=bash", "--exclude=SC1090,SC1091", "-", given="\n".join(commands))
        if lint.returncode:
            yield f"{kind}: {lint.stdout}"


def _ray_start(cluster: Config, kind: str) -> list[str]:
    """The last command without its settings: ``ray start`` and its arguments."""
    return shlex.split(cluster[kind][-1].rpartition(";")[2])


def test_ray_and_we_find_nothing_wrong_with_the_cluster(cluster: Config) -> None:
    validate_config(cluster)
    assert faults(cluster) == []


def test_the_cluster_has_spot_gpus_and_cpus_that_go_away_when_nobody_needs_them(cluster: Config) -> None:
    workers = {name: node for name, node in cluster["available_node_types"].items() if name != "head"}
    assert set(workers) == {"gpu", "cpu"}
    assert all(node["min_workers"] == 0 < node["max_workers"] for node in workers.values())
    assert all(node["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"} for node in workers.values())
    assert cluster["max_workers"] == sum(node["max_workers"] for node in workers.values())


def _without(kind: str, words: str) -> Callable[[Config], None]:
    def change(cluster: Config) -> None:
        cluster[kind] = [command.replace(words, "") for command in cluster[kind]]

    return change


def _on_plain_aws(cluster: Config) -> None:
    cluster["provider"]["type"] = "aws"


def _with_tasks_on_the_head(cluster: Config) -> None:
    cluster["available_node_types"]["head"]["resources"] = {}


def _with_a_head_on_spot(cluster: Config) -> None:
    cluster["available_node_types"]["head"]["node_config"]["InstanceMarketOptions"] = {"MarketType": "spot"}


def _without_run_options(cluster: Config) -> None:
    cluster["docker"]["run_options"] = []


def _without_profile(cluster: Config) -> None:
    del cluster["available_node_types"]["gpu"]["node_config"]["IamInstanceProfile"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_on_plain_aws, "gpu is on spot without a fallback"),
        (_with_tasks_on_the_head, "the head runs tasks"),
        (_without("head_start_ray_commands", "--num-cpus=0"), "the head runs tasks"),
        (_with_a_head_on_spot, "the head is on spot"),
        (_without_profile, "gpu has no instance profile"),
        (_without_run_options, "Ray's bash is given to the image's entrypoint"),
        (_without("head_start_ray_commands", "RAY_AUTH_MODE=token"), "head_start_ray_commands: no RAY_AUTH_MODE=token"),
        (
            _without("worker_start_ray_commands", "scrapray/ray-token"),
            "Ray starts before the secret scrapray/ray-token",
        ),
        (_without("head_start_ray_commands", "scrapray/env"), "Ray starts before the secret scrapray/env"),
        (_without("worker_start_ray_commands", "RAY_grpc_client_keepalive_time_ms=10000"), "no RAY_grpc_client"),
        (_without("worker_start_ray_commands", "RAY_grpc_client_keepalive_timeout_ms=5000"), "no RAY_grpc_client"),
        (_without("worker_start_ray_commands", "ress"), "No such option"),
        (_without("worker_start_ray_commands", '"'), "SC2086"),
    ],
)
def test_a_cluster_that_lacks_something_is_refused(
    cluster: Config, change: Callable[[Config], None], fault: str
) -> None:
    change(cluster)
    assert any(fault in found for found in faults(cluster))


def test_a_cluster_with_an_unknown_key_is_refused_by_ray(cluster: Config) -> None:
    cluster["available_node_types"]["gpu"]["max_worker"] = 3
    with pytest.raises(Exception, match="max_worker"):
        validate_config(cluster)


def test_the_cluster_holds_no_secret() -> None:
    text = text_of("cluster.yaml")
    assert secrets_in(text) == []
    assert secrets_in(text.replace("RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN=0123abcd"))


class Ec2:
    """EC2's answers to ``RunInstances``: no spot, or nothing at all for who has no right."""

    def __init__(self, *, refusal: str, on_demand: bool = True) -> None:
        self.refusal = refusal
        self.on_demand = on_demand
        self.asked: list[Config] = []

    def create_instances(self, **request: Any) -> list[Any]:
        self.asked.append(request)
        if "InstanceMarketOptions" in request or not self.on_demand:
            raise ClientError({"Error": {"Code": self.refusal, "Message": "no"}}, "RunInstances")
        return [Ec2Instance(f"i-{number}") for number in range(request["MaxCount"])]


class Ec2Instance:
    """What Ray's provider reads of a new instance."""

    def __init__(self, number: str) -> None:
        self.id = self.instance_id = number
        self.state_reason = None
        self.state = {"Name": "pending"}


def _launch(ec2: Ec2, cluster: Config, monkeypatch: pytest.MonkeyPatch, *, node_type: str = "gpu") -> Config:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "unused")
    provider = _get_node_provider_cls(cluster["provider"])(cluster["provider"], "scrapray")
    provider.ec2_fail_fast = ec2
    node = {**cluster["available_node_types"][node_type]["node_config"], "SubnetIds": ["subnet-a", "subnet-b"]}
    created: Config = provider.create_node(node, {"ray-node-type": "worker", "ray-user-node-type": node_type}, 2)
    return created


def test_a_launch_refused_on_spot_in_all_zones_is_repeated_on_demand_as_the_same_node_type(
    cluster: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = Ec2(refusal="InsufficientInstanceCapacity")
    assert set(_launch(ec2, cluster, monkeypatch)) == {"i-0", "i-1"}
    *on_spot, on_demand = ec2.asked
    assert {request["SubnetId"] for request in on_spot} == {"subnet-a", "subnet-b"}
    assert all("InstanceMarketOptions" in request for request in on_spot)
    assert "InstanceMarketOptions" not in on_demand
    assert on_demand["InstanceType"] == on_spot[0]["InstanceType"]
    assert on_demand["TagSpecifications"] == on_spot[0]["TagSpecifications"]


@pytest.mark.parametrize(
    ("ec2", "node_type"),
    [
        (Ec2(refusal="UnauthorizedOperation"), "gpu"),
        (Ec2(refusal="InsufficientInstanceCapacity", on_demand=False), "gpu"),
        (Ec2(refusal="InsufficientInstanceCapacity", on_demand=False), "head"),
    ],
)
def test_a_launch_refused_for_another_reason_or_on_demand_too_is_an_error(
    ec2: Ec2, node_type: str, cluster: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NodeLaunchException, match=ec2.refusal):
        _launch(ec2, cluster, monkeypatch, node_type=node_type)
    if ec2.refusal == "UnauthorizedOperation":
        assert all("InstanceMarketOptions" in request for request in ec2.asked)


def test_ray_itself_still_forgets_which_node_type_was_refused() -> None:
    """When this fails, Ray falls back to another node type by itself and ``infra/spot_first.py`` can go."""
    monitor = CloudResourceMonitor()
    refused = InstanceUpdateEvent(instance_type="gpu", new_instance_status=Instance.ALLOCATION_FAILED)
    monitor.notify([refused])
    assert monitor.get_resource_availabilities() == {}
    assert monitor.get_recoverable_resource_availabilities() == {}


@pytest.mark.parametrize("kind", START_COMMANDS)
def test_ray_and_so_its_tasks_and_jobs_get_the_settings_of_the_secret(
    cluster: Config, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / ".ray" / "env"
    path.parent.mkdir()
    path.write_text("MLFLOW_TRACKING_URI=http://mlflow.internal:5000\nMLFLOW_TRACKING_PASSWORD='a $b  c'")
    print_instead = f"ray() {{ {sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'; }}"
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "RAY_HEAD_IP": "10.0.0.1"}
    ran = subprocess.run(
        ["bash", "-c", f"{print_instead}\n{cluster[kind][-1]}"], env=environment, capture_output=True, check=True
    )
    got = json.loads(ran.stdout)
    assert got["MLFLOW_TRACKING_URI"] == "http://mlflow.internal:5000"
    assert got["MLFLOW_TRACKING_PASSWORD"] == "a $b  c"
    assert got["RAY_AUTH_MODE"] == "token"


def test_a_training_with_the_settings_of_the_readme_takes_every_gpu_node(cluster: Config, tmp_path: Path) -> None:
    workers = finetune_settings("AWS", tmp_path).workers
    assert workers.max == cluster["available_node_types"]["gpu"]["max_workers"]
    assert workers.wait_for_nodes_s > 0


def test_a_secret_is_written_for_its_owner_only_and_in_place_of_an_older_one(tmp_path: Path) -> None:
    old = tmp_path / ".ray" / "auth_token"
    old.parent.mkdir()
    old.write_text("old")
    old.chmod(0o644)
    client = boto3.client(
        "secretsmanager", region_name="eu-central-1", aws_access_key_id="unused", aws_secret_access_key="unused"
    )
    with Stubber(client) as stubber:
        stubber.add_response("get_secret_value", {"SecretString": "new\n"}, {"SecretId": "scrapray/ray-token"})
        fetch_secret("scrapray/ray-token", old, client)
    assert old.read_text() == "new"
    assert old.stat().st_mode & 0o777 == 0o600
