"""The ingest stage: DICOM, or pictures where the data set is laid out as an image benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from petct_uad.core.console import console
from petct_uad.core.errors import (
    InputsRefusedError,
    LabelError,
    NothingUsableError,
    PseudonymError,
    RejectedInputError,
    UnsupportedObjectError,
)
from petct_uad.core.files import sha256_file, write_json, write_table
from petct_uad.core.parallel import map_in_processes
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.ingest.dicom.index import rejected_row
from petct_uad.ingest.dicom.run import derivations as dicom_derivations
from petct_uad.ingest.dicom.run import ingest_dataset
from petct_uad.ingest.images.layout import Layout, ListedPicture, find_layout
from petct_uad.ingest.images.reading import Picture, read_mask, read_picture
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.pseudonyms import Pseudonyms, check_key, choose_pseudonyms
from petct_uad.ingest.tables import (
    MASK,
    PICTURE,
    InstanceRow,
    PictureRow,
    RejectedRow,
    SeriesRow,
    StudyRow,
)
from petct_uad.ingest.withdrawn import WITHDRAWN, read_withdrawn

_SCANNER = "unknown"
_SHOWN = 5
_TABLES = ("series.csv", "studies.csv", "rejected.csv", "identity.json", "volumes/pictures.csv")


def ingest_data(
    raw: Path, folder: Path, home: Path, params: IngestParams, workers: int = 1
) -> list[Derivation]:
    """Read a data set of DICOM, or of pictures where :func:`find_layout` knows it.

    Args:
        raw: ``data/raw/<dataset>``.
        folder: empty; receives what docs/contracts.md lists.
        home: where ``folder`` will lie, relative to the repository's root.
        params: of the stage.
        workers: number of processes; 0 means one per core.

    Returns:
        What each written file was made from.

    Raises:
        DatasetError: see :func:`petct_uad.ingest.dicom.run.ingest_dataset` and :func:`find_layout`.
        PseudonymError: the key that ``pseudonyms`` asks for is missing, unsafe or not ``key``.
    """
    layout = find_layout(raw) if raw.is_dir() else None
    if layout is None:
        ingest_dataset(raw, folder, params, workers, last=home)
        return dicom_derivations(folder, home, raw)
    return ingest_pictures(raw, layout, folder, home, params, workers)


@dataclass(frozen=True)
class _Task:
    study_id: str
    listed: ListedPicture
    needs_mask: bool


@dataclass(frozen=True)
class _Read:
    """One picture that was read, or why not."""

    task: _Task
    row: PictureRow | None = None
    size: tuple[int, int] = (0, 0)  # height, width
    sha256: str = ""
    mask_sha256: str = ""
    rejected: RejectedRow | None = None


def ingest_pictures(  # noqa: PLR0917
    raw: Path, layout: Layout, folder: Path, home: Path, params: IngestParams, workers: int = 1
) -> list[Derivation]:
    """Write ``volumes/<study_id>/{image,mask}.png``, ``volumes/pictures.csv`` and the tables.

    A picture has no header, so nothing in it names a person: under ``pseudonyms: auto`` the key is
    the public one, and names of files stay. Its path stands for PatientID and for all UIDs.

    Raises:
        InputsRefusedError: something was refused and ``on_reject`` is ``stop``.
        NothingUsableError: no normal picture to train on, or no test picture of one class.
        PseudonymError: see :func:`ingest_data`; or two pictures get one pseudonym.
    """
    pseudonyms = choose_pseudonyms(params.pseudonyms, (True,))
    check_key(pseudonyms, params.key)
    tasks = _tasks(layout, pseudonyms)
    work = partial(_ingest_picture, raw=raw, volumes=folder / "volumes")
    read = map_in_processes(work, tasks, "reading pictures", workers)
    refused = [item.rejected for item in read if item.rejected] + list(
        map(_unlisted, layout.others)
    )
    refused = [_published_rejection(row, pseudonyms) for row in refused]
    _maybe_stop(refused, params)
    kept = [item for item in read if item.row is not None]
    _check_usable(raw, kept, refused)
    _write_tables(folder, read, refused, pseudonyms)
    console.print(f"{len(kept)} pictures; {len(refused)} refusals (rejected.csv)")
    said = [Entity.of_file(raw / layout.listing)] if layout.listing else []
    said += [Entity.of_file(WITHDRAWN)] if WITHDRAWN.is_file() else []
    return _derivations(folder, home, kept, said, pseudonyms)


def _tasks(layout: Layout, pseudonyms: Pseudonyms) -> list[_Task]:
    """Those that nobody withdrew, by study_id."""
    gone = {row.patient for row in read_withdrawn()}
    tasks: dict[str, _Task] = {}
    patients: dict[str, str] = {}
    for listed in layout.pictures:
        patient = pseudonyms.patient(listed.file)
        if (other := patients.setdefault(patient, listed.file)) != listed.file:
            raise PseudonymError(f"{other} and {listed.file} get the same pseudonym: rename one.")
        if patient not in gone:
            study_id = pseudonyms.study_id(listed.file, listed.file)
            needs_mask = layout.masks and listed.label == 1
            tasks[study_id] = _Task(study_id, listed, needs_mask)
    return [task for _, task in sorted(tasks.items())]


def _ingest_picture(task: _Task, *, raw: Path, volumes: Path) -> _Read:
    try:
        picture, mask = _read(task, raw)
    except RejectedInputError as error:
        return _Read(task, rejected=rejected_row(error))
    home = volumes / task.study_id
    home.mkdir(parents=True)
    _save(home / "image.png", picture.grey)
    if mask is not None:
        _save(home / "mask.png", mask.grey)
    row = PictureRow(
        study_id=task.study_id,
        split=task.listed.split,
        label=task.listed.label,
        lesion_area_px=int((mask.grey > 0).sum()) if mask else 0,
        pixels_sha256=picture.pixels_sha256,
    )
    height, width = picture.grey.shape
    return _Read(task, row, (height, width), picture.sha256, mask.sha256 if mask else "")


def _read(task: _Task, raw: Path) -> tuple[Picture, Picture | None]:
    listed = task.listed
    picture = read_picture(raw, listed.file)
    if listed.mask:
        return picture, read_mask(raw, listed.mask, picture, listed.label)
    if task.needs_mask:
        raise LabelError(
            listed.file,
            found="no mask in label/",
            expected="one, as other abnormal pictures of this set have",
            advice="Restore the mask, or the picture would count as one without a lesion.",
        )
    return picture, None


def _save(path: Path, grey: NDArray[np.uint8]) -> None:
    Image.fromarray(grey).save(path)


def _unlisted(file: str) -> RejectedRow:
    return rejected_row(
        UnsupportedObjectError(
            file,
            found="a file that the layout does not name",
            expected="pictures and masks where docs/image_benchmarks.md says",
            advice="List it, move it, or leave it out of the data set.",
        )
    )


def _published(file: str, pseudonyms: Pseudonyms) -> str:
    """A path as outputs show it: under a secret key its names may be a person's."""
    if pseudonyms.kind == "public":
        return file
    return pseudonyms.token(file) + PurePosixPath(file).suffix


