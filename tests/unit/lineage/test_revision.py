"""What a revision's dvc.lock says of a stage: is it of these params, and of these data?"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from petct_uad.lineage.revision import Revision, find_revision

OLD, NEW = "0" * 32, "1" * 32


def workspace(read: str, asked: int = 1) -> Revision:
    """Slices whose index is ``NEW``, of which ``measure`` read one file; ``show`` reads that."""
    listing = json.dumps([{"md5": NEW, "relpath": "index.csv"}]).encode()
    md5 = hashlib.md5(listing, usedforsecurity=False).hexdigest()
    kept = Path(".dvc/cache/files/md5", md5[:2], f"{md5[2:]}.dir")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(listing)
    stages = {
        "slice": {"outs": [{"path": "slices", "md5": f"{md5}.dir"}]},
        "measure": {
            "deps": [{"path": "slices/index.csv", "md5": read}],
            "params": {"params.yaml": {"measure": {"bins": asked}}},
            "outs": [{"path": "metrics", "md5": NEW}],
        },
        "show": {"deps": [{"path": "metrics", "md5": NEW}]},
    }
    YAML().dump({"measure": {"bins": 1}}, Path("params.yaml"))
    YAML().dump({"stages": {name: {"cmd": "x"} for name in stages}}, Path("dvc.yaml"))
    YAML().dump({"schema": "2.0", "stages": stages}, Path("dvc.lock"))
    return find_revision("workspace")


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_read_what_others_made_under_these_params_is_current() -> None:
    found = workspace(read=NEW)
    assert [found.is_current(name) for name in ("slice", "measure", "show")] == [True] * 3
    assert not found.is_current("absent")


@pytest.mark.parametrize(("read", "asked"), [(OLD, 1), (NEW, 2)])
def test_what_stands_on_an_older_file_or_on_other_params_is_not(read: str, asked: int) -> None:
    """Of a folder that a stage made, one file was read; the last stage read what is there."""
    found = workspace(read, asked)
    assert [found.is_current(name) for name in ("slice", "measure", "show")] == [True, False, False]
