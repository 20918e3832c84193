"""A person's folder of DICOM or of pictures, judged before it is added: ``petct validate``."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import active_children
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import NoReturn

from petct_uad.core.errors import InputsRefusedError, NothingUsableError, ValidationFailedError
from petct_uad.core.files import read_table
from petct_uad.ingest.dicom.run import ingest_dataset
from petct_uad.ingest.images.layout import Layout, find_layout
from petct_uad.ingest.images.run import ingest_pictures
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.tables import (
    MASK,
    PICTURE,
    Ingested,
    InstanceRow,
    PictureRow,
    RejectedRow,
    SeriesRow,
    StudyRow,
)
from petct_uad.validation.checks import OF_INGEST, Promises, checks
from petct_uad.validation.frames import frames_of_ingest
from petct_uad.validation.tables import Measured, Tables
from petct_uad.validation.validate import Outcome, describe, of_severity, run_checks
from petct_uad.validation.volumes import measure_volumes

_SHOWN = 20
_TERMINATED = 128 + signal.SIGTERM  # what a shell reports of such an end
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Verdict:
    """What was read of a folder, and what the suites say of it."""

    folder: Path
    ingested: Ingested  # with the files' own identifiers: for the owner's screen only
    outcomes: tuple[Outcome, ...]
    pictures: tuple[PictureRow, ...] = ()  # of an image benchmark

    @property
    def exit_code(self) -> int:
        """0, or as in :mod:`petct_uad.core.errors`: 1 a critical check, 3 refused inputs."""
        if of_severity(self.outcomes, "critical"):
            return ValidationFailedError.exit_code
        return InputsRefusedError.exit_code if self.ingested.rejected else 0

    @property
    def lines(self) -> tuple[str, ...]:
        """The verdict in words, the worst last."""
        return tuple(_lines(self))


def validate_folder(
    folder: Path, params: IngestParams, promises: Promises, workers: int = 1
) -> Verdict:
    """Read a tree of DICOM, or an image benchmark, as ingest does, and hold it to the suites of
    what ingest writes.

    Volumes go to a temporary folder (TMPDIR) that is gone afterwards; nothing is written to
    ``folder``. No key is needed, since no pseudonym leaves.

    Raises:
        NothingUsableError: no such folder, or no study in it can be used.
        DatasetError: no name in any label object matches ``ingest.label_roi``; or ``data.json`` of
            an image benchmark is not as expected.
        LabelError: ``ingest.labels`` is ``csv`` and ``labels.csv`` cannot be read.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        raise NothingUsableError(
            f"{folder}: no folder, or empty. Name the folder of DICOM files or pictures."
        )
    asked = params.model_copy(update={"pseudonyms": "public", "key": "any", "on_reject": "report"})
    layout = find_layout(folder)
    with _temporary_folder() as read:
        if layout is not None:
            return _judge_pictures(folder, layout, read, asked, promises, workers)
        ingested = ingest_dataset(folder, read, asked, workers)
        studies = [study.study_id for study in ingested.studies]
        volumes = measure_volumes(read / "volumes", studies, workers)
    return Verdict(folder, ingested, _judge(folder, ingested, Measured(tuple(volumes)), promises))


def _judge_pictures(  # noqa: PLR0917
    folder: Path,
    layout: Layout,
    read: Path,
    params: IngestParams,
    promises: Promises,
    workers: int,
) -> Verdict:
    """Pictures go to ``read``, with the tables, in which a public key leaves names as they are."""
    unlisted = replace(layout, listing="")  # no lineage, which only files of a repository can have
    ingest_pictures(folder, unlisted, read, read, params, workers)
    ingested = Ingested(
        instances=tuple(read_table(read / "instances.csv", InstanceRow)),
        series=tuple(read_table(read / "series.csv", SeriesRow)),
        studies=tuple(read_table(read / "studies.csv", StudyRow)),
        rejected=tuple(read_table(read / "rejected.csv", RejectedRow)),
    )
    pictures = tuple(read_table(read / "volumes/pictures.csv", PictureRow))
    return Verdict(folder, ingested, _judge(folder, ingested, Measured(), promises), pictures)


