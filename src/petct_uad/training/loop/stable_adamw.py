"""StableAdamW over all weights at once, without a wait for the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class StableAdamW(Optimizer):
    """AdamW whose rate falls, tensor by tensor, where a gradient exceeds what its moments expect.

    Wortsman et al. (arXiv:2304.13013), section 3.5 and Algorithm 2, with the largest second moment
    so far in place of the last (AMSGrad, arXiv:1904.09237), as Dinomaly trains. The same to the bit
    on a CPU as anomalib's, which walks through the tensors and asks the device for a number at
    each; here an operation takes all of them, and the rates never leave the device.

    Args:
        parameters: the weights.
        lr: learning rate.
        betas: decay of the first and of the second moment.
        eps: added to the root of the second moment.
        weight_decay: share of a weight, times the rate, that it loses at each step.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        super().__init__(
            parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient; there is no closure."""
        del closure
        for group in self.param_groups:
            by_age: dict[int, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    by_age.setdefault(self._age(weight), []).append(weight)
            for steps, weights in by_age.items():
                self._move(weights, group, steps)

    def _age(self, weight: Tensor) -> int:
        """How many steps a weight has taken with this one."""
        state = self.state[weight]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(weight)}
            state |= {"square": torch.zeros_like(weight), "largest": torch.zeros_like(weight)}
        state["step"] += 1
        return int(state["step"])

    def _move(self, weights: list[Tensor], group: dict[str, Any], steps: int) -> None:
        means, squares, largest = (
            [self.state[weight][name] for weight in weights]
            for name in ("mean", "square", "largest")
        )
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        (beta1, beta2), rate = group["betas"], group["lr"]
        torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        torch._foreach_maximum_(largest, squares)
        spreads = torch._foreach_sqrt(largest)
        torch._foreach_div_(spreads, math.sqrt(1 - beta2**steps))
        torch._foreach_add_(spreads, group["eps"])
        shares = _excess(torch._foreach_div(gradients, spreads))
        torch._foreach_reciprocal_(shares)
        torch._foreach_mul_(shares, -rate / (1 - beta1**steps))
        torch._foreach_addcdiv_(weights, torch._foreach_mul(means, shares), spreads)


def _excess(ratios: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """By how much the root mean square of each exceeds 1; at least 1."""
    norms = torch._foreach_norm(ratios)
    torch._foreach_div_(norms, [ratio.numel() ** 0.5 for ratio in ratios])
    torch._foreach_clamp_min_(norms, 1.0)
    return norms
