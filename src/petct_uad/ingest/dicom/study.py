"""One study from its files to its volumes: the work of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from petct_uad.core.errors import PairingError, RejectedInputError
from petct_uad.core.files import sha256_bytes
from petct_uad.core.volumes import write_volume
from petct_uad.ingest.dicom.contours import Contour
from petct_uad.ingest.dicom.geometry import Stack, overlap_mm, stack_slices
from petct_uad.ingest.dicom.index import Header, rejected_row
from petct_uad.ingest.dicom.labels import Label, choose_labels, label_from_contours, read_label
from petct_uad.ingest.dicom.series import (
    Merit,
    Series,
    StackKey,
    Study,
    ct_merits,
    pet_merits,
    ranked,
    same_frame,
    scanner_name,
    slices_within,
    stack_key,
    why_lost,
    why_no_volume,
)
from petct_uad.ingest.dicom.volumes import Volume, read_ct, read_pet
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.tables import InstanceRow, RejectedRow, SeriesRow, StudyRow

_FRAME_SHARED = (
    "another PatientID has the same Frame of Reference UID (0020,0052), but no slice and no start "
    "of a scan in common"
)


@dataclass(frozen=True)
class StudyTask:
    """What a worker process gets."""

    raw: Path
    volumes: Path  # the folder that receives <study_id>/*.nii.gz
    study_id: str  # a pseudonym
    study: Study
    params: IngestParams
    contours: tuple[Contour, ...] = ()  # its lines of labels.csv, where these are asked for
    frame_shared: bool = False  # another PatientID has its Frame of Reference UID


@dataclass(frozen=True)
class StudyResult:
    """What it hands back; ``row`` is None where the study is refused."""

    row: StudyRow | None
    series: tuple[SeriesRow, ...]
    instances: tuple[InstanceRow, ...]
    rejected: tuple[RejectedRow, ...]
    passed_over: tuple[str, ...]  # names in label objects that are no lesion by ingest.label_roi
    slices: tuple[str, ...] = ()  # hashes of their voxels, where the frame of reference is shared


@dataclass(frozen=True)
class _Use:
    role: str
    reason: str


@dataclass
class _Log:
    """What is learnt about each series on the way, even when the study is refused in the end."""

    uses: dict[StackKey, _Use] = field(default_factory=dict)
    stacks: dict[StackKey, Stack] = field(default_factory=dict)
    rejected: list[RejectedRow] = field(default_factory=list)

    def refuse(self, key: StackKey, error: RejectedInputError) -> None:
        self.uses[key] = _Use("unused", f"refused ({error.code}): {error.found}")
        self.rejected.append(rejected_row(error))


@dataclass(frozen=True)
class _Choice:
    role: str
    read: Callable[[Path, Stack], Volume]
    merits: Callable[[Stack], tuple[Merit, ...]]


@dataclass(frozen=True)
class _Images:
    ct: Volume
    pet: Volume
    label: Label | None


def ingest_study(task: StudyTask) -> StudyResult:
    """Choose, read and write one study's CT, PET and label; refusals come back as rows."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    log = _Log()
    try:
        images = _read(task, log)
    except RejectedInputError as error:
        log.rejected.append(rejected_row(error))
        return _refused(task.study, log, error)
    _write(task.volumes / task.study_id, images)
    return _accepted(task, log, images)


def _read(task: StudyTask, log: _Log) -> _Images:
    pets = _stacks(task, "PT", log)
    read = partial(read_pet, kind=task.params.suv)
    pet = _first_readable(task, pets, _Choice("pet", read, pet_merits), log)
    cts = _overlapping(_stacks(task, "CT", log), pet.stack, log)
    by_pet = partial(ct_merits, pet=pet.stack)
    ct = _first_readable(task, cts, _Choice("ct", read_ct, by_pet), log)
    return _Images(ct, pet, _label(task, ct.stack, pet.stack, log))


def _stacks(task: StudyTask, modality: str, log: _Log) -> list[Stack]:
    stacks = []
    for series in task.study.of(modality):
        unfit = why_no_volume(series)
        log.uses[series.key] = _Use("unused", unfit or "not chosen")
        if unfit:
            continue
        try:
            stack = stack_slices(series.headers, task.params.max_gap_mm)
        except RejectedInputError as error:
            log.refuse(series.key, error)
        else:
            log.stacks[series.key] = stack
            stacks.append(stack)
    return stacks


def _overlapping(stacks: Sequence[Stack], pet: Stack, log: _Log) -> list[Stack]:
    found = []
    for stack in stacks:
        if (overlap_mm(stack.grid, pet.grid) > 0).all() and slices_within(stack, pet):
            found.append(stack)
        else:
            log.uses[_key(stack)] = _Use("unused", "does not overlap the PET")
    return found


