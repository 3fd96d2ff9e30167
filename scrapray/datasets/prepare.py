"""Annotations and an archive -> a dataset of tiles, on Ray, resumable at any time.

list pictures -> read annotations -> split by load -> parts -> [task: fetch, cut, write] -> manifest -> card

<dataset>/tiles/split=<split>/part-NNNNN-<input>.parquet    see ``parts``
<dataset>/manifest.parquet                                  all tiles, without pixels
<dataset>/skipped.parquet                                   what was left out, and why
<dataset>/card.json                                         written last
<dataset>/_work/<input>/                                    finished parts; gone at the end
"""

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

import scrapray
from scrapray import cluster, schema
from scrapray.config import sha256_of
from scrapray.datasets.annotations import AnnotatedFrame, Annotations
from scrapray.datasets.card import CARD, MANIFEST, SKIPPED, DatasetCard, count_split, read_card
from scrapray.datasets.coco import read_coco
from scrapray.datasets.config import DatasetConfig
from scrapray.datasets.cutting import TileCutter
from scrapray.datasets.layouts import read_mask_pngs, read_mvtec, read_visa
from scrapray.datasets.painting import KEPT
from scrapray.datasets.parts import PART_NAME, PartWriter, plan_parts, skipped_table
from scrapray.datasets.split import SPLITS, Split, refuse_leaks, split_of, unit_of
from scrapray.errors import ConfigurationError, SchemaError
from scrapray.keys import grammar_of
from scrapray.lake import write_table
from scrapray.storage import Storage, absolute, join

