"""Uptake of livers whose place is known beforehand.

Known means that somebody said where, in ``livers.csv`` at the data set's root, as the phantom does.
No network and no heuristic looks for a liver in other data, because one that errs would accuse a
sound SUV scale; such studies have no row, and the report says of how many livers it speaks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from petct_uad.core.livers import LIVERS_CSV, LiverPlace, read_livers
from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.study_store import Storable, StudyStore
from petct_uad.ingest.pseudonyms import PUBLIC
from petct_uad.ingest.tables import IDENTITY, StudyRow
from petct_uad.validation.tables import Folders, LiverRow
from petct_uad.volumes.motion.transforms import read_transform
from petct_uad.volumes.study import VolumeFolders

# Wahl et al. (2009), PERCIST 1.0: a sphere of 3 cm in the right lobe.
_RADIUS_MM = 15.0
_LEAST_PART = 0.5  # of the sphere inside the PET


@dataclass(frozen=True)
class _Liver(Storable):
    study_id: str
    point_mm: tuple[float, float, float]  # in the CT frame
    motion: Path
    pet: Path

    @property
    def sources(self) -> tuple[Path, ...]:
        """Motion and PET."""
        return self.motion, self.pet

    @property
    def said(self) -> str:
        """Whose it is, and where."""
        return json.dumps([self.study_id, *self.point_mm])


@dataclass(frozen=True)
class _Measured:
    row: LiverRow | None  # None where too little of it lies in the PET


def measure_livers(
    folders: Folders,
    studies: Sequence[StudyRow],
    workers: int = 1,
    store: StudyStore | None = None,
) -> list[LiverRow]:
    """One row per study whose liver is known and lies in the PET, sorted by study_id.

    Raises:
        DatasetError: ``livers.csv`` is no such table.
    """
    known = _known(folders)
    tasks = [
        _Liver(
            study.study_id, known[study.patient].point_mm, *_volume_files(folders, study.study_id)
        )
        for study in sorted(studies)
        if study.patient in known
    ]
    found = map_stored(
        _measure_liver, tasks, _Measured, "measuring livers", workers=workers, store=store
    )
    return [item.row for item in found if item.row is not None]


def liver_files(folders: Folders, rows: Sequence[LiverRow]) -> list[Path]:
    """What the rows were measured on: ``livers.csv``, and motion and PET of each study."""
    volumes = [file for row in rows for file in _volume_files(folders, row.study_id)]
    return [folders.raw / LIVERS_CSV, *volumes] if rows else []


def _known(folders: Folders) -> dict[str, LiverPlace]:
    """Places by pseudonym; empty under a secret key, whose names cannot be worked out."""
    identity = json.loads((folders.interim / "ingest" / IDENTITY).read_text(encoding="utf-8"))
    if identity["pseudonyms"] != PUBLIC.kind:
        return {}
    return {PUBLIC.patient(place.patient): place for place in read_livers(folders.raw)}


def _measure_liver(liver: _Liver) -> _Measured:
    centre_mm = read_transform(liver.motion).apply(np.array([liver.point_mm]))[0]
    pet = sitk.ReadImage(liver.pet)
    suv = _sphere(pet, centre_mm)
    whole = 4 / 3 * np.pi * _RADIUS_MM**3 / np.prod(pet.GetSpacing())
    if len(suv) < _LEAST_PART * whole:
        return _Measured(None)
    return _Measured(LiverRow(liver.study_id, len(suv), float(suv.mean()), float(suv.std())))


def _volume_files(folders: Folders, study_id: str) -> tuple[Path, Path]:
    study = VolumeFolders.of(folders.interim).study(study_id)
    return study.transform, study.pet


def _sphere(pet: sitk.Image, centre_mm: np.ndarray) -> np.ndarray:
    """SUVs of the voxels whose centres lie in the sphere, (n,) float64."""
    centre = np.array(pet.TransformPhysicalPointToContinuousIndex(centre_mm.tolist()))
    spacing_mm = np.array(pet.GetSpacing())
    x, y, z = (
        ((np.arange(count) - middle) * step_mm) ** 2
        for count, middle, step_mm in zip(pet.GetSize(), centre, spacing_mm, strict=True)
    )
    inside = z[:, None, None] + y[None, :, None] + x[None, None, :] <= _RADIUS_MM**2
    return np.asarray(sitk.GetArrayViewFromImage(pet)[inside], dtype=np.float64)
