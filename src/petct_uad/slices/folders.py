"""A folder of single-modality pictures as a processed data set of our own format.

The layout is that of the medical anomaly detection papers: ``images/`` beside a ``data.json`` that
holds ``{"train": {"0": [names]}, "test": {"0": [names], "1": [names]}}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from petct_uad.errors import DatasetError
from petct_uad.files import atomic_folder, sha256_bytes, write_table
from petct_uad.slices.store import Shard, Split, shard_path, write_shard
from petct_uad.slices.tables import ImageRow

LISTING = "data.json"
IMAGES = "images"
_SCANNER = "unknown"

# Of the images of one split and label, as one study: a shard each.
_GROUPS: tuple[tuple[Split, Literal[0, 1]], ...] = (
    ("train", 0),
    ("val", 0),
    ("test", 0),
    ("test", 1),
)


@dataclass(frozen=True, order=True)
class RefusedImage:
    """A listed file that is not in the data set, and why."""

    name: str
    split: str
    label: int
    reason: str


@dataclass(frozen=True)
class ImportedImages:
    """What an import wrote.

    Attributes:
        rows: of ``index.csv``, sorted by slice_id.
        files: the source of each row, below ``images``.
        refused: listed files that are missing or unreadable.
        duplicates: slice_ids of test images whose pixels are those of an image listed for training.
    """

    rows: tuple[ImageRow, ...]
    files: tuple[Path, ...]
    refused: tuple[RefusedImage, ...]
    duplicates: tuple[str, ...]


@dataclass(frozen=True)
class _Picture:
    """One readable file: pixels (S, S) in [0, 1], and the hash of what the file itself holds."""

    file: Path
    split: Split
    label: int
    pixels: NDArray[np.float16]
    sha256: str


def import_image_benchmark(
    folder: Path,
    processed: Path,
    image_size_px: int,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    on_refused: Literal["report", "stop"] = "report",
) -> ImportedImages:
    """Write ``index.csv`` and shards that training and evaluation read like any other data set.

    Each picture is turned into grey levels, resized to a square and put in both planes, PET and CT,
    as the CMAD paper does with single-modality data. No patient ids are known, so each picture is
    a patient of its own: an interval by patients is one by pictures, too narrow if some share a
    patient. There are no masks: lesion planes are empty, the body is what is not black. Columns
    with a unit hold what can be said without one: SUV and HU columns grey levels in [0, 1], areas
    pixels.

    Args:
        folder: holds ``data.json`` and ``images``.
        processed: is replaced whole, and only if the import succeeds.
        image_size_px: side S.
        val_fraction: of the training normals become validation normals; identical pictures stay on
            one side.
        seed: which ones.
        on_refused: go on without missing and unreadable files and name them, or stop.

    Raises:
        DatasetError: no such layout, a name is listed twice or leaves the folder, a group is empty,
            or a file is refused and ``on_refused`` is ``stop``.
    """
    pictures, refused = _read_all(folder, image_size_px)
    if refused and on_refused == "stop":
        lines = "".join(f"\n  {image.name} ({image.split}): {image.reason}" for image in refused)
        raise DatasetError(f"{folder}: {len(refused)} listed images cannot be used:{lines}")
    groups = _grouped(_hold_out(pictures, val_fraction, seed))
    with atomic_folder(processed) as temporary:
        rows = [row for study_id, group in groups for row in _write(temporary, study_id, group)]
        write_table(temporary / "index.csv", ImageRow, sorted(rows))
    ordered = [picture for _, group in groups for picture in group]
    pairs = sorted(zip(rows, ordered, strict=True), key=lambda pair: pair[0])
    return ImportedImages(
        rows=tuple(row for row, _ in pairs),
        files=tuple(picture.file for _, picture in pairs),
        refused=tuple(sorted(refused)),
        duplicates=_seen_in_training(pairs),
    )


class _Train(BaseModel):
    model_config = ConfigDict(extra="forbid")

    normal: list[str] = Field(alias="0", min_length=1)


class _Test(_Train):
    abnormal: list[str] = Field(alias="1", min_length=1)


class _Listing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    train: _Train
    test: _Test

    def __iter__(self) -> Iterator[tuple[str, Split, int]]:  # type: ignore[override]
        for name in self.train.normal:
            yield name, "train", 0
        for name in self.test.normal:
            yield name, "test", 0
        for name in self.test.abnormal:
            yield name, "test", 1


def _read_listing(folder: Path) -> list[tuple[str, Split, int]]:
    path = folder / LISTING
    try:
        listed = list(_Listing.model_validate_json(path.read_bytes()))
    except FileNotFoundError:
        raise DatasetError(f"{path}: not found; expected it beside {IMAGES}/") from None
    except ValidationError as error:
        raise DatasetError(
            f'{path}: expected {{"train": {{"0": [...]}}, "test": {{"0": [...], "1": [...]}}}}'
            f": {error}"
        ) from error
    stems: set[str] = set()
    for name, _, _ in listed:
        if PurePath(name).name != name:
            raise DatasetError(f"{path}: {name!r} is no plain file name")
        if (stem := PurePath(name).stem) in stems:
            raise DatasetError(f"{path}: {stem!r} is listed twice; each image stands in one split")
        stems.add(stem)
    return listed


def _read_all(folder: Path, side: int) -> tuple[list[_Picture], list[RefusedImage]]:
    pictures: list[_Picture] = []
    refused: list[RefusedImage] = []
    for name, split, label in sorted(_read_listing(folder)):
        try:
            pictures.append(_read(folder / IMAGES / name, split, label, side))
        except FileNotFoundError:
            refused.append(RefusedImage(name, split, label, f"missing from {IMAGES}/"))
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            reason = str(error).replace(str(folder / IMAGES), IMAGES)
            refused.append(RefusedImage(name, split, label, f"unreadable: {reason}"))
    return pictures, refused


def _read(path: Path, split: Split, label: int, side: int) -> _Picture:
    with Image.open(path) as opened:
        grey = opened.convert("L")
    # Pillow's bilinear filter widens with the reduction: it antialiases.
    resized = grey.resize((side, side), Image.Resampling.BILINEAR)
    pixels = (np.asarray(resized, dtype=np.float32) / 255).astype(np.float16)
    content = f"{grey.size}".encode() + grey.tobytes()
    return _Picture(path, split, label, pixels, sha256_bytes(content))


def _hold_out(pictures: Sequence[_Picture], fraction: float, seed: int) -> list[_Picture]:
    """Move a seeded ``fraction`` of the distinct training pictures to validation."""
    distinct = sorted({picture.sha256 for picture in pictures if picture.split == "train"})
    count = max(round(fraction * len(distinct)), 1)
    order = np.random.default_rng(seed).permutation(len(distinct))
    held_out = {distinct[i] for i in order[:count]}
    return [
        _Picture(x.file, "val", x.label, x.pixels, x.sha256)
        if x.split == "train" and x.sha256 in held_out
        else x
        for x in pictures
    ]


def _grouped(pictures: Sequence[_Picture]) -> list[tuple[str, list[_Picture]]]:
    """Study ids and their pictures, one study per split and label."""
    groups = [
        (
            f"{split}-{'abnormal' if label else 'normal'}",
            [x for x in pictures if (x.split, x.label) == (split, label)],
        )
        for split, label in _GROUPS
    ]
    if empty := [study_id for study_id, group in groups if not group]:
        raise DatasetError(f"{LISTING}: no usable image in {', '.join(empty)}")
    return groups


def _write(processed: Path, study_id: str, group: Sequence[_Picture]) -> list[ImageRow]:
    planes = np.stack([picture.pixels for picture in group])
    shard = Shard(planes, planes, np.zeros(planes.shape, np.uint8), (planes > 0).astype(np.uint8))
    write_shard(shard_path(processed, study_id), shard)
    return [_row(study_id, i, picture, shard) for i, picture in enumerate(group)]


def _row(study_id: str, i: int, picture: _Picture, shard: Shard) -> ImageRow:
    grey = picture.pixels.astype(np.float64)
    return ImageRow(
        slice_id=f"{study_id}_{i:04d}",
        study_id=study_id,
        patient=picture.file.stem,
        scanner=_SCANNER,
        split=picture.split,
        label=picture.label,
        position=0.0,
        shard_row=i,
        lesion_area_mm2=0.0,
        lesion_kept_fraction=1.0,
        suv_max=float(grey.max()),
        suv_mean=float(grey.mean()),
        suv_total_ratio=1.0,
        body_area_mm2=float(shard.body[i].sum()),
        ct_mean_hu=float(grey.mean()),
        ct_std=float(grey.std()),
        pet_std=float(grey.std()),
        sha256=shard.sha256_of(i),
    )


def _seen_in_training(pairs: Sequence[tuple[ImageRow, _Picture]]) -> tuple[str, ...]:
    seen = {picture.sha256 for row, picture in pairs if row.split != "test"}
    return tuple(
        row.slice_id for row, picture in pairs if row.split == "test" and picture.sha256 in seen
    )
