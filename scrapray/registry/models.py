"""The registered model on one server: its runs, its versions, and which of them is in production."""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from scrapray.errors import RegistryError
from scrapray.registry.comparison import ChampionComparison, Measured
from scrapray.registry.journal import Journal
from scrapray.registry.runs import Run
from scrapray.registry.server import Server
from scrapray.registry.versions import CANDIDATE, CHAMPION, MODEL_NAME, ModelVersion, fetch, read_statistics
from scrapray.statistics.promotion import MAX_RECALL_DROP, Comparison, compare

_FORMER_CHAMPIONS = "former_champions"
"""Tag of the model: numbers of the versions, the latest last."""
_PROMOTION = frozenset(
    {
        "promoted_utc",
        "replaced",
        "compared",
        "compared_on",
        "compared_split",
        "max_recall_drop",
        "forced_because",
        "forced_against",
    }
)
_ROLLBACK = frozenset({"rolled_back_utc", "rolled_back_to", "restored_utc", "restored_from"})
"""Tags of a version: what they say of its last promotion, and of what has become of it since."""


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

    def check(self) -> None:
        """Ask the server whether it is there, before work that takes long.

        Raises:
            RegistryError: It does not answer, or does not let us in.
        """
        with self._server.explained("keep runs"):
            self._server.client.search_experiments(max_results=1)

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

    def compare(
        self,
        candidate: ModelVersion,
        champion: ModelVersion,
        *,
        measured: Measured | None = None,
        max_recall_drop: float = MAX_RECALL_DROP,
    ) -> Comparison:
        """Two versions on one test split, see ``promotion.compare``.

        Args:
            candidate: The version that waits.
            champion: The one in production, or any other.
            measured: What both scored on the test split of a dataset; by default what training measured counts.
            max_recall_drop: See there.

        Raises:
            RegistryError: They cannot be compared.
        """
        try:
            statistics = [
                measured.statistics[version.version] if measured else read_statistics(self._server, version)
                for version in (candidate, champion)
            ]
            return compare(*statistics, max_recall_drop=max_recall_drop)
        except ValueError as error:
            raise RegistryError(
                f"cannot compare version {candidate.version} with version {champion.version}: {error}"
            ) from error

    def compare_with_champion(
        self, version: ModelVersion, *, measured: Measured | None = None, max_recall_drop: float = MAX_RECALL_DROP
    ) -> ChampionComparison | None:
        """A version beside the champion, also where they cannot be compared; None before the first promotion.

        The arguments are those of ``compare``.

        Raises:
            RegistryError: The version is the champion already, or another one than was measured is.
        """
        champion = self.rival_of(version)
        if champion is None:
            return None
        if measured and champion.version not in measured.statistics:
            raise RegistryError(
                f"version {champion.version} became the champion while others were measured; give the command again"
            )
        result = None
        try:
            result = self.compare(version, champion, measured=measured, max_recall_drop=max_recall_drop)
            objections = result.faults
        except RegistryError as error:
            objections = (str(error),)
        return ChampionComparison(
            candidate=version.version,
            champion=champion.version,
            dataset=measured.dataset if measured else None,
            result=result,
            objections=objections,
        )

    def champion(self) -> ModelVersion | None:
        """The version in production; None before the first promotion."""
        return next((version for version in self.list_versions() if CHAMPION in version.aliases), None)

    def rival_of(self, version: ModelVersion) -> ModelVersion | None:
        """The champion, whose place a version is to take; None before the first promotion.

        Raises:
            RegistryError: They are the same.
        """
        champion = self.champion()
        if champion and champion.version == version.version:
            raise RegistryError(f"version {version.version} is the champion already; promote another")
        return champion

    def promote(
        self, version: ModelVersion, *, comparison: ChampionComparison | None, force_reason: str | None = None
    ) -> ModelVersion | None:
        """Make a version the champion; gives the former one.

        Its tags say of this promotion when it was, what was compared, and what was forced and why; nothing stays of an
        earlier one.

        Args:
            version: The new champion.
            comparison: With the present champion; not needed where there is none, or by force.
            force_reason: Why it is promoted whatever speaks against it.

        Raises:
            RegistryError: Something speaks against it, the champion is another one than was compared, the version is
                the champion already, or the reason is blank.
        """
        version, champion = self.show(str(version.version)), self.rival_of(version)
        _check_promotion(version, champion, comparison, force_reason)
        notes = {"promoted_utc": _now()}
        if champion:
            notes["replaced"] = f"version {champion.version}"
        if champion and comparison:
            notes |= comparison.notes()
        if force_reason:
            notes["forced_because"] = force_reason.strip()
            if comparison and comparison.objections:
                notes["forced_against"] = "; ".join(comparison.objections)
        with self._server.explained(f"promote version {version.version}"):
            self._note(version, notes, _PROMOTION | _ROLLBACK)
            if champion:
                self._remember([*self._former_champions(), champion.version])
            client = self._server.client
            client.set_registered_model_alias(self._model_name, CHAMPION, str(version.version))
            if CANDIDATE in version.aliases:
                client.delete_registered_model_alias(self._model_name, CANDIDATE)
        return champion

    def rollback(self) -> ModelVersion:
        """Make the former champion the champion again; gives it.

        The tags of both versions say when, and from which or to which.

        Raises:
            RegistryError: There is no former champion.
        """
        with self._server.explained("roll back"):
            former = self._former_champions()
            if not former:
                raise RegistryError(f"{self._model_name} has no former champion to go back to; promote a version")
            left, back, now = self.champion(), self.show(str(former[-1])), _now()
            if left:
                notes = {"rolled_back_utc": now, "rolled_back_to": f"version {back.version}"}
                self._note(left, notes, _ROLLBACK)
            notes = {"restored_utc": now} | ({"restored_from": f"version {left.version}"} if left else {})
            self._note(back, notes, _ROLLBACK)
            self._server.client.set_registered_model_alias(self._model_name, CHAMPION, str(back.version))
            self._remember(former[:-1])
        return self.show(CHAMPION)

    def _note(self, version: ModelVersion, notes: Mapping[str, str], kinds: Set[str]) -> None:
        """Tag a version, and take away what earlier notes of these kinds say."""
        client, number = self._server.client, str(version.version)
        for name in (kinds & version.tags.keys()) - notes.keys():
            client.delete_model_version_tag(self._model_name, number, name)
        for name, value in notes.items():
            client.set_model_version_tag(self._model_name, number, name, value)

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
    version: ModelVersion,
    champion: ModelVersion | None,
    comparison: ChampionComparison | None,
    force_reason: str | None,
) -> None:
    if force_reason is not None and not force_reason.strip():
        raise RegistryError(f"the reason to promote version {version.version} by force is blank; say why in words")
    if champion is None:
        return
    if comparison and (comparison.candidate, comparison.champion) != (version.version, champion.version):
        raise RegistryError(
            f"version {comparison.candidate} was compared with version {comparison.champion}, but version "
            f"{version.version} would replace version {champion.version}, which is the champion now; compare these"
        )
    if force_reason:
        return
    if comparison is None:
        raise RegistryError(f"version {version.version} was not compared with the champion; compare it first")
    if comparison.objections:
        raise RegistryError(
            f"version {version.version} does not replace champion {champion.version}: "
            f"{'; '.join(comparison.objections)}; keep the champion, or promote by force with a reason"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
