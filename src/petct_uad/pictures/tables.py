"""The table that ingest writes beside those of ``dicom.tables`` for a data set of pictures."""

from __future__ import annotations

from dataclasses import dataclass

PICTURE = "picture"  # SeriesRow.modality and InstanceRow.role of a picture
MASK = "mask"  # InstanceRow.role of its mask


@dataclass(frozen=True, order=True)
class PictureRow:
    """One picture that was read: ``volumes/pictures.csv``, sorted by study_id."""

    study_id: str
    split: str  # train, val or test, as its publisher has it
    label: int  # 0 normal, 1 abnormal, as its publisher has it
    lesion_area_px: int  # of the mask, on the picture's own grid; 0 without a mask
    pixels_sha256: str  # of size and grey levels: the same for the same picture in two files
