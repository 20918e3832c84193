"""The student's encoder: some stages of an ImageNet network, trained like the rest (Eq. 2)."""

from __future__ import annotations

from typing import cast

import timm
import torch
from torch import Tensor, nn

from petct_uad.models.hdhkd.params import HdhkdParams
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.weights import load_network, normalisation, timm_name


class Encoder(nn.Module):
    """Feature maps at some strides (the paper: 4, 8, 16); later stages are cut off.

    Attributes:
        channels: of the map of each stride, finest first.
    """

    def __init__(self, params: HdhkdParams) -> None:
        super().__init__()
        network = _load(params)
        info = cast("list[dict[str, int]]", network.feature_info)
        # timm counts the stem, of stride 2, as stage 0.
        self.stages = {stride: stride.bit_length() - 2 for stride in sorted(params.encoder_strides)}
        self.channels = {stride: info[own]["num_chs"] for stride, own in self.stages.items()}
        self.normalise = normalisation(network)
        network.prune_intermediate_layers(  # type: ignore[operator]
            list(self.stages.values()), prune_norm=True, prune_head=True
        )
        self.network = network.requires_grad_(True)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 1, S, S) in [0, 1] to maps of side S/stride, finest first.

        Channels lie innermost, and stay so to the output: a seventh less time for a training step.
        """
        normalised = self.normalise(images).contiguous(memory_format=torch.channels_last)
        maps: list[Tensor] = self.network.forward_intermediates(  # type: ignore[operator]
            normalised, indices=list(self.stages.values()), intermediates_only=True
        )
        return maps


def _load(params: HdhkdParams) -> nn.Module:
    if params.encoder_weights == "random":  # not load_network's, which are the same for each seed
        network: nn.Module = timm.create_model(timm_name(params.encoder), pretrained=False)
        return network
    return load_network(TeacherParams(name=params.encoder, weights=params.encoder_weights))
