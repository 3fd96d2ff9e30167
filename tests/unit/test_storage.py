import datetime as dt
import errno
import http.server
import os
import pickle
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import pyarrow.fs
import pytest

from scrapray import storage as storage_module
from scrapray.config import StorageConfig
from scrapray.errors import StorageError
from scrapray.lake import partition_uri
from scrapray.storage import Storage, absolute, common_folder, join
from tests.fixtures.services import ADMIN, acting_as, web_server

ODD_KEYS = ["a b=c/ü.jpg", "100%/x%20y.jpg", "*[1]?.jpg", "日本/ピ.png", "plus+and&.jpg"]


@pytest.fixture
def storage():
    return Storage()


def keys_of(storage, uri, **options):
    return [stored.key for page in storage.list_pages(uri, **options) for stored in page]


def test_any_key_can_be_written_listed_and_read(storage, tmp_path):
    for key in ODD_KEYS:
        storage.write_bytes(join(str(tmp_path), key), key.encode())
    listed = [stored for page in storage.list_pages(str(tmp_path)) for stored in page]
    assert sorted(stored.key for stored in listed) == sorted(ODD_KEYS)
    for stored in listed:
        assert storage.read_bytes(stored.uri) == stored.key.encode()
        assert stored.size_bytes == len(stored.key.encode())


def test_a_file_uri_names_the_same_file_as_its_path(storage, tmp_path):
    storage.write_bytes(f"file://{tmp_path}/a b%20.txt", b"1")
    assert (tmp_path / "a b%20.txt").read_bytes() == b"1"


def test_a_relative_path_becomes_one_that_holds_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("lake/") == str(tmp_path / "lake")
    assert absolute("s3://bucket/lake/") == "s3://bucket/lake/"


def test_another_scheme_is_refused_with_what_can_be_given(storage):
    with pytest.raises(StorageError, match=r"give s3://bucket/key, file:///path or a plain path"):
        storage.read_bytes("gs://bucket/key")


def test_a_name_and_a_password_in_a_uri_are_not_repeated(storage):
    with pytest.raises(StorageError, match=r"cannot use https://host/x: give s3") as caught:
        storage.read_bytes("https://user:secr@et@host/x")
    assert "secr" not in str(caught.value) and "user" not in str(caught.value)


def test_a_path_that_no_file_can_have_is_one_line(storage):
    with pytest.raises(StorageError, match=r"cannot read .*: ValueError: embedded null byte"):
        storage.read_bytes("/tmp/a\0b")


def test_a_name_that_is_too_long_for_a_disk_is_told_with_a_mend(storage, tmp_path):
    with pytest.raises(StorageError, match=r"^cannot write .* is too long for the disk \(mostly 255 bytes\); shorten"):
        storage.write_bytes(partition_uri(str(tmp_path), "frames", dt.date(2026, 11, 20), "北" * 29), b"x")


def test_a_folder_lists_in_the_order_of_s3_which_is_the_byte_order_of_keys(storage, tmp_path):
    keys = ["a/b.jpg", "a-b.jpg", "a.jpg", "a/a/c.jpg", "ab.jpg", "B.jpg", "ü.jpg", "z.jpg", "a0.jpg"]
    for key in keys:
        storage.write_bytes(str(tmp_path / key), b"x")
    assert keys_of(storage, str(tmp_path)) == sorted(keys, key=str.encode)


