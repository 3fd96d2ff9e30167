"""What the doctor says of things that are right, wrong and missing. Everything it looks at is real but small."""

import socket
from pathlib import Path

import numpy as np
import pytest

from scrapray.audit.doctor import Finding, examine
from scrapray.config import (
    ArchiveConfig,
    AuditConfig,
    CameraConfig,
    GateLogConfig,
    ResourcesConfig,
    SegmentConfig,
    StorageConfig,
)
from scrapray.imagery.png import encode_png
from scrapray.recipients import AlertsConfig, EmailConfig, WebhookConfig
from tests.fixtures.receivers import WebReceiver

pytestmark = pytest.mark.usefixtures("engine")

WEBHOOK = WebhookConfig(url_env="HOOK_URL", secret_env="HOOK_SECRET")
SQUARE = ((0.0, 0.0), (100.0, 0.0), (100.0, 100.0), (0.0, 100.0))


def finding_of(
    what: str,
    config: AuditConfig | None = None,
    archive: Path | str | None = None,
    lake: Path | str | None = None,
    model: Path | str | None = None,
) -> Finding:
    uris = {"archive_uri": archive, "lake_uri": lake, "model_uri": model}
    findings = examine(config or AuditConfig(), **{name: uri and str(uri) for name, uri in uris.items()})
    return next(finding for finding in findings if finding.what == what)


def archive_of(folder: Path, *keys: str) -> Path:
    for key in keys:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"frame")
    return folder


def test_a_machine_that_is_ready_has_nothing_to_mend(tmp_path: Path, tiny_bundle: Path) -> None:
    archive = archive_of(tmp_path / "archive", "yard/2026-11-20/T1/L1/north_080000.jpg")
    config = AuditConfig(cameras={"north": CameraConfig(bed_polygon_px=SQUARE)}, segment=SegmentConfig(overlap_px=16))
    findings = examine(config, archive_uri=str(archive), lake_uri=str(tmp_path / "lake"), model_uri=str(tiny_bundle))
    assert {finding.what: finding.status for finding in findings if finding.what != "disk"} == {
        "python": "ok",
        "cameras": "ok",
        "gate log": "skip",
        "archive": "ok",
        "lake": "ok",
        "alerts": "skip",
        "model": "warn",  # the tiny bundle has never met a load with known truth
        "ray": "ok",
    }
    assert list((tmp_path / "lake").iterdir()) == []


def test_what_was_not_named_is_not_looked_at() -> None:
    assert finding_of("archive") == Finding("archive", "skip", "not looked at", "give --archive")


def test_keys_that_do_not_fit_the_pattern_are_counted_and_one_is_shown(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, "yard/2026-11-20/T1/L1/north_080000.jpg", "photos/holiday.jpg")
    found = finding_of("archive", archive=archive)
    assert found.status == "warn"
    assert found.found == "1 of the first 2 keys fit key_pattern, photos/holiday.jpg does not"


def test_a_truck_bed_that_was_drawn_for_larger_frames_is_a_warning(tmp_path: Path) -> None:
    config = AuditConfig(cameras={name: CameraConfig(bed_polygon_px=SQUARE) for name in ("north", "south")})
    for camera, side_px in (("north", 100), ("south", 99)):
        archive_of(tmp_path, key := f"yard/2026-11-20/T1/L1/{camera}_080000.jpg")
        (tmp_path / key).write_bytes(encode_png(np.zeros((side_px, side_px, 3), np.uint8)))
    found = finding_of("archive", config, archive=tmp_path)
    assert found.status == "warn"
    assert f"truck bed of south in {key}: bed: polygon_outside_frame (frame is 99x99)" in found.found
    assert "north" not in found.found


def test_an_archive_without_frames_is_a_fault(tmp_path: Path) -> None:
    assert finding_of("archive", archive=archive_of(tmp_path, "readme.txt")).status == "fail"


def test_a_key_pattern_that_cannot_work_is_a_fault(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, "T1.jpg")
    found = finding_of("archive", AuditConfig(archive=ArchiveConfig(key_pattern="{truck_id}.jpg")), archive=archive)
    assert found.status == "fail"
    assert "{date}" in found.mend


def test_a_store_that_does_not_answer_is_a_fault_with_a_mend() -> None:
    storage = StorageConfig(endpoint_url=f"http://127.0.0.1:{_closed_port()}", max_attempts=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        found = finding_of("lake", AuditConfig(storage=storage), lake="s3://yard-lake/")
    assert found.status == "fail"
    assert "cannot be reached" in found.found
    assert "endpoint_url" in found.mend


def test_a_gate_log_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    config = AuditConfig(gate_log=GateLogConfig(uri=str(tmp_path / "gate.csv")))
    assert finding_of("gate log", config).status == "fail"


def test_a_gate_log_with_a_wrong_record_is_a_warning(tmp_path: Path) -> None:
    table = tmp_path / "gate.csv"
    lines = ["truck_id,load_id,camera,from,until", "T1,L1,north,yesterday,today", "T2,L2,north,2026-11-20,2026-11-21"]
    table.write_text("\n".join(lines), encoding="utf-8")
    found = finding_of("gate log", AuditConfig(gate_log=GateLogConfig(uri=str(table))))
    assert found.status == "warn"
    assert "record 1 left out" in found.found


def test_a_folder_that_is_no_bundle_is_a_fault(tmp_path: Path) -> None:
    assert finding_of("model", model=tmp_path).status == "fail"


def test_settings_that_do_not_fit_the_bundle_are_a_fault(tiny_bundle: Path) -> None:
    found = finding_of("model", AuditConfig(segment=SegmentConfig(overlap_px=64)), model=tiny_bundle)
    assert found.status == "fail"
    assert "the overlap must be smaller" in found.mend


def test_alerts_that_can_be_sent_are_fine_and_none_is(web_receiver: WebReceiver, tmp_path: Path) -> None:
    log = tmp_path / "alerts.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOOK_URL", web_receiver.url)
        patch.setenv("HOOK_SECRET", "whsec_" + "ab" * 16)
        found = finding_of("alerts", AuditConfig(alerts=AlertsConfig(webhook=WEBHOOK, file=str(log))))
    assert found == Finding("alerts", "ok", f"webhook: 127.0.0.1 answers; file: {log} can be written")
    assert web_receiver.methods == ["HEAD"]
    assert log.read_bytes() == b""


def test_alerts_that_cannot_be_sent_are_a_warning_since_an_audit_runs_without(tmp_path: Path) -> None:
    server = {"host": "127.0.0.1", "port": _closed_port(), "security": "none"}
    email = EmailConfig(**server, sender="a@example.com", recipients=("b@example.com",))
    found = finding_of("alerts", AuditConfig(alerts=AlertsConfig(webhook=WEBHOOK, email=email, timeout_s=5)))
    assert found.status == "warn"
    assert found.found == ("webhook: the environment variable HOOK_URL is not set; email: 127.0.0.1 cannot be reached")
    assert found.mend == "put the webhook's address into it; check it and the network"


def test_more_than_the_cluster_has_is_a_fault_that_names_the_settings() -> None:
    found = finding_of("ray", AuditConfig(resources=ResourcesConfig(actors=500)))
    assert found.status == "fail"
    assert "lower actors (500)" in found.mend


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
