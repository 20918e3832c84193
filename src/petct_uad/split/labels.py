"""From lesion masks to one row per slice, and from rows to splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from petct_uad.core.errors import SplitError
from petct_uad.core.files import read_table
from petct_uad.core.patient_split import SPLIT_CSV, Part, read_patient_split
from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.study_store import Storable, StudyStore
from petct_uad.core.volumes import voxel_count
from petct_uad.ingest.tables import UNLABELLED, PictureRow, StudyRow
from petct_uad.slices.tables import SliceRow, slice_id_of
from petct_uad.split.assigned import keep_assigned
from petct_uad.split.development import keep_test_patients
from petct_uad.split.lungs import Lungs
from petct_uad.split.params import SplitParams
from petct_uad.split.patients import apportion, assign_patients
from petct_uad.split.region import exclude_outside
from petct_uad.volumes.study import StudyFolder, VolumeFolders, read_lesion, read_mask

_TOLERANCE_MM = 1e-3  # slice positions come from decimal strings
_BYTES_PER_VOXEL = 12  # masks as read and as moved, and what moving one takes
_BYTES_PER_PROCESS = 200 << 20  # the interpreter and its libraries
_MIN_BODY_MM2 = 1000.0  # a disc of 36 mm: beyond the head, a foot or a hand there is only air


def split_slices(
    studies: Sequence[StudyRow],
    volumes: VolumeFolders,
    params: SplitParams,
    thoraxes: Mapping[str, Lungs] | None = None,
    *,
    workers: int = 1,
    store: StudyStore | None = None,
) -> list[SliceRow]:
    """Every slice with its label and split: those of their publisher, where it has assigned them.

    Args:
        studies: of ingest.
        volumes: of the studies.
        params: of the stage.
        thoraxes: by study_id; slices beyond are excluded. None: all slices count.
        workers: processes that measure labels.
        store: of which labels that were measured are taken.

    Raises:
        DatasetError: a mask cannot be read.
        RegistrationError: register ran on other volumes than those of ingest.
        SplitError: a split would have no patient or no normal slice, or the test split, as
            ``test_patients`` has it, no abnormal one.
    """
    if assigned := volumes.assigned:
        rows = keep_assigned(read_table(assigned, PictureRow), studies, params)
    else:
        labelled = label_slices(studies, volumes, params, thoraxes, workers=workers, store=store)
        used = [study for study in studies if thoraxes is None or thoraxes[study.study_id].found]
        rows = assign_splits(labelled, used, params, read_patient_split(volumes.native))
    return keep_test_patients(rows, params.test_patients)


def label_slices(
    studies: Sequence[StudyRow],
    volumes: VolumeFolders,
    params: SplitParams,
    thoraxes: Mapping[str, Lungs] | None = None,
    *,
    workers: int = 1,
    store: StudyStore | None = None,
) -> list[SliceRow]:
    """One row per slice of every registered study, not yet split, sorted by slice_id.

    Lesion areas are those of the native label, which no resampling has touched.

    Raises:
        DatasetError: a mask cannot be read.
        RegistrationError: register ran on other volumes than those of ingest.
    """
    tasks = [_Masks(volumes.study(study.study_id)) for study in studies]
    stacks = map_stored(
        _measure, tasks, _Stack, "measuring labels",
        workers=workers, store=store, bytes_of=_bytes_of,
    )  # fmt: skip
    rows: list[SliceRow] = []
    for study, stack in zip(studies, stacks, strict=True):
        lungs = None if thoraxes is None else thoraxes[study.study_id]
        rows += _rows_of(study, stack, params, lungs)
    return sorted(rows, key=lambda row: row.slice_id)


def assign_splits(
    rows: Sequence[SliceRow],
    studies: Sequence[StudyRow],
    params: SplitParams,
    given: Mapping[str, Part] | None = None,
) -> list[SliceRow]:
    """Give every slice its split and the reason for it.

    ``patient``: a patient is wholly train, val or test; train and val keep normal slices only.
    ``cmad``: the protocol of Xu et al. (2026), section 3: slices, not patients, are divided, so
    training normals and abnormal test slices come from the same people. It leaks.

    Args:
        rows: of every slice.
        studies: of those slices.
        params: of the stage.
        given: the split of each patient, as the data set brings it; folds and ``cmad`` divide anew.

    Raises:
        SplitError: a split would have no patient or no normal slice.
    """
    by_patient = _patients(studies, params, given or {})
    order = np.random.default_rng(params.seed).permutation(len(rows))
    usable = [i for i in order if rows[i].split != "excluded"]
    normals = [i for i in usable if rows[i].label == 0]
    by_slice = dict(zip(normals, apportion(len(normals), params), strict=True))
    result = [
        row
        if row.split == "excluded"
        else _place(row, by_patient[row.patient])
        if params.protocol == "patient"
        else _place(row, by_slice.get(i, "test"))
        for i, row in enumerate(rows)
    ]
    _check_every_split_has_normals(result)
    return result


def _patients(
    studies: Sequence[StudyRow], params: SplitParams, given: Mapping[str, Part]
) -> Mapping[str, Part]:
    if params.protocol != "patient":
        return {}
    if not given or params.folds > 1:
        return assign_patients(studies, params)
    patients = {study.patient for study in studies}
    unknown = sorted(patients - given.keys())
    if unknown:
        raise SplitError(
            f"{SPLIT_CSV}: found no split of {len(unknown)} patient(s), such as {unknown[0]}; "
            "expected every patient of the data set. Add them to the table in data/raw, or "
            "remove it."
        )
    return {patient: given[patient] for patient in sorted(patients)}


def _place(row: SliceRow, part: Part) -> SliceRow:
    if row.label == 1 and part != "test":
        return replace(row, split="excluded", reason=f"abnormal slice of a {part} patient")
    return replace(row, split=part, reason="abnormal" if row.label else "normal")


def _check_every_split_has_normals(rows: Sequence[SliceRow]) -> None:
    for part in ("train", "val", "test"):
        if not any(row.split == part and row.label == 0 for row in rows):
            raise SplitError(
                f"split {part!r} would hold no normal slice: check the labels, "
                "split.train_fraction, split.val_fraction and split.guard_mm; or the data set's "
                f"own {SPLIT_CSV}, without which the fractions say who goes where"
            )


@dataclass(frozen=True)
class _Masks(Storable):
    folder: StudyFolder

    @property
    def sources(self) -> tuple[Path, ...]:
        """The body, and a label with the motion of what was drawn on the PET."""
        return self.folder.label_sources

    @property
    def said(self) -> str:
        """Nothing: areas are nobody's."""
        return ""


