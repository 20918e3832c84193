"""Rows of the tables that the ingest stage writes, in which nothing names a person.

Every text that could is of a type that only :class:`petct_uad.ingest.pseudonyms.Pseudonyms` and the
readers' scrubbing make, so that mypy finds the PatientID that somebody would put there. What the
files themselves say is in :mod:`petct_uad.ingest.found`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NewType

from petct_uad.core.files import write_table

PatientPseudonym = NewType("PatientPseudonym", str)  # p-<10 hex digits>
StudyId = NewType("StudyId", str)  # <PatientPseudonym>_<8 hex digits>
UidPseudonym = NewType("UidPseudonym", str)  # 2.25.<integer>, or ""
PublicPath = NewType("PublicPath", str)  # POSIX, below data/raw/<dataset>; telling names replaced
PublicText = NewType("PublicText", str)  # without the identifiers of any file of the data set

NO_STUDY = StudyId("")

PICTURE = "picture"  # SeriesRow.modality and InstanceRow.role of a picture
MASK = "mask"  # InstanceRow.role of its mask

# What ingest writes, below its folder.
INSTANCES, SERIES, STUDIES, REJECTED = "instances.csv", "series.csv", "studies.csv", "rejected.csv"
IDENTITY = "identity.json"  # under which key the pseudonyms were made
VOLUMES = "volumes"  # a folder per study; register has one of this name too
PICTURES_CSV = "pictures.csv"  # below VOLUMES, where the studies are pictures

# Which modalities a role of SeriesRow may have.
SERIES_ROLES: Mapping[str, tuple[str, ...]] = {
    "ct": ("CT",),
    "pet": ("PT",),
    "label": ("SEG", "RTSTRUCT"),
    "unused": (),
    PICTURE: (PICTURE,),
}
INSTANCE_ROLES = (*SERIES_ROLES, MASK)
IMAGE_MODALITIES = ("CT", "PT", PICTURE)  # a study of which something can be seen has one of these
# The publisher says which are abnormal, and where if there is a mask: no area decides.
ASSIGNED_LABELS = (PICTURE, MASK)
# Which moment the values of a PET refer to (ingest.dicom.pet_times), or why none was needed.
REFERENCE_RULES = (
    "decay_correction_datetime", "ge_scan_time", "series_time", "back_computed",
    "earliest_acquisition", "administration", "frame_times", "vendor_factor", "stored_suv",
)  # fmt: skip
LABEL_KINDS = ("seg", "rtstruct", "csv", "none", *ASSIGNED_LABELS)

# Voxels of label.nii.gz say on which images a lesion was drawn, and are 3 where on both; 0 is none.
DRAWN_ON_CT = 1
DRAWN_ON_PET = 2
# What StudyRow.label_drawn_on says of the whole mask; "none" where nothing is drawn.
DRAWN_ON = ("none", "ct", "pet", "ct+pet")

# How a note begins that says which frames of a dynamic or gated PET the volume is made of.
PET_IS = "the PET is "

# What is known of a study's lesions: there are some; somebody looked and found none; nobody says.
LESION, NEGATIVE, UNLABELLED = "lesion", "negative", "unlabelled"
FINDINGS = (LESION, NEGATIVE, UNLABELLED)


@dataclass(frozen=True, order=True)
class InstanceRow:
    """One file that was read: ``instances.csv``, sorted by file."""

    file: PublicPath
    sha256: str
    sop_instance_uid: UidPseudonym
    series_instance_uid: UidPseudonym
    study_id: StudyId  # "" when the file is used by no study
    role: str  # of INSTANCE_ROLES
    # Position along the normal in its volume; None for labels, unused and multi-frame files.
    slice_index: int | None


@dataclass(frozen=True, order=True)
class SeriesRow:
    """One stack of slices, or one label series: ``series.csv``, sorted by SeriesInstanceUID.

    Most series are one stack. One that mixes geometries, image types or acquisitions is several,
    distinguished by ``stack``; each is chosen or passed over by itself.
    """

    series_instance_uid: UidPseudonym
    stack: int  # from 1, in its series
    study_instance_uid: UidPseudonym
    patient: PatientPseudonym
    modality: str
    manufacturer: str
    model_name: str
    description: PublicText
    instances: int  # files; an enhanced file counts for each stack that it holds
    rows: int
    columns: int
    spacing_x_mm: float | None
    spacing_y_mm: float | None
    spacing_z_mm: float | None
    study_id: StudyId
    role: str  # of SERIES_ROLES
    reason: PublicText  # why it was chosen or lost
    # Of a PET that was read; empty for all other series.
    reference_rule: str = ""  # of REFERENCE_RULES
    uptake_min: float | None = None  # injection to reference time or scan; None where not told
    half_life_min: float | None = None  # None where not told
    nuclide: str = ""  # such as 18F, by its code or else its half-life; "" where not known
    dose_unit: str = ""  # the file's, "Bq" or "MBq"; "" where no dose was needed
    suv_assumed: PublicText = PublicText("")
    suv_notes: PublicText = PublicText("")


@dataclass(frozen=True, order=True)
class StudyRow:
    """One usable study: ``studies.csv``, sorted by study_id."""

    study_id: StudyId
    patient: PatientPseudonym
    scanner: str  # Manufacturer and model name, e.g. "GE Discovery STE"
    ct_series_instance_uid: UidPseudonym  # "" of a flat image, as the next
    pet_series_instance_uid: UidPseudonym
    label_series_instance_uid: UidPseudonym  # "" when the study has no label object
    label_kind: str  # of LABEL_KINDS
    lesion_kind: PublicText  # segment or ROI names, joined by "+"; "none" where there are none
    ct_slices: int
    pet_slices: int
    same_frame_of_reference: bool
    notes: PublicText  # defects that were handled, in words, joined by "; "
    suv_kind: str = "bw"  # of SuvKind: what the PET is normalised to (ingest.suv)
    label_drawn_on: str = "none"  # of DRAWN_ON: the images that its lesions move with
    finding: str = UNLABELLED  # of FINDINGS

    @property
    def has_volumes(self) -> bool:
        """Is there a CT and a PET, and not a flat image?"""
        return bool(self.ct_series_instance_uid)


@dataclass(frozen=True, order=True)
class RejectedRow:
    """One refused file, series or study: ``rejected.csv``, sorted by subject."""

    subject: PublicText  # a PublicPath or a UidPseudonym
    code: str  # RejectedInputError.code
    found: PublicText
    expected: PublicText
    advice: PublicText


@dataclass(frozen=True, order=True)
class PictureRow:
    """One picture that was read: ``volumes/pictures.csv``, sorted by study_id."""

    study_id: StudyId
    split: str  # train, val or test, as its publisher has it
    label: int  # 0 normal, 1 abnormal, as its publisher has it
    lesion_area_px: int  # of the mask, on the picture's own grid; 0 without a mask
    pixels_sha256: str  # of size and levels: the same for the same picture in two files


@dataclass(frozen=True)
class PublishedTables:
    """The four tables as they may be shared."""

    instances: tuple[InstanceRow, ...]
    series: tuple[SeriesRow, ...]
    studies: tuple[StudyRow, ...]
    rejected: tuple[RejectedRow, ...]

    def write(self, folder: Path) -> None:
        """Write one CSV per table to ``folder``."""
        write_table(folder / INSTANCES, InstanceRow, self.instances)
        write_table(folder / SERIES, SeriesRow, self.series)
        write_table(folder / STUDIES, StudyRow, self.studies)
        write_table(folder / REJECTED, RejectedRow, self.rejected)
