"""Rows of the tables that the split and preprocess stages write."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class SliceRow:
    """One axial slice of the target grid: ``slices.csv``, sorted by slice_id."""

    slice_id: str  # <study_id>_<slice_index, four digits>
    study_id: str
    patient: str
    scanner: str
    slice_index: int
    z_mm: float
    position: float  # 0 at the first slice of the study, 1 at the last
    lesion_area_mm2: float
    label: int  # 0 normal, 1 abnormal
    split: str  # train, val, test or excluded
    reason: str  # why it stands in that split


@dataclass(frozen=True, order=True)
class ImageRow:
    """One slice in a shard: ``index.csv``, sorted by slice_id; excluded slices are absent."""

    slice_id: str
    study_id: str
    patient: str
    scanner: str
    split: str  # train, val or test
    label: int
    position: float
    shard_row: int  # row of this slice in shards/<study_id>.safetensors
    lesion_area_mm2: float
    lesion_kept_fraction: float  # of the lesion's area, inside the body; 1 without a lesion
    suv_max: float  # SUVbw over the body at full resolution, before any blur
    suv_mean: float
    suv_total_ratio: float  # of the study: SUV x volume in the body, these slices over the native
    body_area_mm2: float
    ct_mean_hu: float  # over the body
    ct_std: float  # of the stored model input, 0 for a constant slice
    pet_std: float
    sha256: str  # of the slice's bytes in the shard: ct, pet, lesion, body
