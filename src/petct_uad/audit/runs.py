"""The benchmark's results as a revision has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from petct_uad.core.console import console
from petct_uad.core.errors import EvaluationError, LineageError
from petct_uad.evaluation.results import ResultPaths, RunResults, read_results
from petct_uad.evaluation.trivial import TRIVIAL
from petct_uad.lineage.names import RUNS, family_of, metrics_file
from petct_uad.lineage.revision import Revision
from petct_uad.lineage.store import parse_yaml

_MADE = ("data/interim/", "data/processed/")  # in front of the data set's name


def read_revision(revision: Revision) -> Mapping[str, RunResults]:
    """Results of the models in a revision's params.yaml and of the trivial baselines, by run.

    What was not evaluated there is left out; what is of other data than the revision's is named.

    Raises:
        LineageError: params.yaml, dvc.lock or a result cannot be read, or is of another version.
    """
    families = {name: f"evaluate@{name}" for name in _section(revision, "benchmark")}
    families[TRIVIAL] = "evaluate_trivial"
    files = map(Path, revision.files(RUNS.as_posix()))
    runs = [x.parent.name for x in files if x == metrics_file(x.parent.name)]
    found = {run: families[family_of(run)] for run in runs if family_of(run) in families}
    stale = sorted(stage for stage in {*found.values()} if not _is_of(revision, stage))
    if stale:
        console.print(
            f"{revision.name}: left out, since they did not run on its data and params: "
            f"{', '.join(stale)}",
            soft_wrap=True,
        )
    with TemporaryDirectory() as folder:
        return {
            run: _read_run(revision, run, Path(folder))
            for run, stage in found.items()
            if stage not in stale
        }


def _is_of(revision: Revision, stage: str) -> bool:
    """Did a stage run on the data and params that the revision has, and on its data set?"""
    if not revision.is_current(stage):
        return False
    made = (path.split("/") for path in revision.stages[stage].deps if path.startswith(_MADE))
    return all(parts[2] == revision.params["dataset"] for parts in made)


def read_folds(revisions: Sequence[Revision]) -> tuple[Mapping[str, RunResults], ...]:
    """Results of every fold, in the order of the folds.

    Raises:
        LineageError: the revisions are not all folds of one division, each once.
    """
    splits = [_section(revision, "split") for revision in revisions]
    by_fold = {
        int(split.get("fold", 0)): revision
        for split, revision in zip(splits, revisions, strict=True)
    }
    same = all(split | {"fold": 0} == splits[0] | {"fold": 0} for split in splits)
    complete = list(range(splits[0].get("folds", 0)))
    if not same or len(revisions) < 2 or sorted(by_fold) != complete:
        found = "; ".join(
            f"{revision.name}: fold {split.get('fold')} of {split.get('folds')}"
            for revision, split in zip(revisions, splits, strict=True)
        )
        raise LineageError(
            f"{found}. Expected every fold of one division once, with the same `split` otherwise: "
            "`dvc exp run --queue -S split.folds=5 -S split.fold=0,1,2,3,4`."
        )
    return tuple(read_revision(by_fold[fold]) for fold in sorted(by_fold))


def _section(revision: Revision, key: str) -> dict[str, Any]:
    name = f"params.yaml at {revision.name}"
    section = parse_yaml(revision.read("params.yaml"), name).get(key)
    if not isinstance(section, dict):
        raise LineageError(f"{name}: has no section `{key}`")
    return section


def _read_run(revision: Revision, run: str, folder: Path) -> RunResults:
    here, there = (ResultPaths.of(home, family_of(run), run) for home in (folder, RUNS.parent))
    for copy, original in zip(here.possible, there.possible, strict=True):
        if not revision.files(original.as_posix()):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(revision.read(original.as_posix()), encoding="utf-8", newline="")
    try:
        return read_results(here)
    except EvaluationError as error:
        raise LineageError(
            f"{there.folder} at {revision.name}: results of another version of this code. "
            "Evaluate them again with this one: `dvc exp run`."
        ) from error
