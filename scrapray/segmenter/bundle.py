"""A bundle: one folder with all that is needed to run a segmenter, ``weights.safetensors`` and ``card.json``.

The card says what the weights are; the weights hold the vision tower, the multi-scale mechanism, the prompts and the
text features made from them, so that an audit needs no text tower. They name their classes too: a card on which two
names were exchanged would otherwise call every spray can a motor.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

import scrapray
from scrapray.errors import ConfigurationError, ModelError
from scrapray.labels import Contaminant
from scrapray.segmenter.model import Segmenter, SegmenterConfig, prepare_tiles
from scrapray.segmenter.tower import ClipConfig, build_clip, new_clip
from scrapray.segmenter.whole_files import whole_file

FORMAT_VERSION = 2

CARD = "card.json"
"""Name of the card in the folder of a bundle; it is written last."""

_WEIGHTS = "weights.safetensors"
_CLASSES = "classes"
"""In the header of the weights: the names of the contaminants, as JSON."""
_TEXT_FEATURES = ("class_text_CE", "pair_text_2E")
_READ_BYTES = 1 << 20
_TEXT_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleCard:
    """What a bundle is.

    Attributes:
        name: Of the model, for example ``scrap``.
        version: Of the model, for example ``3``.
        classes: The contaminants, in the order of the score maps.
        thresholds: Score from which a pixel counts, for each of them.
        tile_px: Side of the tiles that frames are cut into.
        wide_tile_px: Side of wider tiles that frames are cut into instead; what is suspicious in them is looked at
            again, in a tile of either side that is centred on it. None for no others.
        clip: Shape of the CLIP.
        segmenter: What else the segmenter is made of.
        trained_on: Where the weights come from, in plain values.
        metrics: How good they are, in plain values.
        weights_sha256: Of the weights file.
    """

    name: str
    version: str
    classes: tuple[Contaminant, ...]
    thresholds: tuple[float, ...]
    tile_px: int
    wide_tile_px: int | None = None
    clip: ClipConfig
    segmenter: SegmenterConfig
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        if len(self.thresholds) != len(self.classes):
            raise ConfigurationError(f"thresholds are {self.thresholds}, must be one for each of {self.class_names}")
        if not all(0 < threshold < 1 for threshold in self.thresholds):
            raise ConfigurationError(f"thresholds are {self.thresholds}, must be between 0 and 1")
        if not all(isinstance(side_px, int) and side_px >= 1 for side_px in self.tile_sides_px):
            raise ConfigurationError(f"tiles have sides of {self.tile_sides_px} px, must be whole numbers from 1 on")
        if self.wide_tile_px is not None and self.wide_tile_px <= self.tile_px:
            raise ConfigurationError(f"wide_tile_px is {self.wide_tile_px}, must be above tile_px, {self.tile_px}")

    @property
    def tile_sides_px(self) -> tuple[int, ...]:
        """Sides of all tiles that frames are cut into, ascending."""
        return (self.tile_px,) if self.wide_tile_px is None else (self.tile_px, self.wide_tile_px)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the contaminants, in the order of the score maps."""
        return tuple(contaminant.name for contaminant in self.classes)

    @property
    def input_px(self) -> int:
        """Side of the square that the tower sees."""
        return self.segmenter.input_px

    def to_json(self) -> str:
        """The text of ``card.json``."""
        classes = [
            asdict(contaminant) | {"prompt": contaminant.prompt, "threshold": threshold}
            for contaminant, threshold in zip(self.classes, self.thresholds, strict=True)
        ]
        values = {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "version": self.version,
            "classes": classes,
            "tile_px": self.tile_px,
            "wide_tile_px": self.wide_tile_px,
            "input_px": self.input_px,
            "trained_on": dict(self.trained_on),
            "metrics": dict(self.metrics),
            "weights_sha256": self.weights_sha256,
            "segmenter": self.segmenter.as_dict(),
            "clip": self.clip.as_dict(),
        }
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str) -> "BundleCard":
        """Read what ``to_json`` wrote.

        Raises:
            ModelError: The text is not a card, or a card of another format.
        """
        try:
            values = json.loads(text)
            version = values["format_version"]
            if version != FORMAT_VERSION:
                raise ModelError(
                    f"{source}: bundle format {version}, this version of scrapray reads {FORMAT_VERSION}; "
                    f"update scrapray or export the bundle again"
                )
            card = cls(
                name=values["name"],
                version=values["version"],
                classes=tuple(
                    Contaminant(name=c["name"], definition=c["definition"], severity=c["severity"])
                    for c in values["classes"]
                ),
                thresholds=tuple(c["threshold"] for c in values["classes"]),
                tile_px=values["tile_px"],
                wide_tile_px=values["wide_tile_px"],
                clip=ClipConfig.from_dict(values["clip"], source=source),
                segmenter=SegmenterConfig.from_dict(values["segmenter"], source=source),
                trained_on=values["trained_on"],
                metrics=values["metrics"],
                weights_sha256=values["weights_sha256"],
            )
            whole = json.loads(card.to_json())
        except json.JSONDecodeError as error:
            raise ModelError(f"{source}: not readable as JSON: {error}; export the bundle again") from error
        except KeyError as error:
            raise ModelError(f"{source}: the card has no {error}; export the bundle again") from error
        except (ConfigurationError, TypeError, ValueError) as error:
            raise ModelError(f"{source}: {error}; export the bundle again") from error
        if strange := sorted(key for key in whole.keys() | values.keys() if whole.get(key) != values.get(key)):
            raise ModelError(
                f"{source}: {', '.join(strange)} does not fit the rest of the card; undo the change, or export the "
                f"bundle again"
            )
        return card


