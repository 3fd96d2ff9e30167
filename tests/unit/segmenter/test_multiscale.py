import pytest
import torch

from scrapray.segmenter.multiscale import MultiScale, pool_exactly, unpool_exactly

GRID = 37


@pytest.mark.parametrize("scale", [3, 9])
def test_a_ramp_survives_pooling_and_unpooling_in_place(scale: int) -> None:
    """37 is prime: resizing the pooled map straight to the grid would stretch the ramp and shift what lies on it."""
    ramp_hw = torch.arange(GRID, dtype=torch.float64)[:, None].expand(GRID, GRID)
    again_hw = unpool_exactly(pool_exactly(ramp_hw[None, None], scale), scale, (GRID, GRID))[0, 0]
    first_centre, last_centre = scale // 2, GRID // scale * scale - scale // 2 - 1
    inside = slice(first_centre, last_centre + 1)
    torch.testing.assert_close(again_hw[inside], ramp_hw[inside], rtol=0, atol=1e-12)
    torch.testing.assert_close(again_hw.T[:, inside], again_hw[inside].T)


@pytest.mark.parametrize("scale", [3, 9])
@pytest.mark.parametrize("row", [13, 22])
def test_a_spot_in_the_middle_of_a_window_keeps_its_centre(scale: int, row: int) -> None:
    spot_hw = torch.zeros(GRID, GRID, dtype=torch.float64)
    spot_hw[row, 13] = 1
    again_hw = unpool_exactly(pool_exactly(spot_hw[None, None], scale), scale, (GRID, GRID))[0, 0]
    weights_h = again_hw.sum(dim=1)
    assert float(weights_h @ torch.arange(GRID, dtype=torch.float64) / weights_h.sum()) == pytest.approx(row)


@pytest.mark.parametrize("grid", [5, 9, 37])
def test_pooling_is_the_mean_of_what_each_window_holds(grid: int) -> None:
    map_hw = torch.randn(grid, grid, dtype=torch.float64)
    pooled = pool_exactly(map_hw[None, None], 3)[0, 0]
    windows = range(0, grid, 3)
    expected = torch.stack([torch.stack([map_hw[y : y + 3, x : x + 3].mean() for x in windows]) for y in windows])
    torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_logits_have_one_channel_per_class_on_the_token_grid(num_classes: int) -> None:
    msm = MultiScale(8, num_classes, hidden=6, scales=(3, 9))
    assert msm(torch.randn(2, 37 * 37, 8), torch.randn(num_classes, 8), (37, 37)).shape == (2, num_classes, 37, 37)


@torch.no_grad()
def test_the_order_of_the_text_rows_does_not_matter() -> None:
    msm = MultiScale(8, 4, hidden=6, scales=(3, 9))
    tokens_NTE, text_CE = torch.randn(2, 49, 8), torch.randn(4, 8)
    torch.testing.assert_close(msm(tokens_NTE, text_CE, (7, 7)), msm(tokens_NTE, text_CE[[2, 0, 3, 1]], (7, 7)))


@torch.no_grad()
def test_permuted_rows_of_the_head_permute_the_channels() -> None:
    msm, order = MultiScale(8, 4, hidden=6, scales=(3,)), [2, 0, 3, 1]
    tokens_NTE, text_CE = torch.randn(2, 49, 8), torch.randn(4, 8)
    before_NChw = msm(tokens_NTE, text_CE, (7, 7))
    head = msm.encode[-1]
    head.weight.copy_(head.weight[order].clone())
    head.bias.copy_(head.bias[order].clone())
    torch.testing.assert_close(msm(tokens_NTE, text_CE, (7, 7)), before_NChw[:, order])


def test_gradients_reach_every_parameter_and_the_text() -> None:
    msm = MultiScale(8, 4, hidden=6, scales=(3, 9))
    text_CE = torch.randn(4, 8, requires_grad=True)
    msm(torch.randn(2, 37 * 37, 8), text_CE, (37, 37)).square().sum().backward()
    assert text_CE.grad is not None
    assert text_CE.grad.abs().max() > 0
    for name, parameter in msm.named_parameters():
        # the same amount added to all keys of one query leaves its softmax as it is
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0 or name.endswith("key.bias"), name


@torch.no_grad()
def test_each_window_adds_what_it_sees_of_the_text_and_the_windows_are_summed() -> None:
    """Token by token and text row by text row; a grid that both windows divide needs no cutting."""
    msm = MultiScale(8, 3, hidden=6, scales=(1, 2)).double()
    tokens_1TE, text_CE = torch.randn(1, 16, 8).double(), torch.randn(3, 8).double()
    reduced_1Dhw = msm.reduce(tokens_1TE).transpose(1, 2).reshape(1, 6, 4, 4)
    total_1Dhw = torch.zeros(1, 6, 4, 4).double()
    for path, scale in zip(msm.paths, (1, 2), strict=True):
        looked_1Dhw = path.look(pool_exactly(reduced_1Dhw, scale))
        added_1Dhw = looked_1Dhw.clone()
        for y in range(4 // scale):
            for x in range(4 // scale):
                query_D = path.query(looked_1Dhw[0, :, y, x])
                match_C = torch.stack([query_D @ path.key(row_E) / 6**0.5 for row_E in text_CE]).exp()
                for share, row_E in zip(match_C / match_C.sum(), text_CE, strict=True):
                    added_1Dhw[0, :, y, x] += share * path.value(row_E)
        total_1Dhw += unpool_exactly(added_1Dhw, scale, (4, 4))
    torch.testing.assert_close(msm(tokens_1TE, text_CE, (4, 4)), msm.encode(total_1Dhw))
