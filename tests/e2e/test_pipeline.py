"""What people do with the repository, done in a temporary clone on the smoke preset."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from petct_uad.core.files import sha256_file
from petct_uad.lineage.graph import Graph
from petct_uad.schema import load_params
from tests.e2e.conftest import Clone, make_clone
from tests.samples import PETCT_BASELINES

pytestmark = pytest.mark.e2e

DATA_STAGES = ("phantom", "ingest", "register", "split", "preprocess", "validate")


def test_repro_ends_in_a_table_and_a_report(smoke: Clone) -> None:
    summary = json.loads((smoke.root / "metrics/summary.json").read_text())
    assert set(summary["auroc"]) == {*rows(smoke), *PETCT_BASELINES}
    assert all(0 <= value <= 1 for value in summary["auroc"].values())
    report = (smoke.root / "reports/index.html").read_text()
    assert "cmad-petct" in report
    assert 'src="http' not in report


def rows(clone: Clone) -> tuple[str, ...]:
    return tuple(load_params(clone.root / "params.yaml").rows)


def test_second_repro_runs_nothing(smoke: Clone) -> None:
    assert smoke.stages_run(smoke.dvc("repro")) == set()


def test_other_test_patients_are_scored_anew_and_retrain_nothing(smoke: Clone) -> None:
    params = smoke.root / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("test_patients: all", "test_patients: held_out"))
    try:
        assert {"split", "preprocess"} <= smoke.stages_run(smoke.dvc("repro", "validate"))
        assert "up to date" in smoke.dvc("status", "distil", "train@cmad", "train@patchcore")
        assert "data/processed/phantom" in smoke.dvc("status", "score@cmad")
    finally:
        params.write_text(before)
        smoke.dvc("repro", "validate")


def test_two_clones_in_different_folders_give_identical_data(smoke: Clone, tmp_path: Path) -> None:
    other = make_clone(tmp_path / "some" / "where else")
    other.dvc("repro", "validate")
    assert other.outs(*DATA_STAGES) == smoke.outs(*DATA_STAGES)


def test_lineage_names_the_bytes_on_disk(smoke: Clone) -> None:
    runs = json.loads((smoke.root / "metrics/summary.json").read_text())["auroc"]
    committed = smoke.root / "metrics/runs"  # with rows of the cpu preset, which did not run here
    tables = [
        stage.table
        for stage in Graph.open(smoke.root).stages
        if committed not in stage.folder.parents or stage.folder.parent.name in runs
    ]
    benchmark = load_params(smoke.root / "params.yaml").benchmark
    trained = sum(len(entry.trained) for entry in benchmark.values())
    scored, distilled, compared = len(benchmark), 1, 1
    assert len(tables) == len(DATA_STAGES) + len(runs) + trained + scored + distilled + compared
    for table in tables:
        for output, made, source, read in table.rows():
            for name, digest in ((output, made), (source, read)):
                kind, _, path = name.partition(":")
                if kind == "file":
                    assert sha256_file(smoke.root / path) == digest, path


def test_what_a_stage_was_asked_is_what_dvc_yaml_says_it_reads(smoke: Clone) -> None:
    """One that is read but not declared leaves stale outputs; one not read is a needless run."""
    asked_for = {"", *load_params(smoke.root / "params.yaml").benchmark}
    declared = {  # dvc.lock keeps the stages of rows of the cpu preset, which did not run here
        name: stage.get("params", {})
        for name, stage in smoke.lock().items()
        if name.partition("@")[2] in asked_for
    }
    outputs = {
        out["path"]: name for name, stage in smoke.lock().items() for out in stage.get("outs", [])
    }
    runs = json.loads((smoke.root / "metrics/summary.json").read_text())["auroc"]
    seen = set()
    for stage in Graph.open(smoke.root).stages:
        folder = stage.folder.relative_to(smoke.root)
        if folder.is_relative_to("metrics/runs") and folder.parent.name not in runs:
            continue  # a row of the cpu preset, in git, which did not run here
        places = (folder, *folder.parents)
        name = next(outputs[str(path)] for path in places if str(path) in outputs)
        keys = set(declared[name].get("params.yaml", {}))
        asked = set(stage.activity.params)
        seen.add(name)
        assert [key for key in asked if not within(key, keys)] == [], f"{name}: not declared"
        assert [key for key in keys if not within(key, asked)] == [], f"{name}: not read"
    assert seen == declared.keys() - {"params"}


def within(key: str, others: set[str]) -> bool:
    """Is it one of them, or a part of one, or has it one of them as a part?"""
    return any(f"{key}.".startswith(f"{x}.") or f"{x}.".startswith(f"{key}.") for x in others)


def test_every_slice_traces_back_to_the_dicom_files_of_its_own_study(smoke: Clone) -> None:
    edges: dict[str, set[str]] = {}
    for stage in Graph.open(smoke.root).stages:
        if stage.folder.is_relative_to(smoke.root / "data"):
            for output, _, source, _ in stage.table.rows():
                edges.setdefault(output, set()).add(source)
    of_study: dict[str, set[str]] = {}
    with (smoke.root / "data/interim/phantom/ingest/instances.csv").open() as stream:
        for row in csv.DictReader(stream):
            names = of_study.setdefault(row["study_id"], set())
            names.add(f"instance:{row['sop_instance_uid']}")
    slices = [name for name in edges if name.startswith("slice:")]
    assert slices
    for name in slices:
        study_id = name.removeprefix("slice:").rsplit("_", 1)[0]
        roots = {parent for parent in ancestors(name, edges) if parent.startswith("instance:")}
        assert roots == of_study[study_id], name


def ancestors(name: str, edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    pending = [name]
    while pending:
        for parent in edges.get(pending.pop(), set()) - found:
            found.add(parent)
            pending.append(parent)
    return found


def test_metrics_and_experiments_print_what_a_person_wants(smoke: Clone) -> None:
    shown = smoke.dvc("metrics", "show", "--md")
    assert "metrics/auroc/cmad.json" in shown
    smoke.dvc("plots", "show", "--out", "plots_out")
    assert (smoke.root / "plots_out/index.html").is_file()


def test_wrong_value_and_misspelt_key_stop_the_first_stage_which_names_both(smoke: Clone) -> None:
    """Which values are wrong is told by tests/unit/test_params.py."""
    before = (smoke.root / "params.yaml").read_text()
    try:
        output = smoke.dvc("exp", "run", "-S", "model.cmpt=8.0", "-S", "+modle.cmpt=4", check=False)
    finally:
        (smoke.root / "params.yaml").write_text(before)
    assert smoke.stages_run(output) == {"params"}
    assert "model.cmpt = 8.0" in output
    assert "at least 1, at most 64" in " ".join(output.split())
    assert "modle" in output
    assert "unknown key" in output


def test_ablation_retrains_and_reevaluates_cmad_only(smoke: Clone) -> None:
    output = smoke.dvc("exp", "run", "--name", "four", "-S", "model.cmpt=4")
    ran = smoke.stages_run(output)
    assert ran == {"params", "train@cmad", "score@cmad", "evaluate@cmad", "compare"}
    assert "metrics/auroc/cmad.json" in smoke.dvc("metrics", "diff", "--all")
    assert "model.cmpt" in smoke.dvc("exp", "diff", "HEAD", "four", "--md")


def test_queue_of_ablations_lists_an_auroc_for_each(smoke: Clone) -> None:
    smoke.dvc("exp", "run", "--queue", "-S", "model.cmpt=2,16", "evaluate@cmad")
    smoke.dvc("queue", "start")
    wait_for_queue(smoke)
    table = smoke.dvc("exp", "show", "--csv")
    rows = list(csv.DictReader(table.splitlines()))
    done = {
        row["model.cmpt"]: row["metrics/auroc/cmad.json:petct"]
        for row in rows
        if row.get("model.cmpt") in ("2", "16") and row["State"] in ("Success", "")
    }
    assert set(done) == {"2", "16"}
    assert all(done.values())


def wait_for_queue(smoke: Clone) -> None:
    """`dvc queue start` returns at once; `queue logs --follow` would miss the second task."""
    for _ in range(120):
        status = smoke.dvc("queue", "status")
        if "Queued" not in status and "Running" not in status:
            assert "Failed" not in status, status
            return
        smoke.run("sleep", "5")  # each question takes a second from what it asks for
    raise AssertionError(f"queue did not finish:\n{status}")
