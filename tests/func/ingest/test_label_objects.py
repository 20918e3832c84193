"""Label objects: which are chosen, refused, joined and noted, and never taken for healthy."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RTPlanStorage,
    SegmentationStorage,
    SurfaceSegmentationStorage,
)

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import read_table
from petct_uad.ingest.dicom.index import index_files
from petct_uad.ingest.dicom.label_objects import referenced_by_lesions
from petct_uad.ingest.dicom.series import group_studies
from petct_uad.ingest.found import FoundRejection, FoundSeries, FoundStudy
from petct_uad.ingest.tables import DRAWN_ON_CT, DRAWN_ON_PET, SeriesRow
from tests.func.ingest.conftest import Edit, Patient, Run, ingest_params
from tests.petct_validate import enter_project, judged

Make = Callable[..., Patient]
Ingest = Callable[..., Run]


def square(low: float, high: float, z_mm: float) -> np.ndarray:
    corners = [(low, low), (high, low), (high, high), (low, high)]
    return np.array([(x, y, z_mm) for x, y in corners])


def mask(*slices: int, size: int = 24) -> np.ndarray:
    """A lesion of 4 x 10 pixels of the CT, or 2 x 5 of the PET, on some slices."""
    found = np.zeros((12, size, size), bool)
    unit = size // 12
    found[list(slices), 2 * unit : 4 * unit, 5 * unit : 10 * unit] = True
    return found


def voxels(done: Run) -> np.ndarray:
    """The label of the only study that has one."""
    (path,) = done.out.glob("volumes/*/label.nii.gz")
    found: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(path))
    return found


def lesion_slices(done: Run) -> list[int]:
    found: list[int] = np.flatnonzero(voxels(done).any(axis=(1, 2))).tolist()
    return found


def study(done: Run) -> FoundStudy:
    (row,) = done.tables.studies
    return row


def refusals(done: Run, code: str) -> list[FoundRejection]:
    return [row for row in done.tables.rejected if row.code == code]


def series_of(done: Run, description: str) -> FoundSeries:
    uids = {row.series_instance_uid for row in done.tables.instances
            if row.file.endswith(description)}  # fmt: skip
    (row,) = (row for row in done.tables.series if row.series_instance_uid in uids)
    return row


# --- a frame is where its own position says ---


def without_spacing(dataset: Dataset, _index: int) -> None:
    """Spacing Between Slices (0018,0088) is of type 3."""
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices


def with_the_spacing_of_the_frames(dataset: Dataset, _index: int) -> None:
    """Some programs take the distance between the frames that are left for their spacing."""
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 8


@pytest.mark.parametrize("edit", [without_spacing, with_the_spacing_of_the_frames])
@pytest.mark.parametrize("slices", [[4], [4, 6, 8], [1, 6], [1, 3, 4, 9]])
def test_a_frame_is_one_slice_whatever_lies_between_it_and_the_next(
    patient: Make, run: Ingest, slices: list[int], edit: Edit
) -> None:
    patient().both().seg(mask(*slices), edit=edit)
    done = run()
    assert np.array_equal(voxels(done), mask(*slices).astype(np.uint8))


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_every_type_of_segmentation_gives_the_same_mask(
    patient: Make, run: Ingest, kind: str
) -> None:
    patient().both().seg(mask(4, 5), kind=kind)
    done = run()
    assert np.array_equal(voxels(done), mask(4, 5).astype(np.uint8))
    assert (study(done).label_kind, study(done).lesion_kind) == ("seg", "adenocarcinoma")
    assert not done.tables.rejected


def test_a_segment_of_a_label_map_is_chosen_by_its_name(patient: Make, run: Ingest) -> None:
    both = mask(4).astype(np.uint8)
    both[7, 2:20, 2:20] = 2
    patient().both().seg(both, "tumour", "liver", kind="LABELMAP")
    done = run(label_roi="tumour")
    assert np.array_equal(voxels(done), mask(4).astype(np.uint8))


def test_slices_that_contours_leave_out_are_noted(patient: Make, run: Ingest) -> None:
    patient().both().rtstruct([square(-20, 20, 4.0 * index) for index in (4, 6, 8)])
    done = run()
    assert lesion_slices(done) == [4, 6, 8]
    assert "2 CT slices between drawn ones are empty (5, 7)" in study(done).notes


def test_lesions_beside_one_another_leave_nothing_out(patient: Make, run: Ingest) -> None:
    patient().both().rtstruct([square(-40, -20, 16.0), square(0, 20, 24.0)])
    assert "are empty" not in study(run()).notes


# --- on which images it was drawn ---


def test_a_label_says_on_which_images_it_was_drawn(patient: Make, run: Ingest) -> None:
    patient("A1").both().seg(mask(4))
    patient("A2").both().seg(mask(4, size=12), on="PET")
    patient("A3").both().rtstruct([square(-20, 20, 16.0)], on="PET")
    patient("A4").both()
    done = run()
    told = {row.patient: row.label_drawn_on for row in done.tables.studies}
    assert told == {"A1": "ct", "A2": "pet", "A3": "pet", "A4": "none"}
    values = {
        row.patient: set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(path))).tolist())
        for row in done.tables.studies
        for path in done.out.glob(f"volumes/{row.study_id}/label.nii.gz")
    }
    assert values == {"A1": {0, DRAWN_ON_CT}, "A2": {0, DRAWN_ON_PET}, "A3": {0, DRAWN_ON_PET}}


def test_a_lesion_on_the_pet_lies_where_the_pet_has_it(patient: Make, run: Ingest) -> None:
    patient().both().seg(mask(4, 5, size=12), on="PET")
    done = run()
    # A pixel of the PET holds two by two of the CT, whose outermost centres are 2 mm further out.
    expected = mask(4, 5).astype(np.uint8) * DRAWN_ON_PET
    assert np.array_equal(voxels(done), expected)


def test_lesions_on_both_images_are_joined(patient: Make, run: Ingest) -> None:
    case = patient().both()
    case.seg(mask(4), name="ON-CT")
    case.seg(mask(8, size=12), on="PET", name="ON-PET")
    done = run()
    expected = mask(4).astype(np.uint8) * DRAWN_ON_CT + mask(8).astype(np.uint8) * DRAWN_ON_PET
    assert np.array_equal(voxels(done), expected)
    assert study(done).label_drawn_on == "ct+pet"
    assert "unites 2 label objects" in study(done).notes


def test_a_lesion_that_is_drawn_twice_is_taken_once(patient: Make, run: Ingest) -> None:
    case = patient().both()
    case.seg(mask(4, 5), "tumour")
    case.rtstruct([square(-40, 40, 16.0)], on="PET", name="hot tumour")
    done = run()
    assert np.array_equal(voxels(done), mask(4, 5).astype(np.uint8))
    assert study(done).lesion_kind == "tumour"
    lost = series_of(done, "RS-PET-hot tumour.dcm")
    assert (lost.role, "seg.dcm" in lost.reason) == ("unused", True)


def test_choosing_images_can_ask_which_ones_the_lesions_are_on(patient: Make, raw: Path) -> None:
    case = patient().both()
    case.seg(mask(2), "liver", name="ORGANS")
    case.seg(mask(4, size=12), "tumour", on="PET", name="LESION")
    (found,) = group_studies(index_files(raw, 1).headers)[0]
    named = referenced_by_lesions(raw, found, ingest_params(label_roi="tumour"))
    assert named == {case.uid("PET")}


# --- organs are no lesions ---


def organs_and_a_lesion(case: Patient) -> None:
    case.both().seg(mask(1, 2), "liver", name="ORGANS")
    case.seg(mask(8, size=12), "FDG-avid tumour", on="PET", name="LESION")


def test_the_lesion_is_taken_and_not_the_organs_on_the_better_images(
    patient: Make, run: Ingest
) -> None:
    organs_and_a_lesion(patient())
    done = run(label_roi=".*tumour")
    assert lesion_slices(done) == [8]
    assert study(done).lesion_kind == "FDG-avid tumour"
    assert "liver" in series_of(done, "organs.dcm").reason


@pytest.mark.parametrize("kind", ["auto", "seg"])
def test_without_a_pattern_organs_make_the_stage_ask_for_one(
    patient: Make, run: Ingest, kind: str
) -> None:
    organs_and_a_lesion(patient())
    with pytest.raises(DatasetError, match=r"ingest\.label_roi") as raised:
        run(labels=kind)
    assert "organs.dcm (liver)" in str(raised.value)
    assert "lesion.dcm (FDG-avid tumour)" in str(raised.value)


def test_organs_alone_are_no_label_of_lesions(patient: Make, run: Ingest) -> None:
    patient("A1").both().seg(mask(1, 2), "liver")
    patient("A2").both().seg(mask(4), "tumour")
    done = run(label_roi="tumour")
    told = {row.patient: (row.label_kind, row.finding) for row in done.tables.studies}
    assert told == {"A1": ("none", "unlabelled"), "A2": ("seg", "lesion")}


def test_a_pattern_that_matches_nothing_names_every_object(patient: Make, run: Ingest) -> None:
    organs_and_a_lesion(patient())
    with pytest.raises(DatasetError, match=r"lesion\.dcm \(FDG-avid tumour\); .*organs\.dcm"):
        run(label_roi="GTV")


def same_number_again(name: str, points: np.ndarray) -> Edit:
    """A second ROI under the number of the first."""

    def edit(dataset: Dataset, _index: int) -> None:
        for sequence in (dataset.StructureSetROISequence, dataset.ROIContourSequence):
            sequence.append(copy.deepcopy(sequence[0]))
        dataset.StructureSetROISequence[1].ROIName = name
        contour = dataset.ROIContourSequence[1].ContourSequence[0]
        contour.ContourData = [f"{value:.6f}" for value in points.ravel()]

    return edit


@pytest.mark.parametrize("first", ["LIVER", "GTV"])
def test_two_rois_of_one_number_refuse_the_study(patient: Make, run: Ingest, first: str) -> None:
    patient("good").both()
    second = {"LIVER": "GTV", "GTV": "LIVER"}[first]
    edit = same_number_again(second, square(20, 40, 24.0))
    patient("bad").both().rtstruct([square(-20, 20, 16.0)], name=first, edit=edit)
    done = run(label_roi="GTV")
    assert study(done).patient == "good"
    (refused,) = refusals(done, "label")
    assert "(3006,0022) 1 of" in refused.found
    assert {"LIVER", "GTV"} <= set(refused.found.split())


# --- an explicit negative ---


def test_a_segmentation_of_zeros_is_a_finding_and_no_label_is_none(
    patient: Make, run: Ingest
) -> None:
    patient("A1").both().seg(mask(), omit_empty_frames=False)
    patient("A2").both()
    patient("A3").both().seg(mask(4))
    done = run()
    told = {row.patient: (row.label_kind, row.lesion_kind, row.finding)
            for row in done.tables.studies}  # fmt: skip
    assert told == {
        "A1": ("seg", "none", "negative"),
        "A2": ("none", "none", "unlabelled"),
        "A3": ("seg", "adenocarcinoma", "lesion"),
    }
    assert ["found no lesion" in row.notes for row in done.tables.studies].count(True) == 1
    assert not done.tables.rejected


def test_an_roi_without_contours_is_no_finding(patient: Make, run: Ingest) -> None:
    patient("good").both()
    patient("bad").both().rtstruct([])
    done = run()
    assert study(done).patient == "good"
    assert "no contour of GTV" in refusals(done, "label")[0].found


# --- what is refused costs the study that it may concern, and no other ---


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def modality(value: str) -> Edit:
    def edit(dataset: Dataset, _index: int) -> None:
        dataset.Modality = value

    return edit


def surface(dataset: Dataset, _index: int) -> None:
    dataset.SOPClassUID = SurfaceSegmentationStorage
    dataset.file_meta.MediaStorageSOPClassUID = SurfaceSegmentationStorage


def test_an_emptied_modality_hides_no_lesion(patient: Make, run: Ingest) -> None:
    patient().both().seg(mask(4), edit=modality(""))
    assert lesion_slices(run()) == [4]


def a_ct_by_its_class(dataset: Dataset, _index: int) -> None:
    """The file's meta information still says what it is."""
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "MR"
    dataset.file_meta.MediaStorageSOPClassUID = SegmentationStorage


