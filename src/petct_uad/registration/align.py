"""Which alignment a study gets: the scanner's own, or a refinement that nothing speaks against."""

from __future__ import annotations

from dataclasses import replace

import SimpleITK as sitk

from petct_uad.core.errors import RegistrationError
from petct_uad.registration.acceptance import (
    Decision,
    confirm,
    decide,
    extend,
    find_mismatch,
    keep_identity,
)
from petct_uad.registration.metric_images import ComparablePair, make_comparable
from petct_uad.registration.null_pet import make_null
from petct_uad.registration.params import RegisterParams
from petct_uad.registration.refine import refine_affine, refine_bspline, refine_rigid
from petct_uad.registration.skin import visible_sides
from petct_uad.volumes.motion.rigid import RigidTransform


def align(
    ct: sitk.Image, pet: sitk.Image, params: RegisterParams, same_frame_of_reference: bool = True
) -> Decision:
    """Refine as ``register.refine`` asks; what cannot be refined stays as scanned.

    Args:
        ct: HU, cut to the slices that the PET covers.
        pet: SUVbw on its own grid.
        params: of the stage.
        same_frame_of_reference: do CT and PET share FrameOfReferenceUID (0020,0052)? If so, the
            scanner aligned them, and only a motion beyond the method's own bias counts. If not,
            nobody did, and ``auto`` refines.
    """
    pair = make_comparable(ct, pet)
    return replace(_aligned(pair, ct, params, same_frame_of_reference), skin=visible_sides(pair))


def _aligned(pair: ComparablePair, ct: sitk.Image, params: RegisterParams, one: bool) -> Decision:
    near = pair.near_body()
    if params.refine == "none":
        return keep_identity(near, "refinement is switched off (register.refine: none)", params)
    try:
        if params.refine == "auto" and one and not find_mismatch(near, params):
            return keep_identity(near, "aligned by the scanner, no mismatch is found", params)
        decision, fixed = _rigid(pair, near, params)
        if one and decision.accepted:
            null = make_null(pair, ct, params)
            bias = refine_rigid(null, params, fixed_axes=fixed)
            decision = confirm(near, decision, bias, params)
        return _further(pair, decision, params)
    except RegistrationError as error:
        return keep_identity(near, str(error), params, attempted=True)


def _rigid(
    pair: ComparablePair, near: ComparablePair, params: RegisterParams
) -> tuple[Decision, tuple[int, ...]]:
    """The rigid refinement, and the axes along which it was held."""
    decision = decide(near, refine_rigid(pair, params), params)
    if not 0 < len(decision.flat) < 3:
        return decision, ()
    # Mutual information says nothing along these axes: the scanner is believed there.
    fixed = decision.flat
    constrained = refine_rigid(pair, params, fixed_axes=fixed)
    return decide(near, constrained, params, fixed_axes=fixed), fixed


def _further(pair: ComparablePair, rigid: Decision, params: RegisterParams) -> Decision:
    """An affine map or a spline starts from an accepted rigid motion that no axis holds."""
    start = rigid.transform
    if not rigid.accepted or rigid.flat or not isinstance(start, RigidTransform):
        return rigid
    if params.refine not in ("affine", "bspline"):
        return rigid
    refine = refine_affine if params.refine == "affine" else refine_bspline
    try:
        return extend(pair, rigid, refine(pair, start, params), params)
    except RegistrationError as error:
        return replace(rigid, reason=f"{rigid.reason}; {error}")
