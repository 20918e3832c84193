"""One person under two PatientIDs: the same images twice would straddle any split."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from petct_uad.core.errors import IdentityError
from petct_uad.core.files import sha256_file
from petct_uad.ingest.dicom.index import rejected_row
from petct_uad.ingest.dicom.study import StudyResult
from petct_uad.ingest.tables import RejectedRow, StudyRow


def refuse_twins(
    results: Sequence[StudyResult], volumes: Path
) -> tuple[list[StudyResult], list[RejectedRow]]:
    """Refuse studies of different PatientIDs whose CT or PET volumes are the same to the byte.

    Which of them carries the right PatientID nobody here can know, so none is kept, and their
    folders below ``volumes`` go. New UIDs do not hide a copy. Where the Frame of Reference UID is
    the same too, one slice in common is enough.
    """
    rows = [result.row for result in results if result.row is not None]
    twins = dict([*_sharing_slices(results), *_twins(rows, volumes)])
    kept: list[StudyResult] = []
    rejected: list[RejectedRow] = []
    for result in results:
        found = twins.get(result.row.study_id) if result.row is not None else None
        kept.append(_unused(result) if found else result)
        rejected += [_rejected(result, found)] if found else []
    for study_id in twins:
        shutil.rmtree(volumes / study_id)
    return kept, rejected


def _twins(rows: Sequence[StudyRow], volumes: Path) -> Iterator[tuple[str, str]]:
    """The study_id of every twin, and what was found."""
    for name in ("ct", "pet"):
        for group in _alike({row: volumes / row.study_id / f"{name}.nii.gz" for row in rows}):
            yield from _under_two_ids(group, f"every voxel of the {name.upper()} in")


def _sharing_slices(results: Sequence[StudyResult]) -> Iterator[tuple[str, str]]:
    holders: dict[str, list[StudyRow]] = {}
    for result in results:
        if result.row is not None:
            for slice_ in result.slices:
                holders.setdefault(slice_, []).append(result.row)
    for group in holders.values():
        yield from _under_two_ids(group, "every voxel of a slice in")


def _under_two_ids(group: Sequence[StudyRow], what: str) -> Iterator[tuple[str, str]]:
    for row in group:
        other = next((r for r in group if r.patient != row.patient), None)
        if other is not None:
            yield row.study_id, f"{what} {other.study_id}"


def _alike(volumes: Mapping[StudyRow, Path]) -> Iterator[list[StudyRow]]:
    """Studies whose volume has the same bytes; only those of one size are hashed."""
    by_size: dict[int, list[StudyRow]] = {}
    for row, path in volumes.items():
        by_size.setdefault(path.stat().st_size, []).append(row)
    for group in by_size.values():
        by_hash: dict[str, list[StudyRow]] = {}
        for row in group if len(group) > 1 else ():
            by_hash.setdefault(sha256_file(volumes[row]), []).append(row)
        yield from by_hash.values()


def _rejected(result: StudyResult, found: str) -> RejectedRow:
    return rejected_row(
        IdentityError(
            result.series[0].study_instance_uid,
            found=f"{found}, under another PatientID (0010,0020)",
            expected="one PatientID per person: else a person stands on both sides of a split",
            advice="Find out whose images these are; remove one study or correct its PatientID.",
        )
    )


def _unused(result: StudyResult) -> StudyResult:
    reason = "study refused (identity): its images stand under two PatientIDs"
    return replace(
        result,
        row=None,
        series=tuple(
            replace(row, study_id="", role="unused", reason=reason if row.study_id else row.reason)
            for row in result.series
        ),
        instances=tuple(
            replace(row, study_id="", role="unused", slice_index=None) for row in result.instances
        ),
    )
