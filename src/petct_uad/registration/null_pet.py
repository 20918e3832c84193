"""A PET-like image made from the CT, which lies where the CT lies: what the null test refines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.registration.masks import ct_body
from petct_uad.registration.metric_images import ComparablePair
from petct_uad.registration.params import RegisterParams
from petct_uad.registration.quality import resample_under
from petct_uad.registration.slabs import shrink
from petct_uad.volumes.blur import blur
from petct_uad.volumes.boxes import Box
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.resample import FWHM_PER_SIGMA

_SPACING_MM = 2.0  # half a PET voxel: skin and lung edges are placed to a fraction of that
# Beyond the CT's field of view its outermost values continue, as far as a small motion looks.
_BEYOND_MM = 25.0
_AROUND_PX = (2, 2, 1)  # the rim and one voxel of scatter, which continues beyond
_FEWEST = 200  # voxels of 4 mm
_SCATTER_SUV = 0.012  # around the body, after correction
_AIR_HU, _FAT_HU = -1000.0, -100.0
_CORRELATED_PX = 0.6  # noise of neighbours is alike: the reconstruction's filter
_STREAM = 0x9E7


@dataclass(frozen=True)
class _Tissue:
    """A tissue by its HU; a voxel between two of them is a mixture.

    Attributes:
        typical_suv: SUVbw one hour after FDG, where a study has too few voxels to say its own.
    """

    low_hu: float
    high_hu: float
    typical_suv: float


# Lung, fat, soft tissue and bone, by rising HU.
_FAT = 1
_TISSUES = (
    _Tissue(-1000.0, -600.0, 0.45),
    _Tissue(-130.0, -60.0, 0.28),
    _Tissue(0.0, 80.0, 0.75),
    _Tissue(200.0, 250.0, 1.0),
)


def make_null(pair: ComparablePair, ct: sitk.Image, params: RegisterParams) -> ComparablePair:
    """The pair with a PET that is known to lie where the CT lies.

    Tissues by HU get the median uptake that this study shows in them, or a typical one; blurred to
    ``null_fwhm_mm``, sampled on the PET's own grid and field of view, with as much noise as the PET
    has there. What the refinement moves in this pair is its own bias: nothing else moved.

    Args:
        pair: the study's own, whose PET is replaced.
        ct: HU, the one that ``pair`` was made of.
        params: of the stage.
    """
    suv = _uptake(shrink(ct, _SPACING_MM), _levels(pair))
    sigma_mm = params.null_fwhm_mm / FWHM_PER_SIGMA
    more = [math.ceil(_BEYOND_MM / mm) for mm in suv.GetSpacing()]
    blurred = blur(sitk.ZeroFluxNeumannPad(suv, more, more), [sigma_mm**2] * 3)
    sampled = sitk.Resample(blurred, pair.pet, sitk.Transform(), sitk.sitkLinear, _SCATTER_SUV)
    root = np.sqrt(sitk.GetArrayFromImage(sampled).clip(0.0)) + _noise(pair, params.seed)
    pet = sitk.GetImageFromArray(root.clip(0.0).astype(np.float32))
    pet.CopyInformation(pair.pet)
    return replace(pair, pet=pet)


def _levels(pair: ComparablePair) -> tuple[float, ...]:
    """Median SUVbw of each tissue, as the scanner's own alignment shows it."""
    view = resample_under(pair, RigidTransform())
    hu = sitk.GetArrayViewFromImage(pair.ct)
    seen = (sitk.GetArrayViewFromImage(pair.body) > 0) & (view.pet >= 0)
    return tuple(
        _median(view.pet[seen & (hu >= tissue.low_hu) & (hu <= tissue.high_hu)], tissue.typical_suv)
        for tissue in _TISSUES
    )


def _median(roots: NDArray[np.float32], typical: float) -> float:
    return float(np.median(roots)) ** 2 if len(roots) >= _FEWEST else typical


def _uptake(ct: sitk.Image, levels: Sequence[float]) -> sitk.Image:
    """SUVbw around the body. The skin's own voxels hold as much as they are filled."""
    body = ct_body(ct)
    box = Box.occupied(body, _AROUND_PX)
    ct, body = box.of(ct), box.of(body)
    rim = sitk.BinaryDilate(body, [1, 1, 0]) - body
    hu = sitk.GetArrayViewFromImage(ct)
    knots = [end for tissue in _TISSUES for end in (tissue.low_hu, tissue.high_hu)]
    suv = np.interp(hu, knots, np.repeat(levels, 2)).astype(np.float32)
    suv[sitk.GetArrayViewFromImage(body) == 0] = _SCATTER_SUV
    skin = sitk.GetArrayViewFromImage(rim) > 0
    filled = np.clip((hu[skin] - _AIR_HU) / (_FAT_HU - _AIR_HU), 0.0, 1.0) * levels[_FAT]
    suv[skin] = np.maximum(filled, _SCATTER_SUV)
    image = sitk.GetImageFromArray(suv)
    image.CopyInformation(ct)
    return image


def _noise(pair: ComparablePair, seed: int) -> NDArray[np.float64]:
    """As much as the PET's root has in the body, on its grid: its root evens noise out."""
    body = sitk.GetArrayViewFromImage(pair.pet_body) > 0
    white = np.random.default_rng([seed, _STREAM]).standard_normal(body.shape, dtype=np.float32)
    image = sitk.GetImageFromArray(white)
    field = blur(image, [_CORRELATED_PX**2] * 3)
    here = _roughness(pair.pet, body)
    return np.asarray(sitk.GetArrayFromImage(field) * (here / _roughness(field, body)), np.float64)


def _roughness(image: sitk.Image, body: NDArray[np.bool_]) -> float:
    """The median deviation of the body's voxels from their neighbourhood's mean, in-plane."""
    x_mm, y_mm, _ = image.GetSpacing()
    smooth = blur(image, [x_mm**2, y_mm**2, 0.0])
    rough = np.abs(sitk.GetArrayFromImage(image - smooth))
    return float(np.median(rough[body])) if body.any() else 0.0
