"""One figure per run from all folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from petct_uad.audit.folds import folds_table, positions_of, write_folds
from petct_uad.audit.leak import Runs
from petct_uad.comparison.paired import PairedAurocs
from petct_uad.core.errors import EvaluationError
from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.tables import Measured
from petct_uad.evaluation.trivial import closeness_to_middle
from petct_uad.slices.tables import ImageRow, slice_id_of
from tests.samples import image_row
from tests.small_results import BOTH, HALF, NONE, PARAMS, results, small_results


def fold(patients: str, *scores: np.ndarray, run: str = "run") -> dict[str, RunResults]:
    return {run: small_results(run, *scores, patients=patients)}


def test_mean_and_deviation_are_over_folds() -> None:
    (row,) = folds_table([fold("P", BOTH), fold("Q", HALF), fold("R", NONE)], PARAMS)
    assert (row.folds, row.n_patients) == (3, 18)
    assert (row.n_test_abnormal, row.n_test_normal) == (18, 36)
    assert (row.auroc.value, row.auroc_deviation) == pytest.approx((0.5, 0.5))
    assert (row.auroc_lowest, row.auroc_highest) == (0, 1)
    assert row.auroc_pooled.value == pytest.approx(0.5)
    assert row.auroc_pooled.low < 0.5 < row.auroc_pooled.high


def test_pooled_scores_are_ranked_together() -> None:
    # Both models are right within their fold, but one's scores lie above all of the other's: its
    # normals outrank the other's abnormal slices, a quarter of all pairs.
    (row,) = folds_table([fold("P", BOTH), fold("Q", BOTH + 100)], PARAMS)
    assert (row.auroc.value, row.auroc_deviation) == (1, 0)
    assert row.auroc_pooled.value == pytest.approx(0.75)


def test_figures_are_means_over_seeds_too() -> None:
    (row,) = folds_table([fold("P", BOTH, HALF), fold("Q", BOTH, HALF)], PARAMS)
    assert (row.auroc.value, row.auroc_pooled.value) == pytest.approx((0.75, 0.75))


def test_runs_that_a_fold_lacks_are_left_out(tmp_path: Path) -> None:
    both = fold("P", BOTH) | fold("P", HALF, run="other")
    rows = folds_table([both, fold("Q", BOTH)], PARAMS)
    assert [row.run for row in rows] == ["run"]
    write_folds(tmp_path, rows)
    assert (
        "| run | 1.000 ± 0.000 (1.000 to 1.000) | 1.000 to 1.000 |"
        in (tmp_path / "folds.md").read_text()
    )


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([fold("P", BOTH), fold("P", BOTH)], "P0 is tested in two folds"),
        ([fold("P", BOTH), fold("Q", BOTH), fold("P", BOTH)], "P0 is tested in two folds"),
        ([fold("P", BOTH), fold("Q", BOTH, HALF)], "folds of other seeds"),
        ([fold("P", BOTH), fold("Q", BOTH, run="other")], "no run was evaluated in every fold"),
    ],
)
def test_folds_that_do_not_belong_together_are_refused(folds: list[Runs], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        folds_table(folds, PARAMS)


def stacks(patients: str, lengths: range = range(20, 26)) -> list[ImageRow]:
    """A study of each patient; lesions lie in the upper half, and its two middle slices are cut."""
    return [
        image_row(
            slice_id=slice_id_of(f"{patients}{length}_s", i),
            study_id=f"{patients}{length}_s",
            patient=f"{patients}{length}",
            split="test",
            label=int(i > length / 2 and i % 3 != 0),
            position=i / (length - 1),
        )
        for length in lengths
        for i in range(length)
        if abs(2 * i - length) > 2
    ]


def placed_fold(patients: str, **scores: np.ndarray) -> dict[str, RunResults]:
    """Runs with these scores, and the baseline that knows how near the middle a slice lies."""
    rows = stacks(patients)
    close = np.array([closeness_to_middle(row.position) for row in rows])
    return {
        name: results(name, values, rows=rows)
        for name, values in {**scores, "position": close}.items()
    }


def test_the_place_of_a_slice_is_told_from_how_near_it_is_to_the_middle() -> None:
    rows = stacks("P", range(1, 40))
    close = [closeness_to_middle(row.position) for row in rows]
    scores = results("position", close, rows=rows).by_seed[0]
    expected = [row.position for row in rows]
    assert positions_of(scores) == pytest.approx(np.array(expected), abs=1e-5)


def test_a_score_that_knows_only_the_place_has_half_once_that_is_adjusted_for() -> None:
    place = np.array([row.position for row in stacks("P")])
    label = np.array([row.label for row in stacks("P")])
    folds = [placed_fold(x, place=place + shift, lesion=label) for shift, x in enumerate("PQ")]
    found = {row.run: row for row in folds_table(folds, PARAMS)}
    assert found["place"].auroc.value > 0.75
    place_adjusted, lesion_adjusted = found["place"].adjusted, found["lesion"].adjusted
    assert place_adjusted is not None
    assert place_adjusted.value == pytest.approx(0.5, abs=0.1)
    assert lesion_adjusted is not None
    assert lesion_adjusted.value == 1


def test_a_run_is_held_against_suvmax_within_each_fold_whatever_the_scale_of_its_scores() -> None:
    folds = [fold(x, BOTH + 100 * i) | fold(x, HALF, run="suvmax") for i, x in enumerate("PQR")]
    run, suvmax = folds_table(folds, PARAMS)
    assert run.minus_suvmax is not None
    assert (run.minus_suvmax.value, run.minus_suvmax.p_holm) == (0.5, 0)
    assert run.auroc_pooled.value < run.auroc.value
    assert suvmax.minus_suvmax is None
    assert run.adjusted is None  # nobody says where the slices lie


def test_resamples_within_folds_vary_as_much_as_the_mean_of_independent_folds() -> None:
    generator = np.random.default_rng(0)
    noisy = [small_results("run", generator.normal(size=18), patients=x) for x in "PQR"]
    folds = [
        PairedAurocs.of({"run": one.scores_by_seed}, PARAMS, stream)
        for stream, one in enumerate(noisy)
    ]
    together = PairedAurocs.over_folds(folds)
    alone = [one.error(one.drawn["run"]) for one in folds]
    expected = float(np.sqrt(np.square(alone).sum()) / 3)
    assert together.error(together.drawn["run"]) == pytest.approx(expected, rel=0.15)
    assert together.degrees == 3 * folds[0].degrees
    same = PairedAurocs.over_folds(folds[:1])
    assert same.error(same.drawn["run"]) == pytest.approx(alone[0])


def test_lesions_found_are_averaged_where_every_fold_counts_them(tmp_path: Path) -> None:
    rates = {"P": 0.95, "Q": 0.97}
    folds = [{"run": with_froc(x, rate), "none": small_results("none", BOTH, patients=x)}
             for x, rate in rates.items()]  # fmt: skip
    found = {row.run: row for row in folds_table(folds, PARAMS)}
    froc = found["run"].froc_1
    assert froc is not None
    # Student's t with one degree of freedom: 12.7 standard errors of 0.01, cut at 1.
    assert (froc.value, froc.low, froc.high) == pytest.approx((0.96, 0.96 - 0.12706, 1), abs=1e-4)
    assert found["none"].froc_1 is None
    write_folds(tmp_path, list(found.values()))
    header, first, *_ = (tmp_path / "folds.csv").read_text().splitlines()
    assert dict(zip(header.split(","), first.split(","), strict=True))["froc_1"] in ("0.96", "")


def with_froc(patients: str, rate: float) -> RunResults:
    measured = small_results("run", BOTH, patients=patients)
    figures = {**measured.metrics.figures, "froc_1": Measured(rate)}
    return replace(measured, metrics=replace(measured.metrics, figures=figures))
