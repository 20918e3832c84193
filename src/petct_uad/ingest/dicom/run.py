"""Any tree of DICOM files to paired CT (HU) and PET (SUVbw) volumes with lesion masks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from petct_uad.core.console import console
from petct_uad.core.errors import (
    DatasetError,
    InputsRefusedError,
    NothingUsableError,
    PairingError,
    RejectedInputError,
)
from petct_uad.core.files import read_table, sha256_file, write_json, write_table
from petct_uad.core.parallel import map_in_processes
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.ingest.dicom.contours import LABELS_CSV, Contour, read_contours
from petct_uad.ingest.dicom.identity import Identity, identity_of_file
from petct_uad.ingest.dicom.index import Header, check_kind, index_files, rejected_row
from petct_uad.ingest.dicom.publish import publish
from petct_uad.ingest.dicom.series import Study, group_studies, refuse_mixed_patients, shared_frames
from petct_uad.ingest.dicom.study import StudyResult, StudyTask, ingest_study, instance_row
from petct_uad.ingest.dicom.twins import refuse_twins
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.pseudonyms import KEY_VARIABLE, Pseudonyms, check_key, choose_pseudonyms
from petct_uad.ingest.tables import Ingested, InstanceRow, RejectedRow, SeriesRow, StudyRow
from petct_uad.ingest.withdrawn import WITHDRAWN, leave_out

_SHOWN = 5
_IDENTITY = "identity.json"


def ingest_dataset(
    raw: Path, out: Path, params: IngestParams, workers: int = 1, last: Path | None = None
) -> Ingested:
    """Read every DICOM file below ``raw``; write volumes and the tables of ``dicom.tables``.

    Args:
        raw: any folder tree; the names of folders and files mean nothing.
        out: an empty folder that receives ``volumes/``, the four tables under pseudonyms, and
            ``identity.json``, which says whose key made them.
        params: of the stage.
        workers: number of processes; 0 means one per core. The bytes are the same.
        last: where an earlier run may have left its output; a change of key since is told.

    Returns:
        The tables with the files' own identifiers: for the owner's screen, never for an output.

    Raises:
        DatasetError: no name in any label object matches ``label_roi``.
        LabelError: ``labels`` is ``csv`` and ``labels.csv`` cannot be read.
        InputsRefusedError: something was refused and ``on_reject`` is ``stop``.
        NothingUsableError: ``raw`` is missing or empty, or no study has a usable CT and PET.
        PseudonymError: the key that ``pseudonyms`` asks for is missing, unsafe or not ``key``.
    """
    _check_there(raw)
    index = index_files(raw, workers)
    pseudonyms = _pseudonyms(index.headers, params)
    index = leave_out(index, pseudonyms, partial(_refused_identity, raw))
    grouped, mixed_series = group_studies(index.headers)
    studies, mixed_patients = refuse_mixed_patients(grouped)
    contours, bad_lines = _contours(raw, index.headers, params)
    not_dicom = [row for row in index.rejected if not _is_labels_csv(row, params)]
    refused = [*not_dicom, *mixed_series, *mixed_patients, *bad_lines]
    _maybe_stop(refused, params)
    task = partial(StudyTask, raw=raw, volumes=out / "volumes", params=params)
    shared = shared_frames(studies)
    tasks = [
        task(
            study_id=pseudonyms.study_id(study.patient, study.uid),
            study=study,
            contours=contours.get(study.uid, ()),
            frame_shared=bool(study.frames & shared),
        )
        for study in studies
        if study.of("CT", "PT")
    ]
    results = map_in_processes(ingest_study, tasks, "reading studies", workers)
    results, twins = refuse_twins(results, out / "volumes")
    refused += [*twins, *(row for result in results for row in result.rejected)]
    refused += [_label_alone(study) for study in studies if not study.of("CT", "PT")]
    _maybe_stop(refused, params)
    ingested = _tables(index.headers, results, refused)
    _check_usable(raw, ingested, results, params)
    _write_tables(out, publish(ingested, _identities(raw, index.headers, refused), pseudonyms))
    _write_identity(out, pseudonyms)
    _say(ingested, pseudonyms)
    if last is not None:
        _say_if_renamed(last, pseudonyms)
    return ingested


def derivations(folder: Path, home: Path, raw: Path) -> list[Derivation]:
    """Each volume from the DICOM instances that it was made of, as the written tables name them.

    Args:
        folder: where the files lie now.
        home: where they will lie, relative to the repository's root; their entities' path.
        raw: the data set; ``labels.csv`` is a source of the labels that were drawn from it.
    """
    names = ["series.csv", "studies.csv", "rejected.csv", _IDENTITY]
    rows = read_table(folder / "instances.csv", InstanceRow)
    index = Entity(f"file:{home.as_posix()}/instances.csv", sha256_file(folder / "instances.csv"))
    withdrawn = [Entity.of_file(WITHDRAWN)] if WITHDRAWN.is_file() else []
    found = [Derivation(index, (*map(_entity, rows), *withdrawn))]
    found += [Derivation(_written(folder, home, name), (index,)) for name in names]
    for study in read_table(folder / "studies.csv", StudyRow):
        contours = (_labels_csv(raw),) if study.label_kind == "csv" else ()
        found += _study_derivations(study, rows, contours, folder, home)
    return found


def _study_derivations(
    study: StudyRow,
    instances: Sequence[InstanceRow],
    contours: tuple[Entity, ...],
    folder: Path,
    home: Path,
) -> list[Derivation]:
    roles = {"ct": ["ct"], "pet": ["pet"], "label": ["label", "ct", "pet"]}
    found = []
    for name, sources in roles.items():
        file = f"volumes/{study.study_id}/{name}.nii.gz"
        if (folder / file).is_file():
            rows = [r for r in instances if r.study_id == study.study_id and r.role in sources]
            inputs = (*map(_entity, rows), *(contours if name == "label" else ()))
            found.append(Derivation(_written(folder, home, file), inputs))
    return found


def _labels_csv(raw: Path) -> Entity:
    return Entity(f"file:{(raw / LABELS_CSV).as_posix()}", sha256_file(raw / LABELS_CSV))


def _entity(row: InstanceRow) -> Entity:
    return Entity(f"instance:{row.sop_instance_uid}", row.sha256)


def _written(folder: Path, home: Path, name: str) -> Entity:
    return Entity(f"file:{(home / name).as_posix()}", sha256_file(folder / name))


def _pseudonyms(headers: Iterable[Header], params: IngestParams) -> Pseudonyms:
    images = (header for header in headers if header.modality in {"CT", "PT"})
    chosen = choose_pseudonyms(params.pseudonyms, (header.identity.removed for header in images))
    check_key(chosen, params.key)
    return chosen


def _contours(
    raw: Path, headers: Iterable[Header], params: IngestParams
) -> tuple[dict[str, tuple[Contour, ...]], list[RejectedRow]]:
    return read_contours(raw / LABELS_CSV, headers) if params.labels == "csv" else ({}, [])


def _is_labels_csv(row: RejectedRow, params: IngestParams) -> bool:
    return params.labels == "csv" and row.subject == LABELS_CSV


def _identities(
    raw: Path, headers: Iterable[Header], refused: Iterable[RejectedRow]
) -> dict[str, Identity | None]:
    """Of every file that was read, and of every one that was refused and still says whose it is."""
    uids = {uid for h in headers for uid in (h.series_instance_uid, h.study_instance_uid)}
    subjects = {row.subject for row in refused} - uids
    found = {subject: _refused_identity(raw, subject) for subject in sorted(subjects)}
    return found | {header.file: header.identity for header in headers}


def _refused_identity(raw: Path, subject: str) -> Identity | None:
    try:
        check_kind(raw / subject, subject, (raw / subject).is_dir())
    except (RejectedInputError, OSError):
        return None
    return identity_of_file(raw / subject)


def _check_there(raw: Path) -> None:
    if not raw.is_dir() or not any(raw.iterdir()):
        raise NothingUsableError(
            f"{raw}: no such data set, or it is empty. Bring one in with "
            f"`petct add {raw.name} FOLDER`, or set `dataset: phantom` in params.yaml and run "
            "`dvc repro`, which makes the phantom."
        )


def _label_alone(study: Study) -> RejectedRow:
    return rejected_row(
        PairingError(
            study.uid,
            found=f"a label object of patient {study.patient} without its images",
            expected="the CT and PET that it was drawn on",
            advice="Add the images, or remove the label object.",
        )
    )


def _tables(
    headers: Sequence[Header], results: Sequence[StudyResult], refused: Sequence[RejectedRow]
) -> Ingested:
    rows = {header.file: instance_row(header) for header in headers}
    rows |= {row.file: row for result in results for row in result.instances}
    return Ingested(
        instances=tuple(sorted(rows.values())),
        series=tuple(sorted(row for result in results for row in result.series)),
        studies=tuple(sorted(result.row for result in results if result.row is not None)),
        rejected=tuple(sorted(set(refused))),
    )


def _maybe_stop(refused: Sequence[RejectedRow], params: IngestParams) -> None:
    if refused and params.on_reject == "stop":
        raise InputsRefusedError(
            f"{len(refused)} inputs were refused and ingest.on_reject is stop:\n{_shown(refused)}"
        )


def _check_usable(
    raw: Path, ingested: Ingested, results: Sequence[StudyResult], params: IngestParams
) -> None:
    if not ingested.studies:
        raise NothingUsableError(
            f"{raw}: no study with a usable CT and PET among {len(ingested.instances)} DICOM files "
            f"that could be read. What was refused:\n{_shown(ingested.rejected)}\n"
            "Correct these, or add other data with `petct add`."
        )
    passed_over = sorted({name for result in results for name in result.passed_over})
    labelled = [study for study in ingested.studies if study.label_kind != "none"]
    if passed_over and all(study.lesion_kind == "none" for study in labelled):
        raise DatasetError(
            f"ingest.label_roi {params.label_roi!r} matches none of the names in the label "
            f"objects: {', '.join(passed_over)}. Every lesion would count as normal."
        )


def _shown(rows: Sequence[RejectedRow]) -> str:
    lines = [
        f"  {r.subject}: {r.code}: found {r.found}; expected {r.expected}. {r.advice}"
        for r in sorted(rows)[:_SHOWN]
    ]
    more = len(rows) - len(lines)
    return "\n".join([*lines, *([f"  and {more} more"] if more > 0 else [])])


def _write_tables(out: Path, ingested: Ingested) -> None:
    write_table(out / "instances.csv", InstanceRow, ingested.instances)
    write_table(out / "series.csv", SeriesRow, ingested.series)
    write_table(out / "studies.csv", StudyRow, ingested.studies)
    write_table(out / "rejected.csv", RejectedRow, ingested.rejected)


def _write_identity(out: Path, pseudonyms: Pseudonyms) -> None:
    """Which key made the pseudonyms, so that the tables of two keys are never mixed unseen."""
    content = {"pseudonyms": pseudonyms.kind, "key_fingerprint": pseudonyms.fingerprint()}
    write_json(out / _IDENTITY, content)


def _say(ingested: Ingested, pseudonyms: Pseudonyms) -> None:
    noted = sum(bool(study.notes) for study in ingested.studies)
    console.print(
        f"{len(ingested.studies)} studies from {len(ingested.instances)} DICOM files; "
        f"{noted} with notes (studies.csv), {len(ingested.rejected)} refusals (rejected.csv); "
        f"pseudonyms under the {pseudonyms.kind} key {pseudonyms.fingerprint()}"
    )
    for tag in ("(0012,0062)", "(0028,0301)"):
        told = [note for study in ingested.studies for note in study.notes.split("; ")
                if tag in note]  # fmt: skip
        if told:
            console.print(f"warning: in {len(told)} studies, {told[0]}", style="yellow")


def _say_if_renamed(last: Path, pseudonyms: Pseudonyms) -> None:
    try:
        before = json.loads((last / _IDENTITY).read_text(encoding="utf-8"))["key_fingerprint"]
    except (OSError, ValueError, KeyError):
        return
    if before != pseudonyms.fingerprint():
        console.print(
            f"warning: {last} was made under the key {before}, and now under "
            f"{pseudonyms.fingerprint()}: every patient, study and UID has another name. Splits, "
            "models and reports of before name other patients: rebuild them with `dvc repro`. If "
            f"this was not meant, name the old key in {KEY_VARIABLE} and run again; `ingest.key` "
            "in params.yaml keeps it from happening.",
            style="yellow",
            markup=False,
        )
