"""Refinement of the scanner's own alignment by mutual information: rigid, affine, B-spline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from petct_uad.core.errors import RegistrationError
from petct_uad.registration.masks import centroid_mm
from petct_uad.registration.metric_images import ComparablePair
from petct_uad.registration.params import RegisterParams
from petct_uad.registration.quality import resample_under
from petct_uad.volumes.blur import blur
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import AffineTransform, BsplineTransform


@dataclass(frozen=True)
class _Level:
    """One pass of the optimiser.

    Attributes:
        blur_mm: standard deviation of the in-plane blur.
        share: of ``register.sampling_fraction``.
        first_mm: length of the first step.
        last_mm: the step below which it ends.
        shortening: of the step, wherever the direction turns round.
    """

    blur_mm: float
    share: float
    first_mm: float
    last_mm: float
    shortening: float

    @property
    def coarse(self) -> bool:
        """Does a finer level follow?"""
        return self.blur_mm > 0


# The last level decides; those before it need only end where its peak is seen from.
_LEVELS = (
    _Level(blur_mm=6.0, share=0.25, first_mm=2.0, last_mm=0.1, shortening=0.6),
    _Level(blur_mm=3.0, share=0.25, first_mm=1.0, last_mm=0.05, shortening=0.6),
    _Level(blur_mm=0.0, share=1.0, first_mm=2.0, last_mm=0.01, shortening=0.7),
)
# As many samples as a thorax of 28 slices has at 4 mm and a fraction of 0.25 (114,688): a histogram
# of 32 by 32 bins needs no more of a whole body, which at that fraction has 1 to 2 million.
_MOST_SAMPLES = 120_000
# A breath moves the diaphragm over some 10 cm; finer cells would chase the noise.
_CELL_MM = 70.0
# How far the spline reaches past the CT's ends, where its control points stay at rest.
_PAST_ENDS_MM = 30.0


def refine_rigid(
    pair: ComparablePair, params: RegisterParams, fixed_axes: Sequence[int] = ()
) -> RigidTransform:
    """The motion from the CT frame to the PET frame that maximises Mattes mutual information.

    Mattes et al., IEEE TMI 22(1), 2003, as ITK has it; gradient descent with steps in mm, coarse to
    fine, from the scanner's alignment. One thread, so that the same input gives the same bytes.

    Args:
        pair: what is compared.
        params: of the stage.
        fixed_axes: axes (0 is x) along which the body's centre stays where the scanner has it.

    Raises:
        RegistrationError: no body on the CT, or the images do not overlap enough to start.
    """
    if not sitk.GetArrayViewFromImage(pair.body).any():
        raise RegistrationError("no body is found on the CT, so there is nothing to refine on")
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centroid_mm(pair.body))
    free = [1.0] * 3 + [0.0 if axis in fixed_axes else 1.0 for axis in range(3)]
    for level in _LEVELS:
        method = _steps(pair.region, params, level)
        method.SetOptimizerWeights(free)
        _descend(method, pair, transform, level.blur_mm)
    return RigidTransform.from_sitk(transform)


def refine_affine(
    pair: ComparablePair, start: RigidTransform, params: RegisterParams
) -> AffineTransform:
    """The affine map that maximises the same metric, from a rigid one.

    Raises:
        RegistrationError: the images do not overlap enough.
    """
    rigid = start.to_sitk()
    transform = sitk.AffineTransform(rigid.GetMatrix(), rigid.GetTranslation(), rigid.GetCenter())
    method = _line_search(pair, start, params)
    _descend(method, pair, transform)
    return AffineTransform.from_sitk(transform)


def refine_bspline(
    pair: ComparablePair, start: RigidTransform, params: RegisterParams
) -> BsplineTransform:
    """A cubic B-spline, before a fixed rigid motion, that maximises the same metric.

    Raises:
        RegistrationError: the images do not overlap enough.
    """
    domain = _around_body(pair)
    edges_mm = [n * mm for n, mm in zip(domain.GetSize(), domain.GetSpacing(), strict=True)]
    mesh = [max(1, round(edge / _CELL_MM)) for edge in edges_mm]
    spline = sitk.BSplineTransformInitializer(domain, mesh)
    method = _line_search(pair, start, params)
    method.SetMovingInitialTransform(start.to_sitk())
    _descend(method, pair, spline)
    return BsplineTransform.from_sitk(start, spline)


def _line_search(
    pair: ComparablePair, start: RigidTransform, params: RegisterParams
) -> sitk.ImageRegistrationMethod:
    """Conjugate gradients from an optimum: with more freedom, plain steps walk away from it.

    Two slices at either end of the PET are left out, or stretching would gain by losing samples.
    """
    field = sitk.GetImageFromArray(resample_under(pair, start).field.astype(np.uint8))
    field.CopyInformation(pair.region)
    seen = sitk.BinaryErode(field, [0, 0, 2], sitk.sitkBall, 0.0, 1.0, False)
    method = _method(seen, params)
    method.SetOptimizerAsConjugateGradientLineSearch(
        learningRate=1.0,
        numberOfIterations=min(params.iterations, 15),
        convergenceMinimumValue=1e-5,
        convergenceWindowSize=4,
        lineSearchUpperLimit=4,
        lineSearchMaximumIterations=8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _around_body(pair: ComparablePair) -> sitk.Image:
    """The CT cut to the compared region in-plane, and longer at both ends."""
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(pair.region)
    x, y, _, width, height, _ = shape.GetBoundingBox(1)
    more = [0, 0, round(_PAST_ENDS_MM / pair.ct.GetSpacing()[2])]
    return sitk.ConstantPad(pair.ct[x : x + width, y : y + height, :], more, more)


def _descend(
    method: sitk.ImageRegistrationMethod,
    pair: ComparablePair,
    transform: sitk.Transform,
    blur_mm: float = 0.0,
) -> None:
    """Optimise ``transform`` in place."""
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(_blur(pair.ct, blur_mm), _blur(pair.pet, blur_mm))
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[-1]
        raise RegistrationError(f"mutual information cannot be maximised: {cause}") from error


def _steps(
    region: sitk.Image, params: RegisterParams, level: _Level
) -> sitk.ImageRegistrationMethod:
    """Gradient steps of one length, shortened wherever they turn round."""
    method = _method(region, params, level.share)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=level.first_mm,
        minStep=level.last_mm,
        numberOfIterations=params.iterations,
        relaxationFactor=level.shortening,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    if level.coarse or _most_fraction(region) < params.sampling_fraction:
        # A blurred PET needs no gradient image of its own, which costs as much as ten steps. Nor
        # does a whole body's, where it is half of the time: without it three known motions were
        # found to 0.19 to 0.22 mm (median over the body), with it to 0.25 to 0.29 mm.
        method.MetricUseMovingImageGradientFilterOff()
    return method


def _method(
    region: sitk.Image, params: RegisterParams, share: float = 1.0
) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(params.histogram_bins)
    # Random points lie between voxel centres, which spares the metric the ripple of the grid.
    method.SetMetricSamplingStrategy(method.RANDOM)
    fraction = min(params.sampling_fraction, _most_fraction(region))
    # One more than the seed, since SimpleITK takes 0 for the wall clock.
    method.SetMetricSamplingPercentage(share * fraction, params.seed + 1)
    method.SetMetricFixedMask(region)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _most_fraction(region: sitk.Image) -> float:
    return _MOST_SAMPLES / int(region.GetNumberOfPixels())


def _blur(image: sitk.Image, sigma_mm: float) -> sitk.Image:
    # Never across slices: the CT stack ends inside the body, where a blur would bend the profile.
    if not sigma_mm:
        return image
    return blur(image, [sigma_mm**2, sigma_mm**2, 0.0])
