from pathlib import Path

import pytest

from scrapray.errors import ConfigurationError
from scrapray.training.config import FinetuneConfig
from scrapray.training.profiles import PROFILES, read_finetune


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_a_whole_configuration(name: str) -> None:
    config = read_finetune(None, [name])
    assert (config == FinetuneConfig()) == (name == "paper")


def test_without_settings_it_is_the_papers_recipe() -> None:
    assert read_finetune(None) == FinetuneConfig()


def test_recipes_lie_over_each_other_and_the_file_over_them(tmp_path: Path) -> None:
    path = tmp_path / "finetune.toml"
    path.write_text('profiles = ["demo"]\n[training]\nepochs = 2\n')
    config = read_finetune(path, ["split"])
    assert (config.start.clip, config.training.batch_size) == ("miniature", 8), "of demo"
    assert (config.optim.lr_vision, config.optim.warmup_steps) == (1e-5, 50), "of split, over demo"
    assert config.training.epochs == 2, "of the file, over both"


@pytest.mark.parametrize("is_in_the_file", [True, False])
def test_an_ablation_is_what_its_name_says_whatever_the_file_trains_with(tmp_path: Path, is_in_the_file: bool) -> None:
    path = tmp_path / "finetune.toml"
    rates = "[optim]\nlr_vision = 6e-4\nlr_msm = 2e-3\n[segmenter]\nsimilarity_share = 0.5\n"
    path.write_text(('profiles = ["frozen"]\n' if is_in_the_file else "") + rates)
    config = read_finetune(path, [] if is_in_the_file else ["frozen"])
    assert (config.optim.lr_vision, config.optim.lr_msm, config.segmenter.similarity_share) == (0, 0, 1)


def test_the_ablations_differ_in_what_they_are_about_and_nothing_else() -> None:
    paper, without = read_finetune(None), read_finetune(None, ["no-msm"])
    assert (without.segmenter.similarity_share, without.loss.multiscale_weight, without.optim.lr_msm) == (1, 0, 0)
    assert (without.training, without.optim.lr_vision) == (paper.training, paper.optim.lr_vision)
    assert read_finetune(None, ["scales-7-13"]).segmenter.msm_scales == (7, 13)


def test_a_profile_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="profile fast: there is no profile 'fast'; there are paper, split"):
        read_finetune(None, ["fast"])
    path = tmp_path / "finetune.toml"
    path.write_text('profiles = ["fast"]')
    with pytest.raises(ConfigurationError, match=r"finetune.toml: there is no profile 'fast'"):
        read_finetune(path)


@pytest.mark.parametrize("profiles", ["3", '"split"', "[1]"])
def test_profiles_that_are_no_names_are_refused(tmp_path: Path, profiles: str) -> None:
    path = tmp_path / "finetune.toml"
    path.write_text(f"profiles = {profiles}")
    with pytest.raises(ConfigurationError, match=r"finetune.toml: profiles is .* must be a list of names"):
        read_finetune(path)


def test_runs_are_told_apart_by_what_decides_their_outcome(tmp_path: Path) -> None:
    def sha256(text: str) -> str:
        path = tmp_path / "finetune.toml"
        path.write_text(text)
        return read_finetune(path).sha256()

    assert sha256("[training]\nseed = 1") != sha256("[training]\nseed = 2")
    assert sha256("[workers]\nloaders = 1") == sha256("[workers]\nloaders = 2"), "the same tiles in the same order"
    assert sha256('[storage]\nregion = "eu"') == sha256(""), "the same files through another door"
