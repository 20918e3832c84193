"""Two PatchCores fitted on a few synthetic slices, evaluated alone and fused, as the stage does."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from petct_uad.audit.detection import DetectionRow, Question, find_planted, smallest_markdown
from petct_uad.audit.planted import Window
from petct_uad.cli.embedding import EmbeddingPaths, draw_embedding, embed_row, in_the_plane
from petct_uad.cli.side_by_side import write_side_by_side
from petct_uad.core.errors import DatasetError, EvaluationError, TrainingError
from petct_uad.core.files import read_table, sha256_file, write_table
from petct_uad.core.params.base import VALIDATED
from petct_uad.core.provenance.record import Derivation
from petct_uad.evaluation.metrics import PixelFigures
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import RunResults, read_results
from petct_uad.evaluation.run import EvaluationPaths, evaluate_entry
from petct_uad.evaluation.tables import MeasuredOn
from petct_uad.ingest.tables import StudyRow
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.build import load_model
from petct_uad.models.common.batch import Batch, at_side
from petct_uad.models.common.fusion import MapFusion
from petct_uad.models.common.params import Fusion
from petct_uad.models.patchcore.params import PatchcoreParams
from petct_uad.models.patchcore.patchcore import Patchcore
from petct_uad.scoring.context import smooth_along_z
from petct_uad.scoring.data import ScoringPaths
from petct_uad.scoring.params import ScoreParams
from petct_uad.scoring.run import score_entry
from petct_uad.scoring.tables import read_study
from petct_uad.slices.store import (
    Shard,
    SliceStore,
    Split,
    lesions_of,
    read_shard,
    write_index,
    write_shard,
)
from petct_uad.slices.tables import ImageRow, SliceRow, shard_path
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.run import TrainingPaths, train_entry
from tests.samples import slice_row, study_row, train_section
from tests.small_results import known

PARAMS = EvaluateParams(false_positive_rate=0.1, bootstrap_samples=50, confidence=0.9, seed=0)
SPLITS = {"A_1": "train", "B_1": "train", "C_1": "val", "D_1": "test", "E_1": "test"}
SIDE, SLICES = 64, 6
SEEDS = (3, 11)
PANELS = ("best.png", "median.png", "worst.png")
ENTRY = BenchmarkEntry(
    model="patchcore",
    modalities=("pet", "ct", "petct"),
    params="models.patchcore",
    teacher="teacher",
    after=VALIDATED,
)
SCORE = ScoreParams(fusion="sum", z_sigma_mm=0.0)
SLICES_FILE = Path("data/interim/tiny/split/slices.csv")
MODELS, PROCESSED = Path("models/patchcore"), Path("data/processed/tiny")


@dataclass(frozen=True)
class Evaluated:
    """One way from trained models to figures."""

    scoring: ScoringPaths
    paths: EvaluationPaths
    scored: tuple[Derivation, ...]
    derived: dict[str, tuple[Derivation, ...]]

    def results(self, run: str) -> RunResults:
        return read_results(self.paths.results(run))

    def sources(self, run: str) -> dict[str, set[str]]:
        """What each result and panel of a run was made from."""
        return sources_of(self.derived[run])

    def score_sources(self, run: str) -> dict[str, set[str]]:
        """What each file of scores of a run was made from."""
        found = sources_of(self.scored)
        return {output: x for output, x in found.items() if f"/{run}/" in output}

    def score_files(self) -> dict[str, str]:
        """The hash of every file that ``score`` wrote."""
        folder = self.scoring.scores
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def sources_of(derivations: tuple[Derivation, ...]) -> dict[str, set[str]]:
    return {item.output.id: {entity.id for entity in item.inputs} for item in derivations}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluated]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("repository"))
        write_slices(PROCESSED)
        train(PROCESSED, MODELS)
        yield evaluate(PROCESSED, Path())


def score(
    processed: Path, out: Path, models: Path = MODELS, params: ScoreParams = SCORE
) -> tuple[ScoringPaths, tuple[Derivation, ...]]:
    scores, costs = out / "data/scores/patchcore", out / "metrics/cost"
    paths = ScoringPaths(processed, SLICES_FILE, models, scores, costs)
    return paths, score_entry(ENTRY, params, paths, torch.device("cpu"))


def evaluate(processed: Path, out: Path, models: Path = MODELS) -> Evaluated:
    scoring, scored = score(processed, out, models)
    panels = out / "reports/panels/patchcore"
    paths = EvaluationPaths(
        processed,
        processed / "slices.csv",
        processed / "studies.csv",
        scoring.scores,
        out / "metrics",
        panels,
    )
    derived = evaluate_entry(paths, PARAMS, MeasuredOn("tiny", "patient"))
    return Evaluated(scoring, paths, scored, derived)


def train(processed: Path, models: Path, entry: BenchmarkEntry = ENTRY) -> None:
    train_entry(
        entry=entry,
        params=PatchcoreParams(
            strides=(8,), enlarge=1, max_patches=300, coreset_fraction=0.1, neighbours=2,
            map_sigma_px=4.0, batch_size=8,
        ),
        teacher=TeacherParams(name="efficientnet_lite0", weights="random"),
        train=train_section(seeds=SEEDS),
        paths=TrainingPaths(processed, models, Path("curves"), Path("checkpoints")),
    )  # fmt: skip


def write_studies(processed: Path, rows: list[ImageRow]) -> None:
    names = sorted({row.study_id for row in rows})
    studies = [study_row(study_id=x, lesion_kind="square") for x in names]
    write_table(processed / "studies.csv", StudyRow, studies)


def write_slices(processed: Path) -> None:
    generator = np.random.default_rng(0)
    rows = []
    for study, split in SPLITS.items():
        shard = make_shard(generator, abnormal=split == "test")
        write_shard(shard_path(processed, study), shard)
        rows += [image_row(study, split, index, shard) for index in range(SLICES)]
    write_index(processed, rows)
    write_table(processed / "slices.csv", SliceRow, [slice_row(row) for row in rows])
    write_studies(processed, rows)


def make_shard(generator: np.random.Generator, *, abnormal: bool) -> Shard:
    """Noise; in the upper half of an abnormal stack with a hot, dense disc."""
    ct, pet = 0.3 + 0.05 * generator.random((2, SLICES, SIDE, SIDE))
    lesion = np.zeros((SLICES, SIDE, SIDE), dtype=np.uint8)
    if abnormal:
        rows, columns = np.mgrid[:SIDE, :SIDE]
        lesion[SLICES // 2 :] = (rows - 20) ** 2 + (columns - 40) ** 2 < 60
    ct, pet = (np.clip(plane + 0.6 * lesion, 0, 1).astype(np.float16) for plane in (ct, pet))
    return Shard(ct, pet, lesion, np.ones_like(lesion))


def image_row(study: str, split: str, index: int, shard: Shard) -> ImageRow:
    return ImageRow(
        slice_id=f"{study}_{index:04d}",
        study_id=study,
        patient=study[0],
        scanner="GE",
        split=split,
        label=int(shard.lesion[index].any()),
        position=index / (SLICES - 1),
        shard_row=index,
        lesion_area_mm2=float(shard.lesion[index].sum()),
        lesion_kept_fraction=1.0,
        suv_max=float(shard.pet[index].max()) * 10,
        suv_mean=1.0,
        suv_total_ratio=1.0,
        body_area_mm2=60_000.0,
        ct_mean_hu=-100.0,
        ct_std=0.2,
        pet_std=0.1,
        sha256=shard.sha256_of(index),
    )


def test_discs_are_found_in_the_test_split(evaluated: Evaluated) -> None:
    metrics = evaluated.results("patchcore-pet").metrics
    assert (metrics.n_test_normal, metrics.n_test_abnormal, metrics.n_val_normal) == (6, 6, 6)
    assert metrics.auroc.value > 0.9
    assert metrics.figures["pixel_auroc"].value > 0.8
    assert "patient_auroc" not in metrics.figures  # both test patients are abnormal


def test_lesions_are_counted_in_three_dimensions(evaluated: Evaluated) -> None:
    results = evaluated.results("patchcore-pet")
    metrics = results.metrics
    # One disc through three slices of each of two studies.
    assert (metrics.n_test_studies, metrics.n_test_lesions) == (2, 2)
    assert len(metrics.map_thresholds) == len(SEEDS)
    assert metrics.figures["lesion_sensitivity"].value == 1
    assert metrics.figures["froc"].value > 0.8
    assert 0 < metrics.figures["dice"].value <= metrics.figures["oracle_dice"].value < 1
    assert results.froc[-1].sensitivity == 1


def test_scores_hold_every_test_slice_and_no_other(evaluated: Evaluated) -> None:
    with evaluated.paths.results("patchcore-pet").scores.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert " ".join(rows[0]) == ("seed slice_id patient study_id label lesion_kind score predicted")
    assert {(row["label"], row["lesion_kind"]) for row in rows} == {("0", "none"), ("1", "square")}
    assert [(row["seed"], row["slice_id"]) for row in rows] == [
        (str(seed), f"{study}_{index:04d}")
        for seed in SEEDS
        for study in ("D_1", "E_1")
        for index in range(SLICES)
    ]


def test_evaluating_again_gives_the_same_bytes(evaluated: Evaluated) -> None:
    again = evaluate(evaluated.paths.processed, Path("again"))
    assert again.score_files() == evaluated.score_files()
    for run in ENTRY.rows:
        first, second = (x.paths.results(run).files for x in (evaluated, again))
        first += tuple(evaluated.paths.panels / run / name for name in PANELS)
        second += tuple(again.paths.panels / run / name for name in PANELS)
        assert list(map(sha256_file, first)) == list(map(sha256_file, second))


def test_what_varies_between_machines_stays_out_of_metrics_json(evaluated: Evaluated) -> None:
    metrics = json.loads(evaluated.paths.results("patchcore-pet").metrics.read_text())
    cost = json.loads((evaluated.scoring.costs / "patchcore-pet.json").read_text())
    assert not {"seconds_per_pair", "process_peak_memory_mib", "device"} & metrics.keys()
    assert metrics["scan"] == cost["scan"] == "none"  # of the weights
    assert cost["seconds_per_pair"] > 0
    assert cost["gflops_per_pair"] > 0
    assert cost["parameters"] == metrics["parameters"] > 0


def file_of(*parts: str) -> str:
    return "file:" + "/".join(parts)


def shards_of(*studies: str) -> set[str]:
    return {file_of(f"{PROCESSED}/shards/{study}.safetensors") for study in studies}


def scores_of(run: str, *seeds: int, studies: tuple[str, ...] = ("C_1", "D_1", "E_1")) -> set[str]:
    folder = f"data/scores/patchcore/{run}"
    return {file_of(folder, f"seed-{n}/{x}.safetensors") for n in seeds for x in studies}


def test_a_studys_scores_derive_from_the_model_of_their_seed_and_their_own_shard(
    evaluated: Evaluated,
) -> None:
    found = evaluated.score_sources("patchcore-pet")
    assert set(found) == {
        *scores_of("patchcore-pet", *SEEDS),
        "file:data/scores/patchcore/patchcore-pet/row.json",
    }
    (name,) = scores_of("patchcore-pet", 3, studies=("D_1",))
    folder = f"{MODELS}/patchcore-pet/seed-3"
    models = {file_of(folder, x) for x in ("weights.safetensors", "config.json")}
    assert found[name] == {file_of(f"{PROCESSED}/index.csv"), *models, *shards_of("D_1")}


def test_figures_derive_from_every_score_and_from_the_lesions_of_the_test_studies(
    evaluated: Evaluated,
) -> None:
    sources = evaluated.sources("patchcore-pet")
    scores = {
        file_of(f"{PROCESSED}/index.csv"),
        file_of(f"{PROCESSED}/studies.csv"),
        file_of("data/scores/patchcore/patchcore-pet/row.json"),
        *scores_of("patchcore-pet", *SEEDS),
    }
    folder = "file:metrics/runs/patchcore/patchcore-pet"
    assert sources[f"{folder}/scores.csv"] == scores
    lesions = {file_of(f"{PROCESSED}/slices.csv"), *shards_of("D_1", "E_1")}
    assert sources[f"{folder}/metrics.json"] == scores | lesions
    assert sources["file:metrics/froc/patchcore/patchcore-pet.csv"] == scores | lesions
    assert sources[f"{folder}/findings.csv"] == scores | lesions


def test_a_terminal_shows_the_auroc_of_each_modality(evaluated: Evaluated) -> None:
    shown = json.loads(evaluated.paths.auroc.read_text())
    assert shown.pop("leaking") is False
    assert shown == {
        modality: round(read_results(evaluated.paths.results(run)).metrics.auroc.value, 4)
        for modality, run in zip(("ct", "pet", "petct"), sorted(ENTRY.rows), strict=True)
    }


@pytest.mark.parametrize("run", ENTRY.rows)
def test_every_written_file_has_a_derivation(evaluated: Evaluated, run: Any) -> None:
    figures = evaluated.paths.results(run).files
    panels = [evaluated.paths.panels / run / name for name in PANELS]
    written = {f"file:{path.as_posix()}" for path in (*figures, *panels)}
    assert evaluated.sources(run).keys() == written
    folder = evaluated.scoring.scores / run
    scored = {f"file:{path.as_posix()}" for path in folder.rglob("*") if path.is_file()}
    assert evaluated.score_sources(run).keys() == scored


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_derives_from_the_first_seeds_map_and_the_shard_of_its_own_study(
    evaluated: Evaluated, panel: Any
) -> None:
    sources = evaluated.sources("patchcore-pet")[
        f"file:reports/panels/patchcore/patchcore-pet/{panel}"
    ]
    rank = {"best.png": 0, "median.png": 2, "worst.png": -1}[panel]
    abnormal = [row for row in evaluated.results("patchcore-pet").by_seed[0] if row.label == 1]
    study = sorted(abnormal, key=lambda row: -row.score)[rank].study_id
    scores = scores_of("patchcore-pet", 3, studies=(study,))
    assert sources == {file_of(f"{PROCESSED}/index.csv"), *scores, *shards_of(study)}


@pytest.fixture
def tf32_outside() -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.usefixtures("tf32_outside")
def test_scores_are_computed_in_float32_whatever_a_training_left(
    evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    seen = set()
    detect = Patchcore.detect

    def watched(model: Patchcore, batch: Batch) -> Any:
        algorithms = torch.are_deterministic_algorithms_enabled()
        seen.add((matmul.allow_tf32, cudnn.allow_tf32, algorithms))
        return detect(model, batch)

    monkeypatch.setattr(Patchcore, "detect", watched)
    score(evaluated.paths.processed, Path("float32"))
    assert seen == {(False, False, True)}
    assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)


def test_every_seed_is_scored_by_its_own_model(evaluated: Evaluated) -> None:
    results = evaluated.results("patchcore-pet")
    test = SliceStore.open(evaluated.paths.processed, "test")
    for seed, rows in zip(SEEDS, results.by_seed, strict=True):
        model, _ = load_model(MODELS / f"patchcore-pet/seed-{seed}")
        with torch.inference_mode():
            _, expected = model.detect(Batch.of(test, range(len(test))))
        assert [row.score for row in rows] == pytest.approx(expected.tolist(), abs=1e-5)
    assert results.metrics.auroc.deviation is not None


def test_a_fused_row_adds_the_standardised_maps_of_each_seeds_two_models(
    evaluated: Evaluated,
) -> None:
    results = evaluated.results("patchcore-petct")
    val = SliceStore.open(evaluated.paths.processed, "val")  # all of them normals
    test = SliceStore.open(evaluated.paths.processed, "test")
    for seed, rows in zip(SEEDS, results.by_seed, strict=True):
        joined = torch.zeros(len(test), SIDE, SIDE)
        for modality in ("pet", "ct"):
            model, _ = load_model(MODELS / f"patchcore-{modality}/seed-{seed}")
            with torch.inference_mode():
                normal = model.anomaly_map(Batch.of(val, range(len(val))))
                maps = model.anomaly_map(Batch.of(test, range(len(test))))
            joined += (maps - normal.mean()) / normal.std(correction=0)
        assert [row.score for row in rows] == pytest.approx(
            joined.flatten(1).amax(1).tolist(), abs=1e-4
        )


@pytest.mark.parametrize("how", ["max", "peak", "min_p"])
def test_a_fused_row_is_fused_as_the_param_says(evaluated: Evaluated, how: Fusion) -> None:
    params = ScoreParams(fusion=how, z_sigma_mm=0)
    scoring, _ = score(evaluated.paths.processed, Path(f"fused-{how}"), params=params)
    normals, test = (maps_of_both(evaluated.paths.processed, split) for split in ("val", "test"))
    fusion = MapFusion(how, 2)
    fusion.fit([normals])
    expected = fusion(test)
    study = read_study(scoring.scores / "patchcore-petct/seed-3/D_1.safetensors")
    assert study.scores == pytest.approx(expected[:SLICES].amax((1, 2)).tolist(), rel=1e-3)
    found = replace(evaluated, scoring=scoring).score_files()
    before = evaluated.score_files()
    changed = {name.partition("/")[0] for name in before if before[name] != found[name]}
    assert changed == {"patchcore-petct"}


def maps_of_both(processed: Path, split: Split) -> torch.Tensor:
    """(2, n, S, S): what the PET and the CT model of the first seed say of a split."""
    store = SliceStore.open(processed, split)
    models = (load_model(MODELS / f"patchcore-{x}/seed-3")[0] for x in ("pet", "ct"))
    with torch.inference_mode():
        return torch.stack([x.anomaly_map(Batch.of(store, range(len(store)))) for x in models])


def write_places(path: Path, z_mm: np.ndarray) -> None:
    """``slices.csv``, with every study's slices at these places along the body."""
    rows = [
        SliceRow(f"{study}_{i:04d}", study, study[0], "GE", i, z, 0, 0, 0, split, "")
        for study, split in SPLITS.items()
        for i, z in enumerate(z_mm.tolist())
    ]
    write_table(path, SliceRow, rows)


