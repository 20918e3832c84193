"""What works within the slices of a CT, a few slices at a time: copies of all take gigabytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk

from petct_uad.volumes.boxes import Box

_SLICES = 32


def by_slabs(image: sitk.Image, function: Callable[[sitk.Image], sitk.Image]) -> sitk.Image:
    """What ``function`` makes of an image, whose slices it must keep and look at one by one."""
    columns, rows, total = image.GetSize()
    if total <= _SLICES:
        return function(image)
    slabs = (
        Box((0, 0, z), (columns, rows, min(_SLICES, total - z))) for z in range(0, total, _SLICES)
    )
    parts = [function(slab.of(image)) for slab in slabs]
    whole = sitk.GetImageFromArray(
        np.concatenate([sitk.GetArrayViewFromImage(part) for part in parts])
    )
    whole.SetOrigin(parts[0].GetOrigin())
    whole.SetSpacing(parts[0].GetSpacing())
    whole.SetDirection(parts[0].GetDirection())
    return whole


def shrink(ct: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Means of blocks of voxels, about ``spacing_mm`` wide in-plane: float32."""
    factors = [max(1, round(spacing_mm / native)) for native in ct.GetSpacing()[:2]]
    return by_slabs(
        ct, lambda slab: sitk.BinShrink(sitk.Cast(slab, sitk.sitkFloat32), [*factors, 1])
    )