@pytest.mark.parametrize(
    "edit",
    [modality("CT"), surface, a_ct_by_its_class],
    ids=["another modality", "surface", "another class"],
)
def test_a_label_object_of_another_kind_refuses_its_study(
    patient: Make, run: Ingest, edit: Edit
) -> None:
    patient("good").both()
    patient("bad").both().seg(mask(4), edit=edit)
    done = run()
    assert study(done).patient == "good"
    assert refusals(done, "unsupported")[0].subject == "bad/seg.dcm"
    assert "bad/seg.dcm" in refusals(done, "label")[0].found


def without_a_class(path: Path) -> None:
    """Its SOP class is that of nothing, in the meta information and in the data set."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.800.10008.5.1.4"
    dataset.save_as(path)


def without_a_prefix(path: Path) -> None:
    """And no DICM before it, as where the first bytes were lost."""
    without_a_class(path)
    path.write_bytes(path.read_bytes()[140:])


def a_seg(case: Patient) -> None:
    case.seg(mask(4))


def an_rtstruct(case: Patient) -> None:
    case.rtstruct([square(-20, 20, 16.0)])


@pytest.mark.parametrize("draw", [a_seg, an_rtstruct])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("spoil", [without_a_class, without_a_prefix])
def test_a_label_object_that_only_its_elements_call_one_refuses_its_study(
    tmp_path: Path,
    run: Ingest,
    draw: Callable[[Patient], None],
    syntax: str,
    spoil: Callable[[Path], None],
) -> None:
    raw = tmp_path / "raw"
    Patient(raw, "good").both()
    draw(Patient(raw, "bad").both())
    (label,) = (raw / "bad").glob("*.dcm")
    dataset = pydicom.dcmread(label)
    dataset.Modality = ""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(label, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    spoil(label)
    done = run()
    assert study(done).patient == "good"
    assert label.name in refusals(done, "label")[0].found


def test_a_plan_that_refers_to_rois_costs_no_study(patient: Make, run: Ingest, raw: Path) -> None:
    """Its dose references name ROIs by (3006,0084), as an RTSTRUCT's elements do."""
    case = patient().both()
    case.rtstruct([square(-20, 20, 16.0)])
    plan = pydicom.dcmread(next((raw / "P1").glob("RS*.dcm")))
    del plan.StructureSetROISequence, plan.ROIContourSequence
    plan.SOPClassUID = plan.file_meta.MediaStorageSOPClassUID = RTPlanStorage
    plan.SOPInstanceUID, plan.SeriesInstanceUID, plan.Modality = "1.2.3", "1.2.4", "RTPLAN"
    reference = Dataset()
    reference.ReferencedROINumber = 1
    plan.DoseReferenceSequence = [reference]
    plan.save_as(raw / "P1/plan.dcm")
    done = run()
    assert lesion_slices(done) == [4]
    assert [row.subject for row in done.tables.rejected] == ["P1/plan.dcm"]