def test_slices_in_context_are_scored_from_maps_smoothed_by_their_places_in_the_body(
    evaluated: Evaluated,
) -> None:
    """Of every row, fused or not, and of the validation normals, which choose the threshold."""
    folder, sigma_mm = Path("context"), 6.0
    z_mm = np.array([0, 3, 6, 20, 23, 26.0])
    write_places(SLICES_FILE, z_mm)
    params = ScoreParams(fusion="sum", z_sigma_mm=sigma_mm)
    scoring, derived = score(evaluated.paths.processed, folder, params=params)
    for run, study in ((run, study) for run in ENTRY.rows for study in ("C_1", "D_1", "E_1")):
        name = f"{run}/seed-3/{study}.safetensors"
        plain, found = (read_study(x.scores / name) for x in (evaluated.scoring, scoring))
        expected = smooth_along_z(plain.maps, [study] * SLICES, z_mm, sigma_mm)
        largest = float(np.abs(expected).max())
        assert found.maps == pytest.approx(expected, abs=2e-3 * largest)
        assert found.scores == pytest.approx(found.maps.max(axis=(1, 2)), rel=1e-3, abs=1e-3)
        assert np.abs(found.scores - plain.scores).max() > 0.01 * largest
    slices = file_of(SLICES_FILE.as_posix())
    sources = sources_of(derived)
    assert all((slices in x) is not name.endswith("row.json") for name, x in sources.items())
    assert not any(slices in x for x in sources_of(evaluated.scored).values())


