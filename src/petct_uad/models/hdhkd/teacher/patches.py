"""PatchCore's patch features of a CNN (Roth et al. 2022, section 3.1), on the PDN's grid.

Each 3 x 3 neighbourhood of a feature map is pooled over neighbouring channels to a given number of
values. Section III-B distils them into a PDN; Table II has the network itself as the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.errors import ParamsError
from petct_uad.models.common.maps import join_maps
from petct_uad.models.hdhkd.teacher.params import DistilParams
from petct_uad.models.hdhkd.teacher.pdn import PDN_STRIDE
from petct_uad.teachers.cnn import CACHED_IMAGES, CnnTeacher


class PatchFeatures(nn.Module):
    """PatchCore's features of a frozen CNN, on the PDN's grid: (B, 1, S, S) to (B, C, S/4, S/4).

    The strides share the C channels equally, none taking more than it has. As EfficientAD does, the
    CNN may see the images ``enlarge`` times as large as the PDN, which brings its stride 8 to the
    PDN's 4.
    """

    def __init__(self, teacher: CnnTeacher, params: DistilParams) -> None:
        super().__init__()
        self.network = teacher
        self.strides = sorted(params.strides)
        self.enlarge = params.enlarge
        available = [teacher.channels_at[stride] for stride in self.strides]
        shares = share_channels(params.channels, available)
        self.channels = params.channels
        self.pools = nn.ParameterList(map(_pooling, available, shares))
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        side = images.shape[-1]
        features = self.network.features(images, self.strides[-1], CACHED_IMAGES, self.enlarge)
        pooled = [
            F.conv2d(features[stride], pool, padding=1)
            for stride, pool in zip(self.strides, self.pools, strict=True)
        ]
        return join_maps(pooled, [side // PDN_STRIDE] * 2, "bilinear")


def share_channels(total: int, available: Sequence[int]) -> list[int]:
    """How many channels each stride gives: as equal as can be, and none more than it has.

    Raises:
        ParamsError: together they have fewer than ``total``.
    """
    if sum(available) < total:
        raise ParamsError(
            f"distil.channels = {total}: the teacher has {sum(available)} at distil.strides; "
            "expected no more"
        )
    level = next(n for n in range(total + 1) if sum(min(n, own) for own in available) >= total)
    shares = [min(level, own) for own in available]
    shares[shares.index(max(shares))] -= sum(shares) - total
    return shares


def _pooling(channels: int, share: int) -> nn.Parameter:
    """Weights (share, c, 3, 3) that take the means of runs of the 9 c values of a neighbourhood.

    Unfolding and pooling are linear, so that one convolution does both, many times as fast.
    """
    pooled = F.adaptive_avg_pool1d(torch.eye(9 * channels), share)  # (9 c, share)
    return nn.Parameter(pooled.T.reshape(share, channels, 3, 3).contiguous())
