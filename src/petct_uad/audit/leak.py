"""How much a protocol that leaks flatters: the same runs under the cmad and the patient split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from petct_uad.audit.runs import read_revision
from petct_uad.comparison.markdown import markdown_table, p_in_words, signed_estimate
from petct_uad.comparison.paired import PairedAurocs, family_of
from petct_uad.comparison.tables import Difference, LeakRow
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import write_table, write_text
from petct_uad.evaluation.metrics import Scores
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.tables import Estimate
from petct_uad.evaluation.trivial import SUVMAX
from petct_uad.lineage.revision import find_revision

_HEADER = ("run", "patient", "cmad (leaking)", "cmad minus patient", "p (Holm)",
           "the same slices", "p (Holm)")  # fmt: skip
_NOTE = (
    "AUROC of each run under both protocols of one data set. **The cmad column leaks**: patients "
    "of its test split were also trained on. The two test splits are of other patients, so far as "
    "the protocols let them: *cmad minus patient* draws each side's own, and trivial baselines, "
    "which learn nothing, show what other slices alone do. *The same slices* is that difference on "
    "the slices that both protocols test, on the same drawn patients: all that differs is what was "
    "trained on. p is two-sided and corrected by Holm over the rows of its column."
)

Runs = Mapping[str, RunResults]


@dataclass(frozen=True)
class Leak:
    """How much the cmad protocol flatters.

    Attributes:
        rows: by falling leak.
        lacking: runs that were not evaluated under both protocols.
    """

    rows: tuple[LeakRow, ...]
    lacking: tuple[str, ...] = ()

    @property
    def markdown(self) -> str:
        """The table with its note, which names the runs that are not in it."""
        table = markdown_table(_HEADER, map(_cells, self.rows))
        names = ", ".join(self.lacking)
        rest = f" Not evaluated under both protocols: {names}." if names else ""
        return f"{table}\n\n{_NOTE}{rest}\n"

    def write(self, folder: Path) -> None:
        """Write ``leak.{csv,md}``."""
        write_table(folder / "leak.csv", LeakRow, self.rows)
        write_text(folder / "leak.md", self.markdown)


def leak_table(patient: Runs, cmad: Runs, params: EvaluateParams) -> tuple[LeakRow, ...]:
    """Each run that was evaluated under both protocols, by falling leak.

    A revision may hold results of the other protocol, where only some rows were evaluated again;
    those do not count.

    Args:
        patient: results under ``split.protocol: patient``, by run.
        cmad: results under ``split.protocol: cmad``.
        params: seed, resamples and confidence.

    Raises:
        EvaluationError: SUVmax was not evaluated under both, or on other data sets.
    """
    _check(patient, cmad)
    names = _common(patient, cmad)
    honest, leaking = (
        PairedAurocs.of({x: side[x].scores_by_seed for x in names}, params, stream)
        for stream, side in enumerate((patient, cmad))
    )
    leaks = _unpaired(honest, leaking)
    same = _on_the_same_slices(patient, cmad, names, params)
    rows = [
        _row(patient[name], honest.auroc(name), leaking.auroc(name), leak, paired)
        for name, leak, paired in zip(names, leaks, same, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.leak, row.run)))


def leak_of(patient: Runs, cmad: Runs, params: EvaluateParams) -> Leak:
    """:func:`leak_table`, and the runs that were not evaluated under both protocols."""
    rows = leak_table(patient, cmad, params)
    return Leak(rows, tuple(sorted({*patient, *cmad} - {row.run for row in rows})))


def leak_between(honest: str, leaking: str, params: EvaluateParams) -> Leak:
    """The leak between two revisions.

    Args:
        honest: commit, branch, tag, DVC experiment or ``workspace``, under the patient protocol.
        leaking: likewise, under the cmad protocol.
        params: seed, resamples and confidence.

    Raises:
        EvaluationError: as :func:`leak_table`.
        LineageError: there is no such revision, or it cannot be read.
    """
    patient, cmad = (read_revision(find_revision(name)) for name in (honest, leaking))
    return leak_of(patient, cmad, params)


def _common(patient: Runs, cmad: Runs) -> list[str]:
    honest, leaking = (
        {name for name, run in side.items() if run.metrics.identity.protocol == protocol}
        for side, protocol in ((patient, "patient"), (cmad, "cmad"))
    )
    return [name for name in patient if name in honest & leaking]


def _check(patient: Runs, cmad: Runs) -> None:
    if SUVMAX.name not in _common(patient, cmad):
        raise EvaluationError(
            f"{SUVMAX.name}: not evaluated under split.protocol patient in the first revision and "
            "under cmad in the second. Run `dvc exp run` for each, and name them in this order."
        )
    ours, theirs = (side[SUVMAX.name].metrics.identity.dataset for side in (patient, cmad))
    if ours != theirs:
        raise EvaluationError(f"data sets {ours!r} and {theirs!r}: a leak is within one data set")


def _unpaired(honest: PairedAurocs, leaking: PairedAurocs) -> tuple[Difference, ...]:
    """Leaking minus honest of every run, each side with patients of its own."""
    errors = [
        math.hypot(honest.error(honest.drawn[name]), leaking.error(leaking.drawn[name]))
        for name in honest.values
    ]
    return _family(honest, leaking, errors)


def _family(
    honest: PairedAurocs, leaking: PairedAurocs, errors: Sequence[float]
) -> tuple[Difference, ...]:
    values = [leaking.values[name] - value for name, value in honest.values.items()]
    degrees = min(honest.degrees, leaking.degrees)
    return family_of(values, errors, degrees, honest.confidence)


def _on_the_same_slices(
    patient: Runs, cmad: Runs, names: Sequence[str], params: EvaluateParams
) -> Sequence[Difference | None]:
    """The differences on the slices that both sides test; None where those are of one class."""
    both = frozenset.intersection(
        *(frozenset(x.slice_id for x in side[SUVMAX.name].scores) for side in (patient, cmad))
    )
    shared = tuple({x: _only(side[x], both) for x in names} for side in (patient, cmad))
    first = shared[0][SUVMAX.name][0]
    if not first.has_both_classes:
        return [None] * len(names)
    # Alike in seed and stream, both sides draw the same patients, which pairs the differences.
    honest, leaking = (PairedAurocs.of(side, params) for side in shared)
    errors = [honest.error(leaking.drawn[name] - honest.drawn[name]) for name in names]
    return _family(honest, leaking, errors)


def _only(run: RunResults, slice_ids: frozenset[str]) -> tuple[Scores, ...]:
    """Each seed's scores of some slices, in the order of their ids."""
    return tuple(
        Scores.of(sorted((x for x in rows if x.slice_id in slice_ids), key=lambda x: x.slice_id))
        for rows in run.by_seed
    )


