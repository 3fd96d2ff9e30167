from pathlib import Path

import pytest

from scrapray.config import read_settings
from scrapray.errors import ConfigurationError
from scrapray.training.config import FinetuneConfig


def read(folder: Path, text: str) -> FinetuneConfig:
    path = folder / "finetune.toml"
    path.write_text(text)
    return read_settings(path, FinetuneConfig)


def test_an_empty_file_is_the_papers_recipe(tmp_path: Path) -> None:
    config = read(tmp_path, "")
    assert config == FinetuneConfig()
    assert (config.start.clip, config.segmenter.input_px) == ("ViT-L-14-336-quickgelu", 518)
    assert (config.training.epochs, config.training.batch_size, config.optim.lr_vision) == (15, 4, 1e-5)


def test_every_section_is_read(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        """
        [segmenter]
        stages = [1, 2]
        msm_stage_weights = [0.5, 0.5]
        [loss]
        dice_classes = "present"
        [optim]
        lr_prompt = 1e-3
        [augment]
        scale = [0.8, 1.2]
        [workers]
        min = 1
        max = 4
        """,
    )
    assert config.segmenter.stages == (1, 2)
    assert (config.loss.dice_classes, config.optim.lr_prompt) == ("present", 1e-3)
    assert (config.augment.scale, config.workers.max) == ((0.8, 1.2), 4)


def test_what_training_begins_from_is_named_as_it_is(tmp_path: Path) -> None:
    """The card of a bundle names it too."""
    shipped = read(tmp_path, '[start]\nclip = "miniature"').start
    assert shipped.weights == "miniature"
    assert [Path(str(place)).name for place in shipped.places()] == ["model.json", "weights.safetensors"]
    assert read(tmp_path, '[start]\nclip = "miniature"\nweights = "random"').start.places()[1] is None
    assert read(tmp_path, '[start]\nweights = "yard.safetensors"').start.places()[1] == "yard.safetensors"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[start]\nclip = "miniature"\nweights = "yard.safetensors"', "weights is 'yard.safetensors' with clip"),
        ('[start]\nweights = "miniature"', "weights is 'miniature' with clip 'ViT-L-14-336-quickgelu'"),
        ("[segmenter]\ninput = 518", "segmenter.input"),
        ("[optim]\nlr = 1", "optim.lr"),
        ("[workers]\nmax = 5", "each worker needs at least one tile"),
        ("[workers]\nmin = 3\nmax = 2", "min is 3 and max 2"),
        ("[training]\nepochs = 0", "epochs is 0"),
        ("[augment]\nlight = 2.0", "light is 2.0"),
        ("[training]\nloss_px = 0", "loss_px is 0"),
        ("[training]\nseed = -1", "seed is -1"),
        ("[optim]\nbetas = [0.9, 2.0]", "betas are"),
        ("[optim]\nlr_vision = nan", "lr_vision is nan"),
        ("[optim]\nclip_norm = inf", "clip_norm is inf"),
        ("[loss]\nsimilarity_weight = 0\nmultiscale_weight = 0", "are both 0"),
        ("[segmenter]\ninput_px = 0", "input_px is 0"),
        ("[segmenter]\nmsm_stage_weights = [-0.1, 0.1, 0.1, 0.7]", "msm_stage_weights are"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"finetune.toml: .*{message}"):
        read(tmp_path, text)
