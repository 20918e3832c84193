"""DICOM files that were read: ``instances.csv``."""

from __future__ import annotations

from great_expectations.expectations.row_conditions import Column

from petct_uad.ingest.tables import INSTANCE_ROLES
from petct_uad.validation.suites.check import Check, Promises, holds, in_set, matches, unique

TABLE = "instances"
IDENTITY = "file"


def checks(promises: Promises) -> list[Check]:
    """Is every file known by one name, one UID and one hash, and has it a place?"""
    return [
        Check(TABLE, "file_once", "critical", "one row per file", unique("file")),
        Check(TABLE, "sop_instance_uid_unique", "critical",
              "SOPInstanceUID identifies an instance (PS3.3 C.12.1)",
              unique("sop_instance_uid")),
        Check(TABLE, "hash_is_sha256", "critical", "lineage rests on these hashes",
              matches("sha256", "^[0-9a-f]{64}$")),
        Check(TABLE, "role_known", "critical", "every file is used or its disuse is stated",
              in_set("role", INSTANCE_ROLES)),
        Check(TABLE, "used_by_a_study", "critical", "a volume is traced to its files by study_id",
              holds("study_known", Column("role").is_in(["ct", "pet", "label"]))),
        Check(TABLE, "series_listed", "critical", "a file of a series that is not listed is lost",
              holds("series_known")),
    ]  # fmt: skip
