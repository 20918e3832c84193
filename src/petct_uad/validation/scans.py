"""PET, CT and label of a study beside each other, from their voxels and where the headers put them.

What it measures is what a nuclear physician sees at once and no header says: a body whose mean SUV
is far from 1, a label on tissue without uptake, a CT of another region than the PET.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.study_store import Storable, StudyStore
from petct_uad.core.volumes import AIR_HU
from petct_uad.registration.masks import ct_body
from petct_uad.validation.tables import LesionRow, ScanRow
from petct_uad.volumes.boxes import Box

_COARSE_MM = 4.0  # fine enough for a body's mean, and a long PET of 1.6 mm has a 16th of the voxels
# Around a lesion: beyond what a PET of 6 mm smears out of it, up to what is still its surroundings.
_SHELL_MM = (5.0, 15.0)
_LONGEST_GAP = 3  # slices; further apart are two lesions
_OUTSIDE = float("nan")
_HERE = sitk.Transform()  # where the headers put it


@dataclass(frozen=True)
class MeasuredScans:
    """One row per study, and one per connected part of its label."""

    scans: tuple[ScanRow, ...] = ()
    lesions: tuple[LesionRow, ...] = ()


@dataclass(frozen=True)
class _Study(Storable):
    study_id: str
    folder: Path

    @property
    def sources(self) -> tuple[Path, ...]:
        """CT and PET, and a label where there is one."""
        return tuple(self.folder / f"{kind}.nii.gz" for kind in ("ct", "pet", "label"))

    @property
    def said(self) -> str:
        """Whose they are."""
        return self.study_id


def measure_scans(
    folder: Path, studies: Sequence[str], workers: int, store: StudyStore | None = None
) -> MeasuredScans:
    """Measure every study that has a CT and a PET below ``folder/<study_id>``, in sorted order."""
    paired = [
        _Study(study_id, folder / study_id)
        for study_id in sorted(studies)
        if all((folder / study_id / f"{kind}.nii.gz").is_file() for kind in ("ct", "pet"))
    ]
    parts = map_stored(
        _measure_study, paired, MeasuredScans, "measuring studies", workers=workers, store=store
    )
    return MeasuredScans(
        tuple(row for part in parts for row in part.scans),
        tuple(row for part in parts for row in part.lesions),
    )


def _measure_study(study: _Study) -> MeasuredScans:
    ct, pet = (sitk.ReadImage(study.folder / f"{kind}.nii.gz") for kind in ("ct", "pet"))
    label = _label(study.folder / "label.nii.gz", ct)
    coarse = _coarse(pet)
    body = ct_body(sitk.Resample(ct, coarse, _HERE, sitk.sitkLinear, AIR_HU))
    lesion = sitk.Resample(label, coarse, _HERE, sitk.sitkNearestNeighbor, 0)
    suv = _array(coarse)[(_array(body) > 0) & (_array(lesion) == 0)].astype(np.float64)
    scan = ScanRow(
        study_id=study.study_id,
        body_ml=len(suv) * _voxel_ml(coarse),
        body_suv_mean=float(suv.mean()) if len(suv) else 0.0,
        pet_in_ct=_part_in(pet, ct),
        ct_in_pet=_part_in(ct, pet),
        label_gaps=_gaps(_array(label) > 0),
    )
    return MeasuredScans((scan,), tuple(_lesions(study.study_id, label, pet, body)))


def _label(path: Path, ct: sitk.Image) -> sitk.Image:
    """Where there is a lesion: uint8, 0 everywhere for a study without a label."""
    if path.is_file():
        return sitk.ReadImage(path) > 0
    none = sitk.Image(ct.GetSize(), sitk.sitkUInt8)
    none.CopyInformation(ct)
    return none


def _coarse(pet: sitk.Image) -> sitk.Image:
    """Means over whole voxels, about 4 mm wide where the PET is finer."""
    factors = [max(1, round(_COARSE_MM / spacing)) for spacing in pet.GetSpacing()]
    fitting = [min(factor, count) for factor, count in zip(factors, pet.GetSize(), strict=True)]
    return sitk.BinShrink(pet, fitting)


def _part_in(image: sitk.Image, other: sitk.Image) -> float:
    """Part of an image's slices whose middle lies between the ends of another."""
    columns, rows, slices = image.GetSize()
    middles = [((columns - 1) / 2, (rows - 1) / 2, float(z)) for z in range(slices)]
    places = map(image.TransformContinuousIndexToPhysicalPoint, middles)
    depths = np.array([other.TransformPhysicalPointToContinuousIndex(mm)[2] for mm in places])
    return float(((depths >= -0.5) & (depths <= other.GetSize()[2] - 0.5)).mean())


