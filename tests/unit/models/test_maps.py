import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import gaussian_blur

from petct_uad.models.common.maps import mean_and_spread, score_maps, smooth_maps


def test_smoothing_keeps_the_mean_and_lowers_the_peak() -> None:
    grids = torch.zeros(2, 8, 8)
    grids[:, 4, 4] = 1.0
    sharp, smooth = smooth_maps(grids, 64, 0.0), smooth_maps(grids, 64, 8.0)
    assert sharp.shape == smooth.shape == (2, 64, 64)
    torch.testing.assert_close(sharp.mean(), smooth.mean(), atol=1e-4, rtol=0)
    assert smooth.max() < sharp.max()


@pytest.mark.parametrize("cells", [(8, 8), (5, 7), (64, 64), (100, 1)])
def test_maps_are_a_bilinear_enlargement_under_a_two_dimensional_gaussian(
    cells: tuple[int, int],
) -> None:
    grids = torch.rand(2, 3, *cells)
    large = interpolate(grids, size=(64, 64), mode="bilinear")
    expected = gaussian_blur(large, kernel_size=[33, 33], sigma=[4.0, 4.0])
    torch.testing.assert_close(smooth_maps(grids, 64, 16.0), expected, atol=2e-6, rtol=0)


def test_smoothing_width_follows_the_image_size() -> None:
    grid = torch.rand(1, 16, 16)
    small, large = smooth_maps(grid, 64, 16.0), smooth_maps(grid, 256, 16.0)
    down = torch.nn.functional.interpolate(large[None], size=(64, 64), mode="area")[0]
    inner = slice(8, -8)  # at the border the two reflect different pixels
    torch.testing.assert_close(small[:, inner, inner], down[:, inner, inner], atol=0.01, rtol=0)


def test_scores_are_max_mean_and_mean_of_the_top() -> None:
    maps = torch.arange(100.0).reshape(1, 10, 10)
    assert score_maps(maps, "max").item() == 99
    assert score_maps(maps, "mean").item() == 49.5
    assert score_maps(maps, "top", 0.02).item() == 98.5


def test_spread_of_batches_is_that_of_their_whole() -> None:
    maps = torch.rand(2, 7, 8, 8)
    mean, spread = mean_and_spread([maps[:, :3], maps[:, 3:]])
    torch.testing.assert_close(mean, maps.mean((1, 2, 3)))
    torch.testing.assert_close(spread, maps.std((1, 2, 3), correction=0))