def test_a_listing_comes_in_pages_and_reads_no_more_than_it_must(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(storage_module, "_OBJECTS_PER_PAGE", 3)
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    pages = storage.list_pages(str(tmp_path))
    assert [stored.key for stored in next(pages)] == ["0.jpg", "1.jpg", "2.jpg"]
    (tmp_path / "7.jpg").unlink()
    assert [len(page) for page in pages] == [3, 1]


def test_suffixes_are_compared_in_any_case(storage, tmp_path):
    for name in ("a.JPG", "b.jpeg", "c.txt", "d.jpg.part"):
        (tmp_path / name).write_bytes(b"x")
    assert keys_of(storage, str(tmp_path), suffixes=(".jpg", ".jpeg")) == ["a.JPG", "b.jpeg"]


def test_the_etag_changes_when_a_file_is_replaced(storage, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1")
    before = next(storage.list_pages(str(tmp_path)))[0]
    os.utime(path, ns=(1, 1))
    assert next(storage.list_pages(str(tmp_path)))[0].etag != before.etag


def test_a_file_name_that_is_not_text_is_named(storage, tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"x")
    with pytest.raises(StorageError, match=r"'caf\\udce9.jpg' is not UTF-8; rename it"):
        list(storage.list_pages(str(tmp_path)))


def test_a_missing_folder_is_an_error_to_list_and_no_names(storage, tmp_path):
    missing = str(tmp_path / "missing")
    with pytest.raises(StorageError, match=r"cannot list .*missing: there is no such file or folder") as caught:
        list(storage.list_pages(missing))
    assert caught.value.reason == "missing"
    assert storage.list_names(missing) == []


def test_a_missing_file_says_so_and_does_not_exist(storage, tmp_path):
    uri = str(tmp_path / "missing.jpg")
    with pytest.raises(StorageError) as caught:
        storage.read_bytes(uri)
    assert caught.value.reason == "missing"
    assert not storage.exists(uri)
    assert not storage.exists(str(tmp_path)), "a folder is no object"


def test_deleting_what_is_not_there_changes_nothing(storage, tmp_path):
    storage.delete(str(tmp_path / "missing.jpg"))
    storage.delete_folder(str(tmp_path / "missing"))


def test_delete_folder_takes_all_that_is_below_and_nothing_beside(storage, tmp_path):
    for key in ("a/1", "a/b/2", "ab/3"):
        storage.write_bytes(str(tmp_path / key), b"x")
    storage.delete_folder(str(tmp_path / "a"))
    assert keys_of(storage, str(tmp_path)) == ["ab/3"]


def test_a_copy_keeps_its_content_when_the_source_is_replaced(storage, tmp_path):
    source, target = str(tmp_path / "source"), str(tmp_path / "sub" / "target")
    storage.write_bytes(source, b"old")
    storage.copy(source, target)
    storage.write_bytes(source, b"new")
    assert storage.read_bytes(target) == b"old"


def test_a_copy_over_itself_changes_nothing_and_leaves_no_debris(storage, tmp_path):
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    storage.write_bytes(source, b"x")
    for _ in range(2):
        storage.copy(source, target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"source": b"x", "target": b"x"}


def test_a_copy_of_nothing_names_both_ends(storage, tmp_path):
    with pytest.raises(StorageError, match=r"cannot copy .*/source to .*/target: there is no such file") as caught:
        storage.copy(str(tmp_path / "source"), str(tmp_path / "target"))
    assert caught.value.reason == "missing"


def test_where_a_file_can_have_one_name_only_a_copy_is_a_file_of_its_own(storage, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    storage.write_bytes(str(tmp_path / "source"), b"x")
    storage.copy(str(tmp_path / "source"), str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == b"x"


def test_a_failed_write_leaves_the_old_content_and_no_debris(storage, tmp_path, monkeypatch):
    uri = str(tmp_path / "table.parquet")
    storage.write_bytes(uri, b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full; make room") as caught:
        storage.write_bytes(uri, b"new")
    assert caught.value.reason == "disk_full"
    assert storage.read_bytes(uri) == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


def test_a_full_disk_keeps_what_was_there_and_still_takes_copies(storage, small_disk):
    old, new = str(small_disk / "old"), str(small_disk / "new")
    storage.write_bytes(old, b"o" * 150_000)
    with pytest.raises(StorageError) as caught:
        storage.write_bytes(new, b"n" * 150_000)
    assert caught.value.reason == "disk_full"
    storage.copy(old, new)
    assert storage.read_bytes(new) == storage.read_bytes(old)


def test_an_unfinished_file_of_a_killed_process_is_not_listed(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    monkeypatch.setattr(Path, "replace", lambda *_: None)
    storage.write_bytes(str(tmp_path / "a"), b"x")
    assert len(list(tmp_path.iterdir())) == 1
    assert keys_of(storage, str(tmp_path)) == []


def test_download_folder_copies_all_below(storage, tmp_path):
    storage.write_bytes(str(tmp_path / "model" / "card.json"), b"{}")
    storage.write_bytes(str(tmp_path / "model" / "sub" / "weights"), b"1")
    storage.download_folder(str(tmp_path / "model"), tmp_path / "here")
    assert (tmp_path / "here" / "card.json").read_bytes() == b"{}"
    assert (tmp_path / "here" / "sub" / "weights").read_bytes() == b"1"


def test_download_folder_of_nothing_is_an_error(storage, tmp_path):
    with pytest.raises(StorageError, match="there is nothing below it"):
        storage.download_folder(str(tmp_path), tmp_path / "here")


def test_storage_and_its_filesystems_can_be_sent_to_another_process(tmp_path):
    config = StorageConfig(endpoint_url="http://127.0.0.1:9000", max_attempts=2)
    storage = pickle.loads(pickle.dumps(Storage(config)))
    assert storage.config == config
    filesystem, path = storage.arrow(str(tmp_path))
    assert isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    assert path == str(tmp_path)
    filesystem, path = pickle.loads(pickle.dumps(storage.arrow("s3://bucket/a=b/c d")))
    assert isinstance(filesystem, pyarrow.fs.PyFileSystem)
    assert path == "bucket/a=b/c d"


@contextmanager
def silent_server():
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class _BreaksOffOnce(http.server.BaseHTTPRequestHandler):
    content = b"whole"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.server.num_requests += 1
        self.wfile.write(self.content[:2] if self.server.num_requests <= self.server.num_breaks else self.content)

    def log_message(self, *_):
        pass


@contextmanager
def breaking_server(num_breaks):
    """Ends the first bodies before all of them has been sent."""
    with http.server.HTTPServer(("127.0.0.1", 0), _BreaksOffOnce) as server:
        server.num_requests, server.num_breaks = 0, num_breaks
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_body_that_breaks_off_is_read_once_more():
    with acting_as(ADMIN), breaking_server(num_breaks=1) as url:
        assert Storage(StorageConfig(endpoint_url=url)).read_bytes("s3://bucket/key") == b"whole"


def test_a_body_that_breaks_off_again_and_again_is_an_error():
    with acting_as(ADMIN), breaking_server(num_breaks=9) as url, pytest.raises(StorageError) as caught:
        Storage(StorageConfig(endpoint_url=url)).read_bytes("s3://bucket/key")
    assert caught.value.reason == "unreachable"


def test_a_key_is_read_literally_in_one_request_each():
    asked = []

    def answer(path):
        asked.append(unquote(path))
        return 200, b"x"

    keys = [*ODD_KEYS, "x?versionId=1.jpg", "/a//b.jpg", "./a/../b.jpg", "tail "]
    with acting_as(ADMIN), web_server(answer) as url:
        storage = Storage(StorageConfig(endpoint_url=url))
        for key in keys:
            assert storage.read_bytes(f"s3://bucket/{key}") == b"x"
    assert asked == [f"/bucket/{key}" for key in keys]


@pytest.mark.parametrize("kind", ["text/html", "application/xml"])
@pytest.mark.parametrize("status", [200, 400, 403, 404])
def test_a_server_that_is_no_s3_server_is_called_so(status, kind):
    body = b"<!DOCTYPE html>Welcome<br>" if kind == "text/html" else b"<html>Welcome</html>"
    with acting_as(ADMIN), web_server(lambda path: (status, body), kind) as url:
        storage = Storage(StorageConfig(endpoint_url=url, max_attempts=1))
        with pytest.raises(StorageError, match=r"^cannot list s3://bucket/lake: what answers there is no S3 server;"):
            storage.list_names("s3://bucket/lake")


@pytest.mark.parametrize("url", ["http://inner_host:9000", "http://inner..host", "http://inner-host:99999"])
def test_an_endpoint_that_botocore_refuses_is_one_line_and_not_printed(url, monkeypatch):
    with acting_as(ADMIN):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(StorageError, match=r"check \[storage\] endpoint_url, or AWS_ENDPOINT_URL") as caught:
            Storage().read_bytes("s3://bucket/key")
    assert "inner" not in str(caught.value)


@pytest.mark.parametrize("action", ["read", "write", "list"])
def test_a_server_that_never_answers_is_given_up(action):
    acts = {
        "read": lambda storage: storage.read_bytes("s3://bucket/key"),
        "write": lambda storage: storage.write_bytes("s3://bucket/key", b"1"),
        "list": lambda storage: next(storage.list_pages("s3://bucket")),
    }
    with acting_as(ADMIN), silent_server() as url:
        storage = Storage(StorageConfig(endpoint_url=url, read_timeout_s=0.2, max_attempts=1))
        started = time.monotonic()
        with pytest.raises(StorageError, match=f"cannot {action} s3://bucket.*the store cannot be reached") as caught:
            acts[action](storage)
    assert caught.value.reason == "unreachable"
    assert time.monotonic() - started < 60, "not for ever"


def test_an_endpoint_where_nobody_listens_is_found_out_within_seconds_and_not_printed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    started = time.monotonic()
    with acting_as(ADMIN), pytest.raises(StorageError, match=r"check \[storage\] endpoint_url") as caught:
        Storage(StorageConfig(endpoint_url=url)).read_bytes("s3://bucket/key")
    assert caught.value.reason == "unreachable"
    assert url not in str(caught.value)
    assert time.monotonic() - started < 30


def test_without_credentials_the_message_says_where_to_put_them():
    with acting_as(None), pytest.raises(StorageError, match="no credentials; check AWS_ACCESS_KEY_ID") as caught:
        Storage(StorageConfig(endpoint_url="http://127.0.0.1:1")).read_bytes("s3://bucket/key")
    assert caught.value.reason == "credentials"


def test_a_uri_without_a_bucket_is_one_clear_line():
    with acting_as(ADMIN), pytest.raises(StorageError, match=r"cannot list s3://: .*Invalid bucket name") as caught:
        next(Storage(StorageConfig(endpoint_url="http://127.0.0.1:1")).list_pages("s3://"))
    assert "\n" not in str(caught.value)


def test_a_storage_error_keeps_its_reason_when_sent_to_another_process():
    error = pickle.loads(pickle.dumps(StorageError("cannot read", reason="missing")))
    assert (str(error), error.reason) == ("cannot read", "missing")


@pytest.mark.parametrize(
    ("uris", "folder"),
    [
        (["s3://b/x/1.jpg", "s3://b/y/2.jpg"], "s3://b"),
        (["s3://b/cam_08.jpg", "s3://b/cam_09.jpg"], "s3://b"),
        (["/mnt/a b=1/1.jpg"], "/mnt/a b=1"),
    ],
)
def test_the_folder_that_all_uris_lie_in(uris: list[str], folder: str) -> None:
    assert common_folder(uris) == folder


def test_folders_that_hold_nothing_are_deleted_and_no_others(storage, tmp_path):
    one, other = (str(tmp_path / "loads" / "date=1" / site / "part-0.parquet") for site in ("site=a", "site=b"))
    for uri in (one, other):
        storage.write_bytes(uri, b"x")
    storage.delete(one)
    assert (tmp_path / "loads" / "date=1" / "site=a").exists(), "a deletion is of one object"
    storage.delete_empty_folders(str(tmp_path / "loads"))
    assert [path.name for path in (tmp_path / "loads" / "date=1").iterdir()] == ["site=b"]
    assert storage.read_bytes(other) == b"x"
    storage.delete(other)
    storage.delete_empty_folders(str(tmp_path / "loads"))
    assert list(tmp_path.iterdir()) == []
    storage.delete_empty_folders(str(tmp_path / "nowhere"))


def test_a_way_back_in_a_path_leads_where_it_should(storage, tmp_path):
    storage.write_bytes(str(tmp_path / "lake" / "a.txt"), b"x")
    assert absolute(str(tmp_path / "sub" / ".." / "lake")) == str(tmp_path / "lake")
    assert storage.read_bytes(str(tmp_path / "sub" / ".." / "lake" / "a.txt")) == b"x"


def test_a_folder_that_vanishes_while_it_is_listed_hides_no_other(storage, tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        storage.write_bytes(str(tmp_path / name / "x.txt"), b"x")
    scan = os.scandir

    def scan_and_delete(folder):
        found = scan(folder)
        if Path(folder) == tmp_path / "a":
            (tmp_path / "b" / "x.txt").unlink()
            (tmp_path / "b").rmdir()
        return found

    monkeypatch.setattr(os, "scandir", scan_and_delete)
    assert [stored.key for page in storage.list_pages(str(tmp_path)) for stored in page] == ["a/x.txt", "c/x.txt"]