@pytest.mark.parametrize("how", ["sum", "max", "peak", "min_p"])
def test_findings_of_a_fused_row_say_what_each_modality_gave_to_them(
    evaluated: Evaluated, how: Fusion
) -> None:
    """Joined and smoothed along the body, as a map is that is made of the PET's part alone."""
    folder = Path(f"parts-{how}")
    z_mm = np.arange(0.0, 4 * SLICES, 4)
    write_places(SLICES_FILE, z_mm)
    params = ScoreParams(fusion=how, z_sigma_mm=6.0)
    scoring, _ = score(evaluated.paths.processed, folder, params=params)
    paths = replace(evaluated.paths, scores=scoring.scores, metrics=folder / "metrics")
    paths = replace(paths, panels=folder / "panels")
    evaluate_entry(paths, PARAMS, MeasuredOn("tiny", "patient"))
    joined, alone = (
        read_results(paths.results(f"patchcore-{x}")).findings for x in ("petct", "pet")
    )
    assert {x.seed for x in joined} == set(SEEDS)
    assert {x.lesions for x in joined} <= {0, 1}
    assert {(x.pet_share, x.ct_share) for x in alone} == {(1.0, 0.0)}
    normals, test = (maps_of_both(evaluated.paths.processed, split) for split in ("val", "test"))
    fusion = MapFusion(how, 2)
    fusion.fit([normals])
    pet = fusion.parts(test)[0, :SLICES].numpy()
    study = read_study(scoring.scores / "patchcore-petct/seed-3/D_1.safetensors")
    expected = smooth_along_z(pet, ["D_1"] * SLICES, z_mm, 6.0)
    assert study.pet_parts == pytest.approx(expected, abs=2e-3 * float(np.abs(expected).max()))
    highest = next(x for x in joined if x.study_id == "D_1")
    threshold = read_results(paths.results("patchcore-petct")).metrics.map_thresholds[0]
    inside = study.maps > threshold
    whole = expected[inside].sum() / study.maps[inside].sum()  # of all findings of the study
    shares = [known(x.pet_share) for x in joined if x.study_id == "D_1" and x.seed == 3]
    assert min(shares) - 0.01 <= whole <= max(shares) + 0.01
    assert known(highest.pet_share) + known(highest.ct_share) == pytest.approx(1, abs=1e-5)


