"""Images that are in two splits are found, however they were touched up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, rotate

from petct_uad.slices.store import Shard, write_shard
from petct_uad.slices.tables import ImageRow, shard_path
from petct_uad.validation import duplicates
from petct_uad.validation.duplicates import find_duplicates
from petct_uad.validation.shards import MeasuredShards, measure_shards
from petct_uad.validation.tables import DuplicateRow
from tests.samples import image_row

SIDE = 64
PATIENTS = 12  # 2 slices each: 6 train, 3 validate, 3 test
SPLITS = ("train",) * 6 + ("val",) * 3 + ("test",) * 3
ORIGINAL, COPY = "p00_0000", "p11_0001"  # train, test

Pictures = dict[str, NDArray[np.float16]]


def pictures() -> Pictures:
    """CT and PET (2, S, S) of each slice: bodies of various widths with their own texture."""
    generator = np.random.default_rng(3)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return {
        f"p{patient:02d}_{i:04d}": _picture(generator, x, y)
        for patient in range(PATIENTS)
        for i in range(2)
    }


def _picture(generator: np.random.Generator, x: np.ndarray, y: np.ndarray) -> NDArray[np.float16]:
    a, b = generator.uniform(0.6, 0.9, 2)
    body = (x / a) ** 2 + (y / b) ** 2 < 1
    organs = gaussian_filter(generator.normal(size=(2, SIDE, SIDE)), (0, 5, 5))
    organs = organs / organs.std() * 0.15
    return np.asarray(np.clip(body * (0.5 + organs), 0, 1), np.float16)


def measured(folder: Path, stored: Pictures) -> tuple[list[ImageRow], MeasuredShards]:
    rows = []
    for patient in range(PATIENTS):
        study = f"p{patient:02d}"
        planes = np.stack([stored[f"{study}_{i:04d}"] for i in range(2)])
        mask = np.ones((2, SIDE, SIDE), np.uint8)
        shard = Shard(planes[:, 0], planes[:, 1], 0 * mask, mask)
        write_shard(shard_path(folder, study), shard)
        rows += [
            image_row(slice_id=f"{study}_{i:04d}", study_id=study, patient=study, shard_row=i,
                      split=SPLITS[patient], sha256=shard.sha256_of(i))
            for i in range(2)
        ]  # fmt: skip
    return rows, measure_shards(rows, folder, workers=1)


def found(folder: Path, stored: Pictures) -> list[DuplicateRow]:
    return find_duplicates(*measured(folder, stored), 0.995)


def test_cohort_of_different_patients_has_none(tmp_path: Path) -> None:
    assert found(tmp_path, pictures()) == []


def test_planted_copy_is_exact_and_named_with_both_splits(tmp_path: Path) -> None:
    stored = pictures()
    stored[COPY] = stored[ORIGINAL]
    (row,) = found(tmp_path, stored)
    assert (row.first, row.first_split) == (ORIGINAL, "train")
    assert (row.second, row.second_split) == (COPY, "test")
    assert row.kind == "exact"
    assert row.correlation == 1.0


CHANGES = {
    "noise": lambda image: image + np.random.default_rng(0).normal(0, 0.02, image.shape),
    "brightness": lambda image: 0.9 * image,
    "blur": lambda image: gaussian_filter(image, (0, 0.7, 0.7)),
    "turn by 1 degree": lambda image: rotate(image, 1.0, axes=(1, 2), reshape=False, order=1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_planted_copy_that_was_slightly_changed_is_near(change: str, tmp_path: Path) -> None:
    stored = pictures()
    original = stored[ORIGINAL].astype(np.float64)
    stored[COPY] = np.clip(CHANGES[change](original), 0, 1).astype(np.float16)
    (row,) = found(tmp_path, stored)
    assert (row.first, row.second, row.kind) == (ORIGINAL, COPY, "near")
    assert row.correlation >= 0.995


def test_likeness_within_one_split_is_no_leak(tmp_path: Path) -> None:
    stored = pictures()
    stored["p01_0000"] = stored[ORIGINAL]
    assert found(tmp_path, stored) == []


def test_empty_images_of_two_splits_are_identical(tmp_path: Path) -> None:
    stored = pictures()
    stored[ORIGINAL] = stored[COPY] = np.zeros_like(stored[COPY])
    (row,) = found(tmp_path, stored)
    assert row.kind == "exact"


def test_blocks_do_not_change_what_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = pictures()
    stored[COPY] = stored[ORIGINAL] * np.float16(0.9)
    stored["p07_0000"] = stored["p02_0001"]
    cohort = measured(tmp_path, stored)
    whole = find_duplicates(*cohort, 0.9)
    monkeypatch.setattr(duplicates, "_BLOCK", 1)
    assert find_duplicates(*cohort, 0.9) == whole
    assert {row.kind for row in whole} == {"exact", "near"}


def test_damaged_shard_has_other_bytes_than_the_index_names(tmp_path: Path) -> None:
    images, before = measured(tmp_path, pictures())
    path = shard_path(tmp_path, "p03")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the body mask of its second slice
    path.write_bytes(content)
    after = measure_shards(images, tmp_path, workers=1)
    changed = [row.slice_id for row, other in zip(before.rows, after.rows, strict=True)
               if row.sha256 != other.sha256]  # fmt: skip
    assert changed == ["p03_0001"]
