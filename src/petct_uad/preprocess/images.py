"""Flat images as model input: one shard of one slice each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from petct_uad.core.errors import DatasetError
from petct_uad.preprocess.measures import Measures, index_row
from petct_uad.preprocess.readings import read_picture
from petct_uad.slices.store import Shard, shard_path, write_shard
from petct_uad.slices.tables import ImageRow, ReadingRow, SliceRow


def write_image_shard(
    rows: Sequence[SliceRow], image: Path, mask: Path | None, processed: Path, side_px: int
) -> tuple[ImageRow, ReadingRow]:
    """Write the shard of one image, and return its rows: a square, the same in both planes.

    So the CMAD paper does with single-modality data. Grey levels 0 to 255 become 0 to 1; the body
    is what is not black. In the index, columns of SUV and HU hold grey levels in [0, 1], areas
    pixels of the square (the body's) or of the file (the lesion's).

    Raises:
        DatasetError: a PNG cannot be read.
    """
    plane = (_resized(image, side_px) / np.float32(255)).astype(np.float16)[None]
    lesion = np.zeros(plane.shape, np.uint8)
    if mask is not None:
        lesion[0] = _resized(mask, side_px) > 127.5
    shard = Shard(plane, plane, lesion, (plane > 0).astype(np.uint8))
    (row,) = rows
    write_shard(shard_path(processed, row.study_id), shard)
    return index_row(row, 0, _measure(row, shard), 1.0, shard), read_picture(row, plane[0])


def _resized(path: Path, side_px: int) -> NDArray[np.float32]:
    try:
        with Image.open(path) as opened:
            # Pillow's bilinear filter widens with the reduction: it antialiases.
            resized = opened.resize((side_px, side_px), Image.Resampling.BILINEAR)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}); run `dvc repro ingest`") from error
    return np.asarray(resized, dtype=np.float32)


def _measure(row: SliceRow, shard: Shard) -> Measures:
    grey = shard.ct.astype(np.float64).reshape(1, -1)
    lost = row.lesion_area_mm2 > 0 and not shard.lesion.any()
    return Measures(
        suv_max=grey.max(1),
        suv_mean=grey.mean(1),
        body_area_mm2=shard.body.sum((1, 2), dtype=np.float64),
        ct_mean_hu=grey.mean(1),
        lesion_kept_fraction=np.array([0.0 if lost else 1.0]),
    )
