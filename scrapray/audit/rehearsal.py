"""An audit whose truth is known: drawn loads go through the whole main path, and what it says is held against them.

<folder>/drawn.json          what was asked for
<folder>/archive/part-<n>/   drawn frames and their truth, drawn once
<folder>/manifest, /lake     the audit of them, which goes on where it was stopped
"""

import json
import multiprocessing
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from scrapray.audit.manifest import index_archive
from scrapray.audit.nightly import MEASURED_WITH, area_settings, run_audit
from scrapray.config import AuditConfig, SegmentConfig, read_config
from scrapray.errors import ConfigurationError
from scrapray.imagery.scenes import SceneSettings, draw_archive
from scrapray.lake import read_partition
from scrapray.segmenter.bundle import BundleCard, read_card, write_card
from scrapray.statistics.contamination import calibrate_areas
from scrapray.statistics.thresholds import choose_thresholds
from scrapray.storage import Storage

LARGE_PX = 60
"""A load with a contaminant of this length should be flagged."""
_LOADS_PER_PART = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsedLoad:
    """One drawn load: what was in it, and what the audit said.

    Attributes:
        true_frac: Contaminated share of the visible bed over all frames.
        largest_px: Longest visible extent of a contaminant in any frame; 0 for a clean load.
        row: Its row of ``schema.LOADS``.
        peaks_FK: The highest score of each contaminant in each used frame.
    """

    true_frac: float
    largest_px: float
    row: Mapping[str, Any]
    peaks_FK: tuple[tuple[float, ...], ...]

    @property
    def is_clean(self) -> bool:
        """Without any contaminant."""
        return self.largest_px == 0

    @property
    def should_be_flagged(self) -> bool:
        """With a contaminant that is large enough."""
        return self.largest_px >= LARGE_PX

    @property
    def is_flagged(self) -> bool:
        """Whether the audit asks a person to look at it, or more."""
        return bool(self.row["verdict"] != "accept")


def rehearse(
    folder: Path,
    model_uri: str,
    *,
    num_loads: int,
    frames_per_load: int,
    seed: int,
    scene: SceneSettings | None = None,
    workers: int = 2,
) -> list[RehearsedLoad]:
    """Draw loads, audit them, and pair what was drawn with what was said.

    Args:
        folder: Keeps everything; called again, finished parts are not done again.
        model_uri: A bundle, see ``run_audit``.
        num_loads: Loads to draw, rounded up to whole parts of four; half of them hold contaminants.
        frames_per_load: Frames of each.
        seed: Of the first part; the others follow it.
        scene: What loads are drawn like; 4K frames by default.
        workers: Processes that draw.

    Raises:
        ConfigurationError: The folder holds other loads.
    """
    _keep_to(folder / "drawn.json", seed=seed, frames_per_load=frames_per_load, scene=scene and asdict(scene))
    archive, manifest, lake = (str(folder / name) for name in ("archive", "manifest", "lake"))
    parts = [_part(folder, number) for number in range(_num_parts(num_loads))]
    # Spawned, since a process that holds torch and Ray must not be forked.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        draw = partial(_draw_part, frames_per_load=frames_per_load, scene=scene)
        list(pool.map(draw, parts, range(seed, seed + len(parts))))
    config = drawn_settings(folder)
    index_archive(archive, manifest, storage=Storage(), archive=config.archive)
    summary = run_audit(manifest, lake, model_uri, config=config)
    rows = {(row["site"], row["load_id"]): row for row in summary.loads}
    peaks = _peaks(lake, summary.loads)
    return [
        RehearsedLoad(
            true_frac=truth["contamination_frac"],
            largest_px=max(found["largest_px"] for found in truth["classes"].values()),
            row=rows[truth["site"], truth["load_id"]],
            peaks_FK=tuple(peaks[truth["site"], truth["load_id"]]),
        )
        for truth in _truths(parts)
    ]


def _peaks(lake: str, loads: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[tuple[float, ...]]]:
    """Highest scores of the used frames of each load."""
    peaks: dict[tuple[str, str], list[tuple[float, ...]]] = defaultdict(list)
    for date, site in sorted({(load["date"], load["site"]) for load in loads}):
        for frame in read_partition(lake, "frames", date, site, Storage()).to_pylist():
            if frame["status"] == "used":
                peaks[site, frame["load_id"]].append(tuple(found["peak_score"] for found in frame["classes"]))
    return peaks


