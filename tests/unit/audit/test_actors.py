from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from scrapray.audit import actors
from scrapray.audit.actors import Segment, classes_of, precision_of
from scrapray.audit.fetch import FETCHED, fetch
from scrapray.config import AuditConfig, ResourcesConfig, SegmentConfig
from scrapray.errors import ConfigurationError, ModelError, StorageError
from scrapray.imagery.decode import decode_frame
from scrapray.schema import RESULTS
from scrapray.segmenter.bundle import BundleCard, load_bundle, read_card
from scrapray.segmenter.measure import cpu_is_made_for_bf16
from scrapray.storage import Storage
from tests.fixtures.services import STRANGER, UNKNOWN, Identity, S3Server, acting_as
from tests.integration.nights import CONFIG, noise_jpeg


def todo_of(*uris: str) -> pa.Table:
    return pa.table({"frame_id": [f"f{i}" for i in range(len(uris))], "uri": uris, "camera_id": ["c1"] * len(uris)})


def fetched_of(*contents: bytes | None) -> pa.Table:
    rows = [
        {"frame_id": f"f{i}", "camera_id": "c1", "data": data, "download_fault": None if data else "missing"}
        for i, data in enumerate(contents)
    ]
    return pa.Table.from_pylist(rows, schema=FETCHED)


def test_fetching_gives_bytes_or_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a=1 ü%41*.jpg").write_bytes(b"frame")
    table = fetch(todo_of(f"{tmp_path}/a=1 ü%41*.jpg", f"{tmp_path}/gone.jpg"), str(tmp_path), Storage())
    assert table.schema == FETCHED
    assert table["data"].to_pylist() == [b"frame", None]
    assert table["download_fault"].to_pylist() == [None, "missing"]


def test_a_folder_that_is_not_mounted_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    with pytest.raises(StorageError, match=r"nothing at all below .*mnt; see whether it is mounted"):
        fetch(todo_of(f"{tmp_path}/mnt/a.jpg"), f"{tmp_path}/mnt", Storage())


def test_no_frames_are_fetched_into_an_empty_table() -> None:
    assert fetch(todo_of(), "", Storage()).schema == FETCHED


@pytest.fixture(scope="module")
def frame_uri(s3: S3Server) -> str:
    uri = s3.make_bucket("fetched") + "/north/a=1 ü.jpg"
    Storage(s3.config).write_bytes(uri, b"frame")
    return uri


def test_a_key_that_was_deleted_after_the_index_is_a_reason(s3: S3Server, frame_uri: str) -> None:
    table = fetch(todo_of(frame_uri, "s3://fetched/north/gone.jpg"), "s3://fetched", Storage(s3.config))
    assert table["data"].to_pylist() == [b"frame", None]
    assert table["download_fault"].to_pylist() == [None, "missing"]


@pytest.mark.parametrize(("identity", "reason"), [(STRANGER, "forbidden"), (UNKNOWN, "credentials")])
def test_an_archive_that_may_not_be_read_stops_the_run(
    s3: S3Server, frame_uri: str, identity: Identity, reason: str
) -> None:
    with acting_as(identity), pytest.raises(StorageError) as caught:
        fetch(todo_of(frame_uri), "s3://fetched", Storage(s3.config))
    assert caught.value.reason == reason


def test_a_bucket_that_is_gone_stops_the_run(s3: S3Server) -> None:
    with pytest.raises(StorageError) as caught:
        fetch(todo_of("s3://vanished/a.jpg"), "s3://vanished", Storage(s3.config))
    assert caught.value.reason == "no_bucket"


