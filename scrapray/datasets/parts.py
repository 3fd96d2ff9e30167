"""Parts of a dataset: a few frames each, cut and written by one task. The same frames give the same bytes.

    <dataset>/tiles/split=train/part-00003-<input>.parquet  tiles (``schema.TILES``), one row group each
    <work>/manifest/split=train/part-00003-<input>.parquet  the same without pixels
    <work>/skipped/split=train/part-00003-<input>.parquet   what was left out; written last: the part is done

A task that is repeated replaces what it wrote by the same, so a part may be begun any number of times. The name of the
input keeps apart what was begun in one folder with other annotations, frames or settings.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
from pydantic import TypeAdapter

from scrapray.datasets.annotations import AnnotatedFrame, Skipped
from scrapray.datasets.cutting import Row, TileCutter
from scrapray.datasets.split import SPLITS, Split
from scrapray.errors import FrameError, StorageError
from scrapray.lake import read_table, write_table
from scrapray.schema import PARTS, SKIPPED, TILE_MANIFEST, TILES
from scrapray.storage import Storage, join

PART_NAME = re.compile(r"split=\w+/part-\d{5,}(-[0-9a-f]+)?\.parquet")
WRITTEN = pa.schema([PARTS.field("part"), pa.field("num_frames", pa.int64(), nullable=False)])


def plan_parts(frames: Iterable[tuple[AnnotatedFrame, Split]], frames_per_part: int, input_id: str) -> pa.Table:
    """Divide frames into parts of one split each.

    Args:
        frames: With their splits, in any order.
        frames_per_part: The last part of each split may have fewer.
        input_id: Names the input, in hexadecimal digits.

    Returns:
        ``schema.PARTS``.
    """
    frames_of: dict[Split, list[Row]] = {split: [] for split in SPLITS}
    for frame, split in sorted(frames, key=lambda pair: pair[0].key):
        frames_of[split].append(asdict(frame))
    parts = [
        {
            "part": f"split={split}/part-{start // frames_per_part:05}-{input_id}.parquet",
            "split": split,
            "frames": rows[start : start + frames_per_part],
        }
        for split, rows in frames_of.items()
        for start in range(0, len(rows), frames_per_part)
    ]
    return pa.Table.from_pylist(parts, schema=PARTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWriter:
    """What a worker needs to make parts; can be pickled."""

    dataset_uri: str
    work_uri: str
    storage: Storage
    cutter: TileCutter

    def write(self, batch: pa.Table) -> pa.Table:
        """Make parts: rows of ``schema.PARTS`` become their names and numbers of frames.

        Raises:
            StorageError: Frames cannot be had for a reason that is not their own, or a part cannot be written.
        """
        rows = batch.to_pylist()
        for row in rows:
            self._write(row["part"], row["split"], row["frames"])
        return pa.table({"part": batch["part"], "num_frames": [len(row["frames"]) for row in rows]}, schema=WRITTEN)

    def done(self) -> pa.Array:
        """Names of the parts that are finished."""
        folder = join(self.work_uri, "skipped")
        return pa.array([uri[len(folder) + 1 :] for uri in self.storage.list_names(folder)], pa.string())

    def read_manifest(self, parts: Sequence[str]) -> pa.Table:
        """``schema.TILE_MANIFEST`` of finished parts."""
        uris = [join(self.work_uri, "manifest", part) for part in parts]
        return pa.concat_tables([read_table(uri, TILE_MANIFEST, self.storage) for uri in uris])

    def read_skipped(self, parts: Sequence[str]) -> pa.Table:
        """``schema.SKIPPED`` of finished parts."""
        uris = [join(self.work_uri, "skipped", part) for part in parts]
        return pa.concat_tables([read_table(uri, SKIPPED, self.storage) for uri in uris])

    def _write(self, part: str, split: Split, frames: Iterable[Row]) -> None:
        tiles: list[Row] = []
        skipped: list[Skipped] = []
        for row in frames:
            frame = TypeAdapter(AnnotatedFrame).validate_python(row)
            try:
                data = self._read(frame.uri, "download")
                mask_data = self._read(frame.mask_uri, "mask") if frame.mask_uri else None
                cut, left_out = self.cutter.cut(frame, split, data, mask_data)
            except FrameError as error:
                left_out = [Skipped(picture=frame.uri, stage=error.stage, reason=error.reason, detail=error.detail)]
                cut = []
            tiles += [tile | {"part": part, "row": place} for place, tile in enumerate(cut, len(tiles))]
            skipped += left_out
        table = pa.Table.from_pylist(tiles, schema=TILES)
        names, storage = self.cutter.class_names, self.storage
        write_table(table, TILES, join(self.dataset_uri, "tiles", part), storage, class_names=names, rows_per_group=1)
        manifest = table.select(TILE_MANIFEST.names)
        write_table(manifest, TILE_MANIFEST, join(self.work_uri, "manifest", part), storage, class_names=names)
        write_table(skipped_table(skipped), SKIPPED, join(self.work_uri, "skipped", part), storage)

    def _read(self, uri: str, stage: str) -> bytes:
        try:
            return self.storage.read_bytes(uri)
        except StorageError as error:
            if not error.is_of_one_object:
                raise
            raise FrameError(stage, error.reason) from error


def skipped_table(skipped: Iterable[Skipped]) -> pa.Table:
    """Rows of ``schema.SKIPPED``."""
    return pa.Table.from_pylist([asdict(one) for one in skipped], schema=SKIPPED)
