"""Baselines without a model: numbers that anyone can read off a slice.

A detector that does not beat what a reader has without it has learned nothing worth having, so
these go through the same threshold, figures and files as every model. Slice SUVmax is the one that
every row is tested against (``comparison``); the others stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import read_table
from petct_uad.scoring.tables import RowIdentity, SeedScores
from petct_uad.slices.tables import INDEX, PETCT, PICTURE, READINGS, ImageRow, ReadingRow

_INDEX_COLUMNS = {field.name for field in fields(ImageRow)}


def closeness_to_middle(position: float) -> float:
    """1 in the middle of the stack, 0 at its first and last slice."""
    return 1 - abs(2 * position - 1)


@dataclass(frozen=True)
class TrivialBaseline:
    """A score that is one measured number of a slice.

    Attributes:
        name: of its row, without a hyphen.
        modality: whose images the number is of: pet, ct, or none.
        column: which number, of ``index.csv`` or else of ``readings.csv``.
        how: what it is, for people.
        kinds: the kinds of slices that have it.
        transform: of the number, before its direction.
        direction: 1 where a high one is abnormal, -1 where a low one is.
    """

    name: str
    modality: str
    column: str
    how: str
    kinds: tuple[str, ...] = (PETCT, PICTURE)
    transform: Callable[[float], float] = float
    direction: Literal[1, -1] = 1

    @property
    def table(self) -> str:
        """The file below ``data/processed/<dataset>`` that holds its column."""
        return INDEX if self.column in _INDEX_COLUMNS else READINGS

    @property
    def identity(self) -> RowIdentity:
        """Its row of the benchmark."""
        return RowIdentity(run=self.name, model=self.name, modality=self.modality, trivial=True)


@dataclass(frozen=True)
class Readings:
    """``readings.csv``, by slice."""

    by_slice: Mapping[str, ReadingRow]

    @classmethod
    def read(cls, processed: Path, images: Iterable[ImageRow]) -> Readings:
        """Those of these slices.

        Raises:
            DatasetError: the table is missing, or lacks one of them.
        """
        path = processed / READINGS
        if not path.is_file():
            raise DatasetError(f"{path}: not found. Run `dvc repro preprocess`.")
        found = {row.slice_id: row for row in read_table(path, ReadingRow)}
        if lacking := sorted({image.slice_id for image in images} - found.keys()):
            raise DatasetError(
                f"{path}: lacks slice {lacking[0]} and {len(lacking) - 1} others, which index.csv "
                "has; one of the two is stale. Run `dvc repro preprocess`."
            )
        return cls(found)

    def kinds(self, images: Iterable[ImageRow]) -> set[str]:
        """What these slices are."""
        return {self.by_slice[image.slice_id].kind for image in images}

    def value(self, baseline: TrivialBaseline, image: ImageRow) -> float:
        """The score of one slice."""
        row = image if baseline.table == INDEX else self.by_slice[image.slice_id]
        return baseline.direction * baseline.transform(getattr(row, baseline.column))


_UPTAKE = (PETCT,)
TRIVIAL = "trivial"  # where their results lie, as if they were an entry of the benchmark
SUVMAX = TrivialBaseline(
    "suvmax", "pet", "suv_max", "largest SUV in the body; of a picture, its largest grey level"
)
POSITION = TrivialBaseline(
    "position",
    "none",
    "position",
    "closeness to the middle of the stack",
    transform=closeness_to_middle,
)
_PETCT_BASELINES = (
    TrivialBaseline("suv_mean", "pet", "suv_mean", "mean SUV over the body", _UPTAKE),
    TrivialBaseline("suv_above_2_5", "pet", "suv_above_2_5_mm2", "area of SUV above 2.5", _UPTAKE),
    TrivialBaseline("suv_above_4", "pet", "suv_above_4_mm2", "area of SUV above 4.0", _UPTAKE),
    TrivialBaseline(
        "suv_above_41_percent",
        "pet",
        "suv_above_41_percent_mm2",
        "area of SUV above 41 % of the study's largest",
        _UPTAKE,
    ),
    TrivialBaseline(
        "suv_above_liver",
        "pet",
        "suv_above_reference_mm2",
        "area of SUV above 1.5 x mean + 2 SD of the study's liver; above 4.0 where CT shows none",
        _UPTAKE,
    ),
    TrivialBaseline("body_area", "ct", "body_area_mm2", "area of the body"),
    POSITION,
)


def _both_ways(name: str, column: str, how: str) -> tuple[TrivialBaseline, TrivialBaseline]:
    """A number of pictures, whose shortcuts may lie in either direction."""
    return (
        TrivialBaseline(name, "pet", column, how, (PICTURE,)),
        TrivialBaseline(
            f"{name}_reversed", "pet", column, f"{how}, a low one is abnormal", (PICTURE,),
            direction=-1,
        ),
    )  # fmt: skip


_PICTURE_BASELINES = (
    *_both_ways("sharpness", "grey_gradient", "mean length of the gradient of grey levels"),
    *_both_ways("laplacian", "grey_laplacian", "variance of the Laplacian of grey levels"),
    *_both_ways("brightness", "grey_mean", "mean grey level"),
    # Its other direction is SUVmax.
    _both_ways("brightest", "grey_max", "brightest grey level")[1],
)
TRIVIAL_BASELINES = (SUVMAX, *_PETCT_BASELINES, *_PICTURE_BASELINES)


def baselines_of(kinds: set[str]) -> tuple[TrivialBaseline, ...]:
    """Those that slices of all these kinds have."""
    return tuple(x for x in TRIVIAL_BASELINES if kinds <= set(x.kinds))


def score_trivial(
    baseline: TrivialBaseline,
    readings: Readings,
    normals: Sequence[ImageRow],
    test: Sequence[ImageRow],
) -> SeedScores:
    """The scores of one baseline, which has no maps.

    Args:
        readings: of these slices.
        normals: the validation normals.
        test: the test slices.
    """

    def scores(images: Sequence[ImageRow]) -> NDArray[np.float64]:
        return np.array([readings.value(baseline, x) for x in images], dtype=np.float64)

    return SeedScores(0, scores(normals), scores(test))
