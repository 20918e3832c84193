import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from petct_uad.errors import EvaluationError
from petct_uad.evaluation.compare import (
    BEATS,
    LEVEL,
    LOSES,
    read_runs,
    result_paths,
    summarise,
    verdict,
    write_summary,
)
from petct_uad.evaluation.metrics import PixelFigures
from petct_uad.evaluation.panels import choose_panels
from petct_uad.evaluation.results import (
    ResultPaths,
    RunResults,
    SeedScores,
    measure,
    read_results,
    write_results,
)
from petct_uad.evaluation.tables import Estimate, RunIdentity
from petct_uad.evaluation.trivial import TRIVIAL, TRIVIAL_BASELINES
from petct_uad.params import EvaluateParams
from petct_uad.slices.tables import ImageRow

PARAMS = EvaluateParams(false_positive_rate=0.05, bootstrap_samples=100, confidence=0.95, seed=0)
LABELS = np.tile([0, 0, 1, 0], 10)


def image_rows(labels=LABELS, prefix="s") -> list[ImageRow]:
    return [
        ImageRow(f"{prefix}_{i:04d}", f"P{i // 4}_s", f"P{i // 4}", "GE", "test", int(label), 0.5,
                 0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.1, 0.1, "0" * 64)
        for i, label in enumerate(labels)
    ]  # fmt: skip


def results(run: str, *scores, trivial=False, protocol="patient", rows=None):
    """Results of a run with these scores of the test slices, one array per seed."""
    identity = RunIdentity(run, run, "pet", trivial, "tiny", protocol, 10, "none")
    normals = np.random.default_rng(1).normal(size=50)
    seeds = [SeedScores(n, normals, np.asarray(x, dtype=float)) for n, x in enumerate(scores)]
    return measure(identity, seeds=seeds, test_rows=rows or image_rows(), params=PARAMS)


def noise(seed=0):
    return np.random.default_rng(seed).normal(size=len(LABELS))


def at(metrics: Path, run: str) -> ResultPaths:
    """Where a run's results lie, below a folder for all models or that of the baselines."""
    trivial = run in {baseline.name for baseline in TRIVIAL_BASELINES}
    return ResultPaths.of(metrics, TRIVIAL if trivial else "models", run)


def read(metrics: Path, *runs: str) -> tuple[RunResults, ...]:
    """These runs and the baselines."""
    return read_runs(result_paths(metrics, dict.fromkeys(runs, "models")))


def write_benchmark(metrics: Path, protocol="patient") -> None:
    write_results(at(metrics, "good"), results("good", noise() + 4 * LABELS, protocol=protocol))
    write_results(at(metrics, "bad"), results("bad", noise(), protocol=protocol))
    for name, strength in (("suvmax", 0.5), ("body_area", 0.0), ("position", 0.0)):
        scores = noise(2) + strength * LABELS
        write_results(at(metrics, name), results(name, scores, trivial=True, protocol=protocol))


def test_results_survive_writing_and_reading(tmp_path):
    written = results("run", noise() + LABELS)
    write_results(at(tmp_path, "run"), written)
    found = read_results(at(tmp_path, "run"))
    assert found.scores == written.scores
    assert found.metrics.identity == written.metrics.identity
    assert found.metrics.auroc.value == pytest.approx(written.metrics.auroc.value, abs=1e-6)
    write_results(at(tmp_path / "again", "run"), found)
    for first, again in zip(
        at(tmp_path, "run").files, at(tmp_path / "again", "run").files, strict=True
    ):
        assert again.read_bytes() == first.read_bytes()


def test_auroc_can_be_recomputed_from_the_score_table(tmp_path):
    write_results(at(tmp_path, "run"), results("run", 1e-3 * (noise() + LABELS)))
    with at(tmp_path, "run").scores.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    again = roc_auc_score([int(r["label"]) for r in rows], [float(r["score"]) for r in rows])
    assert json.loads(at(tmp_path, "run").metrics.read_text())["auroc"] == round(again, 6)


def test_every_float_has_at_most_six_decimals(tmp_path):
    write_results(at(tmp_path, "run"), results("run", noise() + LABELS))
    content = json.loads(at(tmp_path, "run").metrics.read_text())
    assert all(round(v, 6) == v for v in content.values() if isinstance(v, float))


# One abnormal and two normal slices of each patient: the abnormal one outranks both, one or none
# of the normals everywhere, so that the AUROC is 1, 1/2 or 0 in the sample and in any resample.
SIMPLE = np.tile([1, 0, 0], 6)
BOTH, HALF, NONE = (np.tile(x, 6) for x in ([3.0, 1, 2], [1.5, 1, 2], [0.0, 1, 2]))


