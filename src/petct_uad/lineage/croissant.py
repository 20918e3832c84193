"""The processed data set as Croissant 1.0 (MLCommons), with the responsible AI vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import date, datetime
from pathlib import Path
from typing import Any, get_type_hints

import mlcroissant as mlc

from petct_uad.core.errors import LineageError
from petct_uad.core.files import sha256_file
from petct_uad.ingest.tables import INSTANCES, STUDIES, InstanceRow, StudyRow
from petct_uad.lineage.git import DESCRIPTION, NAME
from petct_uad.schema import load_params
from petct_uad.slices.tables import INDEX, SLICES, ImageRow, SliceRow

_LICENSE = "https://spdx.org/licenses/Apache-2.0"
_TYPES = {
    str: mlc.DataType.TEXT,
    int: mlc.DataType.INTEGER,
    float: mlc.DataType.FLOAT,
    bool: mlc.DataType.BOOL,
}
_TABLES: tuple[tuple[str, str, type[Any], str], ...] = (
    ("images", f"data/processed/{{}}/{INDEX}", ImageRow, "Each slice in a shard."),
    ("slices", f"data/interim/{{}}/split/{SLICES}", SliceRow, "Each slice, and why it is where."),
    ("studies", f"data/interim/{{}}/ingest/{STUDIES}", StudyRow, "Each usable study."),
    ("instances", f"data/interim/{{}}/ingest/{INSTANCES}", InstanceRow, "Each file that was read."),
)


def croissant(published: date) -> dict[str, Any]:
    """The content of ``croissant.json``, which belongs at the repository's root.

    Args:
        published: date of the release.

    Raises:
        LineageError: a table is missing, or what was put together is no valid Croissant.
    """
    dataset = load_params().dataset
    try:
        metadata = mlc.Metadata(
            name=f"{NAME}-{dataset}",
            description=f"{DESCRIPTION}. Data set {dataset!r}, as the models see it.",
            license=[_LICENSE],
            version="0.1.0",
            url=f"urn:{NAME}:{dataset}",
            cite_as=NAME,
            date_published=datetime(published.year, published.month, published.day),
            distribution=[*_files(dataset), _shards(dataset)],
            record_sets=[_record_set(name, row_type, text) for name, _, row_type, text in _TABLES],
            data_preprocessing_protocol=["docs/contracts.md: one resampling from native voxels"],
            personal_sensitive_information=[
                "Patients, UIDs and telling file names are pseudonyms (docs/deidentification.md)"
            ],
            data_biases=[
                "Normal slices come from patients too; see README.md and docs/benchmarks.md"
            ],
        )
    except mlc.ValidationError as error:
        raise LineageError(f"croissant: {error}") from error
    content: dict[str, Any] = metadata.to_json()
    return content


def _files(dataset: str) -> Iterator[mlc.FileObject]:
    for name, place, _, text in _TABLES:
        path = Path(place.format(dataset))
        if not path.is_file():
            raise LineageError(f"{path}: not found. Run `dvc repro preprocess` or `dvc checkout`.")
        yield mlc.FileObject(
            id=f"{name}.csv",
            name=f"{name}.csv",
            description=text,
            content_url=path.as_posix(),
            encoding_formats=[mlc.EncodingFormat.CSV],
            sha256=sha256_file(path),
        )


def _shards(dataset: str) -> mlc.FileSet:
    return mlc.FileSet(
        id="shards",
        name="shards",
        description="One safetensors file per study: ct, pet (float16), lesion, body (uint8).",
        includes=[f"data/processed/{dataset}/shards/*.safetensors"],
        encoding_formats=["application/octet-stream"],
    )


def _record_set(name: str, row_type: type[Any], text: str) -> mlc.RecordSet:
    hints = get_type_hints(row_type)
    return mlc.RecordSet(
        id=name,
        name=name,
        description=text,
        fields=[_field(name, field.name, hints[field.name]) for field in fields(row_type)],
    )


def _field(table: str, column: str, hint: Any) -> mlc.Field:
    source = mlc.Source(file_object=f"{table}.csv", extract=mlc.Extract(column=column))
    kind = _TYPES.get(hint, mlc.DataType.TEXT)  # a column that may be empty is text
    return mlc.Field(id=f"{table}/{column}", name=column, data_types=[kind], source=source)
