"""Rows of the tables that the split and preprocess stages write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import read_table

PETCT, PICTURE = "petct", "picture"  # what a slice is one of
SLICES, REGIONS = "slices.csv", "regions.csv"  # of split
INDEX, TRAINING, READINGS = "index.csv", "training.csv", "readings.csv"  # of preprocess
PLANES = ("ct", "pet", "lesion", "body")  # that every shard holds
# Only where preprocess.neighbours_mm is above 0, and of pictures under ingest.colour.
OPTIONAL_PLANES = ("ct_beside", "pet_beside", "colour")


def shard_path(processed: Path, study_id: str) -> Path:
    """Where a study's slices lie, below ``data/processed/<dataset>``."""
    return processed / "shards" / f"{study_id}.safetensors"


def slice_id_of(study_id: str, slice_index: int) -> str:
    """The name of a slice: its study and its place on the target grid, from 0."""
    return f"{study_id}_{slice_index:04d}"


@dataclass(frozen=True, order=True)
class SliceRow:
    """One axial slice of the target grid: ``slices.csv``, sorted by slice_id."""

    slice_id: str  # of slice_id_of
    study_id: str
    patient: str
    scanner: str
    slice_index: int
    z_mm: float
    position: float  # 0 at the first slice of the study, 1 at the last
    lesion_area_mm2: float
    label: int  # 0 normal, 1 abnormal
    split: str  # train, val, test or excluded
    reason: str  # why it is in that split


@dataclass(frozen=True, order=True)
class RegionRow:
    """The thorax of one study: ``regions.csv``, sorted by study_id.

    The table is there only where ``preprocess.region`` is ``thorax``. Heights are z in the CT frame
    (LPS, mm), of centres of slices, and absent where no lungs are found.
    """

    study_id: str
    found: bool  # are there lungs?
    lungs_ml: float  # without airways; 0 where none are found
    base_mm: float | None  # the lowest slice with lung
    apex_mm: float | None  # the highest
    low_mm: float | None  # down to which slices are kept: the base less a margin
    high_mm: float | None
    at_low_end: bool  # does the stack end within the lungs, so that their base is not seen?
    at_high_end: bool  # likewise their apex
    slices: int  # that are kept, by the region alone
    slices_outside: int
    lesion_slices_outside: int  # of slices_outside: those with lesion


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
    sha256: str  # of the slice's bytes in the shard: PLANES, then what it has of OPTIONAL_PLANES


@dataclass(frozen=True, order=True)
class PinnedImageRow(ImageRow):
    """One slice that trains or calibrates: ``training.csv``, sorted by slice_id.

    Whatever a training reads is named here by its hash, so that a training depends on this table
    alone, and on nothing of the test split.
    """

    shard_sha256: str  # of the file that the slice lies in


@dataclass(frozen=True, order=True)
class ReadingRow:
    """What anyone can read off a slice without a model: ``readings.csv``, sorted by slice_id.

    Measured at full resolution, as in ``index.csv``, and without a lesion mask. A column is empty
    where there is no such thing: uptake of a picture, sharpness of a PET/CT slice. Areas are of the
    body in the slice, where SUV (as ``ingest.suv`` has it) is above what the name says.
    """

    slice_id: str
    kind: str  # petct or picture
    suv_above_2_5_mm2: float | None
    suv_above_4_mm2: float | None
    suv_above_41_percent_mm2: float | None  # of the largest in the body, over the whole study
    suv_above_reference_mm2: float | None
    reference: str  # what the last one refers to: liver; fixed, where none is in view; or none
    reference_suv: float | None  # of the study: 1.5 x mean + 2 SD of the liver, or the fixed SUV
    grey_mean: float | None  # of a picture, 0 to 1, as the next
    grey_max: float | None
    grey_gradient: float | None  # mean length of the gradient, grey levels per pixel
    grey_laplacian: float | None  # variance of the Laplacian, squares of the same


def read_places(slices_file: Path, rows: Sequence[ImageRow]) -> dict[str, dict[str, SliceRow]]:
    """By study and slice_id: all slices of the studies of ``rows``, those in no split too.

    Args:
        slices_file: ``slices.csv`` of the split stage.
        rows: slices of ``index.csv``, told by their slice_id, since a copy of one may be said to
            be of another study.

    Raises:
        DatasetError: the table is absent, or lacks one of ``rows``.
    """
    if not slices_file.is_file():
        raise DatasetError(f"{slices_file}: not found. Run `dvc repro split`.")
    places = {place.slice_id: place for place in read_table(slices_file, SliceRow)}
    if missing := [row.slice_id for row in rows if row.slice_id not in places]:
        raise DatasetError(
            f"{slices_file}: lacks {len(missing)} of {len(rows)} slices of index.csv, the first is "
            f"{missing[0]}; one of the two is stale. Run `dvc repro preprocess`."
        )
    found: dict[str, dict[str, SliceRow]] = {places[row.slice_id].study_id: {} for row in rows}
    for slice_id, place in places.items():
        if place.study_id in found:
            found[place.study_id][slice_id] = place
    return found
