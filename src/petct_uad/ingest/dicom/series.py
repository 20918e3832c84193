"""Which series of a study is its CT and which its PET."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from petct_uad.core.errors import IdentityError
from petct_uad.ingest.dicom.geometry import (
    COSINE_TOLERANCE,
    SAME_PLACE_MM,
    SPACING_TOLERANCE_MM,
    Stack,
)
from petct_uad.ingest.dicom.index import Header, printable, rejected_row
from petct_uad.ingest.tables import RejectedRow

# Image types (0008,0008) that are no axial reconstruction.
_NO_VOLUME = ("LOCALIZER", "MIP", "MAX_IP", "PROJECTION IMAGE", "SCREEN SAVE", "DOSE", "FUSED")
_AXIAL_COSINE = 0.8  # between the slice normal and the patient's axis

# A date and a time of day, as far as neither was blanked.
_MOMENT = re.compile(r"\d{8}(?!000000)\d{6}")

StackKey = tuple[str, int]


@dataclass(frozen=True)
class Series:
    """The files of one SeriesInstanceUID, or one stack of its slices; sorted by file."""

    headers: tuple[Header, ...]

    @property
    def first(self) -> Header:
        """The header that speaks for what all files share."""
        return self.headers[0]

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return self.first.series_instance_uid

    @property
    def key(self) -> StackKey:
        """What tells it from every other stack."""
        return stack_key(self.first)


@dataclass(frozen=True)
class Merit:
    """One criterion of a choice; more is better."""

    name: str
    value: int


@dataclass(frozen=True, order=True)
class _Scan:
    frame: str
    modality: str
    start: str  # date and time


@dataclass(frozen=True)
class Study:
    """The series of one StudyInstanceUID, with the label objects drawn on them."""

    uid: str
    series: tuple[Series, ...]

    def of(self, *modalities: str) -> tuple[Series, ...]:
        """The series of some modalities."""
        return tuple(item for item in self.series if item.first.modality in modalities)

    @property
    def frames(self) -> set[str]:
        """Frame of Reference UIDs (0020,0052)."""
        return {header.frame_of_reference_uid for header in _headers(self)} - {""}

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
        own = (referenced or [item.first.study_instance_uid])[0]
        by_study.setdefault(own, []).extend(split_into_stacks(item))
    studies = [Study(uid, tuple(items)) for uid, items in sorted(by_study.items())]
    return studies, rejected


def refuse_mixed_patients(studies: Sequence[Study]) -> tuple[list[Study], list[RejectedRow]]:
    """Refuse studies of two patients, PatientIDs that two people share, and one of two PatientIDs.

    A Frame of Reference UID (PS3.3 C.7.4.1) is made for one examination of one patient. Under two
    PatientIDs, with scans of one modality that started in the same instant, it is one person, who
    would stand on both sides of a split. By itself it may be a constant, which some anonymisers
    write into every file: then ``dicom.twins`` compares the slices.
    """
    people: dict[str, set[tuple[str, str]]] = {}
    scans: dict[_Scan, set[str]] = {}
    for study in studies:
        for header in _headers(study):
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


def shared_frames(studies: Iterable[Study]) -> set[str]:
    """Frame of Reference UIDs (0020,0052) under more than one PatientID."""
    patients: dict[str, set[str]] = {}
    for study in studies:
        for uid in study.frames:
            patients.setdefault(uid, set()).add(study.patient)
    return {uid for uid, found in patients.items() if len(found) > 1}


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


def split_into_stacks(series: Series) -> list[Series]:
    """Tell apart the stacks of slices that share one SeriesInstanceUID.

    Slices of another matrix, PixelSpacing, ImageOrientationPatient or ImageType never belong
    together. Slices that lie closer than their own spacing are told apart by SliceThickness,
    AcquisitionNumber or acquisition time if that leaves whole stacks of the same anatomy: a bed of
    a PET, or one slice of a step-and-shoot CT, is no stack of its own.
    """
    if series.first.modality not in {"CT", "PT"}:
        return [series]
    slices = [item for header in series.headers for item in header.frames or (header,)]
    looks = _grouped(slices, _alike)
    stacks = [stack for look in looks for stack in _by_acquisition(look)]
    return [
        Series(tuple(replace(header, stack=number) for header in stack))
        for number, stack in enumerate(stacks, start=1)
    ]


def stack_key(header: Header) -> StackKey:
    """SeriesInstanceUID and the number of the stack in it."""
    return header.series_instance_uid, header.stack


def pet_merits(stack: Stack) -> tuple[Merit, ...]:
    """Attenuation-corrected first, then more slices."""
    corrected = "ATTN" in stack.headers[0].corrected_image
    return (
        Merit("attenuation correction (0028,0051)", int(corrected)),
        Merit("slices", len(stack.headers)),
    )


def ct_merits(stack: Stack, pet: Stack) -> tuple[Merit, ...]:
    """Same frame of reference as the PET first, then more slices over it, then ORIGINAL."""
    return (
        Merit("the PET's Frame of Reference UID (0020,0052)", int(same_frame(stack, pet))),
        Merit("slices over the PET", slices_within(stack, pet)),
        Merit("ORIGINAL in ImageType (0008,0008)", int("ORIGINAL" in stack.headers[0].image_type)),
    )


def ranked(stacks: Iterable[Stack], merits: Callable[[Stack], tuple[Merit, ...]]) -> list[Stack]:
    """The best first; equals by UID and number."""
    return sorted(
        stacks,
        key=lambda stack: (
            tuple(-merit.value for merit in merits(stack)),
            stack_key(stack.headers[0]),
        ),
    )


def why_lost(winner: Sequence[Merit], loser: Sequence[Merit]) -> str:
    """The first criterion in which a stack is worse than the one that was taken."""
    for best, own in zip(winner, loser, strict=True):
        if best.value != own.value:
            if best.value > 1:
                return f"fewer {best.name}: {own.value} against {best.value}"
            return f"lacks {best.name}, which the chosen one has"
    return "equal to the chosen one in every rule; the first UID is taken"


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


def _grouped(
    slices: Sequence[Header], alike: Callable[[Header, Header], bool]
) -> list[list[Header]]:
    """Groups in the order of their first slices; each slice is like the first of its group."""
    groups: list[list[Header]] = []
    for item in slices:
        home = next((group for group in groups if alike(group[0], item)), None)
        if home is None:
            groups.append([item])
        else:
            home.append(item)
    return groups


def _alike(one: Header, other: Header) -> bool:
    return (
        (one.rows, one.columns, one.image_type) == (other.rows, other.columns, other.image_type)
        and _close(one.pixel_spacing_mm, other.pixel_spacing_mm, SPACING_TOLERANCE_MM)
        and _close(one.orientation, other.orientation, COSINE_TOLERANCE)
    )


def _close(
    one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float
) -> bool:
    # A missing tag tells nothing apart: stack_slices will name it.
    return one is None or other is None or np.allclose(one, other, rtol=0, atol=tolerance)


def _by_acquisition(slices: list[Header]) -> list[list[Header]]:
    if not _crowded(slices):
        return [slices]
    for name in ("slice_thickness_mm", "acquisition_number", "acquisition_time"):
        same = functools.partial(_same, name=name)
        parts = _grouped(slices, same)
        if len(parts) > 1 and not any(map(_crowded, parts)) and _same_anatomy(parts):
            return parts
    return [slices]


def _same(one: Header, other: Header, name: str) -> bool:
    return bool(getattr(one, name) == getattr(other, name))


def _crowded(slices: Sequence[Header]) -> bool:
    """Do slices lie much closer than the usual distance between them?"""
    depths = _depths(slices)
    if depths is None or len(depths) < 2:
        return False
    gaps = np.diff(depths)
    return bool(gaps.min() < SAME_PLACE_MM or gaps.min() < 0.5 * np.median(gaps))


def _same_anatomy(parts: Sequence[Sequence[Header]]) -> bool:
    """Does each part have two slices, and lie by more than half within the largest?"""
    spans = [(depths[0], depths[-1]) for depths in map(_depths, parts) if depths is not None]
    low, high = max(spans, key=lambda span: span[1] - span[0])
    shared = [min(high, end) - max(low, start) - (end - start) / 2 for start, end in spans]
    return min(map(len, parts)) > 1 and min(shared) > 0


def _depths(slices: Sequence[Header]) -> NDArray[np.float64] | None:
    """Sorted positions along the normal of the first slice."""
    cosines = slices[0].orientation
    positions = [item.position_mm for item in slices if item.position_mm is not None]
    if cosines is None or len(positions) < len(slices):
        return None
    normal = np.cross(cosines[:3], cosines[3:])
    depths: NDArray[np.float64] = np.sort(np.asarray(positions) @ normal)
    return depths


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


def _scans(study: Study) -> set[_Scan]:
    """When the earliest slice of each modality was acquired; none where that is blanked."""
    starts: dict[tuple[str, str], str] = {}
    for header in _headers(study):
        key = header.frame_of_reference_uid, header.modality
        if header.frame_of_reference_uid and _MOMENT.match(header.acquisition_time):
            starts[key] = min(header.acquisition_time, starts.get(key, header.acquisition_time))
    return {_Scan(frame, modality, start) for (frame, modality), start in starts.items()}


def _same_scan(study: Study, scans: dict[_Scan, set[str]]) -> str:
    for scan in sorted(_scans(study)):
        if len(scans[scan]) > 1:
            patients = " and ".join(sorted(scans[scan]))
            return (
                f"Frame of Reference UID (0020,0052) {scan.frame} and a {scan.modality} acquired "
                f"at {scan.start} under PatientID (0010,0020) {patients}"
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
