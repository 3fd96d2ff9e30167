"""What is published of a date, held against its manifest: a gate log or a late upload may have moved frames since."""

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc

from scrapray import schema
from scrapray.audit.manifest import days_beside, read_manifest
from scrapray.errors import SchemaError, StorageError
from scrapray.lake import published_sites, read_partition
from scrapray.storage import Storage

_JUDGED = ("reject_stage", "reject_reason", "duplicate_of")
_TOLD = [name for name in schema.MANIFEST.names if name not in _JUDGED]
"""What an audit says as the index did; it may reject what that did not, and find more that repeats."""


def is_outdated(lake_uri: str, manifest_uri: str, date: dt.date, storage: Storage) -> bool:
    """Whether a date is published with other frames, or with frames of other loads, than its manifest has.

    A date that was never indexed or never published, or that another version of scrapray has published, is not.

    Raises:
        StorageError: Lake or manifest cannot be read.
    """
    published = published_sites(lake_uri, date, storage)
    manifest = _manifest_of(manifest_uri, date, storage)
    if not published or manifest is None:
        return False
    sites = pc.unique(manifest["site"]).to_pylist()
    if not set(sites) <= set(published) or emptied_sites(lake_uri, manifest_uri, manifest, date, storage):
        return True
    frames_of = {site: _frames(lake_uri, date, site, storage) for site in sites}
    return any(
        _told(manifest.filter(pc.equal(manifest["site"], site))) != _told(frames)
        for site, frames in frames_of.items()
        if frames is not None
    )


def emptied_sites(lake_uri: str, manifest_uri: str, manifest: pa.Table, date: dt.date, storage: Storage) -> list[str]:
    """Sites that are published for a date, all of whose frames a gate log has given to the date before or after.

    Other archives may share the lake, so a site whose frames are gone without a trace is left alone.

    Args:
        lake_uri: Where tables are published.
        manifest_uri: Folder of all dates.
        manifest: Of this date at least.
        date: The date.
        storage: The door to both.
    """
    here = pc.unique(manifest.filter(pc.equal(manifest["date"], pa.scalar(date)))["site"]).to_pylist()
    missing = [site for site in published_sites(lake_uri, date, storage) if site not in here]
    if not missing:
        return []
    beside = (_manifest_of(manifest_uri, day, storage) for day in days_beside(date))
    moved = {frame_id for table in beside if table is not None for frame_id in table["frame_id"].to_pylist()}
    return [
        site
        for site in missing
        if (frames := _frames(lake_uri, date, site, storage)) and set(frames["frame_id"].to_pylist()) <= moved
    ]


def _manifest_of(manifest_uri: str, date: dt.date, storage: Storage) -> pa.Table | None:
    try:
        return read_manifest(manifest_uri, storage, date)
    except StorageError as error:
        if error.reason == "missing":
            return None
        raise


def _frames(lake_uri: str, date: dt.date, site: str, storage: Storage) -> pa.Table | None:
    """The frames that are published; None where nobody can tell, since another version of scrapray has written them."""
    try:
        return read_partition(lake_uri, "frames", date, site, storage)
    except SchemaError:
        return None


def _told(frames: pa.Table) -> pa.Table:
    """What an index says of frames, in one order."""
    return frames.select(_TOLD).sort_by("frame_id").replace_schema_metadata(None).combine_chunks()
