"""Which label objects a study has, what they name, and which images they were drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from petct_uad.ingest.dicom.contours import Contour
from petct_uad.ingest.dicom.index import Header
from petct_uad.ingest.dicom.series import DicomStudy
from petct_uad.ingest.params import IngestParams

_MODALITIES = {
    "auto": ("SEG", "RTSTRUCT"),
    "seg": ("SEG",),
    "rtstruct": ("RTSTRUCT",),
    "csv": (),
}


def asked_objects(study: DicomStudy, wanted: str) -> tuple[Header, ...]:
    """The label objects of the kinds that ``ingest.labels`` asks for, sorted by file."""
    series = study.of(*_MODALITIES[wanted])
    return tuple(sorted(header for item in series for header in item.headers))


def referenced_by_lesions(
    raw: Path, study: DicomStudy, params: IngestParams, contours: Sequence[Contour] = ()
) -> frozenset[str]:
    """SeriesInstanceUIDs of the images that a study's lesions were drawn on.

    Args:
        raw: the data set.
        study: its series, label objects among them.
        params: which label objects are asked for, and which of their names are lesions.
        contours: the study's lines of ``labels.csv``.
    """
    uids = {
        uid for header in asked_objects(study, params.labels) for uid in header.referenced_series
    }
    return frozenset(uids | {contour.header.series_instance_uid for contour in contours})
