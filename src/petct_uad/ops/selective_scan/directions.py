"""The four sequences in which SS2D walks an image."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

DIRECTIONS = 4


@lru_cache(maxsize=64)
def cross_scan_order(height: int, width: int, device: torch.device) -> Tensor:
    """(4, height * width) int64 token indices: by rows, by columns, and both backwards.

    VMamba (arXiv:2401.10166), section 4.3, Fig. 3.
    """
    # A training that follows an evaluation could not keep a cached inference tensor for gradients.
    with torch.inference_mode(False):
        rows = torch.arange(height * width, device=device)
        columns = rows.view(height, width).T.reshape(-1)
        return torch.stack([rows, columns, rows.flip(0), columns.flip(0)])


def visit(tokens: Tensor, order: Tensor) -> Tensor:
    """(P, K, B, L, F) tokens, those of direction k in the sequence ``order[k]``."""
    return tokens.gather(3, order[None, :, None, :, None].expand_as(tokens))