def _gaps(label: NDArray[np.bool_]) -> int:
    """Empty slices between two labelled ones of which one lies by half over the other."""
    labelled = np.flatnonzero(label.any(axis=(1, 2)))
    return sum(
        int(after - before - 1)
        for before, after in pairwise(labelled)
        if 1 < after - before <= _LONGEST_GAP + 1 and _lie_over(label[before], label[after])
    )


def _lie_over(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    return int((one & other).sum()) >= min(int(one.sum()), int(other.sum())) / 2


def _lesions(
    study_id: str, label: sitk.Image, pet: sitk.Image, body: sitk.Image
) -> Iterator[LesionRow]:
    labelled = Box.occupied(label, (0, 0, 0))
    if not labelled:
        return
    found = sitk.RelabelComponent(sitk.ConnectedComponent(labelled.of(label), True))
    parts = labelled.put(found, sitk.Cast(label, found.GetPixelID()))
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.ComputePerimeterOff()
    shapes.Execute(found)
    slices = label.GetSize()[2]
    for number in shapes.GetLabels():
        box = _on_the_whole(shapes.GetBoundingBox(number), labelled)
        near = _near(parts, number, box, pet, body)
        suv = near.lesion_suv
        yield LesionRow(
            study_id=study_id,
            lesion=number,
            volume_ml=shapes.GetNumberOfPixels(number) * _voxel_ml(label),
            length_mm=max(n * mm for n, mm in zip(box[3:], label.GetSpacing(), strict=True)),
            in_pet=len(suv) / shapes.GetNumberOfPixels(number),
            at_the_end=box[2] == 0 or box[2] + box[5] == slices,
            suv_max=float(suv.max(initial=0.0)),
            suv_mean=float(suv.mean()) if len(suv) else 0.0,
            background_suv=near.background_suv,
        )


def _on_the_whole(box: Sequence[int], within: Box) -> tuple[int, ...]:
    """A box (x, y, z, and its sizes) in the voxels of the image that ``within`` is a part of."""
    first = (start + at for start, at in zip(within.first, box[:3], strict=True))
    return (*first, *box[3:])


@dataclass(frozen=True)
class _Near:
    """A lesion and what lies within its shell, each (z, y, x)."""

    lesion: NDArray[np.bool_]
    any_lesion: NDArray[np.bool_]
    distance_mm: NDArray[np.float32]  # from the lesion's surface, negative in it
    suv: NDArray[np.float64]  # NaN outside the PET
    body: NDArray[np.bool_]

    @property
    def lesion_suv(self) -> NDArray[np.float64]:
        """Of its voxels inside the PET, (n,)."""
        return self.suv[self.lesion & np.isfinite(self.suv)]

    @property
    def background_suv(self) -> float:
        """Median of the body around it; 0 where there is none."""
        nearest, farthest = _SHELL_MM
        shell = (self.distance_mm > nearest) & (self.distance_mm <= farthest)
        around = self.suv[shell & self.body & ~self.any_lesion & np.isfinite(self.suv)]
        return float(np.median(around)) if len(around) else 0.0


def _near(
    parts: sitk.Image, number: int, box: Sequence[int], pet: sitk.Image, body: sitk.Image
) -> _Near:
    around = parts[_sides(parts, box)]
    distance = sitk.SignedMaurerDistanceMap(
        around == number, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    suv = sitk.Resample(pet, around, _HERE, sitk.sitkLinear, _OUTSIDE)
    return _Near(
        lesion=_array(around) == number,
        any_lesion=_array(around) > 0,
        distance_mm=_array(distance),
        suv=_array(suv).astype(np.float64),
        body=_array(sitk.Resample(body, around, _HERE, sitk.sitkNearestNeighbor, 0)) > 0,
    )


def _sides(parts: sitk.Image, box: Sequence[int]) -> tuple[slice, ...]:
    """The box of one part (x, y, z, and its sizes) and its shell, as far as the image goes."""
    reach = [int(np.ceil(_SHELL_MM[1] / spacing)) for spacing in parts.GetSpacing()]
    sides = zip(box[:3], box[3:], reach, parts.GetSize(), strict=True)
    return tuple(slice(max(0, at - r), min(at + n + r, size)) for at, n, r, size in sides)


def _voxel_ml(image: sitk.Image) -> float:
    return float(np.prod(image.GetSpacing())) / 1000


def _array(image: sitk.Image) -> NDArray[Any]:
    return np.asarray(sitk.GetArrayFromImage(image))
