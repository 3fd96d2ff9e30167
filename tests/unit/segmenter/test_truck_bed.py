"""Grounding DINO and SAM of a few thousand random parameters, through the same code as pretrained ones."""

from pathlib import Path

import numpy as np
import pytest
from transformers import (
    BertConfig,
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    SamConfig,
    SamImageProcessor,
    SamMaskDecoderConfig,
    SamModel,
    SamProcessor,
    SamPromptEncoderConfig,
    SamVisionConfig,
    SwinConfig,
    set_seed,
)

from scrapray.errors import FrameError, ModelError
from scrapray.segmenter.truck_bed import BedFinder, bed_finder

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "scrap", "truck", "bed")
FRAME_HW3 = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("detector")
    set_seed(0)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    swin = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config=BertConfig(
            vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=6,
        max_text_len=16,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    pictures = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 128})
    GroundingDinoProcessor(pictures, BertTokenizerFast(str(folder / "vocab.txt"))).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def masker(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("masker")
    set_seed(0)
    config = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=16,
            output_channels=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=64,
            patch_size=16,
            mlp_dim=16,
            global_attn_indexes=[0],
            num_pos_feats=8,
            window_size=2,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=16, image_size=64, patch_size=16, mask_input_channels=8
        ),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16
        ),
    )
    SamModel(config).save_pretrained(folder)
    size = {"longest_edge": 64}
    pad = {"height": 64, "width": 64}
    SamProcessor(SamImageProcessor(size=size, pad_size=pad, mask_size=size, mask_pad_size=pad)).save_pretrained(folder)
    return str(folder)


def test_phrases_become_a_mask_of_the_frame(detector: str, masker: str) -> None:
    finder = bed_finder(detector, masker)
    bed_HW = finder.find(FRAME_HW3, ("scrap", "Truck bed."), 0.001)
    assert (bed_HW.shape, bed_HW.dtype) == ((90, 160), np.bool_)
    assert bed_HW.any()
    assert np.array_equal(bed_HW, finder.find(FRAME_HW3, ("scrap", "Truck bed."), 0.001))
    assert bed_finder(detector, masker) is finder, "loaded once"


def test_phrases_that_fit_nothing_leave_the_frame_out(detector: str, masker: str) -> None:
    with pytest.raises(FrameError) as caught:
        bed_finder(detector, masker).find(FRAME_HW3, ("scrap",), 1.0)
    assert (caught.value.stage, caught.value.reason) == ("bed", "not_found")
    assert "1.0 or more for: scrap." in str(caught.value.detail)


def test_a_folder_without_a_model_is_named(tmp_path: Path, masker: str) -> None:
    with pytest.raises(ModelError, match="give names on the hub or folders"):
        BedFinder(str(tmp_path), masker)