def _first_readable(task: StudyTask, stacks: Sequence[Stack], choice: _Choice, log: _Log) -> Volume:
    """The best stack that can be read; those that cannot are refused by name."""
    order = ranked(stacks, choice.merits)
    for place, stack in enumerate(order):
        try:
            volume = choice.read(task.raw, stack)
        except RejectedInputError as error:
            log.refuse(_key(stack), error)
            continue
        reason = _why_chosen(stack, choice.role, len(stacks), place)
        log.uses[_key(stack)] = _Use(choice.role, reason)
        for loser in order[place + 1 :]:
            lost = why_lost(choice.merits(stack), choice.merits(loser))
            log.uses[_key(loser)] = _Use("unused", lost)
        return volume
    raise _no_partner(task.study, choice.role, log)


def _why_chosen(stack: Stack, role: str, candidates: int, place: int) -> str:
    if candidates == 1:
        return f"the only usable {role.upper()}"
    if place:
        return "the best of those that could be read"
    if role == "ct":
        return f"best of {candidates}: frame of reference, then slices over the PET, then ORIGINAL"
    corrected = "ATTN" in stack.headers[0].corrected_image
    return f"best of {candidates}: {'attenuation corrected' if corrected else 'most slices'}"


def _no_partner(study: Study, role: str, log: _Log) -> PairingError:
    modality = {"ct": "CT", "pet": "PT"}[role]
    reasons = [log.uses[series.key].reason for series in study.of(modality)]
    return PairingError(
        study.uid,
        found=f"no usable {role.upper()} for patient {study.patient}: "
        + ("; ".join(reasons) or "no such series"),
        expected="one CT and one PET that overlap, in one study",
        advice="Add the missing series, or see the rows about its series.",
    )


def _label(task: StudyTask, ct: Stack, pet: Stack, log: _Log) -> Label | None:
    series = task.study.of("SEG", "RTSTRUCT")
    headers, reason = choose_labels(series, ct, pet, task.params.labels)
    lost = f"a label object that {reason} was taken" if headers else "not asked for"
    lost += f" (ingest.labels: {task.params.labels})"
    for item in series:
        taken = any(header in headers for header in item.headers)
        log.uses[item.key] = _Use("label", reason) if taken else _Use("unused", lost)
    if task.contours:
        return label_from_contours(task.contours, ct, pet, task.params)
    return read_label(task.raw, headers, ct, pet, task.params) if headers else None


def _write(folder: Path, images: _Images) -> None:
    folder.mkdir(parents=True)
    found = {"ct": images.ct, "pet": images.pet, "label": images.label}
    with ThreadPoolExecutor() as pool:  # compressing lets other threads run
        written = [
            pool.submit(write_volume, item.image, folder / f"{name}.nii.gz")
            for name, item in found.items()
            if item is not None
        ]
    for each in written:
        each.result()


def _accepted(task: StudyTask, log: _Log, images: _Images) -> StudyResult:
    study = task.study
    ct, pet, label = images.ct.stack, images.pet.stack, images.label
    row = StudyRow(
        study_id=task.study_id,
        patient=study.patient,
        scanner=scanner_name(pet.headers[0]),
        ct_series_instance_uid=_uid(ct),
        pet_series_instance_uid=_uid(pet),
        label_series_instance_uid=(
            label.headers[0].series_instance_uid if label and label.headers else ""
        ),
        label_kind=label.kind if label else "none",
        lesion_kind="+".join(label.lesions) if label and label.lesions else "none",
        ct_slices=len(ct.headers),
        pet_slices=len(pet.headers),
        same_frame_of_reference=same_frame(ct, pet),
        notes="; ".join([*_notes(images), *([_FRAME_SHARED] if task.frame_shared else [])]),
        suv_kind=task.params.suv,
    )
    return StudyResult(
        row,
        _series_rows(study, log, row.study_id),
        _instance_rows(study, row.study_id, images),
        tuple(log.rejected),
        label.passed_over if label and not label.lesions else (),
        _slice_hashes(images) if task.frame_shared else (),
    )


def _slice_hashes(images: _Images) -> tuple[str, ...]:
    """Of every CT and PET slice that is not of one value, as blank ones are."""
    arrays = (sitk.GetArrayViewFromImage(volume.image) for volume in (images.ct, images.pet))
    planes = (plane for array in arrays for plane in array if plane.min() < plane.max())
    return tuple(sorted({sha256_bytes(plane.tobytes()) for plane in planes}))


