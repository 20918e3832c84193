"""How a native volume gets onto another grid: in one interpolation, antialiased where that shrinks.

Every value that leaves the pipeline is taken from native voxels by one call of a function here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import SimpleITK as sitk

from petct_uad.core.errors import RegistrationError
from petct_uad.core.volumes import AIR_HU
from petct_uad.volumes.blur import blur
from petct_uad.volumes.boxes import Box
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import Transform

FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian
# Spacings this much alike are one: a NIfTI header rounds to float32.
_ALIKE = 1e-3
# So far may a slice lie from that of the CT which it is.
_OFF_PX = 0.01
_IDENTITY = RigidTransform()


def resample_ct(ct: sitk.Image, grid: sitk.Image, within: sitk.Image | None = None) -> sitk.Image:
    """CT in HU onto a grid: float32, -1024 outside.

    Args:
        ct: HU.
        grid: of the same frame.
        within: an image of the same frame; around it nothing is looked at and values are not
            antialiased. By default the whole grid counts.
    """
    smooth = antialias(ct, grid.GetSpacing(), within=within or grid)
    return interpolate(smooth, grid, outside=AIR_HU)


def resample_pet(
    pet: sitk.Image, grid: sitk.Image, transform: Transform, within: sitk.Image | None = None
) -> sitk.Image:
    """PET in SUVbw onto a grid of the CT frame, through the motion: float32, 0 outside.

    PET pixels are mostly wider than those of the grid and are then not blurred; PET slices that lie
    closer than the CT's are, so that no activity between two CT slices is lost.

    Args:
        pet: SUVbw on its own grid.
        grid: of the CT frame.
        transform: from the CT frame to the PET frame.
        within: as :func:`resample_ct` has it.
    """
    smooth = antialias(pet, grid.GetSpacing(), within or grid, transform)
    return interpolate(smooth, grid, transform)


def resample_mask(mask: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """Mask onto a grid: uint8, 0 or 1, 0 outside.

    Nearest neighbour, antialiased, means here that a pixel gets the label that fills most of it:
    the 0.5 level of the antialiased mask. Areas are kept on average, where plain nearest neighbour
    would keep or lose whole rows by chance; what is thinner than half a pixel is lost.
    """
    inside = mask > 0
    soft = interpolate(_antialiased_mask(inside, grid.GetSpacing()), grid)
    return sitk.Cast(soft >= 0.5, sitk.sitkUInt8)


def add_moved(mask: sitk.Image, onto: sitk.Image, transform: Transform) -> sitk.Image:
    """A mask with what was drawn on the PET, and is moved with it: uint8, 0 or 1.

    A voxel is 1 where it was, or where the linear interpolation of what lies there after the motion
    is 0.5 or more.

    Args:
        mask: what was drawn on the PET: part of the grid of ``onto``, 0 at its sides unless that
            ends there.
        onto: uint8, 0 or 1.
        transform: maps a point of the CT frame to the PET frame.
    """
    reached = Box.reached(mask, onto, (1, 1, 1), transform)
    if not reached:
        return onto
    there = reached.of(onto)
    return reached.put(sitk.Or(there, interpolate(mask, there, transform) >= 0.5), onto)


def interpolate(
    image: sitk.Image, grid: sitk.Image, transform: Transform = _IDENTITY, outside: float = 0.0
) -> sitk.Image:
    """Linear interpolation at the voxel centres of ``grid``, mapped by ``transform``: float32.

    Half a voxel beyond the outermost centres their values continue; further out is ``outside``.
    """
    return sitk.Resample(_as_float(image), grid, transform.to_sitk(), sitk.sitkLinear, outside)


def antialias(
    image: sitk.Image,
    spacing_mm: Sequence[float],
    within: sitk.Image | None = None,
    transform: Transform = _IDENTITY,
) -> sitk.Image:
    """Blur along each axis so that nothing finer than its ``spacing_mm`` is left: float32.

    The Gaussian turns a point spread as wide as a native voxel into one as wide as a target voxel
    (Cardoso et al., "Scale factor point spread function matching", MICCAI 2015). Along an axis
    whose native voxels are as wide as the target's, or wider, nothing is done.

    Args:
        image: of any values.
        spacing_mm: of the target, along the axes of ``image``.
        within: only what lies under this image is blurred. By default all.
        transform: from the frame of ``within`` to that of ``image``.
    """
    smooth = _as_float(image)
    variance_mm2 = _variance_mm2(image, spacing_mm)
    if not any(variance_mm2):
        return smooth
    if within is None:
        return _blurred(smooth, variance_mm2)
    box = Box.under(within, image, _reach_px(image, variance_mm2), transform)
    return _blurred_in(box, smooth, variance_mm2)


def _as_float(image: sitk.Image) -> sitk.Image:
    """As float32; an image that is so already is not copied, since nobody writes into one."""
    return image if image.GetPixelID() == sitk.sitkFloat32 else sitk.Cast(image, sitk.sitkFloat32)


def _antialiased_mask(mask: sitk.Image, spacing_mm: Sequence[float]) -> sitk.Image:
    """As :func:`antialias`; far from the mask there is nothing to blur."""
    smooth = sitk.Cast(mask, sitk.sitkFloat32)
    variance_mm2 = _variance_mm2(mask, spacing_mm)
    box = Box.occupied(mask, _reach_px(mask, variance_mm2))
    return _blurred_in(box, smooth, variance_mm2) if box and any(variance_mm2) else smooth


def _variance_mm2(image: sitk.Image, spacing_mm: Sequence[float]) -> list[float]:
    return [
        (target**2 - native**2) / FWHM_PER_SIGMA**2 if native < (1 - _ALIKE) * target else 0.0
        for native, target in zip(image.GetSpacing(), spacing_mm, strict=True)
    ]


def _reach_px(image: sitk.Image, variance_mm2: Sequence[float]) -> list[int]:
    """More voxels than a blur and an interpolation read on either side."""
    spacing_mm = image.GetSpacing()
    sigma_px = [math.sqrt(v) / mm for v, mm in zip(variance_mm2, spacing_mm, strict=True)]
    return [math.ceil(5 * sigma) + 4 for sigma in sigma_px]


def _blurred(image: sitk.Image, variance_mm2: Sequence[float]) -> sitk.Image:
    return blur(image, variance_mm2, error=1e-3)


def _blurred_in(box: Box, image: sitk.Image, variance_mm2: Sequence[float]) -> sitk.Image:
    """Elsewhere the image is as it was; whoever reads the box's middle reads the same values."""
    return box.put(_blurred(box.of(image), variance_mm2), image) if box else image


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
    whole = count == native.GetSize()[2]
    return native if whole else native[:, :, first : first + count]