def _published_rejection(row: RejectedRow, pseudonyms: Pseudonyms) -> RejectedRow:
    subject = _published(row.subject, pseudonyms)
    return RejectedRow(subject, row.code, row.found, row.expected, row.advice)


def _maybe_stop(refused: Sequence[RejectedRow], params: IngestParams) -> None:
    if refused and params.on_reject == "stop":
        raise InputsRefusedError(
            f"{len(refused)} inputs were refused and ingest.on_reject is stop:\n{_shown(refused)}"
        )


def _check_usable(raw: Path, kept: Sequence[_Read], refused: Sequence[RejectedRow]) -> None:
    found = {(item.task.listed.split, item.task.listed.label) for item in kept}
    if missing := {("train", 0), ("test", 0), ("test", 1)} - found:
        groups = ", ".join(f"{split} {('normal', 'abnormal')[k]}" for split, k in sorted(missing))
        raise NothingUsableError(
            f"{raw}: no usable picture in: {groups}. What was refused:\n{_shown(refused)}"
        )


def _shown(rows: Sequence[RejectedRow]) -> str:
    lines = [
        f"  {r.subject}: {r.code}: found {r.found}; expected {r.expected}. {r.advice}"
        for r in sorted(rows)[:_SHOWN]
    ]
    return "\n".join([*lines, *([f"  and {len(rows) - _SHOWN} more"] * (len(rows) > _SHOWN))])