def _refused(study: Study, log: _Log, error: RejectedInputError) -> StudyResult:
    for key, use in log.uses.items():
        if use.role != "unused":
            log.uses[key] = _Use("unused", f"study refused ({error.code}): {error.found}")
    instances = _instance_rows(study, "", None)
    return StudyResult(None, _series_rows(study, log, ""), instances, tuple(log.rejected), ())


def _notes(images: _Images) -> Iterator[str]:
    ct, pet = images.ct.stack, images.pet.stack
    if not same_frame(ct, pet):
        yield "CT and PET have different Frame of Reference UIDs (0020,0052)"
    yield from _coverage(ct, pet)
    yield from _identity_notes((*ct.headers, *pet.headers))
    yield from images.ct.notes
    yield from images.pet.notes
    if images.label is not None:
        yield from images.label.notes
        if not images.label.lesions:
            names = ", ".join(images.label.passed_over) or "none"
            yield f"no name in the label object matches ingest.label_roi: {names}"


def _identity_notes(headers: Sequence[Header]) -> Iterator[str]:
    """What PS3.15 Annex E asks a de-identified image to say, where it does not."""
    if not all(header.identity.removed for header in headers):
        yield "Patient Identity Removed (0012,0062) is not YES"
    if any(header.identity.burned_in != "NO" for header in headers):
        yield "Burned In Annotation (0028,0301) is not NO: look for text in the pixels"


def _coverage(ct: Stack, pet: Stack) -> Iterator[str]:
    """Where the PET leaves CT slices uncovered, by more than half a slice; and missing slices."""
    normal = ct.grid.axes[:, 2]
    ct_ends, pet_ends = (
        np.sort((stack.grid.slice_centres() @ normal)[[0, -1]]) for stack in (ct, pet)
    )
    shifts = pet_ends - ct_ends
    tolerance = ct.grid.spacing_mm[2] / 2
    if shifts[0] > tolerance or shifts[1] < -tolerance:
        for verb, edge, shift in zip(("starts", "ends"), ("first", "last"), shifts, strict=True):
            side = "after" if shift > 0 else "before"
            yield f"the PET {verb} {abs(shift):.2f} mm {side} the CT's {edge} slice"
    alike = np.isclose(ct.grid.spacing_mm[2], pet.grid.spacing_mm[2], rtol=0.01)
    if alike and len(ct.headers) != len(pet.headers):
        yield f"{len(pet.headers)} PET slices for {len(ct.headers)} CT slices, both evenly spaced"


def _series_rows(study: Study, log: _Log, identifier: str) -> tuple[SeriesRow, ...]:
    return tuple(_series_row(series, log, identifier) for series in study.series)


def _series_row(series: Series, log: _Log, identifier: str) -> SeriesRow:
    use = log.uses.get(series.key, _Use("unused", "its study was refused before it was read"))
    first = series.first
    row_mm, column_mm = first.pixel_spacing_mm or (None, None)
    stack = log.stacks.get(series.key)
    return SeriesRow(
        series_instance_uid=series.uid,
        stack=first.stack,
        study_instance_uid=first.study_instance_uid,
        patient=first.patient,
        modality=first.modality,
        manufacturer=first.manufacturer,
        model_name=first.model_name,
        description=first.description,
        instances=len({header.file for header in series.headers}),
        rows=first.rows,
        columns=first.columns,
        spacing_x_mm=column_mm,
        spacing_y_mm=row_mm,
        spacing_z_mm=stack.grid.spacing_mm[2] if stack else None,
        study_id=identifier if use.role != "unused" else "",
        role=use.role,
        reason=use.reason,
    )


def _instance_rows(
    study: Study, identifier: str, images: _Images | None
) -> tuple[InstanceRow, ...]:
    used: dict[str, tuple[str, int | None]] = {}
    if images is not None:
        for role, volume in (("ct", images.ct), ("pet", images.pet)):
            for place, header in enumerate(volume.stack.headers):
                used[header.file] = (role, place if header.frame is None else None)
        used |= {h.file: ("label", None) for h in (images.label.headers if images.label else ())}
    files = {header.file: header for series in study.series for header in series.headers}
    return tuple(
        instance_row(header, identifier, *used.get(file, ("unused", None)))
        for file, header in files.items()
    )


def instance_row(
    header: Header, identifier: str = "", role: str = "unused", place: int | None = None
) -> InstanceRow:
    """One file's row of instances.csv."""
    return InstanceRow(
        file=header.file,
        sha256=header.sha256,
        sop_instance_uid=header.sop_instance_uid,
        series_instance_uid=header.series_instance_uid,
        study_id="" if role == "unused" else identifier,
        role=role,
        slice_index=place,
    )


def _uid(stack: Stack) -> str:
    return stack.headers[0].series_instance_uid


def _key(stack: Stack) -> StackKey:
    return stack_key(stack.headers[0])
