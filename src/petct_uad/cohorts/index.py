"""The index of the Imaging Data Commons, which the package idc-index-data carries: no network.

One row is one DICOM series. IDC: Fedorov et al. 2023, RadioGraphics 43(12), doi:10.1148/rg.230180.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from petct_uad.core.errors import CohortError, did_you_mean

PACKAGES = ("idc_index_data", "duckdb")


@dataclass(frozen=True, order=True)
class IndexedSeries:
    """One series of a collection.

    Attributes:
        patient: PatientID (0010,0020), a pseudonym of the collection.
        study: StudyInstanceUID (0020,000D).
        series: SeriesInstanceUID (0020,000E).
        modality: (0008,0060).
        description: SeriesDescription (0008,103E); "" where there is none.
        analysis: the set of annotations that others made of the collection; "" for its own series.
        licence: short name, such as CC BY 4.0.
        doi: of the data set that the series belongs to.
        size_mb: in units of 1,000,000 bytes.
        images: instances in the series.
        version: the archive's UUID of the series in this version; other bytes, another UUID.
        url: of all its objects, as ``s3://BUCKET/FOLDER/*``.
    """

    patient: str
    study: str
    series: str
    modality: str
    description: str
    analysis: str
    licence: str
    doi: str
    size_mb: float
    images: int
    version: str
    url: str = ""


_COLUMNS = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "coalesce(SeriesDescription, '')",
    "coalesce(analysis_result_id, '')",
    "license_short_name",
    "source_DOI",
    "series_size_MB",
    "instanceCount",
    "crdc_series_uuid",
    "series_aws_url",
)


# It would else ask a network for extensions, none of which is needed.
_ALONE: dict[str, str] = {"threads": "1", "autoinstall_known_extensions": "false"}


def index_is_installed() -> bool:
    """Can the index be read here?"""
    return all(find_spec(package) is not None for package in PACKAGES)


def read_series(collection: str) -> tuple[IndexedSeries, ...]:
    """All series of a collection, annotations by others among them, sorted by patient and study.

    Raises:
        CohortError: the index is not installed, or holds no such collection.
    """
    rows = _rows("idc_index", _COLUMNS, collection)
    if not rows:
        known = [row[0] for row in _rows("collections_index", ["collection_id"])]
        raise CohortError(
            f"{collection!r}: no collection of the Imaging Data Commons, by the index that is "
            f"installed.{did_you_mean(collection, known)}"
        )
    return tuple(sorted(IndexedSeries(*row) for row in rows))


def citation(doi: str) -> str:
    """How the publishers of a data set ask to be cited, as plain text.

    Raises:
        CohortError: the index is not installed, or knows no such data set.
    """
    collections = (x for row in _rows("collections_index", ["sources"]) for x in row[0])
    found = next((x["citation"] for x in collections if x["source_doi"] == doi), None)
    if found is None:
        raise CohortError(f"{doi}: no data set of the index that is installed")
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", str(found))).split())


def index_version() -> str:
    """The version of the package with the index; its first number is the archive's."""
    index_file("idc_index")
    return metadata.version("idc-index-data")


def patients_by_identifier(collection: str) -> dict[str, str]:
    """The PatientID of every PatientID, StudyInstanceUID and SeriesInstanceUID of a collection."""
    series = read_series(collection)
    keys = ((x.patient, x.patient) for x in series)
    studies = ((x.study, x.patient) for x in series)
    return {**dict(keys), **dict(studies), **{x.series: x.patient for x in series}}


def _rows(
    name: str, columns: Sequence[str], collection: str | None = None
) -> list[tuple[Any, ...]]:
    """Some columns of a table of the index, of one collection or of all."""
    path = index_file(name)
    # DuckDB, since pandas keeps its strings otherwise wherever pyarrow is installed.
    import duckdb

    query = f"SELECT {', '.join(columns)} FROM read_parquet($path)"
    values = {"path": str(path)}
    if collection is not None:
        query, values = f"{query} WHERE collection_id = $name", {**values, "name": collection}
    with duckdb.connect(":memory:", config=_ALONE) as database:
        rows: list[tuple[Any, ...]] = database.execute(query, values).fetchall()
    return rows


def index_file(name: str) -> Path:
    """A table of the index.

    Raises:
        CohortError: the package that carries it is not installed.
    """
    if not index_is_installed():
        raise CohortError(
            "The index of the Imaging Data Commons is not installed: "
            "pip install '.[cohorts]' (100 MB), after which no network is needed."
        )
    spec = find_spec(PACKAGES[0])
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / f"{name}.parquet"
