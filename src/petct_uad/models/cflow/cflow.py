"""CFLOW-AD (Gudovskiy et al. 2022, arXiv:2107.12571) on our teachers.

At each scale a normalising flow, told the place, learns how likely a feature vector of the teacher
is on normal slices; what is unlikely is abnormal. Flows and codes of places are anomalib's.
Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from anomalib.models.image.cflow.utils import cflow_head, get_logp, positional_encoding_2d
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.cflow.params import CflowParams
from petct_uad.models.common.device import sent
from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.models.with_teacher import FeatureModel
from petct_uad.teachers.cnn import CnnTeacher

_CLAMP = 1.9  # of the coupling blocks' exponents, as in the published code


class Cflow(FeatureModel[CflowParams], GradientModel):
    """A conditional flow for each scale of the teacher, one modality."""

    def __init__(
        self, params: CflowParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        self.flows = nn.ModuleList(
            cflow_head(params.condition, params.coupling_blocks, _CLAMP, channels)
            for channels in self.channels.values()
        )
        self.most_likely: Tensor
        self.register_buffer("most_likely", torch.zeros(len(self.flows)))

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """The teacher's maps, finest first."""
        return self._features(self._images(batch))

    def loss(self, *prepared: Tensor) -> Tensor:
        """Mean over places and scales of -log sigmoid of the log-likelihood per channel.

        Training draws ``fibres`` places of each scale; outside of it all count.
        """
        losses = []
        for flow, features in zip(self.flows, prepared, strict=True):
            vectors, codes = self._fibres(features)
            if self.training:
                drawn = torch.randperm(len(vectors))[: self.params.fibres]
                chosen = sent(drawn, vectors.device)
                vectors, codes = vectors[chosen], codes[chosen]
            losses.append(-F.logsigmoid(_log_likelihood(flow, vectors, codes)).mean())
        return torch.stack(losses).mean()

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): one minus the likelihood beside that of the likeliest normal place.

        The mean over scales (section 3.4), smoothed.
        """
        pairs = zip(self._likelihoods(batch), self.most_likely, strict=True)
        maps = self._enlarged(1 - (found - most).exp().clamp_max(1) for found, most in pairs)
        return self._smoothed(maps.mean(0))

    @torch.no_grad()
    def calibrate(self, normals: Iterable[Batch]) -> None:
        """Find the highest log-likelihood of each scale on validation normals."""
        highest = [
            torch.stack([likelihood.max() for likelihood in self._likelihoods(batch)])
            for batch in normals
        ]
        self.most_likely.copy_(torch.stack(highest).amax(0))

    def _likelihoods(self, batch: Batch) -> list[Tensor]:
        """Log-likelihood per channel (B, h, w) of each scale."""
        return [
            _log_likelihood(flow, *self._fibres(features)).view(len(features), *features.shape[2:])
            for flow, features in zip(self.flows, self.prepare(batch), strict=True)
        ]

    def _fibres(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B h w, C), and the code of each one's place (B h w, condition)."""
        count, _, height, width = features.shape
        codes = positional_encoding_2d(self.params.condition, height, width)
        codes = sent(codes.to(features.dtype), features.device)
        vectors = features.permute(0, 2, 3, 1).flatten(0, 2)
        return vectors, codes.permute(1, 2, 0).flatten(0, 1).repeat(count, 1)


def _log_likelihood(flow: nn.Module, vectors: Tensor, codes: Tensor) -> Tensor:
    """(n,): of vectors (n, C) at their places, per channel."""
    hidden, log_determinant = flow(vectors, [codes])
    likelihood: Tensor = get_logp(vectors.shape[1], hidden, log_determinant)
    return likelihood / vectors.shape[1]
