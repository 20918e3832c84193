"""What ``score`` writes and ``evaluate`` reads: a row's scores and maps, study by study.

``data/scores/<entry>/<row>`` holds ``row.json`` and ``seed-<n>/<study_id>.safetensors``. Nothing
here loads torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from petct_uad.core.claims import Claim
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import atomic_path, rounded, write_json
from petct_uad.slices.store import ImageStack
from petct_uad.slices.tables import ImageRow

LINEAGE = Path("data/scores-lineage")  # a folder per entry, which compare reads
ROW_FILE = "row.json"
_MAPS, _PET_PARTS = "maps", "pet_parts"
_EXPONENTS = {_MAPS: "exponent", _PET_PARTS: "pet_exponent"}
_LARGEST_EXPONENT = 15  # float16 ends below 2^16
_ARRAYS = ("shard_rows", "scores", "maps", "exponent")


@dataclass(frozen=True, kw_only=True)
class RowIdentity:
    """What a row of the benchmark is, and what its scores alone do not say."""

    run: str
    model: str
    modality: str  # pet, ct, petct, or none for slice position
    teacher: str = "none"  # the frozen network, by its name
    image_size_px: int = 0  # side of the images that the model saw; 0: no model
    trivial: bool = False  # no model: a number read off the slice
    parameters: int = 0  # of the student; the frozen teacher is not counted
    scan: str = "none"  # which selective scan trained it: reference, numba, cuda, or none
    gflops_per_pair: float = 0.0  # as torch counts them, so without the scan; 0: no model
    as_published: bool = True  # is it what its paper's claims are about?
    claims: tuple[Claim, ...] = ()  # of its model's paper


@dataclass(frozen=True)
class SeedScores:
    """What one seed's model says of the validation normals and of the test slices.

    Attributes:
        seed: of the training; 0 for a trivial baseline.
        val: (m,) scores of the validation normals, which choose the threshold.
        test: (n,) scores of the test slices, higher is more abnormal.
        maps: (n, S, S) of the test slices, or None where there are no maps.
        val_peaks: (m,) the highest pixel of each validation normal's map, likewise.
        pet_parts: (n, S, S) what the PET gives to the maps, the rest being the CT's; None where
            maps are not joined from one of each.
    """

    seed: int
    val: NDArray[np.float64]
    test: NDArray[np.float64]
    maps: ImageStack | None = None
    val_peaks: NDArray[np.float32] | None = None
    pet_parts: ImageStack | None = None


@dataclass(frozen=True)
class StudyScores:
    """What one seed's model says of some slices of one study.

    Attributes:
        shard_rows: (n,) which slices, by their rows in the study's shard.
        scores: (n,) higher is more abnormal.
        maps: (n, S, S) likewise, on the shard's grid.
        pet_parts: (n, S, S) what the PET gives to the maps, the rest being the CT's; None where
            maps are not joined from one of each.
    """

    shard_rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    maps: NDArray[np.float32]
    pet_parts: NDArray[np.float32] | None = None


def write_study(path: Path, study: StudyScores) -> None:
    """Write one study atomically; the same values give the same bytes.

    Maps are float16 times a power of two, which brings the file's largest value to [2^14, 2^15),
    and so are the PET's parts, by a power of their own: a value keeps a relative precision of
    2^-11 down to 2^-28 of the largest, and smaller ones are off by at most 2^-39 of it.
    """
    arrays: dict[str, NDArray[Any]] = {"shard_rows": study.shard_rows, "scores": study.scores}
    arrays |= _halved(_MAPS, study.maps)
    if study.pet_parts is not None:
        arrays |= _halved(_PET_PARTS, study.pet_parts)
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, temporary)


def _halved(name: str, maps: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    finite = np.abs(maps, where=np.isfinite(maps), out=np.zeros_like(maps))
    largest = float(finite.max(initial=0.0))
    exponent = int(np.frexp(largest)[1]) - _LARGEST_EXPONENT if largest else 0
    halved = np.ldexp(maps, -exponent).astype(np.float16)
    return {name: halved, _EXPONENTS[name]: np.array([exponent], dtype=np.int32)}


def read_study(path: Path, *, with_maps: bool = True) -> StudyScores:
    """Read what :func:`write_study` wrote; without maps they are (0, 0, 0).

    Raises:
        EvaluationError: the file is absent or lacks an array.
    """
    with _opened(path) as file:
        maps, parts = np.empty((0, 0, 0), dtype=np.float32), None
        if with_maps:
            maps = _whole(file, _MAPS, slice(None))
            parts = (
                _whole(file, _PET_PARTS, slice(None)) if _PET_PARTS in set(file.keys()) else None
            )
        return StudyScores(file.get_tensor("shard_rows"), file.get_tensor("scores"), maps, parts)


def _whole(file: Any, name: str, places: slice | list[int]) -> NDArray[np.float32]:
    """Maps at these places of an open file, in float32."""
    stored, exponent = file.get_slice(name), int(file.get_tensor(_EXPONENTS[name])[0])
    halved = stored[places] if isinstance(places, slice) else np.stack([stored[i] for i in places])
    return np.asarray(np.ldexp(halved.astype(np.float32), exponent))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A study's scores, mapped into memory."""
    if not path.is_file():
        raise EvaluationError(f"{path}: not found. Run `dvc repro score`.")
    with safe_open(path, framework="numpy") as file:
        if missing := sorted(set(_ARRAYS) - set(file.keys())):
            raise EvaluationError(f"{path}: lacks {', '.join(missing)}. Run `dvc repro score`.")
        yield file