@pytest.mark.parametrize("content", [b"", b"\0" * 131, b"\0" * 128 + b"DICM" + b"\0" * 500])
def test_a_file_in_which_nothing_is_left_of_a_label_costs_no_study(
    patient: Make, run: Ingest, raw: Path, content: bytes
) -> None:
    patient().both()
    (raw / "P1/seg.dcm").write_bytes(content)
    done = run()
    assert study(done).finding == "unlabelled"
    assert [row.subject for row in done.tables.rejected] == ["P1/seg.dcm"]


@pytest.mark.parametrize("labels", ["auto", "seg"])
def test_a_label_object_that_is_cut_short_refuses_its_study(
    patient: Make, run: Ingest, raw: Path, labels: str
) -> None:
    patient("good").both()
    patient("bad").both().seg(mask(4))
    cut_short(raw / "bad/seg.dcm")
    done = run(labels=labels)
    assert study(done).patient == "good"
    (refused,) = refusals(done, "label")
    assert "bad/seg.dcm" in f"{refused.subject} {refused.found}"


def test_a_label_object_that_is_not_asked_for_refuses_nothing(
    patient: Make, run: Ingest, raw: Path
) -> None:
    case = patient().both()
    case.seg(mask(4))
    case.rtstruct([square(-20, 20, 16.0)])
    cut_short(raw / "P1/seg.dcm")
    assert lesion_slices(run(labels="rtstruct")) == [4]


