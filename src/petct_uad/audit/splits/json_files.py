"""Splits in JSON: names per split, splits per fold, rows of a table, or a split per name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from petct_uad.audit.splits.listing import (
    Entry,
    Listing,
    listing_of,
    split_named,
    split_word,
    terminal_text,
    unusable,
)
from petct_uad.audit.splits.tables import Columns, entries_of_one_split, read_records
from petct_uad.core.errors import SplitFileError

_DEEPEST = 8  # objects within objects before a split is found


def parse_json(path: Path, text: str) -> Any:
    """The value of a JSON text.

    Raises:
        SplitFileError: it is none, or an object has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        found = "JSON nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise unusable(
            path,
            found=terminal_text(found),
            expected="JSON, each key of an object once",
            advice="Fix the file, or write it again.",
        ) from error


def read_json(path: Path, value: Any, asked: Columns, depth: int = 0) -> Listing:
    """A split from a JSON value.

    Args:
        path: of the file, for messages.
        value: as :func:`parse_json` gives it.
        asked: columns that a person named, for rows.
        depth: of the value in the file.

    Raises:
        SplitFileError: it holds no split.
    """
    if isinstance(value, list) and value and all(isinstance(x, dict) for x in value):
        if all(_holds_splits(x) for x in value):
            folds = {str(i): fold for i, fold in enumerate(value)}
            return _read_folds(path, f"{_counted(folds)}, as nnU-Net's splits_final.json", folds)
        return read_records(path, "JSON of a row per name", *_rows(value), asked)
    if isinstance(value, dict) and value and depth < _DEEPEST:
        return _read_object(path, value, asked, depth)
    raise _no_split(path, value)


def names_of_one_split(path: Path, value: Any, split: str, asked: Columns) -> list[Entry]:
    """The entries of a value that belongs to one split: names, rows, or names per patient."""
    if isinstance(value, dict):
        return [
            Entry(name, split, patient=patient)
            for patient, names in value.items()
            for name in _texts(path, names if isinstance(names, list) else [names])
        ]
    if not isinstance(value, list):
        raise _no_split(path, value)
    if value and all(isinstance(x, dict) for x in value):
        return entries_of_one_split(path, *_rows(value), split, asked)
    return [Entry(name, split) for name in _texts(path, value)]


def _read_object(path: Path, value: Mapping[str, Any], asked: Columns, depth: int) -> Listing:
    holders = {key: x for key, x in value.items() if isinstance(x, (list, dict)) and x}
    if _holds_splits(value):
        splits = {key: x for key, x in holders.items() if split_word(key)}
        return _read_splits(path, splits, sorted(value.keys() - splits.keys()), asked)
    if all(isinstance(x, str) for x in value.values()):
        entries = [Entry(k, split) for k, x in value.items() if (split := split_named(x))]
        return listing_of(path, "JSON of a split per name", entries)
    if len(holders) == 1:
        return read_json(path, next(iter(holders.values())), asked, depth + 1)
    if folds := {key: x for key, x in holders.items() if _holds_splits(x)}:
        return _read_folds(path, f"JSON of {_counted(folds)}", folds)
    lists = {key: x for key, x in holders.items() if isinstance(x, list)}
    return _read_splits(path, lists, sorted(value.keys() - lists.keys()), asked)


def _read_splits(
    path: Path, splits: Mapping[str, Any], ignored: Sequence[str], asked: Columns
) -> Listing:
    entries = [
        entry
        for key, x in splits.items()
        for entry in names_of_one_split(path, x, split_word(key) or key, asked)
    ]
    said = [f"{split_word(key) or key} from {terminal_text(key)!r}" for key in splits]
    unread = [f"not read: {terminal_text(', '.join(ignored))}"] if ignored else []
    layout = "JSON of a list of names per split"
    return listing_of(path, layout, entries, [f"splits: {', '.join(said)}", *unread])


def _counted(folds: Mapping[str, Any]) -> str:
    return "1 fold" if len(folds) == 1 else f"{len(folds)} folds"


def _read_folds(path: Path, layout: str, folds: Mapping[str, Any]) -> Listing:
    entries = (
        Entry(x.name, x.split, fold, x.patient)
        for fold, splits in folds.items()
        for key, names in splits.items()
        if (split := split_word(key))
        for x in names_of_one_split(path, names, split, Columns())
    )
    return listing_of(path, layout, entries, ["each fold has splits of its own"])


def _holds_splits(value: Any) -> bool:
    """Is it an object with a list or an object under a word for a split?"""
    return isinstance(value, dict) and any(
        split_word(key) and isinstance(x, (list, dict)) for key, x in value.items()
    )


def _rows(value: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[dict[str, str]]]:
    header = list(dict.fromkeys(key for row in value for key in row))
    return header, [{key: _cell(row.get(key)) for key in header} for row in value]


def _cell(value: Any) -> str:
    """As a cell of a table; of several files of one name, such as CT and PET, the first."""
    first = value[0] if isinstance(value, list) and value else value
    return str(first) if isinstance(first, (str, int, float)) else ""


def _texts(path: Path, names: Sequence[Any]) -> Iterator[str]:
    for name in names:
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise unusable(
                path,
                found=f"{type(name).__name__} where a name should stand: {terminal_text(name, 40)}",
                expected="a list of names",
                advice="Write names as strings.",
            )
        yield str(name).strip()


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Python would silently keep the last of two keys that are alike, and lose names with it."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} twice in one object")
    return found


def _no_split(path: Path, value: Any) -> SplitFileError:
    return unusable(
        path,
        found=f"{type(value).__name__}: {terminal_text(value, 40)}",
        expected="names per split, a split per name, rows with a split, or folds",
        advice='For example {"train": ["name", ...], "test": ["name", ...]}.',
    )
