import io
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from scrapray.audit.frames import ArchivedFrame, Classes, FrameSegmenter, Row
from scrapray.config import AuditConfig, CameraConfig, QualityConfig, SegmentConfig
from scrapray.errors import ModelError
from scrapray.imagery.masks import decode_mask
from scrapray.schema import RESULTS

TILE, STRIDE = 64, 4
CLASSES = Classes(names=("motor", "cable"), severities=(2, 1), thresholds=(0.5, 0.5))
MIDDLE_GREY = 120
BED = ((0, 0), (90, 0), (90, 90), (0, 90))


def picture(height: int = 150, width: int = 210, seed: int = 0) -> NDArray[np.uint8]:
    """Grey noise that is neither dark nor blurred, with no pixel as red as a motor."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(60, 180, (height, width, 1), dtype=np.uint8), 3, axis=2)


def with_motor(frame_HW3: NDArray[np.uint8], x: int, y: int, side: int = 20) -> NDArray[np.uint8]:
    marked_HW3 = frame_HW3.copy()
    marked_HW3[y : y + side, x : x + side] = (255, 0, 0)
    return marked_HW3


def png(frame_HW3: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame_HW3).save(buffer, "PNG")
    return buffer.getvalue()


class RedIsMotor:
    """A segmenter that takes pure red for motors and pure blue for cables, and remembers how it was called."""

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []
        self.num_tiles = 0

    def __call__(self, tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batch_sizes.append(len(tiles_NHW3))
        self.num_tiles += np.count_nonzero(tiles_NHW3.any(axis=(1, 2, 3)))
        n, side = len(tiles_NHW3), tiles_NHW3.shape[1] // STRIDE
        colours_NhwC = tiles_NHW3.reshape(n, side, STRIDE, side, STRIDE, 3).mean(axis=(2, 4)) / 255
        red, green, blue = np.moveaxis(colours_NhwC, -1, 0)
        return np.stack([red * (1 - green), blue * (1 - green)], axis=1).astype(np.float32)


def segmenter(score_tiles: Any = None, tile_sides_px: Sequence[int] = (TILE,), **changes: Any) -> FrameSegmenter:
    settings: dict[str, Any] = {
        "segment": SegmentConfig(overlap_px=16, tiles_per_batch=8, map_stride_px=STRIDE, min_area_px=32),
        "quality": QualityConfig(max_pixels=100_000),
    }
    config = AuditConfig(**(settings | changes))
    return FrameSegmenter(
        config=config, classes=CLASSES, tile_sides_px=tile_sides_px, score_tiles=score_tiles or RedIsMotor()
    )


def rows_of(segment: FrameSegmenter, contents: Sequence[bytes | None], camera_id: str | None = "c1") -> list[Row]:
    rows = list(segment(ArchivedFrame(f"f{i}", camera_id, data) for i, data in enumerate(contents)))
    pa.Table.from_pylist(rows, schema=RESULTS).validate(full=True)
    return sorted(rows, key=lambda row: str(row["frame_id"]))


def row_of(data: bytes | None, camera_id: str | None = "c1", **changes: Any) -> Row:
    (row,) = rows_of(segmenter(**changes), [data], camera_id)
    return row


def why(row: Row) -> tuple[str, str]:
    assert row["status"] == "rejected"
    return row["reject_stage"], row["reject_reason"]


def test_a_motor_is_found_where_it_lies() -> None:
    row = row_of(png(with_motor(picture(), x=100, y=60)))
    (detection,) = row["detections"]
    assert (row["status"], row["reject_stage"], row["reject_reason"]) == ("used", None, None)
    assert (detection["class_name"], detection["severity"]) == ("motor", 2)
    assert detection["bbox"] == {"x_min_px": 100, "y_min_px": 60, "x_max_px": 120, "y_max_px": 80}
    assert detection["area_px"] == row["contaminated_area_px"] == 400
    assert decode_mask(detection["mask"])[60:80, 100:120].all()
    assert detection["area_frac"] == pytest.approx(400 / row["seen_area_px"])
    assert row["peak_score"] == pytest.approx(1.0)


def test_a_clean_frame_is_used_and_has_an_empty_list() -> None:
    row = row_of(png(picture()))
    assert row["detections"] == []
    assert row["contaminated_area_px"] == 0
    assert [(area["class_name"], area["num_detections"]) for area in row["classes"]] == [("motor", 0), ("cable", 0)]
    assert (row["height_px"], row["width_px"], row["bed_area_px"]) == (150, 210, 150 * 210)
    assert len(row["thumbnail"]) == 256 and len(row["content_sha256"]) == 64


def test_what_is_found_counts_as_seen_even_where_it_is_black() -> None:
    def all_is_motor(tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        n, side = len(tiles_NHW3), tiles_NHW3.shape[1] // STRIDE
        return np.stack([np.ones((n, side, side)), np.zeros((n, side, side))], axis=1).astype(np.float32)

    frame_HW3 = picture()
    frame_HW3[:30] = 0
    (row,) = rows_of(segmenter(all_is_motor), [png(frame_HW3)])
    assert row["dark_frac"] == pytest.approx(0.2)
    assert row["contaminated_area_px"] == row["seen_area_px"] == row["bed_area_px"]
    assert (row["coverage_frac"], row["detections"][0]["area_frac"]) == (1.0, 1.0)


def test_of_black_and_blown_out_parts_only_what_was_found_counts_as_seen() -> None:
    def black_is_cable(tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        n, side = len(tiles_NHW3), tiles_NHW3.shape[1] // STRIDE
        is_black = tiles_NHW3.reshape(n, side, STRIDE, side, STRIDE, 3).max(axis=(2, 4, 5)) == 0
        return np.stack([np.zeros_like(is_black), is_black], axis=1).astype(np.float32)

    frame_HW3 = picture(160, 200)
    frame_HW3[:40] = 0
    frame_HW3[120:] = 255
    (row,) = rows_of(segmenter(black_is_cable), [png(frame_HW3)])
    assert row["contaminated_area_px"] == 40 * 200
    assert row["seen_area_px"] == pytest.approx(120 * 200, rel=0.001)
    assert row["coverage_frac"] == pytest.approx(0.75, rel=0.001)


def test_a_class_without_a_detection_still_tells_its_peak() -> None:
    faint_HW3 = picture()
    faint_HW3[60:80, 100:120] = (100, 0, 0)
    below, above = (row_of(png(frame_HW3))["classes"][0] for frame_HW3 in (faint_HW3, with_motor(faint_HW3, 20, 20)))
    assert (below["num_detections"], below["max_score"]) == (0, 0.0)
    assert below["peak_score"] == pytest.approx(100 / 255, abs=0.01)
    assert above["max_score"] == above["peak_score"] == pytest.approx(1.0)


def test_an_object_across_tiles_is_one_detection() -> None:
    row = row_of(png(with_motor(picture(), x=40, y=40, side=40)))
    (detection,) = row["detections"]
    assert detection["area_px"] == 1600


class MiddleCounts(RedIsMotor):
    """Scores what lies in the middle of a tile higher, so that it matters which tiles see it, and in what order."""

    def __call__(self, tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        scores_NKhw = super().__call__(tiles_NHW3)
        ramp = np.linspace(0.6, 1, scores_NKhw.shape[-1], dtype=np.float32)
        middle = np.minimum(ramp, ramp[::-1])
        return scores_NKhw * np.sqrt(middle[:, None] * middle)


@pytest.mark.parametrize("tile_sides_px", [(TILE,), (TILE, 128)])
def test_rows_do_not_depend_on_how_tiles_are_batched(tile_sides_px: tuple[int, ...]) -> None:
    frames = [with_motor(with_motor(picture(seed=i), x=3 + i, y=7, side=70), x=110 + 9 * i, y=90 + i) for i in range(4)]
    contents = [png(with_motor(frame_HW3, x=160, y=20 + i)) for i, frame_HW3 in enumerate(frames)]
    expected = rows_of(segmenter(MiddleCounts(), tile_sides_px), contents)
    assert all(row["detections"] for row in expected)
    for tiles_per_batch in (1, 5, 100):
        config = SegmentConfig(overlap_px=16, tiles_per_batch=tiles_per_batch, map_stride_px=STRIDE, min_area_px=32)
        segment = segmenter(MiddleCounts(), tile_sides_px, segment=config)
        assert rows_of(segment, contents) == expected
        backwards = rows_of(segment, contents[::-1])
        assert [row | {"frame_id": "f"} for row in backwards[::-1]] == [row | {"frame_id": "f"} for row in expected]
        alone = [rows_of(segment, [data])[0] | {"frame_id": "f"} for data in contents]
        assert alone == [row | {"frame_id": "f"} for row in expected]


def test_the_close_tile_has_the_last_word() -> None:
    class DoubtsClosely(RedIsMotor):
        def __call__(self, tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
            return super().__call__(tiles_NHW3) * np.float32(0.2 if tiles_NHW3.shape[1] == TILE else 1.0)

    frame = png(with_motor(picture(), x=100, y=60))
    (wide,) = rows_of(segmenter(DoubtsClosely(), tile_sides_px=(128,)), [frame])
    (both,) = rows_of(segmenter(DoubtsClosely(), tile_sides_px=(TILE, 128)), [frame])
    assert (len(wide["detections"]), wide["peak_score"]) == (1, pytest.approx(1.0))
    assert both["detections"] == []
    assert both["peak_score"] < 0.3


class CountsTiles(RedIsMotor):
    """Counts the tiles of each side that are not empty."""

    def __init__(self) -> None:
        super().__init__()
        self.num_of_side: Counter[int] = Counter()

    def __call__(self, tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.num_of_side[tiles_NHW3.shape[1]] += int(np.count_nonzero(tiles_NHW3.any(axis=(1, 2, 3))))
        return super().__call__(tiles_NHW3)


def looked_at(
    model: CountsTiles,
    frames: list[bytes],
    suspicion: float,
    threshold: float = 0.9,
    bed_polygon_px: tuple[tuple[float, float], ...] = (),
) -> list[Row]:
    config = AuditConfig(
        cameras={"c1": CameraConfig(bed_polygon_px=bed_polygon_px)} if bed_polygon_px else {},
        segment=SegmentConfig(overlap_px=16, map_stride_px=STRIDE, min_area_px=32, suspicion=suspicion),
    )
    segment = FrameSegmenter(
        config=config,
        classes=replace(CLASSES, thresholds=(threshold, threshold)),
        tile_sides_px=(TILE, 128),
        score_tiles=model,
    )
    return rows_of(segment, frames)


def test_a_suspicion_is_looked_at_in_one_close_tile_around_it() -> None:
    model = CountsTiles()
    (row,) = looked_at(model, [png(with_motor(picture(), x=100, y=60))], suspicion=0.4)
    assert model.num_of_side == {128: 4, TILE: 1}
    (detection,) = row["detections"]
    assert detection["bbox"] == {"x_min_px": 100, "y_min_px": 60, "x_max_px": 120, "y_max_px": 80}
    assert detection["score"] == pytest.approx(1.0)


def test_a_place_too_large_for_a_close_tile_is_looked_at_in_a_wide_one_around_it() -> None:
    model = CountsTiles()
    (row,) = looked_at(model, [png(with_motor(picture(), x=72, y=32, side=80))], suspicion=0.4)
    assert model.num_of_side == {128: 4 + 1}
    assert [detection["area_px"] for detection in row["detections"]] == [6400]


def test_what_is_suspicious_outside_the_bed_is_not_looked_at_again() -> None:
    model = CountsTiles()
    frame_HW3 = with_motor(with_motor(picture(), x=20, y=20), x=104, y=40)
    (row,) = looked_at(model, [png(frame_HW3)], suspicion=0.4, bed_polygon_px=BED)
    assert model.num_of_side == {128: 4, TILE: 1}
    assert [detection["bbox"]["x_min_px"] for detection in row["detections"]] == [20]


def test_a_second_look_takes_no_more_tiles_than_the_whole_frame() -> None:
    frame_HW3 = picture()
    for x, y in itertools.product(range(8, 200, 16), range(8, 140, 16)):
        frame_HW3 = with_motor(frame_HW3, x=x, y=y, side=8)
    model = CountsTiles()
    (row,) = looked_at(model, [png(frame_HW3)], suspicion=0.4)
    assert model.num_of_side == {128: 4, TILE: 15}
    assert len(row["detections"]) == 12 * 9


def test_a_second_look_takes_no_more_tiles_than_the_bed() -> None:
    frame_HW3 = picture()
    for x, y in itertools.product(range(2, 90, 32), repeat=2):
        frame_HW3 = with_motor(frame_HW3, x=x, y=y, side=8)
    model = CountsTiles()
    looked_at(model, [png(frame_HW3)], suspicion=0.4, bed_polygon_px=BED)
    assert model.num_of_side == {128: 4, TILE: 6}


@pytest.mark.parametrize(
    ("suspicion", "threshold", "num_close"),
    [
        pytest.param(0.8, 0.9, 0, id="neither"),
        pytest.param(0.8, 0.3, 1, id="reaches its threshold"),
        pytest.param(0.4, 0.9, 1, id="suspicious"),
    ],
)
def test_what_is_suspicious_or_reaches_its_threshold_is_looked_at_again(
    suspicion: float, threshold: float, num_close: int
) -> None:
    frame_HW3 = picture()
    frame_HW3[60:80, 100:120] = (128, 0, 0)
    model = CountsTiles()
    looked_at(model, [png(frame_HW3)], suspicion=suspicion, threshold=threshold)
    assert model.num_of_side[TILE] == num_close


def test_without_anything_suspicious_no_close_tile_is_looked_at() -> None:
    model = CountsTiles()
    rows = looked_at(model, [png(picture(seed=seed)) for seed in range(3)], suspicion=0.4)
    assert model.num_of_side == {128: 12}
    assert [(row["status"], row["detections"]) for row in rows] == [("used", [])] * 3


def test_a_frame_smaller_than_wide_tiles_is_judged_by_close_ones() -> None:
    (row,) = rows_of(segmenter(tile_sides_px=(TILE, 256)), [png(with_motor(picture(), x=100, y=60))])
    assert (row["status"], len(row["detections"])) == ("used", 1)


def test_batches_run_across_frames_and_are_always_full() -> None:
    model = RedIsMotor()
    rows_of(segmenter(model), [png(picture(seed=i)) for i in range(3)])
    assert model.num_tiles == 3 * 3 * 5
    assert model.batch_sizes == [8] * 6


def test_frames_are_taken_only_as_tiles_run_out() -> None:
    taken = 0

    def frames() -> Iterator[ArchivedFrame]:
        nonlocal taken
        for i in range(10):
            taken += 1
            yield ArchivedFrame(f"f{i}", "c1", png(picture()))

    next(segmenter()(frames()))
    assert taken <= 3


def test_only_tiles_that_touch_the_bed_are_scored() -> None:
    model = RedIsMotor()
    config = AuditConfig(
        cameras={"c1": CameraConfig(bed_polygon_px=((0, 0), (60, 0), (60, 60), (0, 60)))},
        segment=SegmentConfig(overlap_px=16, map_stride_px=STRIDE, min_area_px=32),
    )
    segment = FrameSegmenter(config=config, classes=CLASSES, tile_sides_px=(TILE,), score_tiles=model)
    frame_HW3 = with_motor(with_motor(picture(), x=20, y=20), x=140, y=100)
    (row,) = rows_of(segment, [png(frame_HW3)])
    assert model.num_tiles == 4
    assert [detection["bbox"]["x_min_px"] for detection in row["detections"]] == [20]
    assert row["bed_area_px"] == 3600


def test_each_kind_of_bad_frame_is_rejected_with_stage_and_reason() -> None:
    good = png(picture())
    bed = {"c1": CameraConfig(bed_polygon_px=((0, 0), (400, 0), (400, 60)))}
    assert why(row_of(None)) == ("download", "failed")
    assert why(row_of(b"")) == ("decode", "empty")
    assert why(row_of(good[:500])) == ("decode", "truncated")
    assert why(row_of(png(picture(400, 400)))) == ("decode", "too_many_pixels")
    assert why(row_of(good, cameras=bed)) == ("bed", "polygon_outside_frame")
    assert why(row_of(good, camera_id="c2", cameras=bed)) == ("bed", "unknown_camera")
    assert why(row_of(good, camera_id=None, cameras=bed)) == ("bed", "unknown_camera")
    assert why(row_of(png(np.zeros((150, 210, 3), np.uint8)))) == ("quality", "too_dark")
    assert why(row_of(png(picture(50, 210)))) == ("segment", "frame_smaller_than_tile")


def test_the_reason_of_a_failed_download_is_kept() -> None:
    (row,) = segmenter()([ArchivedFrame("f", "c1", None, "missing")])
    assert why(row) == ("download", "missing")


def test_a_frame_rejected_for_its_quality_keeps_its_measures() -> None:
    row = row_of(png(np.full((150, 210, 3), MIDDLE_GREY, np.uint8)))
    assert why(row) == ("quality", "blurred")
    assert row["brightness"] == pytest.approx(MIDDLE_GREY / 255, abs=0.01)
    assert row["detections"] is None


def test_a_bad_frame_among_good_ones_takes_nothing_with_it() -> None:
    contents = [png(with_motor(picture(seed=i), x=30, y=30)) for i in range(4)]
    rows = rows_of(segmenter(), [*contents[:2], b"junk", *contents[2:]])
    assert [row["status"] for row in rows] == ["used", "used", "rejected", "used", "used"]
    assert [len(row["detections"] or ()) for row in rows] == [1, 1, 0, 1, 1]


def test_an_unforeseen_error_rejects_the_frame_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("not foreseen")

    monkeypatch.setattr("scrapray.audit.frames.find_components", fail)
    assert why(row_of(png(picture()))) == ("segment", "KeyError")
    monkeypatch.setattr("scrapray.audit.frames.measure_quality", fail)
    assert why(row_of(png(picture()))) == ("quality", "KeyError")


def test_an_unforeseen_error_between_two_looks_takes_no_other_frame_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_if_suspicious(places_hw: NDArray[np.bool_], *_: object) -> Iterator[tuple[int, NDArray[np.intp]]]:
        if places_hw.any():
            raise KeyError("not foreseen")
        return iter(())

    monkeypatch.setattr("scrapray.audit.frames.second_looks", fail_if_suspicious)
    frames = [png(picture(seed=1)), png(with_motor(picture(), x=100, y=60)), png(picture(seed=2))]
    before, suspect, after = rows_of(segmenter(tile_sides_px=(TILE, 128)), frames)
    assert why(suspect) == ("segment", "KeyError")
    assert before["status"] == after["status"] == "used"


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("CUDA error: device lost")])
def test_what_is_wrong_with_the_machine_is_raised(error: Exception) -> None:
    def fail(_: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise error

    with pytest.raises(type(error)):
        row_of(png(picture()), score_tiles=fail)


@pytest.mark.parametrize("tile_sides_px", [(TILE,), (TILE, 128)])
@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_the_fault_of_the_model(score: float, tile_sides_px: tuple[int, ...]) -> None:
    def gone_astray(tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        scores_NKhw = RedIsMotor()(tiles_NHW3)
        scores_NKhw[0, 0, 0, 0] = score
        return scores_NKhw

    with pytest.raises(ModelError, match="frame f0 scores that are NaN or infinite"):
        rows_of(segmenter(gone_astray, tile_sides_px), [png(picture())])


def test_the_frame_whose_scores_are_not_finite_is_named_and_not_its_neighbour_in_the_batch() -> None:
    class AstrayOnMotors(RedIsMotor):
        def __call__(self, tiles_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
            scores_NKhw = super().__call__(tiles_NHW3)
            return np.where(scores_NKhw == 1, np.float32("nan"), scores_NKhw)

    clean, dirty = picture(TILE, TILE), with_motor(picture(TILE, TILE), 20, 20)
    with pytest.raises(ModelError, match="frame f1 scores"):
        rows_of(segmenter(AstrayOnMotors()), [png(clean), png(dirty), png(dirty)])


def test_running_out_of_memory_while_decoding_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("scrapray.audit.frames.decode_frame", fail)
    with pytest.raises(MemoryError):
        row_of(png(picture()))


def test_black_and_blown_out_parts_do_not_count_as_seen() -> None:
    frame_HW3 = picture()
    frame_HW3[:, :70] = 0
    frame_HW3[:, 175:] = 255
    row = row_of(png(frame_HW3))
    assert row["coverage_frac"] == pytest.approx(0.5, abs=0.01)
    assert row["seen_area_px"] == pytest.approx(0.5 * 150 * 210, rel=0.02)
