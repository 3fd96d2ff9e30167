"""An archive on disk, indexed for real; what an audit would have published of it is made from the manifest."""

import dataclasses
import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scrapray import lake, schema
from scrapray.audit.manifest import index_archive, read_manifest
from scrapray.audit.nightly import _nights
from scrapray.audit.outdated import emptied_sites, is_outdated
from scrapray.audit.publish import publish
from scrapray.audit.results import find_results
from scrapray.config import ArchiveConfig, AuditConfig, GateLogConfig
from scrapray.storage import Storage
from tests.unit.audit.test_publish import RUN, result
from tests.unit.statistics.frames import reading

FIRST, SECOND = dt.date(2026, 11, 19), dt.date(2026, 11, 20)
HEADER = "truck_id,load_id,supplier,site,camera,from,until\n"
OVER_MIDNIGHT = "T1,L1,,yard,n,2026-11-19T22:50:00,2026-11-20T00:05:00\n"


class Yard:
    """An archive with a gate log, its manifest and its lake."""

    def __init__(self, folder: Path, *times: tuple[dt.date, str]) -> None:
        self.folder = folder
        for date, time in times:
            self.put(date, time)
        self.record("")

    @property
    def config(self) -> AuditConfig:
        archive = ArchiveConfig(key_pattern="{site}/{date}/{camera_id}_{time}.jpg")
        return AuditConfig(archive=archive, gate_log=GateLogConfig(uri=str(self.folder / "gate.csv")))

    @property
    def places(self) -> tuple[str, str]:
        return str(self.folder / "lake"), str(self.folder / "manifest")

    def put(self, date: dt.date, time: str) -> None:
        path = self.folder / "archive" / "yard" / str(date) / f"n_{time}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{date}{time}".encode())

    def record(self, lines: str) -> None:
        (self.folder / "gate.csv").write_text(HEADER + lines, encoding="utf-8")

    def index(self, *dates: dt.date) -> None:
        for date in dates:
            index_archive(
                str(self.folder / "archive"),
                self.places[1],
                storage=Storage(),
                archive=self.config.archive,
                gate_log=self.config.gate_log,
                date=date,
            )

    def audit(self, *dates: dt.date) -> None:
        for number, date in enumerate(dates):
            manifest = read_manifest(self.places[1], Storage(), date)
            rows = [
                {**dict.fromkeys(schema.RESULTS.names), **result(name), "content_sha256": name}
                for name in manifest["frame_id"].to_pylist()
            ]
            path = self.folder / "results" / f"{date}" / "0.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows, schema=schema.RESULTS), path)
            publish(
                _nights(manifest, self.places[1], self.places[0], date, self.config, Storage()),
                manifest,
                find_results(str(path.parent), Storage()),
                self.places[0],
                run=dataclasses.replace(RUN, run_id=f"{number:016x}"),
                reading=reading(),
                max_frozen_difference=0.002,
                storage=Storage(),
            )

    def is_outdated(self, date: dt.date) -> bool:
        return is_outdated(*self.places, date, Storage())

    def published(self, date: dt.date, site: str = "yard") -> list[str]:
        frames = lake.read_partition(self.places[0], "frames", date, site, Storage())
        return [uri.rpartition("/")[2] for uri in frames["uri"].to_pylist()]


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """Two dates that are indexed and published."""
    yard = Yard(tmp_path, (FIRST, "230000"), (SECOND, "000100"), (SECOND, "080000"))
    yard.index(FIRST, SECOND)
    yard.audit(FIRST, SECOND)
    return yard


def test_what_was_published_as_it_was_indexed_is_not_outdated(yard: Yard) -> None:
    assert not yard.is_outdated(FIRST)
    assert not yard.is_outdated(SECOND)
    assert not yard.is_outdated(FIRST - dt.timedelta(days=1)), "it was never indexed"


def test_a_date_that_was_indexed_anew_stays_outdated_until_it_is_published(yard: Yard) -> None:
    yard.record(OVER_MIDNIGHT)
    yard.index(SECOND, FIRST)
    assert yard.is_outdated(FIRST)
    assert yard.is_outdated(FIRST), "asking changes nothing"
    yard.audit(FIRST)
    assert not yard.is_outdated(FIRST)
    assert yard.is_outdated(SECOND)
    yard.audit(SECOND)
    assert not yard.is_outdated(SECOND)
    assert yard.published(FIRST) == ["n_230000.jpg", "n_000100.jpg"]


def test_a_truck_that_is_told_otherwise_makes_a_date_outdated(yard: Yard) -> None:
    yard.record("T9,L1,,yard,n,2026-11-19T22:50:00,2026-11-19T23:05:00\n")
    yard.index(FIRST)
    assert yard.is_outdated(FIRST)


def test_a_date_that_was_only_indexed_is_not_outdated(tmp_path: Path) -> None:
    yard = Yard(tmp_path, (FIRST, "230000"))
    yard.index(FIRST)
    assert not yard.is_outdated(FIRST)


def test_tables_of_another_version_are_left_alone(yard: Yard) -> None:
    path = Path(lake.partition_uri(yard.places[0], "frames", FIRST, "yard"))
    pq.write_table(pq.read_table(path).drop_columns(["peak_score"]), path)
    yard.record(OVER_MIDNIGHT)
    yard.index(FIRST)
    assert not yard.is_outdated(FIRST)


def test_a_site_whose_last_frame_moved_to_the_date_before_is_published_empty(tmp_path: Path) -> None:
    yard = Yard(tmp_path, (FIRST, "230000"), (SECOND, "000100"))
    yard.index(FIRST, SECOND)
    yard.audit(FIRST, SECOND)
    yard.record(OVER_MIDNIGHT)
    yard.index(FIRST, SECOND)
    assert yard.is_outdated(SECOND)
    yard.audit(FIRST, SECOND)
    assert (yard.published(FIRST), yard.published(SECOND)) == (["n_230000.jpg", "n_000100.jpg"], [])
    assert not yard.is_outdated(SECOND)


def test_a_site_of_another_archive_in_the_same_lake_is_left_alone(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    for table in schema.PUBLISHED:
        ours = Path(lake.partition_uri(yard.places[0], table, SECOND, "yard"))
        other = Path(lake.partition_uri(yard.places[0], table, SECOND, "north yard"))
        other.parent.mkdir(parents=True)
        other.write_bytes(ours.read_bytes())
    assert lake.published_sites(yard.places[0], SECOND, Storage()) == ["north yard", "yard"]
    monkeypatch.chdir(Path(yard.places[0]).parent)
    assert lake.published_sites(Path(yard.places[0]).name, SECOND, Storage()) == ["north yard", "yard"]
    manifest = read_manifest(yard.places[1], Storage(), SECOND)
    assert emptied_sites(*yard.places, manifest, SECOND, Storage()) == []
    assert not yard.is_outdated(SECOND)
