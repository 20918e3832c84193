"""Usable studies: ``studies.csv``."""

from __future__ import annotations

from petct_uad.ingest.tables import LABEL_KINDS
from petct_uad.validation.suites.check import Check, Promises, holds, in_set, matches, unique

TABLE = "studies"
IDENTITY = "study_id"


def checks(promises: Promises) -> list[Check]:
    """Is every study one of a known patient and scanner, with a label that is one?"""
    return [
        Check(TABLE, "study_id_unique", "critical", "one row per study", unique("study_id")),
        Check(TABLE, "patient_stated", "critical", "splits are made by patient",
              matches("patient", r"\S")),
        Check(TABLE, "scanner_stated", "warning", "splits are stratified by scanner",
              matches("scanner", r"\S")),
        Check(TABLE, "label_kind_known", "critical", "a label is a SEG, an RTSTRUCT or labels.csv",
              in_set("label_kind", LABEL_KINDS)),
        Check(TABLE, "label_names_a_lesion", "critical",
              "a SEG or RTSTRUCT of which ingest.label_roi picks nothing would pass lesions off as "
              "normal",
              holds("label_names_a_lesion")),
        Check(TABLE, "same_frame_of_reference", "warning",
              "PET and CT of one session share FrameOfReferenceUID (0020,0052)",
              holds("same_frame_of_reference")),
    ]  # fmt: skip
