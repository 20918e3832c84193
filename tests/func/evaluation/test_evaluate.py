"""Two PatchCores fitted on a few synthetic slices, evaluated alone and fused, as the stage does."""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from petct_uad.core.errors import EvaluationError, TrainingError
from petct_uad.core.files import sha256_file, write_table
from petct_uad.core.provenance.record import Derivation
from petct_uad.evaluation.evaluate import EvaluationPaths, evaluate_family
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import RunResults, read_results
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.build import load_model
from petct_uad.models.common.batch import Batch
from petct_uad.models.patchcore.params import PatchcoreParams
from petct_uad.scoring.inference import score_slices
from petct_uad.slices.store import Shard, SliceStore, shard_path, write_shard
from petct_uad.slices.tables import ImageRow
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.run import TrainingPaths, train_entry
from tests.samples import train_section

PARAMS = EvaluateParams(false_positive_rate=0.1, bootstrap_samples=50, confidence=0.9, seed=0)
SPLITS = {"A_1": "train", "B_1": "train", "C_1": "val", "D_1": "test", "E_1": "test"}
SIDE, SLICES = 64, 6
SEEDS = (3, 11)
PANELS = ("best.png", "median.png", "worst.png")
FAMILY = BenchmarkEntry(
    model="patchcore",
    modalities=("pet", "ct", "petct"),
    params="models.patchcore",
    after="metrics/validation.json",
)
MODELS = Path("models/patchcore")


@dataclass(frozen=True)
class Evaluated:
    paths: EvaluationPaths
    derived: dict[str, tuple[Derivation, ...]]

    def results(self, run: str) -> RunResults:
        return read_results(self.paths.results(run))

    def sources(self, run: str) -> dict[str, set[str]]:
        """What each file of a run was made from."""
        found = self.derived[run]
        return {item.output.id: {entity.id for entity in item.inputs} for item in found}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("repository"))
        processed = Path("data/processed/tiny")
        write_slices(processed)
        train(processed)
        yield evaluate(processed, Path())


def evaluate(processed: Path, out: Path, models: Path = MODELS) -> Evaluated:
    paths = EvaluationPaths(processed, models, out / "metrics", out / "reports/panels/patchcore")
    cpu = torch.device("cpu")
    derived = evaluate_family(FAMILY, paths, PARAMS, dataset="tiny", protocol="patient", device=cpu)
    return Evaluated(paths, derived)


def train(processed: Path) -> None:
    train_entry(
        family=FAMILY,
        params=PatchcoreParams(
            strides=(8,), max_patches=300, coreset_fraction=0.1, neighbours=2,
            map_sigma_px=4.0, batch_size=8,
        ),
        teacher=TeacherParams(name="efficientnet_lite0", weights="random"),
        train=train_section(seeds=SEEDS),
        paths=TrainingPaths(processed, MODELS, Path("curves"), Path("checkpoints")),
    )  # fmt: skip


def write_slices(processed: Path) -> None:
    generator = np.random.default_rng(0)
    rows = []
    for study, split in SPLITS.items():
        shard = make_shard(generator, abnormal=split == "test")
        write_shard(shard_path(processed, study), shard)
        rows += [image_row(study, split, index, shard) for index in range(SLICES)]
    write_table(processed / "index.csv", ImageRow, rows)


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


def test_discs_are_found_in_the_test_split(evaluated):
    metrics = evaluated.results("patchcore-pet").metrics
    assert (metrics.n_test_normal, metrics.n_test_abnormal, metrics.n_val_normal) == (6, 6, 6)
    assert metrics.auroc.value > 0.9
    assert metrics.pixel_auroc is not None
    assert metrics.pixel_auroc > 0.8
    assert metrics.patient_auroc is None  # both test patients are abnormal


def test_scores_hold_every_test_slice_and_no_other(evaluated):
    with evaluated.paths.results("patchcore-pet").scores.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns = ["seed", "slice_id", "patient", "study_id", "label", "score", "predicted"]
    assert list(rows[0]) == columns
    assert [(row["seed"], row["slice_id"]) for row in rows] == [
        (str(seed), f"{study}_{index:04d}")
        for seed in SEEDS
        for study in ("D_1", "E_1")
        for index in range(SLICES)
    ]


def test_evaluating_again_gives_the_same_bytes(evaluated):
    again = evaluate(evaluated.paths.processed, Path("again"))
    for run in FAMILY.rows:
        first, second = (x.paths.results(run).files for x in (evaluated, again))
        first += tuple(evaluated.paths.panels / run / name for name in PANELS)
        second += tuple(again.paths.panels / run / name for name in PANELS)
        assert list(map(sha256_file, first)) == list(map(sha256_file, second))


def test_what_varies_between_machines_stays_out_of_metrics_json(evaluated):
    metrics = json.loads(evaluated.paths.results("patchcore-pet").metrics.read_text())
    cost = json.loads(evaluated.paths.cost("patchcore-pet").read_text())
    assert not {"seconds_per_pair", "process_peak_memory_mib", "device"} & metrics.keys()
    assert metrics["scan"] == cost["scan"] == "none"  # of the weights
    assert cost["seconds_per_pair"] > 0
    assert cost["gflops_per_pair"] > 0
    assert cost["parameters"] == metrics["parameters"] > 0


