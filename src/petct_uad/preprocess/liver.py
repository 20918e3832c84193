"""A reader's reference for uptake: a sphere in the right lobe of the liver, where CT shows one.

No network and no point that somebody wrote down: ``livers.csv`` of a phantom is its truth, and a
reader has none. What is taken for liver is soft tissue in the right half of the body that has lung
above it, in a piece thick enough for the sphere. Where the view holds no such piece, as in limbs or
in a chest cut above the diaphragm, there is no reference.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from petct_uad.core.volumes import AIR_HU
from petct_uad.volumes.resample import antialias, interpolate
from petct_uad.volumes.study import StudyVolumes

Mask = NDArray[np.bool_]
Point = tuple[float, float, float]

# Wahl et al. (2009), PERCIST 1.0: a sphere of 3 cm in the right lobe; a lesion takes up more than
# 1.5 times its mean plus 2 standard deviations.
SPHERE_RADIUS_MM = 15.0
_TIMES_MEAN, _PLUS_DEVIATIONS = 1.5, 2.0
_STEP_MM = 4.0  # of the grid on which a liver is looked for
_SAMPLE_MM = 2.0  # of the sphere
_LUNG_HU = -500.0  # below it, inside the body
_LEAST_LUNG_ML = 100.0  # of one piece; less is bowel gas or an airway
_LIVER_HU = (20.0, 160.0)  # fatty without contrast to the portal venous phase
_BESIDE_MIDLINE_MM = 30.0  # there the heart ends


def percist_threshold(study: StudyVolumes) -> float | None:
    """SUV above which uptake counts as a lesion's; None where CT shows no liver."""
    centre_mm = find_liver(study.ct, study.body)
    if centre_mm is None:
        return None
    suv = _sphere(study, centre_mm)
    return float(_TIMES_MEAN * suv.mean() + _PLUS_DEVIATIONS * suv.std())


def find_liver(ct: sitk.Image, body: sitk.Image) -> Point | None:
    """The place in the right lobe that lies deepest, in mm (LPS); None where none is deep enough.

    Args:
        ct: HU.
        body: uint8, 1 inside the body.
    """
    grid = _upright_grid(body)
    hu = _array(interpolate(antialias(ct, grid.GetSpacing(), grid), grid, outside=AIR_HU))
    inside = _array(sitk.Resample(body, grid, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
    depth_mm = _depth_mm(_below_right_lung(hu, inside))
    if depth_mm.max(initial=0.0) < SPHERE_RADIUS_MM:
        return None
    z, y, x = np.unravel_index(int(depth_mm.argmax()), depth_mm.shape)
    point: Point = grid.TransformIndexToPhysicalPoint((int(x), int(y), int(z)))
    return point


def _below_right_lung(hu: NDArray[np.float32], inside: Mask) -> Mask:
    """Soft tissue right of the heart with lung above it; axes (z, y, x) to head, back and left."""
    soft = ndimage.gaussian_filter(hu, 1.0, mode="nearest")
    low, high = _LIVER_HU
    tissue = inside & (soft >= low) & (soft <= high)
    lung_above = np.logical_or.accumulate(_lungs(hu, inside)[::-1])[::-1]
    right = np.zeros_like(inside)
    right[:, :, : max(int(_midline(inside) - _BESIDE_MIDLINE_MM / _STEP_MM), 0)] = True
    return np.asarray(tissue & lung_above & right)


def _lungs(hu: NDArray[np.float32], inside: Mask) -> Mask:
    pieces, count = ndimage.label(inside & (hu < _LUNG_HU))
    sizes_ml = np.bincount(pieces.ravel(), minlength=count + 1) * _STEP_MM**3 / 1000
    sizes_ml[0] = 0
    return np.asarray((sizes_ml >= _LEAST_LUNG_ML)[pieces])


def _midline(inside: Mask) -> float:
    """Mean column of the body."""
    columns = inside.sum((0, 1), dtype=np.float64)
    return float(columns @ np.arange(len(columns)) / max(columns.sum(), 1.0))


def _depth_mm(mask: Mask) -> NDArray[np.float64]:
    """Distance of each voxel to the nearest outside the mask.

    Above and below the grid everything continues as in its last plane, so that a liver of which the
    view shows the dome only counts.
    """
    depth_mm = np.zeros(mask.shape)
    rows, columns = (np.flatnonzero(mask.any((0, axis))) for axis in (2, 1))
    if not len(rows):
        return depth_mm
    # The nearest voxel outside lies at most one beyond the mask's own box.
    box = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    reach = int(SPHERE_RADIUS_MM // _STEP_MM) + 2
    wide = np.pad(mask[box], ((reach, reach), (0, 0), (0, 0)), mode="edge")
    distances = ndimage.distance_transform_edt(np.pad(wide, 1), sampling=_STEP_MM)
    depth_mm[box] = distances[reach + 1 : -reach - 1, 1:-1, 1:-1]
    return depth_mm


def _upright_grid(body: sitk.Image) -> sitk.Image:
    """An empty image around the body whose axes are those of the patient: left, back, head."""
    size = body.GetSize()
    corners = np.array([
        body.TransformContinuousIndexToPhysicalPoint(
            [-0.5 if index == 0 else count - 0.5 for index, count in zip(corner, size, strict=True)]
        )
        for corner in np.ndindex(2, 2, 2)
    ])  # fmt: skip
    low, high = corners.min(0), corners.max(0)
    counts = np.maximum(np.floor((high - low) / _STEP_MM), 1).astype(int)
    grid = sitk.Image(counts.tolist(), sitk.sitkUInt8)
    grid.SetSpacing([_STEP_MM] * 3)
    grid.SetOrigin((low + _STEP_MM / 2).tolist())
    return grid


def _sphere(study: StudyVolumes, centre_mm: Point) -> NDArray[np.float64]:
    """SUVs (n,) in the sphere, on a grid of 2 mm around its middle, as far as the view goes."""
    offsets = np.arange(-SPHERE_RADIUS_MM, SPHERE_RADIUS_MM + 1, _SAMPLE_MM)
    grid = sitk.Image([len(offsets)] * 3, sitk.sitkUInt8)
    grid.SetSpacing([_SAMPLE_MM] * 3)
    grid.SetOrigin([float(x) - SPHERE_RADIUS_MM for x in centre_mm])
    suv = _array(interpolate(study.pet, grid, study.transform)).astype(np.float64)
    squares = offsets**2
    in_sphere = squares[:, None, None] + squares[:, None] + squares <= SPHERE_RADIUS_MM**2
    view = sitk.Image(study.body.GetSize(), sitk.sitkUInt8) + 1
    view.CopyInformation(study.body)
    in_view = _array(sitk.Resample(view, grid, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
    return np.asarray(suv[in_sphere & in_view])


def _array(image: sitk.Image) -> NDArray[np.float32]:
    return np.asarray(sitk.GetArrayFromImage(image))
