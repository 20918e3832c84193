"""Pictures of an image benchmark as model input: one shard of one slice each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from petct_uad.errors import DatasetError
from petct_uad.slices.store import Shard, shard_path, write_shard
from petct_uad.slices.tables import ImageRow, SliceRow


def write_picture_shard(
    rows: Sequence[SliceRow], picture: Path, mask: Path | None, processed: Path, side_px: int
) -> list[ImageRow]:
    """Write the shard of one picture: resized to a square, and the same in both planes.

    So the CMAD paper does with single-modality data. Grey levels 0 to 255 become 0 to 1; the body
    is what is not black. In the index, columns of SUV and HU hold grey levels in [0, 1], areas
    pixels of the square (the body's) or of the picture (the lesion's).

    Raises:
        DatasetError: a PNG cannot be read.
    """
    plane = (_resized(picture, side_px) / np.float32(255)).astype(np.float16)[None]
    lesion = np.zeros(plane.shape, np.uint8)
    if mask is not None:
        lesion[0] = _resized(mask, side_px) > 127.5
    shard = Shard(plane, plane, lesion, (plane > 0).astype(np.uint8))
    (row,) = rows
    write_shard(shard_path(processed, row.study_id), shard)
    return [_index_row(row, shard)]


def _resized(path: Path, side_px: int) -> NDArray[np.float32]:
    try:
        with Image.open(path) as opened:
            # Pillow's bilinear filter widens with the reduction: it antialiases.
            resized = opened.resize((side_px, side_px), Image.Resampling.BILINEAR)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}); run `dvc repro ingest`") from error
    return np.asarray(resized, dtype=np.float32)


def _index_row(row: SliceRow, shard: Shard) -> ImageRow:
    grey = shard.ct[0].astype(np.float64)
    lost = row.lesion_area_mm2 > 0 and not shard.lesion.any()
    return ImageRow(
        slice_id=row.slice_id,
        study_id=row.study_id,
        patient=row.patient,
        scanner=row.scanner,
        split=row.split,
        label=row.label,
        position=row.position,
        shard_row=0,
        lesion_area_mm2=row.lesion_area_mm2,
        lesion_kept_fraction=0.0 if lost else 1.0,
        suv_max=float(grey.max()),
        suv_mean=float(grey.mean()),
        suv_total_ratio=1.0,
        body_area_mm2=float(shard.body.sum()),
        ct_mean_hu=float(grey.mean()),
        ct_std=float(grey.std()),
        pet_std=float(grey.std()),
        sha256=shard.sha256_of(0),
    )
