"""Which part of each body counts, where ``preprocess.region`` asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from petct_uad.core.files import read_table
from petct_uad.report.pictures import Picture, qc_pictures
from petct_uad.slices.tables import REGIONS, RegionRow

_MOST_ROWS = 100
_MOST_FIGURES = 12


@dataclass(frozen=True)
class Regions:
    """The kept range of every study, doubtful ones first.

    Attributes:
        rows: the first of them.
        doubts: what a person should look at, one for each of ``rows``; "" where there is nothing.
        studies: how many there are.
        slices: that are kept, of all studies.
        slices_outside: that are not.
        pictures: QC figures of the first.
    """

    rows: tuple[RegionRow, ...]
    doubts: tuple[str, ...]
    studies: int
    slices: int
    slices_outside: int
    pictures: tuple[Picture, ...]

    @classmethod
    def read(cls, interim: Path) -> Self | None:
        """Those of ``data/interim/<dataset>``; None where all slices count."""
        rows = _rows(interim)
        if not rows:
            return None
        shown = rows[:_MOST_ROWS]
        return cls(
            rows=tuple(shown),
            doubts=tuple(map(_doubt, shown)),
            studies=len(rows),
            slices=sum(row.slices for row in rows),
            slices_outside=sum(row.slices_outside for row in rows),
            pictures=qc_pictures(_figures(interim, rows), {x.study_id: _doubt(x) for x in rows}),
        )


def region_files(interim: Path) -> tuple[Path, ...]:
    """The table and the figures that are shown; nothing where all slices count."""
    rows = _rows(interim)
    return (_table(interim), *_figures(interim, rows)) if rows else ()


def _table(interim: Path) -> Path:
    return interim / "split" / REGIONS


def _rows(interim: Path) -> list[RegionRow]:
    path = _table(interim)
    rows = read_table(path, RegionRow) if path.is_file() else []
    return sorted(rows, key=lambda row: (not _doubt(row), row))


def _figures(interim: Path, rows: Sequence[RegionRow]) -> list[Path]:
    return [interim / "split/regions" / f"{row.study_id}.png" for row in rows[:_MOST_FIGURES]]


def _doubt(row: RegionRow) -> str:
    if not row.found:
        return "no lungs found"
    ends = [name for name, cut in (("base", row.at_low_end), ("apex", row.at_high_end)) if cut]
    said = [f"the stack ends before the {' and the '.join(ends)}"] if ends else []
    if row.lesion_slices_outside:
        said.append(f"{row.lesion_slices_outside} slices with lesion lie outside")
    return "; ".join(said)
