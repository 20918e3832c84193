"""What `petct validate --json` says to a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from petct_uad.cli.validate import Verdict
from petct_uad.ingest.found import FoundRejection, FoundTables
from petct_uad.ingest.pseudonyms import Pseudonyms
from petct_uad.ingest.reader import Reading
from petct_uad.ingest.tables import PublishedTables
from petct_uad.validation.validate import Outcome

REJECTION = FoundRejection("P7/PET", "pairing", "no such series", "one CT and one PET", "Add it.")


def said(*outcomes: Outcome) -> Any:
    reading = Reading(
        tables=PublishedTables((), (), (), ()),
        shown=FoundTables((), (), (), (REJECTION,)),
        pseudonyms=Pseudonyms("public", b"key"),
        counts=("usable studies: 0",),
    )
    return json.loads(Verdict(Path("export"), reading, outcomes).as_json())


def outcome(severity: Any, *, passed: bool) -> Outcome:
    return Outcome("cohort", "few_lost", severity, passed, "because", 8, ("export",))


def test_a_refusal_has_the_columns_of_rejected_csv() -> None:
    found = said(outcome("critical", passed=True))
    assert found["refused"] == [REJECTION._asdict()]
    assert (found["folder"], found["exit_code"], found["critical"]) == ("export", 3, [])


def test_failed_checks_are_listed_by_how_grave_they_are() -> None:
    found = said(outcome("critical", passed=False), outcome("warning", passed=False))
    assert [item["failing"] for item in found["critical"]] == [["export"]]
    assert len(found["warning"]) == 1
    assert found["exit_code"] == 1
