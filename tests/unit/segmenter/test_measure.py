"""Which CPUs run the tower in bf16."""

import pytest
import torch

from scrapray.segmenter.measure import cpu_is_made_for_bf16


@pytest.mark.parametrize(
    ("capabilities", "is_made"),
    [
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"amx_bf16": False, "avx512_bf16": True}, True),
        ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, False),
        ({}, False),
    ],
)
def test_a_cpu_with_either_unit_for_bf16_uses_it(
    capabilities: dict[str, bool], is_made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert cpu_is_made_for_bf16() is is_made
