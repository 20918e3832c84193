from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from petct_uad.core.files import write_table
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import ResultPaths, RunResults, read_results
from petct_uad.evaluation.run import evaluate_trivial
from petct_uad.evaluation.trivial import SUVMAX, TRIVIAL_BASELINES, closeness_to_middle
from petct_uad.slices.tables import ImageRow

PARAMS = EvaluateParams(false_positive_rate=0.25, bootstrap_samples=20, confidence=0.95, seed=0)


def row(
    patient: str,
    split: str,
    label: int,
    suv_max: float,
    *,
    position: float = 0.5,
    area: float = 1.0,
) -> ImageRow:
    return ImageRow(
        slice_id=f"{patient}_s_{int(100 * suv_max):04d}",
        study_id=f"{patient}_s",
        patient=patient,
        scanner="GE",
        split=split,
        label=label,
        position=position,
        shard_row=0,
        lesion_area_mm2=50.0 * label,
        lesion_kept_fraction=1.0,
        suv_max=suv_max,
        suv_mean=1.0,
        suv_total_ratio=1.0,
        body_area_mm2=area,
        ct_mean_hu=0.0,
        ct_std=0.1,
        pet_std=0.1,
        sha256="0" * 64,
    )


ROWS = [
    row("V", "train", 0, 99.0),
    *(row("V", "val", 0, suv_max) for suv_max in (1.0, 2.0, 3.0, 4.0)),
    row("V", "val", 1, 50.0),
    row("A", "test", 0, 1.5, position=0.0, area=3.0),
    row("A", "test", 1, 5.0, position=0.4, area=2.0),
    row("B", "test", 0, 3.5, position=1.0, area=4.0),
    row("B", "test", 1, 2.5, position=0.6, area=1.0),
]


def measured(folder: Path) -> dict[str, RunResults]:
    """The results of every baseline on ``ROWS``."""
    write_table(folder / "index.csv", ImageRow, ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evaluate_trivial(Path("index.csv"), "tiny", "patient", PARAMS, Path("metrics"))
        names = [baseline.name for baseline in TRIVIAL_BASELINES]
        return {x: read_results(ResultPaths.of(Path("metrics"), "trivial", x)) for x in names}


def test_suvmax_takes_its_threshold_from_validation_normals_only(tmp_path: Path) -> None:
    # One of four normals may lie above, so the threshold is the third: 3.0, and not 4.0 or 50.0.
    results = measured(tmp_path)[SUVMAX.name]
    assert results.metrics.thresholds == (3.0,)
    assert (results.metrics.seeds, {row.seed for row in results.scores}) == (1, {0})
    assert results.metrics.n_val_normal == 4
    predicted = {score.score: score.predicted for score in results.scores}
    assert predicted == {1.5: 0, 5.0: 1, 3.5: 1, 2.5: 0}
    assert results.metrics.auroc.value == pytest.approx(3 / 4)
    figures = results.metrics.figures
    assert figures["sensitivity"].value == figures["specificity"].value == 0.5
    assert {"pixel_auroc", "aupro"}.isdisjoint(figures)


def test_each_baseline_reads_its_own_number(tmp_path: Path) -> None:
    aurocs = {name: found.metrics.auroc.value for name, found in measured(tmp_path).items()}
    assert aurocs == pytest.approx({"suvmax": 0.75, "body_area": 0.0, "position": 1.0})


@pytest.mark.parametrize(("position", "score"), [(0, 0), (0.25, 0.5), (0.5, 1), (1, 0)])
def test_position_scores_closeness_to_the_middle_of_the_stack(
    position: float, score: float
) -> None:
    assert closeness_to_middle(dataclasses.replace(ROWS[0], position=position)) == score


def test_every_baseline_gets_the_files_of_a_run_and_derives_from_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(Path("index.csv"), ImageRow, ROWS)
    derived = evaluate_trivial(Path("index.csv"), "tiny", "cmad", PARAMS, Path("metrics"))
    assert set(derived) == {"suvmax", "body_area", "position"}
    for baseline, derivations in derived.items():
        paths = ResultPaths.of(Path("metrics"), "trivial", baseline)
        written = {*paths.folder.iterdir(), paths.roc}
        assert written == set(paths.files)
        assert {item.inputs[0].id for item in derivations} == {"file:index.csv"}
        with paths.scores.open(newline="") as stream:
            assert len(list(csv.DictReader(stream))) == 4
