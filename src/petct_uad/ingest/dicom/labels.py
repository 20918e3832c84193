"""Lesion masks from DICOM SEG, RTSTRUCT and labels.csv, on the grid of the CT."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from petct_uad.core.errors import LabelError, OtherFrameError, RejectedInputError
from petct_uad.ingest.dicom.contours import LABEL_ADVICE, LABELS_CSV, Contour, by_roi, parsed
from petct_uad.ingest.dicom.drawing import (
    Drawing,
    Mask,
    PairedImages,
    empty_between,
    rasterise,
    wrong_label,
)
from petct_uad.ingest.dicom.geometry import Stack
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.label_names import NamedObject, split_names
from petct_uad.ingest.dicom.label_objects import (
    KINDS,
    LabelObjects,
    drawn_on,
    look_at_objects,
    tier_of,
)
from petct_uad.ingest.dicom.segments import draw_segments
from petct_uad.ingest.dicom.series import DicomStudy
from petct_uad.ingest.dicom.structures import draw_structures
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.rejections import printable
from petct_uad.ingest.tables import (
    DRAWN_ON,
    DRAWN_ON_CT,
    DRAWN_ON_PET,
    LESION,
    NEGATIVE,
    UNLABELLED,
)

_REFERENCES = ("references the CT", "references the PET", "references neither CT nor PET")


@dataclass(frozen=True)
class Looked:
    """What became of one label object."""

    header: Header
    taken: bool
    reason: str


@dataclass(frozen=True)
class Label:
    """What a study's labels say, and where it comes from.

    Attributes:
        image: uint8 on the CT's grid: 0, or on which images a lesion was drawn (``tables.DRAWN_ON``
            has the words); None where no label draws one, or says that there is none.
        kind: of ``tables.LABEL_KINDS``.
        finding: of ``tables.FINDINGS``.
        drawn_on: of ``tables.DRAWN_ON``.
        lesions: names of the segments or ROIs taken, sorted.
        passed_over: names that ``ingest.label_roi`` does not match, sorted.
        looked: every label object that was asked for; none for labels.csv.
        notes: what was assumed or left out, in words.
    """

    image: sitk.Image | None
    kind: str
    finding: str
    drawn_on: str
    lesions: tuple[str, ...]
    passed_over: tuple[str, ...]
    looked: tuple[Looked, ...]
    notes: tuple[str, ...]
    named: tuple[str, ...]  # each label object with all of its names

    @property
    def headers(self) -> tuple[Header, ...]:
        """Of the label objects that were taken."""
        return tuple(item.header for item in self.looked if item.taken)


@dataclass(frozen=True)
class _Drawn:
    """One label object, drawn."""

    named: NamedObject
    drawing: Drawing
    rank: tuple[int, int]  # the kind asked for first, then the tier; the least is the best
    value: np.uint8  # DRAWN_ON_CT or DRAWN_ON_PET

    @property
    def header(self) -> Header:
        return self.named.header


@dataclass(frozen=True)
class _Joined:
    mask: Mask  # of DRAWN_ON_CT, DRAWN_ON_PET and both
    kept: tuple[_Drawn, ...]
    again: tuple[_Drawn, ...]  # all of whose lesions a better object draws


def draw_labels(
    raw: Path, study: DicomStudy, ct: Stack, pet: Stack, params: IngestParams
) -> Label | None:
    """Draw the lesions of all label objects of a study, joined, on the CT's grid.

    SEG goes before RTSTRUCT; an object that references the CT goes before one that references the
    PET, and that before one that references neither. Equals are united. Of the others a lesion
    counts where it touches none that is taken: it is another one, and not the same drawn again.

    Returns:
        None where the study has no label object that is asked for.

    Raises:
        LabelError: an object that cannot be read, lies in another frame of reference, or names
            lesions but draws none inside the CT and does not say that there are none.
        PatternNeededError: the pattern is the default one and takes organs for lesions.
    """
    objects = look_at_objects(raw, study, params)
    if not objects.lesions:
        return _without_lesions(objects) if objects.others else None
    drawn, elsewhere = _all_drawn(raw, study, ct, pet, objects.lesions)
    joined = _join(drawn)
    finding = _finding(joined)
    looked = [*_looked(joined, ct, pet), *elsewhere, *map(_not_named, objects.others)]
    return Label(
        image=ct.grid.image(joined.mask),
        kind=joined.kept[0].header.modality.lower(),
        finding=finding,
        drawn_on=_drawn_on(joined.mask),
        lesions=_union(one.named.lesions for one in joined.kept),
        passed_over=_union(item.passed_over for item in (*objects.lesions, *objects.others)),
        looked=tuple(looked),
        notes=tuple(dict.fromkeys([*_notes(joined, ct, pet), *_told(elsewhere)])),
        named=tuple(item.in_words for item in (*objects.lesions, *objects.others)),
    )


def label_from_contours(
    contours: Sequence[Contour], ct: Stack, pet: Stack, params: IngestParams
) -> Label:
    """Draw one study's lines of ``labels.csv`` on the CT's grid.

    Raises:
        LabelError: points that are no contour on their slice, or none of them inside the CT.
    """
    mask, outside = np.zeros(ct.grid.size[::-1], np.uint8), 0
    lesions, passed_over = split_names((c.roi for c in contours), params.label_roi)
    notes: list[str] = []
    for (roi, modality), group in by_roi(contours).items():
        if roi in lesions:
            spacing_mm = (pet if modality == "PT" else ct).grid.spacing_mm[2]
            points = [parsed(contour, ct, spacing_mm) for contour in group]
            drawn, beyond = rasterise(points, ct.grid, spacing_mm)
            mask |= drawn * np.uint8(DRAWN_ON_PET if modality == "PT" else DRAWN_ON_CT)
            outside += beyond
            gap = empty_between(drawn)
            notes += [f"{LABELS_CSV}, {roi}: {gap}"] if gap else []
    if outside and not mask.any():
        raise LabelError(
            LABELS_CSV,
            found=f"line {contours[0].line}: lesions that lie wholly outside the CT",
            expected="lesions inside the CT",
            advice=LABEL_ADVICE,
        )
    notes += [f"{outside} contours of {LABELS_CSV} lie outside the CT"] if outside else []
    return Label(
        image=ct.grid.image(mask),
        kind="csv",
        finding=LESION if mask.any() else UNLABELLED,
        drawn_on=_drawn_on(mask),
        lesions=lesions,
        passed_over=passed_over,
        looked=(),
        notes=tuple(notes),
        named=(f"{LABELS_CSV} ({', '.join([*lesions, *passed_over])})",),
    )


def _without_lesions(objects: LabelObjects) -> Label:
    """Of a study whose label objects name no lesion.

    Where they name organs, nobody has looked for lesions. Any other name may be a lesion that the
    pattern misses: then the label's kind is in the table, and validation refuses it.
    """
    anatomy = all(item.anatomy for named in objects.others for item in named.structures)
    return Label(
        image=None,
        kind="none" if anatomy else objects.others[0].header.modality.lower(),
        finding=UNLABELLED,
        drawn_on="none",
        lesions=(),
        passed_over=_union(item.passed_over for item in objects.others),
        looked=tuple(map(_not_named, objects.others)),
        notes=(),
        named=tuple(item.in_words for item in objects.others),
    )


def _all_drawn(
    raw: Path,
    study: DicomStudy,
    ct: Stack,
    pet: Stack,
    objects: Sequence[NamedObject],
) -> tuple[list[_Drawn], list[Looked]]:
    """Each object drawn, the best first; and those of other images, in a frame of their own."""
    drawn: list[_Drawn] = []
    elsewhere: list[OtherFrameError] = []
    for named in objects:
        images = PairedImages(ct, pet, drawn_on(named.header, study, ct, pet))
        value = np.uint8(DRAWN_ON_PET if images.drawn_on is pet else DRAWN_ON_CT)
        rank = KINDS["auto"].index(named.header.modality), tier_of(named.header, ct, pet)
        try:
            drawn.append(_Drawn(named, _draw(raw, named, images), rank, value))
        except OtherFrameError as error:
            elsewhere.append(error)
    if not drawn:
        raise elsewhere[0]
    by_file = {named.header.file: named.header for named in objects}
    looked = [Looked(by_file[error.subject], False, f"another frame of reference: {error.found}")
              for error in elsewhere]  # fmt: skip
    return sorted(drawn, key=lambda one: (one.rank, one.header)), looked


def _draw(raw: Path, named: NamedObject, images: PairedImages) -> Drawing:
    header = named.header
    draw = draw_segments if header.modality == "SEG" else draw_structures
    # highdicom and pydicom raise many types on label objects that break their own rules.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return draw(raw / header.file, named, images)
    except RejectedInputError:
        raise
    except Exception as error:
        found = printable(f"{type(error).__name__}: {error}")
        raise wrong_label(header, found, f"a readable {header.modality}") from error


def _join(drawn: Sequence[_Drawn]) -> _Joined:
    """Unite the best; of the others take the lesions that are apart from all that is taken."""
    mask = np.zeros_like(drawn[0].drawing.mask)
    kept: list[_Drawn] = []
    again: list[_Drawn] = []
    for one in drawn:
        best = one.rank == drawn[0].rank
        lesions = one.drawing.mask if best else _apart(one.drawing.mask, mask)
        mask |= lesions * one.value
        (kept if best or lesions.any() else again).append(one)
    return _Joined(mask, tuple(kept), tuple(again))


def _apart(lesions: Mask, taken: Mask) -> Mask:
    """The connected lesions that touch nothing of what is taken."""
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(lesions), True))
    touching = np.unique(parts[taken > 0])  # 0, what is no lesion, among them or not
    return np.asarray((parts > 0) & ~np.isin(parts, touching), np.uint8)


def _finding(joined: _Joined) -> str:
    """Some lesion, or none where a SEG says so by frames that are all zero.

    Raises:
        LabelError: nothing is drawn, and nothing says that there is nothing.
    """
    if joined.mask.any():
        return LESION
    for one in joined.kept:
        if one.drawing.outside:
            raise wrong_label(
                one.header, "lesions that lie wholly outside the CT", "lesions inside the CT"
            )
    if any(one.header.modality == "SEG" for one in joined.kept):
        return NEGATIVE
    first = joined.kept[0]
    raise wrong_label(
        first.header,
        f"no contour of {', '.join(first.named.lesions)}",
        "contours; where there is no lesion, a SEG of zeros, or no label object",
    )


def _looked(joined: _Joined, ct: Stack, pet: Stack) -> Iterator[Looked]:
    for one in joined.kept:
        yield Looked(one.header, True, _REFERENCES[tier_of(one.header, ct, pet)])
    for one in joined.again:
        best = joined.kept[0].header
        reason = (
            f"its lesions are drawn by {best.file}, which {_REFERENCES[tier_of(best, ct, pet)]}"
        )
        yield Looked(one.header, False, reason)


def _not_named(named: NamedObject) -> Looked:
    names = ", ".join(named.passed_over) or "none"
    return Looked(named.header, False, f"no name matches ingest.label_roi: {names}")


def _told(looked: Iterable[Looked]) -> Iterator[str]:
    for item in looked:
        yield f"{item.header.file} was passed over: {item.reason}"


def _notes(joined: _Joined, ct: Stack, pet: Stack) -> Iterator[str]:
    for one in joined.kept:
        yield from _notes_of(one, tier_of(one.header, ct, pet))
    if not joined.mask.any():
        names = ", ".join(_union(one.named.lesions for one in joined.kept))
        yield f"no voxel of {names} is set: somebody looked and found no lesion"
    if len(joined.kept) > 1:
        yield f"the lesion mask unites {len(joined.kept)} label objects"


def _notes_of(one: _Drawn, tier: int) -> Iterator[str]:
    modality = one.header.modality
    if tier == 1:
        yield f"the {modality} references the PET and moves with it; drawn on the CT grid"
    elif tier == 2:
        images = "PET" if one.value == DRAWN_ON_PET else "CT"
        yield f"the {modality} references neither CT nor PET, but shares the {images}'s frame"
    if one.drawing.outside:
        unit = "voxels" if modality == "SEG" else "contours"
        yield f"{one.drawing.outside} {unit} of the {modality} lie outside the CT"
    yield from one.drawing.notes


def _drawn_on(mask: Mask) -> str:
    """Which images the lesions of a mask were drawn on."""
    return DRAWN_ON[int(np.bitwise_or.reduce(mask, axis=None))]


def _union(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(sorted({name for group in groups for name in group}))
