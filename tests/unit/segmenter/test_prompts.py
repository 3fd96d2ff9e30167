from collections.abc import Callable

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scrapray.errors import ConfigurationError
from scrapray.labels import ANY_CONTAMINANT_PROMPT, SCRAP_CONTAMINANTS, STEEL_PROMPT
from scrapray.segmenter.prompts import PromptBank, TextTower, tokenize_prompts

TEXTS = [STEEL_PROMPT, *(contaminant.prompt for contaminant in SCRAP_CONTAMINANTS)]
PAIR = [STEEL_PROMPT, ANY_CONTAMINANT_PROMPT]
NUM_CONTEXT = 4


@pytest.fixture
def tower(tiny_clip: open_clip.CLIP) -> TextTower:
    return TextTower(tiny_clip)


@pytest.fixture
def bank() -> PromptBank:
    torch.manual_seed(0)
    return PromptBank(len(TEXTS), 32, num_context=NUM_CONTEXT, depth=3, deep_length=2)


def ids(texts: list[str] = TEXTS) -> Tensor:
    return tokenize_prompts(texts, NUM_CONTEXT)


@torch.no_grad()
def changed_rows(bank: PromptBank, tower: TextTower, change: Callable[[PromptBank], None]) -> list[bool]:
    """For each class, whether its features differ after the change."""
    before = bank.class_features(tower, ids())
    change(bank)
    after = bank.class_features(tower, ids())
    return (before != after).any(dim=1).tolist()


def test_prompts_of_the_scrap_paper_end_where_its_token_counts_say() -> None:
    ids_CL = tokenize_prompts(TEXTS, 16)
    assert ids_CL.shape == (4, 77)
    assert ids_CL.argmax(dim=-1).tolist() == [24, 25, 25, 26]
    assert (ids_CL[:, 1:17] == ids_CL[0, 1]).all()


def test_a_prompt_longer_than_the_tower_takes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has 8 tokens, the text tower takes 7"):
        tokenize_prompts(["damaged object"], 3, length=7)


@torch.no_grad()
def test_with_placeholders_as_context_the_features_are_exactly_those_of_clip(tiny_clip: open_clip.CLIP) -> None:
    expected_CE = tiny_clip.encode_text(ids())
    tower = TextTower(tiny_clip)
    placeholders_CPd = tower.token_embedding(ids()[:, 1 : 1 + NUM_CONTEXT])
    assert torch.equal(tower.encode(ids(), placeholders_CPd, []), expected_CE)


@torch.no_grad()
def test_ids_cut_after_the_longest_text_give_the_same_features(tower: TextTower, bank: PromptBank) -> None:
    short_CL = ids()[:, : int(ids().argmax(dim=-1).max()) + 1]
    torch.testing.assert_close(bank.class_features(tower, short_CL), bank.class_features(tower, ids()))


def test_a_changed_context_moves_its_class_and_no_other(tower: TextTower, bank: PromptBank) -> None:
    assert changed_rows(bank, tower, lambda b: b.context_CPd[2].mul_(2)) == [False, False, True, False]


def test_context_vectors_behind_the_overwritten_ones_matter(tower: TextTower, bank: PromptBank) -> None:
    assert all(changed_rows(bank, tower, lambda b: b.context_CPd[:, 2:].mul_(2)))


@pytest.mark.parametrize("index", [0, 1])
def test_a_deep_vector_moves_all_classes(index: int, tower: TextTower, bank: PromptBank) -> None:
    assert all(changed_rows(bank, tower, lambda b: b.deep[index].mul_(2)))


@torch.no_grad()
def test_a_deep_vector_beyond_the_last_block_is_never_read(tower: TextTower, bank: PromptBank) -> None:
    deep = [*bank.deep, torch.randn(2, 32)]
    assert tower.num_blocks == 1 + len(bank.deep)
    with_third = tower.encode(ids(), bank.context_CPd, deep)
    assert torch.equal(with_third, tower.encode(ids(), bank.context_CPd, list(bank.deep)))


@torch.no_grad()
def test_the_overwritten_context_acts_through_the_first_block_only(tower: TextTower, bank: PromptBank) -> None:
    """A slow second way: run block by block and put the deep vectors in by index."""
    words_CLd = tower.token_embedding(ids())
    words_CLd[:, 1 : 1 + NUM_CONTEXT] = bank.context_CPd
    tokens_CLd = words_CLd + tower.positional_embedding
    for index, block in enumerate(tower.transformer.resblocks):
        if index in (1, 2):
            tokens_CLd[:, 1:3] = bank.deep[index - 1]
        tokens_CLd = block(tokens_CLd, attn_mask=tower.attn_mask)
    ends = [tower.ln_final(tokens_CLd[c, ids()[c].argmax()]) @ tower.text_projection for c in range(4)]
    torch.testing.assert_close(bank.class_features(tower, ids()), F.normalize(torch.stack(ends), dim=-1))


@torch.no_grad()
def test_rounding_deep_vectors_to_fp16_changes_little_but_something(tower: TextTower, bank: PromptBank) -> None:
    exact, rounded = (bank.class_features(tower, ids(), fp16_round=on) for on in (False, True))
    assert 0 < (exact - rounded).abs().max() < 1e-3


@torch.no_grad()
def test_permuted_classes_give_permuted_features(tower: TextTower, bank: PromptBank) -> None:
    order = [0, 3, 1, 2]
    before_CE = bank.class_features(tower, ids())
    bank.context_CPd.copy_(bank.context_CPd[order].clone())
    after_CE = bank.class_features(tower, ids([TEXTS[i] for i in order]))
    torch.testing.assert_close(after_CE, before_CE[order])


def test_gradients_reach_every_prompt_parameter_and_no_parameter_of_the_tower(
    tower: TextTower, bank: PromptBank
) -> None:
    bank.class_features(tower, ids())[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in bank.parameters())
    assert all(not p.requires_grad and p.grad is None for p in tower.parameters())


@torch.no_grad()
def test_the_pair_by_averaged_context_reads_the_words_for_any_contaminant(tower: TextTower, bank: PromptBank) -> None:
    pair_2E = bank.pair_features(tower, ids(), ids(PAIR), "avg_ctx")
    context_2Pd = torch.stack([bank.context_CPd[0], bank.context_CPd[1:].mean(dim=0)])
    expected_2E = F.normalize(tower.encode(ids(PAIR), context_2Pd, list(bank.deep)), dim=-1)
    torch.testing.assert_close(pair_2E, expected_2E)


@torch.no_grad()
def test_the_pair_by_averaged_text_is_the_mean_of_the_contaminants(tower: TextTower, bank: PromptBank) -> None:
    features_CE = bank.class_features(tower, ids())
    pair_2E = bank.pair_features(tower, ids(), ids(PAIR), "avg_text")
    torch.testing.assert_close(pair_2E[0], features_CE[0])
    torch.testing.assert_close(pair_2E[1], F.normalize(features_CE[1:].mean(dim=0), dim=-1))
    torch.testing.assert_close(pair_2E.norm(dim=-1), torch.ones(2))


def test_a_text_tower_that_pools_elsewhere_is_refused(tiny_clip: open_clip.CLIP) -> None:
    tiny_clip.text_pool_type = "last"
    with pytest.raises(ConfigurationError, match="pool at the end-of-text token"):
        TextTower(tiny_clip)
