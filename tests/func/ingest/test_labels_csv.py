"""Lesion contours in labels.csv: drawn like any other label, or refused by line."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from scipy import ndimage
from skimage.measure import find_contours

from petct_uad.core.errors import LabelError
from petct_uad.ingest.run import derivations
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams
from tests.func.ingest.conftest import Patient, Run, draw_roi, save

HEADER = "sop_instance_uid,roi,points_mm"
SQUARE = "-20 -20 16 20 -20 16 20 20 16 -20 20 16"
HOLE = "-8 -8 16 8 -8 16 8 8 16 -8 8 16"
BESIDE = "0 0 16 40 0 16 40 40 16 0 40 16"  # a quarter of it in SQUARE


@pytest.fixture
def case(patient: Callable[..., Patient]) -> Patient:
    return patient("good").both()


@pytest.fixture
def write(raw: Path, case: Patient) -> Callable[..., None]:
    """Write labels.csv; {ct} and {pet} stand for the slices at 16 mm."""

    def write_lines(*lines: str, header: str = HEADER, end: str = "\n", bom: bool = False) -> None:
        uids = {"ct": case.uid("CT-4"), "pet": case.uid("PET-4")}
        text = end.join([header, *(line.format(**uids) for line in lines), ""])
        (raw / "labels.csv").write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))

    return write_lines


def mask(done: Run) -> np.ndarray:
    (study,) = done.tables.studies
    image = sitk.ReadImage(done.out / "volumes" / study.study_id / "label.nii.gz")
    voxels: np.ndarray = sitk.GetArrayFromImage(image) > 0
    return voxels


@pytest.mark.parametrize("modality", ["ct", "pet"])
@pytest.mark.parametrize(("end", "bom"), [("\n", False), ("\r\n", True)])
def test_contour_is_drawn_on_the_ct(
    write: Callable[..., None], run: Callable[..., Run], modality: str, end: str, bom: bool
) -> None:
    write(f"{{{modality}}},tumour,{SQUARE}", f"{{{modality}}},tumour,{HOLE}", end=end, bom=bom)
    done = run(labels="csv")
    assert not done.tables.rejected
    study = done.tables.studies[0]
    assert (study.label_kind, study.lesion_kind) == ("csv", "tumour")
    assert mask(done).sum() == mask(done)[4].sum() == 100 - 16


def test_contour_of_very_many_points_is_drawn(
    write: Callable[..., None], run: Callable[..., Run]
) -> None:
    """More characters than Python's csv reads in a field by itself: SQUARE, along each side."""
    corners = np.array(SQUARE.split(), float).reshape(4, 3)
    between = np.linspace(0, 1, 3000, endpoint=False)[:, None]
    sides = [a + between * (b - a) for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)]
    points = " ".join(f"{value:.9f}" for value in np.concatenate(sides).ravel())
    longest = csv.field_size_limit()
    assert len(points) > longest
    write(f"{{ct}},tumour,{points}")
    assert mask(run(labels="csv")).sum() == 100
    assert csv.field_size_limit() == longest, "a bound for every other table too"


@pytest.mark.parametrize("other", ["heart", "tumour_edema"])
def test_label_roi_picks_the_lesions(
    write: Callable[..., None], run: Callable[..., Run], other: str
) -> None:
    write(f"{{ct}},tumour,{SQUARE}", f"{{ct}},{other},{BESIDE}")
    done = run(labels="csv", label_roi="tumour")
    assert mask(done).sum() == 100
    assert done.tables.studies[0].lesion_kind == "tumour"


def test_rois_that_overlap_are_united(write: Callable[..., None], run: Callable[..., Run]) -> None:
    write(f"{{ct}},tumour,{SQUARE}", f"{{ct}},node,{BESIDE}")
    assert mask(run(labels="csv")).sum() == 175


def test_contour_less_than_half_a_slice_off_is_of_its_slice(
    write: Callable[..., None], run: Callable[..., Run]
) -> None:
    write(f"{{ct}},tumour,{SQUARE.replace('16', '17.9')}")
    assert mask(run(labels="csv"))[4].sum() == 100


