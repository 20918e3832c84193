"""Image benchmarks: pictures that somebody has already labelled and split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from petct_uad.core.console import console
from petct_uad.core.errors import (
    LabelError,
    NothingUsableError,
    RejectedInputError,
    UnsupportedObjectError,
)
from petct_uad.core.files import write_table
from petct_uad.core.parallel import map_in_processes
from petct_uad.core.provenance.record import Derivation
from petct_uad.core.store.study_store import StudyStore
from petct_uad.ingest.found import FoundRejection
from petct_uad.ingest.images.decoding import DecodedImage, read_image, read_mask
from petct_uad.ingest.images.layout import Layout, ListedImage, find_layout, recognises
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.pseudonyms import Pseudonyms, check_distinct, check_key, choose_pseudonyms
from petct_uad.ingest.reader import Reader, Reading, Written, instance_entity
from petct_uad.ingest.rejections import maybe_stop, rejected_row, shown
from petct_uad.ingest.tables import (
    INSTANCES,
    LESION,
    MASK,
    NEGATIVE,
    NO_STUDY,
    PICTURE,
    PICTURES_CSV,
    VOLUMES,
    InstanceRow,
    PictureRow,
    PublicText,
    PublishedTables,
    RejectedRow,
    SeriesRow,
    StudyId,
    StudyRow,
    UidPseudonym,
)
from petct_uad.ingest.withdrawn import withdrawn_patients

_SCANNER = "unknown"
_NO_UID = UidPseudonym("")
_ASSIGNED = f"{VOLUMES}/{PICTURES_CSV}"
_FILES = {PICTURE: "image.png", MASK: "mask.png"}
_SPLITS = ("train", "val", "test")


class ImageReader(Reader):
    """Pictures in a layout of :mod:`petct_uad.ingest.images.layout`.

    A picture has no header, so nothing in it names a person: under ``pseudonyms: auto`` the key is
    the public one, and names of files stay. Its path stands for PatientID and for all UIDs.
    """

    name = "pictures"

    def recognises(self, raw: Path) -> bool:
        """By the folders and the listing that the layouts have."""
        return recognises(raw)

    def read(
        self,
        raw: Path,
        out: Path,
        params: IngestParams,
        workers: int = 1,
        store: StudyStore | None = None,
    ) -> Reading:
        """Write ``volumes/<study_id>/{image,mask}.png`` and ``volumes/pictures.csv``.

        Pictures are not kept in a ``store``: to read one takes no longer than to find it there.

        Raises:
            DatasetError: see :func:`find_layout`.
            InputsRefusedError: something was refused and ``on_reject`` is ``stop``.
            NothingUsableError: no normal picture to train on, or no test picture of one class.
            PseudonymError: the key that ``pseudonyms`` asks for is missing, unsafe or not ``key``;
                or two pictures get one pseudonym.
        """
        layout = find_layout(raw)
        pseudonyms = choose_pseudonyms(params.pseudonyms, (True,))
        check_key(pseudonyms, params.key)
        work = partial(_ingest_image, raw=raw, volumes=out / VOLUMES, colour=params.colour)
        read = map_in_processes(work, _tasks(layout, pseudonyms), "reading pictures", workers)
        found = [item.rejected for item in read if item.rejected]
        found += map(_unlabelled, layout.unlabelled)
        found += map(_abnormal_training, layout.abnormal_training)
        found += map(_unlisted, layout.others)
        refused = [_published_rejection(row, pseudonyms) for row in found]
        maybe_stop(refused, params)
        kept = [item for item in read if item.row is not None]
        _check_usable(raw, kept, refused)
        rows = [item.row for item in kept if item.row is not None]
        write_table(out / _ASSIGNED, PictureRow, rows)
        tables = PublishedTables(
            instances=tuple(sorted(row for item in kept for row in _instances(item, pseudonyms))),
            series=tuple(sorted(_series(item, pseudonyms) for item in read)),
            studies=tuple(_study(item, pseudonyms) for item in kept),
            rejected=tuple(sorted(set(refused))),
        )
        left_out = len(layout.unlabelled)
        also = f", {left_out} of them pictures without a label" if left_out else ""
        console.print(f"{len(kept)} pictures; {len(refused)} refusals{also} (rejected.csv)")
        remarks = {"pixels of an earlier split (see split.duplicates)": _copies(tables, rows)}
        return Reading(tables, tables, pseudonyms, _counts(tables, rows), remarks)

    def derivations(self, raw: Path, written: Written) -> Iterator[Derivation]:
        """Each PNG from its file; which split and label each has from all files and the listing."""
        for row in written.instances:
            name = f"{VOLUMES}/{row.study_id}/{_FILES[row.role]}"
            yield Derivation(written.entity(name), (instance_entity(row),))
        index = written.entity(INSTANCES)
        yield Derivation(written.entity(_ASSIGNED), (index,))

    def listings(self, raw: Path) -> Sequence[Path]:
        """``data.json``, or the tables of classes, where the layout has them."""
        return [raw / listing for listing in find_layout(raw).listings]


@dataclass(frozen=True)
class _Task:
    study_id: StudyId
    listed: ListedImage
    needs_mask: bool


@dataclass(frozen=True)
class _Read:
    """One image that was read, or why not."""

    task: _Task
    row: PictureRow | None = None
    size: tuple[int, int] = (0, 0)  # height, width
    sha256: str = ""
    mask_sha256: str = ""
    rejected: FoundRejection | None = None


def _tasks(layout: Layout, pseudonyms: Pseudonyms) -> list[_Task]:
    """Those that nobody withdrew, by study_id."""
    check_distinct((listed.file for listed in layout.images), pseudonyms)
    gone = withdrawn_patients()
    tasks = [
        _Task(
            pseudonyms.study_id(listed.file, listed.file),
            listed,
            needs_mask=layout.masks and listed.label == 1,
        )
        for listed in layout.images
        if pseudonyms.patient(listed.file) not in gone
    ]
    return sorted(tasks, key=lambda task: task.study_id)


def _ingest_image(task: _Task, *, raw: Path, volumes: Path, colour: bool) -> _Read:
    try:
        image, mask = _read(task, raw, colour)
    except RejectedInputError as error:
        return _Read(task, rejected=rejected_row(error))
    home = volumes / task.study_id
    home.mkdir(parents=True)
    _save(home / "image.png", image.levels)
    if mask is not None:
        _save(home / "mask.png", mask.levels)
    row = PictureRow(
        study_id=task.study_id,
        split=task.listed.split,
        label=task.listed.label,
        lesion_area_px=int((mask.levels > 0).sum()) if mask else 0,
        pixels_sha256=image.pixels_sha256,
    )
    return _Read(task, row, image.size_px, image.sha256, mask.sha256 if mask else "")


def _read(task: _Task, raw: Path, colour: bool) -> tuple[DecodedImage, DecodedImage | None]:
    listed = task.listed
    image = read_image(raw, listed.file, colour)
    if listed.mask:
        return image, read_mask(raw, listed.mask, image, listed.label)
    if task.needs_mask:
        raise LabelError(
            listed.file,
            found="no mask in label/ or anomaly_mask/",
            expected="one, as other abnormal pictures of this set have",
            advice="Restore the mask, or the picture would count as one without a lesion.",
        )
    return image, None


def _save(path: Path, levels: NDArray[np.uint8]) -> None:
    Image.fromarray(levels).save(path)


def _unlabelled(file: str) -> FoundRejection:
    return rejected_row(
        UnsupportedObjectError(
            file,
            found="a picture that the listing calls unlabeled",
            expected="normal pictures to train on: an unlabeled one may be abnormal",
            advice="Nothing, if that is meant. To use it, list it under a label.",
        )
    )


def _abnormal_training(file: str) -> FoundRejection:
    return rejected_row(
        UnsupportedObjectError(
            file,
            found="an abnormal picture of a training split",
            expected="normal pictures to train on",
            advice="Nothing: a model of this benchmark learns from normal pictures only.",
        )
    )


def _unlisted(file: str) -> FoundRejection:
    return rejected_row(
        UnsupportedObjectError(
            file,
            found="a file that the layout does not name",
            expected="pictures and masks where docs/image_benchmarks.md says",
            advice="List it, move it, or leave it out of the data set.",
        )
    )


def _published_rejection(row: FoundRejection, pseudonyms: Pseudonyms) -> RejectedRow:
    """The path under its pseudonym; the words are this reader's own and name no file."""
    return RejectedRow(
        PublicText(pseudonyms.file(row.subject)),
        row.code,
        PublicText(row.found),
        PublicText(row.expected),
        PublicText(row.advice),
    )


