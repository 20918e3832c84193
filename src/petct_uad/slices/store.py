"""Shards of model input: one safetensors file per study, of which what is asked for is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import atomic_path, read_table, sha256_bytes, sha256_once, write_table
from petct_uad.slices.tables import (
    INDEX,
    OPTIONAL_PLANES,
    PLANES,
    TRAINING,
    ImageRow,
    PinnedImageRow,
    shard_path,
)

Split = Literal["train", "val", "test"]


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
        colour: (n, 3, S, S) float16, red, green and blue in [0, 1] of pictures, of which ct and pet
            are the luma; None of anything grey.
    """

    ct: NDArray[np.float16]
    pet: NDArray[np.float16]
    lesion: NDArray[np.uint8]
    body: NDArray[np.uint8]
    ct_beside: NDArray[np.float16] | None = None
    pet_beside: NDArray[np.float16] | None = None
    colour: NDArray[np.float16] | None = None

    def __len__(self) -> int:
        return len(self.ct)

    @property
    def planes(self) -> dict[str, NDArray[Any]]:
        """Every array that there is, by its name in the file."""
        named = ((x.name, getattr(self, x.name)) for x in fields(self))
        return {name: array for name, array in named if array is not None}

    def sha256_of(self, row: int) -> str:
        """SHA-256 of one slice's bytes: ct, pet, lesion, body, those beside it, its colour."""
        return sha256_bytes(b"".join(x[row].tobytes() for x in self.planes.values()))


def write_shard(path: Path, shard: Shard) -> None:
    """Write a shard atomically; the same arrays give the same bytes."""
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(x) for name, x in shard.planes.items()}, temporary)


def read_shard(path: Path) -> Shard:
    """Read what :func:`write_shard` wrote.

    Raises:
        DatasetError: the file is absent or lacks one of the four arrays.
    """
    names = (*PLANES, *_optional(path))
    with _opened(path, *names) as file:
        return Shard(**{name: file.get_tensor(name) for name in names})


class ImageStack(Protocol):
    """Slices (n, S, S) of which some are taken: an array, or what stays in files until then."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, S, S)."""
        ...

    def __getitem__(self, chosen: list[int], /) -> NDArray[Any]:
        """(k, S, S) the slices at these places, in this order."""
        ...


