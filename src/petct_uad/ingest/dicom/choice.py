"""Which stack of a study is its CT, which its PET, and which label object is drawn on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from petct_uad.core.errors import PairingError, RejectedInputError
from petct_uad.ingest.dicom.contours import Contour
from petct_uad.ingest.dicom.geometry import Stack, overlap_mm, stack_slices
from petct_uad.ingest.dicom.index import Header
from petct_uad.ingest.dicom.labels import Label, Looked, draw_labels, label_from_contours
from petct_uad.ingest.dicom.series import DicomStudy, Series, StackKey, stack_key
from petct_uad.ingest.dicom.suv import SuvOptions
from petct_uad.ingest.dicom.volumes import Volume, read_ct, read_pet
from petct_uad.ingest.found import FoundRejection
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.rejections import rejected_row
from petct_uad.ingest.tables import StudyId

# Image types (0008,0008) that are no axial reconstruction.
_NO_VOLUME = ("LOCALIZER", "MIP", "MAX_IP", "PROJECTION IMAGE", "SCREEN SAVE", "DOSE", "FUSED")
_AXIAL_COSINE = 0.8  # between the slice normal and the patient's axis


@dataclass(frozen=True)
class StudyTask:
    """What a worker process gets."""

    raw: Path
    volumes: Path  # the folder that receives <study_id>/*.nii.gz
    study_id: StudyId
    study: DicomStudy
    params: IngestParams
    contours: tuple[Contour, ...] = ()  # its lines of labels.csv, where these are asked for
    frame_shared: bool = False  # another PatientID has its Frame of Reference UID


@dataclass(frozen=True)
class _Merit:
    """One criterion of a choice; more is better."""

    name: str
    value: int


@dataclass(frozen=True)
class Use:
    """What became of a stack, and why."""

    role: str  # of tables.SERIES_ROLES
    reason: str


@dataclass
class StudyLog:
    """What is learnt about each series on the way, even when the study is refused in the end."""

    uses: dict[StackKey, Use] = field(default_factory=dict)
    stacks: dict[StackKey, Stack] = field(default_factory=dict)
    rejected: list[FoundRejection] = field(default_factory=list)

    def refuse(self, key: StackKey, error: RejectedInputError) -> None:
        """A stack cannot be used; its study may do without."""
        self.uses[key] = Use("unused", f"refused ({error.code}): {error.found}")
        self.rejected.append(rejected_row(error))

    def lose_all(self, reason: str) -> None:
        """The study is refused, and with it every stack that was chosen."""
        for key, use in self.uses.items():
            if use.role != "unused":
                self.uses[key] = Use("unused", reason)


@dataclass(frozen=True)
class _Choice:
    role: str
    read: Callable[[Path, Stack], Volume]
    merits: Callable[[Stack], tuple[_Merit, ...]]


@dataclass(frozen=True)
class StudyImages:
    """What was chosen and read."""

    ct: Volume
    pet: Volume
    label: Label | None


def choose_images(task: StudyTask, log: StudyLog) -> StudyImages:
    """Read the best CT, the best PET and the label that fits both.

    Raises:
        PairingError: no CT or no PET can be used.
        LabelError: the label cannot.
    """
    pets = _stacks(task, "PT", log)
    read = partial(read_pet, options=SuvOptions.of(task.params))
    pet = _first_readable(task, pets, _Choice("pet", read, _pet_merits), log)
    cts = _overlapping(_stacks(task, "CT", log), pet.stack, log)
    by_pet = partial(_ct_merits, pet=pet.stack)
    ct = _first_readable(task, cts, _Choice("ct", read_ct, by_pet), log)
    return StudyImages(ct, pet, _label(task, ct.stack, pet.stack, log))


def _stacks(task: StudyTask, modality: str, log: StudyLog) -> list[Stack]:
    stacks = []
    for series in task.study.of(modality):
        unfit = _why_no_volume(series)
        log.uses[series.key] = Use("unused", unfit or "not chosen")
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


def _overlapping(stacks: Sequence[Stack], pet: Stack, log: StudyLog) -> list[Stack]:
    found = []
    for stack in stacks:
        if (overlap_mm(stack.grid, pet.grid) > 0).all() and _slices_within(stack, pet):
            found.append(stack)
        else:
            log.uses[_key_of(stack)] = Use("unused", "does not overlap the PET")
    return found


def _first_readable(
    task: StudyTask, stacks: Sequence[Stack], choice: _Choice, log: StudyLog
) -> Volume:
    """The best stack that can be read; those that cannot are refused by name."""
    order = _ranked(stacks, choice.merits)
    for place, stack in enumerate(order):
        try:
            volume = choice.read(task.raw, stack)
        except RejectedInputError as error:
            log.refuse(_key_of(stack), error)
            continue
        reason = _why_chosen(stack, choice.role, len(stacks), place)
        log.uses[_key_of(stack)] = Use(choice.role, reason)
        for loser in order[place + 1 :]:
            lost = _why_lost(choice.merits(stack), choice.merits(loser))
            log.uses[_key_of(loser)] = Use("unused", lost)
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


def _no_partner(study: DicomStudy, role: str, log: StudyLog) -> PairingError:
    modality = {"ct": "CT", "pet": "PT"}[role]
    reasons = [log.uses[series.key].reason for series in study.of(modality)]
    return PairingError(
        study.uid,
        found=f"no usable {role.upper()} for patient {study.patient}: "
        + ("; ".join(reasons) or "no such series"),
        expected="one CT and one PET that overlap, in one study",
        advice="Add the missing series, or see the rows about its series.",
    )


def _label(task: StudyTask, ct: Stack, pet: Stack, log: StudyLog) -> Label | None:
    series = task.study.of("SEG", "RTSTRUCT")
    for item in series:  # until it is known: then a refused study takes them with it
        log.uses[item.key] = Use("label", "looked at")
    label = (
        label_from_contours(task.contours, ct, pet, task.params)
        if task.contours
        else draw_labels(task.raw, task.study, ct, pet, task.params)
    )
    looked = {item.header: item for item in (label.looked if label else ())}
    for item in series:
        log.uses[item.key] = _use_of_label(item, looked, task.params)
    return label


def _use_of_label(series: Series, looked: Mapping[Header, Looked], params: IngestParams) -> Use:
    """Of a series of label objects: taken where one of them is."""
    found = [looked[header] for header in series.headers if header in looked]
    if not found:
        return Use("unused", f"not asked for (ingest.labels: {params.labels})")
    told = next((item for item in found if item.taken), found[0])
    return Use("label" if told.taken else "unused", told.reason)


def _why_no_volume(series: Series) -> str:
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


def _pet_merits(stack: Stack) -> tuple[_Merit, ...]:
    """Attenuation-corrected first, then more slices."""
    corrected = "ATTN" in stack.headers[0].corrected_image
    return (
        _Merit("attenuation correction (0028,0051)", int(corrected)),
        _Merit("slices", len(stack.headers)),
    )


def _ct_merits(stack: Stack, pet: Stack) -> tuple[_Merit, ...]:
    """Same frame of reference as the PET first, then more slices over it, then ORIGINAL."""
    return (
        _Merit("the PET's Frame of Reference UID (0020,0052)", int(same_frame(stack, pet))),
        _Merit("slices over the PET", _slices_within(stack, pet)),
        _Merit("ORIGINAL in ImageType (0008,0008)", int("ORIGINAL" in stack.headers[0].image_type)),
    )


def _ranked(stacks: Iterable[Stack], merits: Callable[[Stack], tuple[_Merit, ...]]) -> list[Stack]:
    """The best first; equals by UID and number."""
    return sorted(
        stacks,
        key=lambda stack: (
            tuple(-merit.value for merit in merits(stack)),
            _key_of(stack),
        ),
    )


def _why_lost(winner: Sequence[_Merit], loser: Sequence[_Merit]) -> str:
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


def _slices_within(ct: Stack, pet: Stack) -> int:
    """How many CT slices lie within the PET's extent along the PET's normal."""
    index = pet.grid.indices(ct.grid.slice_centres())[:, 2]
    return int(((index > -0.5) & (index < len(pet.headers) - 0.5)).sum())


def _key_of(stack: Stack) -> StackKey:
    return stack_key(stack.headers[0])
