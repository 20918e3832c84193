"""Image formation: from a patient to what the CT and the PET scanner show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from petct_uad.phantom.canvas import Labels
from petct_uad.phantom.field import Window, field_of_view
from petct_uad.phantom.grids import Floats, Grid, Mask, Vector, axis, smooth_noise
from petct_uad.phantom.lesions import (
    Lesion,
    add_to_activity,
    add_to_ct,
    body_fraction,
    host_mask,
    lesion_box,
)
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.patient import CT_FIELD_MM, Patient
from petct_uad.phantom.render import render
from petct_uad.phantom.tissue import Tissue
from petct_uad.phantom.truth import RigidTruth
from petct_uad.phantom.vessels import Segment, grow_vessels, vessel_fraction

_FWHM_PER_SIGMA = 2.3548
SCATTER_SUV = 0.012  # what remains outside the body after correction
_ATTENUATION_PER_MM = 0.0096  # of water at 511 keV
_INTRINSIC_SHARE = 0.75  # of the FWHM; the rest is the reconstruction's post-filter


@dataclass(frozen=True)
class Volume:
    """Voxels (z, y, x) with the centre of the first one in the CT frame (LPS, mm)."""

    voxels: npt.NDArray[np.float32]
    origin_mm: Vector
    spacing_mm: Vector  # x, y, z


@dataclass(frozen=True)
class CtImage:
    """HU, and one mask per lesion on the same grid."""

    volume: Volume
    lesion_masks: tuple[Mask, ...]


@dataclass(frozen=True)
class PetImage:
    """SUVbw with noise, and the noise-free value at each lesion's centre."""

    volume: Volume
    lesion_suv: tuple[float, ...]


def make_ct(params: PhantomParams, patient: Patient) -> CtImage:
    """The CT: each slice is the mean of two renderings, blurred, with noise."""
    rng = patient.stream(params, 1)
    grid, slices = _ct_grids(params, patient)
    labels = render(patient.anatomy, grid, patient.body)
    hu = _attenuation(rng, patient, labels, grid)
    for lesion in patient.lesions:
        add_to_ct(lesion, hu, labels, grid)
    masks = tuple(_lesion_mask(lesion, labels, grid) for lesion in patient.lesions)
    hu = ndimage.gaussian_filter(_pair_mean(hu), (0.25, 0.55, 0.55))
    hu += _ct_noise(rng, patient, slices)
    origin = _rounded(
        patient.to_ct_frame((float(slices.x[0]), float(slices.y[0]), float(slices.z[0])))
    )
    pixel = CT_FIELD_MM / params.ct_matrix
    voxels = np.clip(np.rint(hu), -1024, 3071).astype(np.float32)
    whole = Volume(voxels, origin, (pixel, pixel, patient.ct_slice_mm))
    window = field_of_view(params, patient, origin, whole.spacing_mm, voxels.shape)
    seen = tuple(mask[:, window.rows, window.columns] for mask in masks)
    return CtImage(_seen(whole, window), seen)


def make_pet(params: PhantomParams, patient: Patient, corrected: bool = True) -> PetImage:
    """The PET: activity, point spread, known displacement, counting noise and post-filter.

    Not ``corrected`` for attenuation it is dark inside the body, and the skin and lungs stand out.
    """
    rng = patient.stream(params, 2)
    scanner = patient.plan.scanner
    sharp = activity(rng, patient)
    total = scanner.fwhm_mm / _FWHM_PER_SIGMA
    intrinsic = _INTRINSIC_SHARE * total
    seen = _blur(sharp, intrinsic, patient.grid.spacing)
    if not corrected:
        seen *= _transmitted(patient)
    origin, shape = _pet_geometry(rng, patient)
    spacing = (scanner.pet_pixel_mm, scanner.pet_pixel_mm, scanner.pet_slice_mm)
    expected = _displaced(patient, seen, origin, spacing, shape) + SCATTER_SUV
    counts = rng.poisson(expected * scanner.counts_per_suv)
    noisy = (counts / scanner.counts_per_suv).astype(np.float32)
    rest = float(np.sqrt(total**2 - intrinsic**2))
    voxels = _blur(noisy, rest, spacing[::-1])
    recovered = _blur(seen, rest, patient.grid.spacing)
    suv = tuple(_value_at(recovered, patient.grid, lesion.centre) for lesion in patient.lesions)
    window = field_of_view(params, patient, origin, spacing, voxels.shape)
    return PetImage(_seen(Volume(voxels, origin, spacing), window), suv)


