"""A small benchmark made of random scores, with every file that compare reads."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petct_uad.comparison.compare import result_paths
from petct_uad.core.files import write_json, write_table
from petct_uad.core.params.base import Protocol, TestPatients
from petct_uad.core.provenance.record import ACTIVITY
from petct_uad.core.provenance.table import TABLE, write_derivations
from petct_uad.evaluation import figures
from petct_uad.evaluation.figures import Figure
from petct_uad.evaluation.panels import Panel, write_panel
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths, measure, write_results
from petct_uad.evaluation.run import evaluate_trivial
from petct_uad.evaluation.stacks import Grid, stacks_of
from petct_uad.evaluation.tables import MeasuredOn, RunIdentity
from petct_uad.ingest.tables import InstanceRow, RejectedRow, SeriesRow, StudyRow
from petct_uad.models.cmad.params import CmadParams
from petct_uad.registration.tables import AFTER_MOTION, CutSliceRow, RegistrationRow
from petct_uad.report.benchmark import Entry, ReportPaths
from petct_uad.scoring.tables import SeedScores
from petct_uad.slices.tables import ImageRow, ReadingRow, SliceRow
from petct_uad.validation.tables import DriftRow, DuplicateRow, Measured
from petct_uad.validation.validate import Outcome, write_outcomes
from tests.samples import instance_row, reading_row, rejected_row, series_row, study_row

PARAMS = EvaluateParams(false_positive_rate=0.05, bootstrap_samples=200, confidence=0.95, seed=0)
STRENGTHS = {"cmad-petct": 2.0, "cmad-pet": 1.4, "cmad-ct": 0.4, "patchcore-petct": 1.2}
SEEDS = (7, 42)
# By turns, of sixteen patients.
KINDS = {f"P{x:02d}_aa": ("granuloma", "carcinoma")[x % 4 == 1] for x in range(16)}


@dataclass(frozen=True)
class Project:
    report: ReportPaths
    runs: tuple[str, ...]
    params: EvaluateParams


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("project"))
        yield build_project("patient")


@pytest.fixture
def leaking_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return build_project("cmad")


@pytest.fixture
def development_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return build_project("patient", "development")


@pytest.fixture
def project_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Project]:
    """Builds the benchmark with further figures of merit."""

    def build(*further: Figure) -> Project:
        monkeypatch.setattr(figures, "FIGURES", (*figures.FIGURES, *further))
        monkeypatch.chdir(tmp_path)
        return build_project("patient")

    return build


def build_project(protocol: Protocol, test_patients: TestPatients = "all") -> Project:
    """Write everything below the working directory."""
    interim, processed = Path("data/interim/tiny"), Path("data/processed/tiny")
    images = image_rows()
    write_table(processed / "index.csv", ImageRow, images)
    write_table(processed / "readings.csv", ReadingRow, reading_rows(images))
    write_ingest_tables(interim, images)
    metrics, on = Path("metrics"), MeasuredOn("tiny", protocol, test_patients)
    evaluate_trivial(
        processed,
        interim / "ingest/studies.csv",
        on=on,
        params=PARAMS,
        metrics=metrics,
    )
    for run in STRENGTHS:
        write_run(ResultPaths.of(metrics, run.split("-")[0], run), run, images, on)
    results = result_paths(metrics, dict.fromkeys(run.split("-")[0] for run in STRENGTHS))
    write_panels(Path("reports/panels/cmad/cmad-petct"))
    write_quality(metrics)
    write_checks(metrics, interim / "validate")
    write_registration(interim / "register/registration.csv", images)
    for study in ("P00_aa", "P13_aa"):
        write_picture(Path("reports/registration") / f"{study}.png")
    report = ReportPaths(
        interim=interim,
        processed=processed,
        results=results,
        registration=metrics / "registration.json",
        validation=metrics / "validation.json",
        pictures=Path("reports/registration"),
        panels=Path("reports/panels"),
        lineage=write_lineage(interim, metrics),
        entries=(Entry("cmad", "cmad"), Entry("patchcore", "patchcore")),
    )
    return Project(report, tuple(STRENGTHS), PARAMS)


def image_rows() -> list[ImageRow]:
    generator = np.random.default_rng(0)
    rows = []
    for patient in range(16):
        split = "val" if patient < 4 else "test"
        for index in range(20):
            label = int(split == "test" and patient % 3 > 0 and 6 <= index < 12)
            rows.append(
                ImageRow(
                    slice_id=f"P{patient:02d}_aa_{index:04d}",
                    study_id=f"P{patient:02d}_aa",
                    patient=f"P{patient:02d}",
                    scanner="GE Discovery STE",
                    split=split,
                    label=label,
                    position=index / 19,
                    shard_row=index,
                    lesion_area_mm2=120.0 * label,
                    lesion_kept_fraction=1.0,
                    suv_max=float(6 + 2 * label + 2 * generator.normal()),
                    suv_mean=1.0,
                    suv_total_ratio=1.0,
                    body_area_mm2=float(60_000 + 3_000 * generator.normal()),
                    ct_mean_hu=-100.0,
                    ct_std=0.2,
                    pet_std=0.1,
                    sha256="0" * 64,
                )
            )
    return rows


def reading_rows(images: list[ImageRow]) -> list[ReadingRow]:
    """Areas above thresholds that tell the classes apart by chance only."""
    generator = np.random.default_rng(1)
    areas = generator.uniform(100, 200, size=len(images))
    return [
        reading_row(slice_id=image.slice_id, suv_above_2_5_mm2=float(area))
        for image, area in zip(images, areas, strict=True)
    ]


def write_run(paths: ResultPaths, run: str, images: list[ImageRow], on: MeasuredOn) -> None:
    generator = np.random.default_rng(len(run))
    model, modality = run.split("-")
    test = [row for row in images if row.split == "test"]
    normals = [row for row in images if row.split == "val"]
    labels = np.array([row.label for row in test])
    lesions = np.zeros((len(test), 8, 8), dtype=bool)
    lesions[labels == 1, :2, :2] = True

    def of_seed(seed: int) -> SeedScores:
        val = generator.normal(size=len(normals))
        scores = generator.normal(size=len(test)) + STRENGTHS[run] * labels
        maps = generator.random((len(test), 8, 8), np.float32) + lesions
        peaks = np.linspace(0.2, 1.4, len(normals), dtype=np.float32)
        return SeedScores(
            seed, val, scores, maps, peaks, 0.25 * maps if run == "cmad-petct" else None
        )

    identity = RunIdentity(
        run=run,
        model=model,
        modality=modality,
        teacher="efficientnet_lite0",
        image_size_px=64,
        **vars(on),
        parameters=1_234_567,
        gflops_per_pair=0.5 * len(run),
        claims=CmadParams.claims if model == "cmad" else (),
    )
    _, owners = np.unique([row.patient for row in test], return_inverse=True)
    grid = Grid(np.arange(len(test)), np.full(len(test), 0.1))
    measured = measure(
        identity,
        seeds=map(of_seed, SEEDS),
        test_rows=test,
        params=PARAMS,
        lesions=lesions,
        stacks=stacks_of(test, owners, lesions, grid),
        kinds=KINDS,
    )
    write_results(paths, measured)


def write_panels(folder: Path) -> None:
    rows, columns = np.mgrid[-1:1:64j, -1:1:64j]
    body = (rows**2 + (columns / 0.9) ** 2 < 0.8).astype(np.float32)
    lesion = (rows - 0.2) ** 2 + (columns - 0.3) ** 2 < 0.02
    panel = Panel(
        ct=0.6 * body,
        pet=0.1 * body + 0.7 * lesion.astype(np.float32),
        lesion=lesion,
        anomaly_map=(body + 2 * lesion).astype(np.float32),
    )
    write_panel(folder / "best.png", panel)
    for name in ("median", "worst"):
        shutil.copy(folder / "best.png", folder / f"{name}.png")


def write_ingest_tables(interim: Path, images: list[ImageRow]) -> None:
    ingest = interim / "ingest"
    studies = sorted({row.study_id for row in images})
    write_table(
        ingest / "instances.csv",
        InstanceRow,
        [instance_row(file=f"{s}/{i}.dcm", sha256="0", sop_instance_uid=f"1.{i}",
                      series_instance_uid="1.2", study_id=s, slice_index=i)
         for s in studies for i in range(3)]
        + [instance_row(file="z/scout.dcm", sha256="0", sop_instance_uid="1.9",
                        series_instance_uid="1.3", study_id="", role="unused", slice_index=None)],
    )  # fmt: skip
    series = [
        stack(f"1.2.{number}.{role}", f"1.2.{number}", study, role)
        for number, study in enumerate(studies)
        for role in ("ct", "pet")
    ]
    series.append(stack("1.3", "1.3", "", "unused"))
    write_table(ingest / "series.csv", SeriesRow, series)
    write_table(
        ingest / "studies.csv",
        StudyRow,
        [study_row(study_id=s, patient=s[:3], scanner="GE Discovery STE", label_kind="seg",
                   label_series_instance_uid="3", lesion_kind=KINDS[s])
         for s in studies],
    )  # fmt: skip
    refused = rejected_row(
        subject="z/<script>alert(1)</script>.dcm",
        code="unreadable",
        found="12 bytes",
        expected="DICOM",
        advice="Send it again.",
    )
    write_table(ingest / "rejected.csv", RejectedRow, [refused])
    write_table(interim / "split" / "slices.csv", SliceRow, slice_rows(images))


def write_lineage(interim: Path, metrics: Path) -> tuple[Path, ...]:
    """The way of cmad-petct's figures from three DICOM instances, over three stages."""
    volume, slices = "file:ct.nii.gz", "file:slices.csv"
    instances = [(f"instance:1.{i}", "0" * 64) for i in range(3)]
    figures = f"file:{metrics.as_posix()}/runs/cmad/cmad-petct/metrics.json"
    return (
        write_stage(interim / "ingest/lineage", "ingest", volume, instances),
        write_stage(interim / "split/lineage", "split", slices, [(volume, "0" * 64)]),
        write_stage(
            metrics / "runs/cmad/cmad-petct/lineage",
            "evaluate cmad-petct",
            figures,
            [(slices, "0" * 64), (volume, "0" * 64)],
        ),
    )