def test_figures_derive_from_weights_index_and_shards_of_validation_and_test(evaluated):
    shards = {f"file:data/processed/tiny/shards/{study}.safetensors" for study in SPLITS}
    sources = evaluated.sources("patchcore-pet")
    found = sources["file:metrics/runs/patchcore/patchcore-pet/metrics.json"]
    trained = {f"file:data/processed/tiny/shards/{study}.safetensors" for study in ("A_1", "B_1")}
    assert found & shards == shards - trained
    weights = {f"file:{MODELS}/patchcore-pet/seed-{n}/weights.safetensors" for n in SEEDS}
    assert weights <= found
    assert "file:data/processed/tiny/index.csv" in found


@pytest.mark.parametrize("run", FAMILY.rows)
def test_every_written_file_has_a_derivation(evaluated, run):
    figures = evaluated.paths.results(run).files
    panels = [evaluated.paths.panels / run / name for name in PANELS]
    written = {f"file:{path.as_posix()}" for path in (*figures, *panels)}
    assert evaluated.sources(run).keys() == written


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_derives_from_the_first_seed_and_the_shard_of_its_own_study_only(evaluated, panel):
    sources = evaluated.sources("patchcore-pet")[
        f"file:reports/panels/patchcore/patchcore-pet/{panel}"
    ]
    (shard,) = (source for source in sources if "shards" in source)
    rank = {"best.png": 0, "median.png": 2, "worst.png": -1}[panel]
    abnormal = [row for row in evaluated.results("patchcore-pet").by_seed[0] if row.label == 1]
    shown = sorted(abnormal, key=lambda row: -row.score)[rank]
    assert shard == f"file:data/processed/tiny/shards/{shown.study_id}.safetensors"
    assert {x.split("/")[3] for x in sources if "models" in x} == {"seed-3"}


@pytest.fixture
def tf32_outside():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.usefixtures("tf32_outside")
def test_scores_are_computed_in_float32_whatever_a_training_left(evaluated, monkeypatch):
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    seen = []

    def watched(*args):
        algorithms = torch.are_deterministic_algorithms_enabled()
        seen.append((matmul.allow_tf32, cudnn.allow_tf32, algorithms))
        return score_slices(*args)

    monkeypatch.setattr("petct_uad.evaluation.evaluate.score_slices", watched)
    evaluate(evaluated.paths.processed, Path("float32"))
    assert seen == [(False, False, True)] * (2 * 2 * len(SEEDS))  # splits, modalities
    assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)


def test_every_seed_is_scored_by_its_own_model(evaluated):
    results = evaluated.results("patchcore-pet")
    test = SliceStore.open(evaluated.paths.processed, "test")
    for seed, rows in zip(SEEDS, results.by_seed, strict=True):
        model, _ = load_model(MODELS / f"patchcore-pet/seed-{seed}")
        with torch.inference_mode():
            _, expected = model.detect(Batch.of(test, range(len(test))))
        assert [row.score for row in rows] == pytest.approx(expected.tolist(), abs=1e-5)
    assert results.metrics.auroc_deviation is not None


def test_a_fused_row_averages_the_standardised_maps_of_each_seeds_two_models(evaluated):
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
            joined += (maps - normal.mean()) / normal.std(correction=0) / 2
        assert [row.score for row in rows] == pytest.approx(
            joined.flatten(1).amax(1).tolist(), abs=1e-4
        )


def test_a_fused_row_sees_both_modalities_and_counts_both_models(evaluated):
    identity = evaluated.results("patchcore-petct").metrics.identity
    alone = evaluated.results("patchcore-pet").metrics.identity
    assert (identity.model, identity.modality) == ("patchcore", "petct")
    assert (alone.model, alone.modality) == ("patchcore", "pet")
    assert identity.parameters == 2 * alone.parameters


def test_everything_of_a_fused_row_derives_from_both_models_and_the_validation_normals(evaluated):
    folders = ("pet/seed-3", "pet/seed-11", "ct/seed-3", "ct/seed-11")
    derived = evaluated.sources("patchcore-petct")
    assert sum(output.endswith("png") for output in derived) == len(PANELS)
    for output, sources in derived.items():
        seeds = [f for f in folders if "seed-3" in f] if output.endswith("png") else folders
        models = {
            f"file:{MODELS}/patchcore-{folder}/{name}"
            for folder in seeds
            for name in ("weights.safetensors", "config.json")
        }
        assert {source for source in sources if "models" in source} == models
        assert "file:data/processed/tiny/shards/C_1.safetensors" in sources


def test_rows_of_other_seeds_are_not_joined(evaluated, tmp_path):
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


def test_test_split_without_abnormal_slices_is_refused(evaluated, tmp_path):
    generator = np.random.default_rng(1)
    rows = []
    for study, split in (("C_1", "val"), ("D_1", "test")):
        shard = make_shard(generator, abnormal=False)
        write_shard(shard_path(tmp_path, study), shard)
        rows += [image_row(study, split, index, shard) for index in range(SLICES)]
    write_table(tmp_path / "index.csv", ImageRow, rows)
    with pytest.raises(EvaluationError, match="0 abnormal of 6 slices"):
        evaluate(tmp_path, tmp_path)
    assert not (tmp_path / "metrics").exists()
