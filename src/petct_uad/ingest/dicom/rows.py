"""What the tables say of one study: its files, its stacks, itself, and what was odd about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from petct_uad.ingest.dicom.choice import StudyImages, StudyLog, StudyTask, Use
from petct_uad.ingest.dicom.geometry import Stack
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.labels import Label
from petct_uad.ingest.dicom.merits import same_frame
from petct_uad.ingest.dicom.series import DicomStudy, Series, stack_key
from petct_uad.ingest.dicom.suv import SuvBasis
from petct_uad.ingest.dicom.volumes import Volume
from petct_uad.ingest.found import FoundInstance, FoundSeries, FoundStudy
from petct_uad.ingest.rejections import printable
from petct_uad.ingest.tables import LESION, NO_STUDY, UNLABELLED, StudyId

_FRAME_SHARED = (
    "another PatientID has the same Frame of Reference UID (0020,0052), but no slice and no start "
    "of a scan in common"
)


def study_row(task: StudyTask, images: StudyImages) -> FoundStudy:
    """A study's row of studies.csv."""
    study = task.study
    ct, pet, label = images.ct.stack, images.pet.stack, images.label
    return FoundStudy(
        study_id=task.study_id,
        patient=study.patient,
        scanner=_scanner_name(pet.headers[0]),
        ct_series_instance_uid=_uid(ct),
        pet_series_instance_uid=_uid(pet),
        label_series_instance_uid=(
            label.headers[0].series_instance_uid if label and label.headers else ""
        ),
        label_kind=label.kind if label else "none",
        lesion_kind=_lesion_kind(label),
        ct_slices=len(ct.headers),
        pet_slices=len(pet.headers),
        same_frame_of_reference=same_frame(ct, pet),
        notes="; ".join([*_notes(images), *([_FRAME_SHARED] if task.frame_shared else [])]),
        suv_kind=task.params.suv,
        label_drawn_on=label.drawn_on if label else "none",
        finding=label.finding if label else UNLABELLED,
    )


def _lesion_kind(label: Label | None) -> str:
    """The names of the lesions; "none" where there is none, whatever was looked for."""
    return "+".join(label.lesions) if label and label.finding == LESION else "none"


def _notes(images: StudyImages) -> Iterator[str]:
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


def series_rows(
    study: DicomStudy, log: StudyLog, study_id: StudyId, pet: Volume | None = None
) -> tuple[FoundSeries, ...]:
    """Of every stack, used or not; what the SUV rests on stands beside ``pet``'s."""
    rows = [_series_row(series, log, study_id) for series in study.series]
    if pet is not None and pet.suv is not None:
        read = {stack_key(stack.headers[0]) for stack in pet.stacks}
        rows = [
            _with_basis(row, pet.suv) if (row.series_instance_uid, row.stack) in read else row
            for row in rows
        ]
    return tuple(rows)


def _with_basis(row: FoundSeries, basis: SuvBasis) -> FoundSeries:
    return row._replace(
        reference_rule=basis.reference_rule,
        uptake_min=basis.uptake_min,
        half_life_min=basis.half_life_min,
        nuclide=basis.nuclide,
        dose_unit=basis.dose_unit,
        suv_assumed="; ".join(basis.assumed),
        suv_notes="; ".join(basis.notes),
    )


def unread_series(headers: Iterable[Header], listed: Collection[str]) -> Iterator[FoundSeries]:
    """Rows of the series that no study was read from: refused before, or labels without images.

    Args:
        headers: of every file that could be read.
        listed: SeriesInstanceUIDs that have their rows.
    """
    by_uid: dict[str, list[Header]] = {}
    for header in headers:
        if header.series_instance_uid not in listed:
            by_uid.setdefault(header.series_instance_uid, []).append(header)
    for found in by_uid.values():
        yield _series_row(Series(tuple(found)), StudyLog(), NO_STUDY)


def _series_row(series: Series, log: StudyLog, study_id: StudyId) -> FoundSeries:
    use = log.uses.get(series.key, Use("unused", "its study was refused before it was read"))
    first = series.first
    row_mm, column_mm = first.pixel_spacing_mm or (None, None)
    stack = log.stacks.get(series.key)
    return FoundSeries(
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
        study_id=study_id if use.role != "unused" else NO_STUDY,
        role=use.role,
        reason=use.reason,
    )


def instance_rows(
    study: DicomStudy, study_id: StudyId, images: StudyImages | None
) -> tuple[FoundInstance, ...]:
    """Of every file; without ``images`` none is used."""
    used: dict[str, tuple[str, int | None]] = {}
    if images is not None:
        for role, volume in (("ct", images.ct), ("pet", images.pet)):
            for stack in volume.stacks:
                for place, header in enumerate(stack.headers):
                    used[header.file] = (role, place if header.frame is None else None)
        used |= {h.file: ("label", None) for h in (images.label.headers if images.label else ())}
    files = {header.file: header for series in study.series for header in series.headers}
    return tuple(
        instance_row(header, study_id, *used.get(file, ("unused", None)))
        for file, header in files.items()
    )


def instance_row(
    header: Header, study_id: StudyId = NO_STUDY, role: str = "unused", place: int | None = None
) -> FoundInstance:
    """One file's row of instances.csv."""
    return FoundInstance(
        file=header.file,
        sha256=header.sha256,
        sop_instance_uid=header.sop_instance_uid,
        series_instance_uid=header.series_instance_uid,
        study_id=NO_STUDY if role == "unused" else study_id,
        role=role,
        slice_index=place,
    )


def _scanner_name(header: Header) -> str:
    """Manufacturer and model name in short: ``GE Discovery STE``."""
    words = header.manufacturer.split()
    maker = words[0] if words else "unknown"
    maker = maker if len(maker) <= 3 else maker.capitalize()
    model = header.model_name
    return printable(model if model.lower().startswith(maker.lower()) else f"{maker} {model}")


def _uid(stack: Stack) -> str:
    return stack.headers[0].series_instance_uid
