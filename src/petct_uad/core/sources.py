"""``sources.csv``: where the series of a data set were fetched from, at its root."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import read_table, write_table

SOURCES_CSV = "sources.csv"


@dataclass(frozen=True, order=True)
class SourceRow:
    """One series, sorted by patient, study and series; identifiers are the publisher's own.

    Attributes:
        patient: PatientID (0010,0020).
        study_instance_uid: (0020,000D); its archive has that name.
        series_instance_uid: (0020,000E).
        modality: (0008,0060).
        collection: in the archive that publishes it.
        analysis: the set of annotations by others that it belongs to; "" for the collection's own.
        index: the version of the index that it was looked up in.
        version: of the series; other bytes have another.
        url: where it was fetched from.
        licence: short name.
        doi: of the data set to be cited.
        instances: how many.
        size_bytes: of all of them.
        sha256: of a line ``SOPInstanceUID SHA-256`` per instance, sorted.
    """

    patient: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    collection: str
    analysis: str
    index: str
    version: str
    url: str
    licence: str
    doi: str
    instances: int
    size_bytes: int
    sha256: str


def read_sources(raw: Path) -> list[SourceRow]:
    """The table of a data set; none where it was not fetched.

    Raises:
        DatasetError: it has other columns or values.
    """
    path = raw / SOURCES_CSV
    try:
        return read_table(path, SourceRow) if path.is_file() else []
    except ValueError as error:
        raise DatasetError(
            f"{path}: {error}. `petct fetch` writes it: restore it with "
            f"`dvc checkout --force {raw}`."
        ) from error


def write_sources(raw: Path, rows: Iterable[SourceRow]) -> None:
    """Write the table into a data set."""
    write_table(raw / SOURCES_CSV, SourceRow, sorted(rows))