def test_a_fused_row_sees_both_modalities_and_counts_both_models(evaluated: Evaluated) -> None:
    identity = evaluated.results("patchcore-petct").metrics.identity
    alone = evaluated.results("patchcore-pet").metrics.identity
    assert (identity.model, identity.modality) == ("patchcore", "petct")
    assert (alone.model, alone.modality) == ("patchcore", "pet")
    assert identity.parameters == 2 * alone.parameters


def test_scores_of_a_fused_row_derive_from_both_models_and_the_validation_normals(
    evaluated: Evaluated,
) -> None:
    for output, sources in evaluated.score_sources("patchcore-petct").items():
        seeds = [n for n in SEEDS if f"/seed-{n}/" in output] or SEEDS
        models = {
            file_of(f"{MODELS}/patchcore-{modality}/seed-{n}/{name}")
            for modality in ("pet", "ct")
            for n in seeds
            for name in ("weights.safetensors", "config.json")
        }
        assert {source for source in sources if "models" in source} == models
        assert shards_of("C_1") <= sources or output.endswith("row.json")


def test_rows_of_other_seeds_are_not_joined(evaluated: Evaluated, tmp_path: Path) -> None:
    models = tmp_path / "patchcore"
    shutil.copytree(MODELS / "patchcore-pet", models / "patchcore-pet")
    for folder, message in (
        ("patchcore-ct/seed-3", r"trained with seeds \[3\]"),
        ("patchcore-pet/none", "holds no trained model"),
    ):
        (models / folder).mkdir(parents=True)
        with pytest.raises(TrainingError, match=message):
            evaluate(evaluated.paths.processed, tmp_path, models)
        shutil.rmtree(models / "patchcore-pet")


