"""Slices get the label and the split that the protocol promises."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.core.errors import DatasetError, RegistrationError, SplitError
from petct_uad.core.patient_split import Part, read_patient_split, write_patient_split
from petct_uad.ingest.tables import DRAWN_ON_CT, DRAWN_ON_PET, NEGATIVE, UNLABELLED, StudyRow
from petct_uad.slices.tables import SliceRow
from petct_uad.split.labels import assign_splits, label_slices, split_slices
from petct_uad.split.params import SplitParams
from petct_uad.split.patients import assign_patients
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import write_transform
from petct_uad.volumes.study import VolumeFolders
from tests.samples import study_row

SPACING_MM = (2.0, 2.0, 5.0)
STILL = RigidTransform()


def split_params(**changes: object) -> SplitParams:
    values = {
        "protocol": "patient",
        "seed": 0,
        "assign": "shuffle",
        "train_fraction": 0.5,
        "val_fraction": 0.125,
        "folds": 0,
        "fold": 0,
        "test_patients": "all",
        "min_lesion_area_mm2": 20.0,
        "guard_mm": 5.0,
        "unlabelled": "normal",
        "duplicates": "drop",
    }
    return SplitParams.model_validate(values | changes)


def study(patient: str, *, scanner: str = "GE", kind: str = "none", label: str = "seg") -> StudyRow:
    return study_row(
        study_id=f"{patient}_x",
        patient=patient,
        scanner=scanner,
        label_series_instance_uid="3",
        label_kind=label,
        lesion_kind=kind,
        ct_slices=10,
        pet_slices=10,
    )


def write_study(
    folder: Path,
    row: StudyRow,
    lesion_px: list[int] | None,
    *,
    empty: tuple[int, ...] = (),
    drawn_on: int = DRAWN_ON_CT,
    motion: RigidTransform = STILL,
) -> None:
    """A study whose slice i holds lesion_px[i] lesion pixels of 4 mm2 each, and body or air."""
    count = len(lesion_px) if lesion_px else 10
    mask = np.zeros((count, 32, 32), np.uint8)
    for i, pixels in enumerate(lesion_px or []):
        mask[i].reshape(-1)[:pixels] = drawn_on
    body = np.ones(mask.shape, np.uint8)
    body[list(empty)] = 0
    for path, array in (
        (volumes(folder).study(row.study_id).body, body),
        (native_label(folder, row), mask),
    ):
        if array is body or lesion_px is not None:
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(SPACING_MM)
            path.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, path)
    write_transform(volumes(folder).study(row.study_id).transform, motion)


def volumes(folder: Path) -> VolumeFolders:
    return VolumeFolders(folder / "ingest", folder / "register")


def native_label(folder: Path, row: StudyRow) -> Path:
    return folder / "ingest" / row.study_id / "label.nii.gz"


def test_label_follows_lesion_area_with_doubtful_slices_excluded(tmp_path: Path) -> None:
    row = study("P1")
    write_study(tmp_path, row, [0, 0, 0, 2, 5, 9, 0, 0, 0])
    rows = label_slices([row], volumes(tmp_path), split_params())
    assert [r.label for r in rows] == [0, 0, 0, 0, 1, 1, 0, 0, 0]
    excluded = {r.slice_index: r.reason for r in rows if r.split == "excluded"}
    assert excluded == {
        3: "lesion smaller than min_lesion_area_mm2",
        6: "within guard_mm of an abnormal slice",
    }
    assert rows[4].lesion_area_mm2 == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("drawn_on", "abnormal"),
    [
        (DRAWN_ON_CT, [4, 5]),
        (DRAWN_ON_PET, [3, 4]),  # the PET lies a slice higher than its CT
        (DRAWN_ON_CT | DRAWN_ON_PET, [3, 4, 5]),
    ],
    ids=["on the CT", "on the PET", "on both"],
)
def test_a_lesion_lies_on_the_slices_where_its_own_images_are_shown(
    tmp_path: Path, drawn_on: int, abnormal: list[int]
) -> None:
    row, up = study("P1"), RigidTransform(translation_mm=(0.0, 0.0, SPACING_MM[2]))
    write_study(tmp_path, row, [0, 0, 0, 0, 9, 9, 0, 0, 0], drawn_on=drawn_on, motion=up)
    rows = label_slices([row], volumes(tmp_path), split_params())
    assert [r.slice_index for r in rows if r.label] == abnormal


def test_a_lesion_is_measured_on_the_slices_that_were_kept(tmp_path: Path) -> None:
    row = study("P1")
    write_study(tmp_path, row, [0, 9, 8, 7, 6, 5])
    body = sitk.ReadImage(volumes(tmp_path).study(row.study_id).body)
    sitk.WriteImage(body[:, :, 2:5], volumes(tmp_path).study(row.study_id).body)
    rows = label_slices([row], volumes(tmp_path), split_params())
    assert [r.lesion_area_mm2 for r in rows] == pytest.approx([32.0, 28.0, 24.0])
    assert [r.z_mm for r in rows] == pytest.approx([10.0, 15.0, 20.0])


def test_a_label_of_another_ct_is_refused(tmp_path: Path) -> None:
    row = study("P1")
    write_study(tmp_path, row, [0, 9])
    label = sitk.ReadImage(native_label(tmp_path, row))
    label.SetOrigin((0.0, 0.0, 2.0))
    sitk.WriteImage(label, native_label(tmp_path, row))
    with pytest.raises(RegistrationError, match="run register again"):
        label_slices([row], volumes(tmp_path), split_params())


def test_slice_without_a_body_is_excluded_whatever_its_label(tmp_path: Path) -> None:
    row = study("P1")
    write_study(tmp_path, row, [0, 0, 0, 0, 9, 9], empty=(0, 5))
    excluded = {
        r.slice_index: r.reason
        for r in label_slices([row], volumes(tmp_path), split_params(guard_mm=0.0))
        if r.split == "excluded"
    }
    assert excluded == dict.fromkeys((0, 5), "hardly any body on the slice")


def test_without_a_least_area_a_slice_without_lesion_is_still_normal(tmp_path: Path) -> None:
    row = study("P1")
    write_study(tmp_path, row, [0, 0, 1, 0, 0])
    rows = label_slices(
        [row], volumes(tmp_path), split_params(min_lesion_area_mm2=0.0, guard_mm=0.0)
    )
    assert [r.label for r in rows] == [0, 0, 1, 0, 0]
    assert {r.split for r in rows} == {""}


@pytest.mark.parametrize(("body_px", "excluded"), [(249, True), (250, False)])
def test_a_slice_counts_from_1000_mm2_of_body_on(
    tmp_path: Path, body_px: int, excluded: bool
) -> None:
    row = study("P1")
    write_study(tmp_path, row, [0, 0, 0])
    path = volumes(tmp_path).study(row.study_id).body
    image = sitk.ReadImage(path)
    voxels = sitk.GetArrayFromImage(image)
    voxels[1].reshape(-1)[body_px:] = 0  # of 4 mm2 each
    narrowed = sitk.GetImageFromArray(voxels)
    narrowed.CopyInformation(image)
    sitk.WriteImage(narrowed, path)
    rows = label_slices([row], volumes(tmp_path), split_params())
    assert [r.split == "excluded" for r in rows] == [False, excluded, False]


@pytest.mark.parametrize(
    ("finding", "label", "lesion_px"),
    [
        (UNLABELLED, "none", None),
        (UNLABELLED, "seg", None),  # it names other things than lesions
        (NEGATIVE, "seg", [0] * 10),  # all of its frames are zero
    ],
)
@pytest.mark.parametrize("unlabelled", ["normal", "exclude"])
def test_only_a_study_that_nobody_has_looked_at_can_be_left_out(
    tmp_path: Path, finding: str, label: str, lesion_px: list[int] | None, unlabelled: str
) -> None:
    row = replace(study("P1", label=label), finding=finding)
    write_study(tmp_path, row, lesion_px)
    rows = label_slices([row], volumes(tmp_path), split_params(unlabelled=unlabelled))
    left_out = {"study of which no label says what is healthy"}
    excluded = (finding, unlabelled) == (UNLABELLED, "exclude")
    assert {r.reason for r in rows} == (left_out if excluded else {""})
    assert {r.split for r in rows} == ({"excluded"} if excluded else {""})


def test_an_explicit_negative_takes_part_where_an_unlabelled_study_is_left_out(
    tmp_path: Path,
) -> None:
    negative = replace(study("P1"), finding=NEGATIVE)
    silent = study("P2", label="none")
    write_study(tmp_path, negative, [0] * 10)
    write_study(tmp_path, silent, None)
    studies = [negative, silent]
    rows = label_slices(studies, volumes(tmp_path), split_params(unlabelled="exclude"))
    assert {r.patient for r in rows if r.split != "excluded"} == {"P1"}


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[list[StudyRow], list[SliceRow]]:
    kinds = ["none", "granuloma", "adenocarcinoma"]
    studies = [
        study(f"P{i:02d}", scanner=["GE", "SIEMENS"][i % 2], kind=kinds[i % 3]) for i in range(24)
    ]
    for row in studies:
        lesion = [0, 0, 0, 9, 9, 0, 0, 0] if row.lesion_kind != "none" else [0] * 8
        write_study(tmp_path, row, lesion)
    return studies, label_slices(studies, volumes(tmp_path), split_params())


Cohort = tuple[list[StudyRow], list[SliceRow]]


@pytest.mark.parametrize("seed", range(5))
def test_patient_never_straddles_splits(cohort: Cohort, seed: int) -> None:
    studies, rows = cohort
    splits = defaultdict(set)
    for row in assign_splits(rows, studies, split_params(seed=seed)):
        if row.split != "excluded":
            splits[row.patient].add(row.split)
    assert all(len(parts) == 1 for parts in splits.values())


@pytest.mark.parametrize("protocol", ["patient", "cmad"])
def test_train_and_val_hold_normals_only_and_nothing_is_lost(cohort: Cohort, protocol: str) -> None:
    studies, rows = cohort
    result = assign_splits(rows, studies, split_params(protocol=protocol))
    assert [row.slice_id for row in result] == [row.slice_id for row in rows]
    assert all(row.split and row.reason for row in result)
    assert not any(row.label for row in result if row.split in ("train", "val"))


def test_cmad_protocol_leaks_patients_as_the_paper_does(cohort: Cohort) -> None:
    studies, rows = cohort
    result = assign_splits(rows, studies, split_params(protocol="cmad"))
    train = {row.patient for row in result if row.split == "train"}
    test = {row.patient for row in result if row.split == "test"}
    assert train & test
    assert all(row.split == "test" for row in result if row.label == 1)


def test_patients_are_dealt_in_proportion_within_every_stratum(cohort: Cohort) -> None:
    studies, _ = cohort
    parts = assign_patients(studies, split_params())
    assert sorted(parts.values()).count("train") == 12
    assert sorted(parts.values()).count("val") == 3
    for scanner in ("GE", "SIEMENS"):
        trained = [s for s in studies if s.scanner == scanner and parts[s.patient] == "train"]
        assert len(trained) == 6


def test_split_depends_on_the_seed_and_not_on_the_order_of_studies(cohort: Cohort) -> None:
    studies, _ = cohort
    one = assign_patients(studies, split_params(seed=1))
    assert one == assign_patients(studies[::-1], split_params(seed=1))
    assert one != assign_patients(studies, split_params(seed=2))


MANY = [study(f"P{i:04d}") for i in range(2000)]


@pytest.mark.parametrize("folds", [0, 5])
def test_by_hash_a_patient_stays_where_it_is_as_the_cohort_grows(folds: int) -> None:
    params = split_params(assign="hash", folds=folds)
    many = assign_patients(MANY, params)
    few = assign_patients(MANY[::7], params)
    assert few == {patient: many[patient] for patient in few}
    moved = assign_patients(MANY, split_params(assign="hash", folds=folds, seed=1))
    assert moved != many


def test_by_hash_shares_are_those_asked_for_on_average() -> None:
    parts = list(assign_patients(MANY, split_params(assign="hash")).values())
    shares = [parts.count(part) / len(parts) for part in ("train", "val", "test")]
    assert shares == pytest.approx([0.5, 0.125, 0.375], abs=0.05)


def test_by_hash_every_patient_is_tested_in_exactly_one_fold() -> None:
    folds = [assign_patients(MANY, split_params(assign="hash", folds=5, fold=i)) for i in range(5)]
    tested = [patient for parts in folds for patient, part in parts.items() if part == "test"]
    assert sorted(tested) == sorted(row.patient for row in MANY)
    trained = [list(parts.values()).count("train") for parts in folds]
    assert np.array(trained) / len(MANY) == pytest.approx(0.64, abs=0.05)


def assign_folds(studies: list[StudyRow], folds: int, seed: int = 0) -> list[dict[str, str]]:
    return [
        dict(assign_patients(studies, split_params(folds=folds, fold=fold, seed=seed)))
        for fold in range(folds)
    ]


@pytest.mark.parametrize("folds", [2, 5, 7, 20])
def test_every_patient_is_tested_in_exactly_one_fold(cohort: Cohort, folds: int) -> None:
    studies, _ = cohort
    tested = [
        [patient for patient, part in parts.items() if part == "test"]
        for parts in assign_folds(studies, folds)
    ]
    assert sorted(itertools.chain(*tested)) == sorted({study.patient for study in studies})
    assert max(map(len, tested)) - min(map(len, tested)) <= 1


def test_every_fold_trains_and_chooses_on_the_other_patients(cohort: Cohort) -> None:
    studies, rows = cohort
    for fold, parts in enumerate(assign_folds(studies, 4)):
        assert set(parts) == {study.patient for study in studies}
        # A fifth of the 18 that are left, as val_fraction is of both fractions together.
        counts = [list(parts.values()).count(part) for part in ("train", "val", "test")]
        assert counts == [14, 4, 6]
        placed = assign_splits(rows, studies, split_params(folds=4, fold=fold))
        assert all(row.split in (parts[row.patient], "excluded") for row in placed)


def test_a_fold_holds_every_stratum_alike(cohort: Cohort) -> None:
    studies, _ = cohort
    for parts in assign_folds(studies, 4):
        tested = [study for study in studies if parts[study.patient] == "test"]
        assert [sum(s.scanner == name for s in tested) for name in ("GE", "SIEMENS")] == [3, 3]
        assert [sum(s.lesion_kind == "none" for s in tested)] == [2]


def test_folds_depend_on_the_seed_and_not_on_the_order_of_studies(cohort: Cohort) -> None:
    studies, _ = cohort
    assert assign_folds(studies, 3) == assign_folds(studies[::-1], 3)
    assert assign_folds(studies, 3) != assign_folds(studies, 3, seed=1)


def test_one_fold_is_none(cohort: Cohort) -> None:
    studies, _ = cohort
    plain = assign_patients(studies, split_params())
    assert plain == assign_patients(studies, split_params(folds=1))


def test_more_folds_than_patients_are_refused() -> None:
    with pytest.raises(SplitError, match=r"4 patients cannot be assigned to split\.folds = 5"):
        assign_patients([study(f"P{i}") for i in range(4)], split_params(folds=5))


def test_cohort_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(SplitError, match="found 2 of at least 3 patients"):
        assign_patients([study("P1"), study("P2")], split_params())


def test_split_that_a_data_set_brings_is_heeded_whole_patient_by_patient(tmp_path: Path) -> None:
    studies = [study(f"P{i}") for i in range(4)]
    for row in studies:
        write_study(tmp_path, row, None)
    given: dict[str, Part] = {"P0": "test", "P1": "val", "P2": "test", "P3": "train", "P9": "train"}
    write_patient_split(tmp_path / "ingest", given)
    rows = split_slices(studies, volumes(tmp_path), split_params())
    assert {(row.patient, row.split) for row in rows} == {
        (p, given[p]) for p in ("P0", "P1", "P2", "P3")
    }
    folds = split_slices(studies, volumes(tmp_path), split_params(folds=4))
    assert {(row.patient, row.split) for row in folds} != {(row.patient, row.split) for row in rows}


def test_patient_whom_the_brought_split_does_not_name_is_named(tmp_path: Path) -> None:
    studies = [study(f"P{i}") for i in range(4)]
    given: dict[str, Part] = {"P0": "test", "P1": "val", "P2": "train"}
    with pytest.raises(SplitError, match=r"no split of 1 patient\(s\), such as P3"):
        assign_splits([], studies, split_params(), given)


@pytest.mark.parametrize("line", ["P0,training", "P0,test\nP0,train", "P0"])
def test_brought_split_is_read_strictly(tmp_path: Path, line: str) -> None:
    (tmp_path / "split.csv").write_text(f"patient,split\n{line}\n")
    with pytest.raises(DatasetError, match="Expected the columns patient,split"):
        read_patient_split(tmp_path)
