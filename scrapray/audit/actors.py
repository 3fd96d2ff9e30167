"""What Ray runs on its actors: one segmenter each."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pyarrow as pa

from scrapray.audit.fetch import FETCHED
from scrapray.audit.frames import ArchivedFrame, Classes, FrameSegmenter
from scrapray.config import AuditConfig, SegmentConfig
from scrapray.errors import ConfigurationError, ModelError
from scrapray.schema import RESULTS
from scrapray.segmenter.bundle import Bundle, BundleCard, load_bundle
from scrapray.segmenter.measure import cpu_is_made_for_bf16
from scrapray.storage import Storage


class Segment:
    """One segmenter, loaded once, that turns fetched frames into rows of ``schema.RESULTS``."""

    def __init__(self, bundle_uri: str, card: BundleCard, config: AuditConfig, storage: Storage) -> None:
        bundle = _open_the_same(bundle_uri, card, storage)
        stride_px, on_gpu = config.segment.map_stride_px, config.resources.gpus_per_actor > 0
        autocast = precision_of(config) == "bf16"
        self._segment_frames = FrameSegmenter(
            config=config,
            classes=classes_of(bundle.card, config.segment),
            tile_sides_px=bundle.card.tile_sides_px,
            score_tiles=lambda tiles_NHW3: bundle.score_tiles(
                tiles_NHW3,
                out_px=tiles_NHW3.shape[1] // stride_px,
                device="cuda" if on_gpu else "cpu",
                autocast=autocast,
            ),
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Turn ``FETCHED`` into as many rows of ``schema.RESULTS``."""
        columns = (batch[name].to_pylist() for name in FETCHED.names)
        rows = list(self._segment_frames(map(ArchivedFrame, *columns)))
        return pa.Table.from_pylist(rows, schema=RESULTS)


def open_bundle(bundle_uri: str, storage: Storage) -> Bundle:
    """Load a bundle from a folder, or from a URI by way of a folder that is gone afterwards.

    Raises:
        ModelError: There is no bundle, or it is damaged.
        StorageError: The URI cannot be read.
    """
    if "://" not in bundle_uri:
        return load_bundle(Path(bundle_uri))
    with tempfile.TemporaryDirectory(prefix="scrapray-bundle-") as folder:
        storage.download_folder(bundle_uri, Path(folder))
        return load_bundle(Path(folder))


def _open_the_same(bundle_uri: str, card: BundleCard, storage: Storage) -> Bundle:
    bundle = open_bundle(bundle_uri, storage)
    if bundle.card != card:
        raise ModelError(
            f"{bundle_uri}: {bundle.card.name} {bundle.card.version}, weights {bundle.card.weights_sha256[:12]}…, this "
            f"run began with {card.name} {card.version}, weights {card.weights_sha256[:12]}…, or the same with "
            f"another card; somebody replaced the bundle, so start the run again"
        )
    return bundle


def precision_of(config: AuditConfig) -> Literal["bf16", "fp32"]:
    """Precision of the vision tower, where the settings leave it to the machine that asks."""
    if config.segment.precision != "auto":
        return config.segment.precision
    return "bf16" if config.resources.gpus_per_actor > 0 or cpu_is_made_for_bf16() else "fp32"


def classes_of(card: BundleCard, segment: SegmentConfig) -> Classes:
    """The classes of a bundle, with the thresholds and severities that the configuration puts in place of its own.

    Raises:
        ConfigurationError: The configuration names a class that the bundle does not know, or its tiles do not fit
            the grid of the map.
    """
    _check_names("thresholds", segment.thresholds, card)
    _check_names("severities", segment.severities, card)
    if any(side_px % segment.map_stride_px for side_px in card.tile_sides_px) or segment.overlap_px >= card.tile_px:
        raise ConfigurationError(
            f"[segment] map_stride_px = {segment.map_stride_px} and overlap_px = {segment.overlap_px} do not fit tiles "
            f"of {' and '.join(map(str, card.tile_sides_px))} px; the stride must divide the tile, the overlap must be "
            f"smaller"
        )
    return Classes(
        names=card.class_names,
        severities=tuple(segment.severities.get(known.name, known.severity) for known in card.classes),
        thresholds=tuple(
            segment.thresholds.get(name, threshold)
            for name, threshold in zip(card.class_names, card.thresholds, strict=True)
        ),
    )


def _check_names(key: str, given: Iterable[str], card: BundleCard) -> None:
    if unknown := sorted(set(given) - set(card.class_names)):
        raise ConfigurationError(
            f"[segment] {key} names {', '.join(unknown)}; bundle {card.name} knows {', '.join(card.class_names)}"
        )
