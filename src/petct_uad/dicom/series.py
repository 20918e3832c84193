"""Which series of a study is its CT and which its PET."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from petct_uad.dicom.geometry import Stack
from petct_uad.dicom.index import Header, printable, rejected_row
from petct_uad.dicom.tables import RejectedRow
from petct_uad.errors import IdentityError

# Image types (0008,0008) that are no axial reconstruction.
_NO_VOLUME = ("LOCALIZER", "MIP", "MAX_IP", "PROJECTION IMAGE", "SCREEN SAVE", "DOSE", "FUSED")
_AXIAL_COSINE = 0.8  # between the slice normal and the patient's axis


@dataclass(frozen=True)
class Series:
    """The files of one SeriesInstanceUID, sorted by file."""

    headers: tuple[Header, ...]

    @property
    def first(self) -> Header:
        """The header that speaks for what all files share."""
        return self.headers[0]

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return self.first.series_instance_uid


@dataclass(frozen=True)
class Study:
    """The series of one StudyInstanceUID, with the label objects drawn on them."""

    uid: str
    series: tuple[Series, ...]

    def of(self, *modalities: str) -> tuple[Series, ...]:
        """The series of some modalities."""
        return tuple(item for item in self.series if item.first.modality in modalities)

    @property
    def patient(self) -> str:
        """PatientID of the images."""
        return (self.of("CT", "PT") or self.series)[0].first.patient


def group_studies(headers: Iterable[Header]) -> tuple[list[Study], list[RejectedRow]]:
    """Group headers by series and study; refuse what shares a UID or a PatientID and must not.

    A label object belongs to the study whose series it references, whatever its own study is.
    """
    by_series: dict[str, list[Header]] = {}
    for header in sorted(headers):
        by_series.setdefault(header.series_instance_uid, []).append(header)
    series, rejected = _consistent_series(by_series.values())
    home = {item.uid: item.first.study_instance_uid for item in series}
    by_study: dict[str, list[Series]] = {}
    for item in series:
        referenced = [home[uid] for uid in item.first.referenced_series if uid in home]
        by_study.setdefault((referenced or [item.first.study_instance_uid])[0], []).append(item)
    studies = [Study(uid, tuple(items)) for uid, items in sorted(by_study.items())]
    return studies, rejected


def refuse_mixed_patients(studies: Sequence[Study]) -> tuple[list[Study], list[RejectedRow]]:
    """Refuse studies of two patients, PatientIDs that two people share, and frames that two do.

    A Frame of Reference UID (PS3.3 C.7.4.1) is made for one examination of one patient: under two
    PatientIDs it is one person, who would stand on both sides of a split.
    """
    people: dict[str, set[tuple[str, str]]] = {}
    frames: dict[str, set[str]] = {}
    for study in studies:
        for header in _headers(study):
            people.setdefault(header.patient, set()).add(("birth date", header.birth_date))
            people[header.patient].add(("sex", header.sex if header.sex in {"M", "F"} else ""))
            frames.setdefault(header.frame_of_reference_uid, set()).add(header.patient)
    kept, rejected = [], []
    for study in studies:
        found = _mixture(study, people) or _shared_frame(study, frames)
        if found:
            rejected.append(_mixed_patients(study, found))
        else:
            kept.append(study)
    return kept, rejected


def why_no_volume(series: Series) -> str:
    """Why a series is no stack of axial slices; "" where it may be one."""
    kind = series.first.image_type
    unfit = [word for word in _NO_VOLUME if any(word in item for item in kind)]
    if unfit:
        return f"ImageType (0008,0008) says {unfit[0]}"
    cosines = series.first.orientation
    if cosines is not None:
        normal = np.cross(cosines[:3], cosines[3:])
        if abs(normal[2]) < _AXIAL_COSINE:
            return "not axial"
    return ""


def rank_pet(stacks: Iterable[Stack]) -> list[Stack]:
    """Attenuation-corrected first, then more slices, then by UID."""
    return sorted(
        stacks,
        key=lambda stack: (
            "ATTN" not in stack.headers[0].corrected_image,
            -len(stack.headers),
            stack.headers[0].series_instance_uid,
        ),
    )


def rank_ct(stacks: Iterable[Stack], pet: Stack) -> list[Stack]:
    """Same frame of reference as the PET first, then more slices over it, then ORIGINAL."""
    return sorted(
        stacks,
        key=lambda stack: (
            not same_frame(stack, pet),
            -slices_within(stack, pet),
            "ORIGINAL" not in stack.headers[0].image_type,
            stack.headers[0].series_instance_uid,
        ),
    )


def same_frame(one: Stack, other: Stack) -> bool:
    """Do two series share a Frame of Reference UID (0020,0052)?"""
    uid = one.headers[0].frame_of_reference_uid
    return bool(uid) and uid == other.headers[0].frame_of_reference_uid


def slices_within(ct: Stack, pet: Stack) -> int:
    """How many CT slices lie within the PET's extent along the PET's normal."""
    index = pet.grid.indices(ct.grid.slice_centres())[:, 2]
    return int(((index > -0.5) & (index < len(pet.headers) - 0.5)).sum())


def scanner_name(header: Header) -> str:
    """Manufacturer and model name in short: ``GE Discovery STE``."""
    words = header.manufacturer.split()
    maker = words[0] if words else "unknown"
    maker = maker if len(maker) <= 3 else maker.capitalize()
    model = header.model_name
    return printable(model if model.lower().startswith(maker.lower()) else f"{maker} {model}")


def _headers(study: Study) -> list[Header]:
    return [header for item in study.series for header in item.headers]


def _consistent_series(
    groups: Iterable[list[Header]],
) -> tuple[list[Series], list[RejectedRow]]:
    kept, rejected = [], []
    for group in groups:
        found = {(h.study_instance_uid, h.modality, h.patient) for h in group}
        if len(found) == 1:
            kept.append(Series(tuple(group)))
        else:
            rejected.append(_mixed_series(group[0].series_instance_uid, sorted(found)))
    return sorted(kept, key=lambda item: item.uid), rejected


def _mixed_series(uid: str, found: list[tuple[str, str, str]]) -> RejectedRow:
    return rejected_row(
        IdentityError(
            uid,
            found=" and ".join(f"study {s}, {m}, patient {p}" for s, m, p in found[:2]),
            expected="one study, modality and PatientID per SeriesInstanceUID (0020,000E)",
            advice="Give each series its own UID.",
        )
    )


def _mixture(study: Study, people: dict[str, set[tuple[str, str]]]) -> str:
    patients = sorted({header.patient for header in _headers(study)})
    if len(patients) > 1:
        return "PatientID (0010,0020) " + " and ".join(patients)
    told = people[patients[0]]
    for trait in ("birth date", "sex"):
        if len({value for name, value in told if name == trait and value}) > 1:
            return f"more than one {trait} under PatientID (0010,0020) {patients[0]}"
    return ""


def _shared_frame(study: Study, frames: dict[str, set[str]]) -> str:
    for uid in sorted({header.frame_of_reference_uid for header in _headers(study)} - {""}):
        if len(frames[uid]) > 1:
            patients = " and ".join(sorted(frames[uid]))
            return (
                f"Frame of Reference UID (0020,0052) {uid} under PatientID (0010,0020) {patients}"
            )
    return ""


def _mixed_patients(study: Study, found: str) -> RejectedRow:
    return rejected_row(
        IdentityError(
            study.uid,
            found=f"{found}; its first file is {min(_headers(study)).file}",
            expected="one patient per PatientID and per study",
            advice="Find out whose images these are and correct the PatientID.",
        )
    )
