"""One figure per run from all folds of a cross-validation over patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from petct_uad.audit.leak import Runs
from petct_uad.comparison.markdown import markdown_table
from petct_uad.comparison.paired import PairedAurocs
from petct_uad.comparison.tables import FoldsRow
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import write_table, write_text
from petct_uad.evaluation.bootstrap import deviation
from petct_uad.evaluation.metrics import Scores
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.tables import ScoreRow

FOLDS_FILES = ("folds.csv", "folds.md")
_HEADER = ("run", "AUROC, mean over folds", "lowest to highest fold", "AUROC of all scores")


def folds_table(folds: Sequence[Runs], params: EvaluateParams) -> tuple[FoldsRow, ...]:
    """Each run that every fold has: mean and deviation over folds, and the pooled AUROC.

    The pooled AUROC ranks the slices of all patients together, each by the model that never saw
    its patient, and so also by how those models' scores compare; its interval is a bootstrap over
    all patients. Where the two differ much, the models' scores are on other scales.

    Args:
        folds: the results of each fold, by run.
        params: seed, resamples and confidence.

    Raises:
        EvaluationError: a patient is tested in two folds, folds have other seeds or data sets, or
            no run is in all of them.
    """
    names = [name for name in folds[0] if all(name in fold for fold in folds)]
    if not names:
        raise EvaluationError("no run was evaluated in every fold. Run `dvc exp run` for each.")
    pooled = {name: _pool([fold[name] for fold in folds]) for name in names}
    paired = PairedAurocs.of(pooled, params)
    rows = [_row(name, [fold[name] for fold in folds], paired, pooled[name][0]) for name in names]
    return tuple(sorted(rows, key=lambda row: (-row.auroc_mean, row.run)))


def write_folds(folder: Path, rows: Sequence[FoldsRow]) -> None:
    """Write ``folds.{csv,md}``."""
    write_table(folder / "folds.csv", FoldsRow, rows)
    write_text(folder / "folds.md", folds_markdown(rows))


def folds_markdown(rows: Sequence[FoldsRow]) -> str:
    """The table with its note."""
    first = rows[0]
    note = (
        f"{first.folds} folds over patients: each of {first.n_patients} is tested once, by a model "
        f"that was trained on others; {first.n_test_abnormal} abnormal and {first.n_test_normal} "
        "normal slices. ± is the standard deviation over folds; the last column's interval is a "
        "bootstrap over patients."
    )
    return f"{markdown_table(_HEADER, map(_cells, rows))}\n\n{note}\n"


def _pool(folds: Sequence[RunResults]) -> tuple[Scores, ...]:
    """Every seed's scores of all folds together."""
    by_seed = [{rows[0].seed: rows for rows in fold.by_seed} for fold in folds]
    identity = folds[0].metrics.identity
    for fold, seeds in zip(folds, by_seed, strict=True):
        other = fold.metrics.identity
        if seeds.keys() != by_seed[0].keys() or other.dataset != identity.dataset:
            raise EvaluationError(
                f"{identity.run}: folds of other seeds or data sets; evaluate them alike"
            )
    return tuple(
        Scores.of(_together([fold[seed] for fold in by_seed], identity.run)) for seed in by_seed[0]
    )


def _together(folds: Sequence[Sequence[ScoreRow]], run: str) -> list[ScoreRow]:
    tested: set[str] = set()
    for rows in folds:
        patients = {row.patient for row in rows}
        if twice := sorted(tested & patients):
            raise EvaluationError(
                f"{run}: {twice[0]} is tested in two folds; expected each patient in one. "
                "Name one revision per split.fold, all with the same split.seed and split.folds."
            )
        tested |= patients
    return [row for rows in folds for row in rows]


def _row(name: str, folds: Sequence[RunResults], paired: PairedAurocs, scores: Scores) -> FoldsRow:
    aurocs = [fold.metrics.auroc.value for fold in folds]
    pooled = paired.auroc(name)
    return FoldsRow(
        run=name,
        folds=len(folds),
        auroc_mean=float(np.mean(aurocs)),
        auroc_deviation=deviation(aurocs) or 0.0,
        auroc_lowest=min(aurocs),
        auroc_highest=max(aurocs),
        auroc_pooled=pooled.value,
        auroc_pooled_low=pooled.low,
        auroc_pooled_high=pooled.high,
        n_patients=scores.n_patients,
        n_test_normal=int((scores.labels == 0).sum()),
        n_test_abnormal=int((scores.labels == 1).sum()),
    )


def _cells(row: FoldsRow) -> tuple[str, ...]:
    return (
        row.run,
        f"{row.auroc_mean:.3f} ± {row.auroc_deviation:.3f}",
        f"{row.auroc_lowest:.3f} to {row.auroc_highest:.3f}",
        f"{row.auroc_pooled:.3f} ({row.auroc_pooled_low:.3f} to {row.auroc_pooled_high:.3f})",
    )