def _write_tables(
    folder: Path, read: Sequence[_Read], refused: Sequence[RejectedRow], pseudonyms: Pseudonyms
) -> None:
    kept = [item for item in read if item.row is not None]
    instances = sorted(row for item in kept for row in _instances(item, pseudonyms))
    write_table(folder / "instances.csv", InstanceRow, instances)
    series = sorted(_series(item, pseudonyms) for item in read)
    write_table(folder / "series.csv", SeriesRow, series)
    write_table(folder / "studies.csv", StudyRow, [_study(item, pseudonyms) for item in kept])
    write_table(folder / "rejected.csv", RejectedRow, sorted(set(refused)))
    rows = [item.row for item in kept if item.row is not None]
    write_table(folder / "volumes/pictures.csv", PictureRow, rows)
    identity = {"pseudonyms": pseudonyms.kind, "key_fingerprint": pseudonyms.fingerprint()}
    write_json(folder / "identity.json", identity)


def _instances(item: _Read, pseudonyms: Pseudonyms) -> Iterable[InstanceRow]:
    listed, series = item.task.listed, pseudonyms.uid(item.task.listed.file)
    files = [(listed.file, item.sha256, PICTURE, 0), (listed.mask, item.mask_sha256, MASK, None)]
    for file, sha256, role, index in files:
        if file:
            uid, shown = pseudonyms.uid(file), _published(file, pseudonyms)
            yield InstanceRow(shown, sha256, uid, series, item.task.study_id, role, index)


def _series(item: _Read, pseudonyms: Pseudonyms) -> SeriesRow:
    listed, uid = item.task.listed, pseudonyms.uid(item.task.listed.file)
    height, width = item.size
    return SeriesRow(
        series_instance_uid=uid,
        stack=1,
        study_instance_uid=uid,
        patient=pseudonyms.patient(listed.file),
        modality=PICTURE,
        manufacturer="",
        model_name="",
        description="",
        instances=1,
        rows=height,
        columns=width,
        spacing_x_mm=None,
        spacing_y_mm=None,
        spacing_z_mm=None,
        study_id=item.task.study_id if item.row else "",
        role=PICTURE if item.row else "unused",
        reason=f"refused: {item.rejected.code}" if item.rejected else "the layout names it",
    )


def _study(item: _Read, pseudonyms: Pseudonyms) -> StudyRow:
    listed = item.task.listed
    return StudyRow(
        study_id=item.task.study_id,
        patient=pseudonyms.patient(listed.file),
        scanner=_SCANNER,
        ct_series_instance_uid="",
        pet_series_instance_uid="",
        label_series_instance_uid="",
        label_kind=MASK if listed.mask else PICTURE,
        lesion_kind="abnormal" if listed.label else "normal",
        ct_slices=0,
        pet_slices=0,
        same_frame_of_reference=True,
        notes="",
    )


def _derivations(
    folder: Path,
    home: Path,
    kept: Sequence[_Read],
    said: Sequence[Entity],
    pseudonyms: Pseudonyms,
) -> list[Derivation]:
    """Each PNG from its file; the tables from all files, the listing and the withdrawals."""

    def written(name: str) -> Entity:
        return Entity(f"file:{(home / name).as_posix()}", sha256_file(folder / name))

    found, sources = [], []
    for item in kept:
        listed, home_of_study = item.task.listed, f"volumes/{item.task.study_id}"
        image = Entity(f"instance:{pseudonyms.uid(listed.file)}", item.sha256)
        found.append(Derivation(written(f"{home_of_study}/image.png"), (image,)))
        sources.append(image)
        if listed.mask:
            mask = Entity(f"instance:{pseudonyms.uid(listed.mask)}", item.mask_sha256)
            found.append(Derivation(written(f"{home_of_study}/mask.png"), (mask,)))
            sources.append(mask)
    index = written("instances.csv")
    found.append(Derivation(index, (*sources, *said)))
    return [*found, *(Derivation(written(name), (index, *said)) for name in _TABLES)]