@pytest.mark.parametrize("length", [400, 180, 146])  # of 370 bytes of meta information; its start
def test_a_label_object_that_does_not_say_whose_it_is_refuses_what_lies_beside_it(
    patient: Make, run: Ingest, raw: Path, length: int
) -> None:
    patient("good").both()
    patient("bad").both().seg(mask(4))
    content = (raw / "bad/seg.dcm").read_bytes()
    (raw / "bad/seg.dcm").write_bytes(content[:length])
    assert study(run()).patient == "good"


def test_a_series_of_labels_of_two_patients_refuses_their_studies(
    patient: Make, run: Ingest
) -> None:
    patient("good").both()
    for name in ("A1", "A2"):

        def shared(dataset: Dataset, _index: int) -> None:
            dataset.SeriesInstanceUID = "1.2.3.4"

        patient(name).both().seg(mask(4), edit=shared)
    assert study(run()).patient == "good"


def of_its_own_study(dataset: Dataset, _index: int) -> None:
    dataset.StudyInstanceUID = "1.2.3.4"
    del dataset.ReferencedSeriesSequence


def test_a_label_in_a_study_of_its_own_finds_its_images_frame_by_frame(
    patient: Make, run: Ingest
) -> None:
    patient().both().seg(mask(4), edit=of_its_own_study)
    done = run()
    assert lesion_slices(done) == [4]
    assert "references neither" not in study(done).notes
    assert not done.tables.rejected


