"""The registered model on one server: its runs, its versions, and which of them is in production."""

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from scrapray.errors import RegistryError
from scrapray.registry.journal import Journal
from scrapray.registry.runs import Run
from scrapray.registry.server import Server
from scrapray.registry.versions import CANDIDATE, CHAMPION, MODEL_NAME, ModelVersion, fetch, read_statistics
from scrapray.statistics.promotion import Comparison, compare

_FORMER_CHAMPIONS = "former_champions"
"""Tag of the model: numbers of the versions, the latest last."""


class Registry:
    """One registered model. Connects at first use.

    Every method raises ``RegistryError`` with what, where and how to mend it.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        model_name: str = MODEL_NAME,
        journals: Path = Path("mlflow-journal"),
    ) -> None:
        """Take note of where it is.

        Args:
            tracking_uri: See ``Server``.
            model_name: Of the registered model; its trainings are grouped under this name too.
            journals: Folder on this machine for what the server does not take, one subfolder for each run.
        """
        self._server = Server(tracking_uri)
        self._model_name = model_name
        self._journals = journals

    @property
    def tracking_uri(self) -> str:
        """Of the server; it holds no secret."""
        return self._server.uri

    @contextmanager
    def start_run(self, name: str, *, run_id: str | None = None, experiment: str | None = None) -> Iterator[Run]:
        """A run that ends with this context. Sends first what others kept.

        Args:
            name: Of the run.
            run_id: Of an earlier run that goes on.
            experiment: Name of the group that a new run belongs to; by default that of the model.
        """
        with self._server.explained("start a run"):
            run_id = run_id or self._new_run(name, experiment or self._model_name)
            self._server.client.update_run(run_id, status="RUNNING")
        self.send_journals()
        run = self._run(run_id)
        try:
            yield run
        except BaseException as error:
            run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        run.end("FINISHED")

    def send_journals(self) -> int:
        """Send what runs of this machine could not tell the server; gives the number of runs that still wait."""
        folders = [path for path in self._journals.glob("*") if path.is_dir()]
        return sum(not self._run(folder.name).send_kept() for folder in folders)

    def resolve(self, uri: str) -> ModelVersion:
        """The version that ``models:/<name>@<alias>`` or ``models:/<name>/<number>`` names now."""
        match = re.fullmatch(r"models:/([^/@]+)[@/]([^/@]+)", uri)
        if not match:
            raise RegistryError(f"cannot use {uri}; give models:/{MODEL_NAME}@{CHAMPION} or models:/{MODEL_NAME}/3")
        return self._find(*match.groups())

    def show(self, version: str) -> ModelVersion:
        """The version of the model with this number or alias."""
        return self._find(self._model_name, version)

    def list_versions(self) -> list[ModelVersion]:
        """All versions of the model, the newest first; none before the first was registered."""
        with self._server.explained(f"list versions of {self._model_name}"):
            client = self._server.reader
            found = client.search_model_versions(f"name='{self._model_name}'")
            aliases = client.get_registered_model(self._model_name).aliases if found else {}
        versions = (
            ModelVersion.of(each, tuple(alias for alias, number in aliases.items() if int(number) == int(each.version)))
            for each in found
        )
        return sorted(versions, key=lambda each: -each.version)

    def download(self, version: ModelVersion, cache_dir: Path) -> Path:
        """Folder of a version's bundle: ``cache_dir``/<bundle sha256>, downloaded if it is not there.

        It appears there in one step, and only when card and weights are those that were registered.

        Raises:
            ModelError: They are not.
        """
        from scrapray.segmenter.bundle import check_bundle

        place = cache_dir / version.bundle_sha256
        if place.is_dir():
            return place
        with self._server.explained(f"keep {version.uri} in {cache_dir}"):
            cache_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".unfinished-") as folder:
                found = fetch(self._server, version, Path(folder))
                check_bundle(found, version.bundle_sha256)
                try:
                    found.rename(place)
                except OSError:
                    if not place.is_dir():  # else somebody was faster, with the same bytes
                        raise
        return place

    def compare(self, candidate: ModelVersion, champion: ModelVersion) -> Comparison:
        """Both versions on the test split that they were measured on, see ``promotion.compare``."""
        try:
            return compare(*(read_statistics(self._server, version) for version in (candidate, champion)))
        except ValueError as error:
            raise RegistryError(
                f"cannot compare version {candidate.version} with version {champion.version}: {error}"
            ) from error

    def compare_with_champion(self, version: ModelVersion) -> Comparison | None:
        """A version beside the one in production; None before the first promotion."""
        champion = self.champion()
        return self.compare(version, champion) if champion else None

    def champion(self) -> ModelVersion | None:
        """The version in production; None before the first promotion."""
        return next((version for version in self.list_versions() if CHAMPION in version.aliases), None)

    def promote(
        self, version: ModelVersion, *, comparison: Comparison | None, force_reason: str | None = None
    ) -> ModelVersion | None:
        """Make a version the champion; gives the former one.

        Args:
            version: The new champion.
            comparison: With the present champion; not needed where there is none, or by force. Recorded in tags of the
                version.
            force_reason: Why it is promoted whatever the comparison says; recorded with what spoke against it.

        Raises:
            RegistryError: The comparison speaks against it, or it is the champion already.
        """
        champion = self.champion()
        _check_promotion(version, champion, comparison, force_reason)
        tags = {"promoted_utc": datetime.now(UTC).isoformat(timespec="seconds")}
        if champion and comparison:
            tags["compared"] = (
                f"AP {comparison.candidate_ap:.4f}, that of version {champion.version} {comparison.champion_ap:.4f}"
            )
        if force_reason:
            tags["forced_because"] = force_reason
            if comparison and comparison.faults:
                tags["forced_against"] = "; ".join(comparison.faults)
        with self._server.explained(f"promote version {version.version}"):
            client, number = self._server.client, str(version.version)
            for key, value in tags.items():
                client.set_model_version_tag(self._model_name, number, key, value)
            if champion:
                self._remember([*self._former_champions(), champion.version])
            client.set_registered_model_alias(self._model_name, CHAMPION, number)
            if CANDIDATE in version.aliases:
                client.delete_registered_model_alias(self._model_name, CANDIDATE)
        return champion

    def rollback(self) -> ModelVersion:
        """Make the former champion the champion again; gives it.

        Raises:
            RegistryError: There is no former champion.
        """
        with self._server.explained("roll back"):
            former = self._former_champions()
            if not former:
                raise RegistryError(f"{self._model_name} has no former champion to go back to; promote a version")
            self._server.client.set_registered_model_alias(self._model_name, CHAMPION, str(former[-1]))
            self._remember(former[:-1])
        return self.show(CHAMPION)

    def _new_run(self, name: str, experiment: str) -> str:
        client = self._server.client
        known = client.get_experiment_by_name(experiment)
        if known:
            experiment_id = known.experiment_id
        else:
            beside = (self._server.file.parent / "mlartifacts").as_uri() if self._server.file else None
            experiment_id = client.create_experiment(experiment, artifact_location=beside)
        run_id: str = client.create_run(experiment_id, run_name=name).info.run_id
        return run_id

    def _run(self, run_id: str) -> Run:
        return Run(self._server, run_id, self._model_name, Journal(self._journals / run_id))

    def _find(self, name: str, reference: str) -> ModelVersion:
        with self._server.explained(f"find {reference} of {name}"):
            client = self._server.reader
            if reference.isdecimal():
                found = client.get_model_version(name, reference)
            else:
                found = client.get_model_version_by_alias(name, reference)
            return ModelVersion.of(found, tuple(found.aliases))

    def _former_champions(self) -> list[int]:
        tags = self._server.reader.get_registered_model(self._model_name).tags
        return [int(number) for number in json.loads(tags.get(_FORMER_CHAMPIONS, "[]"))]

    def _remember(self, former: Sequence[int]) -> None:
        self._server.client.set_registered_model_tag(self._model_name, _FORMER_CHAMPIONS, json.dumps(former))


def _check_promotion(
    version: ModelVersion, champion: ModelVersion | None, comparison: Comparison | None, force_reason: str | None
) -> None:
    if champion is None:
        return
    if champion.version == version.version:
        raise RegistryError(f"version {version.version} is the champion already; promote another")
    if force_reason:
        return
    if comparison is None:
        raise RegistryError(f"version {version.version} was not compared with the champion; compare it first")
    if comparison.faults:
        raise RegistryError(
            f"version {version.version} does not replace champion {champion.version}: {'; '.join(comparison.faults)}; "
            f"keep the champion, or promote by force with a reason"
        )
