"""Where a model computes, in which precision, how it stays reproducible, and what it takes."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from petct_uad.core.errors import ParamsError
from petct_uad.core.machine import processor

_CPU_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")


def choose_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one; under torchrun each process takes its own.

    Raises:
        ParamsError: ``cuda`` is asked for and absent.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ParamsError("train.device = 'cuda': torch sees no GPU here. Set it to auto or cpu.")
    if not available or name == "cpu":
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def choose_precision(name: str, device: torch.device, pays_on_cpu: bool) -> torch.dtype:
    """The precision of matrix products in a loss: torch.float32 or torch.bfloat16.

    ``auto`` is bfloat16 on a GPU that has it, and on a CPU that has it where ``pays_on_cpu`` says
    that a step is faster (:attr:`GradientModel.bfloat16_pays_on_cpu`).

    Raises:
        ParamsError: ``bfloat16`` is asked for and the device would only emulate it.
    """
    has_bfloat16 = _has_bfloat16(device)
    if name == "bfloat16" and not has_bfloat16:
        raise ParamsError(
            f"train.precision = 'bfloat16': this {device.type} device has no such arithmetic. "
            "Set it to auto or float32."
        )
    pays = device.type == "cuda" or pays_on_cpu
    wanted = name == "bfloat16" or (name == "auto" and has_bfloat16 and pays)
    return torch.bfloat16 if wanted else torch.float32


def autocast(precision: torch.dtype, device: torch.device) -> torch.autocast:
    """Run what is inside in this precision, where torch deems that safe."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16)


@contextmanager
def deterministic(seed: int, *, algorithms: bool = True, tf32: bool = False) -> Iterator[None]:
    """Seed torch and say which arithmetic it may use; all ends with the block.

    Args:
        seed: of torch's generators.
        algorithms: forbid those whose result depends on timing.
        tf32: let CUDA round float32 products and convolutions to TF32. torch by itself does so in
            convolutions.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is otherwise not
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    allowed = matmul.allow_tf32, cudnn.allow_tf32
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            torch.use_deterministic_algorithms(algorithms)
            matmul.allow_tf32 = cudnn.allow_tf32 = tf32
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned)
            matmul.allow_tf32, cudnn.allow_tf32 = allowed


def name_arithmetic(device: torch.device) -> str:
    """What the last bits of a network's output depend on beside its input, as a text.

    Libraries choose their kernels by the processor, and sum in as many parts as there are threads.
    """
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{processor()}, {torch.get_num_threads()} threads"


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` in memory from which ``device`` copies by itself, where it is a GPU."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; nobody waits for the copy."""
    if tensor.device == device:
        return tensor
    return pinned(tensor, device).to(device, non_blocking=True)


def peak_memory_mib(device: torch.device) -> float:
    """Largest memory so far in MiB: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB on Linux


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in _CPU_BFLOAT16)
