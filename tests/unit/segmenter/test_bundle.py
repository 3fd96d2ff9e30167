import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from scrapray.errors import ConfigurationError, ModelError
from scrapray.labels import SCRAP_CONTAMINANTS
from scrapray.segmenter.bundle import (
    check_bundle,
    load_bundle,
    load_for_training,
    read_card,
    save_bundle,
    sha256_of_file,
    write_card,
)
from scrapray.segmenter.model import Segmenter, prepare_tiles
from scrapray.segmenter.step import OptimConfig, make_optimizer
from tests.fixtures.pictures import make_tiny_segmenter

NAMES = ("motor", "cable", "spray can")


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return make_tiny_segmenter(tmp_path).eval()


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that may be damaged."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copied"))


def tiles(num: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (num, 64, 64, 3), dtype=np.uint8)


def change_card(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the weights and their hash in the card with them."""
    path = folder / "weights.safetensors"
    state, metadata = load_file(path), safe_open(path, "pt").metadata()
    change(state)
    save_file(state, path, metadata)
    change_card(folder, lambda card: card.update(weights_sha256=sha256_of_file(path)))


def test_a_bundle_scores_tiles_as_the_segmenter_it_was_made_from(segmenter: Segmenter, tmp_path: Path) -> None:
    save_bundle(tmp_path / "b", segmenter, name="scrap", version="3", tile_px=64, dtype="fp32")
    scores = load_bundle(tmp_path / "b").score_tiles(tiles(2), 16)
    expected = segmenter.score(prepare_tiles(torch.from_numpy(tiles(2)), 80, segmenter.clip_config), 16)
    assert scores.shape == (2, 3, 16, 16)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected.classes_NKHW.numpy(), atol=1e-6)


def test_half_precision_on_disk_costs_little(segmenter: Segmenter, tmp_path: Path) -> None:
    sizes, scores = [], []
    for dtype in ("fp32", "fp16"):
        folder = tmp_path / dtype
        save_bundle(folder, segmenter, name="scrap", version="3", tile_px=64, dtype=dtype)
        sizes.append((folder / "weights.safetensors").stat().st_size)
        scores.append(load_bundle(folder).score_tiles(tiles(2), 16))
    assert sizes[1] < 0.55 * sizes[0]
    assert np.abs(scores[0] - scores[1]).max() < 5e-3


def test_a_loaded_bundle_has_no_text_tower_is_frozen_and_computes_in_fp32(tiny_bundle: Path) -> None:
    model = load_bundle(tiny_bundle).model
    assert model.text is None
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


def test_the_file_holds_prompts_and_text_features_but_no_text_tower(tiny_bundle: Path) -> None:
    names = set(load_file(tiny_bundle / "weights.safetensors"))
    assert {"class_text_CE", "pair_text_2E", "prompts.context_CPd", "prompts.deep.0"} <= names
    assert not [name for name in names if name.startswith("text.") or "token_embedding" in name]


def test_text_features_stay_fp32_in_a_half_precision_file(tiny_bundle: Path) -> None:
    state = load_file(tiny_bundle / "weights.safetensors")
    assert state["class_text_CE"].dtype == torch.float32
    assert state["visual.proj"].dtype == torch.float16


def test_the_card_says_what_the_bundle_is(segmenter: Segmenter, tmp_path: Path) -> None:
    save_bundle(
        tmp_path,
        segmenter,
        name="scrap",
        version="3",
        tile_px=512,
        thresholds=(0.4, 0.5, 0.6),
        trained_on={"tiles": 8},
        metrics={"ap": 0.3},
    )
    card = read_card(tmp_path)
    assert (card.name, card.version, card.tile_px, card.input_px) == ("scrap", "3", 512, 80)
    assert card.classes == SCRAP_CONTAMINANTS
    assert card.class_names == NAMES
    assert card.thresholds == (0.4, 0.5, 0.6)
    assert card.segmenter == segmenter.config
    assert card.clip == segmenter.clip_config
    assert (card.trained_on, card.metrics) == ({"tiles": 8}, {"ap": 0.3})
    assert card.weights_sha256 == hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
    values = json.loads((tmp_path / "card.json").read_text())
    assert values["classes"][2] == {
        "name": "spray can",
        "definition": SCRAP_CONTAMINANTS[2].definition,
        "severity": 3,
        "prompt": "object which is not steel but spray can",
        "threshold": 0.6,
    }


def test_scores_do_not_depend_on_the_batch_and_take_read_only_tiles(tiny_bundle: Path) -> None:
    bundle, given = load_bundle(tiny_bundle), tiles(3)
    given.flags.writeable = False
    together = bundle.score_tiles(given, 16)
    alone = np.concatenate([bundle.score_tiles(given[i : i + 1], 16) for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
    assert together.min() >= 0
    assert together.max() <= 1


def test_half_precision_arithmetic_stays_near(tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    exact, near = bundle.score_tiles(tiles(2), 16), bundle.score_tiles(tiles(2), 16, autocast=True)
    assert near.dtype == np.float32
    assert 0 < np.abs(exact - near).max() < 0.05


def test_changed_weights_are_refused_by_their_hash(copied: Path) -> None:
    path = copied / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        ModelError, match=r"weights\.safetensors: sha256 is .*, the card says .*; copy the bundle again"
    ):
        load_bundle(copied)


@pytest.mark.parametrize("order", [(0, 1), (1, 0, 2), (0, 1, 1)])
def test_a_card_of_other_classes_than_the_weights_is_refused_by_name(order: tuple[int, ...], copied: Path) -> None:
    card = read_card(copied)
    classes = tuple(card.classes[place] for place in order)
    other = replace(card, classes=classes, thresholds=(0.5,) * len(classes))
    write_card(copied, other)
    for load in (load_bundle, check_bundle):
        with pytest.raises(ModelError, match=f"tell motor, cable, spray can, the card {', '.join(other.class_names)};"):
            load(copied)


def test_weights_without_names_of_classes_are_refused(copied: Path) -> None:
    path = copied / "weights.safetensors"
    save_file(load_file(path), path)
    write_card(copied, replace(read_card(copied), weights_sha256=sha256_of_file(path)))
    with pytest.raises(ModelError, match="the weights tell nothing, the card motor, cable, spray can; give"):
        load_bundle(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(format_version=1), "bundle format 1, this version of scrapray reads 2"),
        (lambda card: card.pop("tile_px"), "the card has no 'tile_px'"),
        (lambda card: card["classes"][0].pop("severity"), "the card has no 'severity'"),
        (lambda card: card["classes"][0].update(severity=9), "severity is 9, must be 1 to 3"),
        (lambda card: card["classes"][0].update(threshold=1.5), "must be between 0 and 1"),
        (lambda card: card["segmenter"].pop("stages"), r"settings differ by \['stages'\]"),
        (lambda card: card["segmenter"].update(temperature=-1), "temperature must be above 0"),
        (lambda card: card["clip"].update(model_cfg={}), "not the configuration of a plain CLIP"),
        (lambda card: card.update(tile_px=0), r"tiles have sides of \(0,\) px"),
        (lambda card: card.update(tile_px=64.5), r"tiles have sides of \(64\.5,\) px"),
        (lambda card: card.update(metrics=None), "not iterable"),
        (lambda card: card.update(trained_on=[1]), "export the bundle again"),
        (lambda card: card.update(input_px=64), "input_px does not fit the rest of the card"),
        (lambda card: card.update(threshold=0.9), "threshold does not fit the rest of the card"),
        (lambda card: card["classes"][0].update(prompt="a motor"), "classes does not fit the rest of the card"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused_by_name(
    change: Callable[[dict[str, Any]], Any], message: str, copied: Path
) -> None:
    change_card(copied, change)
    with pytest.raises(ModelError, match=rf"card\.json: .*{message}"):
        load_bundle(copied)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_card_that_is_not_a_card_is_refused(text: str, copied: Path) -> None:
    (copied / "card.json").write_text(text)
    with pytest.raises(ModelError, match=r"card\.json: "):
        load_bundle(copied)


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
def test_a_missing_file_is_named(name: str, copied: Path) -> None:
    (copied / name).unlink()
    with pytest.raises(ModelError, match=f"no {name} in it"):
        load_bundle(copied)


def test_missing_tensors_are_named(copied: Path) -> None:
    change_weights(copied, lambda state: state.pop("visual.ln_post.weight"))
    with pytest.raises(ModelError, match=r"missing visual\.ln_post\.weight"):
        load_bundle(copied)


def test_weights_of_another_architecture_are_refused(copied: Path) -> None:
    change_card(copied, lambda card: card["segmenter"].update(msm_hidden=8))
    with pytest.raises(ModelError, match=r"of another shape msm\.0\..* and \d+ more"):
        load_bundle(copied)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(number: float, copied: Path) -> None:
    change_weights(copied, lambda state: state["visual.ln_post.weight"].view(-1)[:1].fill_(number))
    with pytest.raises(ModelError, match=r"visual\.ln_post\.weight holds NaN or infinity; export the bundle again"):
        load_bundle(copied)


def test_a_weights_file_of_another_kind_is_refused_even_with_its_hash(copied: Path) -> None:
    path = copied / "weights.safetensors"
    path.write_bytes(b"not safetensors")
    change_card(copied, lambda card: card.update(weights_sha256=sha256_of_file(path)))
    with pytest.raises(ModelError, match="not readable as safetensors"):
        load_bundle(copied)


def test_training_goes_on_from_a_bundle_with_the_text_tower_it_began_from(segmenter: Segmenter, tmp_path: Path) -> None:
    with torch.no_grad():
        segmenter.prompts.context_CPd.add_(1.0)
    save_bundle(tmp_path / "b", segmenter.eval(), name="scrap", version="3", tile_px=64)
    again = load_for_training(tmp_path / "b", model=str(tmp_path / "tiny.json"), weights=None)
    assert again.text is not None
    torch.testing.assert_close(again.prompts.context_CPd, segmenter.prompts.context_CPd, rtol=1e-3, atol=1e-3)
    trained = {name for name, p in segmenter.named_parameters() if p.requires_grad}
    assert {name for name, p in again.named_parameters() if p.requires_grad} == trained


def test_another_text_tower_than_the_bundle_began_from_is_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    save_bundle(tmp_path / "b", segmenter, name="scrap", version="3", tile_px=64)
    other = make_tiny_segmenter(tmp_path)
    assert other.text is not None
    model = json.loads((tmp_path / "tiny.json").read_text())
    model["text_cfg"]["layers"] = 4
    (tmp_path / "deeper.json").write_text(json.dumps(model))
    with pytest.raises(ModelError, match="began from another CLIP than"):
        load_for_training(tmp_path / "b", model=str(tmp_path / "deeper.json"), weights=None)


def test_other_weights_of_the_same_text_tower_are_found_by_the_features_they_give(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    assert segmenter.text is not None
    with torch.no_grad():
        segmenter.text.text_projection.neg_()
    save_bundle(tmp_path / "b", segmenter.eval(), name="scrap", version="3", tile_px=64)
    with pytest.raises(ModelError, match="do not give the bundle's text features"):
        load_for_training(tmp_path / "b", model=str(tmp_path / "tiny.json"), weights=None)


def test_a_segmenter_in_training_mode_cannot_become_a_bundle(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="averaged weights"):
        save_bundle(tmp_path, segmenter.train(), name="scrap", version="3", tile_px=64)


@pytest.mark.parametrize("thresholds", [(0.5,), (0.5, 0.5, 0.0)])
def test_thresholds_must_be_one_per_class_and_inside_the_range(
    thresholds: tuple[float, ...], segmenter: Segmenter, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="thresholds are"):
        save_bundle(tmp_path, segmenter, name="scrap", version="3", tile_px=64, thresholds=thresholds)


def test_a_file_is_hashed_in_pieces_as_in_one(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 10_000)
    assert sha256_of_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_bundle_loaded_for_scoring_cannot_be_trained_by_mistake(tiny_bundle: Path) -> None:
    with pytest.raises(AssertionError, match="load_for_training"):
        make_optimizer(load_bundle(tiny_bundle).model, OptimConfig())
