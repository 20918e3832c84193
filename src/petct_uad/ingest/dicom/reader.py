"""DICOM: any tree of files to paired CT (HU) and PET (SUV) volumes with lesion masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path

from petct_uad.core.console import console
from petct_uad.core.errors import DatasetError, NothingUsableError, PairingError
from petct_uad.core.files import sha256_file
from petct_uad.core.livers import LIVERS_CSV
from petct_uad.core.patient_split import SPLIT_CSV, read_patient_split, write_patient_split
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.core.sources import SOURCES_CSV
from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.study_store import StudyStore
from petct_uad.ingest.dicom.choice import StudyTask
from petct_uad.ingest.dicom.contours import LABELS_CSV, Contour, read_contours
from petct_uad.ingest.dicom.header import Header
from petct_uad.ingest.dicom.identity import Identity, refused_identity
from petct_uad.ingest.dicom.index import Index, index_files, leave_out
from petct_uad.ingest.dicom.label_names import ANY_NAME
from petct_uad.ingest.dicom.pairing import refuse_doubtful, with_references
from petct_uad.ingest.dicom.parsing import BoundedReader, read_meta, read_tags, tag_of
from petct_uad.ingest.dicom.patients import refuse_mixed_patients, refuse_twins, shared_frames
from petct_uad.ingest.dicom.publish import publish
from petct_uad.ingest.dicom.rows import instance_row, unread_series
from petct_uad.ingest.dicom.series import DicomStudy, group_studies
from petct_uad.ingest.dicom.study import StudyResult, ingest_study
from petct_uad.ingest.found import FoundRejection, FoundTables
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.pseudonyms import Pseudonyms, check_key, choose_pseudonyms
from petct_uad.ingest.reader import Reader, Reading, Whose, Written, instance_entity, is_uid
from petct_uad.ingest.rejections import gathered, maybe_stop, names, rejected_row, shown
from petct_uad.ingest.tables import FINDINGS, UNLABELLED, VOLUMES, InstanceRow, StudyRow
from petct_uad.ingest.withdrawn import withdrawn_patients

_NAMED = 5  # studies of one note, on the owner's screen
_WHOSE = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
# Which instances each volume is made of, by their role; a label is drawn on the CT, from the PET's
# references too.
_SOURCES = {"ct": ("ct",), "pet": ("pet",), "label": ("label", "ct", "pet")}


class DicomReader(Reader):
    """CT, PET, SEG and RTSTRUCT in any tree; the names of folders and files mean nothing."""

    name = "DICOM files"

    def recognises(self, raw: Path) -> bool:
        """Only reading every file could tell, so that any folder may be of this kind."""
        return True

    def read(
        self,
        raw: Path,
        out: Path,
        params: IngestParams,
        workers: int = 1,
        store: StudyStore | None = None,
    ) -> Reading:
        """Write ``volumes/<study_id>/{ct,pet,label}.nii.gz``.

        Raises:
            DatasetError: no name in any label object matches ``label_roi``.
            LabelError: ``labels`` is ``csv`` and ``labels.csv`` cannot be read.
            InputsRefusedError: something was refused and ``on_reject`` is ``stop``.
            NothingUsableError: no study has a usable CT and PET.
            PseudonymError: the key that ``pseudonyms`` asks for is missing, unsafe or not ``key``.
        """
        index = index_files(raw, workers, store)
        pseudonyms = _pseudonyms(index.headers, params)
        index = leave_out(index, raw, pseudonyms, withdrawn_patients())
        studies, refused = _studies(raw, index, params)
        contours, bad_lines = _contours(raw, index.headers, params)
        refused += bad_lines
        maybe_stop(refused, params)
        task = partial(StudyTask, raw=raw, volumes=out / VOLUMES, params=params)
        tasks = _tasks(studies, contours, pseudonyms, task)
        results = map_stored(
            ingest_study, tasks, StudyResult, "reading studies", workers=workers, store=store
        )
        results, twins = refuse_twins(results, out / VOLUMES)
        refused += [*twins, *(row for result in results for row in result.rejected)]
        _ask_for_pattern(results)
        refused += [_label_alone(study) for study in studies if not study.of("CT", "PT")]
        maybe_stop(refused, params)
        found = _tables(index.headers, results, refused)
        _check_usable(raw, found, results, params)
        published = publish(found, _identities(raw, index.headers, refused), pseudonyms)
        _publish_split(raw, out / VOLUMES, published.studies, pseudonyms)
        _say(found, pseudonyms)
        return Reading(published, found, pseudonyms, _counts(found), _remarks(found))

    def listings(self, raw: Path) -> Sequence[Path]:
        """Where the data set was fetched from, and how its patients are split, where it says so."""
        return [raw / name for name in (SOURCES_CSV, SPLIT_CSV) if (raw / name).is_file()]

    def derivations(self, raw: Path, written: Written) -> Iterator[Derivation]:
        """Each volume from its instances, and a label from ``labels.csv`` too where it is drawn."""
        by_study: dict[str, list[InstanceRow]] = {}
        for row in written.instances:
            by_study.setdefault(row.study_id, []).append(row)
        for study in written.studies:
            contours = (_labels_csv(raw),) if study.label_kind == "csv" else ()
            yield from _study_derivations(study, by_study[study.study_id], written, contours)
        if written.has(f"{VOLUMES}/{SPLIT_CSV}"):
            table = written.entity(f"{VOLUMES}/{SPLIT_CSV}")
            yield Derivation(table, (Entity.of_file(raw / SPLIT_CSV),))

    def whose(self, path: Path) -> Whose:
        """By Patient ID (0010,0020), and the UIDs of study, series and instance."""
        try:
            with BoundedReader(path) as stream:
                found = read_tags(stream, read_meta(stream), [tag_of(x) for x in _WHOSE])
                patient, *uids = (str(found.get(x, "")).strip() for x in _WHOSE)
        except Exception:  # pydicom has a dozen kinds for a damaged file
            return Whose()
        return Whose(patient or None, *(uid if is_uid(uid) else None for uid in uids))


def _study_derivations(
    study: StudyRow,
    mine: Sequence[InstanceRow],
    written: Written,
    contours: tuple[Entity, ...],
) -> Iterator[Derivation]:
    for name, roles in _SOURCES.items():
        file = f"{VOLUMES}/{study.study_id}/{name}.nii.gz"
        if written.has(file):
            sources = (instance_entity(row) for row in mine if row.role in roles)
            inputs = (*sources, *(contours if name == "label" else ()))
            yield Derivation(written.entity(file), inputs)


def _publish_split(
    raw: Path, out: Path, studies: Iterable[StudyRow], pseudonyms: Pseudonyms
) -> None:
    """The split that a data set brings, of the patients that can be used, under pseudonyms.

    Raises:
        DatasetError: its table cannot be read.
    """
    given = read_patient_split(raw)
    used = {study.patient for study in studies}
    named = {pseudonyms.patient(patient): part for patient, part in given.items()}
    if given:
        write_patient_split(out, {name: part for name, part in named.items() if name in used})


def _labels_csv(raw: Path) -> Entity:
    return Entity(f"file:{(raw / LABELS_CSV).as_posix()}", sha256_file(raw / LABELS_CSV))


def _pseudonyms(headers: Iterable[Header], params: IngestParams) -> Pseudonyms:
    images = (header for header in headers if header.modality in {"CT", "PT"})
    chosen = choose_pseudonyms(params.pseudonyms, (header.identity.removed for header in images))
    check_key(chosen, params.key)
    return chosen


def _studies(
    raw: Path, index: Index, params: IngestParams
) -> tuple[list[DicomStudy], list[FoundRejection]]:
    """Studies of one patient each, and what was refused so far."""
    grouped, mixed_series = group_studies(with_references(raw, index.headers))
    not_dicom = [row for row in index.rejected if not _is_a_table(row, params)]
    refused = [*not_dicom, *mixed_series]
    sure, doubtful = refuse_doubtful(raw, grouped, refused, index.headers, params)
    studies, mixed_patients = refuse_mixed_patients(sure)
    return studies, [*refused, *doubtful, *mixed_patients]


def _tasks(
    studies: Sequence[DicomStudy],
    contours: Mapping[str, tuple[Contour, ...]],
    pseudonyms: Pseudonyms,
    task: Callable[..., StudyTask],
) -> list[StudyTask]:
    """One per study with images; ``task`` knows what all have in common."""
    shared = shared_frames(studies)
    return [
        task(
            study_id=pseudonyms.study_id(study.patient, study.uid),
            study=study,
            contours=contours.get(study.uid, ()),
            frame_shared=bool(study.frames & shared),
        )
        for study in studies
        if study.of("CT", "PT")
    ]


def _contours(
    raw: Path, headers: Iterable[Header], params: IngestParams
) -> tuple[dict[str, tuple[Contour, ...]], list[FoundRejection]]:
    return read_contours(raw / LABELS_CSV, headers) if params.labels == "csv" else ({}, [])


def _is_a_table(row: FoundRejection, params: IngestParams) -> bool:
    """One that a data set may bring beside its DICOM, and that somebody reads."""
    tables = (
        LIVERS_CSV,
        SOURCES_CSV,
        SPLIT_CSV,
        *((LABELS_CSV,) if params.labels == "csv" else ()),
    )
    return row.subject in tables


def _identities(
    raw: Path, headers: Iterable[Header], refused: Iterable[FoundRejection]
) -> dict[str, Identity | None]:
    """Of every file that was read, and of every one that was refused and still says whose it is."""
    uids = {uid for h in headers for uid in (h.series_instance_uid, h.study_instance_uid)}
    subjects = {row.subject for row in refused} - uids
    found = {subject: refused_identity(raw, subject) for subject in sorted(subjects)}
    return found | {header.file: header.identity for header in headers}


def _label_alone(study: DicomStudy) -> FoundRejection:
    return rejected_row(
        PairingError(
            study.uid,
            found=f"a label object of patient {study.patient} without its images",
            expected="the CT and PET that it was drawn on",
            advice="Add the images, or remove the label object.",
        )
    )


def _tables(
    headers: Sequence[Header], results: Sequence[StudyResult], refused: Sequence[FoundRejection]
) -> FoundTables:
    rows = {header.file: instance_row(header) for header in headers}
    series = [row for result in results for row in result.series]
    series += unread_series(headers, {row.series_instance_uid for row in series})
    rows |= {row.file: row for result in results for row in result.instances}
    return FoundTables(
        instances=tuple(sorted(rows.values())),
        series=tuple(sorted(series)),
        studies=tuple(sorted(result.row for result in results if result.row is not None)),
        rejected=tuple(sorted(set(refused))),
    )


def _check_usable(
    raw: Path, found: FoundTables, results: Sequence[StudyResult], params: IngestParams
) -> None:
    if not found.studies:
        raise NothingUsableError(
            f"{raw}: no study with a usable CT and PET among {len(found.instances)} DICOM files "
            f"that could be read. What was refused:\n{shown(found.rejected)}\n"
            "Correct these, or add other data with `petct add`."
        )
    passed_over = sorted({name for result in results for name in result.passed_over})
    if passed_over and all(study.finding == UNLABELLED for study in found.studies):
        raise DatasetError(
            f"ingest.label_roi {params.label_roi!r} matches none of the names in the label "
            f"objects: {'; '.join(passed_over)}. Every lesion would count as normal. Set it to "
            "one of these names, or to .* for all of them."
        )


def _ask_for_pattern(results: Iterable[StudyResult]) -> None:
    objects = sorted({name for result in results for name in result.organs})
    if objects:
        raise DatasetError(
            f"Some label objects name organs or outlines, and with ingest.label_roi {ANY_NAME!r} "
            "all that they name would count as lesion. Set ingest.label_roi to a regular "
            f"expression that matches the whole name of each lesion and of nothing else. There "
            f"are {'; '.join(objects)}."
        )


def _counts(found: FoundTables) -> tuple[str, ...]:
    patients = len({study.patient for study in found.studies})
    findings = Counter(study.finding for study in found.studies)
    return (
        f"{len(found.instances)} DICOM files that could be read",
        f"usable studies: {len(found.studies)}, of {patients} patients; "
        f"{', '.join(f'{findings[name]} {name}' for name in FINDINGS)}",
    )


def _remarks(found: FoundTables) -> dict[str, list[str]]:
    noted = [
        (f"{study.study_id} ({study.patient})", note)
        for study in found.studies
        for note in filter(None, study.notes.split("; "))
    ]
    groups = gathered(noted, itemgetter(1))
    return {"usable, with a note": [_remark(group, len(found.studies)) for group in groups]}


def _remark(group: Sequence[tuple[str, str]], studies: int) -> str:
    """One note, and the studies that it is about: in one line where many have it."""
    subjects, notes = zip(*group, strict=True)
    if len(group) == 1:
        return f"{subjects[0]}: {notes[0]}"
    first = ", for the first" if len(set(notes)) > 1 else ""
    which = "" if len(group) == studies else f" They are: {names(subjects, _NAMED)}."
    return f"in {len(group)} of {studies} studies{first}: {notes[0]}.{which}"


def _say(found: FoundTables, pseudonyms: Pseudonyms) -> None:
    noted = sum(bool(study.notes) for study in found.studies)
    console.print(
        f"{len(found.studies)} studies from {len(found.instances)} DICOM files; "
        f"{noted} with notes (studies.csv), {len(found.rejected)} refusals (rejected.csv); "
        f"pseudonyms under the {pseudonyms.kind} key {pseudonyms.fingerprint()}"
    )
    for tag in ("(0012,0062)", "(0028,0301)"):
        told = [note for study in found.studies for note in study.notes.split("; ")
                if tag in note]  # fmt: skip
        if told:
            console.print(f"warning: in {len(told)} studies, {told[0]}", style="yellow")
