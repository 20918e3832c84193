"""PET and CT made comparable: coarse, windowed, with the region in which they are compared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import SimpleITK as sitk

from petct_uad.registration.masks import ct_body, pet_body
from petct_uad.registration.slabs import shrink
from petct_uad.volumes.boxes import Box

# The motion is sought to a fraction of a PET voxel of 3 to 5.5 mm: nothing finer is needed.
_SPACING_MM = 4.0
# Below: lungs apart from air. Above: all bone alike, so that metal does not stretch the histogram.
_CT_WINDOW_HU = (-1000.0, 250.0)
# Brain, bladder or a tumour must not squeeze everything else into one histogram bin.
_PET_CLIP_SUV = 8.0
_REGION_MARGIN_MM = 15.0


@dataclass(frozen=True)
class ComparablePair:
    """What mutual information looks at.

    Attributes:
        ct: float32, windowed HU, about 4 mm in-plane, the CT's slices.
        body: uint8, the body on the grid of ``ct``.
        region: uint8, the body and 15 mm of air around it, on the grid of ``ct``.
        pet: float32, square root of the clipped SUVbw, on the PET's grid.
        pet_body: uint8, the body on the PET's grid.
    """

    ct: sitk.Image
    body: sitk.Image
    region: sitk.Image
    pet: sitk.Image
    pet_body: sitk.Image

    def near_body(self) -> ComparablePair:
        """The pair whose CT and masks are cut in-plane to the region: all that is measured on."""
        box = Box.occupied(self.region, (0, 0, 0))
        if not box:
            return self
        (x, y, _), (width, height, _) = box.first, box.size
        ct, body, region = (
            image[x : x + width, y : y + height, :] for image in (self.ct, self.body, self.region)
        )
        return replace(self, ct=ct, body=body, region=region)


def make_comparable(ct: sitk.Image, pet: sitk.Image) -> ComparablePair:
    """Prepare a CT in HU and a PET in SUVbw, each on its own grid."""
    coarse = shrink(ct, _SPACING_MM)
    body = ct_body(coarse)
    margin = [round(_REGION_MARGIN_MM / spacing) for spacing in coarse.GetSpacing()[:2]]
    return ComparablePair(
        ct=sitk.Clamp(coarse, sitk.sitkFloat32, *_CT_WINDOW_HU),
        body=body,
        region=sitk.BinaryDilate(body, [*margin, 0]),
        # The root evens out the noise, whose variance grows with the SUV, and keeps hot spots down.
        pet=sitk.Sqrt(sitk.Clamp(pet, sitk.sitkFloat32, 0.0, _PET_CLIP_SUV)),
        pet_body=pet_body(pet),
    )
