"""How a native volume gets onto another grid: in one interpolation, antialiased where that shrinks.

Every value that leaves the pipeline is taken from native voxels by one call of a function here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import SimpleITK as sitk

from petct_uad.core.errors import RegistrationError
from petct_uad.core.volumes import AIR_HU
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import Transform

FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian
# Spacings this much alike are one: a NIfTI header rounds to float32.
_ALIKE = 1e-3
# So far may a slice lie from that of the CT which it is.
_OFF_PX = 0.01
_IDENTITY = RigidTransform()


def resample_ct(ct: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """CT in HU onto a grid: float32, -1024 outside."""
    return interpolate(antialias(ct, grid.GetSpacing()), grid, outside=AIR_HU)


def resample_pet(pet: sitk.Image, grid: sitk.Image, transform: Transform) -> sitk.Image:
    """PET in SUVbw onto a grid of the CT frame, through the motion: float32, 0 outside.

    PET pixels are mostly wider than those of the grid and are then not blurred; PET slices that lie
    closer than the CT's are, so that no activity between two CT slices is lost.
    """
    return interpolate(antialias(pet, grid.GetSpacing()), grid, transform)


def resample_mask(mask: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """Mask onto a grid: uint8, 0 or 1, 0 outside.

    Nearest neighbour, antialiased, means here that a pixel gets the label that fills most of it:
    the 0.5 level of the antialiased mask. Areas are kept on average, where plain nearest neighbour
    would keep or lose whole rows by chance; what is thinner than half a pixel is lost.
    """
    soft = interpolate(antialias(mask > 0, grid.GetSpacing()), grid)
    return sitk.Cast(soft >= 0.5, sitk.sitkUInt8)


def move_mask(mask: sitk.Image, transform: Transform) -> sitk.Image:
    """A mask that was drawn on the PET, moved with it: uint8, 0 or 1, on its own grid.

    A voxel is 1 where the linear interpolation of what lies there after the motion is 0.5 or more.
    """
    return sitk.Cast(interpolate(mask, mask, transform) >= 0.5, sitk.sitkUInt8)


def interpolate(
    image: sitk.Image, grid: sitk.Image, transform: Transform = _IDENTITY, outside: float = 0.0
) -> sitk.Image:
    """Linear interpolation at the voxel centres of ``grid``, mapped by ``transform``: float32.

    Half a voxel beyond the outermost centres their values continue; further out is ``outside``.
    """
    smooth = sitk.Cast(image, sitk.sitkFloat32)
    return sitk.Resample(smooth, grid, transform.to_sitk(), sitk.sitkLinear, outside)


def antialias(image: sitk.Image, spacing_mm: Sequence[float]) -> sitk.Image:
    """Blur along each axis so that nothing finer than its ``spacing_mm`` is left: float32.

    The Gaussian turns a point spread as wide as a native voxel into one as wide as a target voxel
    (Cardoso et al., "Scale factor point spread function matching", MICCAI 2015). Along an axis
    whose native voxels are as wide as the target's, or wider, nothing is done.
    """
    smooth = sitk.Cast(image, sitk.sitkFloat32)
    variance = [
        (target**2 - native**2) / FWHM_PER_SIGMA**2 if native < (1 - _ALIKE) * target else 0.0
        for native, target in zip(image.GetSpacing(), spacing_mm, strict=True)
    ]
    if not any(variance):
        return smooth
    return sitk.DiscreteGaussian(smooth, variance, maximumKernelWidth=64, maximumError=1e-3)


def native_slices(native: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """The slices of a CT, or of a label on it, on which those of a grid derived from it lie.

    Raises:
        RegistrationError: ``grid`` has a slice that the CT has not.
    """
    count = grid.GetSize()[2]
    ends = [grid.TransformIndexToPhysicalPoint((0, 0, z)) for z in (0, count - 1)]
    places = [native.TransformPhysicalPointToContinuousIndex(end)[2] for end in ends]
    first = round(places[0])
    off = max(abs(places[0] - first), abs(places[1] - (first + count - 1)))
    if off > _OFF_PX or first < 0 or first + count > native.GetSize()[2]:
        raise RegistrationError(
            f"slices {places[0]:g} to {places[1]:g} of a CT with {native.GetSize()[2]} are asked "
            "for, which is not the CT that was registered; run register again"
        )
    return native[:, :, first : first + count]
