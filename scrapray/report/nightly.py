"""The report of a night: published tables and archived frames -> a folder of static pages.

<out>/index.html              the night
<out>/loads/*.html            one page per load, with its evidence
<out>/suppliers/*.html        one page per supplier of the night, with its trend
<out>/pictures/*.webp         parts of frames, each made once
<out>/style.css
"""

import datetime as dt
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from scrapray.errors import ConfigurationError
from scrapray.report.evidence import PICTURES, Progress, choose_evidence, make_pictures
from scrapray.report.names import PAGE, PICTURE
from scrapray.report.night import read_before, read_night
from scrapray.report.pages import INDEX, MARK, STYLE, Report, render
from scrapray.report.wording import NO_PICTURE, number
from scrapray.storage import Storage, absolute, join

_OURS = {"loads": PAGE, "suppliers": PAGE, PICTURES: PICTURE}
"""Folders of a report, and what in them is ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSummary:
    """What was made: where the first page is, how much there is of what, and what could not be shown.

    Attributes:
        index_uri: The page to open.
        num_loads: Pages of loads.
        num_pictures: Pictures, old and new ones.
        size_bytes: Of all files.
        faults: Frames of which a picture is missing, by reason.
        notices: What is wrong with the tables.
    """

    index_uri: str
    num_loads: int
    num_pictures: int
    size_bytes: int
    faults: Counter[str]
    notices: tuple[str, ...]

    def __str__(self) -> str:
        size = f"{self.size_bytes / 1e6:.1f} MB"
        first = f"{number(self.num_loads, 'load')}, {number(self.num_pictures, 'picture')}, {size}: {self.index_uri}"
        missing = [
            f"pictures missing of {number(count, 'frame')}: {NO_PICTURE[why]}" for why, count in self.faults.items()
        ]
        return "\n".join([*self.notices, *missing, first]).replace("\N{NO-BREAK SPACE}", " ")


def write_report(
    lake_uri: str,
    date: dt.date,
    out_uri: str,
    *,
    storage: Storage,
    progress: Progress = lambda done, total: None,
) -> ReportSummary:
    """Make the report of a night, or bring the one in the folder up to date: it holds that night only afterwards.

    Args:
        lake_uri: Where tables are published.
        date: The night, over all sites.
        out_uri: Folder or URI for the pages.
        storage: Opens lake, archive and report.
        progress: Called as pictures are made, with frames done and all frames.

    Raises:
        ConfigurationError: The folder is of somebody else, or lies in the lake; or Ray cannot be had.
        SchemaError: A table of the night is damaged, or of another version of scrapray.
        StorageError: Nothing is published for the night; lake or archive cannot be read, or the report not be written.
    """
    out_uri = absolute(out_uri)
    _refuse_foreign(out_uri, lake_uri, storage)
    night = read_night(lake_uri, date, storage)
    past, unreadable = read_before(lake_uri, date, storage)
    evidence = {load.key: choose_evidence(load) for load in night.loads}
    views = [view for each in evidence.values() for view in each.views]
    faults = make_pictures(views, out_uri, storage, progress)

    report = Report(night=night, past=past, unreadable=unreadable, evidence=evidence, faults=faults)
    written = {f"{PICTURES}/{view.name}" for view in views if view.name not in faults}
    for name, text in render(report):
        storage.write_bytes(join(out_uri, name), text.encode())
        written.add(name)
    if night.is_whole:
        _forget_others(out_uri, written, storage)
    return ReportSummary(
        index_uri=join(out_uri, INDEX),
        num_loads=len(evidence),
        num_pictures=sum(name.startswith(PICTURES) for name in written),
        size_bytes=sum(one.size_bytes for page in storage.list_pages(out_uri) for one in page if one.key in written),
        faults=Counter({view.frame["frame_id"]: faults[view.name] for view in views if view.name in faults}.values()),
        notices=tuple(night.notices),
    )


def _refuse_foreign(out_uri: str, lake_uri: str, storage: Storage) -> None:
    """Let nothing be replaced that no report has made.

    Raises:
        ConfigurationError: It would be.
    """
    if _real(out_uri).startswith(_real(lake_uri)):
        raise ConfigurationError(
            f"cannot write a report to {out_uri}: the lake {lake_uri} is there; give another folder"
        )
    for name in (INDEX, STYLE):
        uri = join(out_uri, name)
        if storage.exists(uri) and MARK.encode() not in storage.read_bytes(uri):
            raise ConfigurationError(
                f"cannot write {uri}: what is there is of no report; give another folder, or move it"
            )


def _real(uri: str) -> str:
    """A folder, whichever way leads to it, with a slash at its end."""
    place = absolute(uri)
    return join(place if "://" in place else os.path.realpath(place), "")


def _forget_others(out_uri: str, written: Collection[str], storage: Storage) -> None:
    """Delete what an earlier report has left in the folder, and nothing else."""
    for folder, ours in _OURS.items():
        for uri in storage.list_names(join(out_uri, folder)):
            name = uri.rpartition("/")[2]
            if ours.fullmatch(name) and f"{folder}/{name}" not in written:
                storage.delete(uri)
