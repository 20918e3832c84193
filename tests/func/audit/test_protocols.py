"""`petct leak` and `petct folds` read results from the repository's history."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from petct_uad.audit.runs import read_revision
from petct_uad.cli.app import app
from petct_uad.core.params.base import Protocol
from petct_uad.evaluation.results import RunResults
from petct_uad.lineage.revision import find_revision
from tests.small_results import BOTH, HALF, NONE, small_results, write_small
from tests.unit.evaluation.test_findings import TWO, of_run

ROOT = Path(__file__).resolve().parents[3]
FAMILY, RUN = "patchcore", "patchcore-pet"
METRICS = Path("metrics")
PROTOCOLS: tuple[Protocol, ...] = ("patient", "cmad")


def git(*words: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x")
    subprocess.run(["git", *identity, *words], check=True, capture_output=True)


def processed(made_of: str, dataset: str = "phantom") -> dict[str, object]:
    return out(f"data/processed/{dataset}", made_of)


def out(path: str, made_of: str) -> dict[str, object]:
    """A folder as ``dvc.lock`` names it."""
    md5 = hashlib.md5(made_of.encode(), usedforsecurity=False).hexdigest()
    return {"path": path, "hash": "md5", "md5": f"{md5}.dir"}


def commit(tag: str, *stale: str, **split: object) -> None:
    """All stages ran on this split's data but the stale ones, which ran on other data."""
    params = YAML().load((ROOT / "params.yaml").read_text())
    params["split"] |= split
    YAML().dump(params, Path("params.yaml"))
    Path("dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    stages = {"preprocess": {"cmd": "x", "outs": [processed(tag)]}}
    for stage in ("evaluate@patchcore", "evaluate@cmad", "evaluate_trivial"):
        read = "others" if stage in stale else tag
        stages[stage] = {"cmd": "x", "deps": [processed(read)]}
    YAML().dump({"schema": "2.0", "stages": stages}, Path("dvc.lock"))
    git("add", "-A")
    git("commit", "-qm", tag)
    git("tag", tag)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A commit per protocol, and one per fold of three."""
    home = tmp_path_factory.mktemp("history")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        git("init", "-q")
        for protocol, scores in zip(PROTOCOLS, (HALF, BOTH), strict=True):
            for family, run, values in ((FAMILY, RUN, scores), ("trivial", "suvmax", HALF)):
                write_small(METRICS, family, small_results(run, values, protocol=protocol))
            commit(protocol, protocol=protocol)
        for fold, scores in enumerate((BOTH, HALF, NONE)):
            patients = f"F{fold}"
            write_small(METRICS, FAMILY, small_results(RUN, scores, patients=patients))
            write_small(METRICS, "trivial", small_results("suvmax", BOTH, patients=patients))
            write_small(METRICS, "cmad", small_results("cmad-pet", BOTH, patients="F0"))
            commit(f"fold{fold}", "evaluate@cmad", folds=3, fold=fold)
        # An experiment is a commit below refs/exps.
        git("update-ref", "refs/exps/ab/cdef/leaky-exp", "cmad")
    return home


@pytest.fixture(autouse=True)
def at_history(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(history)


def petct(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_leak_is_read_from_a_commit_and_an_experiment() -> None:
    done = petct("leak", "patient", "leaky-exp")
    assert done.exit_code == 0, done.output
    assert f"| {RUN} | 0.500 (0.500 to 0.500) | 1.000 (1.000 to 1.000) | +0.500" in done.stdout
    assert Path("metrics/leak.md").read_text() == done.stdout
    assert Path("metrics/leak.csv").read_text().splitlines()[1].startswith(f"{RUN},false,0.5,")


def test_an_audit_of_a_split_that_leaks_says_what_a_leak_is_worth(tmp_path: Path) -> None:
    (tmp_path / "leaks.csv").write_text("patient,split\nP1,train\nP1,test\nP2,test\n")
    (tmp_path / "clean.csv").write_text("patient,split\nP1,train\nP2,test\n")
    worth = ("--worth", "patient", "cmad")
    text = petct("audit-split", str(tmp_path / "leaks.csv"), *worth)
    assert text.exit_code == 1, text.output
    assert text.stdout.endswith(petct("leak", "patient", "cmad").stdout)
    told = json.loads(petct("audit-split", str(tmp_path / "leaks.csv"), *worth, "--json").stdout)
    assert (told["verdict"], told["worth"][0]["leak"]) == ("leaks", 0.5)
    # Of a split that does not leak there is nothing to say.
    clean = petct("audit-split", str(tmp_path / "clean.csv"), *worth)
    assert (clean.exit_code, RUN in clean.stdout) == (0, False)


def test_leak_in_the_wrong_order_is_refused_in_a_sentence() -> None:
    done = petct("leak", "cmad", "patient")
    assert done.exit_code == 1
    assert "name them in this order" in " ".join(done.output.split())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_folds_are_pooled_in_any_order(order: tuple[int, ...]) -> None:
    done = petct("folds", *(f"fold{n}" for n in order))
    assert done.exit_code == 0, done.output
    assert "| suvmax | 1.000 ± 0.000 (1.000 to 1.000) |" in done.stdout
    assert f"| {RUN} | 0.500 ± 0.500 (0.500 to 0.500) | 0.000 to 1.000 |" in done.stdout
    assert Path("metrics/folds.md").read_text() == done.stdout


def test_what_an_experiment_did_not_evaluate_is_named_and_left_out() -> None:
    # `dvc exp run evaluate@patchcore` on a fold leaves the other models' results of the last one.
    done = petct("folds", "fold0", "fold1", "fold2")
    assert done.exit_code == 0, done.output
    assert "cmad-pet" not in done.stdout
    said = " ".join(done.output.split())
    assert "fold1: left out, since they did not run on its data and params: evaluate@cmad" in said


def test_what_is_still_of_another_data_set_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # `dvc exp run -S dataset=mine evaluate@patchcore` leaves the other models' rows of the phantom.
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    for family, run in ((FAMILY, RUN), ("cmad", "cmad-pet")):
        write_small(METRICS, family, small_results(run, HALF))
    commit("mixed")
    lock = YAML().load(Path("dvc.lock").read_text())
    lock["stages"]["evaluate@cmad"]["deps"] = [processed("mixed", "other")]
    YAML().dump(lock, Path("dvc.lock"))
    assert list(read_revision(find_revision("workspace"))) == [RUN]
    said = capsys.readouterr().err
    assert "left out, since they did not run on its data and params: evaluate@cmad" in said


def test_the_workspace_is_a_revision_too() -> None:
    assert petct("folds", "fold0", "fold1", "workspace").exit_code == 0


@pytest.mark.parametrize("names", [["fold0", "fold1"], ["fold0", "fold1", "fold1"], ["patient"]])
def test_missing_folds_are_named_with_the_line_that_makes_them(names: list[str]) -> None:
    done = petct("folds", *names)
    assert done.exit_code == 1
    text = " ".join(done.output.split())
    assert "Expected every fold of one division once" in text
    assert "split.fold=0,1,2,3,4" in text


def test_results_of_another_version_are_named_with_their_revision() -> None:
    path = METRICS / "runs" / FAMILY / RUN / "metrics.json"
    text = path.read_text()
    path.write_text(text.replace('"auroc":', '"auc":'))
    try:
        done = petct("folds", "fold0", "fold1", "workspace")
    finally:
        path.write_text(text)
    assert done.exit_code == 1
    said = " ".join(done.output.split())
    assert f"metrics/runs/{FAMILY}/{RUN} at workspace: results of another version" in said


def test_unknown_revision_is_named() -> None:
    assert "nowhere: no commit" in " ".join(petct("leak", "patient", "nowhere").output.split())


def test_results_that_count_lesions_are_read_whole_from_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FROC and findings are there only where there are lesions; here and there differ in them."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    measured = of_run(TWO)
    write_small(METRICS, FAMILY, replace_run(measured))
    commit("lesions")
    there = read_revision(find_revision("lesions"))[RUN]
    assert there.froc
    assert [x.pet_share for x in there.findings] == [x.pet_share for x in measured.findings]
    write_small(METRICS, FAMILY, small_results(RUN, HALF))
    assert read_revision(find_revision("lesions"))[RUN].froc == there.froc
    assert read_revision(find_revision("workspace"))[RUN].froc == ()


def replace_run(results: RunResults) -> RunResults:
    metrics = results.metrics
    identity = replace(metrics.identity, run=RUN)
    return replace(results, metrics=replace(metrics, identity=identity))
