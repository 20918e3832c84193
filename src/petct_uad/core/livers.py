"""``livers.csv``: where somebody says that livers are, at the root of a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import read_table, write_table

LIVERS_CSV = "livers.csv"


@dataclass(frozen=True, order=True)
class LiverPlace:
    """A point deep in one patient's liver, sorted by patient.

    Attributes:
        patient: PatientID (0010,0020), as the files have it.
        x_mm: in the CT's patient frame (LPS), as are the others.
        y_mm: likewise.
        z_mm: likewise.
    """

    patient: str
    x_mm: float
    y_mm: float
    z_mm: float

    @property
    def point_mm(self) -> tuple[float, float, float]:
        """The point, (x, y, z)."""
        return self.x_mm, self.y_mm, self.z_mm


def write_livers(raw: Path, places: Sequence[LiverPlace]) -> Path:
    """Write the table into a data set and return its path."""
    write_table(raw / LIVERS_CSV, LiverPlace, sorted(places))
    return raw / LIVERS_CSV


def read_livers(raw: Path) -> list[LiverPlace]:
    """The table of a data set; nobody need say anything.

    Raises:
        DatasetError: it has other columns, or a place that is no point.
    """
    path = raw / LIVERS_CSV
    if not path.is_file():
        return []
    try:
        places = read_table(path, LiverPlace)
    except ValueError as error:
        raise _wrong(path, str(error)) from error
    for place in places:
        if not all(map(math.isfinite, place.point_mm)):
            raise _wrong(path, f"{','.join(map(str, astuple(place)))} is no point")
    return places


def _wrong(path: Path, found: str) -> DatasetError:
    columns = ",".join(field.name for field in fields(LiverPlace))
    return DatasetError(
        f"{path}: {found}. Expected the columns {columns}: a PatientID and a point in the liver in "
        "mm (LPS) on each line. Fix the table, or remove it: it is optional."
    )
