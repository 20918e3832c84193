"""Splits in tables: which column says what is guessed from its heading, and said."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from petct_uad.audit.splits.listing import (
    Entry,
    Listing,
    listing_of,
    split_named,
    split_word,
    terminal_text,
    unusable,
)
from petct_uad.core.errors import did_you_mean

Row = Mapping[str, str]

# Headings without capitals, blanks and signs; of several, the first in this order is taken.
_HEADINGS = {
    "split": "split splits set subset partition datasplit datasetsplit splitname phase usage",
    "fold": "fold foldid cvfold kfold",
    "patient": "patient patientid patientuid patientname patientpseudonym subject subjectid"
    " participant participantid mrn pid",
    "study": "study studyid studyuid studyinstanceuid session sessionid exam examid accession",
    "name": "sliceid slice file filename filepath path image imagepath imagefile imageid img"
    " instance sopinstanceuid series seriesid seriesuid seriesinstanceuid scan scanid case caseid"
    " sample sampleid name id key",
}
_KNOWN = frozenset(" ".join(_HEADINGS.values()).split())


@dataclass(frozen=True)
class Columns:
    """Headings of the columns that say something; None where no column does."""

    split: str | None = None
    fold: str | None = None
    patient: str | None = None
    study: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Reading:
    """How the rows of a table are read.

    Attributes:
        columns: which one says what.
        folds_are_splits: whether a fold is tested by what is trained on the others; else each fold
            has a train and a test of its own.
        split: of all rows, where the file's name says it.
    """

    columns: Columns
    folds_are_splits: bool = False
    split: str = ""

    def entry(self, row: Row) -> Entry | None:
        """What a row says; None if its name is in no split."""
        split, fold = self._where(row)
        name = _cell(row, self.columns.name)
        if not split or not name:
            return None
        patient, study = (_cell(row, x) or None for x in (self.columns.patient, self.columns.study))
        return Entry(name, split, fold, patient, study)

    def _where(self, row: Row) -> tuple[str | None, str]:
        fold = _cell(row, self.columns.fold)
        split = self.split or split_named(_cell(row, self.columns.split))
        if not self.folds_are_splits:
            return split, fold
        if fold and split in (None, "train", "val"):
            return f"fold {fold}", ""
        return split, ""

    def guesses(self) -> tuple[str, ...]:
        """What is taken from which column, in a sentence or two."""
        taken = {what: name for what, name in vars(self.columns).items() if name}
        said = [f"{what} from {terminal_text(name)!r}" for what, name in taken.items()]
        how = "a fold is a split" if self.folds_are_splits else "each fold has splits of its own"
        return (f"columns: {', '.join(said)}", *([how] if self.columns.fold else []))

    @property
    def lists_names_once(self) -> bool:
        """Not where the name is that of a study or patient, whose slices have a row each."""
        return self.columns.name not in (self.columns.patient, self.columns.study)


def read_table(path: Path, text: str, asked: Columns) -> Listing:
    """A split in CSV, with commas, semicolons, tabs or bars.

    Args:
        path: of the file, for messages; its name may say the split of all rows.
        text: its content.
        asked: columns that a person named; the others are guessed.

    Raises:
        SplitFileError: no table, or none of a split.
    """
    header, rows = _cells(path, text)
    lists = [(i, split) for i, column in enumerate(header) if (split := split_word(column))]
    if len(lists) > 1 and asked.split is None:
        cells = ((row[i], split) for row in rows for i, split in lists if row[i].strip())
        entries = (Entry(name.strip(), split) for name, split in cells)
        return listing_of(path, "a table with a column of names per split", entries)
    records = [dict(zip(header, row, strict=True)) for row in rows]
    return read_records(path, "a table", header, records, asked)


def read_records(
    path: Path, layout: str, header: Sequence[str], rows: Sequence[Row], asked: Columns
) -> Listing:
    """A split in rows, each of one name.

    Raises:
        SplitFileError: no column says the split, or a column that was asked for is not there.
    """
    reading = guess_reading(path, header, rows, asked)
    if reading.columns.split is None and reading.columns.fold is None:
        raise unusable(
            path,
            found=f"columns {terminal_text(', '.join(header))}, none of which says the split",
            expected="a column called split, set, subset, partition or fold, or one per split",
            advice="Name it: --split-column COLUMN.",
        )
    entries = [entry for row in rows if (entry := reading.entry(row))]
    said = [*reading.guesses()]
    if left_out := len(rows) - len(entries):
        said.append(f"{left_out} rows are in no split, and not read")
    return listing_of(path, layout, entries, said, once=reading.lists_names_once)


def guess_reading(
    path: Path, header: Sequence[str], rows: Sequence[Row], asked: Columns
) -> Reading:
    """Which column says what: as asked, by its heading, or the split by its values."""
    for column in vars(asked).values():
        if column is not None and column not in header:
            raise unusable(
                path,
                found=f"columns {terminal_text(', '.join(header))}",
                expected=f"a column {column!r}, as asked",
                advice=f"Headings are compared to the letter.{did_you_mean(column, header)}",
            )
    split = asked.split or _by_heading(header, "split") or _by_values(header, rows)
    fold = _by_heading([x for x in header if x != split], "fold")
    patient = asked.patient or _by_heading(header, "patient")
    study = _by_heading(header, "study")
    rest = [x for x in header if x not in (split, fold, patient, study)]
    name = asked.name or _by_heading(rest, "name") or study or patient or next(iter(rest), None)
    columns = Columns(split, fold, patient, study, name)
    return Reading(columns, fold is not None and not _each_fold_has_splits(rows, split, fold))


def entries_of_one_split(
    path: Path, header: Sequence[str], rows: Sequence[Row], split: str, asked: Columns
) -> list[Entry]:
    """The entries of rows that all belong to one split; folds of its training part are splits."""
    columns = replace(guess_reading(path, header, rows, asked).columns, split=None)
    reading = Reading(columns, folds_are_splits=True, split=split)
    return [entry for row in rows if (entry := reading.entry(row))]


def read_table_of_one_split(path: Path, text: str, split: str, asked: Columns) -> list[Entry]:
    """The entries of a table whose file name says the split: ``train.csv``."""
    header, rows = _cells(path, text)
    records = [dict(zip(header, row, strict=True)) for row in rows]
    return entries_of_one_split(path, header, records, split, asked)


def is_table(path: Path, text: str) -> bool:
    """Is a text file a table rather than a list of names?"""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return path.suffix.lower() in (".csv", ".tsv") or _delimiter(first) != ""


def _cells(path: Path, text: str) -> tuple[list[str], list[list[str]]]:
    lines = text.splitlines()
    delimiter = _delimiter(next((line for line in lines if line.strip()), "")) or ","
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise unusable(
            path, found=f"no table ({error})", expected="CSV", advice="Save it as CSV again."
        ) from error
    if not rows:
        raise unusable(path, found="no rows", expected="a table", advice="Is it the right file?")
    header = [cell.strip() for cell in rows[0]]
    if not _is_header(header):
        header, body = [f"column {i + 1}" for i in range(len(header))], rows
    else:
        body = rows[1:]
    _check(path, header, body)
    return header, body


def _check(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if twice := sorted({x for x in header if header.count(x) > 1}):
        raise unusable(
            path,
            found=f"more than one column {terminal_text(twice[0])!r}",
            expected="headings that differ",
            advice="Rename one of them.",
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise unusable(
                path,
                found=f"{len(row)} cells in row {number}",
                expected=f"{len(header)}, as in the heading",
                advice="Quote cells that hold the delimiter.",
            )


def _is_header(cells: Sequence[str]) -> bool:
    """With the word train in one cell and no known heading it is a row like all others."""
    words = sum(split_word(cell) is not None for cell in cells)
    return words != 1 or any(_plain(cell) in _KNOWN for cell in cells)


def _delimiter(line: str) -> str:
    counts = {sign: line.count(sign) for sign in ("\t", ";", ",", "|")}
    best = max(counts, key=lambda sign: counts[sign])
    return best if counts[best] else ""


def _plain(heading: str) -> str:
    return re.sub(r"[^a-z0-9]", "", heading.lower())


def _by_heading(header: Sequence[str], what: str) -> str | None:
    known = {_plain(column): column for column in reversed(header)}
    return next((known[word] for word in _HEADINGS[what].split() if word in known), None)


def _by_values(header: Sequence[str], rows: Sequence[Row]) -> str | None:
    """The column that holds nothing but words for splits, and two of them at least."""
    for column in header:
        splits = {split_word(value) for value in {row[column] for row in rows}}
        if None not in splits and len(splits) > 1:
            return column
    return None


def _each_fold_has_splits(rows: Sequence[Row], split: str | None, fold: str) -> bool:
    if split is None:
        return False
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row[fold], set()).add(row[split])
    return all(len(found) > 1 for found in splits.values())


def _cell(row: Row, column: str | None) -> str:
    return row[column].strip() if column else ""