def test_test_split_without_abnormal_slices_is_refused(evaluated: Evaluated) -> None:
    folder = Path("one_class")
    generator = np.random.default_rng(1)
    rows = []
    for study, split in (("C_1", "val"), ("D_1", "test")):
        shard = make_shard(generator, abnormal=False)
        write_shard(shard_path(folder, study), shard)
        rows += [image_row(study, split, index, shard) for index in range(SLICES)]
    write_index(folder, rows)
    write_table(folder / "slices.csv", SliceRow, [slice_row(row) for row in rows])
    write_studies(folder, rows)
    with pytest.raises(EvaluationError, match="0 abnormal of 6 slices"):
        evaluate(folder, folder)
    assert not (folder / "metrics/runs").exists()


def test_scores_know_nothing_of_the_labels_and_lesions_of_test_slices(evaluated: Evaluated) -> None:
    folder = Path("other_labels")
    shutil.copytree(PROCESSED, folder / "processed")
    index = read_table(PROCESSED / "index.csv", ImageRow)
    other = [replace(x, label=1 - x.label) if x.split == "test" else x for x in index]
    write_index(folder / "processed", other)
    for study in ("C_1", "D_1", "E_1"):
        path = shard_path(folder / "processed", study)
        shard = read_shard(path)
        write_shard(path, replace(shard, lesion=1 - shard.lesion))
    scoring, _ = score(folder / "processed", folder)
    found = replace(evaluated, scoring=scoring).score_files()
    assert found == evaluated.score_files()
    # Another label of a validation slice takes that slice away, so the bytes can differ.
    other[12] = replace(other[12], label=1)
    write_index(folder / "processed", other)
    scoring, _ = score(folder / "processed", folder)
    assert replace(evaluated, scoring=scoring).score_files() != found


