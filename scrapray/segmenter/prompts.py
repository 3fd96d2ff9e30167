"""Learnable prompts: context vectors in front of each class's words, and the frozen text tower that reads them.

Shapes: C classes (steel first), L text length, P context vectors, d text width, E joint width.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scrapray.errors import ConfigurationError

Binarisation = Literal["avg_ctx", "avg_text", "marginal"]

_INIT_STD = 0.02


class TextTower(nn.Module):
    """The frozen text half of a CLIP, which can be fed embeddings instead of token ids."""

    attn_mask: Tensor

    def __init__(self, clip: open_clip.CLIP) -> None:
        super().__init__()
        if not isinstance(clip.text_projection, nn.Parameter) or clip.text_pool_type != "argmax":
            raise ConfigurationError("the text tower must pool at the end-of-text token and project without a bias")
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.transformer = clip.transformer
        self.ln_final = clip.ln_final
        self.text_projection = clip.text_projection
        self.register_buffer("attn_mask", clip.attn_mask, persistent=False)
        self.requires_grad_(False)

    @property
    def num_blocks(self) -> int:
        """Depth of the tower."""
        return len(self.transformer.resblocks)

    def encode(
        self, ids_CL: Tensor, context_CPd: Tensor, deep: Sequence[Tensor], *, fp16_round: bool = False
    ) -> Tensor:
        """Text features of prompts whose first words are replaced by context vectors: (C, E), not normalised.

        Args:
            ids_CL: Token ids with placeholders at positions 1 to P; may end with the longest text, since no token
                looks ahead.
            context_CPd: Take the placeholders' place in front of block 1.
            deep: Before block 2 + i the positions 1 to len(deep[i]) are overwritten by ``deep[i]``, the same for
                all classes.
            fp16_round: Round the deep vectors to fp16, as AnomalyCLIP's code does.

        Reference: AnomalyCLIP's code; the features are read at the end-of-text token, the largest id.
        """
        num_context = context_CPd.shape[1]
        words_CLd = self.token_embedding(ids_CL)
        spliced_CLd = torch.cat([words_CLd[:, :1], context_CPd, words_CLd[:, 1 + num_context :]], dim=1)
        length = ids_CL.shape[1]
        tokens_CLd = spliced_CLd + self.positional_embedding[:length]
        mask_LL = self.attn_mask[:length, :length]
        for index, block in enumerate(self.transformer.resblocks):
            if 0 < index <= len(deep):
                vectors = deep[index - 1].half().float() if fp16_round else deep[index - 1]
                tail_CLd = tokens_CLd[:, 1 + len(vectors) :]
                tokens_CLd = torch.cat([tokens_CLd[:, :1], vectors.expand(len(ids_CL), -1, -1), tail_CLd], dim=1)
            tokens_CLd = block(tokens_CLd, attn_mask=mask_LL)
        ends_C = ids_CL.argmax(dim=-1)
        ends_Cd = self.ln_final(tokens_CLd[torch.arange(len(ids_CL), device=ids_CL.device), ends_C])
        return cast(Tensor, ends_Cd @ self.text_projection)


def tokenize_prompts(texts: Sequence[str], num_context: int, length: int = 77) -> Tensor:
    """Token ids of each text with as many placeholder words in front as there are context vectors: (C, L).

    Raises:
        ConfigurationError: A text does not fit into the tower's length.
    """
    prompts = [" ".join(["X"] * num_context + [f"{text}."]) for text in texts]
    ids_CL = open_clip.tokenize(prompts, context_length=4 * length)  # it cuts in silence at the length given
    for prompt, last in zip(prompts, ids_CL.argmax(dim=-1).tolist(), strict=True):
        if last >= length:
            raise ConfigurationError(f"prompt {prompt!r} has {last + 1} tokens, the text tower takes {length}")
    return cast(Tensor, ids_CL[:, :length])


class PromptBank(nn.Module):
    """The learnable part of the prompts: one context per class, deep vectors shared by all.

    Reference: the scrap paper (16 context vectors, depth 9, deep length 4) after AnomalyCLIP; one group per class
    instead of normal and abnormal.
    """

    def __init__(self, num_classes: int, width: int, *, num_context: int, depth: int, deep_length: int) -> None:
        super().__init__()
        self.context_CPd = nn.Parameter(torch.randn(num_classes, num_context, width) * _INIT_STD)
        self.deep = nn.ParameterList(torch.randn(deep_length, width) * _INIT_STD for _ in range(depth - 1))

    def class_features(self, tower: TextTower, ids_CL: Tensor, **compat: Any) -> Tensor:
        """Unit text features of all classes, steel first: (C, E)."""
        return F.normalize(tower.encode(ids_CL, self.context_CPd, list(self.deep), **compat), dim=-1)

    def pair_features(self, tower: TextTower, ids_CL: Tensor, pair_ids_2L: Tensor, how: Binarisation) -> Tensor:
        """Unit text features of steel and of "any contaminant": (2, E).

        ``avg_ctx`` puts the mean of the contaminants' contexts in front of the words for any contaminant;
        ``avg_text`` takes the mean of the contaminants' features. (``marginal`` needs no pair, and gets that of
        ``avg_text``.)

        Reference: the scrap paper says that "the weights for the three anomaly prompts were averaged"; these are
        readings of it.
        """
        if how == "avg_ctx":
            mean_1Pd = self.context_CPd[1:].mean(dim=0, keepdim=True)
            context_2Pd = torch.cat([self.context_CPd[:1], mean_1Pd])
            return F.normalize(tower.encode(pair_ids_2L, context_2Pd, list(self.deep)), dim=-1)
        features_CE = self.class_features(tower, ids_CL)
        return torch.stack([features_CE[0], F.normalize(features_CE[1:].mean(dim=0), dim=-1)])