def draw_on_pet(patient: Patient, image: PetImage) -> tuple[Mask, ...]:
    """One mask per lesion on the PET's grid: its voxels of which the lesion fills half."""
    grid, volume = patient.grid, image.volume
    masks = []
    for lesion in patient.lesions:
        fraction = np.zeros(grid.shape, dtype=np.float32)
        box = lesion_box(lesion, grid)
        fraction[box] = body_fraction(lesion, grid, box) * host_mask(lesion, patient.labels[box])
        moved = _displaced(
            patient, fraction, volume.origin_mm, volume.spacing_mm, volume.voxels.shape
        )
        masks.append(np.asarray(moved >= 0.5))
    return tuple(masks)


def to_sitk(truth: RigidTruth) -> sitk.Euler3DTransform:
    """The displacement as SimpleITK's transform, from the CT frame to the PET frame."""
    transform = sitk.Euler3DTransform()
    transform.SetCenter(truth.centre_mm)
    transform.SetRotation(*np.radians(truth.rotation_deg).tolist())
    transform.SetTranslation(truth.translation_mm)
    return transform


def deep_in_liver(patient: Patient) -> Vector | None:
    """The liver's deepest point inside the stack (anatomy coordinates), at least 15 mm deep."""
    top = patient.first_slice_mm + patient.ct_slice_mm * (patient.ct_slices - 1)
    inside = (patient.grid.z >= patient.first_slice_mm + 5) & (patient.grid.z <= top - 5)
    liver = patient.labels == Tissue.LIVER
    box = ndimage.find_objects(liver.astype(np.uint8))[0] if liver.any() else (slice(0, 1),) * 3
    depth = ndimage.distance_transform_edt(liver[box], sampling=patient.grid.spacing)
    depth[~inside[box[0]]] = 0.0
    k, j, i = np.unravel_index(int(np.argmax(depth)), depth.shape)
    if depth[k, j, i] < 15.0:
        return None
    part = patient.grid.part(box)
    return float(part.x[i]), float(part.y[j]), float(part.z[k])


def _seen(volume: Volume, window: Window) -> Volume:
    """The part of a volume that is in the field of view."""
    voxels = np.ascontiguousarray(volume.voxels[:, window.rows, window.columns])
    return Volume(voxels, window.origin(volume.origin_mm, volume.spacing_mm), volume.spacing_mm)


def _ct_grids(params: PhantomParams, patient: Patient) -> tuple[Grid, Grid]:
    """Two planes per slice for rendering, and the slices themselves; anatomy coordinates."""
    pixel = CT_FIELD_MM / params.ct_matrix
    cx, cy, _ = patient.anatomy.carina_mm
    start = -CT_FIELD_MM / 2 + pixel / 2
    x = axis(start - cx, pixel, params.ct_matrix)
    y = axis(start - cy, pixel, params.ct_matrix)
    z = patient.first_slice_mm
    half = patient.ct_slice_mm / 2
    fine = Grid(x, y, axis(z - half / 2, half, 2 * patient.ct_slices))
    return fine, Grid(x, y, axis(z, patient.ct_slice_mm, patient.ct_slices))


def _pair_mean(fine: Floats) -> Floats:
    """Mean of each two consecutive planes: the slice profile."""
    return np.asarray((fine[0::2] + fine[1::2]) / 2, dtype=np.float32)


