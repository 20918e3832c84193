"""Every run in one table, each set against slice SUVmax on the same slices, and CMAD's claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from petct_uad.errors import EvaluationError
from petct_uad.evaluation.bootstrap import auroc_difference, draw_patients
from petct_uad.evaluation.results import ResultPaths, RunResults, read_results
from petct_uad.evaluation.tables import Estimate, SummaryRow
from petct_uad.evaluation.trivial import SUVMAX, TRIVIAL, TRIVIAL_BASELINES
from petct_uad.files import rounded, write_json, write_table, write_text
from petct_uad.params import EvaluateParams

SUMMARY_FILES = ("summary.json", "summary.csv", "summary.md")
TRIVIAL_VERDICT = "trivial baseline"
BEATS = "beats SUVmax"
LOSES = "loses to SUVmax"
LEVEL = "not told apart from SUVmax"
SUPPORTED = "supported"
REFUTED = "not supported"
OPEN = "not told apart"
PATIENTS_UNKNOWN = (
    "Each slice counts as a patient of its own, as pictures whose patients are not known do: where "
    "some share a patient, intervals are too narrow, and the splits may share patients too."
)
# Both modalities are better than either alone (Xu et al. 2026, section 5.2).
_CLAIMS = (("cmad-petct", "cmad-pet"), ("cmad-petct", "cmad-ct"))


@dataclass(frozen=True)
class Claim:
    """One run is better than another: its AUROC minus the other's, on the same slices."""

    better: str
    worse: str
    difference: Estimate

    @property
    def outcome(self) -> str:
        """Whether these data support it, beyond the interval."""
        return _judged(self.difference, SUPPORTED, OPEN, REFUTED)


@dataclass(frozen=True)
class Summary:
    """The whole benchmark in figures."""

    rows: tuple[SummaryRow, ...]  # best AUROC first
    claims: tuple[Claim, ...]  # those whose runs are there


def result_paths(metrics: Path, rows: Mapping[str, str]) -> tuple[ResultPaths, ...]:
    """Where the results of every row and of the trivial baselines lie.

    Args:
        metrics: the folder ``metrics``.
        rows: the family of each row, by name.
    """
    trivial = {baseline.name: TRIVIAL for baseline in TRIVIAL_BASELINES}
    families = {**rows, **trivial}
    return tuple(ResultPaths.of(metrics, family, run) for run, family in families.items())


def read_runs(results: Iterable[ResultPaths]) -> tuple[RunResults, ...]:
    """The results of every evaluated row and of the trivial baselines.

    Raises:
        EvaluationError: a run's results are missing, or its test slices are not SUVmax's.
    """
    runs = {paths: read_results(paths) for paths in results}
    slices = {paths: _slices_by_seed(run) for paths, run in runs.items()}
    (expected,) = (x for paths, x in slices.items() if paths.folder.name == SUVMAX.name)
    for paths, seeds in slices.items():
        if any(ids != expected[0] for ids in seeds):
            raise EvaluationError(
                f"{paths.scores}: other test slices than {SUVMAX.name}'s; "
                "one of the two is stale. Run `dvc repro compare`."
            )
    return tuple(runs.values())


def summarise(runs: Sequence[RunResults], params: EvaluateParams) -> Summary:
    """One row per run, each against SUVmax, and every claim whose runs are there."""
    by_name = {run.metrics.identity.run: run for run in runs}
    suvmax = by_name[SUVMAX.name]
    resamples = draw_patients(suvmax.scores_by_seed[0], params.bootstrap_samples, params.seed)

    def difference(first: RunResults, second: RunResults) -> Estimate:
        return auroc_difference(
            first.scores_by_seed, second.scores_by_seed, resamples, params.confidence
        )

    rows = [_summary_row(run, difference(run, suvmax)) for run in runs]
    claims = [
        Claim(better, worse, difference(by_name[better], by_name[worse]))
        for better, worse in _CLAIMS
        if {better, worse} <= by_name.keys()
    ]
    return Summary(tuple(sorted(rows, key=lambda row: (-row.auroc, row.run))), tuple(claims))


def write_summary(folder: Path, summary: Summary) -> None:
    """Write ``summary.{json,csv,md}``; the JSON is kept narrow for ``dvc exp show``."""
    write_table(folder / "summary.csv", SummaryRow, summary.rows)
    write_text(folder / "summary.md", to_markdown(summary))
    by_name = sorted(summary.rows, key=lambda row: row.run)
    narrow = ("auroc", "auroc_minus_suvmax")
    write_json(
        folder / "summary.json",
        {key: {row.run: rounded(getattr(row, key)) for row in by_name} for key in narrow},
    )


