"""One archived frame -> one row of results. Knows neither Ray nor storage nor torch.

    decode -> quality and truck bed -> tiles -> score_tiles (tiles of several frames together) -> blend -> components

With tiles of two sides, the wide ones come first, all over the bed. What looks suspicious in them, a small part of the
scrap, is looked at again in tiles that are centred on it, and these have the last word there.

Whatever is wrong with a frame ends in a row that says so. Only what is wrong with the machine or the model, such as
memory that runs out, goes on as an exception: the next frame would meet it too.

Shapes: N tiles, K contaminants, H W pixels of a frame, h w cells of its map.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scrapray.config import AuditConfig
from scrapray.errors import FrameError, ModelError
from scrapray.imagery.bed import bed_mask, touches
from scrapray.imagery.components import Component, find_components, inside_bed, peak_score
from scrapray.imagery.decode import decode_frame
from scrapray.imagery.masks import encode_mask
from scrapray.imagery.quality import hidden_frac, judge_quality, measure_quality
from scrapray.imagery.tiling import Mosaic, last_word, pad_to_grid, second_looks, suspicious, tile_boxes
from scrapray.schema import RESULTS

Row = dict[str, Any]
"""One row of ``schema.RESULTS``."""
ScoreTiles = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""RGB tiles (N, side_px, side_px, 3) -> scores (N, K, side, side) in [0, 1], one cell per ``map_stride_px``."""


class ArchivedFrame(NamedTuple):
    """What a frame comes as: its bytes, or why they could not be had."""

    frame_id: str
    camera_id: str | None
    data: bytes | None
    download_fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """What the segmenter tells apart, and from where on it counts; contaminants in the order of its maps."""

    names: tuple[str, ...]
    severities: tuple[int, ...]
    thresholds: tuple[float, ...]


_Look = tuple[int, NDArray[np.intp]]
"""Side of the tiles, and their boxes_N4, at least one."""


@dataclass(slots=True)
class _Sight:
    """A frame between its bytes and its row.

    It has a mosaic for each look so far, and in ``looks`` those to come. Within a look tiles are always added
    in the same order, so the row of a frame has the same bits whatever others were scored with it.
    """

    source: ArchivedFrame
    row: Row
    pixels_HW3: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    bed_HW: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    mosaics: list[Mosaic] = field(default_factory=list)
    looks: Iterator[_Look] = field(default_factory=lambda: iter(()))
    num_unscored: int = 0


_Tile = tuple[_Sight, NDArray[np.intp]]
"""Where a tile comes from, and its box there."""


