"""Storage, manifest and lake against a real S3 server, with the rights and mistakes of real users."""

import datetime as dt
import pickle
import tomllib

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from scrapray import schema
from scrapray import storage as storage_module
from scrapray.audit.manifest import index_archive, read_manifest
from scrapray.config import ArchiveConfig, AuditConfig
from scrapray.errors import StorageError
from scrapray.lake import publish_run, published_run, read_partition
from scrapray.storage import Storage, join
from tests.fixtures.services import ADMIN, READER, STRANGER, UNKNOWN, Identity, acting_as
from tests.unit.audit.test_manifest import RAILCAR
from tests.unit.test_lake import DAY, SITE, published, tables_of
from tests.unit.test_storage import ODD_KEYS

WRONG_SECRET = Identity(ADMIN.access_key, "a-secret-with-a-slip")


@pytest.fixture(scope="module")
def storage(s3):
    return Storage(s3.config)


@pytest.fixture(scope="module")
def bucket(s3):
    return s3.make_bucket("storage")


@pytest.fixture(scope="module")
def readable(s3):
    """A bucket that the reader may read and the stranger may not."""
    uri = s3.make_bucket("readable")
    s3.filesystem().pipe_file("readable/frame.jpg", b"frame")
    return uri


def keys_of(storage, uri, **options):
    return [stored.key for page in storage.list_pages(uri, **options) for stored in page]


def test_any_key_can_be_written_listed_read_copied_and_deleted(storage, bucket):
    folder = join(bucket, "odd")
    for key in ODD_KEYS:
        storage.write_bytes(join(folder, key), key.encode())
    listed = [stored for page in storage.list_pages(folder) for stored in page]
    assert [stored.key for stored in listed] == sorted(ODD_KEYS, key=str.encode)
    for stored in listed:
        assert storage.read_bytes(stored.uri) == stored.key.encode()
        storage.copy(stored.uri, join(bucket, "copy", stored.key))
        assert storage.read_bytes(join(bucket, "copy", stored.key)) == stored.key.encode()
    storage.delete(listed[0].uri)
    assert not storage.exists(listed[0].uri)
    assert storage.exists(listed[1].uri)


def test_a_listing_goes_on_over_pages(storage, bucket, monkeypatch):
    monkeypatch.setattr(storage_module, "_OBJECTS_PER_PAGE", 3)
    names = [f"{number:02d}.JPG" for number in range(7)]
    for name in [*names, "notes.txt"]:
        storage.write_bytes(join(bucket, "pages", name), b"x")
    pages = list(storage.list_pages(join(bucket, "pages"), (".jpg",)))
    assert [stored.key for page in pages for stored in page] == names
    assert [len(page) for page in pages] == [3, 3, 1]
    storage.delete_folder(join(bucket, "pages"))
    assert storage.list_names(join(bucket, "pages")) == []


def test_a_prefix_is_a_folder_and_takes_no_neighbour(storage, bucket):
    for key in ("night/a", "nightly/b"):
        storage.write_bytes(join(bucket, "prefix", key), b"x")
    assert keys_of(storage, join(bucket, "prefix", "night")) == ["a"]
    storage.delete_folder(join(bucket, "prefix", "night"))
    assert keys_of(storage, join(bucket, "prefix")) == ["nightly/b"]


def test_deleting_what_is_not_there_changes_nothing(storage, bucket):
    storage.delete(join(bucket, "nothing"))
    storage.delete_folder(join(bucket, "no", "folder"))


def test_the_etag_is_the_hash_of_the_content(storage, bucket):
    for name in ("a", "b"):
        storage.write_bytes(join(bucket, "etag", name), b"same")
    storage.write_bytes(join(bucket, "etag", "c"), b"other")
    etags = [stored.etag for page in storage.list_pages(join(bucket, "etag")) for stored in page]
    assert etags[0] == etags[1] != etags[2]
    assert len(etags[0]) == 32


def test_an_empty_bucket_lists_nothing(s3, storage):
    assert keys_of(storage, s3.make_bucket("empty")) == []


def test_download_folder_brings_all_below(storage, bucket, tmp_path):
    storage.write_bytes(join(bucket, "model", "card.json"), b"{}")
    storage.write_bytes(join(bucket, "model", "sub", "weights"), b"w" * 200_000)
    storage.download_folder(join(bucket, "model"), tmp_path)
    assert (tmp_path / "card.json").read_bytes() == b"{}"
    assert (tmp_path / "sub" / "weights").read_bytes() == b"w" * 200_000


def test_a_table_written_through_arrow_is_read_by_another_process(storage, bucket):
    filesystem, path = pickle.loads(
        pickle.dumps(storage.arrow(join(bucket, "arrow", "date=2026-11-20", "a b.parquet")))
    )
    table = pa.table({"a": list(range(10))})
    pq.write_table(table, path, filesystem=filesystem)
    folder = storage.arrow(join(bucket, "arrow"))
    assert pa.dataset.dataset(folder[1], filesystem=folder[0]).to_table().equals(table)


ACTIONS = {
    "list": lambda storage, uri: list(storage.list_pages(uri)),
    "read": lambda storage, uri: storage.read_bytes(join(uri, "frame.jpg")),
    "write": lambda storage, uri: storage.write_bytes(join(uri, "new.jpg"), b"x"),
    "delete": lambda storage, uri: storage.delete_folder(uri),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("identity", "reason", "message"),
    [
        (STRANGER, "forbidden", "the credentials in use have no right to"),
        (UNKNOWN, "credentials", "the store does not know the access key; check AWS_ACCESS_KEY_ID"),
        (WRONG_SECRET, "credentials", "the secret does not fit the access key; check AWS_ACCESS_KEY_ID"),
        (None, "credentials", "there are no credentials; check AWS_ACCESS_KEY_ID"),
    ],
    ids=["forbidden bucket", "unknown key", "wrong secret", "no credentials"],
)
def test_who_may_not_is_told_why_and_no_secret_is_printed(s3, readable, action, identity, reason, message):
    with acting_as(identity), pytest.raises(StorageError, match=message) as caught:
        ACTIONS[action](Storage(s3.config), readable)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(f"cannot {action} {readable}")
    if identity:
        assert identity.secret_key not in str(caught.value)
        assert identity.access_key not in str(caught.value)


