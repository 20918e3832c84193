"""The student's encoder: three stages of an ImageNet network, trained like the rest (Eq. 2)."""

from __future__ import annotations

from typing import cast

import timm
import torch
from torch import Tensor, nn

from petct_uad.models.hdhkd.params import HdhkdParams
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.weights import load_network, normalisation, timm_name

_STAGES = [1, 2, 3]  # timm counts the stem as stage 0; these have strides 4, 8 and 16


class Encoder(nn.Module):
    """Feature maps at strides 4, 8 and 16; later stages are cut off.

    Attributes:
        channels: of the three outputs.
    """

    def __init__(self, params: HdhkdParams) -> None:
        super().__init__()
        network = _load(params)
        info = cast("list[dict[str, int]]", network.feature_info)
        self.channels = tuple(info[stage]["num_chs"] for stage in _STAGES)
        self.normalise = normalisation(network)
        network.prune_intermediate_layers(_STAGES, prune_norm=True, prune_head=True)  # type: ignore[operator]
        self.network = network.requires_grad_(True)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 1, S, S) in [0, 1] to maps of side S/4, S/8 and S/16.

        Channels lie innermost, and stay so to the output: a seventh less time for a training step.
        """
        normalised = self.normalise(images).contiguous(memory_format=torch.channels_last)
        maps: list[Tensor] = self.network.forward_intermediates(  # type: ignore[operator]
            normalised, indices=_STAGES, intermediates_only=True
        )
        return maps


def _load(params: HdhkdParams) -> nn.Module:
    if params.encoder_weights == "random":  # not load_network's, which are the same for each seed
        network: nn.Module = timm.create_model(timm_name(params.encoder), pretrained=False)
        return network
    return load_network(TeacherParams(name=params.encoder, weights=params.encoder_weights))
