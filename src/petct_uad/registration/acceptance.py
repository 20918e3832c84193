"""Whether a refinement is kept: the rules, and what they found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from petct_uad.registration.evidence import NullTest, beyond_null, gains, least_sharpness
from petct_uad.registration.grid import covered_slices
from petct_uad.registration.masks import centroid_mm, points_mm
from petct_uad.registration.metric_images import ComparablePair
from petct_uad.registration.params import RegisterParams
from petct_uad.registration.quality import (
    Alignment,
    View,
    common_field,
    information,
    measure,
    resample_under,
    sharpness,
    smallest_jacobian,
)
from petct_uad.volumes.motion.rigid import RigidTransform, Vector
from petct_uad.volumes.motion.transforms import BsplineTransform, Transform, displacement_mm

# Dice changes by this much when a skin line moves by a tenth of a voxel.
_OVERLAP_TOLERANCE = 0.005
_SMALLEST_COVERAGE = 0.5
# How far a transform is moved to see what mutual information does: about one PET voxel.
PROBE_MM = 4.0
# Nat of mutual information per mm2 of squared displacement: how fast it falls from its peak. Of 104
# known motions of the digital thorax (benchmarks/registration.py) 99 have more, the least 0.0007,
# along the body. Thighs, alike from slice to slice, have 0.0001 to 0.0027 there, or no peak at all,
# and drift by 7 to 15 mm where the annotated contours lie in one place. So below it the parts of
# the body are asked: in a thorax each has its peak in that place, in 17 of 18 thighs one has not.
_SMALLEST_SHARPNESS = 0.001
# The same unit. A peak of 0.005, as in-plane, shows a motion of 2.4 mm; one of 0.0015 some 3.3 mm.
_MISMATCH = 0.001
_IDENTITY = RigidTransform()


@dataclass(frozen=True)
class Decision:
    """Which transform is used, and why.

    Attributes:
        transform: the refinement where it was accepted, else the identity.
        attempted: was there a refinement to decide on?
        accepted: is ``transform`` that refinement?
        reason: why, in words.
        before: quality of the identity.
        after: quality of ``transform``.
        displacement_median_mm: of ``transform`` over the body.
        displacement_max_mm: likewise.
        flat: axes (0 is x) along which the refinement is at no peak, kept or not.
        null_test: how the refinement compares with the method's own bias, where that was asked.
        skin: sides of the body at which the field of view shows the skin, sorted.
    """

    transform: Transform
    attempted: bool
    accepted: bool
    reason: str
    before: Alignment
    after: Alignment
    displacement_median_mm: float
    displacement_max_mm: float
    flat: tuple[int, ...] = ()
    null_test: NullTest | None = None
    skin: tuple[str, ...] = ()


def decide(
    pair: ComparablePair,
    candidate: Transform,
    params: RegisterParams,
    fixed_axes: Sequence[int] = (),
) -> Decision:
    """Keep a refinement of the scanner's alignment only where nothing speaks against it.

    Args:
        pair: what is compared.
        candidate: the refinement.
        params: of the stage.
        fixed_axes: axes (0 is x) along which ``candidate`` was not sought, so that it need not be
            sharp.
    """
    start, end = resample_under(pair, _IDENTITY), resample_under(pair, candidate)
    flat = flat_axes(end, params)
    compared = _compared(start, end, params)
    objection = _objection(compared, params) or _too_flat(flat, fixed_axes)
    if objection:
        return replace(_kept(compared.before, objection, attempted=True), flat=flat)
    decision = replace(_accepted(compared), flat=flat)
    if not fixed_axes:
        return decision
    return replace(
        decision, reason=f"{decision.reason}; held along {_names(fixed_axes)}, too flat there"
    )


def extend(
    pair: ComparablePair, start: Decision, candidate: Transform, params: RegisterParams
) -> Decision:
    """Replace an accepted refinement by a further one, unless something speaks against that."""
    end = resample_under(pair, candidate)
    objection = _objection(_compared(resample_under(pair, start.transform), end, params), params)
    if objection:
        return replace(start, reason=f"{start.reason}; {candidate.kind} refused: {objection}")
    further = _accepted(_compared(resample_under(pair, _IDENTITY), end, params))
    return replace(further, null_test=start.null_test)


def confirm(
    pair: ComparablePair, refined: Decision, bias: Transform, params: RegisterParams
) -> Decision:
    """Keep an accepted refinement of a scanner's alignment only where it is more than bias.

    Args:
        pair: what is compared.
        refined: the accepted refinement.
        bias: the same refinement of the null test, in which nothing moved.
        params: of the stage.
    """
    test = beyond_null(pair, refined.transform, bias, params.null_factor)
    objection = _within_bias(test, params) or _at_one_side(pair, refined, params)
    if not objection:
        return replace(refined, null_test=test)
    kept = _kept(refined.before, objection, attempted=True)
    return replace(kept, flat=refined.flat, null_test=test)


def keep_identity(
    pair: ComparablePair, reason: str, params: RegisterParams, attempted: bool = False
) -> Decision:
    """The scanner's own alignment, measured."""
    view = resample_under(pair, _IDENTITY)
    return _kept(measure(view, view.field, params.histogram_bins), reason, attempted)