def test_figures_are_means_over_seeds_and_deviations_are_of_the_sample():
    rows = image_rows(SIMPLE)
    metrics = results("run", BOTH, HALF, NONE, BOTH, rows=rows).metrics
    assert metrics.seeds == 4
    assert metrics.auroc.value == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    # Deviations from 0.625: 0.375, -0.125, -0.625, 0.375; sum of squares 0.6875, over 4 - 1.
    assert metrics.auroc_deviation == pytest.approx((0.6875 / 3) ** 0.5)
    # Average precision of a tied block of k abnormal at rank r: 1, 6/12 and 6/18.
    precisions = np.array([1, 1 / 2, 1 / 3, 1])
    assert metrics.ap.value == pytest.approx(precisions.mean())
    assert metrics.ap_deviation == pytest.approx(precisions.std(ddof=1))


def test_all_seeds_are_resampled_with_the_same_patients():
    # One seed is right wherever the other is wrong: the mean is 1/2 in every resample, and only
    # draws that differ between seeds could give the interval a width.
    metrics = results("run", BOTH, NONE, rows=image_rows(SIMPLE)).metrics
    found = metrics.auroc
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    mirrored = results("run", noise(), -noise()).metrics.auroc
    assert (mirrored.low, mirrored.high) == pytest.approx((0.5, 0.5))


def test_one_seed_has_no_deviation(tmp_path):
    write_results(at(tmp_path, "run"), results("run", noise()))
    content = json.loads(at(tmp_path, "run").metrics.read_text())
    assert content["seeds"] == 1
    assert {content[f"{name}_deviation"] for name in ("auroc", "ap", "f1")} == {None}


def test_each_seed_decides_at_its_own_threshold():
    identity = RunIdentity("run", "run", "pet", False, "tiny", "patient", 10, "none")
    low, high = np.zeros(20), np.full(20, 10.0)
    seeds = [SeedScores(3, low, LABELS - 0.5), SeedScores(9, high, LABELS + 9.5)]
    found = measure(identity, seeds=seeds, test_rows=image_rows(), params=PARAMS)
    assert found.metrics.thresholds == (0.0, 10.0)
    assert (found.metrics.f1.value, found.metrics.f1_deviation) == (1, 0)
    assert [row.seed for row in found.scores] == [3] * len(LABELS) + [9] * len(LABELS)
    assert all(row.predicted == row.label for row in found.scores)


def test_pixel_figures_are_means_and_curves_those_of_the_first_seed():
    identity = RunIdentity("run", "run", "pet", False, "tiny", "patient", 10, "none")
    scores = (noise() + LABELS, noise(5))
    pixels = (PixelFigures(0.8, 0.4), PixelFigures(0.9, 0.5))
    seeds = [
        SeedScores(n, noise(9), x, p) for n, (x, p) in enumerate(zip(scores, pixels, strict=True))
    ]
    both = measure(identity, seeds=seeds, test_rows=image_rows(), params=PARAMS)
    first = measure(identity, seeds=seeds[:1], test_rows=image_rows(), params=PARAMS)
    assert (both.metrics.pixel_auroc, both.metrics.aupro) == pytest.approx((0.85, 0.45))
    assert (both.roc, both.pr, both.histogram) == (first.roc, first.pr, first.histogram)


def test_intervals_hold_their_estimates():
    metrics = results("run", noise() + LABELS).metrics
    for found in (metrics.auroc, metrics.ap, metrics.accuracy, metrics.specificity):
        assert found.low <= found.value <= found.high


@pytest.mark.parametrize("labels", [np.zeros(8, int), np.ones(8, int)])
def test_test_slices_of_one_class_are_refused(labels):
    with pytest.raises(EvaluationError, match="expected both classes"):
        results("run", np.zeros(8), rows=image_rows(labels))


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(EvaluationError, match="test scores of seed 0 are not finite"):
        results("run", np.full(len(LABELS), np.nan))


def test_no_validation_normals_are_refused():
    identity = RunIdentity("run", "run", "pet", False, "tiny", "patient", 10, "none")
    with pytest.raises(EvaluationError, match="no validation normals"):
        measure(identity, seeds=[SeedScores(0, np.array([]), noise())], test_rows=image_rows(),
                params=PARAMS)  # fmt: skip


def test_results_of_another_schema_are_refused_by_name(tmp_path):
    write_results(at(tmp_path, "run"), results("run", noise()))
    at(tmp_path, "run").metrics.write_text('{"auroc": 1.0}')
    with pytest.raises(EvaluationError, match="results of another version"):
        read_results(at(tmp_path, "run"))


@pytest.mark.parametrize(
    ("low", "value", "high", "words"),
    [(0.1, 0.2, 0.3, BEATS), (-0.1, 0.2, 0.3, LEVEL), (-0.2, -0.1, 0.3, LOSES), (0, 0, 0, LOSES)],
)
def test_a_model_must_beat_suvmax_beyond_doubt(low, value, high, words):
    assert verdict(Estimate(value, low, high)) == words