def to_markdown(summary: Summary) -> str:
    """The table for people: figures with intervals, and verdicts in words."""
    header = ("run", "modality", "verdict", "AUROC", "minus SUVmax", "AP", "F1", "sensitivity",
              "specificity", "oracle F1", "pixel AUROC", "AUPRO", "patient AUROC",
              "parameters")  # fmt: skip
    lines = [header, ("---",) * len(header), *map(_markdown_cells, summary.rows)]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    paragraphs = [table, _notes(summary.rows)]
    if summary.claims:
        paragraphs.append(claims_in_words(summary.claims))
    return "\n\n".join(paragraphs) + "\n"


def claims_in_words(claims: Sequence[Claim]) -> str:
    """A paragraph: the paper's claim, and what each paired difference says of it."""
    parts = [
        f"{claim.better} minus {claim.worse} {_signed_estimate(claim.difference)}: {claim.outcome}"
        for claim in claims
    ]
    return f"CMAD's claim that both modalities are better than one, by AUROC: {'; '.join(parts)}."


def _summary_row(run: RunResults, difference: Estimate) -> SummaryRow:
    metrics, identity = run.metrics, run.metrics.identity
    return SummaryRow(
        run=identity.run,
        model=identity.model,
        modality=identity.modality,
        verdict=TRIVIAL_VERDICT if identity.trivial else verdict(difference),
        protocol=identity.protocol,
        leaking=metrics.leaking,
        seeds=metrics.seeds,
        auroc=metrics.auroc.value,
        auroc_low=metrics.auroc.low,
        auroc_high=metrics.auroc.high,
        auroc_deviation=metrics.auroc_deviation,
        auroc_minus_suvmax=difference.value,
        auroc_minus_suvmax_low=difference.low,
        auroc_minus_suvmax_high=difference.high,
        ap=metrics.ap.value,
        ap_low=metrics.ap.low,
        ap_high=metrics.ap.high,
        ap_deviation=metrics.ap_deviation,
        f1=metrics.f1.value,
        f1_deviation=metrics.f1_deviation,
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
    return _judged(difference, BEATS, LEVEL, LOSES)


def _judged(difference: Estimate, above: str, between: str, below: str) -> str:
    if difference.value <= 0:
        return below
    return above if difference.low > 0 else between


def _slices_by_seed(run: RunResults) -> list[list[str]]:
    return [[row.slice_id for row in rows] for rows in run.by_seed]


def _markdown_cells(row: SummaryRow) -> tuple[str, ...]:
    name = f"{row.run} (leaking)" if row.leaking else row.run
    minus = Estimate(
        row.auroc_minus_suvmax, row.auroc_minus_suvmax_low, row.auroc_minus_suvmax_high
    )
    return (
        f"*{name}*" if row.verdict == TRIVIAL_VERDICT else name,
        row.modality,
        f"**{row.verdict}**" if row.verdict == LOSES else row.verdict,
        f"{_spread(row.auroc, row.auroc_deviation)} ({row.auroc_low:.3f} to {row.auroc_high:.3f})",
        "" if row.run == SUVMAX.name else _signed_estimate(minus),
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


def _signed_estimate(value: Estimate) -> str:
    return f"{value.value:+.3f} ({value.low:+.3f} to {value.high:+.3f})"


def _notes(rows: Sequence[SummaryRow]) -> str:
    first = rows[0]
    notes = (
        f"{first.n_test_abnormal} abnormal and {first.n_test_normal} normal slices of "
        f"{first.n_patients} test patients. Intervals: bootstrap over patients; the difference to "
        "SUVmax is paired. F1, sensitivity and specificity stand at the threshold from validation "
        "normals; oracle F1 at the best threshold on the test split, as papers report it."
    )
    if (seeds := max(row.seeds for row in rows)) > 1:
        notes += f" Figures of models are means over {seeds} seeds, ± their standard deviation."
    if first.n_patients == first.n_test_normal + first.n_test_abnormal:
        notes += f" {PATIENTS_UNKNOWN}"
    if first.leaking:
        notes += " **Leaking protocol: patients of the test split were also trained on.**"
    return notes