@dataclass(frozen=True)
class ScoredRow:
    """The scores of one row, as they lie in its folder."""

    folder: Path
    identity: RowIdentity
    seeds: tuple[int, ...]  # rising

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What is in ``row.json``.

        Raises:
            EvaluationError: it is missing or of another version.
        """
        path = folder / ROW_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(folder, identity_of(content), tuple(content["seeds"]))
        except FileNotFoundError:
            raise EvaluationError(f"{path}: not found. Run `dvc repro score`.") from None
        except (KeyError, TypeError, ValueError) as error:
            raise EvaluationError(f"{path}: of another version: {error}") from error

    def write(self) -> None:
        """Write ``row.json``."""
        write_json(self.folder / ROW_FILE, flat_identity(self.identity) | {"seeds": self.seeds})

    def file(self, seed: int, study_id: str) -> Path:
        """The scores of one seed and study."""
        return self.folder / f"seed-{seed}" / f"{study_id}.safetensors"

    def files(self, seed: int) -> tuple[Path, ...]:
        """Those of all studies."""
        return tuple(sorted((self.folder / f"seed-{seed}").glob("*.safetensors")))

    def scores(self, seed: int, rows: Sequence[ImageRow]) -> NDArray[np.float64]:
        """(n,) of these slices; one study is in memory at a time.

        Raises:
            EvaluationError: a slice was not scored.
        """
        scores = np.empty(len(rows), dtype=np.float64)
        for study_id, members in _by_study(rows).items():
            study = read_study(self.file(seed, study_id), with_maps=False)
            places = self._places(seed, study.shard_rows, [rows[i] for i in members])
            scores[members] = study.scores[places]
        return scores

    def maps(self, seed: int, rows: Sequence[ImageRow]) -> StoredMaps:
        """(n, S, S) of these slices, which are read when they are taken."""
        return StoredMaps(self, seed, tuple(rows))

    def pet_parts(self, seed: int, rows: Sequence[ImageRow]) -> StoredMaps | None:
        """(n, S, S) what the PET gives to these slices' maps, likewise; None if none is joined."""
        for study_id in {row.study_id for row in rows}:
            with _opened(self.file(seed, study_id)) as file:
                if _PET_PARTS not in set(file.keys()):
                    return None
        return StoredMaps(self, seed, tuple(rows), _PET_PARTS)

    def peaks(self, seed: int, rows: Sequence[ImageRow]) -> NDArray[np.float32]:
        """(n,) the highest pixel of each of these slices' maps; one study is in memory at a time.

        Raises:
            EvaluationError: a slice was not scored.
        """
        peaks, maps = np.empty(len(rows), dtype=np.float32), self.maps(seed, rows)
        for members in _by_study(rows).values():
            peaks[members] = maps[members].max(axis=(1, 2))
        return peaks

    def read_maps(
        self, seed: int, rows: Sequence[ImageRow], name: str = _MAPS
    ) -> NDArray[np.float32]:
        """(n, S, S) of slices of one study, or what the PET gives to them (``pet_parts``).

        Raises:
            EvaluationError: a slice was not scored.
        """
        with _opened(self.file(seed, rows[0].study_id)) as file:
            places = self._places(seed, file.get_tensor("shard_rows"), rows)
            return _whole(file, name, places)

    def _places(
        self, seed: int, shard_rows: NDArray[np.int64], rows: Sequence[ImageRow]
    ) -> list[int]:
        """Where slices of one study are in its file."""
        places = {shard_row: at for at, shard_row in enumerate(shard_rows.tolist())}
        if missing := [row.slice_id for row in rows if row.shard_row not in places]:
            raise EvaluationError(
                f"{self.folder}/seed-{seed}: lacks slice {missing[0]}, which index.csv has; "
                "one of the two is stale. Run `dvc repro score`."
            )
        return [places[row.shard_row] for row in rows]