@dataclass(frozen=True, slots=True)
class Bundle:
    """A segmenter ready to score tiles, and its card."""

    card: BundleCard
    model: Segmenter

    def score_tiles(
        self, tiles_NHW3: NDArray[np.uint8], out_px: int, device: str = "cpu", autocast: bool = False
    ) -> NDArray[np.float32]:
        """Score of each contaminant at each pixel of the tiles.

        Args:
            tiles_NHW3: RGB tiles, all of one of ``card.tile_sides_px``.
            out_px: Side of the maps, whatever the tiles' own.
            device: Where to compute, as torch names it; the model moves there and stays.
            autocast: Run the vision tower in bf16.

        Returns:
            (N, K, out_px, out_px) in [0, 1], contaminants in the card's order.
        """
        self.model.to(device)
        tiles = prepare_tiles(torch.tensor(tiles_NHW3), self.card.input_px, self.card.clip, device)
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=autocast):
            scores = self.model.score(tiles, out_px)
        result: NDArray[np.float32] = scores.classes_NKHW.cpu().numpy()
        return result


def save_bundle(
    folder: Path,
    segmenter: Segmenter,
    *,
    name: str,
    version: str,
    tile_px: int,
    wide_tile_px: int | None = None,
    thresholds: Sequence[float] | None = None,
    trained_on: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    dtype: Literal["fp16", "fp32"] = "fp16",
) -> BundleCard:
    """Write a segmenter as a bundle; the card last, so that a folder without one is unfinished.

    Args:
        folder: Made if it is missing.
        segmenter: In evaluation mode.
        name: Of the model.
        version: Of the model.
        tile_px: Side of the tiles that it was trained on.
        wide_tile_px: Side of wider tiles that it was also trained on.
        thresholds: Score from which a pixel counts, for each class; 0.5 when not given.
        trained_on: Where the weights come from, in plain values for JSON.
        metrics: How good they are, in plain values for JSON.
        dtype: Of the weights on disk. Text features stay fp32.

    Returns:
        The card, with the hash of the weights.
    """
    assert not segmenter.training, "a bundle holds the averaged weights and the text features made from them"
    card = BundleCard(
        name=name,
        version=version,
        classes=segmenter.classes,
        thresholds=tuple(thresholds) if thresholds is not None else (0.5,) * len(segmenter.classes),
        tile_px=tile_px,
        wide_tile_px=wide_tile_px,
        clip=segmenter.clip_config,
        segmenter=segmenter.config,
        trained_on=trained_on or {},
        metrics=metrics or {},
    )
    folder.mkdir(parents=True, exist_ok=True)
    stored = torch.float16 if dtype == "fp16" else torch.float32
    state = {
        key: value.detach().cpu().to(torch.float32 if key in _TEXT_FEATURES else stored).contiguous()
        for key, value in segmenter.state().items()
    }
    save_file(state, folder / _WEIGHTS, metadata={_CLASSES: json.dumps(card.class_names)})
    card = replace(card, weights_sha256=sha256_of_file(folder / _WEIGHTS))
    write_card(folder, card)
    return card


def shipped(name: str) -> Path:
    """Folder of what is shipped with the package, by its name."""
    return Path(scrapray.__file__).parent / "bundles" / name


def write_card(folder: Path, card: BundleCard) -> None:
    """Write the card of a bundle, in place of the one that is there; a reader meets one or the other."""
    with whole_file(folder / CARD) as part:
        part.write_text(card.to_json(), encoding="utf-8")


