"""What the CUDA backend hands to mamba-ssm's kernel, on a machine that has neither.

``benchmarks/selective_scan.py --mamba-ssm SDIST`` does the same with mamba-ssm's own reference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from petct_uad.core.errors import ParamsError
from petct_uad.ops.selective_scan.cuda import selective_scan_cuda
from petct_uad.ops.selective_scan.reference import cross_scan_order
from petct_uad.ops.selective_scan.scan import _missing, resolve_backend
from tests.unit.ops.test_selective_scan import _errors, _inputs, _reference, _with_gradients


def _kernel(  # noqa: PLR0917
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    *,
    delta_bias: Tensor,
    delta_softplus: bool,
) -> Tensor:
    """mamba-ssm's contract, with the checks of its csrc/selective_scan.cpp, and its recurrence."""
    batch, channels, length = u.shape
    groups, states = b.shape[1:3]
    assert delta.shape == u.shape
    assert a.shape == (channels, states)
    assert b.shape == c.shape == (batch, groups, states, length)
    assert d.shape == delta_bias.shape == (channels,)
    assert all(x.dtype == torch.float32 for x in (u, delta, a, b, c, d, delta_bias))
    assert delta_bias.is_contiguous()  # all others its Python side makes so
    assert delta_softplus
    assert channels % groups == 0
    dt = F.softplus(delta + delta_bias[:, None])
    b, c = (x.repeat_interleave(channels // groups, dim=1) for x in (b, c))  # (B, E, N, L)
    state, outputs = u.new_zeros(batch, channels, states), []
    for t in range(length):
        write = (dt * u)[..., t, None] * b[..., t]
        state = torch.exp(dt[..., t, None] * a) * state + write
        outputs.append((state * c[..., t]).sum(-1))
    return torch.stack(outputs, dim=-1) + d[:, None] * u


@pytest.fixture
def mamba_ssm(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mamba_ssm.ops.selective_scan_interface"
    interface = ModuleType(name)
    interface.__dict__["selective_scan_fn"] = _kernel
    for parent in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    monkeypatch.setitem(sys.modules, name, interface)


@pytest.fixture
def broken_mamba_ssm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Installed on a machine with a GPU, but compiled for another torch."""
    package = tmp_path / "mamba_ssm"
    (package / "ops").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "ops/__init__.py").write_text("")
    (package / "ops/selective_scan_interface.py").write_text(
        "raise ImportError('selective_scan_cuda.so: undefined symbol: _ZN3c10')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    _missing.cache_clear()
    yield
    _missing.cache_clear()
    for name in [name for name in sys.modules if name.startswith("mamba_ssm")]:
        del sys.modules[name]


@pytest.mark.usefixtures("broken_mamba_ssm")
def test_a_kernel_that_does_not_import_is_as_good_as_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = torch.device("cuda")
    assert resolve_backend("auto", gpu) == "triton"
    monkeypatch.setitem(sys.modules, "triton", None)
    _missing.cache_clear()
    assert resolve_backend("auto", gpu) == "reference"
    said = " ".join(capsys.readouterr().err.split())
    assert "using the slow PyTorch reference: mamba-ssm is installed but does not import" in said
    assert "triton is not installed (pip install triton)" in said
    assert "undefined symbol: _ZN3c10" in said
    with pytest.raises(ParamsError, match="'cuda' cannot run here: mamba-ssm is installed but"):
        resolve_backend("cuda", gpu)


@pytest.mark.usefixtures("mamba_ssm")
@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((2, 4, 2, 12, 48, 16), (3, 4)),
        ((1, 4, 1, 29, 20, 5), (29, 1)),
        ((1, 4, 3, 2, 16, 4), (1, 2)),
    ],
    ids=str,
)
def test_branches_and_directions_become_the_kernels_groups(
    shape: tuple[int, ...], grid: tuple[int, int]
) -> None:
    inputs, _ = _inputs(shape)
    order = cross_scan_order(*grid, torch.device("cpu"))
    kernel: Callable[..., Tensor] = selective_scan_cuda
    found = _with_gradients(lambda *x: kernel(*x, grid), inputs)
    oracle = _with_gradients(lambda *x: _reference(*x, order), inputs, torch.float64)
    assert max(_errors(found, oracle)) <= 1e-6


@pytest.mark.usefixtures("mamba_ssm")
def test_directions_are_flips_and_transposes_whose_gradients_gather_and_sort_nothing() -> None:
    class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
        names: ClassVar[set[str]] = set()

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.names.add(function.overloadpacket.__name__)
            return function(*args, **(kwargs or {}))

    inputs, _ = _inputs((2, 4, 1, 6, 8, 3))
    kernel: Callable[..., Tensor] = selective_scan_cuda
    with Operations():  # type: ignore[no-untyped-call]
        _with_gradients(lambda *x: kernel(*x, (2, 3)), inputs)
    assert {"flip", "transpose"} <= Operations.names
    slow = ("gather", "scatter", "index", "sort", "take", "put")
    assert not [name for name in Operations.names if any(word in name for word in slow)]