def write_stage(folder: Path, stage: str, output: str, inputs: list[tuple[str, str]]) -> Path:
    write_derivations(folder / TABLE, {(output, "0" * 64): inputs})
    write_json(
        folder / ACTIVITY,
        {
            "stage": stage,
            "params": {"split": {"seed": 0, "protocol": "patient"}},
            "params_sha256": "1" * 64,
            "source_sha256": "2" * 64,
            "sources": {},
            "packages": {"numpy": "2.0.0"},
        },
    )
    return folder


def write_registration(path: Path, images: list[ImageRow]) -> None:
    studies = sorted({row.study_id for row in images})
    rows = [
        RegistrationRow(study, True, study != "P13_aa", "", 0.5, 0.6, 0.9, 0.95, 4.0, 6.0, 20, 0)
        for study in studies
    ]
    write_table(path, RegistrationRow, rows)
    lost = [CutSliceRow("P13_aa", 20, 100.0, 40.0, AFTER_MOTION)]
    write_table(path.with_name("cut_slices.csv"), CutSliceRow, lost)


def stack(uid: str, study_uid: str, study_id: str, role: str) -> SeriesRow:
    return series_row(
        series_instance_uid=uid,
        study_instance_uid=study_uid,
        patient="P00",
        study_id=study_id,
        role=role,
        reason="topogram" if role == "unused" else "chosen",
    )