def without_references(dataset: Dataset, index: int) -> None:
    of_its_own_study(dataset, index)
    for name in ("SourceImageSequence", "ReferencedInstanceSequence"):
        dataset.pop(name, None)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence


def test_a_label_without_references_finds_its_images_by_the_frame_of_reference(
    patient: Make, run: Ingest
) -> None:
    patient().both().seg(mask(4), edit=without_references)
    done = run()
    assert lesion_slices(done) == [4]
    assert "references neither CT nor PET" in study(done).notes


def elsewhere(dataset: Dataset, index: int) -> None:
    without_references(dataset, index)
    dataset.FrameOfReferenceUID = "1.2.3.5"


def test_a_label_of_no_images_of_its_patient_refuses_the_patient(
    patient: Make, run: Ingest
) -> None:
    patient("good").both()
    patient("bad").both().seg(mask(4), edit=elsewhere)
    done = run()
    assert study(done).patient == "good"
    assert "bad/seg.dcm" in refusals(done, "label")[0].found


def test_organs_of_no_images_refuse_nobody(patient: Make, run: Ingest) -> None:
    patient().both().seg(mask(4), "liver", edit=elsewhere)
    assert study(run(label_roi="tumour")).finding == "unlabelled"


def test_a_label_whose_patient_swallowed_its_study_refuses_what_lies_beside_it(
    patient: Make, run: Ingest
) -> None:
    """As a length of Patient ID (0010,0020) does that is wrong by one bit."""

    def swallowed(dataset: Dataset, _: int) -> None:
        dataset.PatientID = f"{dataset.PatientID} {dataset.StudyInstanceUID}"
        del dataset.StudyInstanceUID, dataset.SeriesInstanceUID

    patient("good").both()
    patient("bad").both().rtstruct([square(-20, 20, 16.0)], edit=swallowed)
    done = run()
    assert study(done).patient == "good"
    assert [row.code for row in done.tables.rejected if "RS-" in row.found] == ["label"]


def of_a_study_that_is_no_uid(dataset: Dataset, _index: int) -> None:
    """Of nobody who is there, and of no image that is."""
    dataset.PatientID, dataset.StudyInstanceUID = "=1+1", "SEG"
    dataset.FrameOfReferenceUID = "1.2.3.5"
    del dataset.ReferencedFrameOfReferenceSequence
    dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3.5"


def of_another_who_names_the_images(dataset: Dataset, _index: int) -> None:
    """Refused for its own UID, under a patient and a study that nobody here has."""
    dataset.PatientID, dataset.StudyInstanceUID = "somebody", "1.2.3.4"
    dataset.SOPInstanceUID = "1.2.x"


def of_another_in_the_frame(dataset: Dataset, _index: int) -> None:
    """Likewise, and the images' Frame of Reference UID is all that is left of them."""
    of_another_who_names_the_images(dataset, _index)
    del dataset.ReferencedFrameOfReferenceSequence