def find_mismatch(pair: ComparablePair, params: RegisterParams) -> bool:
    """Does a motion of 4 mm raise mutual information by more than 0.001 nat per mm2?

    The motions are shifts along each axis and turns about each, either way, with 4 mm of root mean
    square displacement over the body.
    """
    views = [resample_under(pair, transform) for transform in (_IDENTITY, *_probes(pair))]
    field = common_field(views)
    here, *found = (information(view, field, params.histogram_bins) for view in views)
    return max(found) > here + _MISMATCH * PROBE_MM**2


def flat_axes(view: View, params: RegisterParams) -> tuple[int, ...]:
    """The axes (0 is x) along which mutual information has no peak at the view's transform.

    It has one where it falls by 0.001 nat per mm2, or in every part of the body by ``null_share``
    of that.
    """
    sharp = sharpness(view, PROBE_MM, params.histogram_bins)
    dull = [axis for axis in range(3) if sharp[axis] < _SMALLEST_SHARPNESS]
    return tuple(axis for axis in dull if not _parts_agree(view, axis, params))


def _parts_agree(view: View, axis: int, params: RegisterParams) -> bool:
    least = least_sharpness(view, axis, PROBE_MM, params.histogram_bins)
    return least >= params.null_share * _SMALLEST_SHARPNESS


@dataclass(frozen=True)
class _Compared:
    """A candidate beside what it would replace, both measured where both see the PET."""

    view: View
    before: Alignment
    after: Alignment
    moved_mm: NDArray[np.float64]  # (n,), of each voxel of the body

    @property
    def gain(self) -> float:
        """By how much the candidate raises mutual information, in nats."""
        return self.after.mutual_information - self.before.mutual_information


def _compared(start: View, end: View, params: RegisterParams) -> _Compared:
    """In the common field neither gains by moving tissue out of sight."""
    field = common_field([start, end])
    return _Compared(
        view=end,
        before=measure(start, field, params.histogram_bins),
        after=measure(end, field, params.histogram_bins),
        moved_mm=displacement_mm(end.transform, points_mm(end.pair.body)),
    )


def _accepted(compared: _Compared) -> Decision:
    moved_mm = compared.moved_mm
    return Decision(
        transform=compared.view.transform,
        attempted=True,
        accepted=True,
        reason=f"mutual information rose by {compared.gain:.4f}",
        before=compared.before,
        after=compared.after,
        displacement_median_mm=float(np.median(moved_mm)) if len(moved_mm) else 0.0,
        displacement_max_mm=float(moved_mm.max(initial=0.0)),
    )


def _kept(quality: Alignment, reason: str, attempted: bool) -> Decision:
    return Decision(_IDENTITY, attempted, False, reason, quality, quality, 0.0, 0.0)