def _check_usable(raw: Path, kept: Sequence[_Read], refused: Sequence[RejectedRow]) -> None:
    found = {(item.task.listed.split, item.task.listed.label) for item in kept}
    if missing := {("train", 0), ("test", 0), ("test", 1)} - found:
        groups = ", ".join(f"{split} {('normal', 'abnormal')[k]}" for split, k in sorted(missing))
        raise NothingUsableError(
            f"{raw}: no usable picture in: {groups}. What was refused:\n{shown(refused)}"
        )


def _instances(item: _Read, pseudonyms: Pseudonyms) -> Iterable[InstanceRow]:
    listed, series = item.task.listed, pseudonyms.uid(item.task.listed.file)
    files = [(listed.file, item.sha256, PICTURE, 0), (listed.mask, item.mask_sha256, MASK, None)]
    for file, sha256, role, index in files:
        if file:
            uid, shown = pseudonyms.uid(file), pseudonyms.file(file)
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
        description=PublicText(""),
        instances=1,
        rows=height,
        columns=width,
        spacing_x_mm=None,
        spacing_y_mm=None,
        spacing_z_mm=None,
        study_id=item.task.study_id if item.row else NO_STUDY,
        role=PICTURE if item.row else "unused",
        reason=PublicText(
            f"refused: {item.rejected.code}" if item.rejected else "the layout names it"
        ),
    )


