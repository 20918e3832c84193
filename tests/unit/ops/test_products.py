import pytest
import torch

from petct_uad.ops.products import branch_products


@pytest.mark.parametrize("rows", [1, 64, 1000])
def test_inference_gives_the_products_of_training_to_the_last_bits(rows: int) -> None:
    x, weight, bias = torch.rand(2, rows, 384), torch.rand(2, 384, 48), torch.rand(2, 1, 48)
    expected = x @ weight
    with torch.inference_mode():
        torch.testing.assert_close(branch_products(x, weight), expected, rtol=1e-5, atol=0)
        found = branch_products(x, weight, bias)
    torch.testing.assert_close(found, expected + bias, rtol=1e-5, atol=0)


def test_training_multiplies_as_torch_does_by_itself() -> None:
    x, weight = torch.rand(2, 5, 7), torch.rand(2, 7, 3, requires_grad=True)
    assert torch.equal(branch_products(x, weight), torch.bmm(x, weight))
    branch_products(x, weight).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
