"""The summary's tables: verdicts, pairs and what papers claim."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petct_uad.comparison.compare import (
    read_runs,
    result_paths,
    summarise,
    verdict,
    write_summary,
)
from petct_uad.comparison.tables import (
    BEATS,
    LEVEL,
    LOSES,
    Difference,
    HypothesisRow,
    PairRow,
)
from petct_uad.core.claims import Claim
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import read_table
from petct_uad.core.params.base import TestPatients
from petct_uad.evaluation.results import ResultPaths, RunResults, write_results
from petct_uad.evaluation.trivial import TRIVIAL, TRIVIAL_BASELINES
from petct_uad.models.cmad.params import CmadParams
from petct_uad.schema import load_params
from tests.small_results import LABELS, PARAMS, image_rows, known, noise, results


def at(metrics: Path, run: str) -> ResultPaths:
    """Where a run's results lie: an entry of its own for each, one for all baselines."""
    trivial = run in {baseline.name for baseline in TRIVIAL_BASELINES}
    return ResultPaths.of(metrics, TRIVIAL if trivial else run, run)


def read(metrics: Path, *runs: str) -> tuple[RunResults, ...]:
    """These runs and the baselines."""
    return read_runs(result_paths(metrics, runs))


def write_benchmark(metrics: Path, **measured_on: Any) -> None:
    write_results(at(metrics, "good"), results("good", noise() + 4 * LABELS, **measured_on))
    write_results(at(metrics, "bad"), results("bad", noise(), **measured_on))
    for name, strength in (("suvmax", 0.5), ("body_area", 0.0), ("position", 0.0)):
        scores = noise(2) + strength * LABELS
        write_results(at(metrics, name), results(name, scores, trivial=True, **measured_on))


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
def test_a_model_must_beat_suvmax_beyond_doubt(
    value: float, p: float, p_holm: float, words: Any
) -> None:
    assert verdict(Difference(value, -1, 1, p, p_holm), 0.95) == words


def test_a_verdict_follows_the_p_value_of_the_whole_table(tmp_path: Path) -> None:
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
    assert good.minus_suvmax.p == pytest.approx(0.025, rel=0.25)
    assert good.minus_suvmax.low > 0
    assert good.minus_suvmax.p_holm == pytest.approx(3 * good.minus_suvmax.p)
    assert good.verdict == LEVEL


def test_every_two_models_are_compared_once(tmp_path: Path) -> None:
    write_cmad(tmp_path, petct=4.0, pet=0.2, ct=0.1)
    summary = summarise(read(tmp_path, "cmad-petct", "cmad-pet", "cmad-ct"), PARAMS)
    write_summary(tmp_path, summary)
    rows = read_table(tmp_path / "pairs.csv", PairRow)
    models = [row.run for row in summary.rows if row.run.startswith("cmad")]
    assert [(row.run, row.other) for row in rows] == [*itertools.combinations(models, 2)]
    assert all(row.p <= row.p_holm for row in rows)
    assert [row.significant for row in rows] == [row.p_holm < 0.05 for row in rows]
    assert rows[0].significant


