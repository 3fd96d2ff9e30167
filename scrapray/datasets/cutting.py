"""One annotated frame -> its tiles with the class of each pixel. Knows neither Ray nor storage.

decode -> truck bed -> paint annotations -> tiles that touch the bed -> PNG
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scrapray.datasets.annotations import AnnotatedFrame, Skipped
from scrapray.datasets.config import BedByWords
from scrapray.datasets.painting import Painting, odd_pieces, odd_regions, paint_mask_file, paint_regions
from scrapray.datasets.split import Split, place_of, unit_of
from scrapray.errors import FrameError
from scrapray.imagery.bed import Polygon, bed_mask, touches
from scrapray.imagery.decode import decode_frame
from scrapray.imagery.likeness import coarse_look
from scrapray.imagery.png import encode_png
from scrapray.imagery.tiling import tile_boxes

Row = dict[str, Any]
"""One row of ``schema.TILES``, without its place in a part."""
_TOLD = ("frame_id", "uri", "site", "date", "camera_id", "truck_id", "load_id")
_NAME_CHARACTERS = 32
_EVERY_VALUE = range(256)


@dataclass(frozen=True, slots=True, kw_only=True)
class TileCutter:
    """Cuts frames.

    Attributes:
        class_names: Ids are positions, from 1.
        class_of_value: Class id of every value of a class-index mask.
        beds: Corners of the truck bed of each camera; without any, the bed is the whole frame.
        bed_by_words: How to find the bed in frames of other cameras; left out, their frames are too.
        tile_px: Side of a tile.
        overlap_px: Pixels that neighbours share at least.
        clean_share: Share of tiles without a contaminant that are kept for training; in the other splits all are.
        max_pixels: Larger frames are left out.
    """

    class_names: tuple[str, ...]
    class_of_value: Mapping[int, int]
    beds: Mapping[str, Polygon]
    bed_by_words: BedByWords | None = None
    tile_px: int
    overlap_px: int
    clean_share: float
    max_pixels: int

    def cut(
        self, frame: AnnotatedFrame, split: Split, data: bytes, mask_data: bytes | None
    ) -> tuple[list[Row], list[Skipped]]:
        """Tiles of one frame, and what of its annotations was left out.

        Args:
            frame: The frame.
            split: Where its tiles go.
            data: Its file.
            mask_data: Its mask file, if it has one.

        Raises:
            FrameError: The frame, its mask or its annotations cannot be used.
        """
        pixels_HW3 = decode_frame(data, self.max_pixels)
        frame_hw = pixels_HW3.shape[0], pixels_HW3.shape[1]
        if min(frame_hw) < self.tile_px:
            raise FrameError("cut", "frame_smaller_than_tile", f"{frame_hw[1]}x{frame_hw[0]}")
        boxes_N4 = tile_boxes(*frame_hw, self.tile_px, self.overlap_px)
        bed_HW = self._bed(frame.camera_id, pixels_HW3)
        boxes_N4 = boxes_N4[touches(boxes_N4, bed_HW)]
        class_HW, overlapped_px, skipped = self._paint(frame, frame_hw, mask_data)
        if mask_data is None:
            skipped += odd_regions(frame, bed_HW)
        else:
            skipped += odd_pieces(frame.uri, class_HW, bed_HW, self.class_names)
        if overlapped_px:
            detail = f"{overlapped_px} px of several classes; the last of them has them"
            skipped.append(Skipped(picture=frame.uri, stage="annotation", reason="overlap", detail=detail))
        told = {name: getattr(frame, name) for name in _TOLD}
        content_sha256 = hashlib.sha256(data).hexdigest()
        told |= {"split": split, "unit": "/".join(unit_of(frame)), "content_sha256": content_sha256}
        told |= {"thumbnail": coarse_look(pixels_HW3, bed_HW)}
        # Unlike frame_id, the same when files are copied or touched.
        name = hashlib.sha256(f"{frame.key}|{content_sha256}".encode()).hexdigest()[:_NAME_CHARACTERS]
        return [told | row for row in self._tiles(name, split, pixels_HW3, class_HW, boxes_N4)], skipped

    def _bed(self, camera_id: str | None, pixels_HW3: NDArray[np.uint8]) -> NDArray[np.bool_]:
        polygon = self.beds.get(camera_id or "")
        if polygon is None and self.bed_by_words:
            from scrapray.segmenter.truck_bed import bed_finder

            words = self.bed_by_words
            return bed_finder(words.detector, words.masker).find(pixels_HW3, words.phrases, words.min_score)
        if polygon is None and self.beds:
            raise FrameError("bed", "unknown_camera", str(camera_id))
        return bed_mask(polygon, (pixels_HW3.shape[0], pixels_HW3.shape[1]))

    def _paint(self, frame: AnnotatedFrame, frame_hw: tuple[int, int], mask_data: bytes | None) -> Painting:
        if mask_data is None:
            return paint_regions(frame, frame_hw, self.class_names)
        class_of_value = self.class_of_value
        if frame.mask_class is not None:
            class_id = self.class_names.index(frame.mask_class) + 1
            class_of_value = {value: class_id if value else 0 for value in _EVERY_VALUE}
        return Painting(paint_mask_file(mask_data, frame_hw, class_of_value), 0, [])

    def _tiles(
        self,
        name: str,
        split: Split,
        pixels_HW3: NDArray[np.uint8],
        class_HW: NDArray[np.uint8],
        boxes_N4: NDArray[np.intp],
    ) -> Iterator[Row]:
        for x0, y0, x1, y1 in boxes_N4.tolist():
            tile_id = f"{name}-{x0}-{y0}"
            tile_class_HW = class_HW[y0:y1, x0:x1]
            if split == "train" and not tile_class_HW.any() and place_of(tile_id) >= self.clean_share:
                continue
            image, mask = encode_png(pixels_HW3[y0:y1, x0:x1]), encode_png(tile_class_HW)
            yield {
                "tile_id": tile_id,
                "box_xyxy": [x0, y0, x1, y1],
                "class_px": np.bincount(tile_class_HW.ravel(), minlength=len(self.class_names) + 1).tolist(),
                "tile_sha256": hashlib.sha256(image + mask).hexdigest(),
                "image": image,
                "mask": mask,
            }
