"""The summary for people: figures with intervals, and verdicts in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from petct_uad.comparison.hypotheses import UNTESTED, Hypothesis, by_paper
from petct_uad.comparison.tables import LOSES, TRIVIAL_VERDICT, SummaryRow
from petct_uad.core.params.base import TestPatients
from petct_uad.evaluation import figures
from petct_uad.evaluation.figures import AUROC, Figure
from petct_uad.evaluation.tables import Estimate
from petct_uad.evaluation.trivial import SUVMAX

PATIENTS_UNKNOWN = (
    "Each slice counts as a patient of its own, as pictures whose patients are not known do: where "
    "some share a patient, intervals are too narrow, and the splits may share patients too."
)
LEAKING = "**Leaking protocol: patients of the test split were also trained on.**"
TEST_PATIENTS: Mapping[TestPatients, str] = {
    "all": "",
    "development": (
        "Development patients only: params may be chosen on these figures, which are not to be "
        "reported. Those of split.test_patients: held_out are."
    ),
    "held_out": "Without the test patients that are there to choose params on.",
}


def shown_figures() -> tuple[Figure, ...]:
    """The figures that tables for people have, beside AUROC."""
    return tuple(figure for figure in figures.FIGURES if figure.for_people and figure is not AUROC)


def thresholds_in_words() -> str:
    """Sentences on where the decisions among these figures have their thresholds from."""
    titles: dict[str, list[str]] = {}
    for figure in shown_figures():
        if figure.threshold:
            titles.setdefault(figure.threshold, []).append(figure.title)
    named = ((", ".join(some), threshold) for threshold, some in titles.items())
    return " ".join(f"{some[0].upper()}{some[1:]}: at {threshold}." for some, threshold in named)


def to_markdown(rows: Sequence[SummaryRow], hypotheses: Sequence[Hypothesis]) -> str:
    """The headline table with its notes, and what each paper claims."""
    titles = (figure.title for figure in shown_figures())
    header = ("run", "modality", "verdict", AUROC.title, "minus SUVmax", "p (Holm)", *titles,
              "parameters")  # fmt: skip
    papers = (_claims(paper, some) for paper, some in by_paper(hypotheses).items())
    parts = (markdown_table(header, map(_cells, rows)), _notes(rows), *papers)
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


def mixed_inputs(rows: Sequence[SummaryRow]) -> dict[str, list[str]]:
    """Which models saw what, in words; nothing where all have the same teacher and image size."""
    seen: dict[str, list[str]] = {}
    for row in rows:
        if row.verdict != TRIVIAL_VERDICT:
            seen.setdefault(inputs_in_words(row), []).append(row.run)
    return seen if len(seen) > 1 else {}


def inputs_in_words(row: SummaryRow) -> str:
    """The teacher of a row and the side of its images."""
    return f"{row.teacher} at {row.image_size_px} px"


def _claims(paper: str, hypotheses: Sequence[Hypothesis]) -> str:
    header = (f"statement of the {paper} paper", "outcome", "by AUROC")
    rows = [
        (f"{x.claim.text} ({x.claim.source})", f"**{x.outcome}**", _evidence(x)) for x in hypotheses
    ]
    return markdown_table(header, rows)


def _evidence(hypothesis: Hypothesis) -> str:
    parts = [
        f"{x.better} minus {x.worse} {signed_estimate(x.difference)}, "
        f"p {p_in_words(x.difference.p_holm)}: {x.outcome}"
        for x in hypothesis.comparisons
    ]
    parts += [f"{run}: {UNTESTED}" for run in hypothesis.missing]
    return "; ".join(parts)


def _cells(row: SummaryRow) -> tuple[str, ...]:
    name = f"{row.run} (leaking)" if row.leaking else row.run
    is_suvmax = row.run == SUVMAX.name
    return (
        f"*{name}*" if row.verdict == TRIVIAL_VERDICT else name,
        row.modality,
        f"**{row.verdict}**" if row.verdict == LOSES else row.verdict,
        AUROC.in_words(row.auroc),
        "" if is_suvmax else signed_estimate(row.minus_suvmax),
        "" if is_suvmax else p_in_words(row.minus_suvmax.p_holm),
        *(figure.in_words(row.figures.get(figure.name)) for figure in shown_figures()),
        f"{row.parameters:,}",
    )


def _notes(rows: Sequence[SummaryRow]) -> str:
    first = rows[0]
    notes = (
        f"{first.n_test_abnormal} abnormal and {first.n_test_normal} normal slices of "
        f"{first.n_patients} test patients. Intervals: bootstrap over patients; the difference to "
        "SUVmax is paired, its interval and p by Student's t over patients, p two-sided and "
        "corrected by Holm over the rows of this table, and verdicts follow it. "
        f"{thresholds_in_words()} Every two models: pairs.csv."
    )
    if (seeds := max(row.seeds for row in rows)) > 1:
        notes += f" Figures of models are means over {seeds} seeds, ± their standard deviation."
    if inputs := mixed_inputs(rows):
        words = "; ".join(f"{seen}: {', '.join(runs)}" for seen, runs in inputs.items())
        notes += f" Teachers and sizes of the images differ: {words}."
    if first.n_patients == first.n_test_normal + first.n_test_abnormal:
        notes += f" {PATIENTS_UNKNOWN}"
    marks = (TEST_PATIENTS[first.test_patients], LEAKING if first.leaking else "")
    return " ".join(filter(None, (notes, *marks)))
