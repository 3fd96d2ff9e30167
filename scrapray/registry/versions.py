"""Versions of a registered model: what one is, and how a bundle becomes one.

A version lies below its run as ``model/MLmodel`` and ``model/bundle/``: files as they are, with a signature, so that
both ``scrapray audit`` and ``mlflow.pyfunc.load_model`` can use it. Nothing is exported as a graph, which would fix the
number of tiles.
"""

import json
import platform
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import scrapray
from scrapray import schema
from scrapray.errors import RegistryError
from scrapray.lake import read_table
from scrapray.registry.server import Server
from scrapray.statistics.promotion import SplitStatistics
from scrapray.storage import Storage

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.models import Model

    from scrapray.segmenter.bundle import BundleCard

MODEL_NAME = "scrap-segmenter"
CHAMPION = "champion"
CANDIDATE = "candidate"
TEST_STATISTICS = "test_statistics.parquet"
"""Name in the folder of a bundle of what its model scored on the test split (``schema.TEST_STATISTICS``)."""

_MODEL = "model"
_BUNDLE = "bundle"
_MOST_CHARACTERS = 4900
"""Of a description; the server's column takes 5000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a registered model.

    Attributes:
        name: Of the model.
        version: Number, never an alias.
        run_id: Of the run that made it.
        aliases: Those that point to it now.
        created_utc: When it was registered.
        description: From the card of its bundle.
        tags: ``weights_sha256``, ``bundle_sha256``, ``test_split_sha256``, ``classes``, ``metrics`` (of any contaminant
            on the test split), ``code_version``, and what promotion has noted.
    """

    name: str
    version: int
    run_id: str
    aliases: tuple[str, ...]
    created_utc: datetime
    description: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, found: "MlflowVersion", aliases: tuple[str, ...]) -> "ModelVersion":
        """What MLflow says of a version."""
        return cls(
            name=found.name,
            version=int(found.version),
            run_id=found.run_id or "",
            aliases=aliases,
            created_utc=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            description=found.description or "",
            tags=dict(found.tags),
        )

    @property
    def uri(self) -> str:
        """Names this version for ever, which an alias does not."""
        return f"models:/{self.name}/{self.version}"

    @property
    def weights_sha256(self) -> str:
        """Of the weights file."""
        return self._tag("weights_sha256")

    @property
    def bundle_sha256(self) -> str:
        """Of the card, which holds that of the weights: two versions may share weights and differ in thresholds."""
        return self._tag("bundle_sha256")

    def _tag(self, name: str) -> str:
        if name not in self.tags:
            raise RegistryError(f"{self.uri} has no tag {name}; register it with scrapray, or use another version")
        return self.tags[name]


def register(server: Server, model_name: str, run_id: str, folder: Path, tags: Mapping[str, str]) -> ModelVersion:
    """Log a bundle below its run and make it a version of the model, which becomes the candidate.

    Broken off and called again, it makes no second version of the same bundle.
    """
    from mlflow.exceptions import MlflowException

    from scrapray.segmenter.bundle import bundle_sha256, read_card

    client, card, sha256 = server.client, read_card(folder), bundle_sha256(folder)
    known = client.search_model_versions(f"name='{model_name}' and run_id='{run_id}'")
    version = next((each for each in known if each.tags.get("bundle_sha256") == sha256), None)
    if version is None:
        client.log_artifacts(run_id, str(folder), f"{_MODEL}/{_BUNDLE}")
        with tempfile.TemporaryDirectory(prefix="scrapray-mlmodel-") as place:
            path = Path(place) / "MLmodel"
            _mlmodel(card, run_id).save(str(path))
            client.log_artifact(run_id, str(path), _MODEL)
        with suppress(MlflowException):  # it is there; if not, the next call says why
            client.create_registered_model(model_name)
        version = client.create_model_version(
            model_name,
            source=f"{client.get_run(run_id).info.artifact_uri}/{_MODEL}",
            run_id=run_id,
            tags=_tags(card) | {"bundle_sha256": sha256, **tags},
            description=_description(card),
        )
    client.set_registered_model_alias(model_name, CANDIDATE, version.version)
    return ModelVersion.of(version, (CANDIDATE,))


def split_tag(folder: Path) -> dict[str, str]:
    """Tag with the hash of the test split that a bundle was measured on; none where it was not."""
    path = folder / TEST_STATISTICS
    if not path.exists():
        return {}
    rows = read_table(str(path), schema.TEST_STATISTICS, Storage()).select(["split_sha256"])
    return {"test_split_sha256": rows["split_sha256"][0].as_py()}


def read_statistics(server: Server, version: ModelVersion) -> SplitStatistics:
    """What a version scored on the test split.

    Raises:
        RegistryError: It was not measured.
    """
    if "test_split_sha256" not in version.tags:
        raise RegistryError(
            f"version {version.version} was registered without {TEST_STATISTICS} in its bundle, so nothing is known of "
            f"it on a test split; measure both versions on that of a dataset, with --dataset"
        )
    with tempfile.TemporaryDirectory(prefix="scrapray-statistics-") as folder:
        path = fetch(server, version, Path(folder), TEST_STATISTICS)
        return SplitStatistics.from_rows(read_table(str(path), schema.TEST_STATISTICS, Storage()).to_pylist())


def fetch(server: Server, version: ModelVersion, folder: Path, file: str = "") -> Path:
    """Download a version's bundle, or one file of it; gives where it lies below the folder."""
    with server.explained(f"download {file or 'the bundle'} of {version.uri}"):
        path = "/".join(filter(None, (_MODEL, _BUNDLE, file)))
        return Path(server.client.download_artifacts(version.run_id, path, dst_path=str(folder)))


def _mlmodel(card: "BundleCard", run_id: str) -> "Model":
    """How MLflow loads the bundle and what goes in and comes out, for any number of tiles."""
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    side = card.tile_px
    # Without names: MLflow hands a named tensor over inside a dict.
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, side, side, 3))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(card.classes), side, side))]),
    )
    model = Model(artifact_path=_MODEL, run_id=run_id, signature=signature)
    return model.add_flavor(
        "python_function",
        loader_module="scrapray.registry.scorer",
        data=_BUNDLE,
        python_version=platform.python_version(),
    )


def _tags(card: "BundleCard") -> dict[str, str]:
    on_test = card.metrics.get("test", {}).get("any", {})
    figures = {**card.metrics, **on_test}
    metrics = {name: round(value, 4) for name, value in figures.items() if isinstance(value, (int, float))}
    return {
        "weights_sha256": card.weights_sha256,
        "classes": ", ".join(card.class_names),
        "metrics": json.dumps(metrics),
        "code_version": scrapray.__version__,
    }


def _description(card: "BundleCard") -> str:
    """The card without the shapes of its networks, as Markdown; the whole one is ``bundle/card.json``."""
    values: dict[str, Any] = json.loads(card.to_json())
    shown = {name: value for name, value in values.items() if name not in ("clip", "segmenter")}
    return (
        f"Bundle {card.name} {card.version}\n\n```json\n{json.dumps(shown, indent=1, ensure_ascii=False)}"[
            :_MOST_CHARACTERS
        ]
        + "\n```"
    )