@pytest.mark.parametrize(
    "edit",
    [of_a_study_that_is_no_uid, of_another_who_names_the_images, of_another_in_the_frame],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_label_without_identity_refuses_the_study_that_it_may_concern(
    patient: Make, run: Ingest, edit: Edit
) -> None:
    patient("good").both()
    patient("bad").both().rtstruct([square(-20, 20, 16.0)], edit=edit)
    done = run()
    assert [row.patient for row in done.tables.studies] == ["good"]
    assert [row.subject for row in refusals(done, "identity")] == ["bad/RS-CT-GTV.dcm"]
    assert "bad/RS-CT-GTV.dcm" in refusals(done, "label")[0].found


def test_a_refused_label_of_somebody_else_refuses_nobody(patient: Make, run: Ingest) -> None:
    """Though the frame of reference is the same: of several studies, as anonymisers write it."""

    def later(dataset: Dataset, _index: int) -> None:
        dataset.AcquisitionTime = "100001"

    patient("A1", frame="1.2.3.5").both()
    case = patient("A2", frame="1.2.3.5")
    case.ct(edit=later)
    case.pet(edit=later)
    case.rtstruct([square(-20, 20, 16.0)], edit=of_another_in_the_frame)
    done = run()
    assert {row.patient for row in done.tables.studies} == {"A1", "A2"}
    assert [row.code for row in done.tables.rejected] == ["identity"]


def test_an_orphan_is_listed_and_passes_validation(
    phantom_raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter_project(tmp_path, monkeypatch)
    tree = shutil.copytree(phantom_raw, tmp_path / "tree")
    Patient(tree, "somebody").rtstruct([square(-20, 20, 16.0)])
    done = judged(tree)
    assert done.exit_code == 3, done.output
    assert "without its images" in done.stdout
    assert "critical" not in done.stdout.split("refused")[0]


def test_every_series_that_was_read_is_listed(patient: Make, run: Ingest) -> None:
    patient("A1").both()
    patient("A2").rtstruct([square(-20, 20, 16.0)])
    done = run()
    listed = {row.series_instance_uid for row in read_table(done.out / "series.csv", SeriesRow)}
    assert {row.series_instance_uid for row in done.tables.instances} <= {
        row.series_instance_uid for row in done.tables.series
    }
    assert len(listed) == 3


# --- RTSTRUCT: Referenced Frame of Reference UID (3006,0024) ---


def another_frame(dataset: Dataset, _index: int) -> None:
    dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3.5"


def names_slices(*uids: str) -> Edit:
    """References of the contours to the slices that they were drawn on, and another frame."""

    def edit(dataset: Dataset, index: int) -> None:
        another_frame(dataset, index)
        for contour, uid in zip(dataset.ROIContourSequence[0].ContourSequence, uids, strict=True):
            image = Dataset()
            image.ReferencedSOPInstanceUID = uid
            contour.ContourImageSequence = [image]

    return edit


def test_contours_that_name_the_cts_slices_are_taken_in_any_frame(
    patient: Make, run: Ingest
) -> None:
    case = patient().both()
    case.rtstruct([square(-20, 20, 16.0)], edit=names_slices(case.uid("CT-4")))
    done = run()
    assert lesion_slices(done) == [4]
    assert "(3006,0024) 1.2.3.5" in study(done).notes


@pytest.mark.parametrize(
    ("edit", "z_mm", "on"),
    [
        (another_frame, 16.0, "CT"),
        (names_slices("1.2.3.6"), 16.0, "CT"),
        (names_slices("CT-4"), 900.0, "CT"),
        (names_slices("CT-4"), 16.0, "elsewhere"),
    ],
    ids=["no slices", "other slices", "outside the CT", "another series"],
)
def test_contours_in_another_frame_are_refused_by_that_tag(
    patient: Make, run: Ingest, edit: Edit, z_mm: float, on: str
) -> None:
    patient("good").both()
    case = patient("bad").both()

    def of_this_patient(dataset: Dataset, index: int) -> None:
        edit(dataset, index)
        for contour in dataset.ROIContourSequence[0].ContourSequence:
            for image in contour.get("ContourImageSequence", ()):
                uid = str(image.ReferencedSOPInstanceUID)
                image.ReferencedSOPInstanceUID = case.uid(uid) if "CT" in uid else uid

    case.rtstruct([square(-20, 20, z_mm)], on=on, edit=of_this_patient)
    done = run()
    assert study(done).patient == "good"
    assert "Referenced Frame of Reference UID (3006,0024) 1.2.3.5" in (
        refusals(done, "label")[0].found
    )
