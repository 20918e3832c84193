"""Keyed hashes that stand for patients, UIDs and file names in every output.

HMAC-SHA-256 (RFC 2104) under a key that lies outside the repository: the same patient has the same
pseudonym in every data set under one key, and without the key nobody can compute or check one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from petct_uad.core.errors import PseudonymError
from petct_uad.ingest.tables import PatientPseudonym, PublicPath, StudyId, UidPseudonym

KEY_VARIABLE = "PETCT_KEY_FILE"
_DEFAULT_KEY = Path("~/.config/petct/pseudonym.key")
_KEY_BYTES = 32
# For phantoms and sets that their publisher de-identified: anyone can recompute these pseudonyms.
_PUBLIC_KEY = hashlib.sha256(b"petct-uad public pseudonyms").digest()
_DIGITS = 10


@dataclass(frozen=True)
class Pseudonyms:
    """A key, and the names that follow from it."""

    kind: Literal["public", "secret"]
    key: bytes = field(repr=False)

    def patient(self, patient_id: str) -> PatientPseudonym:
        """``p-<10 hex digits>`` for a PatientID (0010,0020)."""
        return PatientPseudonym(f"p-{self._digest('patient', patient_id).hex()[:_DIGITS]}")

    def study_id(self, patient_id: str, study_uid: str) -> StudyId:
        """``p-<10 hex digits>_<8 hex digits>``, safe as a folder name; see docs/contracts.md."""
        study = hashlib.sha256(self.uid(study_uid).encode()).hexdigest()[:8]
        return StudyId(f"{self.patient(patient_id)}_{study}")

    def token(self, text: str) -> str:
        """``x-<10 hex digits>`` for the name of a file or folder that would name a person."""
        return f"x-{self._digest('token', text).hex()[:_DIGITS]}"

    def file(self, file: str) -> PublicPath:
        """A path whose names may be a person's under a secret key, and are none under the public.

        For files without a header that says whose they are.
        """
        if self.kind == "public":
            return PublicPath(file)
        return PublicPath(self.token(file) + PurePosixPath(file).suffix)

    def uid(self, uid: str) -> UidPseudonym:
        """A UID ``2.25.<integer>`` (PS3.5 B.2) for a UID; "" stays ""."""
        number = int.from_bytes(self._digest("uid", uid)[:16], "big")
        return UidPseudonym(f"2.25.{number}" if uid else "")

    def fingerprint(self) -> str:
        """``k-<16 hex digits>``, which tells two keys apart and gives neither away."""
        return f"k-{self._digest('fingerprint', '').hex()[:16]}"

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self.key, f"{purpose}\0{text}".encode(), "sha256")


PUBLIC = Pseudonyms("public", _PUBLIC_KEY)


def check_distinct(patients: Iterable[str], pseudonyms: Pseudonyms) -> None:
    """Has every patient a pseudonym of its own?

    Raises:
        PseudonymError: two patients get one pseudonym.
    """
    by_pseudonym: dict[str, str] = {}
    for patient in sorted(set(patients)):
        other = by_pseudonym.setdefault(pseudonyms.patient(patient), patient)
        if other != patient:
            raise PseudonymError(
                f"the patients {other} and {patient} get the same pseudonym under this key. "
                "Ingest them as two data sets, or use another key."
            )


def choose_pseudonyms(asked: str, removed: Iterable[bool]) -> Pseudonyms:
    """The pseudonyms that ``ingest.pseudonyms`` asks for.

    Args:
        asked: ``public``, ``secret`` or ``auto``.
        removed: of every image file, whether it says that the identity is removed.

    Raises:
        PseudonymError: a secret key is needed and there is none that can be used.
    """
    if asked == "public" or (asked == "auto" and all(removed)):
        return PUBLIC
    try:
        return Pseudonyms("secret", read_key(key_file()))
    except PseudonymError as error:
        if asked == "secret":
            raise
        raise PseudonymError(
            "Not every CT and PET file says that Patient Identity Removed (0012,0062) is YES, so "
            f"pseudonyms need a secret key. {error} If the publisher of these data has "
            "de-identified them, set ingest.pseudonyms: public instead."
        ) from error


def check_key(pseudonyms: Pseudonyms, wanted: str) -> None:
    """Is it the key that ``ingest.key`` asks for?

    Raises:
        PseudonymError: another one.
    """
    found = pseudonyms.fingerprint()
    if wanted not in {"any", found}:
        raise PseudonymError(
            f"ingest.key asks for the key {wanted}, and the {pseudonyms.kind} key here is {found}: "
            "every patient would get another name. Name the right key in the environment variable "
            f"{KEY_VARIABLE}, or set ingest.key: {found} and rebuild everything with `dvc repro`."
        )


def key_file() -> Path:
    """Where the key lies: ``PETCT_KEY_FILE``, else ``~/.config/petct/pseudonym.key``."""
    return Path(os.environ.get(KEY_VARIABLE) or _DEFAULT_KEY).expanduser().absolute()


def read_key(path: Path) -> bytes:
    """Read a key of 64 hexadecimal digits.

    Raises:
        PseudonymError: the file is missing, unreadable, open to others, no key, or lies inside a
            repository, where it could be committed or pushed.
    """
    _refuse_inside_repository(path)
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PseudonymError(
            f"{path}: no readable key. Make one with `petct key create`, or name the one that "
            f"you have in the environment variable {KEY_VARIABLE}."
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise PseudonymError(f"{path}: others may read this key. Run `chmod 600 {path}`.")
    if not re.fullmatch(rf"[0-9a-fA-F]{{{2 * _KEY_BYTES},}}", text) or len(text) % 2:
        raise PseudonymError(
            f"{path}: not a key, or too short; expected {2 * _KEY_BYTES} hexadecimal digits or "
            "more, an even number. Make one with `petct key create`."
        )
    return bytes.fromhex(text)


def create_key(path: Path) -> None:
    """Write a new key that only its owner may read.

    Raises:
        PseudonymError: something lies there already, the folder cannot be written, or the path is
            inside a repository.
    """
    _refuse_inside_repository(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise PseudonymError(
            f"{path}: exists already and is kept: with another key, every patient would get "
            "another name."
        ) from error
    except OSError as error:
        raise PseudonymError(f"{path}: cannot be written: {error.strerror}.") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(f"{secrets.token_hex(_KEY_BYTES)}\n")


def _refuse_inside_repository(path: Path) -> None:
    resolved = path.resolve()
    inside = resolved.is_relative_to(Path.cwd().resolve())
    if inside or any((folder / ".dvc").is_dir() for folder in resolved.parents):
        raise PseudonymError(
            f"{path}: lies inside a repository. Keep the key outside, where it cannot be committed "
            f"or pushed, and name it in the environment variable {KEY_VARIABLE}."
        )
