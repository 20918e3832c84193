"""QFAE, the Q-Former autoencoder (Dalmonte et al. 2025, arXiv:2507.18481), top to bottom.

A frozen encoder turns a slice into tokens; learnt queries read them once, and a transformer turns
what they read back into the slice. The slice and its reconstruction are compared in the features
of another frozen network. Trained on normal slices, it fails where something is abnormal.

Shapes: B batch, S image side, N tokens per hidden state, L hidden states, Q = G² queries, d width.
Deviations from the paper are listed in this folder's README.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Self

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import Batch, GradientModel
from petct_uad.models.common.maps import score_maps
from petct_uad.models.qfae.encoder import CnnEncoder, Encoder, load_encoder, sincos_grid
from petct_uad.models.qfae.images import augment, resize
from petct_uad.models.qfae.params import QfaeParams
from petct_uad.models.qfae.perceptual import Perceptual, PerceptualCnn, PerceptualVit
from petct_uad.models.with_teacher import ModelWithTeacher
from petct_uad.teachers.params import TeacherParams
from petct_uad.teachers.weights import load_named, state_sha256

_MLP_RATIO = 4
_PIXEL_MEAN, _PIXEL_STD = 0.449, 0.226  # section 1.4: ImageNet's, over the colours
_QUERY_STD = 0.02


class Frozen(nn.Module):
    """The networks that are never trained: encoders, and the one that judges."""

    def __init__(
        self, encoder: Encoder, perceptual: Perceptual, second: Encoder | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.perceptual = perceptual
        self.second = second

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """One, or the two of Table 6."""
        return (self.encoder,) if self.second is None else (self.encoder, self.second)

    def hidden(self, images: Tensor) -> tuple[Tensor, ...]:
        """Of each encoder its hidden states (B, L N, its width), for (B, 1, S, S)."""
        return tuple(encoder.hidden(images) for encoder in self.encoders)

    @property
    def sha256(self) -> str:
        """Of the weights of all, for configuration and lineage."""
        digests = [encoder.sha256 for encoder in self.encoders]
        if not isinstance(self.perceptual, PerceptualCnn):  # that is the encoder's own network
            digests.append(state_sha256(self.perceptual))
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("".join(digests).encode()).hexdigest()


class Qfae(ModelWithTeacher[QfaeParams, Frozen], GradientModel):
    """Reconstruction through a Q-Former, judged by a perceptual network."""

    def __init__(
        self, params: QfaeParams, teacher: Frozen, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        self.projection = nn.Linear(teacher.encoder.width, params.width)
        self.qformer = QFormer(params.width, params.queries_side, params.qformer_heads)
        self.decoder = Decoder(params.width, params.depth, params.heads, params.patch_px)
        second = teacher.second
        self.second_projection = None if second is None else nn.Linear(second.width, params.width)

    @classmethod
    def build(
        cls, params: QfaeParams, teacher: TeacherParams, modality: Modality, image_size_px: int
    ) -> Self:
        """With the encoder that ``teacher`` names and the perceptual network of ``params``."""
        return cls(params, load_frozen(params, teacher, image_size_px), modality, image_size_px)

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Each encoder's hidden states, then the slice's features by patch size and layer.

        With augmentation they differ each time, and only the slices (B, 1, S, S) can be kept.
        """
        images = self._images(batch)
        return (images,) if self.params.augment else self._frozen_outputs(images)

    def loss(self, *prepared: Tensor) -> Tensor:
        """Section 1.2: cosine distances, times each other over patch sizes, mean over layers."""
        if self.params.augment:
            images = augment(prepared[0]) if self.training else prepared[0]
            prepared = self._frozen_outputs(images)
        patches, layers = self.params.training_patches, self.params.training_layers
        count = len(self.teacher.encoders)
        hidden, targets = prepared[:count], prepared[count:]
        maps = self._distances(self.reconstruct(*hidden), targets, patches, layers)
        by_layer = [maps[i :: len(layers)] for i in range(len(layers))]  # each: one per patch size
        return torch.stack([consensus(group).mean() for group in by_layer]).mean()

    def reconstruct(self, *hidden: Tensor) -> Tensor:
        """Each encoder's hidden states (B, L N, its width) to slices (B, 1, S, S)."""
        tokens = self.projection(hidden[0])
        if self.second_projection is not None:  # Table 6: a projection of each encoder's own
            tokens = torch.cat([tokens, self.second_projection(hidden[1])], dim=1)
        queries = self.qformer(tokens)
        images: Tensor = self.decoder(queries)
        return resize(images, self.image_size_px)

    @torch.no_grad()
    def distance_maps(self, batch: Batch) -> list[Tensor]:
        """The evaluation's set of maps: (B, h, w) for each patch size and layer (section 1.3).

        As the published code has it (``evaluation``), (B, S, S) for each layer: their product over
        patch sizes, at the slice's size.
        """
        images = self._images(batch)
        patches, layers = self.params.evaluation_patches, self.params.evaluation_layers
        reconstruction = self.reconstruct(*self.teacher.hidden(images))
        features = self._features(images, patches, layers)
        maps = self._distances(reconstruction, features, patches, layers)
        if self.params.evaluation == "supplement":
            return maps
        return [self._enlarged(maps[i :: len(layers)]).prod(0) for i in range(len(layers))]

    def detect(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Section 1.3: pixels are pooled over the maps, scores over each map's own pixels."""
        maps = self.distance_maps(batch)
        return self._pixel_map(maps), self._image_score(maps)

    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): mean (or maximum) over the resized maps."""
        return self._pixel_map(self.distance_maps(batch))

    def score(self, maps: Tensor) -> Tensor:
        """(B,), of pooled maps (B, S, S): what is left of ``detect`` without the single maps."""
        return score_maps(maps, "max" if self.params.score == "mean_of_max" else "mean")

    @torch.no_grad()
    def _frozen_outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self._features(images, self.params.training_patches, self.params.training_layers)
        return (*self.teacher.hidden(images), *features)

    def _features(
        self, images: Tensor, patches: Sequence[int], layers: Sequence[int]
    ) -> list[Tensor]:
        """Unit vectors (B, C, h, w): all layers of the first patch size, then of the next."""
        perceptual = self.teacher.perceptual
        return [x for patch in patches for x in perceptual.features(images, patch, layers)]

    def _distances(
        self,
        reconstruction: Tensor,
        targets: Sequence[Tensor],
        patches: Sequence[int],
        layers: Sequence[int],
    ) -> list[Tensor]:
        """1 - cos of each feature map: (B, h, w)."""
        found = self._features(reconstruction, patches, layers)
        return [1 - (x * y).sum(1) for x, y in zip(found, targets, strict=True)]

    def _pixel_map(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, S, S) from maps of any size: resized, pooled, smoothed."""
        resized = self._enlarged(maps)
        pooled = resized.mean(0) if self.params.aggregation == "mean" else resized.amax(0)
        return self._smoothed(pooled)

    def _image_score(self, maps: Sequence[Tensor]) -> Tensor:
        """(B,): Table 2 or Table 5."""
        if self.params.score == "mean_of_max":
            return torch.stack([x.flatten(1).amax(1) for x in maps]).mean(0)
        return torch.stack([x.flatten(1).mean(1) for x in maps]).amax(0)


