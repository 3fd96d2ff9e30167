"""The deployment files as their readers see them, and what is checked in more than one kind of them."""

import re
import shlex
import subprocess
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from ray.scripts.scripts import start

from scrapray.training.config import FinetuneConfig
from scrapray.training.profiles import read_finetune

REPOSITORY = Path(__file__).parents[3]
README = "infra/README.md"
KEEPALIVES = {"RAY_grpc_client_keepalive_time_ms": "10000", "RAY_grpc_client_keepalive_timeout_ms": "5000"}
"""With these on every node and driver, tasks of a node that was cut off run elsewhere within half a minute."""

_SECRET_NAME = r"[A-Z_]*(?:TOKEN|SECRET|PASSWORD|ACCESS_KEY)[A-Z_]*"
_SECRET = re.compile(
    rf"AKIA[0-9A-Z]{{16}}|-----BEGIN|\b{_SECRET_NAME}[\"']?[ \t]*[=:][ \t]*[\"']?[^\s\"'$]|name: {_SECRET_NAME}, value:"
)


def text_of(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def yaml_of(path: str) -> Any:
    return yaml.safe_load(text_of(path))


def finetune_settings(section: str, folder: Path) -> FinetuneConfig:
    """What infra/README.md says under a heading that finetune.toml must hold, as trainings read it."""
    (block,) = re.findall(rf"^## {section}$(?:(?!^## ).)*?^ *```toml\n(.+?)^ *```$", text_of(README), flags=re.M | re.S)
    path = folder / "finetune.toml"
    path.write_text(textwrap.dedent(block), encoding="utf-8")
    return read_finetune(path)


def secrets_in(text: str) -> list[str]:
    """What looks like a secret, or like a variable for one that is given a value."""
    return _SECRET.findall(text)


def run_tool(name: str, *arguments: str, given: str | None = None) -> "subprocess.CompletedProcess[str]":
    """One of the linters that are installed beside this Python."""
    tool = Path(sysconfig.get_path("scripts")) / name
    return subprocess.run([tool, *arguments], input=given, capture_output=True, text=True, timeout=60)


def ray_start_faults(arguments: list[str]) -> Iterator[str]:
    """What the installed Ray's ``ray start`` would not take; it is not started."""
    try:
        start.make_context("ray start", list(arguments))
    except click.ClickException as error:
        yield f"ray start {shlex.join(arguments)}: {error.format_message()}"