def test_summary_is_sorted_by_auroc_and_marks_losers_and_baselines(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    summary = summarise(read(tmp_path, "good", "bad"), PARAMS)
    write_summary(tmp_path, summary)
    rows = summary.rows
    aurocs = [row.auroc.value for row in rows]
    assert aurocs == sorted(aurocs, reverse=True)
    verdicts = {row.run: row.verdict for row in rows}
    assert verdicts["good"] == BEATS
    assert verdicts["bad"] == LOSES
    assert verdicts["suvmax"] == "trivial baseline"
    text = (tmp_path / "summary.md").read_text()
    assert text.index("| good |") < text.index("| bad |")
    assert "| bad | pet | **loses to SUVmax** |" in text
    assert "leaking" not in text


def write_cmad(metrics: Path, *, as_published: bool = True, **strengths: float) -> None:
    write_benchmark(metrics)
    for number, (modality, strength) in enumerate(strengths.items()):
        scores = noise(10 + number) + strength * LABELS
        write_run(metrics, f"cmad-{modality}", scores, as_published=as_published)


def write_run(metrics: Path, run: str, scores: np.ndarray, *, as_published: bool = True) -> None:
    """Write a run of the model whose paper claims something of it."""
    found = results(run, scores, claims=CmadParams.claims, as_published=as_published)
    write_results(at(metrics, run), found)


def outcomes(metrics: Path, runs: Sequence[str]) -> dict[str, str]:
    summary = summarise(read(metrics, *runs), PARAMS)
    write_summary(metrics, summary)
    return {x.claim.text: x.outcome for x in summary.hypotheses}


def test_both_modalities_must_be_better_than_each(tmp_path: Path) -> None:
    write_cmad(tmp_path, petct=2.0, pet=0.2, ct=4.0)
    runs = ["cmad-petct", "cmad-pet", "cmad-ct"]
    assert outcomes(tmp_path, runs)["both modalities are better than one"] == "not supported"
    pet, ct, *others = read_table(tmp_path / "hypotheses.csv", HypothesisRow)
    assert (pet.worse, pet.outcome) == ("cmad-pet", "supported")
    assert (ct.worse, ct.outcome) == ("cmad-ct", "not supported")
    # The family is the two comparisons that could be made.
    largest = max(known(pet.p), known(ct.p))
    assert max(known(pet.p_holm), known(ct.p_holm)) <= 2 * largest
    assert {row.outcome for row in others} == {"not tested"}
    assert {row.auroc_difference for row in others} == {None}
    text = (tmp_path / "summary.md").read_text()
    assert f"cmad-petct minus cmad-pet {pet.auroc_difference:+.3f}" in text
    write_cmad(tmp_path, petct=4.0, pet=0.2, ct=0.2)
    assert outcomes(tmp_path, runs)["both modalities are better than one"] == "supported"


def test_a_difference_within_its_uncertainty_supports_no_statement(tmp_path: Path) -> None:
    write_cmad(tmp_path, petct=2.0, pet=0.2)
    write_run(tmp_path, "cmad_no_cmh-petct", noise(10) + 1.95 * LABELS, as_published=False)
    found = outcomes(tmp_path, ["cmad-petct", "cmad_no_cmh-petct"])
    assert found["the cross-modality hybrid module helps"] == "not supported"
    rows = read_table(tmp_path / "hypotheses.csv", HypothesisRow)
    (row,) = (row for row in rows if row.worse == "cmad_no_cmh-petct")
    assert known(row.auroc_difference) > 0
    assert row.outcome == "no significant difference"


def test_modules_and_tokens_are_judged_where_their_rows_are(tmp_path: Path) -> None:
    write_cmad(tmp_path, petct=4.0)
    ablations = [f"cmad_{x}-petct" for x in ("no_cmh", "no_gfr", "4_tokens", "16_tokens")]
    for name in ablations:
        write_run(tmp_path, name, noise(3) + 0.1 * LABELS, as_published=False)
    runs = ["cmad-petct", *ablations]
    assert list(outcomes(tmp_path, runs).values()) == ["not tested", *["supported"] * 3]
    assert list(outcomes(tmp_path, runs[:-1]).values())[3] == "not tested"


@pytest.mark.parametrize(
    "change", [{"cmpt": 4}, {"cmh": False}, {"gfr": False}, {"targets": "with_input"}]
)
def test_claims_are_about_the_model_as_its_paper_proposes_it(tmp_path: Path, change: Any) -> None:
    default = load_params(Path("params.yaml")).model
    proposed = default.model_copy(update={"targets": "below_input"})
    runs = ["cmad-petct", "cmad-pet", "cmad-ct"]
    for params, tested in ((proposed, True), (proposed.model_copy(update=change), False)):
        published = params.is_as_published()
        write_cmad(tmp_path, petct=4.0, pet=0.2, ct=0.2, as_published=published)
        found = set(outcomes(tmp_path, runs).values())
        assert found == ({"supported", "not tested"} if tested else {"not tested"})


def test_without_a_row_that_a_paper_is_about_nothing_is_claimed(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    assert outcomes(tmp_path, ["good", "bad"]) == {}
    assert read_table(tmp_path / "hypotheses.csv", HypothesisRow) == []
    assert "statement" not in (tmp_path / "summary.md").read_text()


def test_each_paper_has_a_table_of_its_own(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    claim = Claim("bad is better than good", "BAD", "Table 1", "bad", ("good",))
    write_results(at(tmp_path, "bad"), results("bad", noise(), claims=(claim,)))
    write_run(tmp_path, "cmad-petct", noise(4))
    assert outcomes(tmp_path, ["bad", "good", "cmad-petct"])[claim.text] == "not supported"
    text = (tmp_path / "summary.md").read_text()
    assert text.index("| statement of the BAD paper |") < text.index("statement of the CMAD paper")


def test_teachers_and_image_sizes_are_named_where_models_differ_in_them(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    for name, side in (("good", 128), ("bad", 128), ("large", 256)):
        scores = noise(3) + LABELS
        found = results(name, scores, teacher="resnet18", image_size_px=side)
        write_results(at(tmp_path, name), found)
    write_summary(tmp_path, summarise(read(tmp_path, "good", "bad"), PARAMS))
    assert "resnet18" not in (tmp_path / "summary.md").read_text()
    write_summary(tmp_path, summarise(read(tmp_path, "good", "bad", "large"), PARAMS))
    note = "differ: resnet18 at 128 px: bad, good; resnet18 at 256 px: large."
    assert note in (tmp_path / "summary.md").read_text()
    with (tmp_path / "summary.csv").open(newline="") as stream:
        rows = {row["run"]: row for row in csv.DictReader(stream)}
    assert (rows["large"]["teacher"], rows["large"]["image_size_px"]) == ("resnet18", "256")
    assert list(rows["large"])[2:5] == ["modality", "teacher", "image_size_px"]


def test_summary_shows_the_deviation_where_there_are_seeds(tmp_path: Path) -> None:
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
    assert known(row.auroc.deviation) > 0


def test_a_seed_on_other_slices_is_not_compared(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    write_results(at(tmp_path, "good"), results("good", noise(), noise()))
    table = at(tmp_path, "good").scores
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(EvaluationError, match=r"good/scores\.csv: other test slices"):
        read(tmp_path, "good", "bad")


def test_summary_json_is_narrow(tmp_path: Path) -> None:
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


def test_leaking_protocol_is_marked_in_every_row(tmp_path: Path) -> None:
    write_benchmark(tmp_path, protocol="cmad")
    claiming = results("cmad-petct", noise(), protocol="cmad", claims=CmadParams.claims)
    write_results(at(tmp_path, "cmad-petct"), claiming)
    summary = summarise(read(tmp_path, "good", "bad", "cmad-petct"), PARAMS)
    write_summary(tmp_path, summary)
    text = (tmp_path / "summary.md").read_text()
    assert text.count("(leaking)") == len(summary.rows) == 6
    assert "also trained on" in text
    assert json.loads((tmp_path / "summary.json").read_text())["leaking"] is True
    for table in ("summary.csv", "pairs.csv", "hypotheses.csv"):
        with (tmp_path / table).open(newline="") as stream:
            assert {row["leaking"] for row in csv.DictReader(stream)} == {"true"}, table


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("all", ""),
        ("development", "not to be reported"),
        ("held_out", "Without the test patients that are there to choose params on"),
    ],
)
def test_which_test_patients_figures_are_of_is_said_beside_them(
    tmp_path: Path, part: TestPatients, said: str
) -> None:
    write_benchmark(tmp_path, test_patients=part)
    write_summary(tmp_path, summarise(read(tmp_path, "good", "bad"), PARAMS))
    text = (tmp_path / "summary.md").read_text()
    assert said in text
    assert ("choose" in text or "chosen" in text) == (part != "all")
    with (tmp_path / "summary.csv").open(newline="") as stream:
        assert {row["test_patients"] for row in csv.DictReader(stream)} == {part}


def test_figures_of_a_revision_before_test_patients_could_be_set_aside_are_of_all(
    tmp_path: Path,
) -> None:
    write_benchmark(tmp_path)
    file = at(tmp_path, "good").folder / "metrics.json"
    content = json.loads(file.read_text())
    del content["test_patients"]
    file.write_text(json.dumps(content))
    assert read(tmp_path, "good")[0].metrics.identity.test_patients == "all"


def test_runs_on_other_slices_are_not_compared(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    stale = results("bad", noise(), rows=image_rows(prefix="other"))
    write_results(at(tmp_path, "bad"), stale)
    with pytest.raises(EvaluationError, match=r"bad/scores\.csv: other test slices"):
        read(tmp_path, "good", "bad")


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    with pytest.raises(EvaluationError, match="runs/absent: holds no results"):
        read(tmp_path, "good", "absent")
