"""Shards of model input: one safetensors file per study, read whole into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import atomic_path, read_table, sha256_bytes
from petct_uad.slices.tables import ImageRow

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Shard:
    """The kept slices of one study.

    Attributes:
        ct: (n, S, S) float16, windowed HU in [0, 1].
        pet: (n, S, S) float16, SUVbw / suv_high in [0, 1].
        lesion: (n, S, S) uint8, 1 inside a lesion.
        body: (n, S, S) uint8, 1 inside the body.
    """

    ct: NDArray[np.float16]
    pet: NDArray[np.float16]
    lesion: NDArray[np.uint8]
    body: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ct)

    def sha256_of(self, row: int) -> str:
        """SHA-256 of one slice's bytes: ct, pet, lesion, body."""
        planes = (self.ct, self.pet, self.lesion, self.body)
        return sha256_bytes(b"".join(plane[row].tobytes() for plane in planes))


def shard_path(processed: Path, study_id: str) -> Path:
    """Where a study's shard lies."""
    return processed / "shards" / f"{study_id}.safetensors"


def write_shard(path: Path, shard: Shard) -> None:
    """Write a shard atomically; the same arrays give the same bytes."""
    arrays = {"ct": shard.ct, "pet": shard.pet, "lesion": shard.lesion, "body": shard.body}
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)


def read_shard(path: Path) -> Shard:
    """Read what :func:`write_shard` wrote.

    Raises:
        DatasetError: the file is absent or lacks one of the four arrays.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: shard not found. Run `dvc repro preprocess`.")
    arrays = load_file(path)
    missing = {"ct", "pet", "lesion", "body"} - arrays.keys()
    if missing:
        raise DatasetError(f"{path}: shard lacks {', '.join(sorted(missing))}")
    return Shard(arrays["ct"], arrays["pet"], arrays["lesion"], arrays["body"])


@dataclass(frozen=True)
class SliceStore:
    """All slices of one split, in memory, in the order of ``index.csv``.

    Attributes:
        rows: one per slice.
        ct, pet: (n, S, S) float16 in [0, 1].
        lesion: (n, S, S) uint8.
    """

    rows: tuple[ImageRow, ...]
    ct: NDArray[np.float16]
    pet: NDArray[np.float16]
    lesion: NDArray[np.uint8]

    @classmethod
    def open(cls, processed: Path, split: Split) -> Self:
        """Read one split; only the shards of its studies are touched.

        Raises:
            DatasetError: the split is empty or a shard is missing.
        """
        index = read_table(processed / "index.csv", ImageRow)
        rows = tuple(row for row in index if row.split == split)
        if not rows:
            raise DatasetError(f"{processed}/index.csv: no slice in split {split!r}")
        shards = {
            study_id: read_shard(shard_path(processed, study_id))
            for study_id in sorted({row.study_id for row in rows})
        }
        picked = [(shards[row.study_id], row.shard_row) for row in rows]
        return cls(
            rows,
            np.stack([shard.ct[i] for shard, i in picked]),
            np.stack([shard.pet[i] for shard, i in picked]),
            np.stack([shard.lesion[i] for shard, i in picked]),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def image_size_px(self) -> int:
        """Side S of the square slices."""
        return int(self.ct.shape[-1])

    def lesions(self, indices: Sequence[int]) -> NDArray[np.bool_]:
        """Lesion masks (B, S, S) of the slices at ``indices``."""
        return self.lesion[list(indices)] > 0


def files_of(processed: Path, stores: Sequence[SliceStore]) -> tuple[Path, ...]:
    """What was read to open these splits: the index, and the shards of their studies."""
    studies = sorted({row.study_id for store in stores for row in store.rows})
    return (processed / "index.csv", *(shard_path(processed, study) for study in studies))
