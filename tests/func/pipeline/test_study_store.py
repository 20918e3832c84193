"""One study more, less, changed or renamed costs that study, and gives what a rebuild gives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from petct_uad.core.files import sha256_file
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams
from tests.stages import run_stage

ROOT = Path(__file__).resolve().parents[3]
STAGES = ("ingest", "register", "split", "preprocess", "validate")
COHORT = PhantomParams(
    patients=6, seed=3, extent_mm=80.0, ct_matrix=64, max_shift_mm=4.0, max_rotation_deg=1.0
)
OF_A_STUDY = ("reading studies", "register", "resampling and filtering", "measuring studies")

Change = Callable[[Path], None]


def lay_out(home: Path, cohort: Path) -> Path:
    """A repository with its own data."""
    home.mkdir()
    for name in ("src", "stages", "pyproject.toml"):
        (home / name).symlink_to(ROOT / name)
    params = YAML().load((ROOT / "params.yaml").read_text())
    params["dataset"], params["workers"] = "mine", 1
    params["register"] |= {"iterations": 10}
    params["preprocess"] |= {"image_size_px": 32}
    params["validate"] |= {"min_train_slices": 1}
    YAML().dump(params, home / "params.yaml")
    shutil.copytree(cohort, home / "data/raw/mine")
    (home / "data/withdrawn.csv").write_text("patient,date\n")
    return home


def build(home: Path, *, store: bool) -> str:
    """All data stages; what the terminal said."""
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()) as said:
        patch.chdir(home)
        patch.setenv("PETCT_STORE", "on" if store else "off")
        for name in STAGES:
            run_stage(name)
    return said.getvalue()


def outputs(home: Path) -> dict[str, str]:
    """SHA-256 of all that the stages wrote."""
    return {
        path.relative_to(home).as_posix(): sha256_file(path)
        for folder in ("data/interim", "data/processed", "metrics", "reports")
        for path in sorted((home / folder).rglob("*"))
        if path.is_file()
    }


def patients(raw: Path) -> list[Path]:
    return sorted(path for path in raw.iterdir() if path.is_dir())


def less_one(raw: Path) -> None:
    shutil.rmtree(patients(raw)[2])


def renamed(raw: Path) -> None:
    patients(raw)[1].rename(raw / "another_name")


def changed(raw: Path) -> None:
    file = min(patients(raw)[4].glob("CT/*"))
    content = bytearray(file.read_bytes())
    content[-2] ^= 1  # one bit of the last voxel
    file.write_bytes(content)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    make_cohort(COHORT, folder / "raw", folder / "truth", workers=1)
    return folder / "raw"


@pytest.fixture(scope="module")
def built(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All studies, once, into an empty store."""
    home = lay_out(tmp_path_factory.mktemp("built") / "home", cohort)
    said = build(home, store=True)
    assert "taken from" not in said
    return home


def test_an_empty_store_changes_no_byte(built: Path, cohort: Path, tmp_path: Path) -> None:
    without = lay_out(tmp_path / "home", cohort)
    build(without, store=False)
    assert not (without / ".cache").exists()
    assert outputs(built) == outputs(without)


@pytest.mark.parametrize(
    ("change", "taken"),
    [(less_one, "5 of 5"), (renamed, "5 of 6"), (changed, "5 of 6")],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_changed_is_computed_and_nothing_else(
    built: Path, cohort: Path, tmp_path: Path, change: Change, taken: str
) -> None:
    home, anew = tmp_path / "home", lay_out(tmp_path / "anew", cohort)
    shutil.copytree(built, home, symlinks=True)
    change(home / "data/raw/mine")
    change(anew / "data/raw/mine")
    said = build(home, store=True)
    assert f"reading studies: {taken} taken" in said
    # Under another folder's name the study is read again, to the same bytes.
    after = "6 of 6" if change is renamed else taken
    for step in OF_A_STUDY[1:]:
        assert f"{step}: {after} taken" in said
    build(anew, store=False)
    assert outputs(home) == outputs(anew)


def test_one_study_more_is_computed_alone(built: Path, cohort: Path, tmp_path: Path) -> None:
    home = lay_out(tmp_path / "home", cohort)
    away = patients(home / "data/raw/mine")[2].rename(tmp_path / "away")
    build(home, store=True)
    away.rename(home / "data/raw/mine" / patients(cohort)[2].name)
    said = build(home, store=True)
    for step in (*OF_A_STUDY, "measuring labels"):
        assert f"{step}: 5 of 6 taken" in said
    assert outputs(home) == outputs(built)


def test_a_damaged_entry_is_computed_anew_to_the_same_bytes(built: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(built, home, symlinks=True)
    for file in ("ct.nii.gz", "transform.json", "planes.safetensors"):
        victim = min((home / ".cache/studies").glob(f"*/*/{file}"))
        victim.write_bytes(victim.read_bytes()[:-1])
    said = build(home, store=True)
    assert said.count("computed anew") == 3
    for step in OF_A_STUDY[:3]:
        assert f"{step}: 5 of 6 taken" in said
    assert outputs(home) == outputs(built)


def test_what_lies_in_the_store_is_for_its_owner_only(built: Path) -> None:
    """It names patients, as data/raw does."""
    assert (built / ".cache/studies").stat().st_mode & 0o077 == 0
