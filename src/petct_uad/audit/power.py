"""How many patients would tell two rows apart, given how much these patients spread.

A planned comparison of two rows is a t test on the paired difference of their AUROC (see
``paired``). Its standard error falls with the square root of the patients, so that the power at any
number of patients follows from what was seen here (noncentral t; Cohen 1988, section 2.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from scipy import optimize, stats

from petct_uad.comparison.markdown import markdown_table
from petct_uad.comparison.paired import Pair, PairedAurocs
from petct_uad.core.errors import EvaluationError, did_you_mean
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.trivial import SUVMAX

MOST_PATIENTS = 100_000  # beyond this a difference is none that anybody measures
_FAR = 1000.0  # standard errors: a difference that any test shows
_ROUNDING = 1e-9
_HEADER = ("row", "other row", "AUROC difference", "standard error", "patients here",
           "smallest difference that these show", "patients for the difference seen")  # fmt: skip


@dataclass(frozen=True)
class PowerRow:
    """What two rows of the benchmark say of the next study's size."""

    run: str
    other: str
    auroc_difference: float
    standard_error: float
    n_patients: int  # in the test split
    detectable_difference: float  # that as many patients show with the asked power
    patients_needed: int | None  # for the difference seen; None: more than MOST_PATIENTS


def power_table(paired: PairedAurocs, pairs: Sequence[Pair], power: float) -> tuple[PowerRow, ...]:
    """One row per pair, for one comparison that was planned beforehand, uncorrected.

    Args:
        paired: the runs, measured on the same resamples of the same patients.
        pairs: of runs, first minus second.
        power: the chance to show a difference that is there, above the level and below 1.
    """
    return tuple(_row(paired, pair, power) for pair in pairs)


def power_of_runs(
    runs: Mapping[str, RunResults], chosen: Sequence[str], params: EvaluateParams, power: float
) -> tuple[PowerRow, ...]:
    """Each two of the chosen rows, SUVmax last; by default of those that see PET and CT.

    Args:
        runs: the results by run.
        chosen: names of runs; none: all models that see both modalities.
        params: seed, resamples and confidence.
        power: as in :func:`power_table`.

    Raises:
        EvaluationError: a chosen row is unknown, or none is left.
    """
    if unknown := [run for run in chosen if run not in runs]:
        raise EvaluationError(
            f"{unknown[0]}: no row of the table.{did_you_mean(unknown[0], runs)} There are: "
            f"{', '.join(sorted(runs))}."
        )
    both = [run for run, x in runs.items() if x.metrics.identity.modality == "petct"]
    names = [run for run in chosen or both if run != SUVMAX.name]
    if not names or SUVMAX.name not in runs:
        raise EvaluationError(f"no row to hold against {SUVMAX.name}. Run `dvc repro` first.")
    names = [*sorted(names, key=lambda run: -runs[run].metrics.auroc.value), SUVMAX.name]
    paired = PairedAurocs.of({run: runs[run].scores_by_seed for run in names}, params)
    return power_table(paired, list(combinations(names, 2)), power)


@dataclass(frozen=True)
class Spread:
    """How much the difference of two rows varies over patients, and the test that looks at it.

    Attributes:
        error: standard error of the difference with ``n_patients``, above 0.
        degrees: of freedom with ``n_patients``.
        n_patients: that were seen.
        level: of the two-sided test, e.g. 0.05.
    """

    error: float
    degrees: float
    n_patients: int
    level: float

    def power(self, difference: float) -> float:
        """The chance that as many patients show a true difference."""
        reach = stats.t.ppf(1 - self.level / 2, self.degrees)
        centre = abs(difference) / self.error
        # The far tail as the near one of the mirrored distribution: SciPy's own is not a number.
        return float(sum(stats.nct.sf(reach, self.degrees, x) for x in (centre, -centre)))

    def of_patients(self, n_patients: int) -> Spread:
        """The same for another number of patients like these."""
        share = n_patients / self.n_patients
        degrees = max((self.degrees + 1) * share - 1, 1.0)
        return Spread(self.error / math.sqrt(share), degrees, n_patients, self.level)

    def detectable(self, power: float) -> float:
        """The smallest true difference that as many patients show with this power."""
        return float(optimize.brentq(lambda x: self.power(x) - power, 0.0, _FAR * self.error))

    def patients_needed(self, difference: float, power: float) -> int | None:
        """The smallest number of patients like these that show a true difference with this power.

        None: more than ``MOST_PATIENTS``.
        """
        low, high = 1, MOST_PATIENTS  # of one patient a t test has no spread
        if self.of_patients(high).power(difference) < power:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            enough = self.of_patients(middle).power(difference) >= power
            low, high = (low, middle) if enough else (middle, high)
        return high


def power_markdown(rows: Sequence[PowerRow], power: float, level: float) -> str:
    """The table with its note."""
    note = (
        f"Chance of {power:.0%} to show a difference in one planned comparison at {level:g}, "
        "two-sided, by Student's t over patients; a table of many comparisons (Holm) needs more. "
        "A difference that was seen is itself uncertain, and so is the number that follows from it."
    )
    return f"{markdown_table(_HEADER, map(_cells, rows))}\n\n{note}\n"


def _row(paired: PairedAurocs, pair: Pair, power: float) -> PowerRow:
    first, second = pair
    difference = paired.values[first] - paired.values[second]
    error = paired.error(paired.drawn[first] - paired.drawn[second])
    # Two rows of equal scores have no spread: what is below rounding counts as none.
    spread = Spread(max(error, _ROUNDING), paired.degrees, paired.n_patients, 1 - paired.confidence)
    return PowerRow(
        run=first,
        other=second,
        auroc_difference=difference,
        standard_error=error,
        n_patients=paired.n_patients,
        detectable_difference=spread.detectable(power),
        patients_needed=spread.patients_needed(difference, power),
    )


def _cells(row: PowerRow) -> tuple[str, ...]:
    needed = row.patients_needed
    return (
        row.run,
        row.other,
        f"{row.auroc_difference:+.3f}",
        f"{row.standard_error:.3f}",
        str(row.n_patients),
        f"{row.detectable_difference:.3f}",
        f"more than {MOST_PATIENTS:,}" if needed is None else f"{needed:,}",
    )
