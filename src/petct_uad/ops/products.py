"""Products of each branch's tokens with its own weights."""

from __future__ import annotations

import torch
from torch import Tensor


def branch_products(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``rows @ weight + bias``, a branch at a time.

    MKL, which multiplies for torch on a CPU, uses AVX-512 on Intel's processors only, and oneDNN on
    any: less than half the time on an AMD EPYC. It gives other last bits, so training, whose
    weights are to be the same as ever, stays with MKL, and inference mode takes oneDNN.

    Args:
        rows: (K, M, in).
        weight: (K, in, out).
        bias: (K, 1, out).

    Returns:
        (K, M, out).
    """
    if _onednn_multiplies(rows):
        biases = [None] * len(rows) if bias is None else bias[:, 0]
        return torch.stack([
            torch.ops.mkldnn._linear_pointwise(x, w.T, b, "none", [], "")
            for x, w, b in zip(rows, weight, biases, strict=True)
        ])  # fmt: skip
    return torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias, rows, weight)


def _onednn_multiplies(rows: Tensor) -> bool:
    return (
        torch.is_inference_mode_enabled()
        and rows.device.type == "cpu"
        and rows.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )
