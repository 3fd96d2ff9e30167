"""The one door to object storage and folders.

A URI is ``s3://bucket/key``, ``file:///path`` or a plain path. It is taken literally: nothing is percent-decoded and
nothing is a wildcard, so a key may hold spaces, ``=``, ``%`` or ``*``. Credentials come from the standard AWS
environment or profile, and no message of this module holds one.
"""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pyarrow.fs
import s3fs
from botocore import exceptions as boto
from botocore.handlers import add_expect_header
from botocore.parsers import ResponseParserError

from scrapray.config import StorageConfig
from scrapray.errors import StorageError

_S3 = "s3://"
_FILE = "file://"
_UNFINISHED = ".scrapray-unfinished"
_OBJECTS_PER_PAGE = 1000
"""The most that S3 lists or deletes in one request."""
_PATIENT_ATTEMPTS = 40
"""Pauses between them grow to 20 s at most, 10 s on average, so all together they last some six minutes."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a bucket or file of a folder.

    Attributes:
        uri: Where it is.
        key: Its place below the listed URI, with ``/`` between folders.
        etag: Changes when the content is replaced. S3 gives the MD5 of what was uploaded in one piece; a file gives
            its size and time of modification.
        size_bytes: Size.
        modified_utc: Time of its last change.
    """

    uri: str
    key: str
    etag: str
    size_bytes: int
    modified_utc: datetime


def join(uri: str, *parts: str) -> str:
    """Append parts to a URI with one slash between each two."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def absolute(uri: str) -> str:
    """The same place as a URI that holds in every process, whatever folder it works in."""
    return uri if _is_s3(uri) else _path(uri)


def common_folder(uris: Sequence[str]) -> str:
    """The deepest folder or bucket that all URIs lie in; the URIs are of one store."""
    # Not commonpath, which makes s3:/ of s3://.
    return os.path.commonprefix(list(uris)).rpartition("/")[0]  # noqa: RUF071


def as_storage_error(action: str, uri: str, error: BaseException) -> StorageError | None:
    """What the libraries that talk to S3 have raised, in our words and without the endpoint; None for other errors."""
    if not isinstance(error, _OF_S3):
        return None
    what, reason = _explain(error)
    return StorageError(f"cannot {action} {uri}: {what}", reason=reason)


class Storage:
    """Reads, writes and lists what URIs name. Cheap to make and to pickle; connects at first use.

    Every method raises ``StorageError`` with what, where and how to mend it.
    """

    def __init__(self, config: StorageConfig | None = None) -> None:
        self.config = config or StorageConfig()

    def __reduce__(self) -> tuple[Any, ...]:
        return Storage, (self.config,)

    def patient(self) -> "Storage":
        """The same door for long work that has already passed it: a store that goes away is waited for, for minutes."""
        return Storage(replace(self.config, max_attempts=max(self.config.max_attempts, _PATIENT_ATTEMPTS)))

    def list_pages(self, uri: str, suffixes: tuple[str, ...] = ()) -> Iterator[list[StoredObject]]:
        """List everything below a URI in the byte order of keys, one page in memory at a time.

        Args:
            uri: Bucket, prefix (taken as a folder) or folder.
            suffixes: Endings of keys to keep, in lower case, compared in any case; none keeps all.
        """
        pages = self._place(uri).pages(_path(uri))
        while True:
            with self._explained("list", uri):
                page = next(pages, None)
            if page is None:
                return
            yield [stored for stored in page if not suffixes or stored.key.lower().endswith(suffixes)]

    def list_names(self, uri: str, suffixes: tuple[str, ...] = ()) -> list[str]:
        """URIs of all files below a URI, sorted, see ``list_pages``; none where there is no such folder."""
        try:
            return sorted(stored.uri for page in self.list_pages(uri, suffixes) for stored in page)
        except StorageError as error:
            if error.reason == "missing":
                return []
            raise

    def read_bytes(self, uri: str) -> bytes:
        """The whole content of one object."""
        with self._explained("read", uri):
            return self._place(uri).read(_path(uri))

    def write_bytes(self, uri: str, data: bytes) -> None:
        """Create or replace one object; a reader sees the old content or the new, never a part."""
        with self._explained("write", uri):
            self._place(uri).write(_path(uri), data)

    def exists(self, uri: str) -> bool:
        """Whether there is an object (not a folder) at this URI."""
        with self._explained("read", uri):
            return self._place(uri).exists(_path(uri))

    def copy(self, source: str, target: str) -> None:
        """Create or replace ``target`` with the content of ``source`` as one step, inside the store where it can be."""
        if _is_s3(source) != _is_s3(target):
            self.write_bytes(target, self.read_bytes(source))
            return
        with self._explained(f"copy {source} to", target):
            self._place(target).copy(_path(source), _path(target))

    def delete(self, uri: str) -> None:
        """Remove one object; nothing happens where there is none."""
        with self._explained("delete", uri):
            self._place(uri).delete(_path(uri))

    def delete_folder(self, uri: str) -> None:
        """Remove everything below a URI; nothing happens where there is nothing."""
        with self._explained("delete", uri):
            self._place(uri).delete_folder(_path(uri))

    def delete_empty_folders(self, uri: str) -> None:
        """Remove folders below a URI that hold nothing, which every listing would walk; a bucket has none."""
        if not _is_s3(uri):
            for folder, _, _ in os.walk(_path(uri), topdown=False):
                with suppress(OSError):  # it holds something
                    Path(folder).rmdir()

    def download_folder(self, uri: str, target: Path) -> None:
        """Copy everything below a URI to a folder of this machine."""
        found = False
        for stored in (stored for page in self.list_pages(uri) for stored in page):
            found = True
            path = target / stored.key
            if not path.resolve().is_relative_to(target.resolve()):
                raise StorageError(f"cannot download {stored.uri}: its key leads out of the folder {target}")
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._explained("read", stored.uri):
                self._place(uri).download(_path(stored.uri), str(path))
        if not found:
            raise StorageError(f"cannot read {uri}: there is nothing below it; correct the URI", reason="missing")

    def arrow(self, uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
        """What Ray Data and pyarrow take in place of a URI: a filesystem that can be pickled, and a path in it."""
        return self._place(uri).arrow(), _path(uri)

    def fsspec(self, uri: str) -> s3fs.S3FileSystem | None:
        """What libraries that speak fsspec take to read ``s3://`` with; None for folders, which need nothing."""
        return self._buckets.fsspec() if _is_s3(uri) else None

    def _place(self, uri: str) -> "_Folders | _Buckets":
        return self._buckets if _is_s3(uri) else _Folders()

    @cached_property
    def _buckets(self) -> "_Buckets":
        return _Buckets(self.config)

    @contextmanager
    def _explained(self, action: str, uri: str) -> Iterator[None]:
        try:
            yield
        except (OSError, *_OF_S3, ValueError) as error:  # a ValueError is of an address or a path that cannot be one
            what, reason = _explain(error)
            raise StorageError(f"cannot {action} {uri}: {what}", reason=reason) from error


