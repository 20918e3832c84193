"""One row per run from all folds of a cross-validation over patients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from petct_uad.audit.leak import Runs
from petct_uad.comparison.markdown import markdown_table, p_in_words, signed_estimate
from petct_uad.comparison.paired import PairedAurocs
from petct_uad.comparison.tables import Difference, FoldsRow
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import write_columns, write_text
from petct_uad.evaluation.bootstrap import deviation
from petct_uad.evaluation.metrics import Scores, Weights
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.position import LikePlaced
from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.tables import Estimate, ScoreRow
from petct_uad.evaluation.trivial import POSITION, SUVMAX

_HEADER = (
    "run", "AUROC, mean over folds", "lowest to highest fold", "minus SUVmax", "p (Holm)",
    "position-adjusted AUROC", "minus SUVmax", "p (Holm)",
    "lesions found at 1 false finding per study", "at 2", "AUROC of all scores",
)  # fmt: skip


def folds_table(folds: Sequence[Runs], params: EvaluateParams) -> tuple[FoldsRow, ...]:
    """Each run that every fold has, as the mean over folds, and the pooled AUROC.

    The means rank slices within their fold. The pooled AUROC ranks the slices of all patients
    together, each by the model that never saw its patient, and so also by how those models' scores
    compare. Where the two differ much, the models' scores are on other scales.

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
    pooled = PairedAurocs.of({name: _pool([x[name] for x in folds]) for name in names}, params)
    within = _Within.plain(folds, names, params)
    adjusted = _Within.position_adjusted(folds, names, params)
    rows = [
        _row(name, [x[name] for x in folds], pooled.auroc(name), within, adjusted) for name in names
    ]
    return tuple(sorted(rows, key=lambda row: (-row.auroc.value, row.run)))


def write_folds(folder: Path, rows: Sequence[FoldsRow]) -> None:
    """Write ``folds.{csv,md}``."""
    columns = [row.columns for row in rows]
    write_columns(folder / "folds.csv", list(columns[0]), [list(x.values()) for x in columns])
    write_text(folder / "folds.md", folds_markdown(rows))


def folds_markdown(rows: Sequence[FoldsRow]) -> str:
    """The table with its note."""
    first = rows[0]
    note = (
        f"{first.folds} folds over patients: each of {first.n_patients} is tested once, by a model "
        f"that was trained on others; {first.n_test_abnormal} abnormal and {first.n_test_normal} "
        "normal slices. Figures are means over folds, but that of all scores together. ± is the "
        "standard deviation over folds. Intervals are a bootstrap over patients, within their fold "
        "but for all scores together; differences are held against Student's t, and corrected by "
        "Holm over their column; lesions found have Student's t over folds."
    )
    return f"{markdown_table(_HEADER, map(_cells, rows))}\n\n{note}\n"


class _Within:
    """A kind of AUROC within the folds: each run's mean, and its difference to SUVmax."""

    def __init__(self, folds: Sequence[PairedAurocs]) -> None:
        self.mean = PairedAurocs.over_folds(folds)
        others = [name for name in self.mean.values if name != SUVMAX.name]
        pairs = [(name, SUVMAX.name) for name in others if SUVMAX.name in self.mean.values]
        found = self.mean.family(pairs)
        self.minus_suvmax: Mapping[str, Difference] = {
            name: difference for (name, _), difference in zip(pairs, found, strict=True)
        }

    @classmethod
    def plain(cls, folds: Sequence[Runs], names: Sequence[str], params: EvaluateParams) -> _Within:
        return cls([_paired(fold, names, params, i) for i, fold in enumerate(folds)])

    @classmethod
    def position_adjusted(
        cls, folds: Sequence[Runs], names: Sequence[str], params: EvaluateParams
    ) -> _Within | None:
        """None where the place is unknown, or no abnormal slice has a normal one of like place."""
        if POSITION.name not in names:
            return None
        found = [_paired(fold, names, params, i, placed=True) for i, fold in enumerate(folds)]
        known = not any(math.isnan(x.values[POSITION.name]) for x in found)
        return cls(found) if known else None


