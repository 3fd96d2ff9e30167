"""How fast an archive is indexed, and that memory does not grow with it.

    python benchmarks/index_keys.py

Lists made-up archives of 100,000 and 1,000,000 keys (10,000 frames a date, loads from a gate log), each in a process
of its own. The listing itself costs nothing here, so this is what scrapray adds to the time of the store.
"""

import datetime
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scrapray.audit.manifest import index_archive
from scrapray.config import ArchiveConfig, GateLogConfig
from scrapray.storage import Storage, StoredObject

FRAMES_PER_DATE = 10_000
SIZES = (100_000, 1_000_000)
FIRST_DATE = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


class MadeUpArchive(Storage):
    """Lists frames that are not there: four cameras, one frame each 8 seconds in turn."""

    def __init__(self, num_keys: int) -> None:
        super().__init__()
        self.num_keys = num_keys

    def list_pages(self, uri: str, suffixes: tuple[str, ...] = ()) -> Iterator[list[StoredObject]]:
        """The made-up frames for ``s3://``, what is really there for folders."""
        if not uri.startswith("s3://"):
            yield from super().list_pages(uri, suffixes)
            return
        for start in range(0, self.num_keys, 1000):
            yield [self._frame(uri, number) for number in range(start, start + 1000)]

    def _frame(self, uri: str, number: int) -> StoredObject:
        taken = moment_of(number)
        key = f"north/{taken:%Y-%m-%d}/cam{number % 4}_{taken:%H%M%S}.jpg"
        return StoredObject(f"{uri}/{key}", key, f"{number:032x}", 1_800_000, taken)


def moment_of(number: int) -> datetime.datetime:
    date, second = divmod(number, FRAMES_PER_DATE)
    return FIRST_DATE + datetime.timedelta(days=date, seconds=8 * second)


def write_gate_log(path: Path, num_keys: int) -> None:
    """One truck under each camera for every 100 frames of all."""
    lines = ["truck_id,load_id,camera,from,until"]
    for number in range(0, num_keys, 100):
        begin, end = moment_of(number).isoformat(), moment_of(number + 99).isoformat()
        lines += [f"{number // 100 % 997:04d},L{number + camera},cam{camera},{begin},{end}" for camera in range(4)]
    path.write_text("\n".join(lines))


def measure(num_keys: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_gate_log(Path(folder) / "gate_log.csv", num_keys)
        summary = index_archive(
            "s3://made-up",
            f"{folder}/manifest",
            storage=MadeUpArchive(num_keys),
            archive=ArchiveConfig(key_pattern="{site}/{date}/{camera_id}_{time}.jpg"),
            gate_log=GateLogConfig(uri=f"{folder}/gate_log.csv"),
        )
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{summary.num_frames:>9,} keys, {len(summary.dates):>3} dates, {summary.num_loads:>6,} loads: "
        f"{summary.seconds:5.1f} s, {summary.num_frames / summary.seconds:7,.0f} keys/s "
        f"({used.ru_utime + used.ru_stime:.1f} s of CPU), peak {used.ru_maxrss / 1024:4.0f} MB",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(int(sys.argv[1]))
    else:
        for size in SIZES:
            subprocess.run([sys.executable, __file__, str(size)], check=True)
