"""The railcar frames, real ones, through the whole main path from a bucket, with the demo bundle and the gate log."""

import tomllib
from collections import Counter

import pytest
from pydantic import TypeAdapter

from scrapray.audit.manifest import index_archive
from scrapray.audit.nightly import run_audit
from scrapray.config import AuditConfig
from scrapray.lake import read_partition
from scrapray.storage import Storage, join
from tests.unit.audit.test_manifest import RAILCAR

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
    pytest.mark.filterwarnings("ignore:The maximum number of concurrent tasks:UserWarning"),
]


def test_no_railcar_frame_is_lost_between_the_bucket_and_the_tables(s3, engine, shared, capsys):
    bucket = s3.make_bucket("railcar-night")
    values = tomllib.loads(RAILCAR.replace("GATE_LOG", join(bucket, "archive", "gate_log.csv")))
    storage_section = {"endpoint_url": s3.endpoint_url, "region": "us-east-1"}
    config = TypeAdapter(AuditConfig).validate_python(
        values | {"storage": storage_section, "resources": {"actors": 2, "frames_per_block": 4}}
    )
    storage = Storage(config.storage)
    for path in sorted((shared / "data" / "railcar").iterdir()):
        storage.write_bytes(join(bucket, "archive", path.name), path.read_bytes())
    archive, manifest, lake = (join(bucket, name) for name in ("archive", "manifest", "lake"))
    index_archive(archive, manifest, storage=storage, archive=config.archive, gate_log=config.gate_log)
    summary = run_audit(manifest, lake, "demo", config=config)
    assert len(summary.loads) == 14
    frames = [
        frame
        for date, site in sorted({(load["date"], load["site"]) for load in summary.loads})
        for frame in read_partition(lake, "frames", date, site, storage).to_pylist()
    ]
    assert len({frame["frame_id"] for frame in frames}) == len(frames) == 47
    reasons = Counter(frame["reject_reason"] for frame in frames)
    assert reasons == {None: 43, "color_fault": 4}
    found: Counter[str] = Counter()
    for kind in (kind for frame in frames for kind in frame["classes"] or ()):
        found[kind["class_name"]] += kind["num_detections"]
    with capsys.disabled():
        print(
            f"\n47 frames, 14 loads, {reasons[None]} used; found by a bundle that knows drawn scrap only: {dict(found)}"
        )