def test_table_is_no_label_unless_asked_for(
    write: Callable[..., None], run: Callable[..., Run]
) -> None:
    write(f"{{ct}},tumour,{SQUARE}")
    done = run()
    assert done.tables.studies[0].label_kind == "none"
    assert [row.subject for row in done.tables.rejected] == ["labels.csv"]


def test_same_line_twice_counts_once(write: Callable[..., None], run: Callable[..., Run]) -> None:
    write(f"{{ct}},tumour,{SQUARE}", f"{{ct}},tumour,{SQUARE}")
    done = run(labels="csv")
    assert mask(done).sum() == 100
    assert [row.found for row in done.tables.rejected] == ["line 3: the contour of line 2 again"]


def test_columns_may_be_named_again_where_tables_were_joined(
    write: Callable[..., None], run: Callable[..., Run]
) -> None:
    write(f"{{ct}},tumour,{SQUARE}", HEADER)
    done = run(labels="csv")
    assert mask(done).sum() == 100
    assert [row.found for row in done.tables.rejected] == ["line 3: the columns of line 1 again"]


def test_unknown_slice_is_refused_by_line_and_the_rest_goes_on(
    write: Callable[..., None], run: Callable[..., Run]
) -> None:
    write(f"1.2.3,tumour,{SQUARE}", f"{{ct}},tumour,{SQUARE}")
    done = run(labels="csv")
    assert mask(done).sum() == 100
    assert [(row.code, row.found) for row in done.tables.rejected] == [
        ("label", "line 2: SOPInstanceUID 1.2.3")
    ]


@pytest.mark.parametrize(
    ("points", "found"),
    [
        ("1 2 3 4 5 6", "points_mm"),
        ("-20 -20 16 20 -20 16 20 20", "points_mm"),
        ("-20 -20 16 20 -20 16 20 nan 16", "points_mm"),
        ("here", "points_mm"),
        ("", "points_mm"),
        (SQUARE.replace("16", "24"), "8.00 mm from the plane"),
        (SQUARE.replace("16", "19"), "3.00 mm from the plane"),
        ("900 900 16 920 900 16 920 920 16", "wholly outside"),
    ],
)
def test_bad_contour_refuses_its_study_and_no_other(
    write: Callable[..., None],
    run: Callable[..., Run],
    patient: Callable[..., Patient],
    points: str,
    found: str,
) -> None:
    patient("other").both()
    write(f"{{ct}},tumour,{points}")
    done = run(labels="csv")
    assert [study.patient for study in done.tables.studies] == ["other"]
    (row,) = done.tables.rejected
    assert (row.subject, row.code) == ("labels.csv", "label")
    assert found in row.found
    assert row.found.startswith("line 2")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "columns missing"),
        (b"patient,slice\n1,2\n", "columns patient,slice"),
        (f"{HEADER}\n1.2,tumour\n".encode(), "line 2: 2 columns"),
        (f"{HEADER}\n1.2;3,tumour,{SQUARE}\n".encode(), "line 2: SOPInstanceUID 1.2;3"),
        (f"{HEADER}\n,tumour,{SQUARE}\n".encode(), "line 2: SOPInstanceUID missing"),
        (b"\xff\xfe\x00", "UnicodeDecodeError"),
        (None, "no such file"),
    ],
)
def test_broken_table_stops_since_any_lesion_could_be_missing(
    case: Patient, run: Callable[..., Run], raw: Path, content: bytes | None, found: str
) -> None:
    if content is not None:
        (raw / "labels.csv").write_bytes(content)
    with pytest.raises(LabelError, match=found):
        run(labels="csv")


def test_label_derives_from_the_table(
    write: Callable[..., None], run: Callable[..., Run], raw: Path
) -> None:
    write(f"{{ct}},tumour,{SQUARE}")
    done = run(labels="csv")
    found = derivations(done.out, Path("ingest"), raw)
    label = next(item for item in found if item.output.id.endswith("label.nii.gz"))
    assert f"file:{raw.as_posix()}/labels.csv" in {source.id for source in label.inputs}


def test_contour_twice_in_an_rtstruct_is_no_hole_in_itself(
    case: Patient, run: Callable[..., Run]
) -> None:
    square = np.array(SQUARE.split(), float).reshape(-1, 3)
    case.rtstruct([square, square])
    assert mask(run()).sum() == 100


