"""One run on the server, and what becomes of it while the server does not answer."""

import json
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import scrapray
from scrapray.errors import ModelError, RegistryError, SchemaError
from scrapray.registry.journal import Call, Journal
from scrapray.registry.server import Server
from scrapray.registry.versions import ModelVersion, register, split_tag

_ASK_AGAIN_AFTER_S = 60.0
"""To ask a server that does not answer takes several seconds, in which a training would stand still."""
_MOST_PARAMS = 100
_MOST_FIGURES = 1000
"""The most that the server takes in one call, of each."""

_log = logging.getLogger(__name__)


class Run:
    """One run. None of its methods stops the work that it describes.

    What the server does not take is kept in a journal on this machine, with one line of warning. It is sent when the
    server answers again: by a later call, at the end of the run, or when the next run begins. Each call may reach the
    server twice without harm.
    """

    def __init__(self, server: Server, run_id: str, model_name: str, journal: Journal) -> None:
        self.run_id = run_id
        self._server = server
        self._model_name = model_name
        self._journal = journal
        self._is_silent = False
        self._has_said_so = False
        self._ask_again_s = 0.0

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log figures of one step; their names may hold letters, digits, blanks and ``_ - . / :``."""
        now_ms = _now_ms()
        figures = [[as_logged(name), float(value), now_ms, step] for name, value in values.items()]
        self._send({"call": "metrics", "figures": figures})

    def set_tags(self, values: Mapping[str, str]) -> None:
        """Say what runs can be found by."""
        self._send({"call": "tags", "values": dict(values)})

    def log_settings(self, settings: Mapping[str, Any], *, dataset_card: Mapping[str, Any]) -> None:
        """Log what the run is made of: settings (nested ones as ``section.key``), dataset, and version of the code.

        Settings and card are kept whole as files too, since the server cuts long values.
        """
        tags = {"code_version": scrapray.__version__, "dataset_sha256": str(dataset_card["dataset_sha256"])}
        self.set_tags(tags)
        self._send({"call": "params", "values": dict(_flat(settings))})
        with tempfile.TemporaryDirectory(prefix="scrapray-run-") as folder:
            for name, values in (("settings.json", settings), ("dataset_card.json", dataset_card)):
                path = Path(folder) / name
                path.write_text(json.dumps(values, indent=2, default=str), encoding="utf-8")
                self.log_file(path)

    def log_file(self, path: Path, folder: str = "") -> None:
        """Log a file, such as a chart or a page of overlays, below a folder of the run's artifacts."""
        self._send({"call": "file", "path": str(path), "folder": folder})

    def register_bundle(self, folder: Path, tags: Mapping[str, str] | None = None) -> ModelVersion | None:
        """Log a bundle and make it a version of the model, which becomes the candidate.

        Args:
            folder: Of the bundle, with ``TEST_STATISTICS`` in it: without, it can only be promoted by force.
            tags: Added to those that come from its card.

        Returns:
            The version; None where the server does not take it now, and it will be registered later.

        Raises:
            ModelError: The bundle is damaged.
            SchemaError: The statistics are.
        """
        from scrapray.segmenter.bundle import check_bundle

        check_bundle(folder)
        values = {**(tags or {}), **split_tag(folder)}
        version: ModelVersion | None = self._send({"call": "bundle", "path": str(folder), "values": values})
        return version

    def end(self, status: str) -> None:
        """Close the run as ``FINISHED``, ``FAILED`` or ``KILLED``, and say what could not be sent."""
        self.send_kept()
        self._send({"call": "end", "status": status, "time_ms": _now_ms()})
        if waiting := self._journal.calls():
            _log.warning(
                "scrapray: %d entries of run %s wait in %s; they are sent when the next run begins there",
                len(waiting),
                self.run_id,
                self._journal.folder,
            )

    def send_kept(self) -> bool:
        """Send what waits in the journal; gives whether nothing is left."""
        self._is_silent = False
        waiting = self._journal.calls()
        sent = [call for group in _groups(waiting) for call in self._send_group(group)]
        if sent:
            self._journal.drop(sent)
        return len(sent) == len(waiting)

    def _send_group(self, group: list[Call]) -> list[Call]:
        """Send calls together; gives those that the server has taken."""
        if self._is_silent:
            return []
        if self._try(_merged(group), is_whole=len(group) == 1)[0]:
            return group
        if len(group) == 1:
            return []
        half = len(group) // 2  # one of them is to blame, and the others shall not wait for it
        return self._send_group(group[:half]) + self._send_group(group[half:])

    def _send(self, call: Call) -> Any:
        """Tell the server, now or later; gives its answer, None where it has not taken the call."""
        if self._is_silent and time.monotonic() >= self._ask_again_s:
            self.send_kept()
        if not self._is_silent:
            is_taken, answer = self._try(call)
            if is_taken:
                return answer
        self._keep(call)
        return None

    def _keep(self, call: Call) -> None:
        try:
            self._journal.keep(call)
        except OSError as error:
            _log.warning(
                "scrapray: %s of run %s can neither be sent nor kept in %s, and is lost: %s",
                call["call"],
                self.run_id,
                self._journal.folder,
                error.strerror or error,
            )

    def _try(self, call: Call, *, is_whole: bool = True) -> tuple[bool, Any]:
        """Whether the server takes a call, and its answer; says why not, but for refused calls that are not whole."""
        try:
            with self._server.explained(f"log {call['call']} of run {self.run_id}"):
                answer = self._perform(call)
        except (ModelError, SchemaError) as error:
            # What a call speaks of is damaged or gone: no reason for the others to wait, or for the work to stop.
            _log.warning("scrapray: cannot log %s of run %s: %s", call["call"], self.run_id, error)
            return False, None
        except RegistryError as error:
            self._is_silent = error.reason == "unreachable"
            self._ask_again_s = time.monotonic() + _ASK_AGAIN_AFTER_S
            is_news = not self._has_said_so if self._is_silent else is_whole
            if is_news:
                _log.warning("scrapray: %s. Work goes on; this is kept in %s", error, self._journal.folder)
            self._has_said_so = self._is_silent
            return False, None
        self._has_said_so = False
        return True, answer

    def _perform(self, call: Call) -> Any:
        from mlflow.entities import Metric, Param, RunTag

        client, values = self._server.client, call.get("values", {})
        match call["call"]:
            case "metrics":
                client.log_batch(self.run_id, metrics=[Metric(*figure) for figure in call["figures"]])
            case "tags":
                client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in values.items()])
            case "params":
                params = [Param(name, value) for name, value in values.items()]
                for start in range(0, len(params), _MOST_PARAMS):
                    client.log_batch(self.run_id, params=params[start : start + _MOST_PARAMS])
            case "file":
                client.log_artifact(self.run_id, call["path"], call["folder"] or None)
            case "bundle":
                return register(self._server, self._model_name, self.run_id, Path(call["path"]), values)
            case "end":
                client.set_terminated(self.run_id, call["status"], call["time_ms"])
        return None


def as_logged(name: str) -> str:
    """The name of a figure as the server takes it: no part between slashes is empty, ``.`` or ``..``.

    A part that is empty, or begins with a dot or a colon, gets a colon in front; so no two names become one.
    """
    return re.sub(r"(?<![^/])(?=[:./]|$)", ":", name)


def _groups(calls: Sequence[Call]) -> Iterator[list[Call]]:
    """Calls in order, metrics that follow each other together: an hour of training has thousands."""
    group: list[Call] = []
    for call in calls:
        is_full = sum(len(each["figures"]) for each in [*group, call] if "figures" in each) > _MOST_FIGURES
        if group and (is_full or {group[-1]["call"], call["call"]} != {"metrics"}):
            yield group
            group = []
        group.append(call)
    if group:
        yield group


def _merged(group: Sequence[Call]) -> Call:
    """One call that says all that a group says."""
    if len(group) == 1:
        return group[0]
    return {"call": "metrics", "figures": [figure for call in group for figure in call["figures"]]}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, default=str)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
