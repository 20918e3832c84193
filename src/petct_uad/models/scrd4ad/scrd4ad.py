"""SCRD4AD (Li et al. 2025): scale-aware contrastive reverse distillation, from top to bottom.

A frozen teacher sees a normal slice, and the same slice with a patch of noise. A student sees only
what the teacher said of the clean one, squeezed through a bottleneck, and learns to say the same
and to stay away from what was said of the noisy one. Where it fails, a slice is abnormal.

Shapes: B batch, S image side, K scales (the paper: strides 4, 8, 16), phi the bottleneck's output.
Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.models.common.maps import score_maps, smooth_maps
from petct_uad.models.scrd4ad.noise import add_noise
from petct_uad.models.scrd4ad.params import Scrd4adParams
from petct_uad.models.scrd4ad.student import Bottleneck, Decoder, Layout, initialise
from petct_uad.models.with_teacher import FeatureModel
from petct_uad.teachers.cnn import CnnTeacher

Variant = Literal["equation", "released", "algorithm"]
Maps = tuple[Tensor, ...]  # one (B, C_k, H_k, W_k) for each scale, finest first

_EPS = 1e-6
_VALIDATION_SEED = 0


class Scrd4ad(FeatureModel[Scrd4adParams], GradientModel):
    """Reverse distillation; RD4AD (Deng & Li 2022) when both switches are off."""

    def __init__(
        self, params: Scrd4adParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        layout = Layout.of(teacher, self.channels, params.width)
        self.bottleneck = Bottleneck(layout)
        self.decoder = Decoder(layout)
        count = len(self.channels)
        self.scales = ScaleHead(layout.embedding, count) if params.scale_aware else None
        initialise(self.bottleneck)
        initialise(self.decoder)
        self._alpha = torch.full((count,), 1 / count)

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Images (B, 1, S, S), then the teacher's maps of them: what no step changes."""
        images = self._images(batch)
        return (images, *self._features(images))

    def loss(self, *prepared: Tensor) -> Tensor:
        """Eq. 4; without its denominator or its alpha where a switch is off (Table 2).

        Outside of training the noise comes from a fixed seed.
        """
        images, *features = prepared
        clean = tuple(features)
        decoded, alpha = self._reconstruct(clean)
        self._alpha = alpha.detach().mean(0)
        if not self.params.contrastive:
            return distillation_loss(clean, None, decoded, alpha, self.params.variant)
        with torch.no_grad():
            noisy = self._features(self._noisy(images))
        loss = distillation_loss(clean, noisy, decoded, alpha, self.params.variant)
        # The ratio of two nearly equal distances hardly says where the clean teacher is.
        near = _slice_distances(clean, decoded).sum(1).mean()
        return loss + self.params.reconstruction_weight * near

    def logged(self) -> dict[str, float]:
        """Mean alpha of each scale in the last batch: it may collapse onto the easiest one."""
        if self.scales is None:
            return {}
        return {
            f"alpha_stride_{stride}": weight
            for stride, weight in zip(self.channels, self._alpha.tolist(), strict=True)
        }

    @torch.no_grad()
    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): 1 - cos between teacher and student, weighted by alpha, summed (2.4)."""
        _, *features = self.prepare(batch)
        clean = tuple(features)
        decoded, alpha = self._reconstruct(clean)
        maps = distance_map(clean, decoded, alpha, self.params.variant, self.image_size_px)
        return self._smoothed(maps)

    def score(self, maps: Tensor) -> Tensor:
        """(B,): the mean of the map (section 2.4), or what ``score`` says."""
        return score_maps(maps, self.params.score, self.params.score_top_fraction)

    def _reconstruct(self, clean: Maps) -> tuple[Maps, Tensor]:
        """The student's maps, and alpha (B, K)."""
        phi = self.bottleneck(clean)
        decoded = self.decoder(phi, clean[0].shape[-1])
        alpha = phi.new_ones(len(phi), len(clean)) if self.scales is None else self.scales(phi)
        return decoded, alpha

    def _noisy(self, images: Tensor) -> Tensor:
        generator = None if self.training else torch.Generator().manual_seed(_VALIDATION_SEED)
        return add_noise(images, self.params.noise, self.params.noise_intensity, generator)


class ScaleHead(nn.Module):
    """Eq. 3: alpha = softmax(W GMP(phi))."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, count, bias=False)
        nn.init.zeros_(self.linear.weight)  # training starts from equal weights

    def forward(self, phi: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K), positive, of sum 1."""
        weights: Tensor = self.linear(phi.amax((2, 3)))
        return weights.softmax(1)


def distillation_loss(
    clean: Maps, noisy: Maps | None, decoded: Maps, alpha: Tensor, variant: Variant
) -> Tensor:
    """Near to the clean teacher, far from the noisy one.

    ``equation`` is Eq. 4: alpha weighs one ratio per scale; mean over slices. ``released`` is what
    the published code computes: alpha multiplies both arguments of the cosine, where it cancels,
    and the loss is one ratio, of sums over scales and slices. ``algorithm`` is Algorithm 2: that
    ratio of sums, with alpha outside of the cosine, where it counts.

    Args:
        clean: u_k of the teacher.
        noisy: z_k of the teacher; None leaves the denominator out.
        decoded: v_k of the student.
        alpha: (B, K).
        variant: which of the three.

    Returns:
        A scalar.
    """
    if variant == "equation":
        ratios = _slice_distances(clean, decoded)
        if noisy is not None:
            ratios = ratios / (_slice_distances(noisy, decoded) + _EPS)
        return (alpha * ratios).sum(1).mean()
    distance = _alpha_inside if variant == "released" else _alpha_outside
    near = distance(clean, decoded, alpha)
    return near if noisy is None else near / (distance(noisy, decoded, alpha) + _EPS)


def distance_map(
    clean: Maps, decoded: Maps, alpha: Tensor, variant: Variant, side_px: int
) -> Tensor:
    """(B, S, S): sum over scales of alpha (1 - cos) at each place; ``released`` loses alpha."""
    if variant == "released":
        clean, decoded = _weighted(clean, alpha), _weighted(decoded, alpha)
        alpha = torch.ones_like(alpha)
    maps = [
        smooth_maps(1 - F.cosine_similarity(u.float(), v.float()), side_px, sigma_px=0)
        for u, v in zip(clean, decoded, strict=True)
    ]
    return torch.einsum("bk,kbhw->bhw", alpha, torch.stack(maps))


def _slice_distances(first: Maps, second: Maps) -> Tensor:
    """1 - cos between maps as one vector each (section 2.2.1): (B, K)."""
    return 1 - torch.stack(
        [
            F.cosine_similarity(u.float().flatten(1), v.float().flatten(1))
            for u, v in zip(first, second, strict=True)
        ],
        1,
    )


def _alpha_inside(first: Maps, second: Maps, alpha: Tensor) -> Tensor:
    """The published code's L_1: alpha in both arguments of the cosine; a mean over slices."""
    return _slice_distances(_weighted(first, alpha), _weighted(second, alpha)).mean(0).sum()


def _alpha_outside(first: Maps, second: Maps, alpha: Tensor) -> Tensor:
    """Algorithm 2's L_1: alpha times 1 - cos, summed over scales; a mean over slices."""
    return (alpha * _slice_distances(first, second)).sum(1).mean()


def _weighted(maps: Maps, alpha: Tensor) -> Maps:
    return tuple(x * weight[:, None, None, None] for x, weight in zip(maps, alpha.T, strict=True))
