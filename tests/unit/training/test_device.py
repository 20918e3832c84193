"""Device, precision and seeds."""

from collections.abc import Iterator

import pytest
import torch

from petct_uad.core.errors import ParamsError
from petct_uad.models.common import device
from petct_uad.models.common.device import autocast, choose_device, choose_precision, deterministic

CPU = torch.device("cpu")


def test_bfloat16_is_used_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {device._CPU_BFLOAT16[0]: True})
    assert choose_precision("auto", CPU, pays_on_cpu=True) == torch.bfloat16
    assert choose_precision("auto", CPU, pays_on_cpu=False) == torch.float32
    assert choose_precision("bfloat16", CPU, pays_on_cpu=False) == torch.bfloat16
    assert choose_precision("float32", CPU, pays_on_cpu=True) == torch.float32


def test_bfloat16_is_refused_where_it_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert choose_precision("auto", CPU, pays_on_cpu=True) == torch.float32
    with pytest.raises(ParamsError, match="precision"):
        choose_precision("bfloat16", CPU, pays_on_cpu=True)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_products_are_computed_in_the_chosen_precision(precision: torch.dtype) -> None:
    with autocast(precision, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == precision


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_absent_gpu_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"train\.device"):
        choose_device("cuda")


def test_seeding_ends_with_its_block() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with deterministic(5):
        inside = torch.rand(3)
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(5):
        assert torch.equal(torch.rand(3), inside)


def arithmetic() -> tuple[bool, bool, bool]:
    """Deterministic algorithms; TF32 in products; TF32 in convolutions."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), matmul.allow_tf32, cudnn.allow_tf32


@pytest.fixture(params=[True, False])
def tf32_outside(request: pytest.FixtureRequest) -> Iterator[bool]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = request.param
    yield request.param
    matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("algorithms", [True, False])
def test_arithmetic_is_as_asked_inside_the_block_and_as_before_after_it(
    tf32_outside: bool, algorithms: bool, tf32: bool
) -> None:
    before = arithmetic()
    with pytest.raises(KeyboardInterrupt), deterministic(0, algorithms=algorithms, tf32=tf32):
        assert arithmetic() == (algorithms, tf32, tf32)
        raise KeyboardInterrupt
    assert arithmetic() == before == (False, tf32_outside, tf32_outside)


def test_by_itself_a_block_is_deterministic_and_without_tf32() -> None:
    with deterministic(0):
        assert arithmetic() == (True, False, False)


def test_warnings_instead_of_errors_are_restored_too() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with deterministic(0):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