def _judge(
    folder: Path, ingested: Ingested, measured: Measured, promises: Promises
) -> tuple[Outcome, ...]:
    tables = Tables(
        dataset=folder.name,
        instances=ingested.instances,
        series=ingested.series,
        studies=ingested.studies,
        measured=measured,
    )
    chosen = [check for check in checks(promises) if check.table in OF_INGEST]
    return tuple(run_checks(frames_of_ingest(tables), chosen))


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, on SIGTERM too, so that no patient's volume stays."""
    folder = TemporaryDirectory(prefix="petct-validate-")
    before = signal.signal(signal.SIGTERM, lambda *_: _end(Path(folder.name)))
    try:
        with folder as name:
            yield Path(name)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(folder: Path) -> NoReturn:
    """End at once: an exception out of a signal handler unwinds whatever library code runs, which
    once ended in SIGABRT, and would wait for every study that is still queued."""
    for worker in active_children():
        worker.kill()
        worker.join()
    while folder.exists():  # again, where a thread has just put a file into it
        rmtree(folder, ignore_errors=True)
    os._exit(_TERMINATED)


def _lines(verdict: Verdict) -> Iterator[str]:
    read, outcomes = verdict.ingested, verdict.outcomes
    yield from _counts_of_pictures(verdict) if verdict.pictures else _counts_of_studies(verdict)
    noted = [f"{study.study_id} ({study.patient}): {study.notes}"
             for study in read.studies if study.notes]  # fmt: skip
    refused = [
        f"{row.subject}: {row.code}: found {row.found}; expected {row.expected}. {row.advice}"
        for row in read.rejected
    ]
    yield from _list("made good, with a note", noted)
    yield from _list("pixels of an earlier split (see split.duplicates)", _copies(verdict))
    yield from _list("warnings", [*map(describe, of_severity(outcomes, "warning"))])
    yield from _list("refused", refused)
    yield from _list("critical", [*map(describe, of_severity(outcomes, "critical"))])
    yield _conclusion(verdict)


def _counts_of_studies(verdict: Verdict) -> Iterator[str]:
    studies = verdict.ingested.studies
    patients = len({study.patient for study in studies})
    labelled = sum(study.label_kind != "none" for study in studies)
    yield f"{verdict.folder}: {len(verdict.ingested.instances)} DICOM files that could be read"
    yield f"usable studies: {len(studies)}, of {patients} patients; with a label: {labelled}"


def _counts_of_pictures(verdict: Verdict) -> Iterator[str]:
    splits = Counter(picture.split for picture in verdict.pictures)
    abnormal = sum(picture.label for picture in verdict.pictures)
    masks = sum(study.label_kind == MASK for study in verdict.ingested.studies)
    yield f"{verdict.folder}: {len(verdict.ingested.instances)} picture files that could be read"
    yield (
        f"usable pictures: {len(verdict.pictures)}, "
        f"{', '.join(f'{splits[name]} {name}' for name in _SPLITS)}; abnormal: {abnormal}; "
        f"with a mask: {masks}"
    )


def _copies(verdict: Verdict) -> list[str]:
    """Pictures of val and test that were seen before, each with the first that shows the same."""
    files = {row.study_id: row.file for row in verdict.ingested.instances if row.role == PICTURE}
    found: list[str] = []
    first: dict[str, PictureRow] = {}
    for picture in sorted(verdict.pictures, key=lambda row: _SPLITS.index(row.split)):
        other = first.setdefault(picture.pixels_sha256, picture)
        if other.split != picture.split:
            found.append(f"{files[picture.study_id]}: as {files[other.study_id]} ({other.split})")
    return sorted(found)


def _list(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"{title}: {len(lines)}"
        yield from (f"  {line}" for line in lines[:_SHOWN])
        if len(lines) > _SHOWN:
            yield f"  and {len(lines) - _SHOWN} more"


def _conclusion(verdict: Verdict) -> str:
    add = f"petct add NAME {verdict.folder}"
    checks_made = f"{len(verdict.outcomes)} checks"
    if verdict.exit_code == ValidationFailedError.exit_code:
        return (
            f"verdict: not yet. Of {checks_made} those under `critical` failed, and the pipeline "
            "would stop there. Correct the files, or leave them out."
        )
    if verdict.exit_code:
        return (
            f"verdict: usable without what was refused; {checks_made} hold or only warn. Correct "
            f"that, or go on without it: `{add}`."
        )
    return f"verdict: sound; {checks_made} hold or only warn. Next: `{add}`."
