"""What a study's page shows is what the pipeline has, where it has it, and no unopened label."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.core.errors import DatasetError, EvaluationError
from petct_uad.core.files import write_table
from petct_uad.slices.tables import ImageRow
from petct_uad.viewer.grids import view_grid, within
from petct_uad.viewer.nifti import pet_nifti
from petct_uad.viewer.page import render_page
from petct_uad.viewer.study import Place, StudyView, view_study
from tests.unit.viewer.conftest import (
    HOT,
    LEFT_OUT,
    PREPROCESS,
    STUDY,
    WARM,
    Study,
    image_rows,
)


def view(study: Study, *runs: str) -> StudyView:
    return view_study(STUDY, study.paths, PREPROCESS, runs)


def opened(nifti: bytes, folder: Path) -> sitk.Image:
    path = folder / "opened.nii.gz"
    path.write_bytes(nifti)
    return sitk.ReadImage(path, sitk.sitkFloat32)


def at(image: sitk.Image, mm: tuple[float, float, float]) -> float:
    """The value at a place that has NIfTI's axes."""
    index = image.TransformPhysicalPointToIndex((-mm[0], -mm[1], mm[2]))
    return float(image.GetPixel(index))


def native_mm(zyx: tuple[int, int, int]) -> tuple[float, float, float]:
    """A native voxel's centre, likewise."""
    z, y, x = zyx
    return -(-98.0 + 4 * x), -(-58.0 + 4 * y), -300.0 + 5 * z


def labelled_slices(shown: StudyView, folder: Path) -> list[int]:
    assert shown.label
    array = sitk.GetArrayFromImage(opened(shown.label, folder))
    return np.flatnonzero(array.any(axis=(1, 2))).tolist()


def test_values_lie_where_the_native_volumes_have_them(tested: Study, tmp_path: Path) -> None:
    shown = view(tested)
    ct, pet = opened(shown.ct, tmp_path), opened(shown.pet, tmp_path)
    assert at(ct, native_mm(WARM)) == pytest.approx(40, abs=1)
    assert at(pet, native_mm(HOT)) == pytest.approx(9.25, abs=0.01)
    assert at(pet, native_mm(WARM)) == pytest.approx(4.0, abs=0.01)


def test_no_label_of_the_test_split_is_shown_before_evaluate_has_opened_it(tested: Study) -> None:
    shown = view(tested)
    assert (shown.label, shown.lesions) == (None, ())
    assert "only evaluate opens labels of the test split, and has not" in shown.label_note


def test_of_a_test_study_the_label_is_shown_on_the_slices_that_evaluate_opened(
    tested: Study, tmp_path: Path
) -> None:
    tested.evaluate()
    shown = view(tested)
    assert labelled_slices(shown, tmp_path) == [1, 2, 5]
    assert LEFT_OUT not in labelled_slices(shown, tmp_path)
    assert shown.label_note == "Label shown on the 7 slices that evaluate has opened."


def test_of_a_training_study_the_whole_label_is_shown_and_no_map(
    trained: Study, tmp_path: Path
) -> None:
    shown = view(trained)
    assert labelled_slices(shown, tmp_path) == [1, 2, LEFT_OUT, 5]
    assert shown.rows == ()
    assert "only validation normals and test slices are scored" in shown.no_map_note


def test_a_page_without_a_map_says_why_and_what_to_run(tested: Study) -> None:
    assert view(tested).no_map_note == ""
    next(tested.paths.scores.rglob(f"*{STUDY}*")).unlink()
    assert "holds no scores of this study. Run `dvc repro`" in render_page(view(tested), 5.0)
    shutil.rmtree(tested.paths.scores)
    assert "holds no scores of any model. Run `dvc repro`" in render_page(view(tested), 5.0)


def test_a_validation_study_lacks_a_map_by_right_only_where_no_slice_is_normal(
    validating: Study,
) -> None:
    next(validating.paths.scores.rglob(f"*{STUDY}*")).unlink()
    assert "holds no scores of this study. Run `dvc repro`" in view(validating).no_map_note
    abnormal = [row for row in image_rows("val") if row.label == 1]
    write_table(validating.paths.processed / "index.csv", ImageRow, abnormal)
    assert "this study has none of them" in view(validating).no_map_note


