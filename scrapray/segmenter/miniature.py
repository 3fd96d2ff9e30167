"""A CLIP small enough to be trained here: open_clip's model, taught with captioned drawings of single things.

It stands where the real weights stand in production: it knows words and objects, and has never seen a scrap heap.

Shapes: N pictures, K captions of each, L text length, M names, E joint width.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.loss import ClipLoss
from open_clip.transformer import PatchDropout
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from scrapray.config import sha256_of
from scrapray.errors import ModelError
from scrapray.imagery.things import NAMES, draw_thing
from scrapray.labels import ANY_CONTAMINANT_PROMPT, STEEL_PROMPT
from scrapray.segmenter.bundle import sha256_of_file
from scrapray.segmenter.tower import ClipConfig, new_clip, save_clip
from scrapray.segmenter.whole_files import whole_file

MINIATURE = ClipConfig(
    embed_dim=128,
    quick_gelu=True,
    vision_cfg={"image_size": 128, "layers": 6, "width": 192, "head_width": 64, "patch_size": 16},
    text_cfg={"context_length": 40, "vocab_size": 49408, "layers": 4, "width": 64, "heads": 1},
)
"""Six vision blocks at native pixels; text as narrow as the large vocabulary asks for, and long enough for 16 context
vectors in front of a class's words."""

_CHUNK = 256
_MAX_LOGIT_SCALE = math.log(100)


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniatureTraining:
    """How a miniature CLIP is trained.

    Attributes:
        num_drawings: Pictures drawn beforehand and seen again and again, turned and mirrored.
        num_held_out: Pictures, evenly of all names, with which zero-shot accuracy is measured.
        batch_size: Pictures and captions that are told apart in one step.
        max_steps: Steps of all pieces together; the learning rate falls to zero there.
        learning_rate: At its peak, after ``warmup_steps``.
        warmup_steps: Steps of the rise to it.
        weight_decay: On the matrices of the blocks; nothing else has any.
        patch_dropout: Share of each picture's patches that a step leaves out, for speed (Reference: FLIP).
        seed: Of the drawings, the weights and the order.
        report_every_steps: Between two lines of progress.
        checkpoint_every_steps: Between two checkpoints.
        workers: Processes that draw.
    """

    num_drawings: int = 65_536
    num_held_out: int = 2_048
    batch_size: int = 128
    max_steps: int = 4_000
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    patch_dropout: float = 0.5
    seed: int = 0
    report_every_steps: int = 20
    checkpoint_every_steps: int = 100
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Drawings:
    """Captioned pictures.

    Attributes:
        images_NHW3: RGB, uint8.
        captions_NK: Words.
        names_N: Position in ``things.NAMES``.
        steel_N: Whether the thing is made of steel.
    """

    images_NHW3: NDArray[np.uint8]
    captions_NK: NDArray[np.str_]
    names_N: NDArray[np.int64]
    steel_N: NDArray[np.bool_]


