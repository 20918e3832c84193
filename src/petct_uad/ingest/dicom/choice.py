"""Which stack of a study is its CT, which its PET, and which label object is drawn on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from petct_uad.core.errors import FramesError, LabelError, PairingError, RejectedInputError
from petct_uad.core.store.study_store import Storable
from petct_uad.ingest.dicom.contours import Contour
from petct_uad.ingest.dicom.dynamic import pet_scans, read_images, take_images
from petct_uad.ingest.dicom.geometry import Stack, overlap_mm, stack_slices
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.label_objects import referenced_by_lesions
from petct_uad.ingest.dicom.labels import Label, Looked, draw_labels, label_from_contours
from petct_uad.ingest.dicom.merits import (
    EQUAL,
    Drawn,
    Merit,
    covered_mm,
    ct_merits,
    decisive,
    extent_mm,
    pet_merits,
    slices_within,
    why_lost,
)
from petct_uad.ingest.dicom.missing import with_all_missing
from petct_uad.ingest.dicom.series import DicomStudy, Series, StackKey
from petct_uad.ingest.dicom.suv import SuvOptions
from petct_uad.ingest.dicom.volumes import Volume, read_ct, read_pet
from petct_uad.ingest.found import FoundRejection
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.rejections import rejected_row
from petct_uad.ingest.tables import StudyId

_FILES = ("ct.nii.gz", "pet.nii.gz", "label.nii.gz")

# Image types (0008,0008) that are no axial reconstruction.
_NO_VOLUME = ("LOCALIZER", "MIP", "MAX_IP", "PROJECTION IMAGE", "SCREEN SAVE", "DOSE", "FUSED")
_AXIAL_COSINE = 0.8  # between the slice normal and the patient's axis


@dataclass(frozen=True)
class StudyTask(Storable):
    """What a worker process gets."""

    raw: Path
    volumes: Path  # the folder that receives <study_id>/*.nii.gz
    study_id: StudyId
    study: DicomStudy
    params: IngestParams
    contours: tuple[Contour, ...] = ()  # its lines of labels.csv, where these are asked for
    frame_shared: bool = False  # another PatientID has its Frame of Reference UID

    @property
    def sources(self) -> tuple[Path, ...]:
        """None that need be hashed again: the headers hold the SHA-256 of their files."""
        return ()

    @property
    def said(self) -> str:
        """Every file and its stack, and all else but where it lies."""
        stacks = [(item.frame, list(map(_told, item.headers))) for item in self.study.series]
        told = (self.study_id, self.study.uid, self.params, self.contours, self.frame_shared)
        return repr((*told, stacks))

    @property
    def outputs(self) -> Mapping[str, Path]:
        """Its volumes; a refused study has none."""
        folder = self.volumes / self.study_id
        return {name: folder / name for name in _FILES}


def _told(header: Header) -> tuple[object, ...]:
    """Its file's SHA-256, from which most of it follows, and what other files have a say in."""
    return header.file, header.sha256, header.frame, header.stack, header.referenced_series


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

    def refuse(self, keys: Iterable[StackKey], error: RejectedInputError) -> None:
        """Stacks of one series cannot be used; their study may do without."""
        self.use(keys, "unused", f"refused ({error.code}): {error.found}")
        self.rejected.append(rejected_row(error))

    def use(self, keys: Iterable[StackKey], role: str, reason: str) -> None:
        """What becomes of stacks."""
        self.uses |= dict.fromkeys(keys, Use(role, reason))

    def lose_all(self, reason: str) -> None:
        """The study is refused, and with it every stack that was chosen."""
        for key, use in self.uses.items():
            if use.role != "unused":
                self.uses[key] = Use("unused", reason)


@dataclass(frozen=True)
class _Candidate:
    """What may become the CT or the PET."""

    stack: Stack
    keys: tuple[StackKey, ...]  # of all stacks that it is made of
    read: Callable[[], Volume]


@dataclass(frozen=True)
class _Choice:
    role: str
    merits: Callable[[Stack], tuple[Merit, ...]]


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
    drawn = _drawn_on(task)
    pets = _pets(task, log)
    longest = max((extent_mm(pet.stack) for pet in pets), default=0.0)
    by_label = partial(pet_merits, drawn=drawn, longest_mm=longest)
    pet = _first_readable(task, pets, _Choice("pet", by_label), log)
    cts = _overlapping(_cts(task, log), pet.stack, log)
    longest = max((covered_mm(ct.stack, pet.stack) for ct in cts), default=0.0)
    by_pet = partial(ct_merits, pet=pet.stack, drawn=drawn, longest_mm=longest)
    ct = _first_readable(task, cts, _Choice("ct", by_pet), log)
    return StudyImages(ct, pet, _label(task, ct.stack, pet.stack, log))


