import pytest

from scrapray.audit.model import find_model
from scrapray.errors import ModelError
from scrapray.segmenter.bundle import read_card
from scrapray.storage import Storage


def test_a_bundle_in_a_folder_is_named_by_its_place_and_its_card(tiny_bundle):
    found = find_model(str(tiny_bundle), Storage())
    assert (found.uri, found.bundle_uri) == (str(tiny_bundle), str(tiny_bundle))
    assert (found.name, found.version, found.card) == ("tiny", "1", read_card(tiny_bundle))


def test_a_damaged_bundle_stops_the_run_before_any_work(tiny_bundle, tmp_path):
    for path in tiny_bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "weights.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="sha256"):
        find_model(str(tmp_path), Storage())


def test_a_folder_without_a_bundle_is_named(tmp_path):
    with pytest.raises(ModelError, match=str(tmp_path)):
        find_model(str(tmp_path), Storage())
