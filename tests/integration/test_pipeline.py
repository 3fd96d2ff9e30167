"""The pipeline on a real local Ray."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import ray

from scrapray.audit import pipeline
from scrapray.audit.pipeline import segment_frames
from scrapray.config import AuditConfig, CameraConfig, ResourcesConfig
from scrapray.errors import ConfigurationError, ModelError, StorageError
from scrapray.schema import RESULTS
from scrapray.segmenter.bundle import read_card
from scrapray.storage import Storage
from tests.integration.nights import CONFIG, manifest_of, results_in, write_archive

pytestmark = pytest.mark.usefixtures("engine")


class Night:
    """An archive, a work folder and the tiny bundle."""

    def __init__(self, folder: Path, bundle: Path, num_frames: int) -> None:
        self.uris = write_archive(folder / "archive", num_frames)
        self.work = folder / "work"
        self.bundle = bundle
        self.reports: list[tuple[int, int]] = []

    def segment(
        self, manifest: pa.Table, config: AuditConfig = CONFIG, weights_sha256: str | None = None
    ) -> pipeline.SegmentSummary:
        card = read_card(self.bundle)
        return segment_frames(
            manifest,
            str(self.work),
            storage=Storage(),
            bundle_uri=str(self.bundle),
            card=replace(card, weights_sha256=weights_sha256 or card.weights_sha256),
            config=config,
            progress=lambda done, total: self.reports.append((done, total)),
        )


def test_a_night_with_bad_frames_becomes_one_row_each_and_only_late_and_missing_frames_are_done_again(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    night = Night(tmp_path, tiny_bundle, 14)
    archive = tmp_path / "archive"
    (archive / "001.jpg").write_bytes(b"")
    (archive / "002.jpg").rename(tmp_path / "held back")
    strange = archive / "a=1 ü%41*.jpg"
    (archive / "003.jpg").rename(strange)
    for name in ("009.jpg", "010.jpg"):
        (archive / name).write_bytes(b"junk")  # a whole block without one measure
    uris = [*night.uris[:3], str(strange), *night.uris[4:]]

    first = night.segment(manifest_of(uris[:11], rejected=[5]))
    assert (first.num_total, first.num_done_before) == (10, 0)
    assert night.reports[-1] == (10, 10)
    assert night.reports == sorted(night.reports)
    rows = {int(row["frame_id"], 16): row for row in results_in(night.work).to_pylist()}
    assert sorted(rows) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    reasons = {
        number: (row["reject_stage"], row["reject_reason"]) for number, row in rows.items() if row["reject_stage"]
    }
    junk = ("decode", "not_an_image")
    assert reasons == {1: ("decode", "empty"), 2: ("download", "missing"), 9: junk, 10: junk}
    assert any(row["detections"] for row in rows.values()), "nothing was found, so the rows prove little"

    schemas = [pq.read_schema(path) for path in (night.work / "results").iterdir()]
    assert len(schemas) > 1
    assert all((schema.names, schema.types) == (RESULTS.names, RESULTS.types) for schema in schemas)

    before = results_in(night.work)
    (tmp_path / "held back").rename(archive / "002.jpg")
    second = night.segment(manifest_of(uris, rejected=[5]))
    assert (second.num_total, second.num_done_before) == (13, 9)
    after = results_in(night.work)
    assert after.num_rows == 13
    was_missing = f"{2:032x}"
    assert after.filter(pc.equal(after["frame_id"], was_missing))["status"].to_pylist() == ["used"]
    done = before.filter(pc.not_equal(before["frame_id"], was_missing))
    assert after.filter(pc.is_in(after["frame_id"], value_set=done["frame_id"])).equals(done)

    night.reports.clear()
    third = night.segment(manifest_of(uris, rejected=[5]))
    assert (third.num_total, third.num_done_before) == (13, 13)
    assert night.reports == [(13, 13)]
    assert results_in(night.work).equals(after)


def test_frames_that_are_of_another_camera_after_all_are_done_again_with_its_bed(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    night = Night(tmp_path, tiny_bundle, 3)
    config = replace(CONFIG, cameras={"c2": CameraConfig(bed_polygon_px=((0, 0), (200, 0), (200, 140), (0, 140)))})
    manifest = manifest_of(night.uris)
    night.segment(manifest, config)
    assert results_in(night.work)["reject_reason"].to_pylist() == ["unknown_camera"] * 3

    cameras = pa.array(["c2", "c1", "c2"])
    corrected = manifest.set_column(manifest.column_names.index("camera_id"), "camera_id", cameras)
    again = night.segment(corrected, config)
    assert (again.num_total, again.num_done_before) == (3, 1)
    assert results_in(night.work)["reject_reason"].to_pylist() == [None, "unknown_camera", None]


def test_a_night_without_frames_starts_nothing(tmp_path: Path, tiny_bundle: Path) -> None:
    night = Night(tmp_path, tiny_bundle, 2)
    summary = night.segment(manifest_of(night.uris, rejected=[0, 1]))
    assert (summary.num_total, summary.num_done_before) == (0, 0)
    assert not night.work.exists()


def test_an_archive_that_is_gone_stops_the_run_and_rejects_nothing(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = Night(tmp_path, tiny_bundle, 3)
    with pytest.raises(StorageError) as caught:
        night.segment(manifest_of([*night.uris, "unknown://vanished/004.jpg"]))
    assert "unknown://vanished/004.jpg" in str(caught.value)
    assert type(caught.value) is StorageError
    assert not list(night.work.glob("results/*"))


def test_weights_that_were_replaced_after_the_start_are_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    night = Night(tmp_path, tiny_bundle, 1)
    with pytest.raises(ModelError, match="somebody replaced the bundle"):
        night.segment(manifest_of(night.uris), weights_sha256="0" * 64)


@pytest.mark.parametrize(
    ("resources", "named"),
    [
        (ResourcesConfig(actors=20, cpus_per_actor=1), "actors"),
        (ResourcesConfig(cpus_per_actor=64), "cpus_per_actor"),
        (ResourcesConfig(download_tasks=30), "download_tasks"),
        (ResourcesConfig(gpus_per_actor=8), "gpus_per_actor"),
        (ResourcesConfig(gpus_per_actor=8, wait_for_nodes_s=1.5), "gpus_per_actor"),
    ],
)
def test_a_cluster_that_cannot_hold_all_stages_is_refused_before_any_work(
    tmp_path: Path, tiny_bundle: Path, resources: ResourcesConfig, named: str
) -> None:
    night = Night(tmp_path, tiny_bundle, 1)
    with pytest.raises(ConfigurationError, match=named):
        night.segment(manifest_of(night.uris), replace(CONFIG, resources=resources))
    assert not night.work.exists()


def test_settings_that_do_not_fit_the_bundle_are_refused_before_any_work(tmp_path: Path, tiny_bundle: Path) -> None:
    night = Night(tmp_path, tiny_bundle, 1)
    with pytest.raises(ConfigurationError, match="toaster"):
        night.segment(
            manifest_of(night.uris), replace(CONFIG, segment=replace(CONFIG.segment, severities={"toaster": 1}))
        )
    with pytest.raises(ConfigurationError, match="overlap_px"):
        night.segment(manifest_of(night.uris), replace(CONFIG, segment=replace(CONFIG.segment, overlap_px=64)))
    assert not night.work.exists()


def test_a_machine_on_which_ray_does_not_start_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise Exception("The current node\n timed out during startup.")  # what Ray raises when a machine is busy

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ConfigurationError, match="cannot start Ray on this machine: The current node timed out"):
        pipeline.connect(ResourcesConfig())


def test_fetching_and_segmenting_stay_apart_so_that_one_goes_on_while_the_other_computes(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    todo = tmp_path / "todo.parquet"
    pq.write_table(manifest_of(["a", "b"]).select(["frame_id", "uri", "camera_id"]), todo)
    # As many CPUs, tasks and actors on both sides as make Ray join stages where it can.
    config = replace(CONFIG, resources=ResourcesConfig(cpus_per_actor=1, download_tasks=1, actors=1))
    pipeline.plan(
        str(todo),
        archive_uri=str(tmp_path),
        storage=Storage(),
        bundle_uri=str(tiny_bundle),
        card=read_card(tiny_bundle),
        config=config,
    ).explain()
    physical = capsys.readouterr().out.rpartition("Physical Plan (Optimized)")[2]
    assert "ActorPoolMapOperator[MapBatches(Segment)]" in physical
    assert "TaskPoolMapOperator[MapBatches(fetch)]" in physical


def test_a_plan_that_cannot_be_resumed_is_an_error(tmp_path: Path) -> None:
    rows = ray.data.from_items([{"frame_id": "f"}])
    with pytest.raises(AssertionError, match="cannot be resumed"):
        pipeline.write_checkpointed(rows, f"{tmp_path}/results", Storage())
    assert not list(tmp_path.glob("results/*"))
