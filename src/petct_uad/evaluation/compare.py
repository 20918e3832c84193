"""Every run in one table, each set against slice SUVmax on the same slices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from petct_uad.errors import EvaluationError
from petct_uad.evaluation.bootstrap import auroc_difference, draw_patients
from petct_uad.evaluation.metrics import Scores
from petct_uad.evaluation.results import DECIMALS, RunResults, read_results
from petct_uad.evaluation.tables import Estimate, SummaryRow
from petct_uad.evaluation.trivial import SUVMAX, TRIVIAL_BASELINES
from petct_uad.files import write_json, write_table, write_text
from petct_uad.params import EvaluateParams

SUMMARY_FILES = ("summary.json", "summary.csv", "summary.md")
TRIVIAL_VERDICT = "trivial baseline"
BEATS = "beats SUVmax"
LOSES = "loses to SUVmax"
LEVEL = "not told apart from SUVmax"


def read_runs(folder: Path, benchmark: Iterable[str]) -> tuple[RunResults, ...]:
    """The results of every benchmark row and of the trivial baselines.

    Raises:
        EvaluationError: a run's results are missing, or its test slices are not SUVmax's.
    """
    names = [*benchmark, *(baseline.name for baseline in TRIVIAL_BASELINES)]
    runs = tuple(read_results(folder / name) for name in names)
    slices = {run.metrics.identity.run: [row.slice_id for row in run.scores] for run in runs}
    for name, ids in slices.items():
        if ids != slices[SUVMAX.name]:
            raise EvaluationError(
                f"{folder / name}/scores.csv: other test slices than {folder / SUVMAX.name}; "
                "one of the two is stale. Run `dvc repro compare`."
            )
    return runs


def summarise(runs: Sequence[RunResults], params: EvaluateParams) -> tuple[SummaryRow, ...]:
    """One row per run, best AUROC first."""
    suvmax = next(run for run in runs if run.metrics.identity.run == SUVMAX.name)
    reference = Scores.of(suvmax.scores)
    resamples = draw_patients(reference, params.bootstrap_samples, params.seed)
    rows = [
        _summary_row(
            run,
            auroc_difference(Scores.of(run.scores), reference, resamples, params.confidence),
        )
        for run in runs
    ]
    return tuple(sorted(rows, key=lambda row: (-row.auroc, row.run)))


def write_summary(folder: Path, rows: Sequence[SummaryRow]) -> None:
    """Write ``summary.{json,csv,md}``; the JSON is kept narrow for ``dvc exp show``."""
    write_table(folder / "summary.csv", SummaryRow, rows)
    write_text(folder / "summary.md", to_markdown(rows))
    by_name = sorted(rows, key=lambda row: row.run)
    narrow = ("auroc", "auroc_minus_suvmax")
    write_json(
        folder / "summary.json",
        {key: {row.run: round(getattr(row, key), DECIMALS) for row in by_name} for key in narrow},
    )


def to_markdown(rows: Sequence[SummaryRow]) -> str:
    """The table for people: figures with intervals, and a verdict in words."""
    header = ("run", "modality", "verdict", "AUROC", "minus SUVmax", "AP", "F1", "sensitivity",
              "specificity", "oracle F1", "pixel AUROC", "AUPRO", "patient AUROC",
              "parameters")  # fmt: skip
    lines = [header, ("---",) * len(header), *map(_markdown_cells, rows)]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return f"{table}\n\n{_notes(rows)}\n"


def _summary_row(run: RunResults, difference: Estimate) -> SummaryRow:
    metrics, identity = run.metrics, run.metrics.identity
    return SummaryRow(
        run=identity.run,
        model=identity.model,
        modality=identity.modality,
        verdict=TRIVIAL_VERDICT if identity.trivial else verdict(difference),
        protocol=identity.protocol,
        leaking=metrics.leaking,
        auroc=metrics.auroc.value,
        auroc_low=metrics.auroc.low,
        auroc_high=metrics.auroc.high,
        auroc_minus_suvmax=difference.value,
        auroc_minus_suvmax_low=difference.low,
        auroc_minus_suvmax_high=difference.high,
        ap=metrics.ap.value,
        ap_low=metrics.ap.low,
        ap_high=metrics.ap.high,
        f1=metrics.f1.value,
        accuracy=metrics.accuracy.value,
        sensitivity=metrics.sensitivity.value,
        specificity=metrics.specificity.value,
        oracle_f1=metrics.oracle_f1,
        pixel_auroc=metrics.pixel_auroc,
        aupro=metrics.aupro,
        patient_auroc=metrics.patient_auroc.value if metrics.patient_auroc else None,
        parameters=identity.parameters,
        n_patients=metrics.n_patients,
        n_test_normal=metrics.n_test_normal,
        n_test_abnormal=metrics.n_test_abnormal,
    )


def verdict(difference: Estimate) -> str:
    """What the AUROC difference to SUVmax says.

    A model at or below SUVmax loses, whatever the interval: the burden of proof is the model's.
    """
    if difference.value <= 0:
        return LOSES
    return BEATS if difference.low > 0 else LEVEL


def _markdown_cells(row: SummaryRow) -> tuple[str, ...]:
    name = f"{row.run} (leaking)" if row.leaking else row.run
    minus = f"{row.auroc_minus_suvmax:+.3f} ({row.auroc_minus_suvmax_low:+.3f} to " \
            f"{row.auroc_minus_suvmax_high:+.3f})"  # fmt: skip
    return (
        f"*{name}*" if row.verdict == TRIVIAL_VERDICT else name,
        row.modality,
        f"**{row.verdict}**" if row.verdict == LOSES else row.verdict,
        f"{row.auroc:.3f} ({row.auroc_low:.3f} to {row.auroc_high:.3f})",
        "" if row.run == SUVMAX.name else minus,
        f"{row.ap:.3f} ({row.ap_low:.3f} to {row.ap_high:.3f})",
        *(f"{value:.3f}" for value in (row.f1, row.sensitivity, row.specificity, row.oracle_f1)),
        *(_optional(value) for value in (row.pixel_auroc, row.aupro, row.patient_auroc)),
        f"{row.parameters:,}",
    )


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _notes(rows: Sequence[SummaryRow]) -> str:
    first = rows[0]
    notes = (
        f"{first.n_test_abnormal} abnormal and {first.n_test_normal} normal slices of "
        f"{first.n_patients} test patients. Intervals: bootstrap over patients; the difference to "
        "SUVmax is paired. F1, sensitivity and specificity stand at the threshold from validation "
        "normals; oracle F1 at the best threshold on the test split, as papers report it."
    )
    if first.leaking:
        notes += " **Leaking protocol: patients of the test split were also trained on.**"
    return notes
