"""What the data checks say, as the report shows it: ``parts/validation.html.j2``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import Row, read_table
from petct_uad.validation.tables import DriftRow, DuplicateRow, LiverRow

_SHOWN_PAIRS = 20
# In the order in which data pass them; a table that is not named here comes last.
_ORDER = ("cohort", "instances", "series", "studies", "volumes", "scans", "lesions", "livers",
          "registration", "regions", "slices", "benchmark", "patients", "splits", "scanners",
          "images", "shards", "duplicates", "drift", "scores", "trainings")  # fmt: skip


@dataclass(frozen=True)
class Expectation:
    """One check of ``metrics/validation.json`` or ``validation_scores.json``."""

    table: str
    name: str
    severity: str
    passed: bool
    reason: str
    examined: int  # rows
    failing: int  # rows
    failing_rows: tuple[str, ...]  # the first of them

    @property
    def outcome(self) -> str:
        """In a word or three."""
        if not self.passed:
            return "fails"
        return "holds" if self.examined else "nothing to examine"


@dataclass(frozen=True)
class Suite:
    """The checks of one table."""

    table: str
    expectations: tuple[Expectation, ...]

    @property
    def examined(self) -> int:
        """Rows, by the check that concerns the most."""
        return max(item.examined for item in self.expectations)

    @property
    def failed(self) -> tuple[Expectation, ...]:
        """Those that do not hold."""
        return tuple(item for item in self.expectations if not item.passed)


@dataclass(frozen=True)
class Livers:
    """The SUV scale where it can be checked."""

    count: int
    lowest: float
    mean: float
    highest: float


@dataclass(frozen=True)
class DataChecks:
    """Everything that the section shows."""

    passed: bool
    suites: tuple[Suite, ...]
    livers: Livers | None  # None where none is known
    pairs: tuple[DuplicateRow, ...]  # of duplicates across splits, exact ones first
    all_pairs: int
    drift: tuple[DriftRow, ...]  # smallest p-value first

    @property
    def expectations(self) -> tuple[Expectation, ...]:
        """Of all suites."""
        return tuple(item for suite in self.suites for item in suite.expectations)

    @property
    def failed(self) -> tuple[Expectation, ...]:
        """Those that do not hold, critical ones first."""
        failed = [item for item in self.expectations if not item.passed]
        return tuple(sorted(failed, key=lambda item: item.severity))


def measured_files(interim: Path) -> tuple[Path, ...]:
    """Tables of the stage ``validate`` that the section shows."""
    return tuple(interim / f"validate/{name}.csv" for name in ("livers", "duplicates", "drift"))


def read_checks(outcomes: Sequence[Path], interim: Path) -> DataChecks:
    """Read the outcomes of every suite, and what was measured for three of them.

    Args:
        outcomes: ``validation.json`` and ``validation_scores.json``.
        interim: ``data/interim/<dataset>``.

    Raises:
        EvaluationError: a file is missing or of another version.
    """
    expectations = [item for path in outcomes for item in _expectations(path)]
    livers, duplicates, drift = measured_files(interim)
    pairs = sorted(_rows(duplicates, DuplicateRow), key=lambda row: (row.kind, -row.correlation))
    return DataChecks(
        passed=all(item.passed or item.severity != "critical" for item in expectations),
        suites=_suites(expectations),
        livers=_livers(_rows(livers, LiverRow)),
        pairs=tuple(pairs[:_SHOWN_PAIRS]),
        all_pairs=len(pairs),
        drift=tuple(sorted(_rows(drift, DriftRow), key=lambda row: (row.p, row))),
    )


def _suites(expectations: Sequence[Expectation]) -> tuple[Suite, ...]:
    def place(table: str) -> tuple[int, str]:
        return _ORDER.index(table) if table in _ORDER else len(_ORDER), table

    return tuple(
        Suite(table, tuple(item for item in expectations if item.table == table))
        for table in sorted({item.table for item in expectations}, key=place)
    )


def _expectations(path: Path) -> list[Expectation]:
    _check_there(path)
    try:
        items = json.loads(path.read_text(encoding="utf-8"))["expectations"]
        return [Expectation(**{**x, "failing_rows": tuple(x["failing_rows"])}) for x in items]
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"{path}: outcomes of another version ({error}). Run `dvc repro validate compare`."
        ) from error


def _livers(rows: Sequence[LiverRow]) -> Livers | None:
    suv = [row.suv_mean for row in rows]
    return Livers(len(suv), min(suv), sum(suv) / len(suv), max(suv)) if suv else None


def _rows(path: Path, row_type: type[Row]) -> list[Row]:
    _check_there(path)
    return read_table(path, row_type)


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise EvaluationError(f"{path}: not found. Run `dvc repro compare`.")
