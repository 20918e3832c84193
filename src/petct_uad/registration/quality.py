"""How well PET and CT lie on one another, and whether a refinement is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from sklearn.metrics import mutual_info_score

from petct_uad.params import RegisterParams
from petct_uad.registration.comparable import ComparablePair
from petct_uad.registration.grid import covered_slices
from petct_uad.registration.masks import dice, points_mm
from petct_uad.registration.rigid import RigidTransform

# Dice changes by this much when a skin line moves by a tenth of a voxel.
_OVERLAP_TOLERANCE = 0.005
_SMALLEST_COVERAGE = 0.5
# Nat of mutual information per mm2 of squared displacement. The digital thorax, with known motion,
# has 0.002 to 0.004; thighs, alike from slice to slice, drift by 10 mm along the axis for 0.0003.
_SMALLEST_SHARPNESS = 0.001


@dataclass(frozen=True)
class Alignment:
    """One transform's quality: mutual information in nats, Dice of the CT and the PET body."""

    mutual_information: float
    body_overlap: float


@dataclass(frozen=True)
class Decision:
    """Which transform is used, and why.

    Attributes:
        transform: the refinement where it was accepted, else the identity.
        before: quality of the identity.
        after: quality of ``transform``.
        displacement_median_mm: of ``transform`` over the body.
        displacement_max_mm: likewise.
    """

    transform: RigidTransform
    accepted: bool
    reason: str
    before: Alignment
    after: Alignment
    displacement_median_mm: float
    displacement_max_mm: float


def decide(pair: ComparablePair, candidate: RigidTransform, params: RegisterParams) -> Decision:
    """Keep a refinement only where nothing speaks against it.

    Both transforms are measured with every voxel of the region that lies in the PET under both, so
    that neither gains by moving tissue out of sight.
    """
    identity = RigidTransform()
    field = _common_field(pair, (identity, candidate))
    before = _measure(pair, identity, field, params.histogram_bins)
    after = _measure(pair, candidate, field, params.histogram_bins)
    moved_mm = candidate.displacement_mm(points_mm(pair.body))
    objection = (
        _too_far(float(moved_mm.max(initial=0.0)), params.max_displacement_mm)
        or _out_of_sight(pair, candidate)
        or _no_better(before, after)
        or _too_flat(before, after, moved_mm)
    )
    if objection:
        return Decision(identity, False, objection, before, before, 0.0, 0.0)
    gain = f"mutual information rose by {after.mutual_information - before.mutual_information:.4f}"
    median, maximum = float(np.median(moved_mm)), float(moved_mm.max())
    return Decision(candidate, True, gain, before, after, median, maximum)


def keep_identity(pair: ComparablePair, reason: str, params: RegisterParams) -> Decision:
    """The scanner's own alignment, measured."""
    identity = RigidTransform()
    field = _common_field(pair, (identity,))
    quality = _measure(pair, identity, field, params.histogram_bins)
    return Decision(identity, False, reason, quality, quality, 0.0, 0.0)


def suv_total_ratio(pet: sitk.Image, resampled: sitk.Image, transform: RigidTransform) -> float:
    """SUV x volume on the target grid over that of the native PET in the same field; 1 if empty."""
    inverse = transform.to_sitk().GetInverse()
    inside = sitk.Resample(_ones(resampled), pet, inverse, sitk.sitkNearestNeighbor, 0.0) > 0
    native = np.where(_array(inside) > 0, _array(pet), 0).sum(dtype=np.float64) * _volume(pet)
    total = _array(resampled).sum(dtype=np.float64) * _volume(resampled)
    return float(total / native) if native > 0 else 1.0


def _too_far(moved_mm: float, allowed_mm: float) -> str:
    if moved_mm <= allowed_mm:
        return ""
    return f"refinement would move the body by {moved_mm:.1f} mm, allowed are {allowed_mm:g} mm"


def _out_of_sight(pair: ComparablePair, candidate: RigidTransform) -> str:
    covered = covered_slices(pair.body, pair.pet, candidate)
    if covered.count >= _SMALLEST_COVERAGE * covered.total:
        return ""
    return f"refinement would leave {covered.count} of {covered.total} slices covered by the PET"


def _no_better(before: Alignment, after: Alignment) -> str:
    gain = after.mutual_information - before.mutual_information
    if gain <= 0:
        return f"refinement would change mutual information by {gain:.4f}"
    if after.body_overlap < before.body_overlap - _OVERLAP_TOLERANCE:
        change = f"{before.body_overlap:.3f} to {after.body_overlap:.3f}"
        return f"refinement would take body overlap from {change}"
    return ""


def _too_flat(before: Alignment, after: Alignment, moved_mm: NDArray[np.float64]) -> str:
    """Around its maximum the gain grows with the square of the motion; if not, it is drift."""
    gain = after.mutual_information - before.mutual_information
    if gain >= _SMALLEST_SHARPNESS * float(np.mean(moved_mm**2)):
        return ""
    return (
        f"refinement would move the body by {np.median(moved_mm):.1f} mm for a mutual information "
        f"gain of only {gain:.4f}: too flat to tell"
    )


def _measure(
    pair: ComparablePair, transform: RigidTransform, field: sitk.Image, bins: int
) -> Alignment:
    pet = _onto_ct(pair.pet, pair, transform)
    body = _onto_ct(sitk.Cast(pair.pet_body, sitk.sitkFloat32), pair, transform) >= 0.5
    chosen = _array(field) > 0
    return Alignment(
        mutual_information(_array(pair.ct)[chosen], _array(pet)[chosen], bins),
        dice(pair.body & field, body & field),
    )


def mutual_information(first: NDArray[np.float32], second: NDArray[np.float32], bins: int) -> float:
    """Of two equally long samples, in nats, from their joint histogram; 0 where one is empty."""
    if not len(first):
        return 0.0
    counts, _, _ = np.histogram2d(first, second, bins=bins)
    return float(mutual_info_score(None, None, contingency=counts))


def _common_field(pair: ComparablePair, transforms: tuple[RigidTransform, ...]) -> sitk.Image:
    field = pair.region
    for transform in transforms:
        field = field & (_onto_ct(_ones(pair.pet), pair, transform) >= 0.5)
    return field


def _onto_ct(image: sitk.Image, pair: ComparablePair, transform: RigidTransform) -> sitk.Image:
    return sitk.Resample(image, pair.ct, transform.to_sitk(), sitk.sitkLinear, 0.0)


def _ones(like: sitk.Image) -> sitk.Image:
    ones = sitk.Image(like.GetSize(), sitk.sitkFloat32) + 1.0
    ones.CopyInformation(like)
    return ones


def _array(image: sitk.Image) -> NDArray[np.float32]:
    return np.asarray(sitk.GetArrayViewFromImage(image))


def _volume(image: sitk.Image) -> float:
    return float(np.prod(image.GetSpacing()))