@dataclass(frozen=True)
class _Stack:
    """Slice positions (mm), lesion and body areas (mm2) of one study, each of as many slices."""

    z_mm: tuple[float, ...]
    area_mm2: tuple[float, ...]
    body_mm2: tuple[float, ...]


def _rows_of(
    study: StudyRow, stack: _Stack, params: SplitParams, lungs: Lungs | None
) -> list[SliceRow]:
    abnormal = np.array(stack.area_mm2) >= max(params.min_lesion_area_mm2, _TOLERANCE_MM)
    abnormal_z_mm = np.array(stack.z_mm)[abnormal]
    count = len(stack.z_mm)
    rows = [
        SliceRow(
            slice_id=slice_id_of(study.study_id, i),
            study_id=study.study_id,
            patient=study.patient,
            scanner=study.scanner,
            slice_index=i,
            z_mm=stack.z_mm[i],
            position=i / max(count - 1, 1),
            lesion_area_mm2=stack.area_mm2[i],
            label=int(abnormal[i]),
            split="",
            reason="",
        )
        for i in range(count)
    ]
    if lungs is not None:
        rows = [exclude_outside(row, lungs) for row in rows]
    return [
        row
        if row.split == "excluded"
        else replace(row, split="excluded", reason="hardly any body on the slice")
        if body_mm2 < _MIN_BODY_MM2
        else _exclude_doubtful(row, study, abnormal_z_mm, params)
        for row, body_mm2 in zip(rows, stack.body_mm2, strict=True)
    ]


def _exclude_doubtful(
    row: SliceRow, study: StudyRow, abnormal_z_mm: np.ndarray, params: SplitParams
) -> SliceRow:
    if row.label == 1:
        return row
    if row.lesion_area_mm2 > 0:
        return replace(row, split="excluded", reason="lesion smaller than min_lesion_area_mm2")
    nearest = np.min(np.abs(abnormal_z_mm - row.z_mm), initial=np.inf)
    if nearest <= params.guard_mm + _TOLERANCE_MM:
        return replace(row, split="excluded", reason="within guard_mm of an abnormal slice")
    if study.finding == UNLABELLED and params.unlabelled == "exclude":
        return replace(row, split="excluded", reason="study of which no label says what is healthy")
    return row


def _measure(masks: _Masks) -> _Stack:
    body = read_mask(masks.folder.body)
    count = body.GetSize()[2]
    z_mm = tuple(body.TransformIndexToPhysicalPoint((0, 0, i))[2] for i in range(count))
    lesion = read_lesion(masks.folder, body)
    area_mm2 = (0.0,) * count if lesion is None else _areas_mm2(lesion)
    return _Stack(z_mm, area_mm2, _areas_mm2(body))


def _areas_mm2(mask: sitk.Image) -> tuple[float, ...]:
    x_mm, y_mm, _ = mask.GetSpacing()
    pixels = sitk.GetArrayViewFromImage(mask).sum(axis=(1, 2), dtype=np.int64)
    return tuple((pixels * x_mm * y_mm).tolist())


def _bytes_of(masks: _Masks) -> int:
    return _BYTES_PER_PROCESS + _BYTES_PER_VOXEL * voxel_count(masks.folder.body)
