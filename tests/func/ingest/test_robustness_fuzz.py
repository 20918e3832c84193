"""Damaged files and labels: each is read or refused by name.

The long runs are benchmarks/fuzz_headers.py and benchmarks/fuzz_labels.py.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz_headers import fuzz, pydicom_seeds
from benchmarks.fuzz_labels import fuzz_labels, make_study
from petct_uad.core.errors import RejectedInputError
from petct_uad.ingest.dicom.header import read_header
from tests.func.ingest.conftest import Patient, Run
from tests.func.ingest.hostile import write_good

FILES = 2000
LABELS = 90  # a third each of SEG, RTSTRUCT and labels.csv


def test_damaged_files_are_read_or_refused_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_good(tmp_path)
    made = [(path.parent.name, path.read_bytes()) for path in sorted(tmp_path.rglob("99.dcm"))]
    tally = fuzz([*made * 50, *pydicom_seeds()], FILES, seed=1)
    assert tally.findings == ()
    assert tally.outcomes.total() == FILES
    assert {"accepted", "refused: unreadable", "refused: unsupported"} <= set(tally.outcomes)
    assert capfd.readouterr() == ("", "")


def test_damaged_labels_are_drawn_or_refused_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = make_study(tmp_path)
    capfd.readouterr()
    tally = fuzz_labels(made, 1, range(LABELS))
    assert tally.findings == ()
    assert tally.outcomes.total() == LABELS
    assert {name.split(":")[0] for name in tally.outcomes} == {
        "seg.dcm", "rtstruct.dcm", "labels.csv"
    }  # fmt: skip
    assert capfd.readouterr() == ("", "")


def test_a_length_that_lies_costs_no_memory(tmp_path: Path) -> None:
    """Four bytes claim 4 GiB for a text; reading it stays far below."""
    write_good(tmp_path)
    path = next(tmp_path.rglob("CT/99.dcm"))
    content = path.read_bytes()
    at = content.index(b"\x08\x00\x70\x00LO")
    lie = b"\x08\x00\x70\x00UT\0\0\xf0\xff\xff\xff"
    path.write_bytes(content[:at] + lie + content[at + 8 :])
    with one_gibibyte(), pytest.raises(RejectedInputError) as caught:
        read_header(path.parent, path.name)
    assert "MemoryError" not in caught.value.found


def test_pixels_of_a_label_that_claim_4_gib_cost_no_memory(
    patient: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    """They are all there, and only their length is wrong: the label is drawn."""
    case = patient().both()
    case.seg(np.ones((12, 24, 24), bool))
    path = raw / "P1" / "seg.dcm"
    content = path.read_bytes()
    at = content.index(b"\xe0\x7f\x10\0OB\0\0") + 8
    path.write_bytes(content[:at] + b"\xf0\xff\xff\xff" + content[at + 4 :])
    with one_gibibyte():
        (study,) = run().tables.studies
    assert (study.label_kind, study.finding) == ("seg", "lesion")


@contextmanager
def one_gibibyte() -> Iterator[None]:
    """No more than 1 GiB of memory beyond what there is."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
