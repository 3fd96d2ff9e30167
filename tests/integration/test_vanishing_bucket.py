"""An archive whose bucket is gone from one moment to the next, with some frames of the night done."""

import http.client
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from scrapray import schema
from scrapray.audit.manifest import index_archive
from scrapray.audit.nightly import run_audit
from scrapray.config import ResourcesConfig, StorageConfig
from scrapray.errors import StorageError
from scrapray.storage import Storage
from tests.fixtures.services import S3Server
from tests.integration.nights import CONFIG, write_load

NUM_FRAMES, NUM_SERVED = 6, 3
_NO_BUCKET = b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"
_OF_ONE_CONNECTION = {"connection", "transfer-encoding", "content-length"}


class FragileStore(ThreadingHTTPServer):
    """Passes requests on to a store. Once some frames were read, and one of them is done, its bucket is gone."""

    def __init__(self, behind: str, work: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = behind
        self.work = work
        self.num_left = NUM_SERVED
        self.is_gone = False

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def serve_frame(self) -> None:
        self.num_left -= 1
        if self.num_left < 0 and not self.is_gone:
            give_up_s = time.monotonic() + 60
            while not list(self.work.glob("*/checkpoint/*")) and time.monotonic() < give_up_s:
                time.sleep(0.1)
            self.is_gone = True


class _Handler(BaseHTTPRequestHandler):
    server: FragileStore

    def do_GET(self) -> None:
        if ".jpg" in self.path:
            self.server.serve_frame()
        if self.server.is_gone:
            self._answer(404, [("Content-Type", "application/xml")], _NO_BUCKET)
            return
        with closing(http.client.HTTPConnection(self.server.behind.removeprefix("http://"), timeout=30)) as behind:
            behind.request(self.command, self.path, headers=dict(self.headers))
            answer = behind.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OF_ONE_CONNECTION]
            self._answer(answer.status, kept, answer.read())

    do_HEAD = do_GET

    def log_message(self, *words: object) -> None:
        pass

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command == "GET":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def store(s3: S3Server, tmp_path: Path) -> Iterator[FragileStore]:
    server = FragileStore(s3.endpoint_url, tmp_path / "lake" / "_work")
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("engine")
def test_a_bucket_that_vanishes_in_mid_run_publishes_nothing_and_costs_no_finished_frame(
    s3: S3Server, store: FragileStore, tmp_path: Path, tiny_bundle: Path
) -> None:
    bucket = s3.make_bucket("fragile")
    write_load(bucket, Storage(s3.config), NUM_FRAMES)
    manifest, lake = str(tmp_path / "manifest"), tmp_path / "lake"
    index_archive(bucket, manifest, storage=Storage(s3.config), archive=CONFIG.archive)
    config = replace(
        CONFIG,
        storage=StorageConfig(endpoint_url=store.endpoint_url, region="us-east-1"),
        resources=ResourcesConfig(frames_per_block=1, download_tasks=1, cpus_per_actor=1),
    )

    with pytest.raises(StorageError, match=r"s3://fragile.*: there is no such bucket") as caught:
        run_audit(manifest, str(lake), str(tiny_bundle), config=config)
    assert "\n" not in str(caught.value)
    assert not any((lake / name).exists() for name in (*schema.PUBLISHED, "_runs"))

    store.is_gone, store.num_left = False, NUM_FRAMES
    summary = run_audit(manifest, str(lake), str(tiny_bundle), config=config)
    assert summary.num_used == summary.num_frames == NUM_FRAMES
    assert summary.num_computed < NUM_FRAMES
    s3.remove_bucket("fragile")