class FrameSegmenter:
    """Turns frames into rows; holds no state from one call to the next but the beds of cameras."""

    def __init__(
        self, *, config: AuditConfig, classes: Classes, tile_sides_px: Sequence[int], score_tiles: ScoreTiles
    ) -> None:
        self._cameras = {name: camera.bed_polygon_px for name, camera in config.cameras.items()}
        self._segment = config.segment
        self._limits = asdict(config.quality)
        self._max_pixels = self._limits.pop("max_pixels")
        del self._limits["min_frozen_difference"]  # takes a look at other frames of the camera
        self._classes = classes
        self._tile_sides_px = tile_sides_px
        self._score_tiles = score_tiles
        self._bed_mask = lru_cache(maxsize=32)(bed_mask)
        self._steps: tuple[tuple[str, Callable[[_Sight], None]], ...] = (
            ("download", self._check_bytes),
            ("decode", self._decode),
            ("bed", self._find_bed),
            ("quality", self._judge),
            ("segment", self._spread_out),
        )

    def __call__(self, frames: Iterable[ArchivedFrame]) -> Iterator[Row]:
        """Yield one row per frame, rejected ones first where they overtake others.

        Frames are taken one ahead as tiles run out, so few are in memory at a time, however many are given: those that
        wait for a batch of close tiles to become full are at most as many as it has tiles.
        """
        waiting: dict[int, list[_Tile]] = {side_px: [] for side_px in sorted(self._tile_sides_px, reverse=True)}
        for sight in self._prepared_ahead(frames):
            yield from self._go_on(sight, waiting)
            yield from self._score_waiting(waiting, least=self._segment.tiles_per_batch)
        yield from self._score_waiting(waiting, least=1)

    def _score_waiting(self, waiting: dict[int, list[_Tile]], least: int) -> Iterator[Row]:
        """Score batches of tiles, the widest first, while so many of one side wait; yield rows that are ready."""
        for side_px, tiles in waiting.items():
            while len(tiles) >= least:
                batch = tiles[: self._segment.tiles_per_batch]
                del tiles[: len(batch)]
                for sight in self._score(batch, side_px):
                    yield from self._go_on(sight, waiting)

    def _go_on(self, sight: _Sight, waiting: dict[int, list[_Tile]]) -> Iterator[Row]:
        """Let tiles of the next look wait, of a frame that has none left of the one before; after the last, its row."""
        if sight.row["status"] == "used":
            _succeeds("segment", partial(self._look_or_measure, waiting), sight)
        if sight.num_unscored == 0:
            yield sight.row

    def _look_or_measure(self, waiting: dict[int, list[_Tile]], sight: _Sight) -> None:
        for side_px, boxes_N4 in sight.looks:
            height, width = (side // self._segment.map_stride_px for side in sight.pixels_HW3.shape[:2])
            sight.mosaics.append(Mosaic(len(self._classes.names), height, width))
            waiting[side_px].extend((sight, box_4) for box_4 in boxes_N4)
            sight.num_unscored = len(boxes_N4)
            return
        self._measure(sight)

    def _prepared_ahead(self, frames: Iterable[ArchivedFrame]) -> Iterator[_Sight]:
        """Prepare the next frame in a thread while the segmenter, on a GPU perhaps, has this one."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            coming: Future[_Sight] | None = None
            for frame in frames:
                this, coming = coming, pool.submit(self._prepare, frame)
                if this:
                    yield this.result()
            if coming:
                yield coming.result()

    def _prepare(self, frame: ArchivedFrame) -> _Sight:
        row: Row = dict.fromkeys(RESULTS.names)
        row |= {"frame_id": frame.frame_id, "camera_id": frame.camera_id, "status": "used"}
        sight = _Sight(frame, row)
        for stage, step in self._steps:
            if not _succeeds(stage, step, sight):
                break
        return sight

    def _check_bytes(self, sight: _Sight) -> None:
        if sight.source.data is None:
            raise FrameError("download", sight.source.download_fault or "failed")

    def _decode(self, sight: _Sight) -> None:
        data = sight.source.data
        assert data is not None
        sight.row["content_sha256"] = hashlib.sha256(data).hexdigest()
        sight.pixels_HW3 = decode_frame(data, self._max_pixels)
        sight.row["height_px"], sight.row["width_px"] = sight.pixels_HW3.shape[:2]

    def _find_bed(self, sight: _Sight) -> None:
        camera_id = sight.source.camera_id
        if self._cameras and camera_id not in self._cameras:
            raise FrameError("bed", "unknown_camera", str(camera_id))
        height, width = sight.pixels_HW3.shape[:2]
        sight.bed_HW = self._bed_mask(self._cameras.get(camera_id or ""), (height, width))
        sight.row["bed_area_px"] = int(np.count_nonzero(sight.bed_HW))

    def _judge(self, sight: _Sight) -> None:
        quality = measure_quality(sight.pixels_HW3, sight.bed_HW)
        sight.row |= asdict(quality)
        # What is black or blown out cannot be judged, so it does not count as seen.
        sight.row["coverage_frac"] = max(0.0, 1.0 - quality.dark_frac - quality.bright_frac)
        sight.row["seen_area_px"] = round(sight.row["bed_area_px"] * sight.row["coverage_frac"])
        if reason := judge_quality(quality, **self._limits):
            raise FrameError("quality", reason)

    def _spread_out(self, sight: _Sight) -> None:
        sides_px = [side_px for side_px in self._tile_sides_px if side_px <= min(sight.bed_HW.shape)]
        if not sides_px:
            raise FrameError("segment", "frame_smaller_than_tile")
        sight.pixels_HW3 = pad_to_grid(sight.pixels_HW3, self._segment.map_stride_px)
        sight.looks = self._looks(sight, sorted(sides_px, reverse=True))

    def _looks(self, sight: _Sight, sides_px: Sequence[int]) -> Iterator[_Look]:
        """At first all over the bed with the widest tiles; when these are scored, at what was suspicious in them."""
        everywhere = {side_px: self._everywhere(sight, side_px) for side_px in sides_px}
        yield sides_px[0], everywhere[sides_px[0]]
        if len(sides_px) == 1:
            return
        stride_px = self._segment.map_stride_px
        # What reaches its threshold must have been looked at twice, be that as low as it may.
        least_K = [min(self._segment.suspicion, threshold) for threshold in self._classes.thresholds]
        places_hw = suspicious(inside_bed(sight.mosaics[0].blended(), sight.bed_HW, stride_px), least_K)
        yield from second_looks(places_hw, everywhere, self._segment.overlap_px, stride_px)

    def _everywhere(self, sight: _Sight, side_px: int) -> NDArray[np.intp]:
        height, width = sight.pixels_HW3.shape[:2]
        boxes_N4 = tile_boxes(height, width, side_px, self._segment.overlap_px)
        return boxes_N4[touches(boxes_N4, sight.bed_HW)]

    def _score(self, tiles: Sequence[_Tile], side_px: int) -> Iterator[_Sight]:
        """Score tiles and yield the frames that have none left of this side.

        Raises:
            ModelError: A score is not finite; without this, the frame would be one in which nothing was found.
        """
        # Always full: a batch of another size can differ in the last bit of its scores, and then the rows of a resumed
        # run, whose frames come together otherwise, would not equal those of an uninterrupted one.
        batch_NHW3 = np.zeros((self._segment.tiles_per_batch, side_px, side_px, 3), dtype=np.uint8)
        for tile_HW3, (sight, (x0, y0, x1, y1)) in zip(batch_NHW3, tiles, strict=False):
            tile_HW3[:] = sight.pixels_HW3[y0:y1, x0:x1]
        scores_NKhw = self._score_tiles(batch_NHW3)[: len(tiles)]
        finite_N = np.isfinite(scores_NKhw).all(axis=(1, 2, 3))
        if not finite_N.all():
            astray = tiles[int(finite_N.argmin())][0].source
            raise ModelError(
                f"the model gives frame {astray.frame_id} scores that are NaN or infinite; set [segment] precision = "
                '"fp32", or give another model'
            )
        stride_px = self._segment.map_stride_px
        for (sight, (x0, y0, _, _)), scores_Khw in zip(tiles, scores_NKhw, strict=True):
            sight.mosaics[-1].add(scores_Khw, x0 // stride_px, y0 // stride_px)
            sight.num_unscored -= 1
            if sight.num_unscored == 0:
                yield sight

    def _measure(self, sight: _Sight) -> None:
        stride_px, min_area_px = self._segment.map_stride_px, self._segment.min_area_px
        map_Khw = inside_bed(last_word(sight.mosaics), sight.bed_HW, stride_px)
        found = find_components(map_Khw, self._classes.thresholds, sight.bed_HW, stride_px, min_area_px)
        peaks_K = [peak_score(map_hw.ravel(), stride_px, min_area_px) for map_hw in map_Khw]
        # Components never overlap, so their areas add up to that of their union.
        contaminated_area_px = sum(component.area_px for component in found)
        # What was found was seen, be it as black as a cable or as bright as a glint on a can.
        seen_area_px = sight.row["seen_area_px"] + self._hidden_area_px(sight, found)
        seen_area_px = min(max(seen_area_px, contaminated_area_px), sight.row["bed_area_px"])  # it is an estimate
        sight.row |= {
            "contaminated_area_px": contaminated_area_px,
            "seen_area_px": seen_area_px,
            "coverage_frac": seen_area_px / sight.row["bed_area_px"],
            "peak_score": max(peaks_K),
            "classes": [self._class_area(k, peaks_K[k], found) for k in range(len(peaks_K))],
            "detections": [self._detection(component, sight.bed_HW.shape, seen_area_px) for component in found],
        }

    def _hidden_area_px(self, sight: _Sight, found: Sequence[Component]) -> int:
        """Pixels of what was found that are black or blown out, and so not among the seen ones."""
        if not found:
            return 0
        found_HW = np.zeros_like(sight.bed_HW)
        for component in found:
            x0, y0, x1, y1 = component.bbox_xyxy
            found_HW[y0:y1, x0:x1] |= component.mask
        height, width = found_HW.shape  # without what the grid has padded
        return round(hidden_frac(sight.pixels_HW3[:height, :width], found_HW) * np.count_nonzero(found_HW))

    def _class_area(self, class_index: int, peak: float, found: Sequence[Component]) -> Row:
        of_class = [component for component in found if component.class_index == class_index]
        return {
            "class_name": self._classes.names[class_index],
            "area_px": sum(component.area_px for component in of_class),
            "num_detections": len(of_class),
            "max_score": max((component.score for component in of_class), default=0.0),
            "peak_score": peak,
        }

    def _detection(self, component: Component, frame_hw: tuple[int, ...], seen_area_px: int) -> Row:
        x0, y0, x1, y1 = component.bbox_xyxy
        height, width = frame_hw
        return {
            "class_name": self._classes.names[component.class_index],
            "score": component.score,
            "severity": self._classes.severities[component.class_index],
            "bbox": {"x_min_px": x0, "y_min_px": y0, "x_max_px": x1, "y_max_px": y1},
            "area_px": component.area_px,
            "area_frac": component.area_px / seen_area_px,
            "mask": encode_mask(component.mask, (x0, y0), (height, width)),
        }


def _succeeds(stage: str, step: Callable[[_Sight], None], sight: _Sight) -> bool:
    """Take a step; an error in it turns the frame's row into a rejected one."""
    try:
        step(sight)
    except MemoryError:
        raise
    except FrameError as error:
        sight.row |= {"status": "rejected", "reject_stage": error.stage, "reject_reason": error.reason}
    except Exception as error:  # one frame that we did not foresee must not stop a night
        sight.row |= {"status": "rejected", "reject_stage": stage, "reject_reason": type(error).__name__}
    return bool(sight.row["status"] == "used")
