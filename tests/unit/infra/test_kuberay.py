"""Kubernetes files: core kinds against Kubernetes' own schemas, RayJobs against the fields of KubeRay that we use."""

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from scrapray.training.fit import resources_of
from tests.unit.infra.files import (
    KEEPALIVES,
    REPOSITORY,
    finetune_settings,
    ray_start_faults,
    secrets_in,
    text_of,
    yaml_of,
)

Manifest = dict[str, Any]
KUBERNETES = "1.34"
NIGHTLY, FINETUNE = "infra/kuberay/nightly-audit.yaml", "infra/kuberay/finetune.yaml"


def _closed(properties: Manifest, *optional: str) -> Manifest:
    """A mapping with these keys and no others."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": required}


_POSITIVE = {"type": "integer", "minimum": 1}
_TEXT = {"type": "string", "minLength": 1}
_START_PARAMETERS = {"type": "object", "additionalProperties": _TEXT}
_HEAD = {"rayStartParams": _START_PARAMETERS, "template": _closed({"spec": {"type": "object"}})}
_WORKERS = {**_HEAD, "groupName": _TEXT, "replicas": _POSITIVE, "minReplicas": _POSITIVE, "maxReplicas": _POSITIVE}
_CLUSTER = {
    "rayVersion": _TEXT,
    "authOptions": _closed({"mode": {"const": "token"}, "secretName": _TEXT}),
    "headGroupSpec": _closed(_HEAD),
    "workerGroupSpecs": {"type": "array", "items": _closed(_WORKERS), "minItems": 1},
}
RAY_JOB = _closed(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": _closed({"generateName": _TEXT}),
        "spec": _closed(
            {
                "entrypoint": _TEXT,
                "backoffLimit": {"type": "integer", "minimum": 0},
                "activeDeadlineSeconds": _POSITIVE,
                "shutdownAfterJobFinishes": {"const": True},
                "ttlSecondsAfterFinished": _POSITIVE,
                "rayClusterSpec": _closed(_CLUSTER),
            }
        ),
    }
)
"""What our RayJobs say, by the names in the reference of KubeRay 1.6 (docs.ray.io, KubeRay CRD API reference)."""


def nightly() -> dict[str, Manifest]:
    """The documents of the nightly audit by kind."""
    return {document["kind"]: document for document in yaml.safe_load_all(text_of(NIGHTLY))}


def ray_jobs() -> dict[str, Manifest]:
    return {
        "finetune": yaml_of(FINETUNE),
        "nightly-audit": yaml.safe_load(nightly()["ConfigMap"]["data"]["rayjob.yaml"]),
    }


@pytest.fixture(params=ray_jobs())
def ray_job(request: pytest.FixtureRequest) -> Manifest:
    return copy.deepcopy(ray_jobs()[request.param])


def faults(ray_job: Manifest) -> list[str]:
    """What is wrong with a RayJob, one phrase each."""
    found = [error.message for error in jsonschema.Draft202012Validator(RAY_JOB).iter_errors(ray_job)]
    return found or [*_cluster_faults(ray_job["spec"]["rayClusterSpec"])]


def _cluster_faults(cluster: Manifest) -> Iterator[str]:
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    if head["rayStartParams"].get("num-cpus") != "0":
        yield "the head runs tasks"
    if not any("nvidia.com/gpu" in _container(group)["resources"]["limits"] for group in workers):
        yield "no worker has a GPU"
    for group in (head, *workers):
        container = _container(group)
        said = {entry["name"]: entry.get("value") for entry in container["env"]}
        yield from (f"{container['name']}: no {name}={value}" for name, value in KEEPALIVES.items() if name not in said)
        yield from ray_start_faults([f"--{key}={value}" for key, value in group["rayStartParams"].items()])
        yield from _pod_faults(group["template"])
        if "nvidia.com/gpu" in container["resources"]["limits"] and not container["image"].endswith("-gpu"):
            yield f"{container['name']} has a GPU and an image without CUDA"
    for group in workers:
        if group["minReplicas"] != group["replicas"] or group["replicas"] != group["maxReplicas"]:
            yield f"{group['groupName']} changes its size, but an audit refuses a cluster that is still too small"


def _container(group: Manifest) -> Manifest:
    (container,) = group["template"]["spec"]["containers"]
    found: Manifest = container
    return found


def _pod_faults(template: Manifest) -> Iterator[str]:
    """A pod of KubeRay is a pod: Kubernetes' own schema reads what that of a RayJob would not tell."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
    try:
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield error.message
    security = template["spec"]["securityContext"]
    if not security.get("runAsNonRoot"):
        yield "a pod may run as root"
    (user,) = re.findall(r"^USER (\d+)", text_of("infra/Dockerfile"), flags=re.MULTILINE)
    if security.get("runAsUser") != int(user) or "workingDir" in template["spec"]["containers"][0]:
        yield "a pod may not write to its working folder, which the image gives to its own user"


def test_the_ray_jobs_have_no_faults(ray_job: Manifest) -> None:
    assert faults(ray_job) == []


def _spec(ray_job: Manifest) -> Manifest:
    spec: Manifest = ray_job["spec"]
    return spec


def _keep_cluster(ray_job: Manifest) -> None:
    _spec(ray_job)["shutdownAfterJobFinishes"] = False


def _misspell(ray_job: Manifest) -> None:
    _spec(ray_job)["shutdownAfterJobFinish"] = _spec(ray_job).pop("shutdownAfterJobFinishes")


def _open_to_all(ray_job: Manifest) -> None:
    del _spec(ray_job)["rayClusterSpec"]["authOptions"]