def _row(
    run: RunResults,
    honest: Estimate,
    leaking: Estimate,
    leak: Difference,
    same: Difference | None,
) -> LeakRow:
    return LeakRow(
        run=run.metrics.identity.run,
        trivial=run.metrics.identity.trivial,
        auroc_patient=honest.value,
        auroc_patient_low=honest.low,
        auroc_patient_high=honest.high,
        auroc_cmad=leaking.value,
        auroc_cmad_low=leaking.low,
        auroc_cmad_high=leaking.high,
        leak=leak.value,
        leak_low=leak.low,
        leak_high=leak.high,
        p=leak.p,
        p_holm=leak.p_holm,
        same_slices=same.value if same else None,
        same_slices_low=same.low if same else None,
        same_slices_high=same.high if same else None,
        same_slices_p=same.p if same else None,
        same_slices_p_holm=same.p_holm if same else None,
    )


def _cells(row: LeakRow) -> tuple[str, ...]:
    return (
        f"*{row.run}*" if row.trivial else row.run,
        f"{row.auroc_patient:.3f} ({row.auroc_patient_low:.3f} to {row.auroc_patient_high:.3f})",
        f"{row.auroc_cmad:.3f} ({row.auroc_cmad_low:.3f} to {row.auroc_cmad_high:.3f})",
        *_difference_cells(row.leak, row.leak_low, row.leak_high, row.p_holm),
        *_difference_cells(
            row.same_slices, row.same_slices_low, row.same_slices_high, row.same_slices_p_holm
        ),
    )


def _difference_cells(*parts: float | None) -> tuple[str, str]:
    """A difference with its interval, and its p; nothing where it could not be measured."""
    value, low, high, p = parts
    if value is None or low is None or high is None or p is None:
        return "", ""
    return signed_estimate(Estimate(value, low, high)), p_in_words(p)
