"""The one door of ingestion: whatever kind of input, the same tables, refusals and lineage."""

from __future__ import annotations

import json
from pathlib import Path

from petct_uad.core.console import console
from petct_uad.core.errors import DatasetError, NothingUsableError
from petct_uad.core.files import read_table, write_json
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.core.store.study_store import StudyStore
from petct_uad.ingest.dicom.reader import DicomReader
from petct_uad.ingest.images.reader import ImageReader
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.pseudonyms import KEY_VARIABLE, Pseudonyms
from petct_uad.ingest.reader import Reader, Reading, Whose, Written, instance_entity
from petct_uad.ingest.tables import (
    IDENTITY,
    INSTANCES,
    REJECTED,
    SERIES,
    STUDIES,
    InstanceRow,
    StudyRow,
)
from petct_uad.ingest.withdrawn import WITHDRAWN

# Asked in this order. The last takes what nobody else knows: any tree may hold DICOM.
READERS: tuple[Reader, ...] = (ImageReader(), DicomReader())
ACCEPTED = " or ".join(reader.name for reader in READERS)

_FROM_INSTANCES = (SERIES, STUDIES, REJECTED, IDENTITY)


def ingest_with_lineage(
    raw: Path,
    folder: Path,
    home: Path,
    params: IngestParams,
    workers: int = 1,
    *,
    store: StudyStore | None = None,
) -> list[Derivation]:
    """The stage: read a data set, and say what each written file was made from.

    Args:
        raw: ``data/raw/<dataset>``.
        folder: empty; receives what docs/contracts.md lists.
        home: where ``folder`` will lie, relative to the repository's root.
        params: of the stage.
        workers: number of processes; 0 means one per core.
        store: from which studies are taken that were read before.

    Raises:
        DatasetError, PseudonymError: see :func:`ingest_dataset`.
    """
    ingest_dataset(raw, folder, params, workers, home, store=store)
    return derivations(folder, home, raw)


def ingest_dataset(
    raw: Path,
    out: Path,
    params: IngestParams,
    workers: int = 1,
    last: Path | None = None,
    *,
    store: StudyStore | None = None,
) -> Reading:
    """Read a data set by the reader that recognises it; write its volumes and tables.

    Args:
        raw: any folder tree; it is only read.
        out: an empty folder that receives ``volumes/``, the tables under pseudonyms, and
            ``identity.json``, which says whose key made them.
        params: of the stage.
        workers: number of processes; 0 means one per core. The bytes are the same.
        last: where an earlier run may have left its output; a change of key since is told.
        store: as above.

    Raises:
        NothingUsableError: ``raw`` is missing or empty, or nothing in it can be used.
        DatasetError, PseudonymError: see :meth:`petct_uad.ingest.reader.Reader.read`.
    """
    reading = _reader_of(raw).read(raw, out, params, workers, store)
    reading.tables.write(out)
    _write_identity(out, reading.pseudonyms)
    if last is not None:
        _say_if_renamed(last, reading.pseudonyms)
    return reading


def derivations(folder: Path, home: Path, raw: Path) -> list[Derivation]:
    """What each file of a reading was made from, as the written tables name it.

    Args:
        folder: where the files lie now.
        home: where they will lie, relative to the repository's root.
        raw: the data set.
    """
    reader = _reader_of(raw)
    written = Written(
        folder,
        home,
        tuple(read_table(folder / INSTANCES, InstanceRow)),
        tuple(read_table(folder / STUDIES, StudyRow)),
    )
    listings = [*reader.listings(raw), *([WITHDRAWN] if WITHDRAWN.is_file() else [])]
    said = tuple(map(Entity.of_file, listings))
    index = written.entity(INSTANCES)
    return [
        Derivation(index, (*map(instance_entity, written.instances), *said)),
        *(Derivation(written.entity(name), (index,)) for name in _FROM_INSTANCES),
        *reader.derivations(raw, written),
    ]


def whose_file(path: Path) -> Whose:
    """Whose a single file of any kind is, as it says itself."""
    found = (reader.whose(path) for reader in READERS)
    return next((whose for whose in found if whose != Whose()), Whose())


def _reader_of(raw: Path) -> Reader:
    if not raw.is_dir() or not any(raw.iterdir()):
        raise NothingUsableError(
            f"{raw}: no such data set, or it is empty. Bring one in with "
            f"`petct add {raw.name} FOLDER`, or set `dataset: phantom` in params.yaml and run "
            "`dvc repro`, which makes the phantom."
        )
    for reader in READERS:
        if reader.recognises(raw):
            return reader
    raise DatasetError(f"{raw}: holds no {ACCEPTED}.")


def _write_identity(out: Path, pseudonyms: Pseudonyms) -> None:
    """Which key made the pseudonyms, so that the tables of two keys are never mixed unseen."""
    content = {"pseudonyms": pseudonyms.kind, "key_fingerprint": pseudonyms.fingerprint()}
    write_json(out / IDENTITY, content)


def _say_if_renamed(last: Path, pseudonyms: Pseudonyms) -> None:
    try:
        before = json.loads((last / IDENTITY).read_text(encoding="utf-8"))["key_fingerprint"]
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