@dataclass(frozen=True)
class ShardPlanes:
    """One plane of each of some slices, which stay in their shards until they are taken.

    A shard is mapped into memory while it is read from, and only the pages of the planes that are
    taken are touched, so that what this holds does not grow with the number of slices.

    Attributes:
        processed: with the shards.
        rows: the n slices.
        name: lesion or body, which are uint8; any other is float16.
    """

    processed: Path
    rows: tuple[ImageRow, ...]
    name: str

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(n, S, S); (n, 2, S, S) of what lies beside the slices, (n, 3, S, S) of colour."""
        with _opened(shard_path(self.processed, self.rows[0].study_id), self.name) as file:
            return (len(self.rows), *file.get_slice(self.name).get_shape()[1:])

    def __getitem__(self, chosen: Sequence[int]) -> NDArray[Any]:
        """(k, S, S) of the slices at these places, in this order.

        Raises:
            DatasetError: a shard is absent, or lacks the plane.
        """
        dtype = np.uint8 if self.name in ("lesion", "body") else np.float16
        taken = np.empty((len(chosen), *self.shape[1:]), dtype=dtype)
        places: dict[str, list[int]] = {}
        for at, place in enumerate(chosen):
            places.setdefault(self.rows[place].study_id, []).append(at)
        for study_id, members in places.items():
            with _opened(shard_path(self.processed, study_id), self.name) as file:
                stored = file.get_slice(self.name)
                for at in members:
                    taken[at] = stored[self.rows[chosen[at]].shard_row]
        return taken


def lesions_of(processed: Path, rows: Sequence[ImageRow]) -> ShardPlanes:
    """Lesion masks (n, S, S) of slices, and nothing else of their shards."""
    return ShardPlanes(processed, tuple(rows), "lesion")


def read_bodies(processed: Path, rows: Sequence[ImageRow]) -> NDArray[np.bool_]:
    """Body masks (n, S, S) of slices, and nothing else of their shards.

    Raises:
        DatasetError: a shard is absent.
    """
    return ShardPlanes(processed, tuple(rows), "body")[range(len(rows))] > 0


@dataclass(frozen=True)
class SliceStore:
    """The images of one split in the order of their table; no masks.

    Attributes:
        rows: one per slice.
        ct, pet: (n, S, S) float16 in [0, 1].
        ct_beside, pet_beside: (n, 2, S, S) the slices below and above; None where slices are seen
            alone.
        colour: (n, 3, S, S) of pictures; None of anything grey.
    """

    rows: tuple[ImageRow, ...]
    ct: ImageStack
    pet: ImageStack
    ct_beside: ImageStack | None = None
    pet_beside: ImageStack | None = None
    colour: ImageStack | None = None

    @classmethod
    def open(cls, processed: Path, split: Split) -> Self:
        """One split, whose images stay on disk until a batch takes them.

        Raises:
            DatasetError: the split is empty, or a shard is missing or lacks an image.
        """
        table = table_of(processed, split)
        rows = tuple(row for row in _rows_of(table) if row.split == split)
        if not rows:
            raise DatasetError(f"{table}: no slice in split {split!r}")
        names = ("ct", "pet", *_optional(shard_path(processed, rows[0].study_id)))
        for study_id in sorted({row.study_id for row in rows}):
            with _opened(shard_path(processed, study_id), *names):
                pass
        return cls(rows, **{name: ShardPlanes(processed, rows, name) for name in names})

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def image_size_px(self) -> int:
        """Side S of the square slices."""
        return int(self.ct.shape[-1])


def files_of(processed: Path, stores: Sequence[SliceStore]) -> tuple[Path, ...]:
    """What was read to open these splits: their tables, and the shards of their studies."""
    rows = [row for store in stores for row in store.rows]
    tables = sorted({table_of(processed, row.split) for row in rows})
    studies = sorted({row.study_id for row in rows})
    return (*tables, *(shard_path(processed, study) for study in studies))


def table_of(processed: Path, split: str) -> Path:
    """Which table names the slices of a split, with nothing of the test split for a training."""
    return processed / (INDEX if split == "test" else TRAINING)


def write_index(processed: Path, rows: Sequence[ImageRow]) -> dict[str, str]:
    """Write ``index.csv`` of all slices, and ``training.csv`` of those in train and val.

    Args:
        processed: with the shards.
        rows: of all slices, sorted by slice_id.

    Returns:
        SHA-256 of each study's shard.
    """
    write_table(processed / INDEX, ImageRow, rows)
    shards = {row.study_id: shard_path(processed, row.study_id) for row in rows}
    sha256 = {study_id: sha256_once(shard) for study_id, shard in shards.items()}
    learnt = [row for row in rows if row.split != "test"]
    pinned = [PinnedImageRow(**vars(row), shard_sha256=sha256[row.study_id]) for row in learnt]
    write_table(processed / TRAINING, PinnedImageRow, pinned)
    return sha256


def _rows_of(table: Path) -> list[ImageRow]:
    if table.name == TRAINING:
        return list(read_table(table, PinnedImageRow))
    return read_table(table, ImageRow)


def _optional(path: Path) -> tuple[str, ...]:
    """Names of what lies beside the slices, and of their colour, where the shard holds it."""
    if not path.is_file():
        return ()
    with safe_open(path, framework="numpy") as file:
        found = set(file.keys())
    return tuple(name for name in OPTIONAL_PLANES if name in found)


@contextmanager
def _opened(path: Path, *names: str) -> Iterator[Any]:
    """A shard that holds these planes, mapped into memory."""
    if not path.is_file():
        raise DatasetError(f"{path}: shard not found. Run `dvc repro preprocess`.")
    with safe_open(path, framework="numpy") as file:
        if missing := set(names) - set(file.keys()):
            raise DatasetError(f"{path}: shard lacks {', '.join(sorted(missing))}")
        yield file
