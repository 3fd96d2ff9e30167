"""What can be evaluated: everything that turns tiles into anomaly maps, opened on the workers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from scrapray.audit.actors import open_bundle
from scrapray.audit.model import FoundModel
from scrapray.baselines.anomalyclip import AnomalyClip
from scrapray.baselines.winclip import WinClip, WinClipConfig
from scrapray.datasets.read import SplitTiles
from scrapray.errors import ConfigurationError, ModelError
from scrapray.evaluation.config import BundleConfig
from scrapray.imagery.tiling import blend_tiles
from scrapray.segmenter.bundle import Bundle, sha256_of_file
from scrapray.segmenter.measure import STRIDE_PX, score_tiles
from scrapray.segmenter.tower import build_clip, find_weights
from scrapray.statistics.metrics import are_scores
from scrapray.storage import Storage
from scrapray.training.config import StartConfig


class Scored(NamedTuple):
    """Scores of tiles in [0, 1].

    Attributes:
        maps_NKhw: Of any contaminant, then of each class that the method tells; cells of ``STRIDE_PX`` or pixels.
        tiles_N: Of each tile as a whole, of a method that says so; else its highest pixel counts.
    """

    maps_NKhw: NDArray[np.float32]
    tiles_N: NDArray[np.float32] | None = None


class Scorer(Protocol):
    """A method that is ready to look at tiles."""

    def __call__(self, tiles_NHW3: NDArray[np.uint8], tile_ids: Sequence[str]) -> Scored:
        """Look at RGB tiles; few methods need their ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A method to evaluate.

    Attributes:
        name: What tables call it.
        class_names: Contaminants that it tells apart, in the order of its maps; none if it tells any from steel only.
        open: Loads it on a worker, for the device named.
        tags: What says exactly which it is, such as the hash of its weights.
        settings: Sections of settings that decide what it scores, by name.
    """

    name: str
    class_names: tuple[str, ...]
    open: Callable[[str], Scorer]
    tags: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def scorer(self, device: str) -> Scorer:
        """Load it; what it gives is checked, so that each call may raise a ``ModelError``."""
        return partial(_score_in_range, self.open(device), self.name)


def _score_in_range(score: Scorer, name: str, tiles_NHW3: NDArray[np.uint8], tile_ids: Sequence[str]) -> Scored:
    scored = score(tiles_NHW3, tile_ids)
    for scores in (scored.maps_NKhw, scored.tiles_N):
        if scores is not None and not are_scores(scores):
            raise ModelError(
                f"{name} gives scores from {scores.min():g} to {scores.max():g} among the tiles from {tile_ids[0]} to "
                f"{tile_ids[-1]}, must be numbers from 0 to 1; train it again, or see whether its weights are whole"
            )
    return scored


def bundle_subject(model: FoundModel, storage: Storage, config: BundleConfig) -> Subject:
    """A bundle; it looks at each tile of the dataset in tiles of its own size, all over."""
    name = f"{model.name} {model.version}"
    opened = partial(_open_bundle, model.bundle_uri, storage, config.autocast)
    tags = {"model_uri": model.uri, "model_version": model.version, "weights_sha256": model.card.weights_sha256}
    settings = {"bundle": asdict(config)}
    return Subject(name=name, class_names=model.card.class_names, open=opened, tags=tags, settings=settings)


def _open_bundle(bundle_uri: str, storage: Storage, autocast: bool, device: str) -> Scorer:
    bundle = open_bundle(bundle_uri, storage)
    bundle.model.to(device)
    return partial(_score_with_bundle, bundle, device, autocast)


def _score_with_bundle(
    bundle: Bundle, device: str, autocast: bool, tiles_NHW3: NDArray[np.uint8], tile_ids: Sequence[str]
) -> Scored:
    side_px = tiles_NHW3.shape[1]
    sides_px = [own_px for own_px in bundle.card.tile_sides_px if own_px <= side_px] or [side_px]
    overlap_px = min(sides_px) // 4 // STRIDE_PX * STRIDE_PX
    score = partial(score_tiles, bundle.model, device=device, autocast=autocast)
    maps = [
        blend_tiles(tile_HW3, score, sides_px=sides_px, overlap_px=overlap_px, stride_px=STRIDE_PX)
        for tile_HW3 in tiles_NHW3
    ]
    return Scored(np.stack(maps))


def winclip_subject(name: str, config: WinClipConfig, start: StartConfig, references: SplitTiles | None) -> Subject:
    """WinCLIP, or with references WinCLIP+.

    Args:
        name: What tables call it.
        config: What it asks.
        start: Its CLIP.
        references: Tiles that ``references_of`` chooses from.

    Raises:
        ConfigurationError: See ``references_of``.
        ModelError: The weights of its CLIP cannot be had.
    """
    tags = {"clip": start.clip, "weights": start.weights}
    if (weights := find_weights(*start.places())) is not None:
        tags["weights_sha256"] = sha256_of_file(weights)
    places = [] if references is None else references_of(references, config.num_references, config.seed)
    if references is not None:
        tags |= {"seed": str(config.seed), "references": " ".join(references.tile_ids[place] for place in places)}
    opened = partial(_open_winclip, config, start, references, places)
    settings = {"clip": asdict(start), "winclip": asdict(config)}
    return Subject(name=name, class_names=(), open=opened, tags=tags, settings=settings)


def references_of(tiles: SplitTiles, num: int, seed: int) -> list[int]:
    """Places of tiles without any contaminant, drawn without replacement; the same for the same tiles and seed.

    Raises:
        ConfigurationError: There are fewer.
    """
    (normal,) = np.nonzero(tiles.class_px_NC[:, 1:].sum(axis=1) == 0)
    if len(normal) < num:
        raise ConfigurationError(
            f"WinCLIP+ takes {num} training tiles without a contaminant, the dataset has {len(normal)}; lower "
            "[winclip] num_references or prepare the dataset with a higher [tiles] clean_share"
        )
    return sorted(np.random.default_rng(seed).choice(normal, num, replace=False).tolist())


def _open_winclip(
    config: WinClipConfig, start: StartConfig, references: SplitTiles | None, places: Sequence[int], device: str
) -> Scorer:
    method = WinClip(*build_clip(*start.places()), config, device)
    if references is not None:
        method.remember(np.stack([references[place][0] for place in places]))
    return partial(score_whole, method)


def score_whole(method: WinClip | AnomalyClip, tiles_NHW3: NDArray[np.uint8], tile_ids: Sequence[str]) -> Scored:
    """Of a method that also says what it thinks of a tile as a whole."""
    return Scored(*method(tiles_NHW3, tiles_NHW3.shape[1] // STRIDE_PX))
