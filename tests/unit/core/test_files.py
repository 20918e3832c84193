"""Files appear whole or not at all, and the same content gives the same bytes."""

from __future__ import annotations

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


def test_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    target = tmp_path / "t.json"
    write_json(target, {"old": 1})
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == '{\n  "old": 1\n}\n'
    assert list(tmp_path.iterdir()) == [target]


def test_failed_folder_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with atomic_folder(target) as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "b").write_text("2")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [target]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"x": float("nan")})
