"""Objects of DVC's cache."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from petct_uad.audit.store import Member, Store


def stored(root: Path, content: bytes, suffix: str = "") -> str:
    """The name under which an object was written."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    path = root / md5[:2] / (md5[2:] + suffix)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return md5 + suffix


def test_a_folder_lists_its_members(tmp_path: Path) -> None:
    listed = json.dumps([{"relpath": "a/b.csv", "md5": "0" * 32}]).encode()
    assert Store(tmp_path).folder(stored(tmp_path, listed, ".dir")) == [Member("a/b.csv", "0" * 32)]


@pytest.mark.parametrize("content", [b"<html>", b'{"a": 1}', b"[]", b""])
def test_a_file_lists_nothing_whatever_it_holds(tmp_path: Path, content: bytes) -> None:
    assert Store(tmp_path).folder(stored(tmp_path, content)) == []
