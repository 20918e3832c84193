"""From the maps of several modalities to one; the same for networks that see both and late fusion.

Modalities have units of their own, so each map is first put on a scale that validation normals
give it. Then a pixel takes of its K values:

* ``max``: the largest, in spreads of the normals: what one modality sees, the other cannot hide;
* ``sum``: their sum, in spreads of the normals: what both see a little adds up;
* ``peak``: the largest, where 0 is the mean of the normals' pixels, and 1 the highest pixel of the
  normal in the middle: a modality whose normals have high peaks counts less, and their spread over
  all pixels, most of which are far below any peak, does not tell which one that is;
* ``min_p``: the rarest, as -log of its tail probability among the pixels of the normals (Tippett
  1931 combines p-values by their minimum): as ``max``, whatever the shape of the two tails;
* ``raw_sum``: the sum of the maps as they are.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from petct_uad.core.params.base import Modality
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.interface import AnomalyModel
from petct_uad.models.common.maps import MIN_SPREAD, mean_and_spread
from petct_uad.models.common.params import Fusion

_KNOTS = 256  # of a tail: -log p is linear between them, to a few thousandths
_DROPPED_BITS = 12  # of a float32: values are counted by their 20 highest, to a relative 2^-11
_EXCESS_SHARE = 1e-3  # of the pixels: how far the highest reach says how the tail continues


class MapFusion(nn.Module):
    """Learns the scale of K maps on normals, then fuses maps.

    Attributes:
        mean: (K,) over the pixels of the normals.
        spread: (K,) their standard deviation; under ``peak`` what lies between the mean and the
            median of the highest pixels of the normals.
        tail_values: (K, M) rising values of each map.
        tail_surprise: (K, M) -log of the share of the normals' pixels that are at least as large.
        tail_excess: (K,) mean excess of the highest thousandth of the pixels.

    Example:
        >>> fusion = MapFusion("max", 2)
        >>> fusion.fit([torch.tensor([[[[0.0, 2.0]]], [[[0.0, 20.0]]]])])
        >>> fusion(torch.tensor([[[[3.0, 1.0]]], [[[10.0, 30.0]]]]))
        tensor([[[2., 2.]]])
    """

    mean: Tensor
    spread: Tensor
    tail_values: Tensor
    tail_surprise: Tensor
    tail_excess: Tensor

    def __init__(self, how: Fusion, members: int) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("mean", torch.zeros(members))
        self.register_buffer("spread", torch.ones(members))
        # Only where it is asked for: a model's state then holds what it needs.
        knots = _KNOTS if how == "min_p" else 0
        self.register_buffer("tail_values", torch.zeros(members, knots))
        self.register_buffer("tail_surprise", torch.zeros(members, knots))
        self.register_buffer("tail_excess", torch.ones(members))

    @torch.no_grad()
    def fit(self, normals: Iterable[Tensor]) -> None:
        """Learn from batches (K, B, S, S) of the maps of normals; one is in memory at a time."""
        counts = _TailCounts(len(self.mean)) if self.how == "min_p" else None
        peaks: list[Tensor] = []

        def seen(maps: Tensor) -> Tensor:
            peaks.append(maps.flatten(2).amax(2).float())
            return counts.add(maps) if counts else maps

        mean, spread = mean_and_spread(seen(x) for x in normals)
        if self.how == "peak":
            spread = (torch.cat(peaks, 1).median(1).values - mean).clamp_min(MIN_SPREAD)
        self.mean.copy_(mean)
        self.spread.copy_(spread)
        if counts:
            tails = [counts.tail(member) for member in range(len(mean))]
            self.tail_values.copy_(torch.stack([torch.from_numpy(x.values) for x in tails]))
            self.tail_surprise.copy_(torch.stack([torch.from_numpy(x.surprise) for x in tails]))
            self.tail_excess.copy_(torch.tensor([x.excess for x in tails]))

    def forward(self, maps: Tensor) -> Tensor:
        """(K, B, S, S) to (B, S, S): the sum of their :meth:`parts`."""
        return self.parts(maps).sum(0)

    def parts(self, maps: Tensor) -> Tensor:
        """(K, B, S, S): what each map gives to the one that they become, which is their sum.

        Under ``max``, ``peak`` and ``min_p`` a pixel is the larger of two values, which gives it
        all.
        """
        if self.how == "raw_sum":
            return maps
        values = self.surprise(maps) if self.how == "min_p" else self.standardised(maps)
        if self.how == "sum":
            return values
        members = torch.arange(len(values), device=values.device)[:, None, None, None]
        # argmax gives the same and takes seven times as long on a CPU.
        return values.where(members == values.max(0).indices, 0)

    def standardised(self, maps: Tensor) -> Tensor:
        """(K, B, S, S), each above its mean on normals, in units of its ``spread``."""
        return (maps - self.mean[:, None, None, None]) / self.spread[:, None, None, None]

    def surprise(self, maps: Tensor) -> Tensor:
        """(K, B, S, S): -log of the share of the normals' pixels that are at least as large.

        Beyond the largest of them the tail continues as an exponential, so that of two values that
        no normal has the larger is the rarer.
        """
        return torch.stack([self._surprise_of(x, member) for member, x in enumerate(maps)])

    def _surprise_of(self, x: Tensor, member: int) -> Tensor:
        values, surprise = self.tail_values[member], self.tail_surprise[member]
        above = torch.bucketize(x, values).clamp(1, len(values) - 1)
        low, high = values[above - 1], values[above]
        part = ((x - low) / (high - low).clamp_min(torch.finfo(x.dtype).tiny)).clamp(0, 1)
        found = torch.lerp(surprise[above - 1], surprise[above], part)
        return found + (x - values[-1]).clamp_min(0) / self.tail_excess[member]


class FusedMaps(AnomalyModel):
    """A model that has a map of each modality, and ``fusion`` to make them one."""

    modality: Modality
    fusion: MapFusion

    @abstractmethod
    def modality_maps(self, batch: Batch) -> Tensor:
        """(K, B, S, S): of each modality, PET first, before they are fused."""

    def map_parts(self, batch: Batch) -> Tensor:
        """(K, B, S, S): what each modality gives to the anomaly map, which is their sum."""
        return self.fusion.parts(self.modality_maps(batch))

    def anomaly_map(self, batch: Batch) -> Tensor:
        """(B, S, S): the modalities' maps as one, as ``fusion`` says."""
        return self.map_parts(batch).sum(0)

    def calibrate(self, normals: Iterable[Batch]) -> None:
        """What each modality's maps are on validation normals."""
        self.fusion.fit(self.modality_maps(batch) for batch in normals)