class _Folders:
    """Folders of this machine. Paths are URIs without their scheme, here and below."""

    def pages(self, path: str) -> Iterator[list[StoredObject]]:
        files = _walk(path, "")
        while page := list(islice(files, _OBJECTS_PER_PAGE)):
            yield page

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        def fill(unfinished: Path) -> None:
            with unfinished.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

        _replace(Path(path), fill)

    def exists(self, path: str) -> bool:
        return Path(path).is_file()

    def copy(self, source: str, target: str) -> None:
        # A second name for the same bytes: files are replaced and never changed in place, and it takes no room, so
        # publishing and rolling back work on a full disk.
        def fill(unfinished: Path) -> None:
            try:
                unfinished.hardlink_to(source)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                    raise
                shutil.copyfile(source, unfinished)

        _replace(Path(target), fill)

    def delete(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)

    def delete_folder(self, path: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(path)

    def download(self, path: str, target: str) -> None:
        shutil.copyfile(path, target)

    def arrow(self) -> pyarrow.fs.FileSystem:
        return pyarrow.fs.LocalFileSystem()


def _replace(target: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` make a file beside the target and give it the target's name in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{uuid4().hex}{_UNFINISHED}")
    try:
        fill(unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _walk(folder: str, prefix: str) -> Iterator[StoredObject]:
    """Files below a folder in the order in which S3 would list their keys."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name + "/" * entry.is_dir()))
    for entry in ordered:
        if any("\ud800" <= letter <= "\udfff" for letter in entry.name):  # so Python keeps bytes that are not UTF-8
            raise StorageError(f"cannot list {folder}: the name {entry.name!r} is not UTF-8; rename it")
        with suppress(FileNotFoundError):  # deleted since the folder was read
            if entry.is_dir():
                yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file() and not entry.name.endswith(_UNFINISHED):
                yield _stored_file(entry.path, prefix + entry.name, entry.stat())


def _stored_file(path: str, key: str, facts: os.stat_result) -> StoredObject:
    return StoredObject(
        uri=path,
        key=key,
        etag=f"{facts.st_size:x}-{facts.st_mtime_ns:x}",
        size_bytes=facts.st_size,
        modified_utc=datetime.fromtimestamp(facts.st_mtime, UTC),
    )


class _S3FileSystem(s3fs.S3FileSystem):  # type: ignore[misc]
    """s3fs with bounded waits and keys that are taken literally.

    Retries are left to botocore, or the two would multiply. Uploads do not ask the server first
    (``Expect: 100-continue``): aiohttp would wait without limit for one that never answers.
    """

    retries = 1
    _bounded: Any = None

    async def set_session(self, *args: Any, **kwargs: Any) -> Any:
        client = await super().set_session(*args, **kwargs)
        if client is not self._bounded:
            client.meta.events.unregister("before-call.s3", add_expect_header)
            self._bounded = client
        return client

    def split_path(self, path: str) -> tuple[str, str, None]:
        """Bucket, key and no version: to s3fs, ``?versionId=`` in a key would be the end of it."""
        return *_bucket_and_key(path.removeprefix(_S3)), None


class _Buckets:
    """Buckets of S3 or of a server that speaks its language."""

    def __init__(self, config: StorageConfig) -> None:
        self._config = config
        self._s3 = self._connect(use_listings_cache=False)

    def _connect(self, **caching: Any) -> _S3FileSystem:
        config = self._config
        return _S3FileSystem(
            endpoint_url=config.endpoint_url,
            client_kwargs={"region_name": config.region} if config.region else {},
            config_kwargs={
                "connect_timeout": config.connect_timeout_s,
                "read_timeout": config.read_timeout_s,
                "retries": {"mode": "standard", "total_max_attempts": config.max_attempts},
            },
            **caching,
            skip_instance_cache=True,  # another Storage may be made after the credentials have changed
        )

    def pages(self, path: str) -> Iterator[list[StoredObject]]:
        bucket, key = _bucket_and_key(path)
        prefix = key and key.rstrip("/") + "/"
        request = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": _OBJECTS_PER_PAGE}
        while True:
            answer = self._s3.call_s3("list_objects_v2", **request)
            if "IsTruncated" not in answer:
                raise ResponseParserError("no list of objects")
            yield [
                StoredObject(
                    uri=f"{_S3}{bucket}/{found['Key']}",
                    key=found["Key"][len(prefix) :],
                    etag=found["ETag"].strip('"'),
                    size_bytes=found["Size"],
                    modified_utc=found["LastModified"].astimezone(UTC),
                )
                for found in answer.get("Contents", ())
                if not found["Key"].endswith("/")  # a folder that somebody made by hand
            ]
            if not answer["IsTruncated"]:
                return
            request["ContinuationToken"] = answer["NextContinuationToken"]

    def read(self, path: str) -> bytes:
        # One connection: with more, s3fs asks for the size first, one more request for every frame.
        try:
            content: bytes = self._s3.cat_file(path, max_concurrency=1)
        except (aiohttp.ClientPayloadError, boto.IncompleteReadError):  # broke off, which botocore does not see
            content = self._s3.cat_file(path, max_concurrency=1)
        return content

    def write(self, path: str, data: bytes) -> None:
        self._s3.pipe_file(path, data)

    def exists(self, path: str) -> bool:
        bucket, key = _bucket_and_key(path)
        try:
            self._s3.call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return False
        return True

    def copy(self, source: str, target: str) -> None:
        self._s3.cp_file(source, target)

    def delete(self, path: str) -> None:
        bucket, key = _bucket_and_key(path)
        self._s3.call_s3("delete_object", Bucket=bucket, Key=key)

    def delete_folder(self, path: str) -> None:
        bucket, _ = _bucket_and_key(path)
        for page in filter(None, self.pages(path)):
            keys = [{"Key": _bucket_and_key(_path(stored.uri))[1]} for stored in page]
            answer = self._s3.call_s3("delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
            for refused in answer.get("Errors", ()):
                what, reason = _refusal(refused)
                raise StorageError(f"cannot delete {_S3}{bucket}/{refused['Key']}: {what}", reason=reason)

    def download(self, path: str, target: str) -> None:
        self._s3.get_file(path, target)

    def arrow(self) -> pyarrow.fs.FileSystem:
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(self._s3))

    def fsspec(self) -> s3fs.S3FileSystem:
        # Who opens what was just listed, as DuckDB does, would ask six times for the size of each file.
        return self._connect(use_listings_cache=True, listings_expiry_time=60)


def _is_s3(uri: str) -> bool:
    return uri.startswith(_S3)


def _path(uri: str) -> str:
    if _is_s3(uri):
        return uri.removeprefix(_S3)
    if "://" in uri and not uri.startswith(_FILE):
        shown = re.sub("://.*@", "://", uri)  # a name and a password may stand before the @
        raise StorageError(f"cannot use {shown}: give s3://bucket/key, file:///path or a plain path")
    return os.path.normpath(Path(uri.removeprefix(_FILE)).absolute())


def _bucket_and_key(path: str) -> tuple[str, str]:
    bucket, _, key = path.partition("/")
    return bucket, key


_CREDENTIALS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_REGION = ("the bucket lies in another region; set [storage] region", "failed")
_BY_CODE = {
    "NoSuchBucket": ("there is no such bucket; create it or correct the name", "no_bucket"),
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "NoSuchKey": ("there is no such object", "missing"),
    "404": ("there is no such object", "missing"),
    "AccessDenied": (
        "the credentials in use have no right to; grant it, or use others through AWS_PROFILE",
        "forbidden",
    ),
    "403": (f"the store refused it; grant the right, or {_CREDENTIALS}", "forbidden"),
    "InvalidAccessKeyId": (f"the store does not know the access key; {_CREDENTIALS}", "credentials"),
    "SignatureDoesNotMatch": (f"the secret does not fit the access key; {_CREDENTIALS}", "credentials"),
    "ExpiredToken": ("the credentials have expired; renew them", "credentials"),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong; set it", "credentials"),
}
_BY_ERRNO = {
    errno.ENOENT: ("there is no such file or folder; correct the path, or mount what holds it", "missing"),
    errno.ENOTDIR: ("a file stands where a folder is needed; give a folder", "failed"),
    errno.EISDIR: ("a folder stands where a file is needed; give a file", "failed"),
    errno.ENAMETOOLONG: ("a name in it is too long for the disk (mostly 255 bytes); shorten it, or use S3", "failed"),
    errno.ELOOP: ("links lead in a circle; remove one", "failed"),
    errno.EACCES: ("this user has no right to; change the permissions or the user", "forbidden"),
    errno.EPERM: ("this user has no right to; change the permissions or the user", "forbidden"),
    errno.EROFS: ("it lies on a read-only disk", "forbidden"),
    errno.ENOSPC: ("the disk is full; make room and run again", "disk_full"),
    errno.EDQUOT: ("the quota of the disk is used up; make room and run again", "disk_full"),
}
_UNREACHABLE = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    aiohttp.ClientError,
    ConnectionError,
    TimeoutError,
)
_OF_S3 = (boto.BotoCoreError, boto.ClientError, ResponseParserError, aiohttp.ClientError)
_NO_S3_SERVER = (
    "what answers there is no S3 server; check [storage] endpoint_url, or the proxy before the store",
    "failed",
)
_NO_ADDRESS = (
    "botocore does not take the endpoint for an address; check [storage] endpoint_url, or AWS_ENDPOINT_URL",
    "failed",
)
_NO_CREDENTIALS = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.ProfileNotFound)


def _explain(error: Exception) -> tuple[str, str]:
    """What went wrong and how to mend it, without the endpoint, and the short word for tables."""
    answer = error if isinstance(error, boto.ClientError) else error.__cause__
    if isinstance(answer, boto.ClientError):
        return _NO_S3_SERVER if _is_web_page(answer.response) else _refusal(answer.response["Error"])
    if isinstance(error, _NO_CREDENTIALS):
        return f"there are no credentials; {_CREDENTIALS}", "credentials"
    if isinstance(error, _UNREACHABLE):
        return "the store cannot be reached; check [storage] endpoint_url, the network and the server", "unreachable"
    if isinstance(error, ResponseParserError):
        return _NO_S3_SERVER
    if isinstance(error, (ValueError, boto.EndpointResolutionError)) and "endpoint" in str(error):
        return _NO_ADDRESS  # whose own words hold it
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return _BY_ERRNO[error.errno]
    return " ".join(f"{type(error).__name__}: {error}".split()), "failed"


def _is_web_page(response: Mapping[str, Any]) -> bool:
    """Whether an error came as HTML; botocore makes one of status 500 even of a page that came with 200."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return "html" in headers.get("content-type", "")


def _refusal(answer: Mapping[str, str]) -> tuple[str, str]:
    """The same for an error that the store itself answered."""
    code = answer.get("Code")
    if not code:
        return _NO_S3_SERVER
    return _BY_CODE.get(code) or (f"the store answered {code}: {answer.get('Message', 'no message')}", "failed")
