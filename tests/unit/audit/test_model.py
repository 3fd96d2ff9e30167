from dataclasses import replace

import pytest

from scrapray.audit.model import find_model
from scrapray.errors import ModelError
from scrapray.segmenter.bundle import read_card
from scrapray.storage import Storage


def test_a_bundle_in_a_folder_is_named_by_its_place_and_its_card(tiny_bundle):
    found = find_model(str(tiny_bundle), Storage())
    assert (found.uri, found.bundle_uri) == (str(tiny_bundle), str(tiny_bundle))
    assert (found.name, found.version, found.card) == ("tiny", "1", read_card(tiny_bundle))


def test_a_model_says_what_it_has_seen_as_far_as_its_card_does(tiny_bundle):
    assert str(find_model("demo", Storage())).endswith(", trained on drawn scrap only: it knows nothing of real scrap")
    found = find_model(str(tiny_bundle), Storage())
    assert str(found) == f"tiny version 1, weights {found.card.weights_sha256[:12]}"
    finetuned = replace(found, card=replace(found.card, trained_on={"dataset": "s3://datasets/scrap-7", "steps": 9}))
    assert str(finetuned).endswith(", trained on s3://datasets/scrap-7")


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