class QFormer(nn.Module):
    """One block: the queries see each other, read the tokens, and pass through an MLP."""

    def __init__(self, width: int, side: int, heads: int) -> None:
        super().__init__()
        start = sincos_grid(side, width) + _QUERY_STD * torch.randn(side**2, width)
        self.queries = nn.Parameter(start)
        self.self_norm, self.cross_norm, self.mlp_norm, self.token_norm = (
            nn.LayerNorm(width) for _ in range(4)
        )
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, _MLP_RATIO * width),
            nn.GELU(),
            nn.Linear(_MLP_RATIO * width, width),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L N, d) to (B, Q, d)."""
        queries = self.queries[None]  # not yet a function of the slice: computed once per batch
        own = self.self_norm(queries)
        queries = queries + self.self_attention(own, own, own, need_weights=False)[0]
        tokens = self.token_norm(tokens)
        reading = self.cross_norm(queries).expand(len(tokens), -1, -1)
        x = queries + self.cross_attention(reading, tokens, tokens, need_weights=False)[0]
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class Decoder(nn.Module):
    """ViT blocks, then one linear layer from a query to its patch of pixels."""

    def __init__(self, width: int, depth: int, heads: int, patch_px: int) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.blocks = nn.Sequential(
            *(Block(width, heads, mlp_ratio=_MLP_RATIO, qkv_bias=True) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Linear(width, patch_px**2)

    def forward(self, queries: Tensor) -> Tensor:
        """(B, G², d) to (B, 1, G patch, G patch)."""
        patches = self.pixels(self.norm(self.blocks(queries)))  # (B, G², patch²)
        side = round(queries.shape[1] ** 0.5)
        grid = patches.transpose(1, 2).unflatten(2, (side, side))
        return F.pixel_shuffle(grid, self.patch_px) * _PIXEL_STD + _PIXEL_MEAN


def consensus(maps: Sequence[Tensor]) -> Tensor:
    """(B, H, W): the product of maps (B, h, w), each resized to the finest of them."""
    side = max(x.shape[-1] for x in maps)
    resized = [resize(x[:, None], side)[:, 0] for x in maps]
    return torch.stack(resized).prod(0)


def load_frozen(params: QfaeParams, teacher: TeacherParams, image_size_px: int) -> Frozen:
    """Encoders and perceptual network, as params name them.

    Raises:
        TeacherError: weights are missing or do not fit.
        ParamsError: a hidden state or layer is asked for that the network lacks.
    """
    encoder = load_encoder(teacher, params.hidden_states, params.width, image_size_px)
    second = _second_encoder(params, image_size_px)
    layers = sorted({*params.training_layers, *params.evaluation_layers})
    if params.perceptual == "teacher" and isinstance(encoder, CnnEncoder):
        return Frozen(encoder, PerceptualCnn(encoder.tokens.teacher, layers), second)
    patches = sorted({*params.training_patches, *params.evaluation_patches})
    own = params.perceptual != "teacher"
    network = load_named(
        params.perceptual if own else teacher.name,
        params.perceptual_weights if own else teacher.weights,
        num_classes=0,
    )
    return Frozen(encoder, PerceptualVit(network, patches, layers, image_size_px), second)


def _second_encoder(params: QfaeParams, image_size_px: int) -> Encoder | None:
    if params.second_encoder == "none":
        return None
    named = TeacherParams(name=params.second_encoder, weights=params.second_weights)
    return load_encoder(named, params.hidden_states, params.width, image_size_px)
