"""Rigid refinement of the scanner's own alignment by mutual information."""

from __future__ import annotations

import SimpleITK as sitk

from petct_uad.errors import RegistrationError
from petct_uad.params import RegisterParams
from petct_uad.registration.comparable import ComparablePair
from petct_uad.registration.masks import centroid_mm
from petct_uad.registration.rigid import RigidTransform

# From coarse to fine: standard deviation of the in-plane blur at each level.
_BLUR_MM = (6.0, 3.0, 0.0)


def refine_rigid(pair: ComparablePair, params: RegisterParams) -> RigidTransform:
    """The motion from the CT frame to the PET frame that maximises Mattes mutual information.

    Mattes et al., IEEE TMI 22(1), 2003, as ITK has it; gradient descent with steps in mm, coarse to
    fine, from the scanner's alignment. One thread, so that the same input gives the same bytes.

    Raises:
        RegistrationError: no body on the CT, or the images do not overlap enough to start.
    """
    if not sitk.GetArrayViewFromImage(pair.body).any():
        raise RegistrationError("no body is found on the CT, so there is nothing to refine on")
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centroid_mm(pair.body))
    method = _method(pair.region, params)
    try:
        for blur_mm in _BLUR_MM:
            method.SetInitialTransform(transform, inPlace=True)
            method.Execute(_blur(pair.ct, blur_mm), _blur(pair.pet, blur_mm))
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[-1]
        raise RegistrationError(f"mutual information cannot be maximised: {cause}") from error
    return RigidTransform.from_sitk(transform)


def _method(region: sitk.Image, params: RegisterParams) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(params.histogram_bins)
    # Random points lie between voxel centres, which spares the metric the ripple of the grid.
    method.SetMetricSamplingStrategy(method.RANDOM)
    # One more than the seed, since SimpleITK takes 0 for the wall clock.
    method.SetMetricSamplingPercentage(params.sampling_fraction, params.seed + 1)
    method.SetMetricFixedMask(region)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0,
        minStep=0.01,
        numberOfIterations=params.iterations,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _blur(image: sitk.Image, sigma_mm: float) -> sitk.Image:
    # Never across slices: the CT stack ends inside the body, where a blur would bend the profile.
    return sitk.DiscreteGaussian(image, [sigma_mm**2, sigma_mm**2, 0.0], maximumKernelWidth=64)