def _paired(
    fold: Runs, names: Sequence[str], params: EvaluateParams, stream: int, placed: bool = False
) -> PairedAurocs:
    runs = {name: fold[name].scores_by_seed for name in names}
    if not placed:
        return PairedAurocs.of(runs, params, stream)
    positions = positions_of(fold[POSITION.name].by_seed[0])
    return PairedAurocs.of(runs, params, stream, partial(_adjusted, positions))


def _adjusted(
    positions: NDArray[np.float64], scores: Scores, weights: Weights
) -> NDArray[np.float64]:
    return LikePlaced.of(scores, positions).auroc(weights)


def positions_of(rows: Sequence[ScoreRow]) -> NDArray[np.float64]:
    """Where slices lie in their study, from 0 to 1, as the rows of the baseline ``position`` tell.

    They have the closeness to the middle, 1 - abs(2 i / L - 1) of slice i; the L, and with it the
    side, is the one that agrees with every slice of the study.

    Args:
        rows: n rows, those of a study side by side.

    Returns:
        (n,) positions, to the six decimals of the table.
    """
    studies = groupby(rows, key=lambda row: row.study_id)
    return np.concatenate([_positions_in_study(list(study)) for _, study in studies])


def _positions_in_study(rows: Sequence[ScoreRow]) -> NDArray[np.float64]:
    indices = np.array([int(row.slice_id.rpartition("_")[2]) for row in rows])
    closeness = np.array([row.score for row in rows])
    last, close = int(indices.max()), float(closeness[indices.argmax()])
    lengths = {round(last / (1 - close / 2)), round(2 * last / close) if close else 1}
    placed = [indices / max(length, 1) for length in sorted(lengths)]
    return min(placed, key=lambda x: float(np.abs(1 - np.abs(2 * x - 1) - closeness).max()))


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


def _row(
    name: str,
    folds: Sequence[RunResults],
    pooled: Estimate,
    within: _Within,
    adjusted: _Within | None,
) -> FoldsRow:
    first = folds[0].metrics
    aurocs = [fold.metrics.auroc.value for fold in folds]
    return FoldsRow(
        run=name,
        folds=len(folds),
        auroc=within.mean.auroc(name),
        auroc_deviation=deviation(aurocs) or 0.0,
        auroc_lowest=min(aurocs),
        auroc_highest=max(aurocs),
        minus_suvmax=within.minus_suvmax.get(name),
        adjusted=adjusted.mean.auroc(name) if adjusted else None,
        adjusted_minus_suvmax=adjusted.minus_suvmax.get(name) if adjusted else None,
        froc_1=_over_folds(folds, "froc_1", first.confidence),
        froc_2=_over_folds(folds, "froc_2", first.confidence),
        auroc_pooled=pooled,
        n_patients=sum(fold.metrics.n_patients for fold in folds),
        n_test_normal=sum(fold.metrics.n_test_normal for fold in folds),
        n_test_abnormal=sum(fold.metrics.n_test_abnormal for fold in folds),
    )


def _over_folds(folds: Sequence[RunResults], figure: str, confidence: float) -> Estimate | None:
    """The mean of a fraction over folds, with Student's t; None where a fold lacks it."""
    found = [fold.metrics.figures.get(figure) for fold in folds]
    values = [measured.value for measured in found if measured]
    if len(values) < len(folds):
        return None
    mean = float(np.mean(values))
    reach = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values))
    return Estimate(mean, max(mean - reach, 0.0), min(mean + reach, 1.0))


def _cells(row: FoldsRow) -> tuple[str, ...]:
    return (
        row.run,
        f"{row.auroc.value:.3f} ± {row.auroc_deviation:.3f} {_interval(row.auroc)}",
        f"{row.auroc_lowest:.3f} to {row.auroc_highest:.3f}",
        *_difference(row.minus_suvmax),
        _in_words(row.adjusted),
        *_difference(row.adjusted_minus_suvmax),
        _in_words(row.froc_1),
        _in_words(row.froc_2),
        _in_words(row.auroc_pooled),
    )


def _difference(found: Difference | None) -> tuple[str, str]:
    return (signed_estimate(found), p_in_words(found.p_holm)) if found else ("", "")


def _in_words(found: Estimate | None) -> str:
    return f"{found.value:.3f} {_interval(found)}" if found else ""


def _interval(found: Estimate) -> str:
    return f"({found.low:.3f} to {found.high:.3f})"
