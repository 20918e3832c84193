"""Flat images as model input: one shard of one slice each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from petct_uad.core.errors import DatasetError
from petct_uad.preprocess.filters import bilateral
from petct_uad.preprocess.measures import Measures, index_row, slice_measures
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.preprocess.readings import read_picture
from petct_uad.slices.store import Shard, write_shard
from petct_uad.slices.tables import ImageRow, ReadingRow, SliceRow, shard_path

_Place = Callable[[Image.Image, int], NDArray[np.float32]]  # an image into a square of so many px


def write_image_shard(
    rows: Sequence[SliceRow],
    image: Path,
    mask: Path | None,
    processed: Path,
    params: PreprocessParams,
) -> tuple[ImageRow, ReadingRow]:
    """Write the shard of one image, and return its rows: a square, the same in both planes.

    So the CMAD paper does with single-modality data. Grey levels 0 to 255 become 0 to 1; the body
    is what is not black. In the index, columns of SUV and HU hold grey levels in [0, 1], areas
    pixels of the square (the body's) or of the file (the lesion's).

    Of an image in colour the grey level is the luma, and the shard holds its red, green and blue
    too, for models on a network of colour images.

    Under ``pictures: canvas`` the square is made as QFAE does for LiverCT (supplement, section
    2.1): what is not black, cut to its bounding box, in the middle of a black square, shrunk only
    where it is larger than that; then filtered, where ``bilateral_ct`` says so.

    Raises:
        DatasetError: a PNG cannot be read.
    """
    opened = _opened(image)
    grey = opened.convert("L")
    place = _on_canvas(grey) if params.pictures == "canvas" else _stretched
    colours = opened.split() if opened.mode == "RGB" else ()
    plane, *bands = (x[None] for x in _squares((grey, *colours), place, params))
    lesion = np.zeros(plane.shape, np.uint8)
    if mask is not None:
        lesion[0] = place(_opened(mask), params.image_size_px) > 127.5
    body = (plane > 0).astype(np.uint8)
    shard = Shard(plane, plane, lesion, body, colour=np.stack(bands, 1) if bands else None)
    (row,) = rows
    write_shard(shard_path(processed, row.study_id), shard)
    (measured,) = slice_measures(_measure(row, shard), 1.0, shard)
    return index_row(row, 0, measured), read_picture(row, plane[0])


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as opened:
            return opened.copy()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error}); run `dvc repro ingest`") from error


def _squares(
    levels: Sequence[Image.Image], place: _Place, params: PreprocessParams
) -> list[NDArray[np.float16]]:
    """Each (S, S) in [0, 1], of images of grey levels, the first of which says what is black."""
    squares = [place(image, params.image_size_px) / np.float32(255) for image in levels]
    if params.pictures == "canvas" and params.bilateral_ct:
        inside = squares[0] > 0
        squares = [_filtered(square, inside, params) for square in squares]
    return [square.astype(np.float16) for square in squares]


def _stretched(image: Image.Image, side_px: int) -> NDArray[np.float32]:
    """The whole image, as a square."""
    # Pillow's bilinear filter widens with the reduction: it antialiases.
    resized = image.resize((side_px, side_px), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)


def _on_canvas(image: Image.Image) -> _Place:
    """Where the bounding box of what is not black goes, of the image and of its mask alike."""
    box = image.getbbox() or (0, 0, *image.size)

    def placed(whole: Image.Image, side_px: int) -> NDArray[np.float32]:
        region = whole.crop(box)
        largest = max(region.size)
        if largest > side_px:
            width, height = (max(round(x * side_px / largest), 1) for x in region.size)
            region = region.resize((width, height), Image.Resampling.BILINEAR)
        width, height = region.size
        canvas = Image.new("L", (side_px, side_px))
        canvas.paste(region, ((side_px - width) // 2, (side_px - height) // 2))
        return np.asarray(canvas, dtype=np.float32)

    return placed


def _filtered(
    square: NDArray[np.float32], inside: NDArray[np.bool_], params: PreprocessParams
) -> NDArray[np.float32]:
    """Sigma in mm counts pixels; what lies outside is black."""
    filtered = bilateral(sitk.GetImageFromArray(square[None]), params)
    return np.where(inside, sitk.GetArrayFromImage(filtered)[0], np.float32(0))


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
