"""Named settings of a finetuning, laid over the defaults, which are the scrap paper's.

    paper                            one learning rate everywhere
    split                            a learning rate for each part of the segmenter
    demo                             the small CLIP that is shipped, on CPUs

What a file says stands over these. Ablations of the paper (Tables 2 and 3) stand over the file, so that each is what
its name says, whatever else is trained with that file:

    frozen                           learn prompts only, as AnomalyCLIP does
    no-msm                           without the multi-scale mechanism
    scales-5-11, scales-7-13         with other windows of it than 3 and 9
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scrapray.config import read_toml, settings_of
from scrapray.errors import ConfigurationError
from scrapray.training.config import MINIATURE, FinetuneConfig

Sections = Mapping[str, Mapping[str, Any]]

_WITHOUT_MSM = {
    "segmenter": {"similarity_share": 1.0},
    "loss": {"multiscale_weight": 0.0},
}
RECIPES: Mapping[str, Sections] = {
    "paper": {},
    "split": {"optim": {"lr_vision": 1e-5, "lr_prompt": 1e-3, "lr_msm": 1e-4}},
    "demo": {
        "start": {"clip": MINIATURE},
        "segmenter": {
            "input_px": 256,
            "stages": (3, 4, 5, 6),
            "dpam_from": None,
            "prompt_depth": 4,
            "msm_hidden": 64,
            "gaussian_sigma_px": 2.0,
        },
        "training": {
            "epochs": 4,
            "batch_size": 8,
            "tiles_per_pass": 8,
            "loss_px": 64,
            "balanced": True,
            "autocast": False,  # CPUs that do not multiply in bf16 take half as long again in it
            "checkpoint_every_steps": 100,
        },
        "optim": {"lr_vision": 3e-4, "lr_prompt": 5e-4, "lr_msm": 1e-3, "warmup_steps": 50},
        "loss": {"dice_classes": "present"},
        "augment": {"flip": True, "light": 0.3},
        "workers": {"gpus_per_worker": 0.0, "cpus_per_worker": 2, "loaders": 1},
    },
}
ABLATIONS: Mapping[str, Sections] = {
    "frozen": {
        **_WITHOUT_MSM,
        "optim": {"lr_vision": 0.0, "lr_prompt": 1e-3, "lr_msm": 0.0},
    },
    "no-msm": {**_WITHOUT_MSM, "optim": {"lr_msm": 0.0}},
    "scales-5-11": {"segmenter": {"msm_scales": (5, 11)}},
    "scales-7-13": {"segmenter": {"msm_scales": (7, 13)}},
}
PROFILES = {**RECIPES, **ABLATIONS}


def read_finetune(path: Path | None, profiles: Sequence[str] = ()) -> FinetuneConfig:
    """Settings of a finetuning: recipes one over the other, over them what a file says, over that the ablations.

    Args:
        path: TOML with the sections of ``FinetuneConfig``; ``profiles`` at its top names profiles too.
        profiles: Names, after those of the file.

    Raises:
        ConfigurationError: A profile is not known, or the file is wrong.
    """
    values = {} if path is None else read_toml(path)
    named = values.pop("profiles", [])
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise ConfigurationError(f'{path}: profiles is {named!r}, must be a list of names, such as ["split"]')
    names = [*named, *profiles]
    source = str(path or f"profile {'+'.join(names) or 'paper'}")
    if unknown := [name for name in names if name not in PROFILES]:
        raise ConfigurationError(f"{source}: there is no profile {unknown[0]!r}; there are {', '.join(PROFILES)}")
    recipes, ablations = ([of[name] for name in names if name in of] for of in (RECIPES, ABLATIONS))
    return settings_of(_laid_over(*recipes, values, *ablations), FinetuneConfig, source=source)


def _laid_over(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Section by section, what comes later over what comes before."""
    whole: dict[str, Any] = {}
    for layer in layers:
        for name, section in layer.items():
            whole[name] = {**whole.get(name, {}), **section} if isinstance(section, Mapping) else section
    return whole