def test_summary_is_sorted_by_auroc_and_marks_losers_and_baselines(tmp_path):
    write_benchmark(tmp_path)
    summary = summarise(read(tmp_path, "good", "bad"), PARAMS)
    write_summary(tmp_path, summary)
    rows = summary.rows
    assert [row.auroc for row in rows] == sorted((row.auroc for row in rows), reverse=True)
    verdicts = {row.run: row.verdict for row in rows}
    assert verdicts["good"] == BEATS
    assert verdicts["bad"] == LOSES
    assert verdicts["suvmax"] == "trivial baseline"
    text = (tmp_path / "summary.md").read_text()
    assert text.index("| good |") < text.index("| bad |")
    assert "| bad | pet | **loses to SUVmax** |" in text
    assert "leaking" not in text


def write_cmad(metrics: Path, **strengths: float) -> None:
    write_benchmark(metrics)
    for number, (modality, strength) in enumerate(strengths.items()):
        name = f"cmad-{modality}"
        write_results(at(metrics, name), results(name, noise(10 + number) + strength * LABELS))


def test_claims_of_both_modalities_are_judged_by_their_paired_differences(tmp_path):
    write_cmad(tmp_path, petct=2.0, pet=0.2, ct=4.0)
    runs = read(tmp_path, "cmad-petct", "cmad-pet", "cmad-ct")
    summary = summarise(runs, PARAMS)
    assert [(claim.worse, claim.outcome) for claim in summary.claims] == [
        ("cmad-pet", "supported"),
        ("cmad-ct", "not supported"),
    ]
    aurocs = {row.run: row.auroc for row in summary.rows}
    expected = aurocs["cmad-petct"] - aurocs["cmad-pet"]
    assert summary.claims[0].difference.value == pytest.approx(expected, abs=2e-6)
    write_summary(tmp_path, summary)
    text = (tmp_path / "summary.md").read_text()
    assert f"cmad-petct minus cmad-pet {expected:+.3f}" in text


def test_a_claim_without_its_runs_is_left_out(tmp_path):
    write_cmad(tmp_path, petct=2.0, pet=0.2)
    summary = summarise(read(tmp_path, "cmad-petct", "cmad-pet"), PARAMS)
    assert [claim.worse for claim in summary.claims] == ["cmad-pet"]
    write_summary(tmp_path, summarise(read(tmp_path, "good"), PARAMS))
    assert "claim" not in (tmp_path / "summary.md").read_text()


def test_summary_shows_the_deviation_where_there_are_seeds(tmp_path):
    write_benchmark(tmp_path)
    write_results(at(tmp_path, "good"), results("good", noise() + LABELS, noise(3) + LABELS))
    summary = summarise(read(tmp_path, "good", "bad"), PARAMS)
    write_summary(tmp_path, summary)
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert [line.count("±") for line in lines if line.startswith(("| good", "| bad"))] in (
        [3, 0],
        [0, 3],
    )
    row = next(row for row in summary.rows if row.run == "good")
    assert row.seeds == 2
    assert row.auroc_deviation > 0


def test_a_seed_on_other_slices_is_not_compared(tmp_path):
    write_benchmark(tmp_path)
    write_results(at(tmp_path, "good"), results("good", noise(), noise()))
    table = at(tmp_path, "good").scores
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(EvaluationError, match=r"good/scores\.csv: other test slices"):
        read(tmp_path, "good", "bad")


def test_summary_json_is_narrow(tmp_path):
    write_benchmark(tmp_path)
    write_summary(tmp_path, summarise(read(tmp_path, "good", "bad"), PARAMS))
    content = json.loads((tmp_path / "summary.json").read_text())
    runs = ["bad", "body_area", "good", "position", "suvmax"]
    assert list(content) == ["auroc", "auroc_minus_suvmax"]
    assert all(list(figures) == runs for figures in content.values())
    assert content["auroc_minus_suvmax"]["suvmax"] == 0


def test_leaking_protocol_is_marked_in_every_row(tmp_path):
    write_benchmark(tmp_path, protocol="cmad")
    summary = summarise(read(tmp_path, "good", "bad"), PARAMS)
    write_summary(tmp_path, summary)
    text = (tmp_path / "summary.md").read_text()
    assert text.count("(leaking)") == len(summary.rows) == 5
    assert "also trained on" in text


def test_runs_on_other_slices_are_not_compared(tmp_path):
    write_benchmark(tmp_path)
    stale = results("bad", noise(), rows=image_rows(prefix="other"))
    write_results(at(tmp_path, "bad"), stale)
    with pytest.raises(EvaluationError, match=r"bad/scores\.csv: other test slices"):
        read(tmp_path, "good", "bad")


def test_a_missing_run_is_named(tmp_path):
    write_benchmark(tmp_path)
    with pytest.raises(EvaluationError, match=r"absent/metrics\.json: not found"):
        read(tmp_path, "good", "absent")


def test_panels_are_the_highest_middle_and_lowest_abnormal_slices():
    labels = np.array([0, 1, 1, 1, 0, 1])
    scores = np.array([9.0, 1.0, 5.0, 3.0, -9.0, 4.0])
    assert choose_panels(labels, scores) == {"best": 2, "median": 5, "worst": 1}


def test_a_single_abnormal_slice_is_best_median_and_worst():
    assert set(choose_panels(np.array([0, 1]), np.array([0.0, 1.0])).values()) == {1}