def draw_collection(
    folder: Path,
    num: int,
    *,
    seed: int,
    size_px: int = 128,
    evenly: bool = False,
    workers: int = 1,
    report: Callable[[str], None] = lambda line: None,
) -> Drawings:
    """Draw pictures into a folder, chunk by chunk; chunks that are there already are read.

    Args:
        folder: Of this collection alone.
        num: Number of pictures.
        seed: The same seed draws the same pictures, whatever the number of workers.
        size_px: Side of a picture.
        evenly: All names equally often, instead of as ``things.draw_thing`` prefers.
        workers: Processes that draw.
        report: Takes lines of progress.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(folder, range(first, min(first + _CHUNK, num)), seed, size_px, evenly) for first in range(0, num, _CHUNK)]
    with ProcessPoolExecutor(workers) as pool:
        chunks = []
        for job, path in zip(jobs, pool.map(_draw_chunk, jobs), strict=True):
            chunks.append(_read_chunk(path))
            report(f"{folder.name}: {job[1].stop} of {num} drawn")
    images, captions, names, steel = (
        np.concatenate([chunk[key] for chunk in chunks]) for key in ("images", "captions", "names", "steel")
    )
    return Drawings(images, captions, names, steel)


def _draw_chunk(job: tuple[Path, range, int, int, bool]) -> Path:
    folder, numbers, seed, size_px, evenly = job
    path = folder / f"{seed}-{size_px}-{numbers.start:07d}-{numbers.stop:07d}.npz"
    if path.exists():
        return path
    things = [
        draw_thing(np.random.default_rng((seed, number)), size_px, NAMES[number % len(NAMES)] if evenly else None)
        for number in numbers
    ]
    with whole_file(path) as part, part.open("wb") as file:
        np.savez(
            file,
            images=np.stack([thing.image_HW3 for thing in things]),
            captions=np.array([thing.captions for thing in things]),
            names=np.array([NAMES.index(thing.name) for thing in things]),
            steel=np.array([thing.is_steel for thing in things]),
        )
    return path


def _read_chunk(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as file:
        return dict(file)


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """How well a CLIP names drawings that it never saw.

    Attributes:
        name_accuracy: Share of pictures whose name is the nearest of all ``num_names``; chance is 1 / that.
        steel_accuracy: Share told apart by the two prompts of the scrap paper, as the mean over steel and not steel;
            chance is 1/2.
        num_names: Names to choose from.
        num_drawings: Pictures that were asked for.
    """

    name_accuracy: float
    steel_accuracy: float
    num_names: int
    num_drawings: int


@torch.no_grad()
def measure_zero_shot(clip: open_clip.CLIP, config: ClipConfig, drawings: Drawings) -> ZeroShot:
    """Ask for name and material of drawings, without any training on the question."""
    images_NE = torch.cat([_encode_images(clip, config, part) for part in np.array_split(drawings.images_NHW3, 16)])
    names_ME = _encode_texts(clip, [f"a photo of a {name}" for name in NAMES])
    steel_2E = _encode_texts(clip, [ANY_CONTAMINANT_PROMPT, STEEL_PROMPT])
    names_N = (images_NE @ names_ME.T).argmax(1).numpy()
    steel_N = (images_NE @ steel_2E.T).argmax(1).numpy().astype(bool)
    right_N = steel_N == drawings.steel_N
    return ZeroShot(
        name_accuracy=float((names_N == drawings.names_N).mean()),
        steel_accuracy=float(np.mean([right_N[drawings.steel_N == kind].mean() for kind in (False, True)])),
        num_names=len(NAMES),
        num_drawings=len(names_N),
    )


def train_miniature_clip(
    run_dir: Path,
    bundle_dir: Path,
    training: MiniatureTraining,
    *,
    config: ClipConfig = MINIATURE,
    report: Callable[[str], None] = print,
) -> ZeroShot:
    """Draw, train, measure, and write the CLIP as ``tower.build_clip`` reads it, with a card.

    Args:
        run_dir: Holds the drawings and the checkpoint; with the same folder, training goes on where it stopped.
        bundle_dir: Takes ``model.json``, ``weights.safetensors`` (fp16) and ``card.json``.
        training: How to train.
        config: Shape of the CLIP.
        report: Takes lines of progress.

    Raises:
        ModelError: The checkpoint is of another training.
    """
    size_px, workers = config.vision_cfg["image_size"], training.workers
    drawn = draw_collection(
        run_dir / "drawings",
        training.num_drawings,
        seed=training.seed,
        size_px=size_px,
        workers=workers,
        report=report,
    )
    held_out = draw_collection(
        run_dir / "held_out",
        training.num_held_out,
        seed=training.seed + 1_000_003,
        size_px=size_px,
        evenly=True,
        workers=workers,
        report=report,
    )
    torch.manual_seed(training.seed)
    clip = new_clip(config)
    _train(clip, config, drawn, held_out, training, run_dir / "checkpoint.pt", report)
    clip.eval()
    save_clip(clip, config, bundle_dir)
    reached = measure_zero_shot(clip, config, held_out)
    card = {
        "name": "miniature-clip",
        "trained_on": "captioned drawings of single things; never a heap of scrap",
        "names": list(NAMES),
        "zero_shot": asdict(reached) | {"name_chance": 1 / reached.num_names, "steel_chance": 0.5},
        "training": asdict(training),
        "weights_sha256": sha256_of_file(bundle_dir / "weights.safetensors"),
    }
    (bundle_dir / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return reached


def _train(
    clip: open_clip.CLIP,
    config: ClipConfig,
    drawn: Drawings,
    held_out: Drawings,
    training: MiniatureTraining,
    checkpoint: Path,
    report: Callable[[str], None],
) -> None:
    optimizers = _make_optimizers(clip, training)
    identity = sha256_of([asdict(training), config.as_dict()])
    step = _resume(checkpoint, identity, clip, optimizers)
    texts, place_NK = np.unique(drawn.captions_NK, return_inverse=True)
    ids_NKL = _tokenize(texts.tolist(), clip)[torch.from_numpy(place_NK)]
    contrast = ClipLoss()
    # Works in training mode only: pictures that are measured keep all their patches.
    clip.visual.patch_dropout = PatchDropout(training.patch_dropout)
    losses: list[float] = []
    began = time.monotonic()
    for images_NHW3, ids_NL in _batches(drawn, ids_NKL, training, step):
        torch.manual_seed(step)  # which patches are left out, the same after a restart
        loss = _loss(clip, config, contrast, images_NHW3, ids_NL)
        clip.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(step, training)
            optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0, _MAX_LOGIT_SCALE)
        losses.append(loss.item())
        step += 1
        if step % training.report_every_steps == 0:
            rate = len(losses) * training.batch_size / (time.monotonic() - began)
            report(f"step {step}/{training.max_steps}  loss {np.mean(losses):.3f}  {rate:.0f} pictures/s")
            losses, began = [], time.monotonic()
        if step % training.checkpoint_every_steps == 0 or step == training.max_steps:
            _save(checkpoint, identity, step, clip, optimizers)
            clip.eval()
            zero_shot = measure_zero_shot(clip, config, held_out)
            clip.train()
            report(f"step {step}  names {zero_shot.name_accuracy:.3f}  steel {zero_shot.steel_accuracy:.3f}")


def _loss(
    clip: open_clip.CLIP, config: ClipConfig, contrast: ClipLoss, images_NHW3: NDArray[np.uint8], ids_NL: Tensor
) -> Tensor:
    # The fused attention for CPUs is slow backwards in bf16; at 65 tokens the plain one is twice as fast.
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
        images_NE = clip.encode_image(_normalised(images_NHW3, config))
        texts_NE = clip.encode_text(ids_NL)
    unit_images, unit_texts = (F.normalize(features.float(), dim=-1) for features in (images_NE, texts_NE))
    return cast(Tensor, contrast(unit_images, unit_texts, clip.logit_scale.exp()))


def _batches(
    drawn: Drawings, ids_NKL: Tensor, training: MiniatureTraining, first_step: int
) -> Iterator[tuple[NDArray[np.uint8], Tensor]]:
    """Batches from ``first_step`` on; each depends on the seed and its own step only, so that training can be cut."""
    per_epoch = len(ids_NKL) // training.batch_size
    for step in range(first_step, training.max_steps):
        epoch, place = divmod(step, per_epoch)
        order_N = np.random.default_rng((training.seed, epoch)).permutation(len(ids_NKL))
        chosen_N = np.sort(order_N[place * training.batch_size : (place + 1) * training.batch_size])
        rng = np.random.default_rng((training.seed, epoch, place))
        images_NHW3 = np.rot90(drawn.images_NHW3[chosen_N], int(rng.integers(4)), axes=(1, 2))
        if rng.random() < 0.5:
            images_NHW3 = images_NHW3[:, ::-1]
        yield images_NHW3, ids_NKL[chosen_N, rng.integers(ids_NKL.shape[1], size=len(chosen_N))]


def _make_optimizers(clip: open_clip.CLIP, training: MiniatureTraining) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of the blocks, which learn faster with it, and AdamW for all else.

    Reference: Jordan et al. 2024, "Muon"; one learning rate serves both by the scale of Liu et al. 2025.
    """
    in_blocks = {name: ".resblocks." in name and parameter.ndim == 2 for name, parameter in clip.named_parameters()}
    matrices, others = (
        [parameter for name, parameter in clip.named_parameters() if in_blocks[name] is kind] for kind in (True, False)
    )
    rate = training.learning_rate
    return (
        torch.optim.Muon(matrices, lr=rate, weight_decay=training.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0),
    )


