"""Whose images are these? Nobody may stand on both sides of a split under two PatientIDs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from petct_uad.core.errors import IdentityError
from petct_uad.core.files import sha256_once
from petct_uad.ingest.dicom.series import DicomStudy
from petct_uad.ingest.dicom.study import StudyResult
from petct_uad.ingest.found import FoundRejection, FoundStudy
from petct_uad.ingest.rejections import rejected_row
from petct_uad.ingest.tables import NO_STUDY

# A date and a time of day, as far as neither was blanked.
_MOMENT = re.compile(r"\d{8}(?!000000)\d{6}")


@dataclass(frozen=True, order=True)
class _Scan:
    frame: str
    modality: str
    start: str  # date and time


def refuse_mixed_patients(
    studies: Sequence[DicomStudy],
) -> tuple[list[DicomStudy], list[FoundRejection]]:
    """Refuse studies of two patients, PatientIDs that two people share, and one of two PatientIDs.

    A Frame of Reference UID (PS3.3 C.7.4.1) is made for one examination of one patient. Under two
    PatientIDs, with scans of one modality that started in the same instant, it is one person, who
    would stand on both sides of a split. By itself it may be a constant, which some anonymisers
    write into every file: then :func:`refuse_twins` compares the slices.
    """
    people: dict[str, set[tuple[str, str]]] = {}
    scans: dict[_Scan, set[str]] = {}
    for study in studies:
        for header in study.headers:
            people.setdefault(header.patient, set()).add(("birth date", header.birth_date))
            people[header.patient].add(("sex", header.sex if header.sex in {"M", "F"} else ""))
        for scan in _scans(study):
            scans.setdefault(scan, set()).add(study.patient)
    kept, rejected = [], []
    for study in studies:
        found = _mixture(study, people) or _same_scan(study, scans)
        if found:
            rejected.append(_mixed_patients(study, found))
        else:
            kept.append(study)
    return kept, rejected


def shared_frames(studies: Iterable[DicomStudy]) -> set[str]:
    """Frame of Reference UIDs (0020,0052) under more than one PatientID."""
    patients: dict[str, set[str]] = {}
    for study in studies:
        for uid in study.frames:
            patients.setdefault(uid, set()).add(study.patient)
    return {uid for uid, found in patients.items() if len(found) > 1}


def refuse_twins(
    results: Sequence[StudyResult], volumes: Path
) -> tuple[list[StudyResult], list[FoundRejection]]:
    """Refuse studies of different PatientIDs whose CT or PET volumes are the same to the byte.

    Which of them carries the right PatientID nobody here can know, so none is kept, and their
    folders below ``volumes`` go. New UIDs do not hide a copy. Where the Frame of Reference UID is
    the same too, one slice in common is enough.
    """
    rows = [result.row for result in results if result.row is not None]
    twins = dict([*_sharing_slices(results), *_twins(rows, volumes)])
    kept: list[StudyResult] = []
    rejected: list[FoundRejection] = []
    for result in results:
        found = twins.get(result.row.study_id) if result.row is not None else None
        kept.append(_unused(result) if found else result)
        rejected += [_rejected(result, found)] if found else []
    for study_id in twins:
        shutil.rmtree(volumes / study_id)
    return kept, rejected


def _twins(rows: Sequence[FoundStudy], volumes: Path) -> Iterator[tuple[str, str]]:
    """The study_id of every twin, and what was found."""
    for name in ("ct", "pet"):
        for group in _alike({row: volumes / row.study_id / f"{name}.nii.gz" for row in rows}):
            yield from _under_two_ids(group, f"every voxel of the {name.upper()} in")


def _sharing_slices(results: Sequence[StudyResult]) -> Iterator[tuple[str, str]]:
    holders: dict[str, list[FoundStudy]] = {}
    for result in results:
        if result.row is not None:
            for slice_ in result.slices:
                holders.setdefault(slice_, []).append(result.row)
    for group in holders.values():
        yield from _under_two_ids(group, "every voxel of a slice in")


def _under_two_ids(group: Sequence[FoundStudy], what: str) -> Iterator[tuple[str, str]]:
    for row in group:
        other = next((r for r in group if r.patient != row.patient), None)
        if other is not None:
            yield row.study_id, f"{what} {other.study_id}"


def _alike(volumes: Mapping[FoundStudy, Path]) -> Iterator[list[FoundStudy]]:
    """Studies whose volume has the same bytes; only those of one size are hashed."""
    by_size: dict[int, list[FoundStudy]] = {}
    for row, path in volumes.items():
        by_size.setdefault(path.stat().st_size, []).append(row)
    for group in by_size.values():
        by_hash: dict[str, list[FoundStudy]] = {}
        for row in group if len(group) > 1 else ():
            by_hash.setdefault(sha256_once(volumes[row]), []).append(row)
        yield from by_hash.values()


def _rejected(result: StudyResult, found: str) -> FoundRejection:
    return rejected_row(
        IdentityError(
            result.series[0].study_instance_uid,
            found=f"{found}, under another PatientID (0010,0020)",
            expected="one PatientID per person: else a person stands on both sides of a split",
            advice="Find out whose images these are; remove one study or correct its PatientID.",
        )
    )


def _unused(result: StudyResult) -> StudyResult:
    reason = "study refused (identity): its images stand under two PatientIDs"
    return replace(
        result,
        row=None,
        series=tuple(row.lost(reason) for row in result.series),
        instances=tuple(
            row._replace(study_id=NO_STUDY, role="unused", slice_index=None)
            for row in result.instances
        ),
    )


def _mixture(study: DicomStudy, people: dict[str, set[tuple[str, str]]]) -> str:
    patients = sorted({header.patient for header in study.headers})
    if len(patients) > 1:
        return "PatientID (0010,0020) " + " and ".join(patients)
    told = people[patients[0]]
    for trait in ("birth date", "sex"):
        if len({value for name, value in told if name == trait and value}) > 1:
            return f"more than one {trait} under PatientID (0010,0020) {patients[0]}"
    return ""


def _scans(study: DicomStudy) -> set[_Scan]:
    """When the earliest slice of each modality was acquired; none where that is blanked."""
    starts: dict[tuple[str, str], str] = {}
    for header in study.headers:
        key = header.frame_of_reference_uid, header.modality
        if header.frame_of_reference_uid and _MOMENT.match(header.acquisition_time):
            starts[key] = min(header.acquisition_time, starts.get(key, header.acquisition_time))
    return {_Scan(frame, modality, start) for (frame, modality), start in starts.items()}


def _same_scan(study: DicomStudy, scans: dict[_Scan, set[str]]) -> str:
    for scan in sorted(_scans(study)):
        if len(scans[scan]) > 1:
            patients = " and ".join(sorted(scans[scan]))
            return (
                f"Frame of Reference UID (0020,0052) {scan.frame} and a {scan.modality} acquired "
                f"at {scan.start} under PatientID (0010,0020) {patients}"
            )
    return ""


def _mixed_patients(study: DicomStudy, found: str) -> FoundRejection:
    return rejected_row(
        IdentityError(
            study.uid,
            found=f"{found}; its first file is {min(study.headers).file}",
            expected="one patient per PatientID and per study",
            advice="Find out whose images these are and correct the PatientID.",
        )
    )
