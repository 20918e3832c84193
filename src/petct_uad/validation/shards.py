"""The models' input, measured from the bytes that training will read."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from petct_uad.core.files import sha256_bytes
from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.study_store import Storable, StudyStore
from petct_uad.slices.tables import OPTIONAL_PLANES, PLANES, ImageRow, shard_path
from petct_uad.validation.tables import ShardRow

FEATURE_SIDE_PX = 16
_FLOAT = np.dtype("<f4")


@dataclass(frozen=True)
class MeasuredShards:
    """Statistics of every image, and what it looks like from afar.

    Attributes:
        rows: sorted by slice_id.
        features: (n, 2 * 16 * 16) float32 of unit length, in the order of ``rows``: CT and PET as
            means over blocks, each less its mean and divided by its length. The scalar product of
            two is the mean of the Pearson correlations of the two CTs and the two PETs.
    """

    rows: tuple[ShardRow, ...]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class _Shard(Storable):
    path: Path
    places: tuple[tuple[str, int], ...]  # slice_id and row of each of its images

    @property
    def sources(self) -> tuple[Path, ...]:
        """The shard."""
        return (self.path,)

    @property
    def said(self) -> str:
        """Which of its rows are which images."""
        return json.dumps(self.places)


@dataclass(frozen=True)
class _MeasuredShard:
    rows: tuple[ShardRow, ...]
    features: str  # of MeasuredShards, (n, 2 * 16 * 16) little-endian float32 in base 64


def measure_shards(
    images: Sequence[ImageRow], processed: Path, workers: int, store: StudyStore | None = None
) -> MeasuredShards:
    """Measure every image that the index names, study by study."""
    by_study: dict[str, list[ImageRow]] = {}
    for image in images:
        by_study.setdefault(image.study_id, []).append(image)
    tasks = [
        _Shard(
            path=shard_path(processed, study_id),
            places=tuple((image.slice_id, image.shard_row) for image in rows),
        )
        for study_id, rows in sorted(by_study.items())
    ]
    parts = map_stored(
        _measure_shard, tasks, _MeasuredShard, "measuring shards", workers=workers, store=store
    )
    rows = [row for part in parts for row in part.rows]
    order = sorted(range(len(rows)), key=lambda i: rows[i].slice_id)
    content = b"".join(b64decode(part.features) for part in parts)
    features = np.frombuffer(content, _FLOAT).reshape(-1, 2 * FEATURE_SIDE_PX**2)
    return MeasuredShards(tuple(rows[i] for i in order), features[order])


def _measure_shard(shard: _Shard) -> _MeasuredShard:
    planes = load_file(shard.path)
    rows = tuple(_row(slice_id, row, planes) for slice_id, row in shard.places)
    picked = [row for _, row in shard.places]
    looks = [_from_afar(planes[name][picked]) for name in ("ct", "pet")]
    features = np.concatenate(looks, axis=1) / np.float32(np.sqrt(2))
    return _MeasuredShard(rows, b64encode(features.astype(_FLOAT).tobytes()).decode())


def _row(slice_id: str, row: int, planes: dict[str, NDArray[np.generic]]) -> ShardRow:
    names = (*PLANES, *(x for x in OPTIONAL_PLANES if x in planes))
    stored = {name: planes[name][row] for name in names}
    ct, pet = (stored[name].astype(np.float64) for name in ("ct", "pet"))
    body = stored["body"].astype(bool)
    content = {name: plane.tobytes() for name, plane in stored.items()}
    return ShardRow(
        slice_id=slice_id,
        finite=all(bool(np.isfinite(x).all()) for x in stored.values() if x.dtype.kind == "f"),
        ct_minimum=float(ct.min()),
        ct_maximum=float(ct.max()),
        ct_mean=_mean(ct, body),
        ct_std=float(ct.std()),
        pet_minimum=float(pet.min()),
        pet_maximum=float(pet.max()),
        pet_mean=_mean(pet, body),
        pet_std=float(pet.std()),
        body_fraction=float(body.mean()),
        lesion_px=int(np.count_nonzero(stored["lesion"])),
        sha256=sha256_bytes(b"".join(content.values())),
        image_sha256=sha256_bytes(b"".join(content.get(x, b"") for x in ("ct", "pet", "colour"))),
    )


def _mean(values: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    return float(values.mean(where=where)) if where.any() else 0.0


def _from_afar(planes: NDArray[np.generic]) -> NDArray[np.float32]:
    """Block means (n, 16 * 16), each row with mean 0 and length 1; 0 for a constant image."""
    count, side, _ = planes.shape
    edges = np.arange(FEATURE_SIDE_PX + 1) * side // FEATURE_SIDE_PX
    sums = planes.astype(np.float32)
    sums[~np.isfinite(sums)] = 0.0
    for axis in (1, 2):
        sums = np.add.reduceat(sums, edges[:-1], axis=axis)
    widths = np.diff(edges).astype(np.float32)
    flat = (sums / (widths[:, None] * widths)).reshape(count, -1)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-6))
