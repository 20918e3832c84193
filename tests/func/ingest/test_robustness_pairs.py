"""Robustness, pair and label level: whose images these are, and what was drawn on them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import read_table
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.tables import StudyRow
from petct_uad.schema import load_params
from petct_uad.split.patients import assign_patients
from tests.func.ingest.conftest import Edit, Patient, no_edit
from tests.func.ingest.hostile import (
    ROOT,
    SLICES,
    Arrange,
    Check,
    Outcome,
    a_study,
    and_then,
    as_before,
    both,
    case,
    clean,
    ct,
    ingest,
    noted,
    nothing,
    only,
    pet,
    refused,
    refused_study,
    rewritten,
    run_case,
    save_as,
    sets,
    slice_file,
    write_good,
)


def noted_everywhere(words: str) -> Check:
    """Both studies of the case are there, and studies.csv says so of each."""

    def check(done: Outcome, _baseline: Outcome) -> None:
        assert [words in study.notes for study in done.studies()] == [True, True]

    return check


def far_away(dataset: Dataset, _index: int) -> None:
    dataset.ImagePositionPatient[2] += 1000.0


def narrow(dataset: Dataset, _index: int) -> None:
    """A CT of half the PET's field of view, around the same centre."""
    dataset.PixelSpacing = [2, 2]
    dataset.ImagePositionPatient[:2] = [-23.0, -23.0]


def same_voxels(done: Outcome, baseline: Outcome) -> None:
    for name in ("ct", "pet"):
        assert np.array_equal(done.array(name), baseline.array(name))
    assert done.image("ct").GetSpacing() == (2, 2, 4)


def another(patient: str, **values: object) -> Arrange:
    """One more study."""
    return lambda folder: a_study(sets(**values), sets(**values), patient)(folder / "more")


def in_another_study(folder: Path) -> None:
    """Q7 again, in another study, and born on another day."""
    a_study(patient="Q8")(folder / "more")
    for path in sorted((folder / "more").rglob("*.dcm")):
        save_as(pydicom.dcmread(path), path, PatientID="Q7", PatientBirthDate="19600101")


def copied_under(patient: str) -> Arrange:
    """Every file again under another PatientID and with new UIDs, by a careless export."""

    def copy(folder: Path) -> None:
        for path in sorted(folder.rglob("*.dcm")):
            dataset = pydicom.dcmread(path)
            for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID",
                         "FrameOfReferenceUID"):  # fmt: skip
                made = uid.generate_uid(entropy_srcs=[patient, dataset[name].value])
                setattr(dataset, name, made)
            target = folder / "copy" / path.parent.name / path.name
            save_as(dataset, target, PatientID=patient)

    return copy


def frame_of(folder: Path) -> str:
    return str(pydicom.dcmread(slice_file(folder, "CT", 0)).FrameOfReferenceUID)


def in_the_same_frame(at: str = "") -> Arrange:
    """Another patient's study in the frame of reference of the first, scanned at another time."""
    times = {"AcquisitionTime": at} if at else {}
    return and_then(
        a_study(),
        lambda folder: another("Q8", FrameOfReferenceUID=frame_of(folder), **times)(folder),
    )


def blank_alike_in_the_same_frame(folder: Path) -> None:
    """Two patients of one anonymiser, each with a CT slice of nothing but air."""
    blank = only(0, sets(PixelData=bytes(24 * 24 * 2)))
    a_study(ct=blank)(folder)
    other = sets(FrameOfReferenceUID=frame_of(folder), AcquisitionTime="100007")
    a_study(both(blank, other), other, "Q8")(folder / "more")


def cut_short_in_the_same_frame(folder: Path) -> None:
    """Slices with a clock of their own, and again under another PatientID without the last one."""

    def clocked(dataset: Dataset, index: int) -> None:
        dataset.AcquisitionTime = f"10000{index}"

    a_study(clocked, clocked)(folder)
    edit = both(clocked, sets(FrameOfReferenceUID=frame_of(folder)))
    a_study(edit, edit, "Q8")(folder / "more")
    for role in ("CT", "PET"):
        slice_file(folder / "more", role, SLICES - 1).unlink()