def adjust_bundle(
    bundle_dir: Path,
    work_dir: Path,
    *,
    num_for_thresholds: int,
    num_for_areas: int,
    frames_per_load: int,
    seed: int,
    max_flagged_frac: float,
    lowest_threshold: float,
    scene: SceneSettings | None = None,
) -> BundleCard:
    """Choose a bundle's thresholds on drawn loads, then measure verdicts and errors in area on others with them.

    Not on the same: thresholds that let the clean ones among them pass would make the error look small.

    Args:
        bundle_dir: The bundle; its card is changed once, at the end.
        work_dir: Holds a copy of the bundle and a folder for each of the two sets of loads, see ``rehearse``.
        num_for_thresholds: Loads of the first set. Three in four are clean, since these say how often a clean load is
            flagged, and it takes many to let some of them pass.
        num_for_areas: Loads of the second set, half of them clean.
        frames_per_load: Of each.
        seed: Of the first set, as for ``rehearse``; the second goes on where it ends. Not to be used again to judge the
            bundle.
        max_flagged_frac: See ``choose_thresholds``.
        lowest_threshold: See ``choose_thresholds``; not below ``SUSPICION``, or the first set is looked at otherwise
            than audits do.
        scene: What loads are drawn like.
    """
    scene = scene or SceneSettings()
    copy_dir = work_dir / "bundle"
    shutil.copytree(bundle_dir, copy_dir, dirs_exist_ok=True)
    rehearsed = partial(rehearse, model_uri=str(copy_dir), frames_per_load=frames_per_load)
    for_thresholds, for_areas = work_dir / "for-thresholds", work_dir / "for-areas"
    card = read_card(bundle_dir)
    write_card(copy_dir, replace(card, thresholds=(lowest_threshold,) * len(card.classes)))
    mostly_clean = replace(scene, contaminated_share=0.25)
    first = rehearsed(for_thresholds, num_loads=num_for_thresholds, seed=seed, scene=mostly_clean)
    clean = [load.peaks_FK for load in first if load.peaks_FK and load.is_clean]
    large = [load.peaks_FK for load in first if load.peaks_FK and load.should_be_flagged]
    thresholds = choose_thresholds(clean, large, max_flagged_frac, lowest_threshold)
    chosen_on = {
        "clean_loads": len(clean),
        "contaminated_loads": len(large),
        "frames_per_load": frames_per_load,
        "max_flagged_frac": max_flagged_frac,
    }
    write_card(copy_dir, replace(card, thresholds=thresholds, metrics={**card.metrics, "thresholds": chosen_on}))
    unseen = rehearsed(for_areas, num_loads=num_for_areas, seed=seed + _num_parts(num_for_thresholds), scene=scene)
    card = calibrate_bundle(copy_dir, unseen, drawn_settings(for_areas).segment)
    card = replace(card, metrics={**card.metrics, "verdicts": count_verdicts(unseen)})
    write_card(bundle_dir, card)
    return card


def count_verdicts(loads: Sequence[RehearsedLoad]) -> dict[str, int]:
    """How many loads should be flagged and are, and how many are clean and accepted, for a card."""
    large, clean = [load for load in loads if load.should_be_flagged], [load for load in loads if load.is_clean]
    return {
        "contaminated_loads": len(large),
        "flagged": sum(load.is_flagged for load in large),
        "clean_loads": len(clean),
        "accepted": sum(not load.is_flagged for load in clean),
    }


def calibrate_bundle(folder: Path, loads: Sequence[RehearsedLoad], segment: SegmentConfig) -> BundleCard:
    """Write the segmenter's error in area, as these loads show it, into the card of its bundle.

    Args:
        folder: Of the bundle.
        loads: Rehearsed with it; not to be used again to judge the intervals.
        segment: How it looked at them; the error is that of an audit with the same settings.

    Raises:
        ValueError: There are too few loads.
    """
    seen = [load for load in loads if load.row["contamination_frac"] is not None]
    calibration = calibrate_areas([load.row["contamination_frac"] for load in seen], [load.true_frac for load in seen])
    card = read_card(folder)
    measured = {**calibration.as_dict(), MEASURED_WITH: area_settings(segment)}
    card = replace(card, metrics={**card.metrics, "area_calibration": measured})
    write_card(folder, card)
    return card


def _draw_part(folder: Path, seed: int, *, frames_per_load: int, scene: SceneSettings | None) -> None:
    """Draw some loads of a site of their own; a part with its truth is finished."""
    if not (folder / "truth.json").exists():
        draw_archive(
            folder,
            num_loads=_LOADS_PER_PART,
            frames_per_load=frames_per_load,
            seed=seed,
            settings=scene,
            site=f"yard-{folder.name}",
        )


def _keep_to(path: Path, **asked: Any) -> None:
    """Note what a folder of loads was drawn for, and refuse to take these loads for others."""
    text = json.dumps(asked)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    elif (drawn := path.read_text(encoding="utf-8")) != text:
        raise ConfigurationError(
            f"{path.parent} holds loads that were drawn with {drawn}, asked for {text}; take another folder"
        )


def _num_parts(num_loads: int) -> int:
    return -(-num_loads // _LOADS_PER_PART)


def _part(folder: Path, number: int) -> Path:
    return folder / "archive" / f"part-{number}"


def drawn_settings(folder: Path) -> AuditConfig:
    """Settings that were drawn with the loads of a folder; keys begin with the name of their part."""
    config = read_config(_part(folder, 0) / "audit.toml")
    return replace(config, archive=replace(config.archive, key_pattern="{part}/" + config.archive.key_pattern))


def _truths(parts: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for part in parts:
        yield from json.loads((part / "truth.json").read_text(encoding="utf-8"))["loads"]
