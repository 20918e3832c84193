"""Every figure of merit, declared once: how it is measured, and where and how it is shown.

``metrics.json``, ``summary.csv``, ``summary.md`` and the report's table follow from ``FIGURES``;
nothing else names a figure in order to pass it on. AUROC alone has a part of its own: verdicts are
about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from petct_uad.evaluation.bootstrap import ap_of, auroc_of, deviation, estimate_mean
from petct_uad.evaluation.findings import RATES, Findings
from petct_uad.evaluation.metrics import Confusion, Weights, auroc, average_precision
from petct_uad.evaluation.seeds import Draws, SeedDecisions
from petct_uad.evaluation.tables import Measured

Part = Literal["value", "low", "high", "deviation"]
_SUFFIX: Mapping[Part, str] = {
    "value": "", "low": "_low", "high": "_high", "deviation": "_deviation",
}  # fmt: skip


_FLATTERING = (
    "the best threshold on the test slices themselves, as papers report it, which flatters"
)
_INTERVAL: tuple[Part, ...] = ("value", "low", "high")


@dataclass(frozen=True)
class Sample:
    """A figure of one seed, and in each resample of the patients (resamples,), if it is drawn."""

    value: float
    drawn: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Figure:
    """One figure of merit: the mean over the seeds' models, each at its own threshold.

    Attributes:
        name: of its keys in ``metrics.json`` and its columns in ``summary.csv``.
        title: its heading in tables for people.
        of_seed: the figure of one seed; None where there is nothing to measure, which is so for
            every seed of a run or for none.
        of_draws: the same in each resample (resamples,), from which its interval comes, NaN where
            a resample has nothing to measure; None: it has no interval.
        deviates: is its standard deviation over seeds kept?
        columns: what ``summary.csv`` has of it; nothing: it is in ``metrics.json`` only.
        shown: do ``summary.md`` and the report have it too? Those show what ``columns`` has of it.
        short: its heading where there is little room; by default the title.
        decimals: of what is shown to people.
        threshold: of a decision, where its threshold comes from, as a sentence ends: "at ...".
        in_diff: does ``summary.json`` have it, which ``dvc metrics diff --targets`` compares?
    """

    name: str
    title: str
    of_seed: Callable[[SeedDecisions], float | None]
    of_draws: Callable[[SeedDecisions, Draws], NDArray[np.float64]] | None = None
    deviates: bool = False
    columns: tuple[Part, ...] = ("value",)
    shown: bool = True
    short: str = ""
    decimals: int = 3
    threshold: str = ""
    in_diff: bool = False

    @property
    def for_people(self) -> bool:
        """Do ``summary.md`` and the report have it?"""
        return self.shown and bool(self.columns)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is measured of it, as ``metrics.json`` has it."""
        interval: tuple[Part, ...] = ("low", "high") if self.of_draws else ()
        return ("value", *interval, *(("deviation",) if self.deviates else ()))

    def key(self, part: Part) -> str:
        """``auroc``, ``auroc_low``, ``auroc_high`` or ``auroc_deviation``."""
        return self.name + _SUFFIX[part]

    def sample(self, seed: SeedDecisions, draws: Draws) -> Sample | None:
        """The figure of one seed; None where there is nothing to measure."""
        if (value := self.of_seed(seed)) is None:
            return None
        return Sample(value, self.of_draws(seed, draws) if self.of_draws else None)

    def over_seeds(self, samples: Sequence[Sample | None], confidence: float) -> Measured | None:
        """The mean over seeds, with the interval of that mean over the same drawn patients."""
        known = [sample for sample in samples if sample]
        if not known:
            return None
        values = [sample.value for sample in known]
        spread = deviation(values) if self.deviates else None
        drawn = [x.drawn for x in known if x.drawn is not None and not np.isnan(x.drawn).all()]
        if not drawn:
            return Measured(float(np.mean(values)), deviation=spread)
        found = estimate_mean(values, drawn, confidence)
        return Measured(found.value, found.low, found.high, spread)

    def in_words(self, measured: Measured | None) -> str:
        """For people: the value, ± its deviation, and its interval, as far as columns have them."""
        if measured is None:
            return ""
        words = self.number(measured.value)
        if "deviation" in self.columns and measured.deviation is not None:
            words += f" ± {self.number(measured.deviation)}"
        if "low" in self.columns and measured.low is not None and measured.high is not None:
            words += f" ({self.number(measured.low)} to {self.number(measured.high)})"
        return words

    def number(self, value: float) -> str:
        """A number with the decimals of this figure."""
        return f"{value:.{self.decimals}f}"


