"""``petct add`` and ``petct preset``: the source stays as it was, nothing is overwritten."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from petct_uad.cli.add import add_dataset
from petct_uad.cli.app import app
from petct_uad.core.errors import DatasetError

ROOT = Path(__file__).parents[3]
DICOM = bytes(128) + b"DICM"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """An empty data/raw; enough where nothing gets as far as DVC."""
    folder = tmp_path / "data" / "raw"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A read-only folder with two old files, one of which begins as DICOM does."""
    folder = tmp_path / "from hospital"
    (folder / "a" / "b").mkdir(parents=True)
    for name, content in {"a/one.dcm": DICOM, "a/b/two": b"a/b/two"}.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o440)
        os.utime(folder / name, (1e9, 1e9))
    return folder


def state(folder: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        stat = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (stat.st_mode, stat.st_mtime_ns, stat.st_ino, stat.st_nlink, content)
    return found


def test_source_keeps_bytes_mode_and_times_even_with_a_hard_linked_cache(
    repository: Path, source: Path
) -> None:
    with (repository / ".dvc" / "config").open("a") as config:
        config.write("[cache]\n    type = hardlink\n")
    before = state(source)
    target = add_dataset("clinic", source).target
    assert state(source) == before
    assert (target / "a" / "b" / "two").read_bytes() == b"a/b/two"


def test_file_that_is_there_is_not_overwritten(raw: Path, source: Path) -> None:
    kept = raw / "clinic" / "a"
    kept.mkdir(parents=True)
    (kept / "one.dcm").write_text("mine")
    with pytest.raises(DatasetError, match="not overwritten"):
        add_dataset("clinic", source, raw)
    assert [path.name for path in kept.iterdir()] == ["one.dcm"]
    assert (kept / "one.dcm").read_text() == "mine"


def test_data_set_that_dvc_has_and_is_not_here_gets_nothing(raw: Path, source: Path) -> None:
    (raw / "clinic.dvc").touch()
    with pytest.raises(DatasetError, match="dvc pull"):
        add_dataset("clinic", source, raw)
    assert not (raw / "clinic").exists()


def test_names_that_params_would_not_take_are_refused(raw: Path, source: Path) -> None:
    for name in ("phantom", "../x", "a b", "", "-x", "a/b", "x" * 65):
        with pytest.raises(DatasetError):
            add_dataset(name, source, raw)
    assert list(raw.iterdir()) == []


def test_links_and_pipes_are_refused_by_name(raw: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    (source / "link").symlink_to(tmp_path / "secret")
    (source / "loop").symlink_to(source)
    os.mkfifo(source / "pipe")
    with pytest.raises(DatasetError) as caught:
        add_dataset("clinic", source, raw)
    assert all(name in str(caught.value) for name in ("link", "loop", "pipe"))
    assert list(raw.iterdir()) == []


def test_folder_around_the_data_sets_is_refused(raw: Path) -> None:
    with pytest.raises(DatasetError, match="around"):
        add_dataset("clinic", raw.parent, raw)


def test_empty_or_missing_source_is_refused(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(DatasetError, match="Name the folder"):
            add_dataset("clinic", folder, raw)


@pytest.mark.parametrize("pack", [False, True])
def test_new_data_set_without_dicom_or_pictures_is_refused(
    raw: Path, tmp_path: Path, pack: bool
) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "notes.txt").write_text("no DICOM, and shorter than its preamble")
    with pytest.raises(DatasetError, match="none of its 1 files is DICOM"):
        add_dataset("clinic", tmp_path / "reports", raw, pack=pack)
    assert list(raw.iterdir()) == []


def test_table_alone_is_added_to_a_data_set_that_is_there(
    repository: Path, source: Path, tmp_path: Path
) -> None:
    target = add_dataset("clinic", source).target
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "labels.csv").write_text("a,b\n")
    assert add_dataset("clinic", tmp_path / "tables").new == ("labels.csv",)
    assert (target / "labels.csv").is_file()


def test_command_tracks_the_copy_and_says_what_comes_next(
    repository: Path, source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = state(source)
    done = CliRunner().invoke(app, ["add", "clinic", str(source)])
    assert done.exit_code == 0
    assert capfd.readouterr().out == "", "DVC's advice on git stands above ours"
    assert "dvc exp run -S dataset=clinic" in done.stderr
    assert state(source) == before
    folder = repository / "data" / "raw"
    assert (folder / "clinic.dvc").is_file()
    assert (folder / "clinic" / "a" / "one.dcm").read_bytes() == DICOM
    assert "/clinic" in (folder / ".gitignore").read_text()
    (source / "a" / "one.dcm").chmod(0o640)
    (source / "a" / "one.dcm").write_bytes(b"another")
    again = CliRunner().invoke(app, ["add", "clinic", str(source)])
    assert again.exit_code == 1
    assert "error:" in again.stderr


def test_why_dvc_failed_is_seen(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match="`dvc add data/raw/clinic` failed"):
        add_dataset("clinic", source)
    assert "not inside of a DVC repository" in capfd.readouterr().err


def test_preset_replaces_params_only_when_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "params" / "wrong.yaml").write_text("dataset: 3\n")
    without = CliRunner().invoke(app, ["preset", "smoke"])
    assert without.exit_code == 1
    assert "git restore params.yaml" in without.stderr
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert CliRunner().invoke(app, ["preset", "smoke"]).exit_code == 0
    smoke = (tmp_path / "params.yaml").read_text()
    assert "patients: 8" in smoke
    assert CliRunner().invoke(app, ["preset", "wrong"]).exit_code == 1
    assert (tmp_path / "params.yaml").read_text() == smoke
