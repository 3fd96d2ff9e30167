"""How far are the baselines from ours? The paper's table of methods on drawn scrap, all from the small CLIP.

    python benchmarks/methods.py [--folder runs/ablations] [--seeds 0 1 2] [--baseline-seeds 0] [--sam FOLDER]

Works in the folder of ``ablations.py``: the data are the same, and what was trained there is not trained again. Nobody
has pretrained weights here: detectors begin from random ones. YOLO sees each training tile once, like ours; Mask R-CNN,
which takes a second for a tile in training and 0.6 s in the test, sees a twentieth of them. Without ``--sam`` the SAM
behind YOLO is a tiny one of random weights, so its masks are blobs. Some hours on one core; stopped, it goes on with
the run that it was at.
"""

from dataclasses import replace
from pathlib import Path

from ablations import TILE_PX, arguments, drawn_comparison

from scrapray.baselines.anomalyclip import AnomalyClipConfig
from scrapray.baselines.maskrcnn import MaskRcnnConfig
from scrapray.baselines.winclip import WinClipConfig
from scrapray.baselines.yolo_sam import YoloSamConfig
from scrapray.datasets.read import open_dataset
from scrapray.evaluation.comparison import METHODS
from scrapray.evaluation.config import EvaluateConfig, FrozenClipConfig
from scrapray.evaluation.tables import write_comparison
from scrapray.storage import Storage
from scrapray.training.config import StartConfig

MASKRCNN_TILES = 960


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--baseline-seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sam", type=Path, help="folder with a SAM, as transformers saves it")
    given = parser.parse_args()
    config = EvaluateConfig(
        clip=FrozenClipConfig(clip="miniature"),
        winclip=WinClipConfig(states="steel"),
        start=StartConfig(clip="miniature"),
        anomalyclip=AnomalyClipConfig(input_px=TILE_PX, stages=(6,), dpam_from=3, prompt_depth=4, epochs=given.epochs),
        maskrcnn=MaskRcnnConfig(
            weights="random", input_px=TILE_PX, epochs=given.epochs, tiles_per_epoch=MASKRCNN_TILES, max_instances=10
        ),
        yolo_sam=YoloSamConfig(
            size="n",
            weights="random",
            masker=str(given.sam or random_sam(given.folder / "random-sam")),
            input_px=TILE_PX,
            epochs=given.epochs,
        ),
    )
    comparison = replace(drawn_comparison(given, config), baseline_seeds=given.baseline_seeds)
    measured = comparison.measure(METHODS)
    opened = open_dataset(comparison.dataset_uri, Storage())
    page, written = write_comparison(measured, opened, "methods", "Methods", given.folder)
    print(page, *written, sep="\n")


def random_sam(folder: Path) -> Path:
    """A SAM of a few thousand random weights."""
    from transformers import (
        SamConfig,
        SamImageProcessor,
        SamMaskDecoderConfig,
        SamModel,
        SamProcessor,
        SamPromptEncoderConfig,
        SamVisionConfig,
        set_seed,
    )

    set_seed(0)
    width = 16
    config = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=width,
            output_channels=width,
            num_hidden_layers=1,
            num_attention_heads=2,
            mlp_dim=width,
            global_attn_indexes=[0],
            num_pos_feats=width // 2,
            image_size=TILE_PX,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(hidden_size=width, image_size=TILE_PX),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=width, mlp_dim=width, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=width
        ),
    )
    SamModel(config).save_pretrained(folder)
    longest, square = {"longest_edge": TILE_PX}, {"height": TILE_PX, "width": TILE_PX}
    images = SamImageProcessor(size=longest, pad_size=square, mask_size=longest, mask_pad_size=square)
    SamProcessor(images).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


if __name__ == "__main__":
    main()