def _study(item: _Read, pseudonyms: Pseudonyms) -> StudyRow:
    listed = item.task.listed
    return StudyRow(
        study_id=item.task.study_id,
        patient=pseudonyms.patient(listed.file),
        scanner=_SCANNER,
        ct_series_instance_uid=_NO_UID,
        pet_series_instance_uid=_NO_UID,
        label_series_instance_uid=_NO_UID,
        label_kind=MASK if listed.mask else PICTURE,
        lesion_kind=PublicText(listed.kind),
        ct_slices=0,
        pet_slices=0,
        same_frame_of_reference=True,
        notes=PublicText(""),
        finding=LESION if listed.label else NEGATIVE,
    )


def _counts(tables: PublishedTables, rows: Sequence[PictureRow]) -> tuple[str, ...]:
    splits = Counter(row.split for row in rows)
    abnormal = sum(row.label for row in rows)
    masks = sum(study.label_kind == MASK for study in tables.studies)
    return (
        f"{len(tables.instances)} picture files that could be read",
        f"usable pictures: {len(rows)}, "
        f"{', '.join(f'{splits[name]} {name}' for name in _SPLITS)}; abnormal: {abnormal}; "
        f"with a mask: {masks}",
    )


def _copies(tables: PublishedTables, rows: Sequence[PictureRow]) -> list[str]:
    """Pictures of val and test that were seen before, each with the first that shows the same."""
    files = {row.study_id: row.file for row in tables.instances if row.role == PICTURE}
    found: list[str] = []
    first: dict[str, PictureRow] = {}
    for row in sorted(rows, key=lambda row: _SPLITS.index(row.split)):
        other = first.setdefault(row.pixels_sha256, row)
        if other.split != row.split:
            found.append(f"{files[row.study_id]}: as {files[other.study_id]} ({other.split})")
    return sorted(found)