def _attenuation(rng: np.random.Generator, patient: Patient, labels: Labels, grid: Grid) -> Floats:
    """HU with the textures of soft tissue, marrow and lung, and with the pulmonary vessels."""
    # The tree is drawn first: so it does not depend on how many voxels there are.
    segments = grow_vessels(rng, patient.anatomy.cavity_half_width)
    hu = patient.anatomy.tissues.hu_table()[labels]
    mottle = smooth_noise(rng, grid, 4.0)
    hu += np.array([_mottle_hu(t) for t in Tissue], dtype=np.float32)[labels] * mottle
    lung = labels == Tissue.LUNG
    dependent = np.broadcast_to((0.28 * grid.y)[None, :, None], grid.shape)
    vessel = vessel_fraction(segments + _mismatch_vessels(patient), grid)
    hu += np.where(lung, dependent, 0.0)
    hu += np.where(lung, vessel * (_vessel_hu(patient) - hu), 0.0)
    return hu


def _vessel_hu(patient: Patient) -> float:
    """Of the pulmonary vessels, which share the contrast of all blood."""
    contrast = patient.body is not None and patient.body.contrast
    return patient.anatomy.tissues.hu[Tissue.BLOOD] if contrast else 38.0


def _mottle_hu(tissue: Tissue) -> float:
    if tissue in (Tissue.AIR, Tissue.COUCH_FOAM, Tissue.COUCH_SHELL, Tissue.AIRWAY):
        return 0.0
    return {Tissue.LUNG: 16.0, Tissue.MARROW: 34.0, Tissue.CORTEX: 60.0}.get(tissue, 5.0)


def _mismatch_vessels(patient: Patient) -> list[Segment]:
    """Where only PET and CT together are wrong, the CT shows an ordinary vessel."""
    found = []
    for lesion in patient.lesions:
        if lesion.visibility == "mismatch":
            step = np.array(lesion.squeeze) * 0.55 * lesion.diameter
            low, high = np.array(lesion.centre) - step, np.array(lesion.centre) + step
            ends = [(float(p[0]), float(p[1]), float(p[2])) for p in (low, high)]
            found.append(Segment(ends[0], ends[1], (3.6, 2.6)))
    return found


def _lesion_mask(lesion: Lesion, labels: Labels, grid: Grid) -> Mask:
    """CT voxels of which the lesion's body fills at least half."""
    fraction = np.zeros(grid.shape, dtype=np.float32)
    box = lesion_box(lesion, grid)
    fraction[box] = body_fraction(lesion, grid, box) * host_mask(lesion, labels[box])
    return np.asarray(_pair_mean(fraction) >= 0.5)


def _ct_noise(rng: np.random.Generator, patient: Patient, slices: Grid) -> Floats:
    """Quantum noise: more in larger bodies and towards the centre."""
    size = np.sqrt(patient.anatomy.weight_kg / 75.0)
    radius = np.hypot(slices.x[None, None, :] / 220.0, slices.y[None, :, None] / 160.0)
    strength = patient.plan.scanner.ct_noise_hu * size * (0.55 + 0.75 * np.exp(-1.5 * radius**2))
    noise = smooth_noise(rng, slices, 1.3)
    return np.asarray(strength * noise, dtype=np.float32)


def activity(rng: np.random.Generator, patient: Patient) -> Floats:
    """SUVbw on the model grid, before any blur, with the tissues' own unevenness."""
    labels, grid = patient.labels, patient.grid
    suv = patient.anatomy.tissues.suv_table()[labels]
    uneven = np.full(len(Tissue), 0.06, dtype=np.float32)
    uneven[[Tissue.MYOCARDIUM, Tissue.MARROW, Tissue.LUNG]] = 0.16, 0.15, 0.12
    uneven[[Tissue.LIVER, Tissue.BLOOD]] = 0.02, 0.015
    suv *= np.clip(1.0 + uneven[labels] * smooth_noise(rng, grid, 9.0), 0.4, 1.6)
    hilum = np.exp(-((np.abs(grid.x) - 35.0) ** 2) / 900.0)[None, None, :]
    gravity = (0.0012 * grid.y)[None, :, None]
    suv += np.where(labels == Tissue.LUNG, 0.12 * hilum + gravity, 0.0).astype(np.float32)
    for lesion in patient.lesions:
        add_to_activity(lesion, suv, labels, grid)
    return suv


