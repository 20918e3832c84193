"""Rows of the tables that the compare stage, ``petct leak`` and ``petct folds`` write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from petct_uad.core.params.base import Protocol, TestPatients
from petct_uad.evaluation import figures
from petct_uad.evaluation.figures import AUROC
from petct_uad.evaluation.tables import Estimate, Measured

TRIVIAL_VERDICT = "trivial baseline"
BEATS = "beats SUVmax"
LOSES = "loses to SUVmax"
LEVEL = "no significant difference from SUVmax"


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference: its interval, and its two-sided p-value alone and within its family."""

    p: float
    p_holm: float


@dataclass(frozen=True)
class SummaryRow:
    """One run beside the others: ``summary.csv``, by falling AUROC.

    Its columns are these fields, where ``figures`` and ``minus_suvmax`` take several each: every
    figure in the order of their declarations, the difference after AUROC.
    """

    run: str
    model: str
    modality: str
    teacher: str
    image_size_px: int
    verdict: str  # against slice SUVmax, in words
    protocol: Protocol
    test_patients: TestPatients
    leaking: bool
    seeds: int
    figures: Mapping[str, Measured]
    minus_suvmax: Difference  # in AUROC; corrected over all rows of this table
    parameters: int
    n_patients: int
    n_test_normal: int
    n_test_abnormal: int

    @property
    def auroc(self) -> Measured:
        """What the rows are ranked by."""
        return self.figures[AUROC.name]

    @property
    def columns(self) -> dict[str, object]:
        """Every value by the name of its column."""
        columns: dict[str, object] = {}
        for name, value in vars(self).items():
            if name == "figures":
                columns |= self._measured()
            elif name != "minus_suvmax":
                columns[name] = value
        return columns

    def _measured(self) -> dict[str, object]:
        columns: dict[str, object] = {}
        for figure in figures.FIGURES:
            found = self.figures.get(figure.name)
            columns |= {figure.key(part): getattr(found, part, None) for part in figure.columns}
            if figure is AUROC:
                columns |= _columns("auroc_minus_suvmax", self.minus_suvmax, _DIFFERENCE)
        return columns


@dataclass(frozen=True)
class PairRow:
    """Two models on the same slices: ``pairs.csv``, by falling AUROC of either."""

    run: str
    other: str
    auroc_difference: float  # of run minus other
    low: float
    high: float
    p: float  # two-sided
    p_holm: float  # over all rows of this table
    significant: bool  # p_holm is below 1 - evaluate.confidence
    leaking: bool


@dataclass(frozen=True)
class HypothesisRow:
    """A comparison that a paper's claim rests on: ``hypotheses.csv``."""

    statement: str
    source: str  # where the paper says so
    better: str  # according to the paper
    worse: str
    auroc_difference: float | None  # None where a run is missing, and so for the next four
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None  # over all rows of this table
    outcome: str  # of this comparison
    statement_outcome: str
    leaking: bool


@dataclass(frozen=True)
class LeakRow:
    """A run under both protocols: ``leak.csv``, by falling leak."""

    run: str
    trivial: bool
    auroc_patient: float
    auroc_patient_low: float
    auroc_patient_high: float
    auroc_cmad: float  # leaking: patients of the test split were also trained on
    auroc_cmad_low: float
    auroc_cmad_high: float
    leak: float  # cmad minus patient
    leak_low: float
    leak_high: float
    p: float  # two-sided
    p_holm: float  # over all rows of this table
    # The leak on the slices that both protocols test, paired; None where those are of one class.
    same_slices: float | None
    same_slices_low: float | None
    same_slices_high: float | None
    same_slices_p: float | None
    same_slices_p_holm: float | None


@dataclass(frozen=True)
class FoldsRow:
    """A run over all folds: ``folds.csv``, by falling AUROC.

    Its columns are these fields; an estimate takes three, a difference five, and what is None
    leaves them empty. Means over folds, but ``auroc_pooled``.
    """

    run: str
    folds: int
    auroc: Estimate
    auroc_deviation: float  # sample standard deviation over folds
    auroc_lowest: float
    auroc_highest: float
    minus_suvmax: Difference | None  # in AUROC; corrected over all rows of this table
    adjusted: Estimate | None  # AUROC adjusted for the place in the stack
    adjusted_minus_suvmax: Difference | None  # likewise corrected, by itself
    froc_1: Estimate | None  # lesions found at 1 false finding per study; none without maps
    froc_2: Estimate | None
    auroc_pooled: Estimate  # of all folds' scores together
    n_patients: int
    n_test_normal: int
    n_test_abnormal: int

    @property
    def columns(self) -> dict[str, object]:
        """Every value by the name of its column."""
        columns: dict[str, object] = {}
        for name, value in vars(self).items():
            if parts := _ESTIMATED.get(name):
                columns |= _columns(name, value, parts)
            else:
                columns[name] = value
        return columns


_INTERVAL = ("low", "high")
_DIFFERENCE = (*_INTERVAL, "p", "p_holm")
_ESTIMATED = {
    "auroc": _INTERVAL,
    "minus_suvmax": _DIFFERENCE,
    "adjusted": _INTERVAL,
    "adjusted_minus_suvmax": _DIFFERENCE,
    "froc_1": _INTERVAL,
    "froc_2": _INTERVAL,
    "auroc_pooled": _INTERVAL,
}


def _columns(name: str, found: Estimate | None, parts: tuple[str, ...]) -> dict[str, object]:
    """The value and its parts, each by its column; None where nothing was found."""
    columns = {f"{name}_{part}": getattr(found, part, None) for part in parts}
    return {name: getattr(found, "value", None), **columns}
