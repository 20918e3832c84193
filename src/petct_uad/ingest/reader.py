"""What a kind of input must be able to do. Adding one: a folder with a reader, a line in run.py."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from petct_uad.core.files import sha256_once
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.core.store.study_store import StudyStore
from petct_uad.ingest.found import FoundTables
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.pseudonyms import Pseudonyms
from petct_uad.ingest.tables import InstanceRow, PublishedTables, StudyRow


@dataclass(frozen=True)
class Reading:
    """What a reader made of a data set, beside the files below ``volumes/``.

    Attributes:
        tables: what may be written.
        shown: the same for the owner's screen: as the files have it, where that differs.
        pseudonyms: those of ``tables``.
        counts: what is there, a line each.
        remarks: what else a person should know, lines by title.
    """

    tables: PublishedTables
    shown: FoundTables | PublishedTables
    pseudonyms: Pseudonyms
    counts: tuple[str, ...]
    remarks: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Whose:
    """Whose a single file is, as it says itself; None where it does not say.

    Attributes:
        patient: as it stands there.
        study: a UID.
        series: likewise.
        instance: likewise.
    """

    patient: str | None = None
    study: str | None = None
    series: str | None = None
    instance: str | None = None


def is_uid(text: str) -> bool:
    """Could a text be a UID (PS3.5, 9)? Leading zeros, which some vendors write, are let pass."""
    return re.fullmatch(r"[0-9.]{1,64}", text) is not None


class Reader(ABC):
    """One kind of input."""

    name: ClassVar[str]  # what a person hands in: "DICOM files"

    @abstractmethod
    def recognises(self, raw: Path) -> bool:
        """Is the data set of this kind? The first reader that says yes reads it all."""

    @abstractmethod
    def read(
        self,
        raw: Path,
        out: Path,
        params: IngestParams,
        workers: int = 1,
        store: StudyStore | None = None,
    ) -> Reading:
        """Read every study; what cannot be used is a row of ``rejected``, and why.

        Args:
            raw: a folder with something in it.
            out: receives ``volumes/<study_id>/``.
            params: of the stage.
            workers: number of processes; 0 means one per core. The bytes are the same.
            store: from which studies are taken that were read before; the bytes are the same.

        Raises:
            DatasetError: the data set as a whole contradicts itself or ``params``.
            InputsRefusedError: something was refused and ``on_reject`` is ``stop``.
            NothingUsableError: nothing in it can be used.
            PseudonymError: the key that ``pseudonyms`` asks for is missing, unsafe or not ``key``.
        """

    @abstractmethod
    def derivations(self, raw: Path, written: Written) -> Iterable[Derivation]:
        """What each file below ``volumes/`` was made from."""

    def listings(self, raw: Path) -> Sequence[Path]:
        """Files of the data set that say what the tables say, and are no instances themselves."""
        return ()

    def whose(self, path: Path) -> Whose:
        """Whose a file is, wherever it lies: nobody's where it is of another kind, or damaged."""
        return Whose()


@dataclass(frozen=True)
class Written:
    """What a reading left in a folder, for its lineage.

    Attributes:
        folder: where the files lie now.
        home: where they will lie, relative to the repository's root; their entities' path.
    """

    folder: Path
    home: Path
    instances: tuple[InstanceRow, ...]
    studies: tuple[StudyRow, ...]

    def entity(self, name: str) -> Entity:
        """The entity of a file."""
        return Entity(f"file:{(self.home / name).as_posix()}", sha256_once(self.folder / name))

    def has(self, name: str) -> bool:
        """Is the file there?"""
        return (self.folder / name).is_file()


def instance_entity(row: InstanceRow) -> Entity:
    """The entity of a file of the data set."""
    return Entity(f"instance:{row.sop_instance_uid}", row.sha256)
