"""Which model an audit runs with, found once, and where its workers load it from.

A registered model (``models:/...``) is resolved to a version when the audit begins, and that version is what its tables
name: an alias that moves while the night goes on changes nothing in it. Its bundle is copied into the lake, to
``<lake>/_models/<sha256>/``, and workers load that copy, for these reasons. Workers on other nodes reach the lake,
or they could write no results; so they need neither the registry's address nor its password, and a hundred of them do
not ask the registry for the same weights at once. A driver that starts on an empty disk, as in a pod, finds the
copy of the night before. The name is the hash of the card, which holds that of the weights, so a copy is never out of
date, and two audits that make it at once write the same bytes; the card is written last, so a copy with a card is
whole. Hashes are checked all the same. Copies that are no longer in use may be deleted at any time but during an audit.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from scrapray.audit.actors import open_bundle
from scrapray.config import environment
from scrapray.errors import ModelError
from scrapray.registry import ModelVersion, Registry
from scrapray.segmenter.bundle import CARD, BundleCard, shipped
from scrapray.storage import Storage, absolute, join

DEMO_BUNDLE = "demo"
"""Names the bundle that is shipped with the package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model that can be loaded.

    Attributes:
        uri: What tables say of it: place of the bundle, or ``models:/<name>/<version>``.
        name: Of the model.
        version: Of the model.
        bundle_uri: Where workers load the bundle from.
        card: Of the bundle.
    """

    uri: str
    name: str
    version: str
    bundle_uri: str
    card: BundleCard

    def __str__(self) -> str:
        seen = self.card.trained_on.get("what") or self.card.trained_on.get("dataset")
        trained_on = f", trained on {seen}" if seen else ""
        return f"{self.name} version {self.version}, weights {self.card.weights_sha256[:12]}{trained_on}"


def find_model(model_uri: str, storage: Storage, lake_uri: str | None = None) -> FoundModel:
    """Resolve a model once per run.

    The weights are loaded and let go again, so that a bundle that is damaged stops the run before any work.

    Args:
        model_uri: Folder or URI of a bundle, ``demo``, ``models:/<name>@<alias>`` or ``models:/<name>/<version>``.
        storage: Opens the bundle, and the lake.
        lake_uri: Where a registered model is copied to; without it, workers of other nodes cannot load it.

    Raises:
        ModelError: There is no bundle, or it is damaged.
        RegistryError: There is no such registered model, or the registry cannot be reached.
    """
    if model_uri.startswith("models:"):
        registry = Registry()
        return _registered(registry, registry.resolve(model_uri), storage, lake_uri)
    if model_uri == DEMO_BUNDLE:
        model_uri = str(shipped(DEMO_BUNDLE))
    bundle_uri = model_uri if "://" in model_uri else absolute(model_uri)
    card = open_bundle(bundle_uri, storage).card
    return FoundModel(uri=bundle_uri, name=card.name, version=card.version, bundle_uri=bundle_uri, card=card)


def _registered(registry: Registry, version: ModelVersion, storage: Storage, lake_uri: str | None) -> FoundModel:
    if lake_uri is None:
        bundle_uri = str(registry.download(version, _cache()))
    else:
        bundle_uri = join(lake_uri, "_models", version.bundle_sha256)
        if not storage.exists(join(bundle_uri, CARD)):
            _copy(registry.download(version, _cache()), bundle_uri, storage)
    card = open_bundle(bundle_uri, storage).card
    if sha256(storage.read_bytes(join(bundle_uri, CARD))).hexdigest() != version.bundle_sha256:
        raise ModelError(f"{bundle_uri} holds another bundle than its name says; delete it and start the run again")
    return FoundModel(
        uri=version.uri, name=version.name, version=str(version.version), bundle_uri=bundle_uri, card=card
    )


def _copy(folder: Path, bundle_uri: str, storage: Storage) -> None:
    """Copy a bundle file by file, the card last."""
    for path in sorted(filter(Path.is_file, folder.iterdir()), key=lambda path: path.name == CARD):
        storage.copy(str(path), join(bundle_uri, path.name))


def _cache() -> Path:
    """Where bundles from the registry lie on this machine, in folders called by their hash."""
    return Path(environment("XDG_CACHE_HOME") or Path.home() / ".cache") / "scrapray" / "models"