def slice_rows(images: list[ImageRow]) -> list[SliceRow]:
    kept = [
        SliceRow(row.slice_id, row.study_id, row.patient, row.scanner, row.shard_row, 0.0,
                 row.position, row.lesion_area_mm2, row.label, row.split, "normal")
        for row in images
    ]  # fmt: skip
    extra = SliceRow("P15_aa_0099", "P15_aa", "P15", "GE", 99, 0.0, 1.0, 5.0, 0, "excluded",
                     "within guard_mm of an abnormal slice")  # fmt: skip
    return [*kept, extra]


def write_quality(metrics: Path) -> None:
    write_json(
        metrics / "registration.json",
        {
            "studies": 16,
            "accepted": 15,
            "refused": 1,
            "median": {"displacement_median_mm": 4.2},
            "flagged": [{"study_id": "P13_aa", "reason": "body overlap 0.700 is below 0.8"}],
        },
    )


def write_checks(metrics: Path, folder: Path) -> None:
    outcomes = [
        Outcome("images", f"check {i}", "warning" if i == 2 else "critical", i != 2,
                "because it matters", 320, ("P04_aa_0003",) * (i == 2))
        for i in range(4)
    ]  # fmt: skip
    write_outcomes(metrics / "validation.json", outcomes)
    scored = Outcome("scores", "finite", "critical", True, "NaN has no rank", 640, ())
    write_outcomes(metrics / "validation_scores.json", [scored])
    pair = DuplicateRow("P00_aa_0003", "P04_aa_0003", "val", "test", False, "near", 0.9971)
    drift = DriftRow("suv_max", "test", 12, 12, 0.25, 0.4, 0.8)
    Measured(duplicates=(pair,), drift=(drift,)).write(folder)


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, size=(120, 260), dtype=np.uint8)
    Image.fromarray(noise).save(path)
