"""A report on object storage, with its pictures cut on a real local Ray."""

import re
from pathlib import Path

import pytest

from scrapray.report.nightly import write_report
from scrapray.storage import Storage, join
from tests.unit.report.nights import NIGHT, two_loads

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")


def test_each_picture_is_cut_once_and_a_frame_that_is_gone_is_told_in_its_place(s3, engine, tmp_path: Path) -> None:
    storage = Storage(s3.config)
    bucket = s3.make_bucket("report")
    yard = two_loads(tmp_path)
    for frame in yard.rows["frames"]:
        target = join(bucket, "archive", f"{frame['frame_id']}.jpg")
        storage.copy(frame["uri"], target)
        frame["uri"] = target
    yard.lake, out = join(bucket, "lake"), join(bucket, "report")
    yard.publish(storage)
    gone = yard.rows["frames"][2]["uri"]
    data = storage.read_bytes(gone)
    storage.delete(gone)
    seen = []

    def report():
        return write_report(yard.lake, NIGHT, out, storage=storage, progress=lambda *done: seen.append(done))

    def pictures():
        return {one.key: one.modified_utc for page in storage.list_pages(join(out, "pictures")) for one in page}

    def worst():
        (page,) = (uri for uri in storage.list_names(join(out, "loads")) if "/0008-" in uri)
        return storage.read_bytes(page).decode()

    first, made = report(), pictures()
    assert seen[-1] == (4, 4)
    assert first.faults == {"missing": 1}
    assert worst().count("<p>This frame is no longer in the archive.</p>") == 3

    storage.write_bytes(gone, data)
    second = report()
    assert (second.num_pictures, second.faults) == (first.num_pictures + 3, {})
    assert seen[-1] == (1, 1)
    now = pictures()
    assert {name: now[name] for name in made} == made
    sources = re.findall(r'src="\.\./pictures/([^"]+)"', worst())
    assert sources
    assert set(sources) <= set(now)
    s3.remove_bucket("report")
