from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.volumes.blur import blur

Vector = tuple[float, float, float]


@pytest.mark.parametrize("error", [0.01, 1e-3])
@pytest.mark.parametrize(
    "variance_mm2", [(36.0, 36.0, 0.0), (6.5, 6.5, 6.5), (0.03, 0.5, 0.0), (0.0, 0.0, 2000.0)]
)
@pytest.mark.parametrize("spacing_mm", [(3.90625, 3.90625, 2.0), (0.9765625, 1.17, 3.27)])
def test_a_blur_is_itks_to_the_last_bit(
    spacing_mm: Vector, variance_mm2: Vector, error: float
) -> None:
    image = sitk.GetImageFromArray(
        np.random.default_rng(0).normal(0, 400, (20, 30, 40)).astype(np.float32)
    )
    image.SetSpacing(spacing_mm)
    image.SetOrigin((-100.0, 20.0, 3.0))
    itks = sitk.DiscreteGaussian(image, variance_mm2, 64, error)
    blurred = blur(image, variance_mm2, error)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(blurred), sitk.GetArrayFromImage(itks))
    assert blurred.GetOrigin() == image.GetOrigin()
    assert blurred.GetSpacing() == image.GetSpacing()
