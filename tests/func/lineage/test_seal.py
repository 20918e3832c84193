"""A sealed release is recognised, and whatever differs from it is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.corruption import Journal
from petct_uad.cli.app import app
from petct_uad.core.errors import LineageError
from petct_uad.lineage.seal import compare_with_seal, make_seal, read_seal, write_seal


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal = Journal()
    yield journal
    journal.undo()


@pytest.fixture
def manifest(at_tracked: Path, tmp_path: Path) -> Path:
    path = tmp_path / "seal.json"
    assert CliRunner().invoke(app, ["lineage", "seal", "-o", str(path)]).exit_code == 0
    return path


def test_untouched_release_is_as_sealed(manifest: Path) -> None:
    done = CliRunner().invoke(app, ["lineage", "verify", "--sealed", str(manifest)])
    assert (done.exit_code, done.stdout) == (0, "")


def test_same_workspace_gives_the_same_manifest_without_names_of_patients(
    manifest: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.json"
    write_seal(make_seal(), again)
    assert again.read_bytes() == manifest.read_bytes()
    assert b"PHANTOM" not in manifest.read_bytes()


@pytest.mark.parametrize(
    "pattern",
    [
        "data/processed/*/shards/*",
        "models/*/*/seed-*/*",
        "metrics/runs/*/*/*.json",
        "src/petct_uad/*.py",
        "stages/*.py",
        "params.yaml",
        "dvc.yaml",
        "dvc.lock",
        "data/dvc.yaml",
        "data/dvc.lock",
        "data/withdrawn.csv",
    ],
)
def test_changed_file_is_named(manifest: Path, journal: Journal, pattern: str) -> None:
    path = next(Path().glob(pattern))
    journal.rewrite(path, path.read_bytes() + b" ", rot=True)
    done = CliRunner().invoke(app, ["lineage", "verify", "--sealed", str(manifest)])
    assert done.exit_code == 1
    assert path.as_posix() in done.stdout


def test_what_differs_by_machine_is_not_sealed(manifest: Path) -> None:
    cost = Path("metrics/cost/patchcore/patchcore-pet.json")
    cost.parent.mkdir(parents=True)
    cost.write_text("{}")
    try:
        assert compare_with_seal(read_seal(manifest)) == []
    finally:
        shutil.rmtree("metrics/cost")


def test_changed_raw_file_is_found_by_its_bytes(manifest: Path, journal: Journal) -> None:
    path = next(Path("data/raw").rglob("*.dcm"))
    journal.rewrite(path, path.read_bytes() + b" ")
    found = [finding.problem for finding in compare_with_seal(read_seal(manifest))]
    assert len(found) == 2


def test_changed_manifest_is_refused(manifest: Path) -> None:
    text = manifest.read_text()
    manifest.write_text(text.replace('"dvc.yaml": "', '"dvc.yaml": "0', 1))
    with pytest.raises(LineageError, match="Merkle root"):
        read_seal(manifest)


def test_what_is_not_here_is_not_left_out_of_a_manifest_in_silence(without_slices: str) -> None:
    with pytest.raises(LineageError, match=rf"^{without_slices}: not here.*`dvc pull`"):
        make_seal()
