"""What Ray runs on its workers: tasks that fetch frames, and actors that hold a segmenter."""

import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pyarrow as pa

from scrapray.audit.frames import ArchivedFrame, Classes, FrameSegmenter
from scrapray.config import AuditConfig, SegmentConfig
from scrapray.errors import ConfigurationError, ModelError, StorageError
from scrapray.schema import RESULTS
from scrapray.segmenter.bundle import Bundle, BundleCard, load_bundle
from scrapray.storage import Storage

FETCHED = pa.schema(
    [
        pa.field("frame_id", pa.string(), nullable=False),
        pa.field("camera_id", pa.string()),
        pa.field("data", pa.large_binary()),
        pa.field("download_fault", pa.string()),
    ]
)
"""What goes from the tasks to the actors: the file as it was archived, 2 MB for a frame that decodes to 25 MB."""

_FAULTS_OF_ONE_FRAME = ("missing", "forbidden")


def fetch(batch: pa.Table, storage: Storage) -> pa.Table:
    """Read the bytes of frames: rows with ``frame_id``, ``uri`` and ``camera_id`` become ``FETCHED``.

    A frame that is gone, or that alone may not be read, is a row with a reason. Anything else (no bucket, no
    connection after all retries, a wrong secret, an archive that may no longer be listed) is no fault of a frame: it
    stops the run, since a night of rejected frames would count as done.

    Raises:
        StorageError: The archive cannot be read.
    """
    fetched = [_fetch_one(uri, storage) for uri in batch["uri"].to_pylist()]
    columns = [
        batch["frame_id"],
        batch["camera_id"],
        pa.array([data for data, _ in fetched], pa.large_binary()),
        pa.array([fault for _, fault in fetched], pa.string()),
    ]
    return pa.table(columns, schema=FETCHED)


def _fetch_one(uri: str, storage: Storage) -> tuple[bytes | None, str | None]:
    try:
        return storage.read_bytes(uri), None
    except StorageError as error:
        if error.reason not in _FAULTS_OF_ONE_FRAME:
            raise
        if error.reason == "forbidden":
            next(iter(storage.list_pages(uri.rpartition("/")[0])), None)
        return None, error.reason


class Segment:
    """One segmenter, loaded once, that turns fetched frames into rows of ``schema.RESULTS``."""

    def __init__(self, bundle_uri: str, weights_sha256: str, config: AuditConfig, storage: Storage) -> None:
        bundle = _load(bundle_uri, weights_sha256, storage)
        segment, on_gpu = config.segment, config.resources.gpus_per_actor > 0
        self._segment_frames = FrameSegmenter(
            config=config,
            classes=classes_of(bundle.card, segment),
            tile_px=bundle.card.tile_px,
            score_tiles=partial(
                bundle.score_tiles,
                out_px=bundle.card.tile_px // segment.map_stride_px,
                device="cuda" if on_gpu else "cpu",
                autocast=on_gpu,
            ),
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Turn ``FETCHED`` into as many rows of ``schema.RESULTS``."""
        columns = (batch[name].to_pylist() for name in FETCHED.names)
        rows = list(self._segment_frames(map(ArchivedFrame, *columns)))
        return pa.Table.from_pylist(rows, schema=RESULTS)


def _load(bundle_uri: str, weights_sha256: str, storage: Storage) -> Bundle:
    if "://" not in bundle_uri:
        bundle = load_bundle(Path(bundle_uri))
    else:
        with tempfile.TemporaryDirectory(prefix="scrapray-bundle-") as folder:
            storage.download_folder(bundle_uri, Path(folder))
            bundle = load_bundle(Path(folder))
    if bundle.card.weights_sha256 != weights_sha256:
        raise ModelError(
            f"{bundle_uri}: the weights are {bundle.card.weights_sha256[:12]}…, this run began with "
            f"{weights_sha256[:12]}…; somebody replaced the bundle, so start the run again"
        )
    return bundle


def classes_of(card: BundleCard, segment: SegmentConfig) -> Classes:
    """The classes of a bundle, with the thresholds and severities that the configuration puts in place of its own.

    Raises:
        ConfigurationError: The configuration names a class that the bundle does not know, or its tiles do not fit
            the grid of the map.
    """
    _check_names("thresholds", segment.thresholds, card)
    _check_names("severities", segment.severities, card)
    if card.tile_px % segment.map_stride_px or segment.overlap_px >= card.tile_px:
        raise ConfigurationError(
            f"[segment] map_stride_px = {segment.map_stride_px} and overlap_px = {segment.overlap_px} do not fit tiles "
            f"of {card.tile_px} px; the stride must divide the tile, the overlap must be smaller"
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
