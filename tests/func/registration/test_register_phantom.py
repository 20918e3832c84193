from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.core.errors import RegistrationError
from petct_uad.core.files import read_table, sha256_file, write_table
from petct_uad.core.provenance.record import Derivation
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.pseudonyms import PUBLIC
from petct_uad.ingest.run import ingest_dataset
from petct_uad.ingest.tables import StudyId, StudyRow
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams
from petct_uad.phantom.truth import read_truth
from petct_uad.preprocess.measures import suv_total_ratio
from petct_uad.preprocess.shards import resample_study
from petct_uad.registration.masks import points_mm
from petct_uad.registration.register import RegisterPaths, register_studies
from petct_uad.registration.tables import RegistrationRow
from petct_uad.schema import load_params
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import displacement_mm, read_transform
from petct_uad.volumes.resample import native_slices
from petct_uad.volumes.study import VolumeFolders, read_study
from tests.samples import register_section

PHANTOM = PhantomParams(
    patients=4, seed=3, extent_mm=140.0, ct_matrix=128, max_shift_mm=8.0, max_rotation_deg=2.0
)
INGEST = IngestParams(
    labels="auto", label_roi=".*", suv="bw", pseudonyms="auto", on_reject="report",
    max_gap_mm=0.1,
)  # fmt: skip
REGISTER = register_section()
PREPROCESS = load_params(Path(__file__).parents[3] / "params.yaml").preprocess
INGESTED = Path("ingest")
PLAIN = REGISTER.model_copy(update={"refine": "none"})
PATHS = RegisterPaths(INGESTED, Path("register"), Path("pictures"), Path("registration.json"))
PLAIN_PATHS = RegisterPaths(INGESTED, Path("plain"), Path("plain-pictures"), Path("plain.json"))


@dataclass(frozen=True)
class Registered:
    studies: list[StudyRow]
    rows: list[RegistrationRow]
    derivations: tuple[Derivation, ...]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cohort")
    with chdir(folder):
        yield folder


@pytest.fixture(scope="module")
def cohort(home: Path) -> Registered:
    make_cohort(PHANTOM, Path("raw"), Path("truth"), workers=1)
    INGESTED.mkdir()
    ingest_dataset(Path("raw"), INGESTED, INGEST)
    derivations = register_studies(PATHS, REGISTER)
    rows = read_table(Path("register/registration.csv"), RegistrationRow)
    return Registered(read_table(Path("ingest/studies.csv"), StudyRow), rows, derivations)


def _native(study: StudyRow, name: str) -> sitk.Image:
    return sitk.ReadImage(f"ingest/volumes/{study.study_id}/{name}.nii.gz")


def _body(study: StudyRow) -> sitk.Image:
    return sitk.ReadImage(f"register/volumes/{study.study_id}/body.nii.gz")


@contextmanager
def _only(study: StudyRow, cohort: Registered) -> Iterator[None]:
    write_table(Path("ingest/studies.csv"), StudyRow, [study])
    try:
        yield
    finally:
        write_table(Path("ingest/studies.csv"), StudyRow, cohort.studies)


def _truth(study: StudyRow) -> RigidTransform:
    truths = {PUBLIC.patient(path.stem): path for path in Path("truth").glob("*.json")}
    moved = read_truth(truths[study.patient]).displacement
    return RigidTransform(moved.rotation_deg, moved.translation_mm, moved.centre_mm)


def test_known_motion_is_recovered_to_less_than_half_a_pet_voxel(cohort: Registered) -> None:
    for study in cohort.studies:
        truth = _truth(study)
        found = read_transform(Path(f"register/volumes/{study.study_id}/transform.json"))
        points = points_mm(_body(study))
        error = np.median(np.linalg.norm(found.apply(points) - truth.apply(points), axis=1))
        pet = _native(study, "pet")
        assert error < 0.5 * min(pet.GetSpacing()), study.study_id
        assert error < np.median(displacement_mm(truth, points)), study.study_id


def test_the_body_lies_on_the_slices_of_the_ct(cohort: Registered) -> None:
    for study, row in zip(cohort.studies, cohort.rows, strict=True):
        ct, body = _native(study, "ct"), _body(study)
        assert body.GetPixelID() == sitk.sitkUInt8
        assert body.GetSpacing() == pytest.approx((2.0, 2.0, ct.GetSpacing()[2]))
        assert body.GetSize()[2] == row.slices == ct.GetSize()[2] - row.slices_cut
        assert native_slices(ct, body).GetSize()[2] == row.slices
        corner = ct.TransformPhysicalPointToContinuousIndex(body.GetOrigin())
        assert corner[:2] == pytest.approx((0.0, 0.0), abs=1e-4)


