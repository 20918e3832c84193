"""Every failure that this library raises on purpose, drawn once.

* PetctError
  x ParamsError            params.yaml holds a key or a value that the schema does not allow
  x SettingError           an environment variable holds what cannot be taken
  x RejectedInputError     one file, series or study cannot be used; says why
    - UnreadableFileError    code ``unreadable``: not DICOM, truncated or without a header
    - UnsupportedObjectError code ``unsupported``: DICOM, but no CT, PET or label
    - IdentityError          code ``identity``: a UID or PatientID is missing or shared
    - GeometryError          code ``geometry``: slice gaps, mixed orientation, tilt, no position
    - UnitsError             code ``units``: SUVbw or HU cannot be computed from the header
    - PixelError             code ``pixels``: pixel data cannot be decoded or are not finite
    - FramesError            code ``frames``: a dynamic or gated PET of which no frame is named
    - PairingError           code ``pairing``: a study lacks a CT or a PET, or they do not overlap
    - LabelError             code ``label``: a SEG, RTSTRUCT or labels.csv does not fit its study
      + OtherFrameError      it lies in another frame of reference than the images
      + PatternNeededError   it names organs, and ingest.label_roi takes every name for a lesion
  x PseudonymError         the key of the pseudonyms is missing, unsafe, or two patients collide
  x RegistrationError      the PET cannot be brought onto the CT grid
  x SplitError             the cohort is too small for the fractions asked for
  x ValidationFailedError  a critical expectation on the tables failed
  x TeacherError           teacher weights are missing or do not fit
  x TrainingError          training diverged or has nothing to train on
  x EvaluationError        nothing to measure, or score tables that cannot be compared
  x LineageError           a table of derivations names something that does not exist
  x SplitFileError         a file holds no split that ``petct audit-split`` can read; exit code 4
  x CohortError            a recipe of data/cohorts is wrong, or the index of the archive is missing
  x NewModelError          ``petct new model`` would overwrite something, or the name is no good
  x DatasetError           ``data/raw/<dataset>`` is missing, empty, or would be overwritten
    - InputsRefusedError     some inputs were refused and ingest.on_reject is stop; exit code 3
    - NothingUsableError     the data set is missing, empty, or holds no usable study; exit code 4
  x ArchiveError           an archive below data/raw is damaged or not plain; says what is wrong
  x ExecutorError          processes or a cluster cannot do the work (PETCT_EXECUTOR)

A process that ends with one of these returns its exit code: 1 where none is named. 0 means that all
was done, with any refusals in rejected.csv; 2 is a wrong command line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Self


class PetctError(Exception):
    """Base of every error that this library raises on purpose."""

    exit_code: ClassVar[int] = 1


class ParamsError(PetctError):
    """params.yaml holds a key or a value that the schema does not allow."""


class SettingError(PetctError):
    """An environment variable of this machine holds what cannot be taken."""


class RejectedInputError(PetctError):
    """One file, series or study cannot be used.

    Attributes:
        subject: the file (relative to the data set) or the UID that is refused.
        found: what was found there, with the tag where one is concerned.
        expected: what would have been accepted.
        advice: what a person can do about it.
    """

    code: ClassVar[str] = "rejected"

    def __init__(self, subject: str, *, found: str, expected: str, advice: str) -> None:
        super().__init__(f"{subject}: found {found}; expected {expected}. {advice}")
        self.subject = subject
        self.found = found
        self.expected = expected
        self.advice = advice

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[()], dict[str, Any]]:
        """How it comes back from the process that met it: by name, as it was made."""
        made = {name: getattr(self, name) for name in ("subject", "found", "expected", "advice")}
        return partial(type(self), **made), (), vars(self)


class UnreadableFileError(RejectedInputError):
    """Not DICOM, truncated, or its header cannot be parsed."""

    code = "unreadable"


class UnsupportedObjectError(RejectedInputError):
    """DICOM, but of a kind that is no CT, PET or label."""

    code = "unsupported"


class IdentityError(RejectedInputError):
    """A UID or PatientID is missing, or two different files share one SOPInstanceUID."""

    code = "identity"


class GeometryError(RejectedInputError):
    """Slice gaps, duplicate positions, mixed orientation, tilt or a missing position."""

    code = "geometry"


class UnitsError(RejectedInputError):
    """SUVbw or HU cannot be computed from what the header says."""

    code = "units"


class PixelError(RejectedInputError):
    """Pixel data cannot be decoded or are not finite."""

    code = "pixels"


class FramesError(RejectedInputError):
    """A dynamic or gated PET of several images, of which ingest.dynamic names none."""

    code = "frames"


class PairingError(RejectedInputError):
    """A study lacks a CT or a PET, or the two do not overlap."""

    code = "pairing"


class LabelError(RejectedInputError):
    """A SEG, an RTSTRUCT or a row of labels.csv does not fit the study that it refers to."""

    code = "label"


class OtherFrameError(LabelError):
    """A label object lies in another frame of reference than the images that are there."""


class PatternNeededError(LabelError):
    """A label object names organs, and ``ingest.label_roi`` takes every name for a lesion.

    Attributes:
        objects: each label object of the study, with all that it names.
    """

    objects: tuple[str, ...] = ()


class PseudonymError(PetctError):
    """The key of the pseudonyms is missing or unsafe, or two patients get the same pseudonym."""


class RegistrationError(PetctError):
    """The PET cannot be brought onto the CT grid."""


class SplitError(PetctError):
    """The cohort is too small for the fractions asked for."""


class ValidationFailedError(PetctError):
    """A critical expectation on the tables failed."""


class TeacherError(PetctError):
    """Teacher weights are missing or do not fit."""


class TrainingError(PetctError):
    """Training diverged or has nothing to train on."""


class EvaluationError(PetctError):
    """Nothing to measure, or score tables that cannot be compared."""


class LineageError(PetctError):
    """A table of derivations names something that does not exist."""


class SplitFileError(PetctError):
    """A file holds no split that can be read; 1 would say that it leaks."""

    exit_code = 4


class CohortError(PetctError):
    """A recipe of data/cohorts is wrong or unknown, or the index of the archive is missing."""

    exit_code = 4


class NewModelError(PetctError):
    """``petct new model`` would overwrite something, or the name is no good."""


class DatasetError(PetctError):
    """``data/raw/<dataset>`` is missing, empty, or would be overwritten."""


class InputsRefusedError(DatasetError):
    """Some inputs were refused and ``ingest.on_reject`` is ``stop``."""

    exit_code = 3


class NothingUsableError(DatasetError):
    """The data set is missing or empty, or no study in it can be used."""

    exit_code = 4


class ArchiveError(PetctError):
    """An archive that is damaged, or not as ``petct add --pack`` writes them."""


class ExecutorError(PetctError):
    """Processes of this machine or a cluster cannot do what was asked of them."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence, after a space, that names what an unknown name is most like; "" if nothing is."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
