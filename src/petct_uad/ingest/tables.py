"""Rows of the tables that the ingest stage writes.

In the files, patients, UIDs and paths that would name a person are pseudonyms (``dicom.publish``).
"""

from __future__ import annotations

from dataclasses import dataclass

PICTURE = "picture"  # SeriesRow.modality and InstanceRow.role of a picture
MASK = "mask"  # InstanceRow.role of its mask


@dataclass(frozen=True, order=True)
class InstanceRow:
    """One DICOM file that was read: ``instances.csv``, sorted by file."""

    file: str  # POSIX path below data/raw/<dataset>
    sha256: str
    sop_instance_uid: str
    series_instance_uid: str
    study_id: str  # "" when the file is used by no study
    role: str  # ct, pet, label or unused
    # Position along the normal in its volume; None for labels, unused and multi-frame files.
    slice_index: int | None


@dataclass(frozen=True, order=True)
class SeriesRow:
    """One stack of slices, or one label series: ``series.csv``, sorted by SeriesInstanceUID.

    Most series are one stack. One that mixes geometries, image types or acquisitions is several,
    told apart by ``stack``; each is chosen or passed over by itself.
    """

    series_instance_uid: str
    stack: int  # from 1, in its series
    study_instance_uid: str
    patient: str
    modality: str
    manufacturer: str
    model_name: str
    description: str
    instances: int  # files; an enhanced file counts for each stack that it holds
    rows: int
    columns: int
    spacing_x_mm: float | None
    spacing_y_mm: float | None
    spacing_z_mm: float | None
    study_id: str
    role: str  # ct, pet, label or unused
    reason: str  # why it was chosen or lost


@dataclass(frozen=True, order=True)
class StudyRow:
    """One usable study: ``studies.csv``, sorted by study_id."""

    study_id: str
    patient: str
    scanner: str  # Manufacturer and model name, e.g. "GE Discovery STE"
    ct_series_instance_uid: str
    pet_series_instance_uid: str
    label_series_instance_uid: str  # "" when the study has no label object
    label_kind: str  # seg, rtstruct, csv or none
    lesion_kind: str  # segment or ROI description(s), joined by "+"; "none" where there are none
    ct_slices: int
    pet_slices: int
    same_frame_of_reference: bool
    notes: str  # defects that were handled, in words, joined by "; "
    suv_kind: str = "bw"  # bw, lbm or bsa: what the PET is normalised to (ingest.suv)


@dataclass(frozen=True, order=True)
class RejectedRow:
    """One refused file, series or study: ``rejected.csv``, sorted by subject."""

    subject: str  # file below data/raw/<dataset>, or a UID
    code: str  # RejectedInputError.code
    found: str
    expected: str
    advice: str


@dataclass(frozen=True, order=True)
class PictureRow:
    """One picture that was read: ``volumes/pictures.csv``, sorted by study_id."""

    study_id: str
    split: str  # train, val or test, as its publisher has it
    label: int  # 0 normal, 1 abnormal, as its publisher has it
    lesion_area_px: int  # of the mask, on the picture's own grid; 0 without a mask
    pixels_sha256: str  # of size and grey levels: the same for the same picture in two files


@dataclass(frozen=True)
class Ingested:
    """The four tables."""

    instances: tuple[InstanceRow, ...]
    series: tuple[SeriesRow, ...]
    studies: tuple[StudyRow, ...]
    rejected: tuple[RejectedRow, ...]