def test_only_validation_normals_and_test_slices_are_scored(evaluated: Evaluated) -> None:
    folder = evaluated.scoring.scores / "patchcore-petct" / "seed-3"
    assert sorted(path.stem for path in folder.iterdir()) == ["C_1", "D_1", "E_1"]
    study = read_study(folder / "D_1.safetensors")
    assert study.shard_rows.tolist() == list(range(SLICES))
    assert study.scores.dtype == np.float64
    assert study.maps.shape == (SLICES, SIDE, SIDE)


def test_half_precision_of_stored_maps_moves_pixel_figures_by_less_than_a_thousandth(
    evaluated: Evaluated,
) -> None:
    test = SliceStore.open(PROCESSED, "test")
    model, _ = load_model(MODELS / "patchcore-pet/seed-3")
    with torch.inference_mode():
        maps = model.anomaly_map(Batch.of(test, range(len(test)))).numpy()
    stored = np.concatenate(
        [
            read_study(evaluated.scoring.scores / f"patchcore-pet/seed-3/{x}.safetensors").maps
            for x in ("D_1", "E_1")
        ]
    )
    assert stored == pytest.approx(maps, rel=2**-11)
    lesions = lesions_of(PROCESSED, test.rows)
    exact, found = PixelFigures.of(maps, lesions), PixelFigures.of(stored, lesions)
    assert found.pixel_auroc == pytest.approx(exact.pixel_auroc, abs=1e-3)
    assert found.aupro == pytest.approx(exact.aupro, abs=1e-3)


