"""How much a protocol that leaks flatters: the same runs under the cmad and the patient split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from petct_uad.errors import EvaluationError
from petct_uad.evaluation.bootstrap import estimate
from petct_uad.evaluation.markdown import markdown_table, p_in_words, signed_estimate
from petct_uad.evaluation.paired import PairedAurocs, family_of
from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.tables import Difference, Estimate, LeakRow
from petct_uad.evaluation.trivial import SUVMAX
from petct_uad.files import write_table, write_text
from petct_uad.params.evaluate import EvaluateParams

LEAK_FILES = ("leak.csv", "leak.md")
_HEADER = ("run", "patient", "cmad (leaking)", "leak: cmad minus patient", "p (Holm)",
           "beyond SUVmax's")  # fmt: skip
_NOTE = (
    "AUROC of each run under both protocols of one data set. **The cmad column leaks**: patients "
    "of its test split were also trained on. The two test splits hold other slices of other "
    "patients, so the bootstraps over patients are independent, and no difference is paired. "
    "Trivial baselines learn nothing: what they gain, the other slices alone give, and the last "
    "column takes SUVmax's gain off. p is two-sided and corrected by Holm over these rows."
)

Runs = Mapping[str, RunResults]


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
        PairedAurocs.of({name: side[name].scores_by_seed for name in names}, params, stream)
        for stream, side in enumerate((patient, cmad))
    )
    values = {name: leaking.values[name] - honest.values[name] for name in names}
    drawn = {name: leaking.drawn[name] - honest.drawn[name] for name in names}
    confidence = params.confidence
    leaks = family_of(list(values.values()), list(drawn.values()), confidence)
    beyond = {
        name: estimate(value - values[SUVMAX.name], drawn[name] - drawn[SUVMAX.name], confidence)
        for name, value in values.items()
    }
    rows = [
        _row(patient[name], honest.auroc(name), leaking.auroc(name), leak, beyond[name])
        for name, leak in zip(names, leaks, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.leak, row.run)))


def left_out(patient: Runs, cmad: Runs) -> tuple[str, ...]:
    """Runs of either side that were not evaluated under both protocols."""
    return tuple(sorted({*patient, *cmad} - set(_common(patient, cmad))))


def write_leak(folder: Path, rows: Sequence[LeakRow], lacking: Sequence[str] = ()) -> None:
    """Write ``leak.{csv,md}``."""
    write_table(folder / "leak.csv", LeakRow, rows)
    write_text(folder / "leak.md", leak_markdown(rows, lacking))


def leak_markdown(rows: Sequence[LeakRow], lacking: Sequence[str] = ()) -> str:
    """The table with its note; ``lacking`` names the runs that are not in it."""
    table = markdown_table(_HEADER, map(_cells, rows))
    rest = f" Not evaluated under both protocols: {', '.join(lacking)}." if lacking else ""
    return f"{table}\n\n{_NOTE}{rest}\n"


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


def _row(
    run: RunResults, honest: Estimate, leaking: Estimate, leak: Difference, beyond: Estimate
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
        beyond_suvmax=beyond.value,
        beyond_suvmax_low=beyond.low,
        beyond_suvmax_high=beyond.high,
    )


def _cells(row: LeakRow) -> tuple[str, ...]:
    leak = Estimate(row.leak, row.leak_low, row.leak_high)
    beyond = Estimate(row.beyond_suvmax, row.beyond_suvmax_low, row.beyond_suvmax_high)
    return (
        f"*{row.run}*" if row.trivial else row.run,
        f"{row.auroc_patient:.3f} ({row.auroc_patient_low:.3f} to {row.auroc_patient_high:.3f})",
        f"{row.auroc_cmad:.3f} ({row.auroc_cmad_low:.3f} to {row.auroc_cmad_high:.3f})",
        signed_estimate(leak),
        p_in_words(row.p_holm),
        "" if row.run == SUVMAX.name else signed_estimate(beyond),
    )
