"""Robustness, series level: which files make a stack, and which stack is the study's CT or PET."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from tests.func.ingest.conftest import Edit, Patient
from tests.func.ingest.hostile import (
    SLICES,
    Arrange,
    Check,
    Outcome,
    a_study,
    and_then,
    as_before,
    case,
    clean,
    ct,
    gives,
    noted,
    nothing,
    only,
    passed_over,
    pet,
    refused,
    run_case,
    save_as,
    sets,
    slice_file,
)

# What tells the frames of a dynamic PET apart, and the gates of a gated one.
TOLD_BY: dict[str, Callable[[int], dict[str, object]]] = {
    "DYNAMIC": lambda frame: {
        "NumberOfTimeSlices": 3, "AcquisitionTime": f"10{frame:02d}00",
        "FrameReferenceTime": str(60_000 * frame + 30_000),
    },
    "GATED": lambda frame: {"NumberOfTimeSlots": 3, "TriggerTime": str(300 * frame)},
}  # fmt: skip
THIN_MM = 1.5  # mm between the slices of a thin CT


def copied(**values: object) -> Arrange:
    """CT slice 1 a second time, with some values changed."""

    def copy(folder: Path) -> None:
        dataset = pydicom.dcmread(slice_file(folder, "CT", 1))
        save_as(dataset, folder / "copy.dcm", **values)

    return and_then(a_study(), copy)


def with_more(name: str, edit: Edit, slices: int = SLICES, modality: str = "CT") -> Arrange:
    """A study with one more series, in a folder of that name."""

    def arrange(folder: Path) -> None:
        made = Patient(folder, "Q7", slices=SLICES).both()
        made.slices = slices
        (made.ct if modality == "CT" else made.pet)(name, edit)

    return arrange


def frames(kind: str, backward: bool = False, together: bool = True) -> Arrange:
    """A study whose PET has three frames or gates, in one series or one each."""

    def arrange(folder: Path) -> None:
        made = Patient(folder, "Q7", slices=SLICES)
        made.ct()
        for frame in range(3):

            def edit(dataset: Dataset, index: int, frame: int = frame) -> None:
                sets(SeriesType=[kind, "IMAGE"], **TOLD_BY[kind](frame))(dataset, index)
                dataset.SOPInstanceUID = made.uid(f"{frame}-{index}")
                dataset.SeriesInstanceUID = made.uid("frames" if together else f"frame {frame}")

            made.pet(f"PET{2 - frame if backward else frame}", edit)

    return arrange


def report(sop_class: str) -> Arrange:
    """An object beside the images that is no volume."""

    def arrange(folder: Path) -> None:
        dataset = pydicom.dcmread(slice_file(folder, "CT", 1))
        del dataset.PixelData
        made = uid.generate_uid(entropy_srcs=[sop_class])
        save_as(dataset, folder / "odd.dcm", SOPClassUID=sop_class, SOPInstanceUID=made,
                SeriesInstanceUID=made + ".1")  # fmt: skip

    return and_then(a_study(), arrange)


def mixed_folders(folder: Path) -> None:
    """CT and PET in one folder, and half of the CT in another."""
    a_study()(folder)
    for role in ("CT", "PET"):
        for index in range(SLICES):
            file = slice_file(folder, role, index)
            home = folder / ("far" if role == "CT" and index % 2 else "near")
            home.mkdir(exist_ok=True)
            file.rename(home / f"{role}-{file.name}")


def add_pet(folder: Path) -> None:
    """A plain PET of the same study."""
    Patient(folder, "Q7", slices=SLICES).pet()


def chest(dataset: Dataset, index: int) -> None:
    """Thin slices over the middle half."""
    dataset.ImagePositionPatient[2] = 4.0 + index
    dataset.SliceThickness = 1.0


def only_one_folder(folder: Path) -> None:
    a_study()(folder)
    for role in ("CT", "PET"):
        for index in range(SLICES):
            file = slice_file(folder, role, index)
            file.rename(folder / f"{role}{file.name}")


def swapped_folders(folder: Path) -> None:
    """CT files in a folder PET, and PET files in a folder CT: names mean nothing."""
    a_study()(folder)
    home = next(folder.iterdir())
    (home / "CT").rename(home / "x")
    (home / "PET").rename(home / "CT")
    (home / "x").rename(home / "PET")


def without(role: str, index: int) -> Arrange:
    return and_then(a_study(), lambda folder: slice_file(folder, role, index).unlink())


def moved(z_mm: dict[int, float]) -> Edit:
    """Slices at other heights."""

    def edit(dataset: Dataset, index: int) -> None:
        if index in z_mm:
            dataset.ImagePositionPatient[2] = z_mm[index]

    return edit


def tilted(dataset: Dataset, index: int) -> None:
    """A gantry tilt of 10 degrees: slices lean, but are stacked along the table."""
    c, s = float(np.cos(np.radians(10))), float(np.sin(np.radians(10)))
    dataset.ImageOrientationPatient = [1, 0, 0, 0, c, s]
    x, y, _ = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, round(y * c, 6), round(y * s + 4.0 * index, 6)]


def turned(dataset: Dataset, index: int) -> None:
    """The whole scan turned by 10 degrees about x: an oblique, but regular grid."""
    c, s = float(np.cos(np.radians(10))), float(np.sin(np.radians(10)))
    dataset.ImageOrientationPatient = [1, 0, 0, 0, c, s]
    x, y, _ = dataset.ImagePositionPatient
    z = 4.0 * index
    dataset.ImagePositionPatient = [x, round(y * c - z * s, 6), round(y * s + z * c, 6)]


def feet_first(dataset: Dataset, _index: int) -> None:
    """Rows and the table run the other way, as a scanner stores a patient put in feet first."""
    dataset.PatientPosition = "FFS"
    dataset.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient[0] *= -1


def on_the_oblique_grid(done: Outcome, baseline: Outcome) -> None:
    """Voxels stay as they were; the affine is turned by 10 degrees."""
    for name in ("ct", "pet"):
        assert np.array_equal(done.array(name), baseline.array(name))
        cosine = done.image(name).GetDirection()[8]
        assert cosine == pytest.approx(np.cos(np.radians(10)), abs=1e-6)


def feet_first_grid(done: Outcome, baseline: Outcome) -> None:
    """Slices run along their own normal, from the highest z down, and so does the affine."""
    for name in ("ct", "pet"):
        image, before = done.image(name), baseline.image(name)
        assert np.array_equal(done.array(name), baseline.array(name)[::-1])
        assert image.GetDirection() == (-1, 0, 0, 0, 1, 0, 0, 0, -1)
        assert image.GetOrigin()[2] == pytest.approx(4.0 * (SLICES - 1))
        assert image.GetOrigin()[0] == pytest.approx(-before.GetOrigin()[0])


def slices_kept(role: str, kept: slice) -> Check:
    return gives(role, lambda before: before[kept])


def chosen_ct_slices(count: int) -> Check:
    def check(done: Outcome, _baseline: Outcome) -> None:
        assert done.study().ct_slices == count

    return check


def enhanced(folder: Path) -> None:
    dataset = pydicom.dcmread(slice_file(folder, "PET", 1))
    made = uid.generate_uid(entropy_srcs=["enhanced"])
    save_as(dataset, folder / "enhanced.dcm", SOPClassUID=uid.EnhancedPETImageStorage,
            SOPInstanceUID=made, SeriesInstanceUID=made + ".1", NumberOfFrames=4,
            PixelData=dataset.PixelData * 4)  # fmt: skip


IMAGE = ["ORIGINAL", "PRIMARY"]
CASES = {
    "duplicate SOPInstanceUID with the same bytes": case(
        copied(), refused("identity", "same bytes", file="copy.dcm"), as_before
    ),
    "duplicate SOPInstanceUID with different bytes": case(
        copied(InstanceNumber=5), refused("identity", "different bytes", file="copy.dcm"),
        refused("identity", "different bytes", file="CT/98.dcm"), nothing,
    ),
    "two series in one folder": case(only_one_folder, as_before, clean),
    "one series over two folders": case(mixed_folders, as_before, clean),
    "CT and PET swapped: folders": case(swapped_folders, as_before, clean),
    "CT and PET swapped: Modality": case(
        a_study(ct=sets(Modality="PT"), pet=sets(Modality="CT")),
        refused("unsupported", "Modality (0008,0060)", file="CT/98.dcm"),
        refused("unsupported", "Modality (0008,0060)", file="PET/98.dcm"), nothing,
    ),
    "thin and thick CT in one study": case(
        with_more("thin", moved({i: THIN_MM * i for i in range(9)}), 9), chosen_ct_slices(9),
        passed_over("CT/98.dcm"), gives("pet"), clean,
    ),
    "attenuation-corrected and uncorrected PET": case(
        with_more("A-NAC", sets(CorrectedImage=["DECY"]), SLICES + 3, "PET"), as_before,
        passed_over("A-NAC/98.dcm"), clean,
    ),
    "topogram": case(
        with_more("topogram", sets(ImageType=[*IMAGE, "LOCALIZER"])), as_before,
        passed_over("topogram/98.dcm", "LOCALIZER"), clean,
    ),
    "topogram: sagittal": case(
        with_more("scout", sets(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])), as_before,
        passed_over("scout/98.dcm", "not axial"), clean,
    ),
    "MIP": case(
        with_more("MIP", sets(ImageType=["DERIVED", "SECONDARY", "MIP"]), SLICES + 3, "PET"),
        as_before, passed_over("MIP/98.dcm", "MIP"), clean,
    ),
    "dose report: structured": case(
        report(uid.XRayRadiationDoseSRStorage), refused("unsupported", "Dose", file="odd.dcm"),
        as_before,
    ),
    "dose report: screen": case(
        with_more("dose", sets(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])), as_before,
        passed_over("dose/98.dcm", "SCREEN SAVE"), clean,
    ),
    "secondary capture": case(
        report(uid.SecondaryCaptureImageStorage),
        refused("unsupported", "Secondary Capture", file="odd.dcm"), as_before,
    ),
    "missing first slice": case(
        without("CT", 0), slices_kept("ct", slice(1, None)), gives("pet"), noted("slice"), clean
    ),
    "missing first slice: PET": case(
        without("PET", 0), slices_kept("pet", slice(1, None)), gives("ct"),
        noted("starts 4.00 mm after"), clean,
    ),
    "missing middle slice": case(without("CT", 1), refused("geometry", "gap of 8.000 mm"), nothing),
    "missing middle slice: PET": case(
        without("PET", 1), refused("geometry", "gap of 8.000 mm"), nothing
    ),
    "missing last slice": case(
        without("CT", 3), slices_kept("ct", slice(None, -1)), gives("pet"), noted("slice"), clean
    ),
    "missing last slice: PET": case(
        without("PET", 3), slices_kept("pet", slice(None, -1)), gives("ct"),
        noted("ends 4.00 mm before"), clean,
    ),
    "duplicate slice position": case(
        ct(moved({2: 4.0})), refused("geometry", "4.000 mm twice"), nothing
    ),
    "uneven gaps": case(ct(moved({2: 9.0})), refused("geometry", "mm"), nothing),
    "uneven gaps: within the tolerance": case(
        ct(moved({2: 8.05})), gives("ct"), gives("pet"), clean
    ),
    "uneven gaps: drifting": case(
        ct(moved({0: 0.0, 1: 4.0, 2: 8.15, 3: 12.45})), refused("geometry", "mm"), nothing
    ),
    "gantry tilt": case(ct(tilted), refused("geometry", "tilt"), nothing),
    "reversed InstanceNumber": case(
        a_study(ct=lambda dataset, index: setattr(dataset, "InstanceNumber", index)), as_before,
        clean,
    ),
    "reversed InstanceNumber: missing": case(ct(sets(InstanceNumber=None)), as_before, clean),
    "oblique": case(a_study(ct=turned, pet=turned), on_the_oblique_grid, clean),
    "oblique: vectors that are not orthogonal": case(
        ct(sets(ImageOrientationPatient=[1, 0, 0, 0.5, 1, 0])),
        refused("geometry", "(0020,0037)"), nothing,
    ),
    "feet-first": case(a_study(ct=feet_first, pet=feet_first), feet_first_grid, clean),
    "mixed orientation": case(
        ct(only(1, sets(ImageOrientationPatient=[-1, 0, 0, 0, 1, 0]))), refused("geometry"), nothing
    ),
    "mixed Rows": case(
        ct(only(1, sets(Rows=12, PixelData=bytes(12 * 24 * 2)))), refused("geometry"), nothing
    ),
    "mixed Columns": case(
        ct(only(1, sets(Columns=12, PixelData=bytes(12 * 24 * 2)))), refused("geometry"), nothing
    ),
    "mixed spacing": case(ct(only(1, sets(PixelSpacing=[5, 5]))), refused("geometry"), nothing),
    "missing PixelSpacing": case(
        ct(sets(PixelSpacing=None)), refused("geometry", "PixelSpacing (0028,0030)"), nothing
    ),
    "missing PixelSpacing: on one slice": case(
        ct(only(1, sets(PixelSpacing=None))), refused("geometry"), nothing
    ),
    "missing PixelSpacing: zero": case(
        pet(sets(PixelSpacing=[0, 0])), refused("geometry", "PixelSpacing (0028,0030)"), nothing
    ),
    "missing ImagePositionPatient": case(
        ct(sets(ImagePositionPatient=None)),
        refused("geometry", "ImagePositionPatient (0020,0032)"), nothing,
    ),
    "missing ImagePositionPatient: on one slice": case(
        pet(only(2, sets(ImagePositionPatient=None))),
        refused("geometry", "ImagePositionPatient (0020,0032)"), nothing,
    ),
    "missing ImagePositionPatient: ImageOrientationPatient": case(
        ct(sets(ImageOrientationPatient=None)),
        refused("geometry", "ImageOrientationPatient (0020,0037)"), nothing,
    ),
    "dynamic PET": case(
        frames("DYNAMIC"), refused("frames", "a dynamic PET of 3 frames", file=""), nothing
    ),
    "dynamic PET: in another order of its files": case(
        frames("DYNAMIC", backward=True),
        refused("frames", "a dynamic PET of 3 frames", file=""), nothing,
    ),
    "dynamic PET: a series for each frame": case(
        frames("DYNAMIC", together=False),
        refused("frames", "a dynamic PET of 3 frames", file=""), nothing,
    ),
    "gated PET": case(
        frames("GATED"), refused("frames", "a gated PET of 3 gates", file=""), nothing
    ),
    "gated PET: beside one that is not": case(
        and_then(frames("GATED"), add_pet),
        refused("frames", "a gated PET of 3 gates", file=""), as_before,
    ),
    "chest CT beside a whole-body CT": case(
        with_more("A-chest", chest, 2 * SLICES), as_before,
        passed_over("A-chest/98.dcm", "fewer mm over the PET"), clean,
    ),
    "early and late PET": case(
        with_more("PET-late", sets(AcquisitionTime="110000"), modality="PET"),
        noted("another PET would have done as well"), clean,
    ),
    "enhanced multi-frame PET: without its functional groups": case(
        and_then(a_study(), enhanced),
        refused("unsupported|geometry|pixels|units|identity", file="enhanced.dcm"), as_before,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_series(name: str, tmp_path: Path) -> None:
    run_case(CASES[name], tmp_path)