def test_no_image_is_written(cohort: Registered) -> None:
    """So nothing can be resampled a second time."""
    for study in cohort.studies:
        written = {path.name for path in Path(f"register/volumes/{study.study_id}").iterdir()}
        assert written == {"body.nii.gz", "transform.json"}


def test_preprocess_keeps_uptake_and_lesions(cohort: Registered) -> None:
    volumes = VolumeFolders(Path("ingest/volumes"), Path("register/volumes"))
    native_mm2 = kept_mm2 = 0.0
    for study in cohort.studies:
        native = read_study(volumes.study(study.study_id))
        planes = resample_study(native, PREPROCESS)
        ratio = suv_total_ratio(native.pet, planes.pet, native.body, native.transform)
        assert ratio == pytest.approx(1.0, abs=0.02), study.study_id
        native_mm2 += _area_mm2(native.lesion)
        kept_mm2 += _area_mm2(planes.lesion)
    assert kept_mm2 == pytest.approx(native_mm2, rel=0.05)


def _area_mm2(mask: sitk.Image) -> float:
    x_mm, y_mm, _ = mask.GetSpacing()
    return float(sitk.GetArrayFromImage(mask).sum() * x_mm * y_mm)


def test_the_summary_counts_what_the_table_holds(cohort: Registered) -> None:
    summary = json.loads(Path("registration.json").read_text())
    assert summary["studies"] == len(cohort.rows) == 4
    assert summary["accepted"] == sum(row.accepted for row in cohort.rows)
    assert summary["slices"] == sum(row.slices for row in cohort.rows)
    flagged = {item["study_id"] for item in summary["flagged"]}
    assert {row.study_id for row in cohort.rows if not row.accepted} <= flagged


def test_every_file_has_its_derivation(cohort: Registered) -> None:
    written = [*Path("register").rglob("*"), *Path("pictures").rglob("*")]
    files = {f"file:{path.as_posix()}" for path in written if path.is_file()}
    derived = {item.output.id for item in cohort.derivations}
    assert derived == files | {"file:registration.json"}
    assert all(item.inputs for item in cohort.derivations)


def test_a_second_run_gives_the_same_bytes_and_leaves_nothing_old(cohort: Registered) -> None:
    once = cohort.studies[0]
    outputs = [Path(f"pictures/{once.study_id}.png")]
    outputs += sorted(Path(f"register/volumes/{once.study_id}").iterdir())
    before = [sha256_file(path) for path in outputs]
    with _only(once, cohort):
        register_studies(PATHS, REGISTER)
    assert [sha256_file(path) for path in outputs] == before
    assert [path.name for path in Path("register/volumes").iterdir()] == [once.study_id]
    assert len(list(Path("pictures").iterdir())) == 1


def test_two_workers_write_the_bytes_that_one_writes(cohort: Registered) -> None:
    write_table(Path("ingest/studies.csv"), StudyRow, cohort.studies[:2])
    try:
        assert _hashes(workers=1) == _hashes(workers=2)
    finally:
        write_table(Path("ingest/studies.csv"), StudyRow, cohort.studies)


def _hashes(workers: int) -> dict[str, str]:
    paths = RegisterPaths(INGESTED, Path("two"), Path("two-pictures"), Path("two.json"))
    register_studies(paths, REGISTER.model_copy(update={"iterations": 5}), workers)
    written = [*Path("two").rglob("*"), *Path("two-pictures").rglob("*"), Path("two.json")]
    return {path.as_posix(): sha256_file(path) for path in written if path.is_file()}


def test_without_refinement_the_scanner_is_believed(cohort: Registered) -> None:
    with _only(cohort.studies[0], cohort):
        register_studies(PLAIN_PATHS, PLAIN)
    (row,) = read_table(Path("plain/registration.csv"), RegistrationRow)
    assert not row.accepted
    assert "switched off" in row.reason
    assert row.displacement_max_mm == 0
    transform = Path(f"plain/volumes/{row.study_id}/transform.json")
    assert read_transform(transform) == RigidTransform()


def test_a_missing_volume_is_named_and_old_results_stay(cohort: Registered) -> None:
    before = sorted(Path("register").rglob("*"))
    broken = replace(cohort.studies[0], study_id=StudyId("NOBODY_00000000"))
    with (
        _only(broken, cohort),
        pytest.raises(RegistrationError, match=r"NOBODY.*ct\.nii\.gz cannot be read.*run ingest"),
    ):
        register_studies(PATHS, PLAIN)
    assert sorted(Path("register").rglob("*")) == before