def _cts(task: StudyTask, log: StudyLog) -> list[_Candidate]:
    found = []
    for series in _volumes(task, "CT", log):
        try:
            stack = stack_slices(series.headers, task.params.max_gap_mm)
        except RejectedInputError as error:
            log.refuse([series.key], _in_full(task, series.headers, error))
        else:
            log.stacks[series.key] = stack
            found.append(_Candidate(stack, (series.key,), partial(read_ct, task.raw, stack)))
    return found


def _pets(task: StudyTask, log: StudyLog) -> list[_Candidate]:
    found = []
    read = partial(read_pet, options=SuvOptions.of(task.params))
    for scan in pet_scans(_volumes(task, "PT", log)):
        try:
            taken = take_images(scan, task.params)
        except RejectedInputError as error:
            log.refuse(scan.keys, _in_full(task, scan.images[0].headers, error))
        else:
            log.stacks |= dict(zip(taken.keys, taken.stacks, strict=True))
            if taken.note:
                log.use(scan.keys, "unused", f"passed over for {taken.note}")
            whole = partial(read_images, task.raw, taken, read)
            found.append(_Candidate(taken.stacks[0], taken.keys, whole))
    return found


def _volumes(task: StudyTask, modality: str, log: StudyLog) -> list[Series]:
    """The series of a modality that may be a volume."""
    fit = []
    for series in task.study.of(modality):
        unfit = _why_no_volume(series)
        log.use([series.key], "unused", unfit or "not chosen")
        if not unfit:
            fit.append(series)
    return fit


def _in_full(
    task: StudyTask, headers: Sequence[Header], error: RejectedInputError
) -> RejectedInputError:
    """A refusal with all that its series lacks; frames of a PET lack nothing, but a choice."""
    if isinstance(error, FramesError):
        return error
    return with_all_missing(error, task.raw, headers, task.params.suv)


def _overlapping(cts: Sequence[_Candidate], pet: Stack, log: StudyLog) -> list[_Candidate]:
    found = []
    for ct in cts:
        if (overlap_mm(ct.stack.grid, pet.grid) > 0).all() and slices_within(ct.stack, pet):
            found.append(ct)
        else:
            log.use(ct.keys, "unused", "does not overlap the PET")
    return found


def _first_readable(
    task: StudyTask, candidates: Sequence[_Candidate], choice: _Choice, log: StudyLog
) -> Volume:
    """The best candidate that can be read; those that cannot are refused by name."""
    order = _ranked(candidates, choice.merits)
    for place, candidate in enumerate(order):
        try:
            volume = candidate.read()
        except RejectedInputError as error:
            log.refuse(candidate.keys, _in_full(task, candidate.stack.headers, error))
            continue
        merits = choice.merits(candidate.stack)
        equal = _give_reasons(order[place + 1 :], merits, choice, log)
        reason = _why_chosen(order, place, choice)
        log.use(candidate.keys, choice.role, reason)
        return replace(volume, notes=(*volume.notes, *equal))
    raise _no_partner(task.study, choice.role, log)


def _give_reasons(
    losers: Sequence[_Candidate], best: Sequence[Merit], choice: _Choice, log: StudyLog
) -> tuple[str, ...]:
    """Say why each was lost; what comes back is a note where one of them was as good."""
    told = [why_lost(best, choice.merits(loser.stack)) for loser in losers]
    for loser, lost in zip(losers, told, strict=True):
        log.use(loser.keys, "unused", lost)
    equals = told.count(EQUAL)
    word = "another" if equals == 1 else f"{equals} others"
    name = f"{choice.role.upper()}{'s' if equals > 1 else ''}"
    return (f"{word} {name} would have done as well: the first UID was taken",) if equals else ()


def _why_chosen(order: Sequence[_Candidate], place: int, choice: _Choice) -> str:
    """By the first criterion that tells it from the next best."""
    if len(order) == 1:
        return f"the only usable {choice.role.upper()}"
    if place:
        return "the best of those that could be read"
    best, second = (choice.merits(candidate.stack) for candidate in order[:2])
    return f"best of {len(order)}: {decisive(best, second)}"


def _no_partner(study: DicomStudy, role: str, log: StudyLog) -> PairingError:
    modality = {"ct": "CT", "pet": "PT"}[role]
    reasons = dict.fromkeys(log.uses[series.key].reason for series in study.of(modality))
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


def _drawn_on(task: StudyTask) -> Drawn:
    """What its lesions were drawn on, by what their label objects reference."""
    try:
        uids = referenced_by_lesions(task.raw, task.study, task.params, task.contours)
    except LabelError:  # refuses the study where the label is read, once its images are known
        uids = frozenset()
    frames = {item.first.frame_of_reference_uid for item in task.study.series if item.uid in uids}
    return Drawn(uids, frozenset(frames - {""}))


def _ranked(
    candidates: Iterable[_Candidate], merits: Callable[[Stack], tuple[Merit, ...]]
) -> list[_Candidate]:
    """The best first; equals by UID and number."""
    return sorted(
        candidates,
        key=lambda item: (tuple(-merit.value for merit in merits(item.stack)), item.keys),
    )
