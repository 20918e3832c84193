"""Synthetic anomalies: a small rectangle of noise on a normal slice (Algorithm 1)."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from petct_uad.models.common.device import sent

NoiseKind = Literal["simplex", "gaussian"]

_OCTAVES = 6
_PERSISTENCE = 0.6
_WAVELENGTH_PX = 32.0  # of the first octave; the paper names none
_MIN_SIDE_PX = 10
_FIELD_SIDE_PX = 1024


def add_noise(
    images: Tensor, kind: NoiseKind, intensity: float, generator: torch.Generator | None = None
) -> Tensor:
    """g(x): each image with ``intensity`` times noise inside one rectangle of its own.

    Sides are uniform in [10, S/8] pixels; below 80 px that is empty, and they are 10. The result
    is not clipped to [0, 1].

    Args:
        images: (B, C, S, S); channels share the noise.
        kind: six octaves of simplex noise, or standard normal noise (Table 3).
        intensity: lambda (Fig. 3).
        generator: of the CPU; by default torch's global one.

    Returns:
        (B, C, S, S), a new tensor.
    """
    count, _, *size = images.shape
    largest = [max(side // 8, _MIN_SIDE_PX) for side in size]
    sides = [_random_integers(count, _MIN_SIDE_PX, high, generator) for high in largest]
    corners = [
        _random_integers(count, 0, side - lengths, generator)
        for side, lengths in zip(size, sides, strict=True)
    ]
    patches = _PATCHES[kind](count, (largest[0], largest[1]), generator)
    noise = torch.zeros(count, 1, *size, dtype=images.dtype)
    boxes = torch.stack([*corners, *sides], 1).tolist()
    for own, patch, (y, x, h, w) in zip(noise, patches, boxes, strict=True):
        own[0, y : y + h, x : x + w] = patch[:h, :w]
    return images + intensity * sent(noise, images.device)


@cache
def simplex_field() -> Tensor:
    """(1024, 1024) opensimplex noise: octave o has wavelength 32 / 2^o px, amplitude 0.6^o."""
    # Compiles with numba, which takes seconds the first time.
    from opensimplex import OpenSimplex

    source = OpenSimplex(seed=0)
    pixels = np.arange(_FIELD_SIDE_PX) / _WAVELENGTH_PX
    threads = torch.get_num_threads()
    octaves = [
        _PERSISTENCE**octave * source.noise2array(2**octave * pixels, 2**octave * pixels)
        for octave in range(_OCTAVES)
    ]
    torch.set_num_threads(threads)  # numba and torch share OpenMP, and numba has just set its own
    return torch.from_numpy(np.sum(octaves, axis=0)).float()


def _simplex_patches(
    count: int, size: tuple[int, int], generator: torch.Generator | None
) -> list[Tensor]:
    """``count`` crops of the field at random places."""
    field = simplex_field()
    ys, xs = (
        _random_integers(count, 0, _FIELD_SIDE_PX - side, generator).tolist() for side in size
    )
    return [field[y : y + size[0], x : x + size[1]] for y, x in zip(ys, xs, strict=True)]


def _gaussian_patches(
    count: int, size: tuple[int, int], generator: torch.Generator | None
) -> list[Tensor]:
    return list(torch.randn(count, *size, generator=generator))


_PATCHES = {"simplex": _simplex_patches, "gaussian": _gaussian_patches}


def _random_integers(
    count: int, low: int, high: int | Tensor, generator: torch.Generator | None
) -> Tensor:
    """(count,) uniform in [low, high], both included; ``high`` may differ from one to the next."""
    span = torch.as_tensor(high) - low + 1
    return low + (torch.rand(count, generator=generator, dtype=torch.float64) * span).long()
