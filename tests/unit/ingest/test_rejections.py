"""Refusals in words: one line for all alike, the gravest first, and what costs data whole."""

from __future__ import annotations

import pytest

from petct_uad.core.errors import InputsRefusedError, UnsupportedObjectError
from petct_uad.ingest.found import FoundRejection
from petct_uad.ingest.rejections import LONGEST_TEXT, maybe_stop, printable, rejected_row, told
from tests.func.ingest.conftest import ingest_params


def row(
    subject: str, code: str = "units", found: str = "x", advice: str = "Fix it."
) -> FoundRejection:
    return FoundRejection(subject, code, found, "y", advice)


def mr(number: int) -> FoundRejection:
    return row(f"a/{number:03d}.dcm", "unsupported", "MR Image Storage", "Nothing is lost.")


def test_files_refused_alike_are_one_line_with_their_count() -> None:
    (line,) = told([mr(number) for number in range(112)])
    assert line.startswith("112 alike: unsupported: found MR Image Storage; expected y.")
    assert "a/000.dcm" in line
    assert line.endswith("and 107 more")


def test_what_costs_a_study_comes_before_what_costs_nothing() -> None:
    lines = told([mr(1), row("b.dcm"), row("1.2.3", "pairing")])
    assert [line.split(":")[0] for line in lines] == ["1.2.3", "b.dcm", "a/001.dcm"]


def test_nothing_that_costs_data_is_cut_off() -> None:
    rows = [
        row(f"{letter}.dcm", found=f"{letter} missing") for letter in "abcdefghijklmnopqrstuvwxyz"
    ]
    assert len(told(rows)) == 26
    (line,) = told([row(f"{number}.dcm") for number in range(40)])
    assert all(f"{number}.dcm" in line for number in range(40))


def test_lines_that_cost_nothing_are_cut_off_with_their_number() -> None:
    harmless = [row(f"{word}.dcm", "unsupported", word, "Nothing is lost.") for word in
                ("ct", "mr", "nm", "us", "xa", "sr", "pr")]  # fmt: skip
    lines = told(harmless)
    assert len(lines) == 6
    assert lines[-1] == "and 2 more, without which nothing is lost"


def test_numbers_and_patients_make_no_other_kind() -> None:
    (line,) = told([row("1.2", found=f"no PET for patient {name}: dose {dose} Bq")
                    for name, dose in (("Anna", 3), ("Berta", 4))])  # fmt: skip
    assert line.startswith("2 alike, the first: ")
    assert "Anna" in line


def test_a_stop_names_the_gravest_though_others_sort_before_it() -> None:
    with pytest.raises(InputsRefusedError) as error:
        maybe_stop([*map(mr, range(50)), row("z.dcm")], ingest_params(on_reject="stop"))
    assert str(error.value).splitlines()[1].startswith("  z.dcm: units")


def test_a_long_message_is_kept_and_a_long_value_is_cut_between_words() -> None:
    text = "word " * 100
    assert len(printable(text)) <= LONGEST_TEXT
    assert printable(text).endswith("word")
    error = UnsupportedObjectError("f", found=text, expected="e", advice="a")
    assert rejected_row(error).found == text.strip()