def _objection(compared: _Compared, params: RegisterParams) -> str:
    """What speaks against a candidate; empty where nothing does."""
    return (
        _folded(compared.view)
        or _too_far(compared, params)
        or _out_of_sight(compared.view)
        or _no_better(compared)
    )


def _folded(view: View) -> str:
    if not isinstance(view.transform, BsplineTransform):
        return ""
    least = smallest_jacobian(view.pair, view.transform)
    if least > 0:
        return ""
    return f"refinement would fold the body: Jacobian determinant down to {least:.3f}"


def _too_far(compared: _Compared, params: RegisterParams) -> str:
    moved_mm = compared.moved_mm.max(initial=0.0)
    if moved_mm <= params.max_displacement_mm:
        return ""
    allowed_mm = params.max_displacement_mm
    return f"refinement would move the body by {moved_mm:.1f} mm, allowed are {allowed_mm:g} mm"


def _out_of_sight(view: View) -> str:
    covered = covered_slices(view.pair.body, view.pair.pet, view.transform)
    if covered.count >= _SMALLEST_COVERAGE * covered.total:
        return ""
    return f"refinement would leave {covered.count} of {covered.total} slices covered by the PET"


def _no_better(compared: _Compared) -> str:
    if compared.gain <= 0:
        return f"refinement would change mutual information by {compared.gain:.4f}"
    before, after = compared.before.body_overlap, compared.after.body_overlap
    if after < before - _OVERLAP_TOLERANCE:
        return f"refinement would take body overlap from {before:.3f} to {after:.3f}"
    return ""


def _too_flat(flat: Sequence[int], fixed_axes: Sequence[int]) -> str:
    """A motion is known only along the axes where mutual information peaks; else it is drift."""
    drifting = [axis for axis in flat if axis not in fixed_axes]
    if not drifting:
        return ""
    return (
        f"refinement ends where mutual information falls by less than {_SMALLEST_SHARPNESS:g} nat "
        f"per mm2 along {_names(drifting)}: too flat to tell"
    )


def _within_bias(test: NullTest, params: RegisterParams) -> str:
    if test.excess_mm >= params.null_margin_mm:
        return ""
    return (
        f"refinement would move the body by {test.excess_mm:.1f} mm more than the method's bias "
        f"explains, which the null test puts at {test.bias_mm:.1f} mm; it takes "
        f"{params.null_margin_mm:g} mm"
    )


def _at_one_side(pair: ComparablePair, refined: Decision, params: RegisterParams) -> str:
    """A body that moved fits better on both of its sides and within; a bias betters one edge."""
    whole = refined.after.mutual_information - refined.before.mutual_information
    found = gains(pair, refined.transform, params.histogram_bins)
    behind = [gain for gain in found if gain.nats < params.null_share * whole]
    if not behind:
        return ""
    parts = ", ".join(f"{gain.nats:.4f} {gain.part}" for gain in behind)
    return (
        f"refinement would raise mutual information by {whole:.4f}, but not in every part of the "
        f"body: {parts}; a body that moves gains {params.null_share:g} of that in each"
    )


def _names(axes: Sequence[int]) -> str:
    return " and ".join("xyz"[axis] for axis in axes)


def _probes(pair: ComparablePair) -> Iterator[RigidTransform]:
    centre = centroid_mm(pair.body)
    points = points_mm(pair.body) - np.array(centre)
    for axis in range(3):
        radius = np.delete(points, axis, axis=1)
        arm_mm = math.sqrt(float((radius**2).sum(axis=1).mean())) if len(radius) else 1.0
        for sign in (-1.0, 1.0):
            yield RigidTransform(translation_mm=_along(axis, sign * PROBE_MM))
            turn_deg = math.degrees(PROBE_MM / arm_mm)
            yield RigidTransform(rotation_deg=_along(axis, sign * turn_deg), centre_mm=centre)


def _along(axis: int, value: float) -> Vector:
    x, y, z = (value if i == axis else 0.0 for i in range(3))
    return x, y, z
