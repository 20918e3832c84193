"""A person's folder, judged before it is added: ``petct validate``."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from multiprocessing import active_children
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import NoReturn

from petct_uad.core.errors import InputsRefusedError, NothingUsableError, ValidationFailedError
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.reader import Reading
from petct_uad.ingest.rejections import told
from petct_uad.ingest.run import ACCEPTED, ingest_dataset
from petct_uad.ingest.tables import VOLUMES, RejectedRow
from petct_uad.split.patients import LEAST_PATIENTS
from petct_uad.validation.checks import OF_INGEST, Promises, checks
from petct_uad.validation.frames import frames_of_ingest
from petct_uad.validation.scans import measure_scans
from petct_uad.validation.tables import IngestTables
from petct_uad.validation.validate import Outcome, describe, of_severity, run_checks
from petct_uad.validation.volumes import measure_volumes

_SHOWN = 20
_TERMINATED = 128 + signal.SIGTERM  # what a shell reports of such an end


@dataclass(frozen=True)
class Verdict:
    """What was read of a folder, and what the suites say of it."""

    folder: Path
    reading: Reading  # its ``shown`` is for the owner's screen only
    outcomes: tuple[Outcome, ...]

    @property
    def exit_code(self) -> int:
        """0, or as in :mod:`petct_uad.core.errors`: 1 a critical check, 3 refused inputs."""
        if of_severity(self.outcomes, "critical"):
            return ValidationFailedError.exit_code
        return InputsRefusedError.exit_code if self.reading.shown.rejected else 0

    @property
    def lines(self) -> tuple[str, ...]:
        """The verdict in words: what was read, then the gravest first, and what to do."""
        return tuple(_lines(self))

    def as_json(self) -> str:
        """The same for programs: all of each kind, a rejection by its columns in rejected.csv."""
        columns = [field.name for field in fields(RejectedRow)]
        return json.dumps(
            {
                "folder": str(self.folder),
                "exit_code": self.exit_code,
                "counts": self.reading.counts,
                "critical": [asdict(one) for one in of_severity(self.outcomes, "critical")],
                "warning": [asdict(one) for one in of_severity(self.outcomes, "warning")],
                "refused": [
                    {column: getattr(row, column) for column in columns}
                    for row in self.reading.shown.rejected
                ],
                "remarks": dict(self.reading.remarks),
            },
            indent=2,
        )


def validate_folder(
    folder: Path, params: IngestParams, promises: Promises, workers: int = 1
) -> Verdict:
    """Read a folder as ingest does, and hold it to the suites of what ingest writes.

    Volumes go to a temporary folder (TMPDIR) that is gone afterwards; nothing is written to
    ``folder``. No key is needed, since no pseudonym leaves.

    Raises:
        NothingUsableError: no such folder, or no study in it can be used.
        DatasetError, LabelError: see the readers of :data:`petct_uad.ingest.run.READERS`.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        raise NothingUsableError(f"{folder}: no folder, or empty. Name the folder of {ACCEPTED}.")
    asked = params.model_copy(update={"pseudonyms": "public", "key": "any", "on_reject": "report"})
    with _temporary_folder() as read:
        reading = ingest_dataset(folder, read, asked, workers)
        studies = [study.study_id for study in reading.shown.studies]
        volumes = measure_volumes(read / VOLUMES, studies, workers)
        beside = measure_scans(read / VOLUMES, studies, workers)
    shown = reading.shown
    tables = IngestTables(
        folder.name,
        shown.instances,
        shown.series,
        shown.studies,
        tuple(volumes),
        beside.scans,
        beside.lesions,
    )
    return Verdict(folder, reading, _judge(tables, promises))


def _judge(tables: IngestTables, promises: Promises) -> tuple[Outcome, ...]:
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
    reading, outcomes = verdict.reading, verdict.outcomes
    first, *others = reading.counts
    yield f"{verdict.folder}: {first}"
    yield from others
    studies = reading.shown.studies
    own = {str(x.study_id): x.patient for x in studies if not x.study_id.startswith(x.patient)}
    critical, warning = (
        [_with_patients(one, own) for one in of_severity(outcomes, severity)]
        for severity in ("critical", "warning")
    )
    refused = reading.shown.rejected
    yield from _all("critical", len(critical), [describe(one, most=None) for one in critical])
    yield from _all("refused", len(refused), told(refused))
    yield from _first("warnings", [*map(describe, warning)])
    for title, lines in reading.remarks.items():
        yield from _first(title, lines)
    patients = len({study.patient for study in studies})
    if patients < LEAST_PATIENTS:
        yield f"too few for `split`: {patients} of at least {LEAST_PATIENTS} patients. Add others."
    yield _conclusion(verdict)


def _with_patients(outcome: Outcome, patients: Mapping[str, str]) -> Outcome:
    """Its rows of a study, ``STUDY_ID`` or ``STUDY_ID lesion 1``, with whose it is."""

    def named(row: str) -> str:
        study, *rest = row.split(" ", 1)
        return " ".join([f"{study} ({patients[study]})", *rest]) if study in patients else row

    return replace(outcome, failing=tuple(map(named, outcome.failing)))


def _all(title: str, count: int, lines: Sequence[str]) -> Iterator[str]:
    """What is never cut off."""
    if lines:
        yield f"{title}: {count}"
        yield from (f"  {line}" for line in lines)


def _first(title: str, lines: Sequence[str]) -> Iterator[str]:
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
            f"that, or continue without it: `{add}`."
        )
    return f"verdict: sound; {checks_made} hold or only warn. Next: `{add}`."
