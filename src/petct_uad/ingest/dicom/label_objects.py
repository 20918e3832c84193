"""Which label objects a study has, which of them hold lesions, and on which images they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from petct_uad.core.errors import PatternNeededError
from petct_uad.ingest.dicom.contours import Contour
from petct_uad.ingest.dicom.geometry import Stack
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.label_names import ANY_NAME, NamedObject, read_names
from petct_uad.ingest.dicom.series import DicomStudy
from petct_uad.ingest.params import IngestParams

# Of each value of ingest.labels, the better kind first: contours must be filled, a SEG need not.
KINDS = {
    "auto": ("SEG", "RTSTRUCT"),
    "seg": ("SEG",),
    "rtstruct": ("RTSTRUCT",),
    "csv": (),
}


@dataclass(frozen=True)
class LabelObjects:
    """The label objects of a study that were asked for, sorted by file."""

    lesions: tuple[NamedObject, ...]  # those that name one
    others: tuple[NamedObject, ...]


def look_at_objects(raw: Path, study: DicomStudy, params: IngestParams) -> LabelObjects:
    """Read what all label objects of a study name, and apply ``ingest.label_roi`` to them.

    Raises:
        LabelError: one cannot be read, or numbers two of its structures alike.
        PatternNeededError: the pattern is the default one and takes organs for lesions.
    """
    series = study.of(*KINDS[params.labels])
    headers = sorted(header for item in series for header in item.headers)
    objects = [read_names(raw, header, params.label_roi) for header in headers]
    if params.label_roi == ANY_NAME and any(item.anatomy for item in objects):
        raise _pattern_needed(objects)
    return LabelObjects(
        lesions=tuple(item for item in objects if item.lesions),
        others=tuple(item for item in objects if not item.lesions),
    )


def referenced_by_lesions(
    raw: Path, study: DicomStudy, params: IngestParams, contours: Sequence[Contour] = ()
) -> frozenset[str]:
    """SeriesInstanceUIDs of the images that a study's lesions were drawn on.

    Args:
        raw: the data set.
        study: its series, label objects among them.
        params: which label objects are asked for, and which of their names are lesions.
        contours: the study's lines of ``labels.csv``.

    Raises:
        LabelError: see :func:`look_at_objects`.
    """
    objects = look_at_objects(raw, study, params).lesions
    uids = {uid for item in objects for uid in item.header.referenced_series}
    return frozenset(uids | {contour.header.series_instance_uid for contour in contours})


def tier_of(header: Header, ct: Stack, pet: Stack) -> int:
    """0 where a label object references the CT, 1 where the PET, 2 where neither."""
    for tier, stack in enumerate((ct, pet)):
        if stack.headers[0].series_instance_uid in header.referenced_series:
            return tier
    return 2


def drawn_on(header: Header, study: DicomStudy, ct: Stack, pet: Stack) -> Stack:
    """The CT or the PET: which of them, or of what is like it, a label object was drawn on.

    One that references a PET that was not chosen was drawn where that PET lies; one that
    references nothing lies in a frame of reference.
    """
    tier = tier_of(header, ct, pet)
    if tier < 2:
        return (ct, pet)[tier]
    referenced = {item.first.modality for item in study.series
                  if item.uid in header.referenced_series}  # fmt: skip
    if referenced & {"CT", "PT"}:
        return ct if "CT" in referenced else pet
    frames = [stack.headers[0].frame_of_reference_uid for stack in (ct, pet)]
    return pet if frames[0] != frames[1] == header.frame_of_reference_uid else ct


def _pattern_needed(objects: Sequence[NamedObject]) -> PatternNeededError:
    named = tuple(item.in_words for item in objects)
    first = next(item for item in objects if item.anatomy)
    error = PatternNeededError(
        first.header.file,
        found=f"{', '.join(first.anatomy)} in a label object, among {'; '.join(named)}",
        expected=f"an ingest.label_roi that says which are lesions: {ANY_NAME} takes all",
        advice="Set ingest.label_roi to a regular expression on the names of lesions.",
    )
    error.objects = named
    return error
