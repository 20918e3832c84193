from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.registration.masks import open_slices


@pytest.mark.parametrize("shape", [(3, 40, 60), (2, 9, 5)])
@pytest.mark.parametrize("radius", [(1, 1), (2, 2), (3, 3), (4, 2), (6, 6)])
def test_a_mask_is_opened_as_itk_opens_it(
    shape: tuple[int, int, int], radius: tuple[int, int]
) -> None:
    """Also where it touches the end of the matrix."""
    noise = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    mask = sitk.DiscreteGaussian(noise, [4.0, 4.0, 0.0]) > -0.05
    itks = sitk.BinaryMorphologicalOpening(mask, [*radius, 0])
    opened = sitk.GetArrayFromImage(open_slices(mask, *radius))
    np.testing.assert_array_equal(opened, sitk.GetArrayFromImage(itks))