def test_a_reader_may_read_and_not_write(s3, readable):
    with acting_as(READER):
        reader = Storage(s3.config)
        assert keys_of(reader, readable) == ["frame.jpg"]
        assert reader.read_bytes(join(readable, "frame.jpg")) == b"frame"
        with pytest.raises(StorageError, match=f"cannot write {readable}/frame.jpg: .* no right to"):
            reader.write_bytes(join(readable, "frame.jpg"), b"x")
        with pytest.raises(StorageError, match=f"cannot delete {readable}.* no right to"):
            reader.delete_folder(readable)
        assert reader.exists(join(readable, "frame.jpg"))


@pytest.mark.parametrize("action", ["list", "read", "write"])
def test_a_missing_bucket_is_named(storage, action):
    with pytest.raises(StorageError, match="there is no such bucket; create it or correct the name") as caught:
        ACTIONS[action](storage, "s3://no-such-bucket")
    assert caught.value.reason == "no_bucket"


def test_a_key_that_was_deleted_since_the_index_is_missing(storage, bucket):
    uri = join(bucket, "gone.jpg")
    storage.write_bytes(uri, b"x")
    storage.delete(uri)
    with pytest.raises(StorageError, match=r"cannot read s3://storage/gone\.jpg: there is no such object") as caught:
        storage.read_bytes(uri)
    assert caught.value.reason == "missing"


def test_a_bucket_that_vanishes_between_two_pages_is_named(s3, storage, monkeypatch):
    monkeypatch.setattr(storage_module, "_OBJECTS_PER_PAGE", 2)
    uri = s3.make_bucket("vanishing")
    for number in range(4):
        storage.write_bytes(join(uri, f"{number}.jpg"), b"x")
    pages = storage.list_pages(uri)
    next(pages)
    s3.remove_bucket("vanishing")
    with pytest.raises(StorageError, match="cannot list s3://vanishing: there is no such bucket"):
        next(pages)


def test_the_railcar_frames_come_from_a_bucket_with_their_gate_log(s3, storage, shared):
    bucket = s3.make_bucket("railcar")
    paths = sorted((shared / "data" / "railcar").iterdir())
    for path in paths:
        storage.write_bytes(join(bucket, "archive", path.name), path.read_bytes())
    twin = next(path for path in paths if path.suffix == ".jpg")
    storage.write_bytes(join(bucket, "archive", twin.name.replace("_12-03-59_", "_12-04-00_")), twin.read_bytes())
    values = tomllib.loads(RAILCAR.replace("GATE_LOG", join(bucket, "archive", "gate_log.csv")))
    settings = TypeAdapter(AuditConfig).validate_python(values)
    summary = index_archive(
        join(bucket, "archive"),
        join(bucket, "manifest"),
        storage=storage,
        archive=settings.archive,
        gate_log=settings.gate_log,
    )
    assert (summary.num_frames, summary.num_loads, summary.num_other_keys) == (48, 14, 1)
    assert summary.rejected == {"same_bytes": 1}
    night = dt.date(2021, 3, 17)
    assert read_manifest(join(bucket, "manifest"), storage, night).num_rows == 3
    assert read_manifest(join(bucket, "manifest"), storage).schema.equals(schema.MANIFEST)


def test_an_empty_bucket_gives_a_typed_manifest(s3, storage):
    bucket = s3.make_bucket("no-frames")
    summary = index_archive(join(bucket, "archive"), join(bucket, "manifest"), storage=storage, archive=ArchiveConfig())
    assert summary.num_frames == 0
    assert read_manifest(join(bucket, "manifest"), storage).schema.equals(schema.MANIFEST)


def test_a_run_is_published_and_the_one_before_stays_readable(storage, bucket):
    lake = join(bucket, "lake")
    publish_run(lake, "r1", DAY, SITE, tables_of("r1", 2), storage)
    publish_run(lake, "r2", DAY, SITE, tables_of("r2", 3), storage)
    assert published_run(lake, DAY, SITE, storage) == "r2"
    assert read_partition(lake, "frames", DAY, SITE, storage).num_rows == 3
    assert read_partition(lake, "frames", DAY, SITE, storage, run_id="r1").num_rows == 2


def test_a_bucket_that_vanishes_on_publish_is_one_clear_line(s3):
    lake = join(s3.make_bucket("lost-lake"), "lake")
    storage = Storage(s3.config)
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), storage)
    s3.remove_bucket("lost-lake")
    with pytest.raises(StorageError, match="there is no such bucket") as caught:
        publish_run(lake, "r2", DAY, SITE, tables_of("r2"), storage)
    assert "\n" not in str(caught.value)


def test_a_lake_that_may_not_be_written_keeps_what_it_has(s3, readable):
    lake = join(readable, "lake")
    publish_run(lake, "r1", DAY, SITE, tables_of("r1"), Storage(s3.config))
    before = published(lake, Storage(s3.config))
    with acting_as(READER), pytest.raises(StorageError, match="no right to"):
        publish_run(lake, "r2", DAY, SITE, tables_of("r2"), Storage(s3.config))
    assert published(lake, Storage(s3.config)) == before
