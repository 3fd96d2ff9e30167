import datetime as dt
from pathlib import Path

import pytest

from scrapray.config import read_settings
from scrapray.datasets.config import DatasetConfig
from scrapray.errors import ConfigurationError
from scrapray.labels import SCRAP_CONTAMINANTS


def read(tmp_path: Path, text: str) -> DatasetConfig:
    path = tmp_path / "dataset.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path, DatasetConfig)


def test_an_empty_file_means_the_contaminants_of_the_paper(tmp_path: Path) -> None:
    config = read(tmp_path, "")
    assert config == DatasetConfig()
    assert tuple(one.contaminant for one in config.classes) == SCRAP_CONTAMINANTS
    assert config.class_of_mask_value == {0: 0, 1: 1, 2: 2, 3: 3}


def test_everything_can_be_said(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
        [annotations]
        ignored_classes = ["truck bed"]
        mask_values = ["truck bed", "battery", "stator"]

        [[classes]]
        name = "motor"
        aliases = ["stator"]
        severity = 3

        [[classes]]
        name = "battery"
        definition = "lead battery"
        severity = 3

        [archive]
        key_pattern = "{site}/{date}/{camera_id}_{time}.jpg"

        [cameras.c1]
        bed_polygon_px = [[0, 0], [9, 0], [9, 9]]

        [tiles]
        clean_share = 0.5

        [split]
        train = 0.8
        validation = 0.2
        test = 0

        [[split.fixed]]
        split = "test"
        first = 2026-11-01
        """,
    )
    motor, battery = (one.contaminant for one in config.classes)
    assert (motor.definition, motor.severity) == (SCRAP_CONTAMINANTS[0].definition, 3)
    assert (battery.name, battery.definition) == ("battery", "lead battery")
    assert config.class_of_mask_value == {0: 0, 1: 0, 2: 2, 3: 1}
    assert config.class_names.resolve(["Stator", "truck_bed"], "x") == {"Stator": "motor", "truck_bed": None}
    assert config.split.fixed_dates == [("test", dt.date(2026, 11, 1), dt.date.max)]
    assert config.cameras["c1"].bed_polygon_px[1] == (9, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tile]\ntile_px = 512", "unknown key tile; remove it"),
        ("[tiles]\nsize = 512", "unknown key tiles.size; remove it"),
        ("[[classes]]\nname = 'motor'\nalias = ['x']", "unknown key classes.0.alias; remove it"),
        ("[[classes]]\nname = 'tyre'", "'tyre' is new, so give its definition and its severity"),
        ("[[classes]]\nname = 'motor'\nseverity = 9", "'motor': severity is 9, must be 1 to 3"),
        ("[[classes]]\nname = 'motor'\n[[classes]]\nname = 'motor'", "classes motor, motor: a name stands twice"),
        ("[annotations]\nignored_classes = ['Motor']", "the class name 'Motor' has two meanings"),
        ("[tiles]\ntile_px = 0", "tile_px is 0, must be a multiple of 4"),
        ("[tiles]\noverlap_px = 512", "overlap_px is 512, must be 0 to 511, less than tile_px"),
        ("[tiles]\nclean_share = 2", "clean_share is 2.0, must be 0 to 1"),
        ("[split]\ntrain = 0.9", "train, validation and test add up to 1.2, must be 1"),
        ("[split]\ntrain = -1", "train is -1.0, must be 0 to 1"),
        ("[[split.fixed]]\nsplit = 'dev'", "split.fixed.0.split is 'dev'"),
        (
            "[[split.fixed]]\nsplit = 'test'\nfirst = 2026-11-02\nlast = 2026-11-01",
            "first is 2026-11-02, which is after last, 2026-11-01",
        ),
        (
            "[[split.fixed]]\nsplit = 'test'\nfirst = 2026-11-02\n[[split.fixed]]\nsplit = 'train'\nlast = 2026-11-02",
            "dates of train and of test overlap",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "dataset.toml"))
    assert message in str(caught.value)


def test_a_mask_value_without_a_meaning_is_named(tmp_path: Path) -> None:
    config = read(tmp_path, "[annotations]\nmask_values = ['motor', 'tyre']")
    with pytest.raises(ConfigurationError, match=r"\[annotations\] mask_values has the classes 'tyre'"):
        _ = config.class_of_mask_value


@pytest.mark.parametrize("name", ["any", "Steel", "battery, lead", "", " pipe", "a|b"])
def test_a_name_that_figures_or_the_server_cannot_take_is_refused(tmp_path: Path, name: str) -> None:
    text = f"[[classes]]\nname = '{name}'\ndefinition = 'lead battery'\nseverity = 3"
    with pytest.raises(ConfigurationError, match="cannot be the name of a class"):
        read(tmp_path, text)


@pytest.mark.parametrize("tile_px", [0, 510])
def test_tiles_of_which_not_every_pixel_can_be_scored_are_refused(tmp_path: Path, tile_px: int) -> None:
    with pytest.raises(ConfigurationError, match=f"tile_px is {tile_px}, must be a multiple of 4"):
        read(tmp_path, f"[tiles]\ntile_px = {tile_px}\noverlap_px = 0")