def flat_figures(figures: Mapping[str, Measured]) -> dict[str, float | None]:
    """Every figure as ``metrics.json`` has it: one level of keys, null for what is not there."""
    return {
        figure.key(part): getattr(figures.get(figure.name), part, None)
        for figure in FIGURES
        for part in figure.parts
    }


def figures_of(flat: Mapping[str, Any]) -> dict[str, Measured]:
    """What :func:`flat_figures` gave.

    Raises:
        KeyError: a figure is missing.
    """
    parts = {x.name: {part: flat[x.key(part)] for part in x.parts} for x in FIGURES}
    return {name: Measured(**x) for name, x in parts.items() if x["value"] is not None}


def _decided(
    name: str, title: str, pick: Callable[[Confusion], NDArray[np.float64]], **how: Any
) -> Figure:
    """One of the decisions at the threshold from validation normals."""

    def of_draws(seed: SeedDecisions, draws: Draws) -> NDArray[np.float64]:
        return pick(seed.decisions(draws.slices.weights))

    def of_seed(seed: SeedDecisions) -> float:
        return pick(seed.called).item()

    threshold = "the threshold that validation normals chose"
    return Figure(name, title, of_seed, of_draws, threshold=threshold, **how)


def _oracle(
    name: str, title: str, pick: Callable[[Confusion], NDArray[np.float64]], **how: Any
) -> Figure:
    """One at the threshold with the best F1 on the test split."""
    return Figure(name, title, lambda seed: pick(seed.oracle).item(), threshold=_FLATTERING, **how)


def _of_patients(seed: SeedDecisions) -> float | None:
    return auroc(seed.patients) if seed.patients.has_both_classes else None


def _of_drawn_patients(seed: SeedDecisions, draws: Draws) -> NDArray[np.float64]:
    assert draws.patients, "drawn where there are both classes"
    return auroc_of(seed.patients, draws.patients.weights)


def _position_adjusted(seed: SeedDecisions) -> float | None:
    if seed.like_placed is None or not seed.like_placed.matched:
        return None
    return seed.like_placed.auroc(seed.scores.each_patient_once).item()


def _position_adjusted_draws(seed: SeedDecisions, draws: Draws) -> NDArray[np.float64]:
    assert seed.like_placed, "drawn where there is a stack"
    return seed.like_placed.auroc(draws.slices.weights)


def _of_lesions(
    name: str, title: str, pick: Callable[[Findings, Weights], NDArray[np.float64]], **how: Any
) -> Figure:
    """One that counts lesions and findings in three dimensions."""

    def of_seed(seed: SeedDecisions) -> float | None:
        if seed.findings is None:
            return None
        value = pick(seed.findings, seed.scores.each_patient_once).item()
        return None if np.isnan(value) else value

    def of_draws(seed: SeedDecisions, draws: Draws) -> NDArray[np.float64]:
        assert seed.findings, "drawn where there are lesions"
        return pick(seed.findings, draws.slices.weights)

    return Figure(name, title, of_seed, of_draws, **how)


def _froc(name: str, title: str, *rates: float, **how: Any) -> Figure:
    """Mean lesion sensitivity at these false findings per study."""
    return _of_lesions(name, title, lambda x, w: x.sensitivity(w, rates).mean(axis=1), **how)


