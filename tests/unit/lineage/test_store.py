"""Objects of DVC's cache."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from petct_uad.lineage.store import Member, Store, Tracked, absent_folders, due, parse_yaml


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


ROOT = Path(__file__).resolve().parents[3]
SCALARS = "2e-05 1e3 .5 -1.5E+2 .inf 010 0o10 0x1F -7 1_000 1:30 yes No on true ~ null 2026-11-22"


def test_yaml_is_read_as_params_and_dvc_read_it() -> None:
    """By YAML 1.2: PyYAML alone makes a word of 2e-05, and true of yes."""
    reader = YAML(typ="safe", pure=True)
    scalars = "\n".join(f"{number}: {x}" for number, x in enumerate(SCALARS.split()))
    for text in (scalars, (ROOT / "params.yaml").read_text(encoding="utf-8")):
        assert parse_yaml(text, "params.yaml") == reader.load(text)
    assert parse_yaml("rate: 2e-05", "params.yaml") == {"rate": 2e-5}


@pytest.mark.parametrize(("chosen", "missing"), [("phantom", 2), ("mine", 1)])
def test_phantom_is_missed_only_where_params_choose_it(
    chosen: str, missing: int, tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text(f"dataset: {chosen}\n")
    outs = [
        Tracked("data/raw/phantom", "0.dir", "data/dvc.yaml:phantom"),
        Tracked("data/processed/mine", "1.dir", "preprocess"),
    ]
    assert len(absent_folders(due(outs, tmp_path), tmp_path)) == missing
