"""Drawn tiles kept on disk, so that a training can be cut and nothing is drawn twice.

Shapes: H x W pixels, K contaminants.
"""

import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scrapray.segmenter.fit import TilePair
from scrapray.segmenter.whole_files import whole_file

_CHUNK = 128

TileSource = Callable[[int, int], Iterator[TilePair]]
"""Seed, side in px -> tiles without end."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles on disk.

    Attributes:
        images: Per chunk (n, H, W, 3), RGB, uint8.
        classes: Per chunk (n, H, W): 0 steel, 1..K contaminants.
    """

    images: tuple[NDArray[np.uint8], ...]
    classes: tuple[NDArray[np.uint8], ...]

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self.images)

    def __getitem__(self, place: int) -> TilePair:
        chunk, row = divmod(place, _CHUNK)
        return self.images[chunk][row], self.classes[chunk][row]


def keep_tiles(
    folder: Path,
    num: int,
    side_px: int,
    seed: int,
    source: TileSource,
    *,
    workers: int = 1,
    report: Callable[[str], None] = lambda line: None,
) -> Tiles:
    """Draw tiles into a folder, chunk by chunk; chunks that are there already are read."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(folder, first, min(_CHUNK, num - first), side_px, seed, source) for first in range(0, num, _CHUNK)]
    paths = []
    for pair in _keep_chunks(jobs, workers):
        paths.append(pair)
        report(f"{folder.name}: {min(len(paths) * _CHUNK, num)} of {num} pictures drawn")
    chunks = [(np.load(images, mmap_mode="r"), np.load(classes, mmap_mode="r")) for images, classes in paths]
    return Tiles(*zip(*chunks, strict=True))


_Chunk = tuple[Path, int, int, int, int, TileSource]


def _keep_chunks(jobs: Sequence[_Chunk], workers: int) -> Iterator[tuple[Path, Path]]:
    if workers == 1:
        yield from map(_keep_chunk, jobs)
        return
    # Spawned, since a process that has computed with torch must not be forked.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(_keep_chunk, jobs)


def _keep_chunk(job: _Chunk) -> tuple[Path, Path]:
    folder, start, num, side_px, seed, source = job
    paths = tuple(folder / f"{seed}-{side_px}-{start:06d}-{num}-{what}.npy" for what in ("images", "classes"))
    if not all(path.exists() for path in paths):
        drawn = zip(*itertools.islice(source(seed + start, side_px), num), strict=True)
        for path, arrays in zip(paths, drawn, strict=True):
            with whole_file(path) as part, part.open("wb") as file:
                np.save(file, np.stack(arrays))
    return paths[0], paths[1]