def _transmitted(patient: Patient) -> Floats:
    """What of the activity a PET without attenuation correction shows, by depth in the body."""
    body = ~np.isin(patient.labels, (Tissue.AIR, Tissue.COUCH_SHELL, Tissue.COUCH_FOAM))
    across = patient.grid.spacing[1:]
    depth_mm = np.stack([ndimage.distance_transform_edt(plane, sampling=across) for plane in body])
    lung = np.where(patient.labels == Tissue.LUNG, np.float32(1.6), np.float32(1.0))
    return np.asarray(lung * np.exp(-_ATTENUATION_PER_MM * depth_mm), dtype=np.float32)


def _blur(voxels: Floats, sigma_mm: float, spacing_zyx_mm: Vector) -> Floats:
    sigmas = [sigma_mm / step for step in spacing_zyx_mm]
    return np.asarray(ndimage.gaussian_filter(voxels, sigmas), dtype=np.float32)


def _pet_geometry(
    rng: np.random.Generator, patient: Patient
) -> tuple[Vector, tuple[int, int, int]]:
    """Origin in the CT frame and shape of a grid that covers the CT stack and is not aligned."""
    scanner = patient.plan.scanner
    half = scanner.pet_pixel_mm * (scanner.pet_matrix - 1) / 2
    dx, dy, dz = rng.uniform(0.1, 0.9, 3)
    below = patient.ct_slice_mm / 2 + float(dz) * scanner.pet_slice_mm
    low = patient.to_ct_frame((0.0, 0.0, patient.first_slice_mm - below))[2]
    covered = below + patient.ct_slice_mm * (patient.ct_slices - 0.5)
    slices = int(np.ceil(covered / scanner.pet_slice_mm)) + 1
    origin = _rounded((-half + float(dx), -half - float(dy), low))
    return origin, (slices, scanner.pet_matrix, scanner.pet_matrix)


def _rounded(point: Vector) -> Vector:
    """To the tenth of a micrometre, so that a header's decimal string holds it exactly."""
    x, y, z = (round(value, 4) for value in point)
    return x, y, z


def _displaced(
    patient: Patient, seen: Floats, origin: Vector, spacing: Vector, shape: tuple[int, int, int]
) -> Floats:
    """``seen`` on the PET grid: a voxel at q in the PET frame shows the activity at T^-1(q)."""
    grid = patient.grid
    start = patient.to_ct_frame((float(grid.x[0]), float(grid.y[0]), float(grid.z[0])))
    image = sitk.GetImageFromArray(seen)
    image.SetOrigin(start)
    image.SetSpacing(grid.spacing[::-1])
    inverse = to_sitk(patient.displacement).GetInverse()
    resampled = sitk.Resample(
        image, shape[::-1], inverse, sitk.sitkLinear, origin, spacing,
        (1, 0, 0, 0, 1, 0, 0, 0, 1), 0.0, sitk.sitkFloat32,
    )  # fmt: skip
    return np.asarray(sitk.GetArrayFromImage(resampled), dtype=np.float32)


def _value_at(volume: Floats, grid: Grid, point: Vector) -> float:
    start = (grid.z[0], grid.y[0], grid.x[0])
    index = [
        [(p - float(s)) / step] for p, s, step in zip(point[::-1], start, grid.spacing, strict=True)
    ]
    return float(ndimage.map_coordinates(volume, index, order=1)[0])