def test_one_frame_that_may_not_be_read_in_an_archive_that_may_is_a_reason() -> None:
    class OneForbidden(Storage):
        def read_bytes(self, uri: str) -> bytes:
            raise StorageError(f"cannot read {uri}", reason="forbidden")

        def list_pages(self, uri: str, suffixes: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
            assert uri == "s3://archive"
            return iter([["another frame"]])

    table = fetch(todo_of("s3://archive/north/a.jpg"), "s3://archive", OneForbidden())
    assert table["download_fault"].to_pylist() == ["forbidden"]


def segment_with(bundle: Path, config: AuditConfig = CONFIG, card: BundleCard | None = None) -> Segment:
    return Segment(str(bundle), card or read_card(bundle), config, Storage())


def test_an_actor_turns_fetched_frames_into_as_many_rows_of_results(tiny_bundle: Path) -> None:
    table = segment_with(tiny_bundle)(fetched_of(noise_jpeg(0), None, b"junk"))
    assert table.schema == RESULTS
    rows = {row["frame_id"]: row for row in table.to_pylist()}
    assert rows["f0"]["status"] == "used"
    assert (rows["f1"]["reject_stage"], rows["f1"]["reject_reason"]) == ("download", "missing")
    assert (rows["f2"]["reject_stage"], rows["f2"]["reject_reason"]) == ("decode", "not_an_image")


def test_scores_are_those_of_the_bundle(tiny_bundle: Path) -> None:
    config = replace(CONFIG, segment=replace(CONFIG.segment, map_stride_px=1, min_area_px=1, overlap_px=0))
    (row,) = segment_with(tiny_bundle, config)(fetched_of(noise_jpeg(0, 64, 64))).to_pylist()
    tile_HW3 = decode_frame(noise_jpeg(0, 64, 64), 10_000)
    scores_KHW = load_bundle(tiny_bundle).score_tiles(tile_HW3[None], 64, autocast=cpu_is_made_for_bf16())[0]
    peaks = [area["peak_score"] for area in row["classes"]]
    np.testing.assert_allclose(peaks, scores_KHW.max(axis=(1, 2)), rtol=1e-5)


def test_a_bundle_is_downloaded_from_where_the_uri_says(tiny_bundle: Path) -> None:
    segment = Segment(f"file://{tiny_bundle}", read_card(tiny_bundle), CONFIG, Storage())
    assert segment(fetched_of(noise_jpeg(0)))["status"].to_pylist() == ["used"]


@pytest.mark.parametrize("change", [{"weights_sha256": "0" * 64}, {"thresholds": (0.5, 0.9, 0.5)}])
def test_another_bundle_than_that_of_the_run_is_refused(tiny_bundle: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="somebody replaced the bundle"):
        segment_with(tiny_bundle, card=replace(read_card(tiny_bundle), **change))


def test_precision_is_what_the_settings_say_or_else_what_the_hardware_is_made_for(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peaks(precision: Literal["auto", "bf16", "fp32"]) -> list[float]:
        config = replace(CONFIG, segment=replace(CONFIG.segment, precision=precision))
        (row,) = segment_with(tiny_bundle, config)(fetched_of(noise_jpeg(0))).to_pylist()
        return [area["peak_score"] for area in row["classes"]]

    by_bf16 = {}
    for has_bf16 in (True, False):
        monkeypatch.setattr(actors, "cpu_is_made_for_bf16", lambda has_bf16=has_bf16: has_bf16)
        by_bf16[has_bf16] = [peaks("auto"), peaks("bf16"), peaks("fp32")]
    auto, bf16, fp32 = by_bf16[True]
    assert auto == bf16 != fp32
    assert by_bf16[False] == [fp32, bf16, fp32]
    on_gpu = replace(CONFIG, resources=ResourcesConfig(gpus_per_actor=1))
    assert precision_of(on_gpu) == "bf16"


def test_the_configuration_comes_before_the_card(tiny_bundle: Path) -> None:
    card = read_card(tiny_bundle)
    segment = SegmentConfig(overlap_px=16, thresholds={"cable": 0.9}, severities={"motor": 3})
    classes = classes_of(card, segment)
    assert classes.names == ("motor", "cable", "spray can")
    assert classes.thresholds == (card.thresholds[0], 0.9, card.thresholds[2])
    assert classes.severities == (3, 1, 3)


@pytest.mark.parametrize(
    ("segment", "named"),
    [
        (SegmentConfig(overlap_px=16, thresholds={"toaster": 0.5}), "thresholds names toaster"),
        (SegmentConfig(overlap_px=16, severities={"toaster": 1}), "severities names toaster"),
        (SegmentConfig(overlap_px=64), "overlap must be smaller"),
        (SegmentConfig(overlap_px=0, map_stride_px=7), "stride must divide"),
    ],
)
def test_settings_that_do_not_fit_the_bundle_are_named(tiny_bundle: Path, segment: SegmentConfig, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        classes_of(read_card(tiny_bundle), segment)
