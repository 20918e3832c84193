"""Which alignment a study gets: the scanner's own, or a refinement that nothing speaks against."""

from __future__ import annotations

from dataclasses import replace

import SimpleITK as sitk

from petct_uad.core.errors import RegistrationError
from petct_uad.registration.acceptance import Decision, decide, extend, find_mismatch, keep_identity
from petct_uad.registration.metric_images import ComparablePair, make_comparable
from petct_uad.registration.params import RegisterParams
from petct_uad.registration.refine import refine_affine, refine_bspline, refine_rigid


def align(
    ct: sitk.Image, pet: sitk.Image, params: RegisterParams, same_frame_of_reference: bool = True
) -> Decision:
    """Refine as ``register.refine`` asks; what cannot be refined stays as scanned.

    Args:
        ct: HU, cut to the slices that the PET covers.
        pet: SUVbw on its own grid.
        params: of the stage.
        same_frame_of_reference: do CT and PET share FrameOfReferenceUID (0020,0052)? If not, no
            scanner aligned them, and ``auto`` refines.
    """
    pair = make_comparable(ct, pet)
    if params.refine == "none":
        return keep_identity(pair, "refinement is switched off (register.refine: none)", params)
    try:
        if params.refine == "auto" and same_frame_of_reference and not find_mismatch(pair, params):
            return keep_identity(pair, "aligned by the scanner, no mismatch is found", params)
        return _refined(pair, params)
    except RegistrationError as error:
        return keep_identity(pair, str(error), params, attempted=True)


def _refined(pair: ComparablePair, params: RegisterParams) -> Decision:
    """Rigid first; an affine map or a spline starts from an accepted rigid motion only.

    An affine map or a spline can't be held along an axis, so a flat one rules them out.
    """
    rigid = refine_rigid(pair, params)
    decision = decide(pair, rigid, params)
    if 0 < len(decision.flat) < 3:
        # Mutual information says nothing along these axes: the scanner is believed there.
        constrained = refine_rigid(pair, params, fixed_axes=decision.flat)
        return decide(pair, constrained, params, fixed_axes=decision.flat)
    if params.refine not in ("affine", "bspline") or not decision.accepted:
        return decision
    refine = refine_affine if params.refine == "affine" else refine_bspline
    try:
        return extend(pair, decision, refine(pair, rigid, params), params)
    except RegistrationError as error:
        return replace(decision, reason=f"{decision.reason}; {error}")
