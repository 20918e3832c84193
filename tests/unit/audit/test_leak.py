"""How much the leaking protocol flatters, and what cannot be compared."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from petct_uad.audit.leak import Leak, Runs, leak_of, leak_table
from petct_uad.comparison.paired import PairedAurocs
from petct_uad.core.errors import EvaluationError
from petct_uad.core.params.base import Protocol
from tests.small_results import BOTH, HALF, NONE, PARAMS, PATIENTS, small_results

PROTOCOLS: tuple[Protocol, Protocol] = ("patient", "cmad")
PATIENT: Runs = {
    "suvmax": small_results("suvmax", HALF),
    "learnt": small_results("learnt", HALF, NONE),
    "honest": small_results("honest", BOTH),
    "only-here": small_results("only-here", BOTH),
}
CMAD: Runs = {
    "suvmax": small_results("suvmax", BOTH, protocol="cmad", patients="Q"),
    "learnt": small_results("learnt", BOTH, BOTH, protocol="cmad", patients="Q"),
    "honest": small_results("honest", BOTH, protocol="cmad", patients="Q"),
}


def test_leak_is_cmad_minus_patient_as_the_mean_over_seeds() -> None:
    rows = {row.run: row for row in leak_table(PATIENT, CMAD, PARAMS)}
    assert list(rows) == ["learnt", "suvmax", "honest"]
    learnt = rows["learnt"]
    assert (learnt.auroc_patient, learnt.auroc_cmad) == pytest.approx((0.25, 1.0))
    assert (learnt.leak, learnt.leak_low, learnt.leak_high) == pytest.approx((0.75,) * 3)
    assert learnt.p < 0.01
    assert rows["honest"].leak == 0
    assert rows["honest"].p == 1


def test_on_the_same_slices_only_training_differs() -> None:
    suvmax_scores = np.tile([3.0, 1, 2, 0.0, 1, 2], 3)
    scores = {"suvmax": (suvmax_scores, suvmax_scores), "learnt": (HALF, BOTH)}
    patient, cmad = (
        {
            run: small_results(run, sides[i], protocol=protocol, patients="P")
            for run, sides in scores.items()
        }
        for i, protocol in enumerate(PROTOCOLS)
    )
    rows = {row.run: row for row in leak_table(patient, cmad, PARAMS)}
    found = rows["learnt"]
    same = (found.same_slices, found.same_slices_low, found.same_slices_high)
    assert same == pytest.approx((0.5,) * 3)
    assert found.same_slices_p_holm is not None
    assert found.same_slices_p_holm < 0.05
    suvmax = rows["suvmax"]
    assert (suvmax.same_slices, suvmax.same_slices_low, suvmax.same_slices_high) == (0, 0, 0)
    assert suvmax.same_slices_p == 1


def test_slices_of_one_side_only_do_not_count_as_the_same() -> None:
    """Each side tests a patient whom the other does not, and ranks that one otherwise."""
    ranked = np.tile([3.0, 1, 2], PATIENTS - 1)
    patient, cmad = (
        {
            name: small_results(
                name, np.concatenate([ranked, own]), protocol=protocol, others=other
            )
            for name in ("suvmax", "learnt")
        }
        for protocol, (other, own) in zip(
            PROTOCOLS, (("A", [3.0, 1, 2]), ("B", [0.0, 1, 2])), strict=True
        )
    )
    for row in leak_table(patient, cmad, PARAMS):
        assert row.leak < 0
        assert row.same_slices == 0


def test_no_slice_in_both_leaves_the_column_empty() -> None:
    rows = leak_table(PATIENT, CMAD, PARAMS)
    assert {row.same_slices for row in rows} == {None}
    assert Leak(rows).markdown.splitlines()[2].endswith("|  |  |")


def test_the_two_sides_are_drawn_independently() -> None:
    # The same slices and scores on both sides: drawn alike, the interval would have no width.
    uneven = [3.0, 1, 2, 0.0, 1, 2] * 3
    patient, cmad = (
        {"suvmax": small_results("suvmax", uneven, protocol=protocol)} for protocol in PROTOCOLS
    )
    (row,) = leak_table(patient, cmad, PARAMS)
    assert row.leak == 0
    assert row.leak_low < -0.2
    assert row.leak_high > 0.2


@pytest.mark.parametrize("patients", [(6, 6), (3, 6), (6, 3)], ids=str)
def test_a_leak_is_as_uncertain_as_both_sides_and_has_the_degrees_of_the_smaller(
    patients: tuple[int, int],
) -> None:
    """Independent errors add as squares; of two sides the one with fewer patients says the t."""
    sides = [
        {"suvmax": small_results("suvmax", uneven[: 3 * n], protocol=name, patients=name, count=n)}
        for uneven, name, n in zip(
            ([3.0, 1, 2, 0.0, 1, 2, 1.5, 1, 2] * 2, [1.5, 1, 2, 3.0, 1, 2, 3.0, 1, 2] * 2),
            PROTOCOLS,
            patients,
            strict=True,
        )
    ]
    (row,) = leak_table(sides[0], sides[1], PARAMS)
    errors = []
    for stream, side in enumerate(sides):
        alone = PairedAurocs.of({"suvmax": side["suvmax"].scores_by_seed}, PARAMS, stream)
        errors.append(alone.error(alone.drawn["suvmax"]))
    assert min(errors) > 0.3 * max(errors)
    error = (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    reach = stats.t.ppf(0.975, min(patients) - 1) * error
    assert (row.leak_high - row.leak, row.leak - row.leak_low) == pytest.approx((reach, reach))
    assert row.p == pytest.approx(2 * stats.t.sf(row.leak / error, min(patients) - 1))


def test_table_says_what_leaks_and_can_be_written_twice_alike(tmp_path: Path) -> None:
    for name in ("a", "b"):
        leak_of(PATIENT, CMAD, PARAMS).write(tmp_path / name)
    text = (tmp_path / "a/leak.md").read_text()
    assert "cmad (leaking)" in text
    assert "+0.750 (+0.750 to +0.750)" in text
    for name in ("leak.md", "leak.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with (tmp_path / "a/leak.csv").open(newline="") as stream:
        assert [row["run"] for row in csv.DictReader(stream)] == ["learnt", "suvmax", "honest"]


def test_results_that_were_not_made_again_are_named_and_left_out(tmp_path: Path) -> None:
    stale = {name: CMAD[name] for name in ("suvmax", "learnt")} | {"honest": PATIENT["honest"]}
    leak = leak_of(PATIENT, stale, PARAMS)
    assert [row.run for row in leak.rows] == ["learnt", "suvmax"]
    leak.write(tmp_path)
    text = (tmp_path / "leak.md").read_text()
    assert text.endswith("Not evaluated under both protocols: honest, only-here.\n")


OTHER_DATA: Runs = {"suvmax": small_results("suvmax", BOTH, protocol="cmad", dataset="other")}


@pytest.mark.parametrize(
    ("patient", "cmad", "message"),
    [
        (CMAD, PATIENT, "name them in this order"),
        (PATIENT, PATIENT, "under cmad in the second"),
        (PATIENT, {}, "suvmax: not evaluated"),
        (PATIENT, OTHER_DATA, "within one data set"),
    ],
)
def test_what_is_no_leak_is_refused(patient: Runs, cmad: Runs, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        leak_table(patient, cmad, PARAMS)