@dataclass(frozen=True)
class _Tail:
    values: NDArray[np.float32]  # (M,) rising
    surprise: NDArray[np.float32]  # (M,) rising
    excess: float


class _TailCounts:
    """How often each value occurs, at 2^20 levels: exact counts that add up over batches."""

    def __init__(self, members: int) -> None:
        self.counts = np.zeros((members, 1 << (32 - _DROPPED_BITS)), dtype=np.int64)

    def add(self, maps: Tensor) -> Tensor:
        """Count the pixels of a batch (K, B, S, S), which comes back as it is."""
        for member, x in enumerate(maps):
            levels = _levels(x.float().cpu().numpy().ravel())
            self.counts[member] += np.bincount(levels, minlength=self.counts.shape[1])
        return maps

    def tail(self, member: int) -> _Tail:
        """Knots at shares of the pixels that fall by one factor from all to a single one."""
        levels = np.flatnonzero(self.counts[member])
        values = _values(levels)
        # at_least[i]: pixels as large as values[i].
        at_least = np.cumsum(self.counts[member][levels][::-1])[::-1]
        total = int(at_least[0])
        shares = np.geomspace(total, 1, _KNOTS).clip(1, total)
        # The largest value that so many pixels reach.
        knots = len(levels) - 1 - np.searchsorted(at_least[::-1], shares)
        surprise = -np.log((at_least[knots] + 1) / (total + 1))
        return _Tail(values[knots], surprise.astype(np.float32), _excess(values, at_least))


def _excess(values: NDArray[np.float32], at_least: NDArray[np.int64]) -> float:
    """Mean of what the highest pixels have above the lowest of them."""
    high = np.flatnonzero(at_least <= max(math.ceil(_EXCESS_SHARE * at_least[0]), 2))
    first = int(high[0]) if len(high) else len(values) - 1
    counts = -np.diff(at_least[first:], append=0)
    above = values[first:].astype(np.float64) - float(values[max(first - 1, 0)])
    return max(float((counts * above).sum() / counts.sum()), MIN_SPREAD)


def _levels(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """An integer per value that rises with it: IEEE 754 bits, those of negative values turned."""
    bits = values.view(np.uint32)
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (rising >> _DROPPED_BITS).astype(np.int64)


def _values(levels: NDArray[np.int64]) -> NDArray[np.float32]:
    """The smallest value of each level."""
    rising = levels.astype(np.uint32) << _DROPPED_BITS
    bits = np.where(rising >> 31, rising ^ np.uint32(1 << 31), ~rising)
    return bits.astype(np.uint32).view(np.float32)