def copied_in_part(folder: Path) -> None:
    """Most files again under another PatientID, with a new clock but the old frame of reference."""
    frame = frame_of(folder)
    copied_under("Q8")(folder)
    for path in sorted((folder / "copy").rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        save_as(dataset, path, FrameOfReferenceUID=frame, AcquisitionTime="100007")
    for series in (folder / "copy").iterdir():
        max(series.iterdir()).unlink()


def gone(role: str) -> Arrange:
    def delete(folder: Path) -> None:
        for index in range(SLICES):
            slice_file(folder, role, index).unlink()

    return and_then(a_study(), delete)


PAIRS = {
    "different FrameOfReferenceUID": case(
        pet(sets(FrameOfReferenceUID="1.2.3")), as_before, noted("Frame of Reference"), clean
    ),
    "different FrameOfReferenceUID: missing": case(
        pet(sets(FrameOfReferenceUID=None)), as_before, noted("Frame of Reference"), clean
    ),
    "no overlap": case(
        pet(far_away), refused_study("pairing", "does not overlap the PET"), nothing
    ),
    "CT field of view smaller than PET": case(ct(narrow), same_voxels, clean),
    "no PET partner": case(gone("PET"), refused_study("pairing", "no usable PET"), nothing),
    "no PET partner: no CT": case(
        gone("CT"), refused_study("pairing", "no usable CT"), nothing
    ),
    "PET and CT of two patients under one ID": case(
        pet(sets(PatientBirthDate="19600101")), refused_study("identity", "birth date"), nothing
    ),
    "PET and CT of two patients under one ID: of two sexes": case(
        pet(sets(PatientSex="M")), refused_study("identity", "sex"), nothing
    ),
    "PET and CT of two patients under one ID: in two studies": case(
        and_then(a_study(), in_another_study), refused_study("identity", "birth date"), nothing
    ),
    "one patient under two IDs: in one study": case(
        pet(sets(PatientID="Q8")), refused_study("identity", "PatientID (0010,0020)"), nothing
    ),
    "one patient under two IDs: by the frame of reference": case(
        in_the_same_frame(), refused_study("identity", "Frame of Reference UID (0020,0052)"),
        nothing,
    ),
    "one patient under two IDs: by the first of its slices": case(
        cut_short_in_the_same_frame,
        refused_study("identity", "Frame of Reference UID (0020,0052)"), nothing,
    ),
    "one patient under two IDs: a slice in common in one frame of reference": case(
        and_then(a_study(), copied_in_part),
        refused_study("identity", "every voxel of a slice", "PatientID (0010,0020)"), nothing,
    ),
    "different FrameOfReferenceUID: two patients in one that an anonymiser wrote": case(
        in_the_same_frame(at="100007"), clean, noted_everywhere("same Frame of Reference UID")
    ),
    "different FrameOfReferenceUID: two patients in one, and no clock": case(
        in_the_same_frame(at="000000"), clean, noted_everywhere("same Frame of Reference UID")
    ),
    "different FrameOfReferenceUID: two patients in one, each with a blank slice": case(
        blank_alike_in_the_same_frame, clean, noted_everywhere("same Frame of Reference UID")
    ),
    "one patient under two IDs: the same images with new UIDs": case(
        and_then(a_study(), copied_under("Q8")),
        refused_study("identity", "every voxel", "PatientID (0010,0020)"), nothing,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_pair(name: str, tmp_path: Path) -> None:
    run_case(PAIRS[name], tmp_path)


def test_study_withdrawn_after_the_split(tmp_path: Path) -> None:
    """The rest keeps its bytes and is split anew; nothing of the withdrawn study is left."""
    for number in range(8):
        another(f"Q{'x' * number}")(tmp_path / "raw" / f"s{number}")
    write_good(tmp_path / "raw")
    before = ingest(tmp_path / "raw", tmp_path / "before")
    for file in (tmp_path / "raw" / "s3").rglob("*.dcm"):
        file.unlink()
    after = ingest(tmp_path / "raw", tmp_path / "after")
    left = {row.study_id for row in after.tables.studies}
    assert len(left) == len(before.tables.studies) - 1
    assert {path.name for path in (after.out / "volumes").iterdir()} == left
    assert not after.tables.rejected
    assert after.volume_bytes("good") == before.volume_bytes("good")
    published = read_table(after.out / "studies.csv", StudyRow)
    assert {row.study_id for row in published} == left
    sides = assign_patients(published, load_params(ROOT / "params.yaml").split)
    assert set(sides) == {row.patient for row in published}
    assert set(sides.values()) == {"train", "val", "test"}


# --- labels ---


def square(low: float, high: float, z_mm: float) -> np.ndarray:
    corners = [(low, low), (high, low), (high, high), (low, high)]
    return np.array([(x, y, z_mm) for x, y in corners])


MIDDLE = [square(-20, 20, 4.0)]


def drawn(contours_mm: list[np.ndarray], on: str = "CT", edit: Edit = no_edit) -> Arrange:
    """A study with an RTSTRUCT of these contours."""

    def arrange(folder: Path) -> None:
        Patient(folder, "Q7", slices=SLICES).both().rtstruct(contours_mm, on, edit=edit)

    return arrange


def copied_label(**values: object) -> Arrange:
    def copy(folder: Path) -> None:
        (path,) = folder.glob("*/RS*.dcm")
        save_as(pydicom.dcmread(path), folder / "copy.dcm", **values)

    return and_then(drawn(MIDDLE), copy)


def alone(folder: Path) -> None:
    a_study()(folder)
    Patient(folder, "Q8", slices=SLICES).rtstruct(MIDDLE)


def segmented(mask: np.ndarray, *labels: str, **how: Any) -> Arrange:
    def arrange(folder: Path) -> None:
        Patient(folder, "Q7", slices=SLICES).both().seg(mask, *labels, **how)

    return arrange


def labelled(voxels: int) -> Check:
    """So many voxels of the CT are lesion, all of them in its second slice."""

    def check(done: Outcome, _baseline: Outcome) -> None:
        label = done.array("label") > 0
        assert (label[1].sum(), label.sum()) == (voxels, voxels)

    return check


def in_another_frame(dataset: Dataset, _index: int) -> None:
    dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
    dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"


def one_bad_number(dataset: Dataset, _index: int) -> None:
    dataset.ROIContourSequence[0].ContourSequence[0].ContourData = ["1", "2", "3", "4"]


def of_no_roi(dataset: Dataset, _index: int) -> None:
    dataset.ROIContourSequence[0].ReferencedROINumber = 7


def two_of_one_number(dataset: Dataset, _index: int) -> None:
    dataset.StructureSetROISequence.append(copy.deepcopy(dataset.StructureSetROISequence[0]))


def on_the_cts_slice(dataset: Dataset, index: int) -> None:
    """Another frame under (3006,0024); but the contour names the slice that it lies on."""
    in_another_frame(dataset, index)
    image = Dataset()
    image.ReferencedSOPInstanceUID = Patient(Path(), "Q7").uid("CT-1")
    dataset.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = [image]


def without_spacing(dataset: Dataset, _index: int) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices


def of_class(sop_class: str) -> Edit:
    def edit(dataset: Dataset, _index: int) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class

    return edit


def of_nothing(dataset: Dataset, _index: int) -> None:
    """A study and a frame of its own, and no reference to any image."""
    dataset.StudyInstanceUID = dataset.FrameOfReferenceUID = "1.2.3"
    del dataset.ReferencedSeriesSequence, dataset.SourceImageSequence
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence


def drawn_on(*slices: int) -> Check:
    """The lesions lie on these slices of the CT and on no other."""

    def check(done: Outcome, _baseline: Outcome) -> None:
        found = np.flatnonzero(done.array("label").any(axis=(1, 2)))
        assert found.tolist() == list(slices)

    return check


SECOND = np.zeros((SLICES, 24, 24), bool)
SECOND[1, 7:17, 7:17] = True
FIRST_AND_THIRD = SECOND[[1, 0, 1, 0]]
LABELS = {
    "duplicates: none, RTSTRUCT": case(drawn(MIDDLE), labelled(100), as_before, clean),
    "duplicates: none, SEG": case(segmented(SECOND), labelled(100), as_before, clean),
    "unknown patient": case(alone, refused("pairing", "without its images", file=""), as_before),
    "duplicates: the same file twice": case(
        copied_label(), refused("identity", "same bytes", file="copy.dcm"), labelled(100)
    ),
    "duplicates: the same contours in two objects": case(
        copied_label(SOPInstanceUID="1.2.3", SeriesInstanceUID="1.2.4"), labelled(100),
        noted("unites 2 label objects"), clean,
    ),
    "two ROIs of one number": case(
        drawn(MIDDLE, edit=two_of_one_number), refused("label", "(3006,0022) 1"), nothing
    ),
    "duplicates: one SOPInstanceUID, two contents": case(
        copied_label(StudyID="2"), refused("identity", "different bytes", file="copy.dcm"),
        refused_study("label", "copy.dcm"), nothing,
    ),
    "a contour outside the volume": case(
        drawn([square(-20, 20, 900.0)]), refused("label", "outside the CT"), nothing
    ),
    "a contour outside the volume: beside it": case(
        drawn([square(500, 540, 4.0)]), refused("label", "outside the CT"), nothing
    ),
    "a contour outside the volume: one of two": case(
        drawn([*MIDDLE, square(-20, 20, 900.0)]), labelled(100),
        noted("1 contours of the RTSTRUCT lie outside the CT"), clean,
    ),
    "a contour outside the volume: numbers that are no points": case(
        drawn(MIDDLE, edit=one_bad_number), refused("label"), nothing
    ),
    "a contour outside the volume: of an ROI that is not there": case(
        drawn(MIDDLE, edit=of_no_roi), refused("label"), nothing
    ),
    "(3006,0024) of another frame": case(
        drawn(MIDDLE, edit=in_another_frame), refused("label", "(3006,0024)"), nothing
    ),
    "(3006,0024) of another frame: but the CT's slices": case(
        drawn(MIDDLE, edit=on_the_cts_slice), labelled(100), noted("(3006,0024)"), clean
    ),
    "a SEG of zeros": case(
        segmented(SECOND & False, omit_empty_frames=False), noted("found no lesion"), as_before,
        clean,
    ),
    "a SEG without Spacing Between Slices": case(
        segmented(SECOND, edit=without_spacing), labelled(100), clean
    ),
    "a SEG without Spacing Between Slices: every second": case(
        segmented(FIRST_AND_THIRD, edit=without_spacing), drawn_on(0, 2), clean
    ),
    "a SEG without Modality": case(
        segmented(SECOND, edit=sets(Modality="")), labelled(100), clean
    ),
    "a SEG without Modality: but another one": case(
        segmented(SECOND, edit=sets(Modality="CT")), refused("unsupported", "Modality"),
        refused_study("label", "seg.dcm"), nothing,
    ),
    "a SEG cut short": case(
        rewritten("seg.dcm", lambda content: content[: len(content) // 2], segmented(SECOND)),
        refused_study("label"), nothing,
    ),
    "a LABELMAP SEG": case(segmented(SECOND, kind="LABELMAP"), labelled(100), clean),
    "a surface in a SEG": case(
        segmented(SECOND, edit=of_class(uid.SurfaceSegmentationStorage)),
        refused("unsupported", "Surface"), refused_study("label", "seg.dcm"), nothing,
    ),
    "a SEG in a study of its own": case(
        segmented(SECOND, edit=sets(StudyInstanceUID="1.2.3")), labelled(100), clean
    ),
    "a label of no images": case(
        segmented(SECOND, edit=of_nothing), refused_study("label", "seg.dcm"), nothing
    ),
    "a label whose StudyInstanceUID is no UID": case(
        segmented(SECOND, edit=sets(StudyInstanceUID="SEG", PatientID="=1+1")),
        refused("identity", "(0020,000D)"), refused_study("label", "seg.dcm"), nothing,
    ),
    "contours on every second slice": case(
        drawn([square(-20, 20, 0.0), square(-20, 20, 8.0)]), drawn_on(0, 2),
        noted("1 CT slices between drawn ones are empty (1)"), clean,
    ),
    "an RTSTRUCT that references another series": case(
        drawn(MIDDLE, on="elsewhere"), labelled(100), noted("references neither CT nor PET"), clean
    ),
    "an RTSTRUCT that references another series: in another frame": case(
        drawn(MIDDLE, edit=in_another_frame), refused("label", "(3006,0024)"), nothing
    ),
    "an RTSTRUCT that references another series: the PET": case(
        drawn(MIDDLE, on="PET"), labelled(100), noted("references the PET"), clean
    ),
}  # fmt: skip


def table(*lines: tuple[int, str], bom: str = "", end: str = "\n") -> Arrange:
    """A study, and a labels.csv of (CT slice, points) whose slice -1 is of nobody."""

    def arrange(folder: Path) -> None:
        a_study()(folder)
        text = ["sop_instance_uid,roi,points_mm"]
        for index, points in lines:
            slice_ = pydicom.dcmread(slice_file(folder, "CT", max(index, 0)))
            text.append(f"{slice_.SOPInstanceUID if index >= 0 else '1.2.3'},GTV,{points}")
        (folder.parent / "labels.csv").write_bytes((bom + end.join([*text, ""])).encode())

    return arrange


POINTS = " ".join(f"{value:.3f}" for value in MIDDLE[0].ravel())
OUTSIDE = " ".join(f"{value:.3f}" for value in square(500, 540, 4.0).ravel())
CSV = {
    "BOM": case(table((1, POINTS), bom="\ufeff"), labelled(100), clean),
    "CRLF": case(table((1, POINTS), end="\r\n"), labelled(100), clean),
    "BOM: and CRLF": case(table((1, POINTS), bom="\ufeff", end="\r\n"), labelled(100), clean),
    "unknown patient: in labels.csv": case(
        table((1, POINTS), (-1, POINTS)), labelled(100), refused("label", file="labels.csv")
    ),
    "duplicates: in labels.csv": case(
        table((1, POINTS), (1, POINTS)), labelled(100), refused("label", file="labels.csv")
    ),
    "a contour outside the volume: in labels.csv": case(
        table((1, OUTSIDE)), refused("label", file="labels.csv"), nothing
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LABELS)
def test_label(name: str, tmp_path: Path) -> None:
    run_case(LABELS[name], tmp_path)


@pytest.mark.skipif("csv" not in str(IngestParams.model_fields["labels"]), reason="no labels.csv")
@pytest.mark.parametrize("name", CSV)
def test_labels_csv(name: str, tmp_path: Path) -> None:
    run_case(CSV[name], tmp_path, labels="csv")


def test_organs_among_lesions(tmp_path: Path) -> None:
    """Without a pattern the run asks for one; with it the lesion alone is taken."""
    both = np.stack([~SECOND, SECOND], axis=-1)
    item = case(segmented(both, "liver", "adenocarcinoma"), labelled(100), clean)
    with pytest.raises(DatasetError, match=r"seg\.dcm \(adenocarcinoma, liver\)"):
        run_case(item, tmp_path / "without")
    run_case(item, tmp_path / "with", label_roi=".*carcinoma")


CASES = {
    **PAIRS,
    **LABELS,
    **CSV,
    "organs among lesions": test_organs_among_lesions,
    "study withdrawn after the split": test_study_withdrawn_after_the_split,
}
