"""What ``score`` writes and ``evaluate`` reads: a row's scores and maps, study by study.

``data/scores/<entry>/<row>`` holds ``row.json`` and ``seed-<n>/<study_id>.safetensors``. Nothing
here loads torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from petct_uad.core.claims import Claim
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import atomic_path, rounded, write_json
from petct_uad.slices.tables import ImageRow

ROW_FILE = "row.json"
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
    maps: NDArray[np.float32] | None = None
    val_peaks: NDArray[np.float32] | None = None
    pet_parts: NDArray[np.float32] | None = None


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
    arrays |= _halved("maps", "exponent", study.maps)
    if study.pet_parts is not None:
        arrays |= _halved("pet_parts", "pet_exponent", study.pet_parts)
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, temporary)


def _halved(name: str, exponent_name: str, maps: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    finite = np.abs(maps, where=np.isfinite(maps), out=np.zeros_like(maps))
    largest = float(finite.max(initial=0.0))
    exponent = int(np.frexp(largest)[1]) - _LARGEST_EXPONENT if largest else 0
    halved = np.ldexp(maps, -exponent).astype(np.float16)
    return {name: halved, exponent_name: np.array([exponent], dtype=np.int32)}


def read_study(path: Path, *, with_maps: bool = True) -> StudyScores:
    """Read what :func:`write_study` wrote; without maps they are (0, 0, 0).

    Raises:
        EvaluationError: the file is absent or lacks an array.
    """
    if not path.is_file():
        raise EvaluationError(f"{path}: not found. Run `dvc repro score`.")
    with safe_open(path, framework="numpy") as file:
        found = set(file.keys())
        if missing := sorted(set(_ARRAYS) - found):
            raise EvaluationError(f"{path}: lacks {', '.join(missing)}. Run `dvc repro score`.")
        maps, parts = np.empty((0, 0, 0), dtype=np.float32), None
        if with_maps:
            maps = _whole(file, "maps", "exponent")
            parts = _whole(file, "pet_parts", "pet_exponent") if "pet_parts" in found else None
        return StudyScores(file.get_tensor("shard_rows"), file.get_tensor("scores"), maps, parts)


def _whole(file: Any, name: str, exponent_name: str) -> NDArray[np.float32]:
    exponent = int(file.get_tensor(exponent_name)[0])
    whole: NDArray[np.float32] = np.ldexp(file.get_tensor(name).astype(np.float32), exponent)
    return whole


@dataclass(frozen=True)
class ScoredRow:
    """The scores of one row, as they lie in its folder."""

    folder: Path
    identity: RowIdentity
    seeds: tuple[int, ...]  # rising

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What stands in ``row.json``.

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
        """(n,) of these slices.

        Raises:
            EvaluationError: a slice was not scored.
        """
        read = self._read(seed, rows, with_maps=False)
        return np.array([study.scores[at] for study, at in read], dtype=np.float64)

    def maps(self, seed: int, rows: Sequence[ImageRow]) -> NDArray[np.float32]:
        """(n, S, S) of these slices.

        Raises:
            EvaluationError: a slice was not scored.
        """
        return np.stack([study.maps[at] for study, at in self._read(seed, rows, with_maps=True)])

    def pet_parts(self, seed: int, rows: Sequence[ImageRow]) -> NDArray[np.float32] | None:
        """(n, S, S) what the PET gives to these slices' maps; None where none is joined.

        Raises:
            EvaluationError: a slice was not scored.
        """
        read = self._read(seed, rows, with_maps=True)
        known = [study.pet_parts[at] for study, at in read if study.pet_parts is not None]
        return np.stack(known) if len(known) == len(rows) else None

    def peaks(self, seed: int, rows: Sequence[ImageRow]) -> NDArray[np.float32]:
        """(n,) the highest pixel of each of these slices' maps; one study is in memory at a time.

        Raises:
            EvaluationError: a slice was not scored.
        """
        peaks = np.empty(len(rows), dtype=np.float32)
        for study_id in sorted({row.study_id for row in rows}):
            of = [i for i, row in enumerate(rows) if row.study_id == study_id]
            peaks[of] = self.maps(seed, [rows[i] for i in of]).max(axis=(1, 2))
        return peaks

    def _read(
        self, seed: int, rows: Sequence[ImageRow], *, with_maps: bool
    ) -> list[tuple[StudyScores, int]]:
        """For each slice its study and its place there."""
        names = sorted({row.study_id for row in rows})
        studies = {x: read_study(self.file(seed, x), with_maps=with_maps) for x in names}
        places = {
            (name, int(shard_row)): at
            for name, study in studies.items()
            for at, shard_row in enumerate(study.shard_rows)
        }
        try:
            return [(studies[x.study_id], places[x.study_id, x.shard_row]) for x in rows]
        except KeyError as error:
            raise EvaluationError(
                f"{self.folder}/seed-{seed}: lacks slice {error}, which index.csv has; "
                "one of the two is stale. Run `dvc repro score`."
            ) from None


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