def _learning_rate(step: int, training: MiniatureTraining) -> float:
    rise = min((step + 1) / training.warmup_steps, 1)
    return training.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / training.max_steps))


def _tokenize(texts: list[str], clip: open_clip.CLIP) -> Tensor:
    return cast(Tensor, open_clip.SimpleTokenizer()(texts, context_length=clip.context_length))


def _encode_texts(clip: open_clip.CLIP, texts: list[str]) -> Tensor:
    return cast(Tensor, clip.encode_text(_tokenize(texts, clip), normalize=True))


def _encode_images(clip: open_clip.CLIP, config: ClipConfig, images_NHW3: NDArray[np.uint8]) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return cast(Tensor, clip.encode_image(_normalised(images_NHW3, config), normalize=True)).float()


def _normalised(images_NHW3: NDArray[np.uint8], config: ClipConfig) -> Tensor:
    images_NCHW = torch.from_numpy(np.ascontiguousarray(images_NHW3)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean_rgb, config.std_rgb))
    return (images_NCHW - mean) / std


def _save(
    path: Path, identity: str, step: int, clip: open_clip.CLIP, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    state = {
        "identity": identity,
        "step": step,
        "clip": clip.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    with whole_file(path) as part:
        torch.save(state, part)


def _resume(path: Path, identity: str, clip: open_clip.CLIP, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, "cpu", weights_only=True)
    if state["identity"] != identity:
        raise ModelError(f"{path}: belongs to a training with other settings; give another folder or delete it")
    clip.load_state_dict(state["clip"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])