def _called(
    name: str, title: str, pick: Callable[[Findings, Weights], NDArray[np.float64]], **how: Any
) -> Figure:
    """One at the threshold of the map from validation normals."""
    threshold = (
        "the threshold of the map that pixels of at most evaluate.false_positive_rate of the "
        "validation normals exceed"
    )
    return _of_lesions(name, title, pick, threshold=threshold, **how)


AUROC = Figure(
    name="auroc",
    title="AUROC",
    of_seed=lambda seed: auroc(seed.scores),
    of_draws=lambda seed, draws: auroc_of(seed.scores, draws.slices.weights),
    deviates=True,
    columns=("value", "low", "high", "deviation"),
)
POSITION_ADJUSTED = Figure(
    name="auroc_position_adjusted",
    title="position-adjusted AUROC",
    of_seed=_position_adjusted,
    of_draws=_position_adjusted_draws,
    deviates=True,
    columns=("value", "low", "high", "deviation"),
    short="adjusted AUROC",
    in_diff=True,
)
AP = Figure(
    name="ap",
    title="AP",
    of_seed=lambda seed: average_precision(seed.scores),
    of_draws=lambda seed, draws: ap_of(seed.scores, draws.slices.weights),
    deviates=True,
    columns=("value", "low", "high", "deviation"),
)
PATIENT_AUROC = Figure("patient_auroc", "patient AUROC", _of_patients, _of_drawn_patients)
FIGURES: tuple[Figure, ...] = (
    AUROC,
    POSITION_ADJUSTED,
    Figure(
        "position_matched",
        "slices with a normal one of like place",
        lambda seed: seed.like_placed.matched if seed.like_placed else None,
        shown=False,
    ),
    AP,
    _decided("f1", "F1", lambda x: x.f1, deviates=True, columns=("value", "deviation")),
    _decided("accuracy", "accuracy", lambda x: x.accuracy, shown=False),
    _decided("sensitivity", "sensitivity", lambda x: x.sensitivity, short="sens."),
    _decided("specificity", "specificity", lambda x: x.specificity, short="spec."),
    _oracle("oracle_f1", "oracle F1", lambda x: x.f1),
    _oracle("oracle_accuracy", "oracle accuracy", lambda x: x.accuracy, columns=()),
    _oracle("oracle_sensitivity", "oracle sensitivity", lambda x: x.sensitivity, columns=()),
    _oracle("oracle_specificity", "oracle specificity", lambda x: x.specificity, columns=()),
    Figure("pixel_auroc", "pixel AUROC", lambda seed: seed.pixels.pixel_auroc),
    Figure("aupro", "AUPRO", lambda seed: seed.pixels.aupro),
    PATIENT_AUROC,
    _froc("froc", "FROC", *RATES, columns=_INTERVAL, in_diff=True),
    _froc(
        "froc_1", "lesions found at 1 false finding per study", 1, columns=_INTERVAL, shown=False
    ),
    _froc("froc_2", "the same at 2", 2, columns=_INTERVAL, shown=False),
    _froc("froc_4", "the same at 4", 4, columns=_INTERVAL, shown=False),
    _called(
        "lesion_sensitivity",
        "lesion sensitivity",
        Findings.found,
        short="lesion sens.",
        in_diff=True,
    ),
    _called(
        "false_findings",
        "false findings per study",
        Findings.false_per_study,
        decimals=2,
        short="false findings",
        in_diff=True,
    ),
    _called("false_positive_ml", "false positive ml", Findings.false_ml, decimals=1, in_diff=True),
    _called("false_negative_ml", "false negative ml", Findings.missed_ml, decimals=1, in_diff=True),
    _called("dice", "Dice", Findings.dice, in_diff=True),
    Figure(
        "oracle_dice",
        "oracle Dice",
        lambda seed: seed.findings.oracle_dice if seed.findings else None,
        threshold=_FLATTERING,
    ),
)