def read_card(folder: Path) -> BundleCard:
    """The card of a bundle, without its weights.

    Raises:
        ModelError: The folder holds no card, or one that cannot be read.
    """
    path = folder / CARD
    try:
        return BundleCard.from_json(path.read_text(encoding="utf-8"), source=str(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(f"{folder}: no {CARD} in it; give the folder of a bundle") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not readable as text; export the bundle again") from error


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle for scoring, in fp32 on the CPU and without a text tower.

    Args:
        folder: Of the bundle.

    Raises:
        ModelError: Card or weights are missing, damaged, not finite, do not belong together, are of other classes or
            of another version.
    """
    card = read_card(folder)
    with torch.device("meta"):
        model = Segmenter(card.segmenter, card.clip, card.classes, new_clip(card.clip), with_text=False)
    model.load_state(_read_weights(folder, card))
    model.eval().requires_grad_(False)
    return Bundle(card, model)


def load_for_training(
    folder: Path, *, model: str, weights: str | Path | None, input_px: int | None = None
) -> Segmenter:
    """Load a bundle to train it further, with the text tower of the CLIP that it began from.

    Args:
        folder: Of the bundle.
        model: The CLIP, as for ``build_clip``.
        weights: Its weights, as for ``build_clip``.
        input_px: Side of the square that the tower is to see from now on; that of the card if left out.

    Raises:
        ModelError: The bundle cannot be loaded, or the CLIP is not the one that it began from.
        ConfigurationError: The size is not a multiple of the tower's patch size.
    """
    card = read_card(folder)
    clip, clip_config = build_clip(model, weights)
    if clip_config != card.clip:
        raise ModelError(f"{folder}: the bundle began from another CLIP than {model}; give the one of its card")
    segmenter = Segmenter(card.segmenter, card.clip, card.classes, clip, with_text=True)
    segmenter.load_state(_read_weights(folder, card))
    stored_CE = segmenter.class_text_CE.clone()
    segmenter.refresh_text()
    if not torch.allclose(stored_CE, segmenter.class_text_CE, atol=_TEXT_TOLERANCE):
        raise ModelError(f"{folder}: the weights {weights} do not give the bundle's text features; use the original")
    if input_px is not None:
        segmenter.see_at(input_px)
    return segmenter


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def check_bundle(folder: Path, expected_sha256: str | None = None) -> BundleCard:
    """The card of a bundle whose weights are there and whole; without loading them.

    Args:
        folder: Of the bundle.
        expected_sha256: Hash that ``bundle_sha256`` must give.

    Raises:
        ModelError: Card or weights are missing, damaged, do not belong together, are of other classes or not those
            expected.
    """
    card = read_card(folder)
    _check_weights(folder, card)
    if expected_sha256 is not None and (found := bundle_sha256(folder)) != expected_sha256:
        raise ModelError(
            f"{folder}: the bundle is {found[:12]}…, expected {expected_sha256[:12]}…; somebody changed it, so "
            f"register it anew"
        )
    return card


def bundle_sha256(folder: Path) -> str:
    """Hash of the card, which holds that of the weights: it names the whole bundle, thresholds and all."""
    return sha256_of_file(folder / CARD)


def _check_weights(folder: Path, card: BundleCard) -> Path:
    path = folder / _WEIGHTS
    if not path.is_file():
        raise ModelError(f"{folder}: no {_WEIGHTS} in it; copy the whole bundle")
    found = sha256_of_file(path)
    if found != card.weights_sha256:
        raise ModelError(
            f"{path}: sha256 is {found[:12]}…, the card says {card.weights_sha256[:12]}…; copy the bundle again"
        )
    try:
        with safe_open(path, "pt") as file:
            names = json.loads((file.metadata() or {}).get(_CLASSES, "[]"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: not readable as safetensors: {error}; export the bundle again") from error
    if tuple(names) != card.class_names:
        raise ModelError(
            f"{folder}: the weights tell {', '.join(names) or 'nothing'}, the card {', '.join(card.class_names)}; give "
            f"the card its own names back, or export the bundle again"
        )
    return path


def _read_weights(folder: Path, card: BundleCard) -> dict[str, torch.Tensor]:
    """The weights as fp32, if they are those of the card and finite."""
    path = _check_weights(folder, card)
    weights = {name: value.float() for name, value in load_file(path).items()}
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ModelError(
                f"{path}: {name} holds NaN or infinity; export the bundle again, in fp32 or from an earlier checkpoint"
            )
    return weights
