"""The patient's body on a CT: without couch, holes filled."""

from __future__ import annotations

import SimpleITK as sitk

_OPENING_MM = 6.0  # wider than a couch's shell, narrower than an arm
_SMALLEST_PART = 0.1  # of the largest part: keeps a second leg, drops a headrest


def body_mask(ct_hu: sitk.Image, threshold_hu: float) -> sitk.Image:
    """Body mask (uint8, 0 or 1) on the grid of ``ct_hu``.

    Args:
        ct_hu: (x, y, z) CT in HU.
        threshold_hu: lowest HU of soft tissue; lungs are filled in afterwards, slice by slice.
    """
    tissue = ct_hu > threshold_hu
    radius = [max(1, round(_OPENING_MM / spacing)) for spacing in ct_hu.GetSpacing()[:2]] + [0]
    opened = sitk.BinaryMorphologicalOpening(tissue, radius)
    parts = _large_parts(sitk.ConnectedComponent(opened))
    return _fill_slices(parts)


def _large_parts(components: sitk.Image) -> sitk.Image:
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(components)
    sizes = {label: statistics.GetNumberOfPixels(label) for label in statistics.GetLabels()}
    smallest = _SMALLEST_PART * max(sizes.values(), default=0)
    small = {label: 0 for label, size in sizes.items() if size < smallest}
    return sitk.ChangeLabel(components, small) > 0 if small else components > 0


def _fill_slices(mask: sitk.Image) -> sitk.Image:
    """Fill holes in each axial slice: lungs open to the volume's ends, never to its sides."""
    slices = [sitk.BinaryFillhole(mask[:, :, z]) for z in range(mask.GetSize()[2])]
    filled = sitk.Cast(sitk.JoinSeries(slices), sitk.sitkUInt8)
    filled.CopyInformation(mask)
    return filled