@dataclass(frozen=True)
class StoredMaps:
    """One seed's maps (n, S, S) of some slices, which stay in their files until they are taken.

    Attributes:
        row: in whose folder they lie.
        seed: of the training.
        rows: the n slices.
        name: maps, or pet_parts for what the PET gives to them.
    """

    row: ScoredRow
    seed: int
    rows: tuple[ImageRow, ...]
    name: str = _MAPS

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(n, S, S)."""
        return (len(self.rows), *self[[0]].shape[1:])

    def __getitem__(self, chosen: Sequence[int]) -> NDArray[np.float32]:
        """(k, S, S) of the slices at these places, in this order.

        Raises:
            EvaluationError: one of them was not scored.
        """
        rows = [self.rows[place] for place in chosen]
        studies = _by_study(rows)
        parts = [
            self.row.read_maps(self.seed, [rows[i] for i in of], self.name)
            for of in studies.values()
        ]
        if len(parts) == 1:
            return parts[0]
        taken = np.empty((len(rows), *parts[0].shape[1:]), dtype=np.float32)
        for members, part in zip(studies.values(), parts, strict=True):
            taken[members] = part
        return taken


def _by_study(rows: Sequence[ImageRow]) -> dict[str, list[int]]:
    """The places of each study's slices."""
    places: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        places.setdefault(row.study_id, []).append(at)
    return places


def scored_rows(folder: Path) -> tuple[ScoredRow, ...]:
    """Every row below ``data/scores/<entry>``, by name.

    Raises:
        EvaluationError: there is none, or one is of another version.
    """
    rows = tuple(ScoredRow.read(path.parent) for path in sorted(folder.glob(f"*/{ROW_FILE}")))
    if not rows:
        raise EvaluationError(f"{folder}: holds no scores. Run `dvc repro score@{folder.name}`.")
    return rows


def flat_identity(identity: RowIdentity) -> dict[str, Any]:
    """An identity as JSON has it."""
    flat = asdict(identity)
    return {key: rounded(x) if isinstance(x, float) else x for key, x in flat.items()}


def identity_of(content: dict[str, Any]) -> RowIdentity:
    """What :func:`flat_identity` gave; other keys do not count.

    Raises:
        KeyError: a key is missing.
        TypeError: a claim has other keys.
    """
    values = {field.name: content[field.name] for field in fields(RowIdentity)}
    claims = (Claim(**(item | {"worse": tuple(item["worse"])})) for item in values.pop("claims"))
    return RowIdentity(**values, claims=tuple(claims))
