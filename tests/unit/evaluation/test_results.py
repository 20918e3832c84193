import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from petct_uad.comparison.compare import read_runs, result_paths, summarise, verdict, write_summary
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import read_table
from petct_uad.evaluation.metrics import PixelFigures, choose_panels
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import (
    ResultPaths,
    RunResults,
    SeedScores,
    measure,
    read_results,
    write_results,
)
from petct_uad.evaluation.tables import (
    BEATS,
    LEVEL,
    LOSES,
    Difference,
    HypothesisRow,
    PairRow,
    RunIdentity,
)
from petct_uad.evaluation.trivial import TRIVIAL, TRIVIAL_BASELINES
from petct_uad.schema import load_params
from petct_uad.slices.tables import ImageRow
from tests.small_results import BOTH, HALF, NONE

PARAMS = EvaluateParams(false_positive_rate=0.05, bootstrap_samples=100, confidence=0.95, seed=0)
LABELS = np.tile([0, 0, 1, 0], 20)


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


SIMPLE = np.tile([1, 0, 0], 6)  # the labels that BOTH, HALF and NONE are scores of


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


def test_patients_are_ranked_by_their_highest_slice_as_the_mean_over_seeds():
    labels = np.tile([0, 0, 1, 0], 8) * np.repeat([1, 0], 16)  # four patients have a lesion
    highest_where_abnormal = np.tile([0.0, 1, 3, 2], 8) * np.repeat([1.0, 0.5], 16)
    highest_where_normal = np.tile([0.0, 1, 3, 2], 8) * np.repeat([0.5, 1.0], 16)
    rows = image_rows(labels)
    found = results("run", highest_where_abnormal, highest_where_normal, rows=rows)
    patients = found.metrics.patient_auroc
    assert (patients.value, patients.low, patients.high) == (0.5, 0.5, 0.5)
    (right, wrong) = (
        results("run", x, rows=rows).metrics.patient_auroc.value
        for x in (highest_where_abnormal, highest_where_normal)
    )
    assert (right, wrong) == (1, 0)


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
    ("value", "p", "p_holm", "words"),
    [
        (0.2, 0.001, 0.01, BEATS),
        (0.2, 0.02, 0.06, LEVEL),
        (-0.1, 0.3, 0.9, LOSES),
        (-0.1, 0.001, 0.01, LOSES),
        (0, 1, 1, LOSES),
    ],
)
def test_a_model_must_beat_suvmax_beyond_doubt(value, p, p_holm, words):
    assert verdict(Difference(value, -1, 1, p, p_holm), 0.95) == words


def test_a_verdict_follows_the_p_value_of_the_whole_table(tmp_path):
    # SUVmax fails for four of six patients and the model for none: alone Student's p is 0.025,
    # which would beat SUVmax. Two baselines that equal SUVmax make it three times that.
    rows = image_rows(np.tile([1, 0, 0, 0], 6))
    right, wrong = np.tile([3.0, 1, 2, 1], 6), np.tile([0.0, 1, 2, 1], 6)
    half = np.append(wrong[:16], right[16:])
    for name, scores in (("suvmax", half), ("body_area", half), ("position", half)):
        write_results(at(tmp_path, name), results(name, scores, trivial=True, rows=rows))
    write_results(at(tmp_path, "good"), results("good", right, rows=rows))
    summary = summarise(read(tmp_path, "good"), PARAMS)
    good = next(row for row in summary.rows if row.run == "good")
    assert good.auroc_minus_suvmax_p == pytest.approx(0.025, rel=0.25)
    assert good.auroc_minus_suvmax_low > 0
    assert good.auroc_minus_suvmax_p_holm == pytest.approx(3 * good.auroc_minus_suvmax_p)
    assert good.verdict == LEVEL


def test_every_two_models_are_compared_once(tmp_path):
    write_cmad(tmp_path, petct=4.0, pet=0.2, ct=0.1)
    summary = summarise(read(tmp_path, "cmad-petct", "cmad-pet", "cmad-ct"), PARAMS)
    write_summary(tmp_path, summary)
    rows = read_table(tmp_path / "pairs.csv", PairRow)
    models = [row.run for row in summary.rows if row.run.startswith("cmad")]
    assert [(row.run, row.other) for row in rows] == [*itertools.combinations(models, 2)]
    assert all(row.p <= row.p_holm for row in rows)
    assert [row.told_apart for row in rows] == [row.p_holm < 0.05 for row in rows]
    assert rows[0].told_apart


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