def _tasks_on_head(ray_job: Manifest) -> None:
    _spec(ray_job)["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].pop("num-cpus")


def _number_for_text(ray_job: Manifest) -> None:
    _spec(ray_job)["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0


def _unknown_flag(ray_job: Manifest) -> None:
    _spec(ray_job)["rayClusterSpec"]["workerGroupSpecs"][0]["rayStartParams"]["num-cores"] = "8"


def _without_keepalive(ray_job: Manifest) -> None:
    worker = _container(_spec(ray_job)["rayClusterSpec"]["workerGroupSpecs"][0])
    worker["env"] = worker["env"][:1]


def _without_gpu(ray_job: Manifest) -> None:
    for group in _spec(ray_job)["rayClusterSpec"]["workerGroupSpecs"]:
        _container(group)["resources"]["limits"].pop("nvidia.com/gpu", None)


def _without_cuda(ray_job: Manifest) -> None:
    _container(_spec(ray_job)["rayClusterSpec"]["workerGroupSpecs"][0])["image"] = "scrapray:0.1.0-cpu"


def _misspell_in_pod(ray_job: Manifest) -> None:
    _container(_spec(ray_job)["rayClusterSpec"]["headGroupSpec"])["volumeMount"] = []


def _as_root(ray_job: Manifest) -> None:
    _spec(ray_job)["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["securityContext"] = {}


def _as_another_user(ray_job: Manifest) -> None:
    _spec(ray_job)["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["securityContext"]["runAsUser"] = 1001


def _in_a_folder_of_root(ray_job: Manifest) -> None:
    _container(_spec(ray_job)["rayClusterSpec"]["headGroupSpec"])["workingDir"] = "/opt/scrapray"


def _autoscaled(ray_job: Manifest) -> None:
    _spec(ray_job)["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] = 99


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_keep_cluster, "True was expected"),
        (_misspell, "'shutdownAfterJobFinish' was unexpected"),
        (_open_to_all, "'authOptions' is a required property"),
        (_tasks_on_head, "the head runs tasks"),
        (_number_for_text, "0 is not of type 'string'"),
        (_unknown_flag, "No such option"),
        (_without_keepalive, "ray-worker: no RAY_grpc_client_keepalive_timeout_ms"),
        (_without_gpu, "no worker has a GPU"),
        (_without_cuda, "an image without CUDA"),
        (_misspell_in_pod, "volumeMount"),
        (_as_root, "a pod may run as root"),
        (_as_another_user, "a pod may not write to its working folder"),
        (_in_a_folder_of_root, "a pod may not write to its working folder"),
        (_autoscaled, "changes its size"),
    ],
)
def test_a_ray_job_that_lacks_something_is_refused(
    ray_job: Manifest, change: Callable[[Manifest], None], fault: str
) -> None:
    change(ray_job)
    assert any(fault in found for found in faults(ray_job))


@pytest.mark.parametrize("kind", nightly())
def test_core_kinds_fit_the_schemas_of_kubernetes_and_with_a_wrong_key_they_do_not(kind: str) -> None:
    document = nightly()[kind]
    kubernetes_validate.validate(document, KUBERNETES, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**document, "spek": {}}, KUBERNETES, strict=True)


def test_the_night_begins_at_two_and_may_do_nothing_but_create_ray_jobs() -> None:
    documents = nightly()
    cron = documents["CronJob"]["spec"]
    assert (cron["schedule"], cron["timeZone"], cron["concurrencyPolicy"]) == ("0 2 * * *", "Europe/Rome", "Forbid")
    assert documents["Role"]["rules"] == [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]}]
    assert documents["RoleBinding"]["roleRef"]["name"] == documents["Role"]["metadata"]["name"]
    pod = cron["jobTemplate"]["spec"]["template"]["spec"]
    account = documents["ServiceAccount"]["metadata"]["name"]
    assert pod["serviceAccountName"] == account == documents["RoleBinding"]["subjects"][0]["name"]
    assert pod["volumes"] == [{"name": "rayjob", "configMap": {"name": documents["ConfigMap"]["metadata"]["name"]}}]


def test_an_audit_is_given_up_before_the_next_night() -> None:
    assert ray_jobs()["nightly-audit"]["spec"]["activeDeadlineSeconds"] < 24 * 3600


@pytest.mark.parametrize(("name", "num_arguments"), [("nightly-audit", 4), ("finetune", 2)])
def test_the_ray_jobs_call_jobs_that_the_image_has(name: str, num_arguments: int) -> None:
    python, job, *arguments = ray_jobs()[name]["spec"]["entrypoint"].split()
    assert (python, len(arguments)) == ("python", num_arguments)
    assert (REPOSITORY / job.removeprefix("/opt/scrapray/")).is_file()


def test_a_training_with_the_settings_of_the_readme_takes_every_gpu_of_its_cluster(tmp_path: Path) -> None:
    (nodes,) = ray_jobs()["finetune"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    workers = finetune_settings("Kubernetes", tmp_path).workers
    takes = resources_of(workers)
    assert workers.max == nodes["replicas"]
    assert takes["GPU"] == int(_container(nodes)["resources"]["limits"]["nvidia.com/gpu"])
    assert takes["CPU"] <= int(nodes["rayStartParams"]["num-cpus"])


@pytest.mark.parametrize("path", [NIGHTLY, FINETUNE])
def test_no_kubernetes_file_holds_a_secret(path: str) -> None:
    text = text_of(path)
    assert secrets_in(text) == []
    written = text.replace("name: RAY_grpc_client_keepalive_time_ms", "name: AWS_SECRET_ACCESS_KEY")
    assert secrets_in(written)