def test_points_in_an_rtstruct_are_counted_in_the_notes(
    case: Patient, run: Callable[..., Run]
) -> None:
    def mark(dataset: Dataset, _index: int) -> None:
        dataset.ROIContourSequence[0].ContourSequence[1].ContourGeometricType = "POINT"

    square = np.array(SQUARE.split(), float).reshape(-1, 3)
    case.rtstruct([square, square + 1], edit=mark)
    assert "1 contours of the RTSTRUCT enclose nothing" in run().tables.studies[0].notes


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One digital patient with a lesion; its folder."""
    folder = tmp_path_factory.mktemp("phantom")
    params = PhantomParams(
        patients=4, seed=3, extent_mm=80.0, ct_matrix=128, max_shift_mm=8.0, max_rotation_deg=2.0
    )
    make_cohort(params, folder / "raw", folder / "truth", workers=1)
    return next((folder / "raw").glob("*/SEG/*.dcm")).parents[1]


def test_seg_rtstruct_and_csv_give_the_same_mask(
    phantom: Path, raw: Path, run: Callable[..., Run]
) -> None:
    shutil.copytree(phantom, raw / "patient")
    seg = highdicom.seg.segread(next(raw.rglob("SEG*.dcm")))
    contours = list(contours_of(seg, raw / "patient" / "CT"))
    rows = [f"{uid},lesion,{' '.join(f'{v:.4f}' for v in p.ravel())}" for uid, p in contours]
    (raw / "labels.csv").write_text("\n".join([HEADER, *rows]))
    save(rtstruct(seg, contours), raw / "patient" / "RS.dcm")
    masks = [mask(run(labels=kind)).astype(bool) for kind in ("seg", "rtstruct", "csv")]
    assert masks[0].sum() > 50
    edge = ndimage.generate_binary_structure(3, 3)
    outer = ndimage.binary_dilation(masks[0], edge)
    inner = ndimage.binary_erosion(masks[0], edge)
    for drawn in masks[1:]:
        assert not (drawn & ~outer).any()
        assert not (inner & ~drawn).any()
        assert drawn.sum() == pytest.approx(masks[0].sum(), rel=0.02)
    assert np.array_equal(masks[1], masks[2])


def contours_of(seg: highdicom.seg.Segmentation, ct: Path) -> Any:
    """Outlines of the lesions on each CT slice in mm, with the slice's SOPInstanceUID."""
    for file in sorted(ct.glob("*.dcm")):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        plane = seg.get_pixels_by_source_instance(
            [header.SOPInstanceUID], combine_segments=True, ignore_spatial_locations=True,
            skip_overlap_checks=True, assert_missing_frames_are_empty=True,
        )[0]  # fmt: skip
        left, top, height = map(float, header.ImagePositionPatient)
        row_mm, column_mm = map(float, header.PixelSpacing)
        for outline in find_contours(np.pad(plane > 0, 1).astype(float), 0.5):
            x = left + (outline[:-1, 1] - 1) * column_mm
            y = top + (outline[:-1, 0] - 1) * row_mm
            yield header.SOPInstanceUID, np.stack([x, y, np.full_like(x, height)], axis=1)


def rtstruct(seg: Dataset, contours: list[tuple[str, np.ndarray]]) -> Dataset:
    """A structure set (PS3.3 A.19) with one ROI on the CT that the SEG was drawn on."""
    dataset = Dataset()
    dataset.SOPClassUID = pydicom.uid.RTStructureSetStorage
    dataset.SOPInstanceUID = f"{seg.SOPInstanceUID}.1"[-60:].lstrip(".0")
    dataset.SeriesInstanceUID = f"{seg.SeriesInstanceUID}.1"[-60:].lstrip(".0")
    dataset.Modality = "RTSTRUCT"
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientBirthDate",
                 "PatientSex"):  # fmt: skip
        setattr(dataset, name, seg.get(name))
    series_uid = seg.ReferencedSeriesSequence[0].SeriesInstanceUID
    draw_roi(dataset, [points for _, points in contours], series_uid, "lesion")
    return dataset
