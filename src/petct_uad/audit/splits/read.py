"""The one door for splits: a file or folder of any layout, to a listing."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from petct_uad.audit.splits.json_files import names_of_one_split, parse_json, read_json
from petct_uad.audit.splits.listing import (
    Entry,
    Listing,
    listing_of,
    split_within,
    split_word,
    terminal_text,
    unusable,
)
from petct_uad.audit.splits.tables import Columns, is_table, read_table, read_table_of_one_split
from petct_uad.audit.splits.tree import read_tree

_LISTS = (".txt", ".lst", ".list", ".csv", ".tsv", ".json")
_HEADING = re.compile(r"^(?:\[(.+)\]|#+\s*(.+?):?|(.+):)$")
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_split(paths: Sequence[Path], asked: Columns) -> Listing:
    """A split from one file or folder, or from one file per split.

    Args:
        paths: CSV, JSON, text, or a folder; several are a file per split, which their names say.
        asked: columns that a person named.

    Raises:
        SplitFileError: a file is missing, damaged, or holds no split of two sets or more.
    """
    if missing := [path for path in paths if not path.exists()]:
        raise unusable(
            missing[0], found="nothing", expected="a file or folder", advice="Is it spelled so?"
        )
    first = paths[0]
    if len(paths) > 1:
        return _read_lists(first.parent, paths, asked)
    if not first.is_dir():
        return _read_file(first, asked)
    lists = [x for x in sorted(first.iterdir()) if x.suffix.lower() in _LISTS and _split_of(x)]
    if len({_split_of(x) for x in lists}) > 1:
        return _read_lists(first, lists, asked)
    return read_tree(first)


def _read_file(path: Path, asked: Columns) -> Listing:
    text = _text(path)
    if _is_json(path, text):
        return read_json(path, parse_json(path, text), asked)
    if is_table(path, text):
        return read_table(path, text, asked)
    return listing_of(path, "a list of names below the word for each split", _below_words(text))


def _read_lists(folder: Path, paths: Sequence[Path], asked: Columns) -> Listing:
    entries = [entry for path in paths for entry in _of_one_split(path, asked)]
    said = ", ".join(f"{_split_of(x)} from {terminal_text(x.name)}" for x in paths)
    return listing_of(folder, "a file per split", entries, [said])


def _of_one_split(path: Path, asked: Columns) -> list[Entry]:
    split = _split_of(path)
    if split is None:
        raise unusable(
            path,
            found="a name that says no split",
            expected="train, val or test in the name of each file",
            advice="Rename it, or put all into one table with a column `split`.",
        )
    text = _text(path)
    if _is_json(path, text):
        return names_of_one_split(path, parse_json(path, text), split, asked)
    if is_table(path, text):
        return read_table_of_one_split(path, text, split, asked)
    return [Entry(line.strip(), split) for line in text.splitlines() if line.strip()]


def _below_words(text: str) -> Iterator[Entry]:
    """``[train]``, ``train:``, ``# train`` or ``train``, and below it a name on every line."""
    split: str | None = None
    for line in filter(None, map(str.strip, text.splitlines())):
        heading = _HEADING.match(line)
        words = next(filter(None, heading.groups()), "") if heading else line
        if word := split_word(words):
            split = word
        elif split and not line.startswith("#"):
            yield Entry(line, split)


def _split_of(path: Path) -> str | None:
    """The split that the name of a file says."""
    return split_within(path.name.split(".")[0])


def _is_json(path: Path, text: str) -> bool:
    return path.suffix.lower() == ".json" or text.lstrip().startswith(("{", '["', "[{"))


def _text(path: Path) -> str:
    content = path.read_bytes() if path.is_file() else b""
    encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8")
    try:
        # The same name typed on two systems may differ in how an accent is written.
        text = unicodedata.normalize("NFC", content.decode(encoding))
    except UnicodeDecodeError as error:
        raise unusable(
            path,
            found=f"bytes that are no text (at byte {error.start})",
            expected="CSV, JSON or text in UTF-8",
            advice="Save a spreadsheet as CSV in UTF-8.",
        ) from error
    if "\0" in text or not text.strip():
        raise unusable(
            path,
            found="a binary file" if text.strip() else "an empty file, or none",
            expected="CSV, JSON or text in UTF-8",
            advice="Is it the right file?",
        )
    return text
