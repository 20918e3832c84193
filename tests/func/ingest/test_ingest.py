"""From DICOM files to volumes: what is written, chosen, noted and refused."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import read_table, sha256_file
from petct_uad.ingest.run import derivations
from petct_uad.ingest.tables import InstanceRow, RejectedRow, SeriesRow, StudyRow
from tests.func.ingest.conftest import Patient, Run


def setter(**values: object) -> Callable[[Dataset, int], None]:
    """An edit that sets the same values on every slice."""

    def edit(dataset: Dataset, _index: int) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return edit


def array(run: Run, name: str) -> np.ndarray:
    study = run.tables.studies[0].study_id
    image = sitk.ReadImage(run.out / "volumes" / study / f"{name}.nii.gz")
    voxels: np.ndarray = sitk.GetArrayFromImage(image)
    return voxels


def square(low: float, high: float, z_mm: float) -> np.ndarray:
    return np.array(
        [[low, low, z_mm], [high, low, z_mm], [high, high, z_mm], [low, high, z_mm]], float
    )


def test_volumes_hold_hu_and_suv_on_their_own_grids(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient().both()
    done = run()
    ct, pet = array(done, "ct"), array(done, "pet")
    assert (ct.dtype, pet.dtype) == (np.dtype(np.int16), np.dtype(np.float32))
    assert (ct.shape, pet.shape) == ((12, 24, 24), (12, 12, 12))
    assert ct[3, 0, 5] == 3 + 5 - 1024
    # Each slice has its own RescaleSlope, 10 + index.
    assert pet[7, 0, 9] == pytest.approx((7 + 9) * 17 * 70_000 / 350e6)
    image = sitk.ReadImage(next(done.out.rglob("pet.nii.gz")))
    assert image.GetSpacing() == pytest.approx((8, 8, 4))
    assert image.GetOrigin() == pytest.approx((-44, -44, 0))


def test_same_input_gives_the_same_bytes(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    case.seg(np.ones((12, 24, 24), bool))
    one, two = run(), run(workers=2)
    files = sorted(path.relative_to(one.out) for path in one.out.rglob("*") if path.is_file())
    assert len(files) == 8
    for file in files:
        assert sha256_file(one.out / file) == sha256_file(two.out / file), file


def test_tables_read_back(patient: Callable[..., Patient], run: Callable[..., Run]) -> None:
    patient().both()
    done = run()
    assert len(read_table(done.out / "instances.csv", InstanceRow)) == 24
    assert len(read_table(done.out / "series.csv", SeriesRow)) == 2
    assert read_table(done.out / "rejected.csv", RejectedRow) == []
    (study,) = read_table(done.out / "studies.csv", StudyRow)
    assert (study.study_id, study.notes) == (done.tables.studies[0].study_id, "")
    assert study.scanner == "GE Discovery STE"


def test_one_series_over_two_folders_and_two_in_one(
    patient: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    patient().both()
    moved = raw / "elsewhere"
    moved.mkdir()
    for file in sorted((raw / "P1" / "CT").iterdir())[:5]:
        file.rename(moved / file.name)
    for file in sorted((raw / "P1" / "PET").iterdir()):
        file.rename(moved / f"pet-{file.name}")
    assert run().tables.studies[0].ct_slices == 12


def mirror(dataset: Dataset, _index: int) -> None:
    """Turn the rows round in place: the same anatomy, with the normal pointing to the feet."""
    dataset.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient[0] *= -1


@pytest.mark.parametrize("slices", [[4], [4, 5, 6], [1, 9]])
@pytest.mark.parametrize("edit", [setter(), mirror], ids=["upward", "mirrored"])
def test_seg_lands_on_the_ct_voxels_that_it_names(
    patient: Callable[..., Patient], run: Callable[..., Run], slices: list[int], edit: Any
) -> None:
    case = patient()
    case.ct(edit=edit)
    case.pet()
    mask = np.zeros((12, 24, 24), bool)
    mask[slices, 5:9, 10:20] = True
    case.seg(mask)
    done = run()
    # Slices of the mirrored CT run along their own normal, from the highest z down.
    expected = mask[::-1] if edit is mirror else mask
    assert np.array_equal(array(done, "label"), expected.astype(np.uint8))
    study = done.tables.studies[0]
    assert (study.label_kind, study.lesion_kind) == ("seg", "adenocarcinoma")


def test_rtstruct_on_the_ct_goes_before_one_on_the_pet(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    case.rtstruct([square(-20, 20, 16.0)], on="CT", name="on CT")
    case.rtstruct([square(-40, 40, 16.0)], on="PET", name="on PET")
    done = run()
    study = done.tables.studies[0]
    assert study.lesion_kind == "on CT"
    assert array(done, "label").sum() == 100
    assert array(done, "label")[4].any()


def test_rtstruct_on_the_pet_is_drawn_on_the_ct_and_noted(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient().both().rtstruct([square(-20, 20, 16.0)], on="PET")
    done = run()
    assert array(done, "label").shape == (12, 24, 24)
    assert "references the PET" in done.tables.studies[0].notes


def test_rtstruct_on_a_coarser_pet_fills_the_ct_slices_between(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient()
    case.ct()
    case.slices = 6

    def every_8_mm(dataset: Dataset, index: int) -> None:
        dataset.ImagePositionPatient[2] = 8.0 * index

    case.pet(edit=every_8_mm)
    case.rtstruct([square(-20, 20, 16.0)], on="PET")
    assert np.flatnonzero(array(run(), "label").any(axis=(1, 2))).tolist() == [3, 4, 5]


def second_roi(name: str, points: np.ndarray) -> Any:
    """An edit that adds an ROI of one contour to an RTSTRUCT."""

    def edit(dataset: Dataset, _index: int) -> None:
        for sequence in (dataset.StructureSetROISequence, dataset.ROIContourSequence):
            sequence.append(copy.deepcopy(sequence[0]))
        roi, drawn = dataset.StructureSetROISequence[1], dataset.ROIContourSequence[1]
        roi.ROINumber, roi.ROIName, drawn.ReferencedROINumber = 2, name, 2
        drawn.ContourSequence[0].ContourData = [f"{value:.6f}" for value in points.ravel()]

    return edit


def two_squares() -> np.ndarray:
    """Two segments (z, y, x, 2) of 100 voxels in one slice, 25 of them in both."""
    mask = np.zeros((12, 24, 24, 2), bool)
    mask[4, 7:17, 7:17, 0] = mask[4, 12:22, 12:22, 1] = True
    return mask


def test_rois_that_overlap_are_united(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    other = second_roi("node", square(0, 40, 16.0))
    patient().both().rtstruct([square(-20, 20, 16.0)], edit=other)
    done = run()
    assert array(done, "label").sum() == 175
    assert done.tables.studies[0].lesion_kind == "GTV+node"


def test_segments_that_overlap_are_united(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient().both().seg(two_squares(), "tumour", "node")
    done = run()
    assert array(done, "label").sum() == 175
    assert done.tables.studies[0].lesion_kind == "node+tumour"


def test_label_roi_is_the_whole_name_of_an_roi(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    edema = second_roi("GTV_edema", square(0, 40, 16.0))
    patient().both().rtstruct([square(-20, 20, 16.0)], edit=edema)
    done = run(label_roi="GTV")
    assert array(done, "label").sum() == 100
    assert done.tables.studies[0].lesion_kind == "GTV"


def test_label_roi_is_the_whole_name_of_a_segment(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient().both().seg(two_squares(), "GTV", "GTV_edema")
    done = run(label_roi="GTV")
    assert array(done, "label").sum() == 100
    assert done.tables.studies[0].lesion_kind == "GTV"


def test_labels_parameter_picks_the_kind(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    case.seg(np.ones((12, 24, 24), bool))
    case.rtstruct([square(-20, 20, 16.0)])
    kinds = [run(labels=kind).tables.studies[0].label_kind for kind in ("auto", "seg", "rtstruct")]
    assert kinds == ["seg", "seg", "rtstruct"]


def test_label_in_another_frame_refuses_the_study(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient("good").both()
    case = patient("bad").both()
    elsewhere = case.uid("another frame")

    def move(dataset: Dataset, _index: int) -> None:
        dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = elsewhere

    case.rtstruct([square(-20, 20, 16.0)], edit=move)
    done = run()
    assert [study.patient for study in done.tables.studies] == ["good"]
    assert [row.code for row in done.tables.rejected] == ["label"]
    assert elsewhere in done.tables.rejected[0].found


def test_label_outside_the_ct_refuses_the_study(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient("good").both()
    patient("bad").both().rtstruct([square(-20, 20, 900.0)])
    assert run().codes() == ["label"]


def test_label_roi_that_matches_nothing_anywhere_stops(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient().both().rtstruct([square(-20, 20, 16.0)], name="heart")
    with pytest.raises(DatasetError, match="heart"):
        run(label_roi="lesion.*")


def test_label_of_an_unknown_patient_is_listed(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient("good").both()
    patient("lonely").rtstruct([square(-20, 20, 16.0)])
    done = run()
    assert done.codes() == ["pairing"]
    assert "without its images" in done.tables.rejected[0].found


def test_thin_ct_in_the_same_frame_is_chosen_and_the_reason_kept(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    case.slices = 30

    def thin(dataset: Dataset, index: int) -> None:
        dataset.ImagePositionPatient[2] = 1.5 * index

    case.ct("thin", thin)
    case.slices = 12
    case.ct("topogram", setter(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    done = run()
    assert done.tables.studies[0].ct_slices == 30
    roles = {row.series_instance_uid: row for row in done.tables.series}
    assert roles[case.uid("thin")].role == "ct"
    assert roles[case.uid("CT")].role == "unused"
    assert "LOCALIZER" in roles[case.uid("topogram")].reason
    assert not done.tables.rejected


def test_attenuation_corrected_pet_is_chosen(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    case.pet("A-uncorrected", setter(CorrectedImage=["DECY"]))
    assert run().tables.studies[0].pet_series_instance_uid == case.uid("PET")


def test_bad_series_is_named_and_the_next_one_used(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    case.slices = 20
    case.pet("no dose", lambda d, _: d.RadiopharmaceuticalInformationSequence.clear())
    done = run()
    assert done.tables.studies[0].pet_series_instance_uid == case.uid("PET")
    assert done.codes() == ["units"]


def private(group: int, creator: str, offset: int, text: str, **values: object) -> Any:
    """An edit that adds a private element as the vendor writes it."""

    def edit(dataset: Dataset, index: int) -> None:
        setter(**values)(dataset, index)
        dataset.private_block(group, creator, create=True).add_new(offset, "DS", text)

    return edit


def test_philips_counts_become_suv_by_the_private_factor(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient()
    case.ct()
    case.pet(edit=private(0x7053, "Philips PET Private Group", 0x00, "0.0005", Units="CNTS"))
    assert array(run(), "pet")[7, 0, 9] == pytest.approx((7 + 9) * 17 * 0.0005)


@pytest.mark.parametrize(("kind", "per_weight"), [("lbm", 0.5999), ("bsa", 0.2474)])
def test_other_kinds_of_suv_on_request(
    patient: Callable[..., Patient], run: Callable[..., Run], kind: str, per_weight: float
) -> None:
    case = patient()
    case.ct()
    case.pet(edit=setter(PatientSize="1.60"))
    plain, asked = run(), run(suv=kind)
    assert (plain.tables.studies[0].suv_kind, asked.tables.studies[0].suv_kind) == ("bw", kind)
    assert array(asked, "pet") == pytest.approx(array(plain, "pet") * per_weight, rel=1e-3)


def test_ge_scan_time_counts_where_the_series_was_written_later(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient()
    case.ct()
    scan = "20200101100000.00"
    later = {"SeriesTime": "150000", "AcquisitionTime": "101500", "DecayCorrection": "START"}

    def edit(dataset: Dataset, index: int) -> None:
        setter(**later)(dataset, index)
        dataset.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", scan)

    case.pet(edit=edit)
    one_hour = 2 ** (3600 / 6586.2)
    assert array(run(), "pet")[7, 0, 9] == pytest.approx(16 * 17 * one_hour * 70_000 / 350e6)


def test_half_life_of_another_nuclide_is_refused(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient("good").both()
    case = patient("bad")
    case.ct()

    def carbon(dataset: Dataset, _index: int) -> None:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = "C-111A1", "99SDM"
        code.CodeMeaning = "18F"
        drug = dataset.RadiopharmaceuticalInformationSequence[0]
        drug.RadionuclideCodeSequence, drug.RadionuclideHalfLife = [code], "1223"
        dataset.DecayCorrection = "START"

    case.pet(edit=carbon)
    found = [row.found for row in run().tables.rejected if row.code == "units"]
    assert found == ["Radionuclide Half Life (0018,1075) 1223"]


def test_shifted_and_shorter_pet_are_noted(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient()
    case.ct()
    case.slices = 10

    def shift(dataset: Dataset, _index: int) -> None:
        dataset.ImagePositionPatient[2] += 4.0

    case.pet(edit=shift)
    notes = run().tables.studies[0].notes
    assert "the PET starts 4.00 mm after the CT's first slice" in notes
    assert "10 PET slices for 12 CT slices" in notes


def test_pet_that_reaches_beyond_the_ct_is_no_defect(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient()
    case.ct()
    case.slices = 20

    def lower(dataset: Dataset, _index: int) -> None:
        dataset.ImagePositionPatient[2] *= 0.9
        dataset.ImagePositionPatient[2] -= 12.0

    case.pet(edit=lower)
    assert run().tables.studies[0].notes == ""


def test_another_frame_of_reference_is_said(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient()
    case.ct()
    case.pet(edit=setter(FrameOfReferenceUID="1.2.3"))
    study = run().tables.studies[0]
    assert not study.same_frame_of_reference
    assert "Frame of Reference" in study.notes


def test_identical_copy_of_a_file_is_dropped_by_name(
    patient: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    patient().both()
    shutil.copy(raw / "P1" / "CT" / "99.dcm", raw / "P1" / "copy.dcm")
    done = run()
    assert [row.subject for row in done.tables.rejected] == ["P1/copy.dcm"]
    assert done.codes() == ["identity"]
    assert done.tables.studies[0].ct_slices == 12


def test_two_files_that_share_a_uid_are_both_refused(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient("good").both()
    case = patient("bad").both()

    def same_uid(dataset: Dataset, index: int) -> None:
        if index == 5:
            dataset.SOPInstanceUID = case.uid("CT-4")

    case.ct(edit=same_uid)
    assert run().codes() == ["geometry", "identity", "identity", "pairing"]


def test_two_people_under_one_patient_id_are_refused(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient("good").both()
    case = patient("bad")
    case.ct()
    case.pet(edit=setter(PatientBirthDate="19600101"))
    done = run()
    assert done.codes() == ["identity"]
    assert "1960" not in done.tables.rejected[0].found


def test_one_study_under_two_patient_ids_is_refused(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient("good").both()
    case = patient("bad")
    case.ct()
    case.pet(edit=setter(PatientID="other"))
    assert run().codes() == ["identity"]


CASES = {
    "geometry": setter(PixelSpacing=None),
    "units": setter(RescaleSlope=0),
    "pixels": setter(PixelData=bytes(24 * 24)),
}


@pytest.mark.parametrize("code", sorted(CASES))
@pytest.mark.parametrize("role", ["ct", "pet"])
def test_bad_tag_refuses_one_study_and_keeps_the_other(
    patient: Callable[..., Patient], run: Callable[..., Run], code: Any, role: str
) -> None:
    patient("good").both()
    case = patient("bad")
    for name in ("ct", "pet"):
        getattr(case, name)(**({"edit": CASES[code]} if name == role else {}))
    done = run()
    assert [study.patient for study in done.tables.studies] == ["good"]
    assert done.codes() == sorted([code, "pairing"])
    assert all(row.subject and row.found and row.expected for row in done.tables.rejected)


@pytest.mark.parametrize(
    ("edit", "tag"),
    [
        (setter(RescaleSlope=-1), "(0028,1053)"),
        (setter(RescaleSlope=None), "(0028,1053)"),
        (setter(RescaleType="OD"), "(0028,1054)"),
        (setter(RescaleSlope=1000), "after rescale"),
        (setter(PixelData=bytes(24 * 24 * 2)), "every voxel"),
        (setter(PhotometricInterpretation="MONOCHROME1"), "(0028,0004)"),
    ],
)
def test_ct_without_trustworthy_hu_is_refused_by_tag(
    patient: Callable[..., Patient], run: Callable[..., Run], edit: Any, tag: str
) -> None:
    patient("good").both()
    case = patient("bad")
    case.ct(edit=edit)
    case.pet()
    assert any(tag in row.found for row in run().tables.rejected)


def test_hu_are_rounded_to_the_nearest(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient()
    case.ct(edit=setter(RescaleSlope="0.37"))
    case.pet()
    row = array(run(), "ct")[3, 0, :4]
    assert row.tolist() == [-1023, -1023, -1022, -1022]  # -1022.89, -1022.52, -1022.15, -1021.78


def test_padding_of_the_ct_becomes_air(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    def pad(dataset: Dataset, _index: int) -> None:
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        pixels = np.frombuffer(dataset.PixelData, np.int16).copy()
        pixels[:24] = -2000
        dataset.PixelData = pixels.tobytes()

    case = patient()
    case.ct(edit=pad)
    case.pet()
    done = run()
    assert array(done, "ct").min() == -1024
    assert "288 padding voxels" in done.tables.studies[0].notes


def test_compressed_and_big_endian_files_give_the_same_volume(
    patient: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    case = patient().both()
    plain = array(run(), "ct")
    for file in (raw / "P1" / "CT").iterdir():
        dataset = pydicom.dcmread(file)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(file)
    assert np.array_equal(array(run(), "ct"), plain)
    case.write_big_endian("CT")
    assert np.array_equal(array(run(), "ct"), plain)


def test_things_that_are_no_dicom_are_listed_by_name(
    patient: Callable[..., Patient], run: Callable[..., Run], raw: Path, tmp_path: Path
) -> None:
    patient().both()
    (raw / "empty.dcm").touch()
    (raw / "short.dcm").write_bytes(b"x" * 100)
    (raw / "random.dcm").write_bytes(bytes(128) + b"DICM" + bytes(range(256)))
    (raw / "picture.dcm").write_bytes(b"\xff\xd8\xff\xe0" * 100)
    (raw / ".DS_Store").write_bytes(b"Bud1")
    os.mkfifo(raw / "pipe.dcm")
    (raw / "loop").symlink_to(raw)
    (raw / "out.dcm").symlink_to(tmp_path / "secret")
    Path(os.fsdecode(os.fsencode(raw) + b"/\xff.dcm")).write_bytes(b"x")
    whole = (raw / "P1" / "CT" / "99.dcm").read_bytes()
    (raw / "cut.dcm").write_bytes(whole[:200])
    done = run()
    assert len(done.tables.studies) == 1
    assert {row.subject for row in done.tables.rejected} == {
        "empty.dcm", "short.dcm", "random.dcm", "picture.dcm", ".DS_Store", "pipe.dcm", "loop",
        "out.dcm", "\\xff.dcm", "cut.dcm",
    }  # fmt: skip


def test_stop_names_what_was_refused(
    patient: Callable[..., Patient], run: Callable[..., Run], raw: Path
) -> None:
    patient().both()
    (raw / "notes.txt").write_text("no DICOM")
    with pytest.raises(DatasetError, match=r"notes\.txt"):
        run(on_reject="stop")


def test_nothing_usable_says_what_was_refused(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    patient().ct()
    with pytest.raises(DatasetError, match="no usable PET"):
        run()


def test_missing_data_set_says_how_to_add_one(run: Callable[..., Run], raw: Path) -> None:
    with pytest.raises(DatasetError, match="petct add raw"):
        run()
    raw.mkdir()
    with pytest.raises(DatasetError, match="petct add raw"):
        run()


def test_every_volume_derives_from_its_instances(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient().both()
    case.seg(np.ones((12, 24, 24), bool))
    done = run()
    home = Path("data/interim/x/ingest")
    found = {item.output.id: item.inputs for item in derivations(done.out, home, Path())}
    study = done.tables.studies[0].study_id
    counts = [
        len(found[f"file:{home}/volumes/{study}/{name}.nii.gz"]) for name in ("ct", "pet", "label")
    ]
    # A label derives from its own object and from both series of the pair it is drawn on.
    assert counts == [12, 12, 25]
    assert {entity.id for inputs in found.values() for entity in inputs} >= {
        f"instance:{row.sop_instance_uid}"
        for row in read_table(done.out / "instances.csv", InstanceRow)
    }


def test_raw_becquerel_agrees_with_the_suv_of_the_same_scan(
    shared_data: Path, run: Callable[..., Run], raw: Path
) -> None:
    """STS_001 as the scanner stored it, against the SUV that its publishers computed."""
    (raw / "sts").mkdir(parents=True)
    shutil.copytree(shared_data / "sts" / "dicom" / "STS_001", raw / "sts" / "cropped")
    published = run()
    shutil.rmtree(raw / "sts" / "cropped" / "PET")
    shutil.copytree(shared_data / "sts_raw" / "STS_001_PET_bqml" / "image", raw / "sts" / "whole")
    computed = run()
    images = []
    for done in (published, computed):
        study = done.tables.studies[0].study_id
        images.append(sitk.ReadImage(done.out / "volumes" / study / "pet.nii.gz"))
    assert [image.GetSize()[2] for image in images] == [59, 267]
    whole = sitk.Resample(images[1], images[0], sitk.Transform(), sitk.sitkNearestNeighbor)
    difference = sitk.GetArrayFromImage(images[0]) - sitk.GetArrayFromImage(whole)
    assert np.abs(difference).max() < 1e-3


def test_known_defects_of_real_patients_are_noted(
    shared_data: Path, run: Callable[..., Run], raw: Path
) -> None:
    for name in ("STS_019", "STS_035"):
        shutil.copytree(shared_data / "sts" / "dicom" / name, raw / name)
    shifted, shorter = run().tables.studies
    assert "starts 6.58 mm before" in shifted.notes
    assert "61 PET slices for 63 CT slices" in shorter.notes
    assert (shifted.label_kind, shifted.lesion_kind) == ("rtstruct", "GTV_Mass_CT")
