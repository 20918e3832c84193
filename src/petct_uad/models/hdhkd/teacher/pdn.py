"""The patch description network that HDHKD's teacher is distilled into (section III-B).

The network is EfficientAD's PDN-M (Batzner et al., arXiv:2303.14535, Table 7), with padding: a
neuron of its output sees 33 x 33 pixels, so that an anomaly cannot reach far-off features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PDN_STRIDE = 4

_HIDDEN = 256  # and twice as many further on: Table 7
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class Pdn(nn.Module):
    """PDN-M.

    Attributes:
        channels: C, of the output.
    """

    def __init__(self, width: float, channels: int) -> None:
        super().__init__()
        first = max(round(_HIDDEN * width), 1)
        last = max(round(1.5 * _HIDDEN * width), 1)  # 384, as many as the paper's output
        self.channels = channels
        self.layers = nn.Sequential(
            nn.Conv2d(3, first, 4, padding=3),
            nn.ReLU(),
            nn.AvgPool2d(2, 2, padding=1),
            nn.Conv2d(first, 2 * first, 4, padding=3),
            nn.ReLU(),
            nn.AvgPool2d(2, 2, padding=1),
            nn.Conv2d(2 * first, 2 * first, 1),
            nn.ReLU(),
            nn.Conv2d(2 * first, 2 * first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * first, last, 4),
            nn.ReLU(),
            nn.Conv2d(last, channels, 1),
        )
        self.image_mean: Tensor
        self.image_std: Tensor
        # Not persistent: constants, no weights.
        for name, values in (("image_mean", _IMAGENET_MEAN), ("image_std", _IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1 or 3, S, S) in [0, 1] to (B, C, S/4, S/4), for S a multiple of 16."""
        features: Tensor = self.layers((images - self.image_mean) / self.image_std)
        return features
