"""Files appear whole or not at all, and the same content gives the same bytes."""

from __future__ import annotations

import errno
import json
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from petct_uad.core.files import atomic_folder, atomic_path, read_table, write_json, write_table


@dataclass(frozen=True)
class Row:
    name: str
    count: int
    share: float
    kept: bool
    gap_mm: float | None


ROWS = [Row("a,b\n", 3, 0.1 + 0.2, True, None), Row("ü", -1, -0.0, False, 2.5)]


def test_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", Row, ROWS)
    back = read_table(tmp_path / "t.csv", Row)
    assert back == [Row("a,b\n", 3, 0.3, True, None), Row("ü", -1, 0.0, False, 2.5)]


def test_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,count\nx,1\n")
    with pytest.raises(ValueError, match="columns"):
        read_table(tmp_path / "t.csv", Row)


def test_full_disk_is_named_by_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    target = tmp_path / "t.json"
    with pytest.raises(OSError, match=f"No space left on device: '{target}'"), atomic_path(target):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    target = tmp_path / "t.json"
    write_json(target, {"old": 1})
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == '{\n  "old": 1\n}\n'
    assert list(tmp_path.iterdir()) == [target]


def test_reader_of_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    """The new file takes the name; it is not written over the old one's bytes."""
    target = tmp_path / "t.json"
    write_json(target, {"old": 1})
    with target.open() as reader:
        write_json(target, {"new": 2})
        assert json.load(reader) == {"old": 1}
    assert json.loads(target.read_text()) == {"new": 2}


def test_what_was_written_can_be_read_by_all(tmp_path: Path) -> None:
    """Temporary files and folders are their owner's alone."""
    with atomic_folder(tmp_path / "out") as temporary:
        write_json(temporary / "t.json", {})
    assert stat.S_IMODE((tmp_path / "out/t.json").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755


def test_failed_folder_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target) as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "b").write_text("2")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [target]


def test_of_two_runs_at_once_the_one_that_ends_last_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    replace = Path.replace

    def replace_while_another_ends(path: Path, other: Path) -> Path:
        moved = replace(path, other)
        if path == target:  # the place is free, and another run takes it
            monkeypatch.setattr(Path, "replace", replace)
            target.mkdir()
            (target / "another's").touch()
        return moved

    with atomic_folder(target) as temporary:
        (temporary / "mine").touch()
        monkeypatch.setattr(Path, "replace", replace_while_another_ends)
    assert [path.name for path in target.iterdir()] == ["mine"]
    assert list(tmp_path.iterdir()) == [target]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"x": float("nan")})
