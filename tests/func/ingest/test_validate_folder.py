"""``petct validate`` judges a folder of DICOM and leaves no trace of having looked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

import pydicom
import pytest

from petct_uad.core.files import sha256_file
from tests.petct_validate import enter_project, judged

ROOT = Path(__file__).resolve().parents[3]
PATIENTS = 4  # of phantom_raw


@pytest.fixture
def tree(phantom_raw: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(phantom_raw, tmp_path / "raw")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch)


def contents(*folders: Path) -> dict[Path, tuple[str, int]]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: (sha256_file(path), path.stat().st_mtime_ns) for path in files}


def some_file(tree: Path, kind: str) -> Path:
    return sorted(tree.glob(f"*/{kind}/*.dcm"))[3]


def test_sound_folder_may_be_added_and_is_left_as_it_was(
    phantom_raw: Path, temporary: Path
) -> None:
    before = contents(phantom_raw, Path.cwd())
    done = judged(phantom_raw)
    assert done.exit_code == 0, done.output
    assert f"usable studies: {PATIENTS}, of {PATIENTS} patients" in done.stdout
    assert f"petct add NAME {phantom_raw}" in done.stdout
    assert contents(phantom_raw, Path.cwd()) == before
    assert list(temporary.iterdir()) == []


def test_fewer_patients_than_splits_are_told_before_a_run_stops_at_them(tree: Path) -> None:
    assert "too few" not in judged(tree).stdout
    for patient in sorted(x for x in tree.iterdir() if x.is_dir())[2:]:
        shutil.rmtree(patient)
    done = judged(tree)
    assert done.exit_code == 0
    assert "too few for `split`: 2 of at least 3 patients. Add others." in done.stdout


def test_refused_inputs_are_named_with_what_to_do(tree: Path) -> None:
    (tree / "notes.dcm").write_text("no DICOM")
    done = judged(tree)
    assert done.exit_code == 3
    assert "refused: 1" in done.stdout
    assert "notes.dcm: unreadable: found" in done.stdout
    assert "usable without what was refused" in done.stdout


def test_ct_without_its_intercept_fails_a_critical_check(tree: Path) -> None:
    patient = some_file(tree, "CT").parents[1]
    for path in sorted(patient.glob("CT/*.dcm")):
        dataset = pydicom.dcmread(path)
        dataset.RescaleIntercept = 0
        dataset.save_as(path)
    done = judged(tree)
    assert done.exit_code == 1
    assert "volumes.air_is_minus_1000_hu" in done.stdout
    assert "RescaleIntercept" in done.stdout
    assert "verdict: not yet" in done.stdout


def test_dose_that_is_ten_times_too_small_is_seen_in_the_body(tree: Path) -> None:
    patient = some_file(tree, "PET").parents[1]
    for path in sorted(patient.glob("PET/*.dcm")):
        dataset = pydicom.dcmread(path)
        (drug,) = dataset.RadiopharmaceuticalInformationSequence
        drug.RadionuclideTotalDose = float(drug.RadionuclideTotalDose) / 10
        dataset.save_as(path)
    done = judged(tree)
    assert done.exit_code == 0
    (warned,) = (line for line in done.stdout.splitlines() if "scans.body_suv_near_1" in line)
    assert f"({patient.name})" in warned  # PatientID, since a pseudonym tells its owner nothing
    assert "dose (0018,1074)" in done.stdout


def test_label_that_was_turned_over_is_seen_beside_its_lesion(tree: Path) -> None:
    """Rows from bottom to top: the mask of the left lung's lesion lies on other tissue."""
    for path in sorted(tree.glob("*/SEG/*.dcm")):
        dataset = pydicom.dcmread(path)
        frames = pydicom.pixels.pixel_array(dataset).reshape(-1, dataset.Rows, dataset.Columns)
        dataset.PixelData = pydicom.pixels.pack_bits(frames[:, ::-1, ::-1].copy())
        dataset.save_as(path)
    done = judged(tree)
    assert done.exit_code == 0
    assert "lesions.takes_up_more_than_around" in done.stdout


def test_dose_in_mbq_is_read_and_warned_of(tree: Path) -> None:
    patient = some_file(tree, "PET").parents[1]
    for path in sorted(patient.glob("PET/*.dcm")):
        dataset = pydicom.dcmread(path)
        drug = dataset.RadiopharmaceuticalInformationSequence[0]
        drug.RadionuclideTotalDose = f"{drug.RadionuclideTotalDose / 1e6:.6g}"
        dataset.save_as(path)
    done = judged(tree)
    assert done.exit_code == 0, done.output
    assert "series.suv_as_told" in done.stdout
    assert "Radionuclide Total Dose (0018,1074)" in done.stdout


def test_folder_of_nothing_usable_says_so_and_leaves_nothing(
    tmp_path: Path, temporary: Path
) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "a.txt").write_text("Dear colleague")
    done = judged(folder)
    assert done.exit_code == 4
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_absent_and_empty_folders_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert judged(tmp_path / name).exit_code == 4


def test_terminated_run_leaves_no_volume_behind(phantom_raw: Path, temporary: Path) -> None:
    command = [sys.executable, "-m", "petct_uad.cli.app", "validate", str(phantom_raw)]
    places = {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, env=os.environ | places, stderr=subprocess.DEVNULL) as run:
        while run.poll() is None and not list(temporary.rglob("*.nii.gz")):
            sleep(0.02)
        run.terminate()
    assert run.returncode == 128 + signal.SIGTERM
    assert not list(temporary.glob("petct-validate-*"))