def outcomes(metrics: Path, rows, proposed=None) -> dict[str, str]:
    summary = summarise(read(metrics, *rows), PARAMS, proposed)
    write_summary(metrics, summary)
    return {x.statement.text: x.outcome for x in summary.hypotheses}


def test_both_modalities_must_be_better_than_each(tmp_path):
    write_cmad(tmp_path, petct=2.0, pet=0.2, ct=4.0)
    runs = ["cmad-petct", "cmad-pet", "cmad-ct"]
    assert outcomes(tmp_path, runs)["both modalities are better than one"] == "not supported"
    pet, ct, *others = read_table(tmp_path / "hypotheses.csv", HypothesisRow)
    assert (pet.worse, pet.outcome) == ("cmad-pet", "supported")
    assert (ct.worse, ct.outcome) == ("cmad-ct", "not supported")
    # The family is the two comparisons that could be made.
    assert max(pet.p_holm, ct.p_holm) <= 2 * max(pet.p, ct.p)
    assert {row.outcome for row in others} == {"not tested"}
    assert {row.auroc_difference for row in others} == {None}
    text = (tmp_path / "summary.md").read_text()
    assert f"cmad-petct minus cmad-pet {pet.auroc_difference:+.3f}" in text
    write_cmad(tmp_path, petct=4.0, pet=0.2, ct=0.2)
    assert outcomes(tmp_path, runs)["both modalities are better than one"] == "supported"


def test_a_difference_within_its_uncertainty_supports_no_statement(tmp_path):
    write_cmad(tmp_path, petct=2.0, pet=0.2)
    almost = results("cmad_no_cmh-petct", noise(10) + 1.95 * LABELS)
    write_results(at(tmp_path, "cmad_no_cmh-petct"), almost)
    found = outcomes(tmp_path, ["cmad-petct", "cmad_no_cmh-petct"])
    assert found["the cross-modality hybrid module helps"] == "not supported"
    rows = read_table(tmp_path / "hypotheses.csv", HypothesisRow)
    (row,) = (row for row in rows if row.worse == "cmad_no_cmh-petct")
    assert row.auroc_difference > 0
    assert row.outcome == "not told apart"


def test_modules_and_tokens_are_judged_where_their_rows_are(tmp_path):
    write_cmad(tmp_path, petct=4.0)
    ablations = [f"cmad_{x}-petct" for x in ("no_cmh", "no_gfr", "4_tokens", "16_tokens")]
    for name in ablations:
        write_results(at(tmp_path, name), results(name, noise(3) + 0.1 * LABELS))
    runs = ["cmad-petct", *ablations]
    assert list(outcomes(tmp_path, runs).values()) == ["not tested", *["supported"] * 3]
    assert list(outcomes(tmp_path, runs[:-1]).values())[3] == "not tested"


@pytest.mark.parametrize("change", [{"cmpt": 4}, {"cmh": False}, {"gfr": False}])
def test_statements_are_about_the_proposal_of_the_paper(tmp_path, change):
    write_cmad(tmp_path, petct=4.0, pet=0.2, ct=0.2)
    proposed = load_params(Path("params.yaml")).model
    assert (
        "supported" in outcomes(tmp_path, ["cmad-petct", "cmad-pet", "cmad-ct"], proposed).values()
    )
    changed = proposed.model_copy(update=change)
    found = outcomes(tmp_path, ["cmad-petct", "cmad-pet", "cmad-ct"], changed)
    assert set(found.values()) == {"not tested"}


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
    assert list(content) == [
        "leaking",
        "auroc",
        "auroc_minus_suvmax",
        "auroc_minus_suvmax_p_holm",
    ]
    assert content["leaking"] is False
    assert all(list(figures) == runs for figures in list(content.values())[1:])
    assert content["auroc_minus_suvmax"]["suvmax"] == 0


def test_leaking_protocol_is_marked_in_every_row(tmp_path):
    write_benchmark(tmp_path, protocol="cmad")
    summary = summarise(read(tmp_path, "good", "bad"), PARAMS)
    write_summary(tmp_path, summary)
    text = (tmp_path / "summary.md").read_text()
    assert text.count("(leaking)") == len(summary.rows) == 5
    assert "also trained on" in text
    assert json.loads((tmp_path / "summary.json").read_text())["leaking"] is True
    for table in ("summary.csv", "pairs.csv", "hypotheses.csv"):
        with (tmp_path / table).open(newline="") as stream:
            assert {row["leaking"] for row in csv.DictReader(stream)} == {"true"}, table


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
