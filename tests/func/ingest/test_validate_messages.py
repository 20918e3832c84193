"""What ``petct validate`` says: the fatal first and whole, what is alike once, and all at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.func.ingest.conftest import Edit, Patient
from tests.petct_validate import enter_project, judged


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter_project(tmp_path, monkeypatch)


def without(*names: str) -> Edit:
    def edit(dataset: Dataset, _index: int) -> None:
        for name in names:
            delattr(dataset, name)

    return edit


def as_mr(path: Path, number: int) -> None:
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    dataset.Modality = "MR"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    dataset.save_as(path.parents[2] / f"mr-{number:03d}.dcm")


def lines_with(text: str, words: str) -> list[str]:
    return [line for line in text.splitlines() if words in line]


def test_files_of_another_modality_are_one_line_after_what_costs_a_study(
    patient: Callable[..., Patient], raw: Path
) -> None:
    patient("good").both()
    lost = patient("lost")
    lost.ct()
    for number in range(60):
        as_mr(raw / "good" / "CT" / "99.dcm", number)
    said = judged(raw).stdout
    (line,) = lines_with(said, "MR Image Storage")
    assert "60 alike: unsupported" in line
    assert said.index("no usable PET for patient lost") < said.index("60 alike")


def test_a_folder_of_which_nothing_can_be_used_says_why_first(
    patient: Callable[..., Patient], raw: Path
) -> None:
    """Sixty files of another modality, whose names come first, hide no reason."""
    patient("lost").ct()
    for number in range(60):
        as_mr(raw / "lost" / "CT" / "99.dcm", number)
    done = judged(raw)
    assert done.exit_code == 4
    said = " ".join(done.output.split())
    assert said.index("no usable PET for patient lost") < said.index("60 alike")


def test_a_note_on_every_study_is_one_line_with_their_number(
    patient: Callable[..., Patient], raw: Path
) -> None:
    for name in ("P1", "P2", "P3"):
        case = patient(name)
        case.ct(edit=without("BurnedInAnnotation"))
        case.pet(edit=without("BurnedInAnnotation"))
    (line,) = lines_with(judged(raw).stdout, "Burned In Annotation")
    assert "in 3 of 3 studies" in line


def test_what_is_critical_comes_before_refusals_and_warnings(
    patient: Callable[..., Patient], raw: Path
) -> None:
    patient("good").both()
    flat = patient("flat")
    flat.ct(edit=lambda dataset, _: setattr(dataset, "RescaleIntercept", 0))
    flat.pet()
    (raw / "notes.txt").write_text("no DICOM")
    said = judged(raw).stdout
    heads = [line.split(":")[0] for line in said.splitlines() if not line.startswith(" ")]
    assert heads[2:5] == ["critical", "refused", "warnings"]


def test_all_that_a_pet_lacks_is_said_in_one_run(
    patient: Callable[..., Patient], raw: Path
) -> None:
    def bare(dataset: Dataset, index: int) -> None:
        without("PatientWeight", "DecayCorrection", "RescaleSlope")(dataset, index)
        drug = dataset.RadiopharmaceuticalInformationSequence[0]
        del drug.RadionuclideTotalDose
        del drug.RadiopharmaceuticalStartTime

    patient("good").both()
    case = patient("bare")
    case.ct()
    case.pet(edit=bare)
    said = judged(raw).stdout
    (line,) = lines_with(said, "units: found")
    for tag in ("(0028,1053)", "(0010,1030)", "(0054,1102)", "(0018,1074)", "(0018,1072)"):
        assert tag in line
    assert "in 12 of 12 slices" in line


def test_all_that_a_ct_lacks_is_said_in_one_run(patient: Callable[..., Patient], raw: Path) -> None:
    patient("good").both()
    case = patient("bare")
    case.ct(edit=without("PixelSpacing", "ImageOrientationPatient", "RescaleIntercept"))
    case.pet()
    (line,) = lines_with(judged(raw).stdout, "geometry: found")
    assert "PixelSpacing (0028,0030)" in line
    assert "(0020,0037) in 12 of 12 slices" in line
    assert "(0028,1052) in 12 of 12 slices" in line


def test_a_series_that_lacks_nothing_is_not_said_to(
    patient: Callable[..., Patient], raw: Path
) -> None:
    patient("good").both()
    patient("gap").both()
    (raw / "gap" / "PET" / "95.dcm").unlink()
    said = judged(raw).stdout
    assert "a gap of 8.000 mm" in said
    assert "missing too" not in said


@pytest.mark.parametrize(
    ("values", "found", "expected"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1", "expected MONOCHROME2"),
        ({"PixelData": bytes(24 * 24 * 2)}, "in every voxel", "expected 24x24 pixels that vary"),
    ],
)
def test_what_is_expected_answers_what_was_found(
    patient: Callable[..., Patient],
    raw: Path,
    values: dict[str, object],
    found: str,
    expected: str,
) -> None:
    def edit(dataset: Dataset, _index: int) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    patient("good").both()
    case = patient("odd")
    case.ct(edit=edit)
    case.pet()
    (line,) = lines_with(judged(raw).stdout, "pixels: found")
    assert found in line
    assert expected in line


def test_a_file_cut_short_in_its_header_is_not_asked_for_a_preamble(
    patient: Callable[..., Patient], raw: Path
) -> None:
    case = patient("good").both()
    content = (raw / "good" / "CT" / "99.dcm").read_bytes()
    (raw / "short.dcm").write_bytes(content[:700])
    (raw / "notes.txt").write_text("no DICOM" * 40)
    said = judged(raw).stdout
    assert "preamble" not in lines_with(said, "short.dcm")[0]
    assert "preamble" in lines_with(said, "notes.txt")[0]
    assert case.slices == 12


def test_forty_studies_that_lack_the_same_are_one_line_that_names_them_all(
    patient: Callable[..., Patient], raw: Path
) -> None:
    patient("good").both()
    first = patient("P00", slices=2).both()
    for number in range(1, 12):
        shutil.copytree(raw / "P00", raw / f"P{number:02d}")
        for path in (raw / f"P{number:02d}").rglob("*.dcm"):
            dataset = pydicom.dcmread(path)
            name = f"P{number:02d}"
            dataset.PatientID = name
            for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID",
                            "FrameOfReferenceUID"):  # fmt: skip
                made = pydicom.uid.generate_uid(entropy_srcs=[name, dataset[keyword].value])
                setattr(dataset, keyword, made)
            dataset.save_as(path)
    for path in raw.glob("P*/PET/*.dcm"):
        dataset = pydicom.dcmread(path)
        del dataset.PatientWeight
        dataset.save_as(path)
    (line,) = lines_with(judged(raw).stdout, "units: found")
    assert line.strip().startswith("12 alike")
    assert all(f"P{number:02d}/PET/" in line for number in range(12))
    assert first.slices == 2
