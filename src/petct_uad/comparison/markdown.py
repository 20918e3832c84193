"""The summary for people: figures with intervals, and verdicts in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from petct_uad.comparison.hypotheses import UNTESTED, Hypothesis
from petct_uad.evaluation.tables import LOSES, TRIVIAL_VERDICT, Estimate, SummaryRow
from petct_uad.evaluation.trivial import SUVMAX

PATIENTS_UNKNOWN = (
    "Each slice counts as a patient of its own, as pictures whose patients are not known do: where "
    "some share a patient, intervals are too narrow, and the splits may share patients too."
)
LEAKING = "**Leaking protocol: patients of the test split were also trained on.**"
_HEADER = ("run", "modality", "verdict", "AUROC", "minus SUVmax", "p (Holm)", "AP", "F1",
           "sensitivity", "specificity", "oracle F1", "pixel AUROC", "AUPRO", "patient AUROC",
           "parameters")  # fmt: skip


def to_markdown(rows: Sequence[SummaryRow], hypotheses: Sequence[Hypothesis]) -> str:
    """The headline table with its notes, and the paper's statements."""
    parts = (markdown_table(_HEADER, map(_cells, rows)), _notes(rows), _statements(hypotheses))
    return "\n\n".join(parts) + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as GitHub shows it."""
    lines = (header, ("---",) * len(header), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def p_in_words(p: float) -> str:
    """A p-value to three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed_estimate(value: Estimate) -> str:
    """A difference with its interval."""
    return f"{value.value:+.3f} ({value.low:+.3f} to {value.high:+.3f})"


def _statements(hypotheses: Sequence[Hypothesis]) -> str:
    header = ("statement of the CMAD paper", "outcome", "by AUROC")
    rows = [
        (f"{x.statement.text} ({x.statement.source})", f"**{x.outcome}**", _evidence(x))
        for x in hypotheses
    ]
    return markdown_table(header, rows)


def _evidence(hypothesis: Hypothesis) -> str:
    parts = [
        f"{claim.better} minus {claim.worse} {signed_estimate(claim.difference)}, "
        f"p {p_in_words(claim.difference.p_holm)}: {claim.outcome}"
        for claim in hypothesis.claims
    ]
    parts += [f"{run}: {UNTESTED}" for run in hypothesis.missing]
    return "; ".join(parts)


def _cells(row: SummaryRow) -> tuple[str, ...]:
    name = f"{row.run} (leaking)" if row.leaking else row.run
    minus = Estimate(
        row.auroc_minus_suvmax, row.auroc_minus_suvmax_low, row.auroc_minus_suvmax_high
    )
    is_suvmax = row.run == SUVMAX.name
    return (
        f"*{name}*" if row.verdict == TRIVIAL_VERDICT else name,
        row.modality,
        f"**{row.verdict}**" if row.verdict == LOSES else row.verdict,
        f"{_spread(row.auroc, row.auroc_deviation)} ({row.auroc_low:.3f} to {row.auroc_high:.3f})",
        "" if is_suvmax else signed_estimate(minus),
        "" if is_suvmax else p_in_words(row.auroc_minus_suvmax_p_holm),
        f"{_spread(row.ap, row.ap_deviation)} ({row.ap_low:.3f} to {row.ap_high:.3f})",
        _spread(row.f1, row.f1_deviation),
        *(f"{value:.3f}" for value in (row.sensitivity, row.specificity, row.oracle_f1)),
        *(_optional(value) for value in (row.pixel_auroc, row.aupro, row.patient_auroc)),
        f"{row.parameters:,}",
    )


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _spread(value: float, deviation: float | None) -> str:
    return f"{value:.3f}" if deviation is None else f"{value:.3f} ± {deviation:.3f}"


def _notes(rows: Sequence[SummaryRow]) -> str:
    first = rows[0]
    notes = (
        f"{first.n_test_abnormal} abnormal and {first.n_test_normal} normal slices of "
        f"{first.n_patients} test patients. Intervals: bootstrap over patients; the difference to "
        "SUVmax is paired, its interval and p by Student's t over patients, p two-sided and "
        "corrected by Holm over the rows of this table, and verdicts follow it. F1, sensitivity "
        "and specificity stand at the threshold from validation normals; oracle F1 at the best "
        "threshold on the test split, as papers report it. Every two models: pairs.csv."
    )
    if (seeds := max(row.seeds for row in rows)) > 1:
        notes += f" Figures of models are means over {seeds} seeds, ± their standard deviation."
    if first.n_patients == first.n_test_normal + first.n_test_abnormal:
        notes += f" {PATIENTS_UNKNOWN}"
    return f"{notes} {LEAKING}" if first.leaking else notes