MASKS, MVTEC, VISA = "masks", "mvtec", "visa"
_LAYOUTS = (MASKS, MVTEC, VISA)
"""In place of a COCO file: the annotations lie among the frames."""
_FRAMES_PER_PART = 8
"""Of 4K frames about 360 tiles, 150 MB; a task holds three times that while it writes."""
_PATIENCE_S = 600.0
_CPUS = 2
"""One to cut, one beside it."""
_WORK, _ID_CHARACTERS = "_work", 16
_WORK_ID = re.compile(rf"[0-9a-f]{{{_ID_CHARACTERS}}}")
Progress = Callable[[int, int], None]
"""Takes the number of finished frames and of all frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareSummary:
    """What a preparation did: the card, frames in all and those that were done before, and its wall time."""

    card: DatasetCard
    num_frames: int
    num_done_before: int
    seconds: float

    def __str__(self) -> str:
        tiles = sum(counts.num_tiles for counts in self.card.splits.values())
        before = f", {self.num_done_before} of them before" if self.num_done_before else ""
        lines = [f"{tiles} tiles of {self.num_frames} frames{before}, in {self.seconds:.1f} s"]
        for split, counts in self.card.splits.items():
            shown = zip(self.card.class_names, counts.class_tiles[1:], strict=True)
            lines.append(
                f"{split}: {counts.num_loads} loads, {counts.num_frames} frames, {counts.num_tiles} tiles; with "
                + ", ".join(f"{name} {count}" for name, count in shown)
            )
        kept = {reason: count for reason, count in self.card.skipped.items() if reason.startswith(f"{KEPT}: ")}
        left_out = {reason: count for reason, count in self.card.skipped.items() if reason not in kept}
        return "\n".join([*lines, f"left out: {_listed(left_out)}", f"worth a look: {_listed(kept)}"])


def prepare_dataset(
    annotations: str,
    frames_uri: str,
    dataset_uri: str,
    *,
    config: DatasetConfig,
    command: str,
    progress: Progress = lambda done, total: None,
) -> PrepareSummary:
    """Make a dataset, or go on with one that was begun with the same input.

    Args:
        annotations: URI of a COCO file; or ``masks``, ``mvtec`` or ``visa`` where they lie among the frames, see
            ``layouts``.
        frames_uri: Bucket, prefix or folder of the archive.
        dataset_uri: Folder to write.
        config: All settings.
        command: How this was called, for the card.
        progress: Called as parts are finished.

    Raises:
        ConfigurationError: A class is not known, a split is empty, the folder holds another dataset or lies among
            masks, or Ray cannot be had.
        SchemaError: The annotations cannot be read, a split has no tile, or something is in two splits.
        StorageError: Annotations or frames cannot be read, or the dataset cannot be written.
    """
    started_s = time.monotonic()
    storage, dataset_uri = Storage(config.storage), absolute(dataset_uri)
    if annotations in _LAYOUTS and PurePosixPath(dataset_uri).is_relative_to(absolute(frames_uri)):
        raise ConfigurationError(
            f"{dataset_uri} lies in {frames_uri}, so its pictures would be taken for frames or masks; give the dataset "
            "a folder outside of it"
        )
    found, sources = read_annotations(annotations, frames_uri, config, storage)
    frames = [(frame, _split_of(frame, config)) for frame in found.frames]
    input_sha256 = _input_sha256(found, config)
    card = read_card(dataset_uri, storage)
    if card and card.input_sha256 != input_sha256:
        raise ConfigurationError(
            f"{dataset_uri} holds another dataset: annotations, settings, version or frames differ, or files of frames "
            "were written anew; give each a folder of its own"
        )
    num_done_before = len(frames)
    if card is None:
        _refuse_empty_splits(found, frames, config)
        input_id = input_sha256[:_ID_CHARACTERS]
        work_uri = join(dataset_uri, _WORK, input_id)
        writer = PartWriter(dataset_uri=dataset_uri, work_uri=work_uri, storage=storage, cutter=_cutter(config))
        parts = plan_parts(frames, _FRAMES_PER_PART, input_id)
        num_done_before = _write_parts(parts, writer, config.resources.wait_for_nodes_s, progress)
        names = parts["part"].to_pylist()
        manifest = writer.read_manifest(names)
        skipped = pa.concat_tables([skipped_table(found.skipped), writer.read_skipped(names)])
        _refuse_unusable(parts, manifest, skipped, config, dataset_uri)
        card = _describe(manifest, skipped, config, sources=sources, command=command, input_sha256=input_sha256)
        _finish(dataset_uri, manifest, skipped, card, storage)
    progress(len(frames), len(frames))
    return PrepareSummary(
        card=card, num_frames=len(frames), num_done_before=num_done_before, seconds=time.monotonic() - started_s
    )


def read_annotations(
    annotations: str, frames_uri: str, config: DatasetConfig, storage: Storage
) -> tuple[Annotations, dict[str, str]]:
    """All frames that are annotated, and where that comes from.

    Args:
        annotations: See ``prepare_dataset``.
        frames_uri: The archive.
        config: Classes, and what keys mean.
        storage: Opens both.

    Raises:
        ConfigurationError: A class is not known, or the key pattern cannot work.
        SchemaError: The annotations cannot be read.
        StorageError: Annotations or archive cannot be reached.
    """
    suffixes, classes = config.archive.suffixes, config.class_names
    stored = [one for page in storage.list_pages(absolute(frames_uri)) for one in page]
    sources = {"frames": frames_uri, "annotations": annotations}
    if read_defects := {MVTEC: read_mvtec, VISA: read_visa}.get(annotations):
        return read_defects(stored, suffixes=suffixes, source=frames_uri, classes=classes), sources
    grammar = grammar_of(config.archive, None)
    if annotations == MASKS:
        return read_mask_pngs(stored, suffixes=suffixes, grammar=grammar), sources
    data = storage.read_bytes(absolute(annotations))
    pictures = [one for one in stored if one.key.lower().endswith(suffixes)]
    found = read_coco(data, pictures, source=annotations, classes=classes, grammar=grammar)
    return found, sources | {"annotations_sha256": hashlib.sha256(data).hexdigest()}


def _split_of(frame: AnnotatedFrame, config: DatasetConfig) -> Split:
    split = config.split
    return split_of(frame, shares=split.shares, seed=split.seed, fixed=split.fixed_dates)


def _cutter(config: DatasetConfig) -> TileCutter:
    return TileCutter(
        class_names=config.class_names.names,
        class_of_value=config.class_of_mask_value,
        beds={name: camera.bed_polygon_px for name, camera in config.cameras.items()},
        bed_by_words=config.bed_by_words,
        **asdict(config.tiles),
    )


def _public_settings(config: DatasetConfig) -> dict[str, Any]:
    """The settings that decide what is in a dataset, as they come back from JSON."""
    settings = asdict(config)
    del settings["storage"], settings["resources"]
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def _input_sha256(found: Annotations, config: DatasetConfig) -> str:
    return sha256_of(
        {
            "frames": [asdict(frame) for frame in found.frames],
            "skipped": [asdict(one) for one in found.skipped],
            "settings": _public_settings(config),
            "code_version": scrapray.__version__,
            "schema_version": schema.SCHEMA_VERSION,
        }
    )


def _refuse_empty_splits(
    found: Annotations, frames: Sequence[tuple[AnnotatedFrame, Split]], config: DatasetConfig
) -> None:
    if not frames:
        reasons = _reasons(skipped_table(found.skipped))
        raise SchemaError(
            f"there is no annotated frame to use; left out: {_listed(reasons)}; annotations must name pictures of the "
            f"archive, whose names end in {', '.join(config.archive.suffixes)}"
        )
    loads = {unit_of(frame) for frame, _ in frames}
    for split in SPLITS:
        if config.split.shares[split] > 0 and all(split != other for _, other in frames):
            raise ConfigurationError(
                f"none of the {len(loads)} loads falls into {split}; give it dates in [[split.fixed]], another [split] "
                "seed, a larger share or none"
            )


def _write_parts(parts: pa.Table, writer: PartWriter, wait_s: float, progress: Progress) -> int:
    """Make the parts that are not done; returns the number of frames of those that were."""
    left = parts.filter(pc.invert(pc.is_in(parts["part"], value_set=writer.done())))
    num_frames, num_left = (pc.sum(pc.list_value_length(some["frames"]), min_count=0).as_py() for some in (parts, left))
    num_done_before = num_done = num_frames - num_left
    if left.num_rows:
        mend = "add nodes, or give it time to start some ([resources] wait_for_nodes_s)"
        cluster.join(what="a dataset", bundles=[{"CPU": 1.0}] * _CPUS, mend=mend, wait_s=wait_s)
        cluster.set_up_data(_PATIENCE_S)
        with cluster.own_errors(writer.work_uri, writer.storage):
            blocks = [left.slice(place, 1) for place in range(left.num_rows)]
            written = ray.data.from_arrow(blocks).map_batches(writer.write, batch_size=None, batch_format="pyarrow")
            for batch in written.iter_batches(batch_size=None, batch_format="pyarrow"):
                num_done += pc.sum(batch["num_frames"]).as_py()
                progress(num_done, num_frames)
    return int(num_done_before)


def _refuse_unusable(
    parts: pa.Table, manifest: pa.Table, skipped: pa.Table, config: DatasetConfig, dataset_uri: str
) -> None:
    if not manifest.num_rows:
        raise SchemaError(f"there is not a single tile; left out: {_listed(_reasons(skipped))}")
    if empty := sorted(set(parts["split"].to_pylist()) - set(manifest["split"].to_pylist())):
        raise SchemaError(
            f"no tile of {' and '.join(empty)} is left of its frames; [tiles] clean_share is "
            f"{config.tiles.clean_share:g}; left out: {_listed(_reasons(skipped))}"
        )
    refuse_leaks(manifest, dataset_uri)


def _reasons(skipped: pa.Table) -> dict[str, int]:
    counts = Counter(zip(skipped["stage"].to_pylist(), skipped["reason"].to_pylist(), strict=True))
    return {f"{stage}: {reason}": count for (stage, reason), count in sorted(counts.items())}


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or "nothing"


def _describe(
    manifest: pa.Table,
    skipped: pa.Table,
    config: DatasetConfig,
    *,
    sources: dict[str, str],
    command: str,
    input_sha256: str,
) -> DatasetCard:
    """The card of a dataset whose tiles are all there."""
    tiles_of = {split: manifest.filter(pc.equal(manifest["split"], split)) for split in SPLITS}
    return DatasetCard(
        classes=tuple(one.contaminant for one in config.classes),
        tile_px=config.tiles.tile_px,
        splits={split: count_split(tiles, len(config.classes)) for split, tiles in tiles_of.items()},
        skipped=_reasons(skipped),
        sources=sources | {"frames_sha256": _sha256_of_rows(manifest, "content_sha256")},
        settings=_public_settings(config),
        code_version=scrapray.__version__,
        dataset_sha256=_sha256_of_rows(manifest, "tile_id", "split", "tile_sha256"),
        command=command,
        input_sha256=input_sha256,
    )


def _sha256_of_rows(table: pa.Table, *columns: str) -> str:
    rows = sorted(set(zip(*(table[column].to_pylist() for column in columns), strict=True)))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _finish(dataset_uri: str, manifest: pa.Table, skipped: pa.Table, card: DatasetCard, storage: Storage) -> None:
    """Write what tells of the whole, and remove what unfinished work has left, with other input too; nothing else."""
    write_table(manifest, schema.TILE_MANIFEST, join(dataset_uri, MANIFEST), storage, class_names=card.class_names)
    write_table(skipped, schema.SKIPPED, join(dataset_uri, SKIPPED), storage)
    tiles, work = join(dataset_uri, "tiles"), join(dataset_uri, _WORK)
    ours = set(pc.unique(manifest["part"]).to_pylist())
    for part in _names_below(tiles, storage) - ours:
        if PART_NAME.fullmatch(part):
            storage.delete(join(tiles, part))
    storage.write_bytes(join(dataset_uri, CARD), card.to_json().encode())
    for work_id in {name.partition("/")[0] for name in _names_below(work, storage)}:
        if _WORK_ID.fullmatch(work_id):
            storage.delete_folder(join(work, work_id))
    if not _names_below(work, storage):
        storage.delete_folder(work)


def _names_below(folder_uri: str, storage: Storage) -> set[str]:
    return {uri.removeprefix(f"{folder_uri}/") for uri in storage.list_names(folder_uri)}
