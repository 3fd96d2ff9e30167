"""One segmenter on several workers: a whole copy on each, or a share of every weight on each."""

from types import MethodType
from typing import Literal

import ray.train.torch
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from scrapray.segmenter.model import Segmenter
from scrapray.segmenter.tower import BLOCK_PATHS, block_paths

Strategy = Literal["ddp", "fsdp"]


def spread(segmenter: Segmenter, strategy: Strategy, device: torch.device) -> nn.Module:
    """Wrap a segmenter for all workers of this training, on this worker's device.

    Args:
        segmenter: The same on all workers; parts that are not trained are frozen.
        strategy: ``ddp`` for whole copies. ``fsdp`` for shares (FSDP2): weights, gradients and the optimizer's state of
            the tower are divided among the workers, and a block's weights are put together when it is their turn. The
            text tower, which is frozen, stays whole.
        device: Where this worker computes.
    """
    if strategy == "ddp":
        wrapped: nn.Module = ray.train.torch.prepare_model(segmenter)
        return wrapped
    assert segmenter.text is not None, "what is trained has its text tower"
    segmenter.to(device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in segmenter.visual.transformer.resblocks:
        fully_shard(block, mesh=mesh)
        # Blocks are not called as modules, and only a registered method puts their weights together.
        setattr(block, BLOCK_PATHS, MethodType(block_paths, block))
        register_fsdp_forward_method(block, BLOCK_PATHS)
    fully_shard(segmenter, mesh=mesh, ignored_params=set(segmenter.text.parameters()))
    for method in ("score", "refresh_text"):
        register_fsdp_forward_method(segmenter, method)
    return segmenter