def test_lesions_lead_to_their_suvmax_the_highest_first(tested: Study) -> None:
    tested.evaluate()
    hot, warm = view(tested).lesions
    assert hot == Place(native_mm(HOT), 9.25)
    assert warm.value == pytest.approx(4.0)


def test_findings_are_what_exceeds_the_threshold_and_lead_to_the_peak(
    tested: Study, tmp_path: Path
) -> None:
    tested.evaluate()
    (row,) = view(tested).rows
    assert [place.value for place in row.findings] == [4.0, 2.0]  # 0.5 is below
    anomaly_map = opened(row.nifti, tmp_path)
    for place in row.findings:
        assert at(anomaly_map, place.mm) == pytest.approx(place.value, abs=4 / 255)


def test_without_results_there_are_maps_and_scores_but_no_threshold(tested: Study) -> None:
    (row,) = view(tested).rows
    assert (row.auroc, row.threshold, row.findings) == (None, None, ())
    assert {x.slice_index: x.score for x in row.scores}[2] == 4.0
    assert LEFT_OUT not in {x.slice_index for x in row.scores}


def test_a_place_says_which_slice_it_is_on(tested: Study) -> None:
    shown = view(tested)
    right, front, up, first = shown.to_slice
    x, y, z = native_mm(HOT)
    assert right * x + front * y + up * z + first == pytest.approx(HOT[0])
    assert len(shown.slice_ids) == 8


def test_the_same_study_gives_the_same_bytes(tested: Study) -> None:
    tested.evaluate()
    first, second = (render_page(view(tested), 5.0) for _ in range(2))
    assert first == second
    assert "Research software, not for clinical use" in first


def test_a_study_or_row_that_is_not_there_is_named_with_the_nearest(tested: Study) -> None:
    with pytest.raises(DatasetError, match=f"p-0a_1c: no study of .*{STUDY}"):
        view_study("p-0a_1c", tested.paths, PREPROCESS)
    with pytest.raises(EvaluationError, match=r"twin-pet: no row in .*There are: twin-petct"):
        view(tested, "twin-pet")


def test_maps_of_another_image_size_are_refused(tested: Study) -> None:
    other = PREPROCESS.model_copy(update={"image_size_px": 64})
    with pytest.raises(EvaluationError, match=r"maps of 32 pixels, but params.yaml asks for 64"):
        view_study(STUDY, tested.paths, other)


def test_a_large_study_lies_on_a_coarser_grid_of_the_same_extent() -> None:
    body = sitk.Image(200, 160, 900, sitk.sitkUInt8)
    body.SetSpacing((2.0, 2.0, 1.0))
    grid = view_grid(body, 5_000_000)
    assert np.prod(grid.GetSize()) <= 5_000_000
    extent = [n * mm for n, mm in zip(grid.GetSize(), grid.GetSpacing(), strict=True)]
    assert extent == pytest.approx([420, 340, 900])
    assert max(grid.GetSpacing()) < 2 * min(grid.GetSpacing())
    edge = grid.TransformContinuousIndexToPhysicalPoint((-0.5, -0.5, -0.5))
    assert edge == pytest.approx((-11.0, -11.0, -0.5))


def test_a_small_grid_stays_as_it_is() -> None:
    grid = sitk.Image(5, 4, 3, sitk.sitkUInt8)
    grid.SetOrigin((1.0, 2.0, 3.0))
    same = within(grid, 60)
    assert (same.GetSize(), same.GetOrigin()) == (grid.GetSize(), grid.GetOrigin())


def test_a_bladder_of_1000_suv_is_shown_as_such(tmp_path: Path) -> None:
    pet = sitk.Image(2, 1, 1, sitk.sitkFloat32)
    pet.SetPixel(0, 0, 0, 1000.0)
    assert opened(pet_nifti(pet), tmp_path).GetPixel(0, 0, 0) == pytest.approx(1000.0, rel=1e-4)
