"""What is shipped as package data: small enough, whole, and as good as its cards say."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from scrapray.imagery.scenes import draw_tiles
from scrapray.labels import SCRAP_CONTAMINANTS
from scrapray.segmenter.bundle import load_bundle, load_for_training, read_card, sha256_of_file
from scrapray.segmenter.demo import measure, score_all
from scrapray.segmenter.drawn_tiles import keep_tiles
from scrapray.segmenter.miniature import draw_collection, measure_zero_shot
from scrapray.segmenter.tower import build_clip

BUNDLES = Path(str(files("scrapray"))) / "bundles"
MINIATURE, DEMO = BUNDLES / "miniature-clip", BUNDLES / "demo"
MEBIBYTE = 1 << 20


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_miniature_clip_is_at_most_16_mebibytes() -> None:
    assert size_of(MINIATURE) <= 16 * MEBIBYTE


def test_the_demo_bundle_is_at_most_8_mebibytes() -> None:
    assert size_of(DEMO) <= 8 * MEBIBYTE


@pytest.mark.parametrize("folder", [MINIATURE, DEMO], ids=lambda folder: folder.name)
def test_cards_hold_the_hash_of_their_weights(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    assert card["weights_sha256"] == sha256_of_file(folder / "weights.safetensors")


def test_the_demo_bundle_tells_the_contaminants_of_the_paper_and_what_it_knows() -> None:
    bundle = load_bundle(DEMO)
    assert bundle.card.class_names == tuple(contaminant.name for contaminant in SCRAP_CONTAMINANTS)
    assert "drawn scrap only" in bundle.card.trained_on["what"]
    assert set(bundle.card.metrics) >= {"measured_on", "finetuned", "frozen_clip"}


def test_the_demo_bundle_began_from_the_miniature_clip_that_is_shipped() -> None:
    segmenter = load_for_training(DEMO, model=str(MINIATURE / "model.json"), weights=MINIATURE / "weights.safetensors")
    assert segmenter.text is not None


def test_the_miniature_clip_names_drawings_as_well_as_its_card_says(tmp_path: Path) -> None:
    card = json.loads((MINIATURE / "card.json").read_text())["zero_shot"]
    clip, config = build_clip(str(MINIATURE / "model.json"), MINIATURE / "weights.safetensors")
    drawings = draw_collection(tmp_path, 512, seed=77, evenly=True)
    reached = measure_zero_shot(clip.eval(), config, drawings)
    # Half a thousand drawings tell a share of a tenth to within three points in nineteen cases of twenty.
    assert reached.name_accuracy == pytest.approx(card["name_accuracy"], abs=0.05)
    assert reached.name_accuracy > 15 * card["name_chance"]


def test_the_demo_bundle_finds_contaminants_above_chance_on_fresh_tiles(tmp_path: Path) -> None:
    bundle = load_bundle(DEMO)
    tiles = keep_tiles(tmp_path, 36, 256, 3_000_000, draw_tiles)
    found = measure(score_all(bundle.model, tiles, bundle.card.tile_sides_px), tiles)["pixels"]["any"]
    assert found["average_precision"] > 14 * found["prevalence"]
    assert found["auroc"] > 0.9


def test_the_demo_bundle_beats_the_frozen_clip_on_its_card() -> None:
    metrics = read_card(DEMO).metrics
    tuned, frozen = (metrics[kind]["pixels"]["any"] for kind in ("finetuned", "frozen_clip"))
    assert tuned["prevalence"] == frozen["prevalence"]
    assert tuned["average_precision"] > 20 * frozen["average_precision"]
    assert np.isfinite(tuned["auroc"])
