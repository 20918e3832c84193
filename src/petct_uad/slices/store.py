"""Shards of model input: one safetensors file per study, read whole into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import atomic_path, read_table, sha256_bytes
from petct_uad.slices.tables import ImageRow

Split = Literal["train", "val", "test"]
_BESIDE = ("ct_beside", "pet_beside")


@dataclass(frozen=True)
class Shard:
    """The kept slices of one study.

    Attributes:
        ct: (n, S, S) float16, windowed HU in [0, 1].
        pet: (n, S, S) float16, SUVbw / suv_high in [0, 1].
        lesion: (n, S, S) uint8, 1 inside a lesion.
        body: (n, S, S) uint8, 1 inside the body.
        ct_beside, pet_beside: (n, 2, S, S) float16, the same below and above each slice; None
            where slices are seen alone.
    """

    ct: NDArray[np.float16]
    pet: NDArray[np.float16]
    lesion: NDArray[np.uint8]
    body: NDArray[np.uint8]
    ct_beside: NDArray[np.float16] | None = None
    pet_beside: NDArray[np.float16] | None = None

    def __len__(self) -> int:
        return len(self.ct)

    @property
    def planes(self) -> dict[str, NDArray[Any]]:
        """Every array that there is, by its name in the file."""
        named = ((x.name, getattr(self, x.name)) for x in fields(self))
        return {name: array for name, array in named if array is not None}

    def sha256_of(self, row: int) -> str:
        """SHA-256 of one slice's bytes: ct, pet, lesion, body, and those beside it."""
        return sha256_bytes(b"".join(x[row].tobytes() for x in self.planes.values()))


def shard_path(processed: Path, study_id: str) -> Path:
    """Where a study's shard lies."""
    return processed / "shards" / f"{study_id}.safetensors"


def write_shard(path: Path, shard: Shard) -> None:
    """Write a shard atomically; the same arrays give the same bytes."""
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(x) for name, x in shard.planes.items()}, temporary)


def read_shard(path: Path) -> Shard:
    """Read what :func:`write_shard` wrote.

    Raises:
        DatasetError: the file is absent or lacks one of the four arrays.
    """
    return Shard(**_planes(path, "ct", "pet", "lesion", "body", *_beside(path)))


def read_lesions(processed: Path, rows: Sequence[ImageRow]) -> NDArray[np.bool_]:
    """Lesion masks (n, S, S) of slices, and nothing else of their shards.

    Raises:
        DatasetError: a shard is absent.
    """
    (masks,) = _stacked(processed, rows, "lesion")
    return masks > 0


def read_bodies(processed: Path, rows: Sequence[ImageRow]) -> NDArray[np.bool_]:
    """Body masks (n, S, S) of slices, and nothing else of their shards.

    Raises:
        DatasetError: a shard is absent.
    """
    (masks,) = _stacked(processed, rows, "body")
    return masks > 0


@dataclass(frozen=True)
class SliceStore:
    """All images of one split, in memory, in the order of ``index.csv``; no masks.

    Attributes:
        rows: one per slice.
        ct, pet: (n, S, S) float16 in [0, 1].
        ct_beside, pet_beside: (n, 2, S, S) the slices below and above; None where slices are seen
            alone.
    """

    rows: tuple[ImageRow, ...]
    ct: NDArray[np.float16]
    pet: NDArray[np.float16]
    ct_beside: NDArray[np.float16] | None = None
    pet_beside: NDArray[np.float16] | None = None

    @classmethod
    def open(cls, processed: Path, split: Split) -> Self:
        """Read one split; of its studies' shards the images only, of others nothing.

        Raises:
            DatasetError: the split is empty or a shard is missing.
        """
        index = read_table(processed / "index.csv", ImageRow)
        rows = tuple(row for row in index if row.split == split)
        if not rows:
            raise DatasetError(f"{processed}/index.csv: no slice in split {split!r}")
        names = ("ct", "pet", *_beside(shard_path(processed, rows[0].study_id)))
        return cls(rows, *_stacked(processed, rows, *names))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def image_size_px(self) -> int:
        """Side S of the square slices."""
        return int(self.ct.shape[-1])


def files_of(processed: Path, stores: Sequence[SliceStore]) -> tuple[Path, ...]:
    """What was read to open these splits: the index, and the shards of their studies."""
    studies = sorted({row.study_id for store in stores for row in store.rows})
    return (processed / "index.csv", *(shard_path(processed, study) for study in studies))


def _stacked(processed: Path, rows: Sequence[ImageRow], *names: str) -> list[NDArray[Any]]:
    """These planes of slices, in the order of the slices: each (n, S, S)."""
    shards = {
        study_id: _planes(shard_path(processed, study_id), *names)
        for study_id in sorted({row.study_id for row in rows})
    }
    return [np.stack([shards[row.study_id][name][row.shard_row] for row in rows]) for name in names]


def _beside(path: Path) -> tuple[str, ...]:
    """Names of what lies beside the slices, where the shard holds it."""
    if not path.is_file():
        return ()
    with safe_open(path, framework="numpy") as file:
        found = set(file.keys())
    return tuple(name for name in _BESIDE if name in found)


def _planes(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise DatasetError(f"{path}: shard not found. Run `dvc repro preprocess`.")
    with safe_open(path, framework="numpy") as file:
        if missing := set(names) - set(file.keys()):
            raise DatasetError(f"{path}: shard lacks {', '.join(sorted(missing))}")
        return {name: file.get_tensor(name) for name in names}
