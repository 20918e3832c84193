"""Rigid refinement of the scanner's own alignment by mutual information."""

from __future__ import annotations

import SimpleITK as sitk

from petct_uad.errors import RegistrationError
from petct_uad.params import RegisterParams
from petct_uad.registration.masks import centroid_mm, ct_body
from petct_uad.registration.rigid import RigidTransform

# The motion is a fraction of a PET voxel, and a PET voxel is 3 to 5.5 mm: nothing finer is needed.
_METRIC_SPACING_MM = 4.0
# Below: lungs apart from air. Above: all bone alike, so that metal does not stretch the histogram.
_CT_WINDOW_HU = (-1000.0, 250.0)
# The brain, bladder or a tumour must not squeeze everything else into one histogram bin.
_PET_CLIP_SUV = 5.0
_PET_LOG_SUV = 0.25
_SMOOTHING_MM = (6.0, 3.0)
_MASK_MARGIN_MM = 15.0


def refine_rigid(ct: sitk.Image, pet: sitk.Image, params: RegisterParams) -> RigidTransform:
    """The motion from the CT frame to the PET frame with the highest Mattes mutual information.

    Mattes et al., IEEE TMI 22(1), 2003, as in ITK; two resolutions, gradient descent with steps in
    mm, from the scanner's alignment. One thread, so that the same input gives the same result.

    Args:
        ct: HU, on any grid.
        pet: SUVbw, on its own grid.

    Raises:
        RegistrationError: the optimiser could not start.
    """
    fixed, mask = ct_for_metric(ct)
    method = _method(params)
    method.SetMetricFixedMask(mask)
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centroid_mm(mask))
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, pet_for_metric(pet))
    except RuntimeError as error:
        raise RegistrationError(f"mutual information cannot be maximised: {error}") from error
    return RigidTransform.from_sitk(transform)


def ct_for_metric(ct: sitk.Image) -> tuple[sitk.Image, sitk.Image]:
    """The windowed CT on a coarser grid, and the region around the body where it is compared."""
    factors = [max(1, round(_METRIC_SPACING_MM / mm)) for mm in ct.GetSpacing()[:2]]
    coarse = sitk.BinShrink(sitk.Cast(ct, sitk.sitkFloat32), [*factors, 1])
    coarse = sitk.Clamp(coarse, sitk.sitkFloat32, *_CT_WINDOW_HU)
    radius = [round(_MASK_MARGIN_MM / mm) for mm in coarse.GetSpacing()[:2]]
    return coarse, sitk.BinaryDilate(ct_body(coarse), [*radius, 0])


def pet_for_metric(pet: sitk.Image) -> sitk.Image:
    """The PET clipped and log-compressed, so that organs share the histogram with hot spots."""
    clipped = sitk.Clamp(sitk.Cast(pet, sitk.sitkFloat32), sitk.sitkFloat32, 0.0, _PET_CLIP_SUV)
    import os
    m=os.environ.get('M','lin')
    return sitk.Log(clipped + _PET_LOG_SUV) if m=='log' else sitk.Sqrt(clipped) if m=='sqrt' else clipped


def _method(params: RegisterParams) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(params.histogram_bins)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(params.sampling_fraction, params.seed)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0,
        minStep=0.01,
        numberOfIterations=params.iterations,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([1] * len(_SMOOTHING_MM))
    method.SetSmoothingSigmasPerLevel(_SMOOTHING_MM)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method
