"""Lineage tables name every output and input with its hash, and never when or where."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from petct_uad.core.errors import LineageError
from petct_uad.core.files import sha256_file
from petct_uad.core.params.base import Part
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import ACTIVITY, Activity, Derivation, Entity, write_lineage
from petct_uad.core.provenance.sources import library_modules, package_versions
from petct_uad.core.provenance.table import TABLE
from petct_uad.lineage.table import LineageTable

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def activity(**params: int) -> Activity:
    return Activity("split", params, (Path("stages/split.py"),))


def test_same_run_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    a, b, c = (Entity(f"file:{name}", name * 64) for name in "abc")
    derivations = [Derivation(a, (b, c)), Derivation(b, ())]
    write_lineage(tmp_path / "1", activity(x=1, y=2), derivations)
    write_lineage(tmp_path / "2", activity(x=1, y=2), reversed(derivations))
    for name in (TABLE, ACTIVITY):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_output_made_from_params_alone_is_not_lost(tmp_path: Path) -> None:
    write_lineage(tmp_path, activity(), [Derivation(Entity("file:x", "0" * 64), ())])
    assert LineageTable(tmp_path / TABLE).rows() == [("file:x", "0" * 64, "", "")]


def test_table_gives_back_every_edge(tmp_path: Path) -> None:
    a, b, c = (Entity(f"file:{name}", name * 64) for name in "abc")
    # One id may stand with two hashes: a file that was read before and after it changed.
    changed = Entity(c.id, "d" * 64)
    write_lineage(tmp_path, activity(), [Derivation(a, (b, c, changed)), Derivation(b, (c,))])
    edges = [(a, b), (a, c), (a, changed), (b, c)]
    assert LineageTable(tmp_path / TABLE).rows() == [
        (x.id, x.sha256, y.id, y.sha256) for x, y in edges
    ]


def test_inputs_of_one_output_may_come_in_parts(tmp_path: Path) -> None:
    a, b, c = (Entity(f"file:{name}", name * 64) for name in "abc")
    write_lineage(tmp_path / "1", activity(), [Derivation(a, (b, c))])
    write_lineage(tmp_path / "2", activity(), [Derivation(a, (c,)), Derivation(a, (b, b))])
    assert (tmp_path / "1" / TABLE).read_bytes() == (tmp_path / "2" / TABLE).read_bytes()


def test_run_without_outputs_leaves_an_empty_table(tmp_path: Path) -> None:
    write_lineage(tmp_path, activity(), [])
    assert LineageTable(tmp_path / TABLE).rows() == []


@pytest.mark.parametrize("content", [b"", b"output_id,output_sha256\n", b"\0" * 64])
def test_damaged_table_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / TABLE
    path.write_bytes(content)
    with pytest.raises(LineageError, match=TABLE):
        LineageTable(path)


def test_activity_names_each_source_file_with_its_hash(tmp_path: Path) -> None:
    write_lineage(tmp_path, activity(), [])
    sources = json.loads((tmp_path / ACTIVITY).read_text())["sources"]
    assert {"stages/split.py", "src/petct_uad/split/labels.py"} <= sources.keys()
    assert all(sha256_file(Path(name)) == digest for name, digest in sources.items())


def test_changed_params_change_the_activity(tmp_path: Path) -> None:
    write_lineage(tmp_path / "1", activity(x=1), [])
    write_lineage(tmp_path / "2", activity(x=2), [])
    first, second = (json.loads((tmp_path / n / ACTIVITY).read_text()) for n in "12")
    assert first["params"] != second["params"]
    assert first["params_sha256"] != second["params_sha256"]
    assert first["source_sha256"] == second["source_sha256"]


@pytest.mark.parametrize("path", [Path("/etc/hostname"), Path("../x"), Path("absent")])
def test_file_outside_the_repository_has_no_identity(path: Path) -> None:
    with pytest.raises(LineageError):
        Entity.of_file(path)


def test_modules_are_found_through_other_modules() -> None:
    modules = {path.as_posix() for path in library_modules(Path("stages/split.py"))}
    assert "src/petct_uad/split/labels.py" in modules
    assert "src/petct_uad/core/errors.py" in modules
    assert not any("models" in name for name in modules)


def test_a_model_that_is_loaded_by_name_stands_among_the_sources() -> None:
    folder = Path("src/petct_uad/models/cmad")
    alone = library_modules(Path("stages/train.py"))
    with_model = library_modules(Path("stages/train.py"), folder)
    assert not [path for path in alone if path.is_relative_to(folder)]
    assert folder / "cmad.py" in with_model
    assert Path("src/petct_uad/ops/selective_scan/scan.py") in with_model


def test_packages_are_those_that_the_code_imports(tmp_path: Path) -> None:
    write_lineage(tmp_path, activity(), [])
    packages = json.loads((tmp_path / ACTIVITY).read_text())["packages"]
    assert packages.keys() >= {"numpy", "simpleitk", "pydantic"}
    assert "torch" not in packages
    assert all(version(name) == found for name, found in packages.items())


def test_an_import_of_what_the_project_does_not_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "stage.py"
    file.write_text("import somebodys_own_module\n")
    with pytest.raises(LineageError, match=r"stage\.py: imports somebodys_own_module"):
        package_versions([file])


def test_what_a_stage_was_asked_is_what_it_read(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("dataset: x\nworkers: 3\nsplit: {seed: 1, fold: 2}\n")
    params = ParamsFile.read(tmp_path / "params.yaml")
    assert params.workers == 3
    assert params.asked == {}, "what changes no byte is not asked"
    assert params.dataset == "x"
    assert params.section(SeedPart, "split").seed == 1
    assert params.asked == {"dataset": "x", "split.seed": 1}


class SeedPart(Part):
    """One of the keys of a section."""

    seed: int
