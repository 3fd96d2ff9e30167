"""Pictures of a report, cut on a real local Ray."""

import re
from pathlib import Path

import pytest

from scrapray.report.nightly import write_report
from tests.unit.report.nights import NIGHT, STORAGE, two_loads

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")


def test_ray_cuts_each_picture_once_and_a_frame_that_is_gone_is_told_in_its_place(engine, tmp_path: Path) -> None:
    yard = two_loads(tmp_path)
    yard.publish()
    gone = Path(yard.rows["frames"][2]["uri"])
    data = gone.read_bytes()
    gone.unlink()
    seen = []
    first = write_report(yard.lake, NIGHT, yard.out, storage=STORAGE, progress=lambda *done: seen.append(done))
    assert seen[-1] == (4, 4)
    assert first.faults == {"missing": 1}
    (page,) = Path(yard.out, "loads").glob("0008-*.html")
    assert page.read_text().count("<p>This frame is no longer in the archive.</p>") == 3

    made = {path: path.stat().st_mtime_ns for path in Path(yard.out, "pictures").iterdir()}
    gone.write_bytes(data)
    second = write_report(yard.lake, NIGHT, yard.out, storage=STORAGE, progress=lambda *done: seen.append(done))
    assert (second.num_pictures, second.faults) == (first.num_pictures + 3, {})
    assert seen[-1] == (1, 1)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    sources = re.findall(r'src="\.\./pictures/([^"]+)"', page.read_text())
    assert sources
    assert all(Path(yard.out, "pictures", name).exists() for name in sources)