def test_maps_of_a_row_that_saw_smaller_images_lie_on_the_shards_grid(evaluated: Evaluated) -> None:
    folder = Path("small")
    models = folder / "models/patchcore"
    train(PROCESSED, models, ENTRY.model_copy(update={"image_size_px": SIDE // 2}))
    small = evaluate(PROCESSED, folder, models)
    identity = small.results("patchcore-petct").metrics.identity
    assert identity.image_size_px == SIDE // 2
    study = read_study(small.scoring.scores / "patchcore-pet/seed-3/D_1.safetensors")
    assert study.maps.shape == (SLICES, SIDE, SIDE)
    store = at_side(SliceStore.open(PROCESSED, "test"), SIDE // 2)
    model, _ = load_model(models / "patchcore-pet/seed-3")
    with torch.inference_mode():
        maps, scores = model.detect(Batch.of(store, range(SLICES)))
    assert maps.shape == (SLICES, SIDE // 2, SIDE // 2)
    assert study.scores == pytest.approx(scores.numpy(), abs=1e-6)
    # Each pixel of a bilinear map lies between its neighbours, so the mean stays about the same.
    assert study.maps.mean() == pytest.approx(float(maps.mean()), rel=0.02)
    assert small.results("patchcore-petct").metrics.figures["pixel_auroc"].value > 0.8


def test_scores_of_other_slices_than_the_indexs_are_refused(
    evaluated: Evaluated, tmp_path: Path
) -> None:
    shutil.copytree(PROCESSED, tmp_path / "processed")
    index = read_table(PROCESSED / "index.csv", ImageRow)
    moved = [replace(x, split="test") if x.study_id == "B_1" else x for x in index]
    write_index(tmp_path / "processed", moved)
    paths = replace(evaluated.paths, processed=tmp_path / "processed", metrics=tmp_path)
    with pytest.raises(EvaluationError, match=r"B_1\.safetensors: not found. Run"):
        evaluate_entry(paths, PARAMS, MeasuredOn("tiny", "patient"))


def test_an_entry_without_scores_is_refused_by_name(evaluated: Evaluated, tmp_path: Path) -> None:
    paths = replace(evaluated.paths, scores=tmp_path / "padim")
    with pytest.raises(EvaluationError, match="Run `dvc repro score@padim`"):
        evaluate_entry(paths, PARAMS, MeasuredOn("tiny", "patient"))


def size_of(name: str) -> tuple[int, int]:
    with Image.open(name) as image:
        return image.size


def test_chosen_slices_stand_beside_every_rows_map(evaluated: Evaluated) -> None:
    shown = partial(
        write_side_by_side,
        processed=PROCESSED,
        scores=Path("data/scores"),
        metrics=Path("metrics"),
    )
    shown(["D_1_0000", "D_1_0004"], Path("two.png"))
    shown(["D_1_0000", "D_1_0004"], Path("again.png"))
    shown(["D_1_0004"], Path("three.png"), runs=["patchcore-pet", "patchcore-ct"])
    assert sha256_file(Path("two.png")) == sha256_file(Path("again.png"))
    two, three = map(size_of, ("two.png", "three.png"))
    assert two[0] < three[0]  # one row on PET and CT, and two that were asked for
    assert two[1] > three[1]  # two slices, and one


@pytest.mark.parametrize(
    ("slices", "runs", "said"),
    [
        (["D_1_0009"], (), "Did you mean 'D_1_000"),
        (["A_1_0000"], (), "a slice of the train split"),
        (["D_1_0000"], ("patchcore-pt",), "Did you mean 'patchcore-pet'?"),
    ],
    ids=["no such slice", "a training slice", "no such row"],
)
def test_slices_and_rows_that_cannot_be_shown_are_named(
    evaluated: Evaluated, slices: list[str], runs: tuple[str, ...], said: str
) -> None:
    with pytest.raises(EvaluationError, match=re.escape(said)):
        write_side_by_side(
            slices, Path("none.png"), processed=PROCESSED, scores=Path("data/scores"),
            metrics=Path("metrics"), runs=runs,
        )  # fmt: skip


BENCHMARK = {"patchcore": ENTRY}
EMBEDDED = EmbeddingPaths(PROCESSED, MODELS.parent, Path("data/scores"))


@pytest.mark.parametrize("row", ["patchcore-pet", "patchcore-petct"])
def test_test_slices_are_placed_by_what_the_encoder_and_the_map_say(
    evaluated: Evaluated, row: str
) -> None:
    first, again = (embed_row(row, BENCHMARK, EMBEDDED, torch.device("cpu")) for _ in range(2))
    assert first.labels.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert list(first.points) == ["encoder", "map"]
    for of, points in first.points.items():
        assert points.shape == (2 * SLICES, 2)
        assert np.isfinite(points).all()
        assert points.tobytes() == again.points[of].tobytes()
    draw_embedding(Path("embedding.png"), row, first)
    assert size_of("embedding.png")[0] > size_of("embedding.png")[1]


def test_a_row_that_is_not_there_is_not_placed(evaluated: Evaluated) -> None:
    with pytest.raises(EvaluationError, match="There are: patchcore-pet, patchcore-ct"):
        embed_row("cmad-pet", BENCHMARK, EMBEDDED, torch.device("cpu"))


def test_slices_of_two_kinds_lie_apart_in_the_plane() -> None:
    drawn = np.random.default_rng(0).normal(size=(60, 200)).astype(np.float32)
    drawn[30:] += 2
    points = in_the_plane(drawn)
    centres = points[:30].mean(0), points[30:].mean(0)
    nearer = np.linalg.norm(points - centres[0], axis=1) < np.linalg.norm(
        points - centres[1], axis=1
    )
    assert nearer.tolist() == [True] * 30 + [False] * 30


QUESTION = Question(
    diameters_mm=(4.0, 40.0),
    contrasts=(1.0, 3.0),
    sites=2,
    fwhm_mm=6.0,
    window=Window(-1000.0, 100.0),  # in which the slices' tissue is lung
    false_positive_rate=0.1,
)


@pytest.fixture(scope="module")
def detected(evaluated: Evaluated) -> tuple[DetectionRow, ...]:
    with pytest.MonkeyPatch.context() as patch:
        # Nothing of the test split is there to be opened.
        patch.setattr("petct_uad.slices.store.shard_path", val_shard_path)
        return find(evaluated, QUESTION)


def find(
    evaluated: Evaluated, question: Question, params: ScoreParams = SCORE
) -> tuple[DetectionRow, ...]:
    slices = Path("planted/slices.csv")
    write_places(slices, 4.0 * np.arange(SLICES))
    paths = replace(evaluated.scoring, slices=slices)
    return find_planted([(ENTRY, paths)], params, question, torch.device("cpu"))


def val_shard_path(processed: Path, study: str) -> Path:
    assert SPLITS[study] == "val"
    return shard_path(processed, study)


def test_large_hot_lesions_are_found_and_those_without_uptake_are_not_found_on_the_pet(
    detected: tuple[DetectionRow, ...],
) -> None:
    on_pet = {(x.diameter_mm, x.contrast): x for x in detected if x.run == "patchcore-pet"}
    assert set(on_pet) == {(4.0, 1.0), (4.0, 3.0), (40.0, 1.0), (40.0, 3.0)}
    assert {x.lesions for x in detected} == {2 * len(SEEDS)}  # two sites of the one study, per seed
    assert on_pet[40.0, 3.0].found == on_pet[40.0, 3.0].lesions
    assert on_pet[40.0, 1.0].found < on_pet[40.0, 3.0].found
    assert {x.place for x in detected} == {"lung"}


def test_planted_lesions_are_asked_for_in_context_where_maps_are_smoothed_along_the_body(
    evaluated: Evaluated, detected: tuple[DetectionRow, ...]
) -> None:
    """As by default; a planted stack is a copy, whose places are those of its study."""
    smoothed = find(evaluated, QUESTION, ScoreParams(fusion="sum", z_sigma_mm=6.0))
    assert {(x.run, x.diameter_mm, x.contrast, x.lesions) for x in smoothed} == {
        (x.run, x.diameter_mm, x.contrast, x.lesions) for x in detected
    }
    assert smoothed != detected


def test_the_smallest_lesion_that_is_found_stands_in_the_table(
    detected: tuple[DetectionRow, ...],
) -> None:
    table = smallest_markdown(detected, QUESTION)
    line = next(x for x in table.splitlines() if x.startswith("| patchcore-pet | lung | GE |"))
    assert line.endswith("mm (4 of 4) |")
    assert "| row | tissue | scanner | 1 times its surroundings |" in table


def test_a_smaller_lesion_counts_only_where_every_larger_one_is_found() -> None:
    row = DetectionRow("r", "GE", "lung", 3.0, 4.0, 10, 9, 0.6, 0.98)
    missed = replace(row, diameter_mm=40.0, found=3)
    assert smallest_markdown([row, missed], QUESTION).splitlines()[2].endswith("| none |")


def test_pictures_that_are_no_thorax_have_nowhere_to_plant(evaluated: Evaluated) -> None:
    bone = replace(QUESTION, window=Window(500.0, 3000.0))
    with pytest.raises(DatasetError, match="no place in lung or soft tissue"):
        find(evaluated, bone)
