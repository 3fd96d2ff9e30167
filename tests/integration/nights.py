"""Small nights to segment: archives of noise, their manifests, and what a run made of them."""

import datetime
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from scrapray.config import AuditConfig, ResourcesConfig, SegmentConfig
from scrapray.schema import MANIFEST
from scrapray.storage import Storage, join

NIGHT = datetime.date(2026, 11, 20)

CONFIG = AuditConfig(
    # A threshold that random weights reach in places, so that rows hold detections to compare.
    segment=SegmentConfig(
        overlap_px=16, min_area_px=64, thresholds=dict.fromkeys(("motor", "cable", "spray can"), 0.3)
    ),
    resources=ResourcesConfig(frames_per_block=4, cpus_per_actor=1),
)


def noise_jpeg(seed: int, height_px: int = 150, width_px: int = 210) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 215, (height_px // 10 + 1, width_px // 10 + 1, 3)).repeat(10, axis=0).repeat(10, axis=1)
    picture = coarse[:height_px, :width_px] + rng.integers(-20, 20, (height_px, width_px, 1))
    buffer = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_archive(folder: Path, num_frames: int) -> list[str]:
    """Frames of noise; gives their URIs."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03}.jpg" for number in range(num_frames)]
    for number, path in enumerate(paths):
        path.write_bytes(noise_jpeg(number))
    return [str(path) for path in paths]


def write_load(archive_uri: str, storage: Storage, num_frames: int, height_px: int = 150, width_px: int = 210) -> None:
    """A load of one truck, with keys that the default pattern reads."""
    for second in range(num_frames):
        uri = join(archive_uri, f"yard/{NIGHT}/0007/L1/c1_0800{second:02d}.jpg")
        storage.write_bytes(uri, noise_jpeg(second, height_px, width_px))


def manifest_of(uris: Sequence[str], rejected: Sequence[int] = ()) -> pa.Table:
    rows = [
        dict.fromkeys(MANIFEST.names)
        | {
            "frame_id": f"{number:032x}",
            "uri": uri,
            "etag": "e",
            "size_bytes": 1,
            "site": "north",
            "date": NIGHT,
            "camera_id": "c1",
            "reject_stage": "manifest" if number in rejected else None,
            "reject_reason": "no_match" if number in rejected else None,
        }
        for number, uri in enumerate(uris)
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST)


def results_in(work_uri: str | Path) -> pa.Table:
    """All rows of a work folder in a fixed order, read with no code of ours."""
    return pq.read_table(Path(work_uri) / "results", partitioning=None).sort_by("frame_id")
