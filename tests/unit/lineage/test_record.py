"""Lineage tables name every output and input with its hash, and never when or where."""

from __future__ import annotations

from pathlib import Path

import pytest

from petct_uad.errors import LineageError
from petct_uad.files import read_table
from petct_uad.lineage.record import Activity, Derivation, DerivationRow, Entity, write_lineage
from petct_uad.lineage.sources import library_modules

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def activity(**params: int) -> Activity:
    return Activity("split", params, Path("stages/split.py"), ("numpy",))


def test_same_run_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    a, b, c = (Entity(f"file:{name}", name * 64) for name in "abc")
    derivations = [Derivation(a, (b, c)), Derivation(b, ())]
    write_lineage(tmp_path / "1", activity(x=1, y=2), derivations)
    write_lineage(tmp_path / "2", activity(x=1, y=2), reversed(derivations))
    for name in ("lineage.csv", "activity.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_output_made_from_params_alone_is_not_lost(tmp_path: Path) -> None:
    write_lineage(tmp_path, activity(), [Derivation(Entity("file:x", "0" * 64), ())])
    rows = read_table(tmp_path / "lineage.csv", DerivationRow)
    assert rows == [DerivationRow("file:x", "0" * 64, "", "")]


def test_changed_params_change_the_activity(tmp_path: Path) -> None:
    write_lineage(tmp_path / "1", activity(x=1), [])
    write_lineage(tmp_path / "2", activity(x=2), [])
    first, second = (tmp_path / n / "activity.json" for n in "12")
    assert first.read_text() != second.read_text()


@pytest.mark.parametrize("path", [Path("/etc/hostname"), Path("../x"), Path("absent")])
def test_file_outside_the_repository_has_no_identity(path: Path) -> None:
    with pytest.raises(LineageError):
        Entity.of_file(path)


def test_modules_are_found_through_other_modules() -> None:
    modules = {path.as_posix() for path in library_modules(Path("stages/split.py"))}
    assert "src/petct_uad/slices/labels.py" in modules
    assert "src/petct_uad/errors.py" in modules
    assert not any("models" in name for name in modules)
