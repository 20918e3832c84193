"""The benchmark's results as a revision has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from petct_uad.audit.revision import Revision
from petct_uad.audit.store import parse_yaml
from petct_uad.errors import LineageError
from petct_uad.evaluation.results import RESULT_FILES, RunResults, read_results
from petct_uad.evaluation.trivial import TRIVIAL_BASELINES

_RUNS = "metrics/runs"


def read_revision(revision: Revision) -> Mapping[str, RunResults]:
    """Results of the rows in a revision's params.yaml and of the trivial baselines, by run.

    A row that was not evaluated there is left out.

    Raises:
        LineageError: params.yaml or a result cannot be read.
        EvaluationError: results of another version of this code.
    """
    params = parse_yaml(revision.read("params.yaml"), f"params.yaml at {revision.name}")
    rows = [*params.get("benchmark", {}), *params.get("fused", {})]
    tracked = set(revision.files(_RUNS))
    with TemporaryDirectory() as folder:
        home = Path(folder) / revision.name.replace("/", "_")
        found = {}
        for run in (*rows, *(baseline.name for baseline in TRIVIAL_BASELINES)):
            if f"{_RUNS}/{run}/metrics.json" in tracked:
                found[run] = _read_run(revision, run, home / run)
    return found


def read_folds(revisions: Sequence[Revision]) -> tuple[Mapping[str, RunResults], ...]:
    """Results of every fold, in the order of the folds.

    Raises:
        LineageError: the revisions are not all folds of one division, each once.
    """
    splits = [_split_of(revision) for revision in revisions]
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


def _split_of(revision: Revision) -> dict[str, Any]:
    name = f"params.yaml at {revision.name}"
    section = parse_yaml(revision.read("params.yaml"), name).get("split")
    if not isinstance(section, dict):
        raise LineageError(f"{name}: has no section `split`")
    return section


def _read_run(revision: Revision, run: str, folder: Path) -> RunResults:
    folder.mkdir(parents=True)
    for name in RESULT_FILES:
        text = revision.read(f"{_RUNS}/{run}/{name}")
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return read_results(folder)
