"""How each model is drawn, and its ROC, precision-recall and FROC curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from petct_uad.evaluation.findings import RATES
from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.tables import RunIdentity
from petct_uad.evaluation.trivial import SUVMAX
from petct_uad.report.bands import Band, Bands
from petct_uad.report.svg import BAND, CSS, CURVE, HUES, RULE, STYLE, TRIVIAL, as_svg

# Each dash pattern serves three hues, so that no pair of models differs in hue alone if those
# hues are close.
_DASHES = ("", "5 2", "2 2", "8 3 2 3")
_HUES_PER_DASH = 3
_TRIVIAL_DASHES = ("1 2", "4 2 1 2", "3 3")
_RATE_WORDS = [str(Fraction(rate)) for rate in RATES]  # 1/8 to 8
MODALITIES = {"pet": "PET", "ct": "CT", "petct": "PET and CT"}


@dataclass(frozen=True)
class Stroke:
    """How a model's runs are drawn: hue and dashes by model, grey for trivial baselines."""

    model: str
    colour: str
    dashes: str  # as in SVG's stroke-dasharray
    width: float

    @property
    def css(self) -> str:
        """The colour as the page knows it."""
        return CSS[self.colour]


@dataclass(frozen=True)
class CurveGroup:
    """The models that see the same modalities, and the trivial baselines, in squares."""

    title: str
    roc: Markup
    pr: Markup
    froc: Markup | None  # of models, in mean over their seeds; None without lesion masks


def strokes(identities: Iterable[RunIdentity]) -> dict[str, Stroke]:
    """One stroke per model, by its name: models in the order of the alphabet, then baselines.

    Args:
        identities: best first.
    """
    kinds = dict.fromkeys((item.trivial, item.model) for item in identities)
    models = sorted(name for trivial, name in kinds if not trivial)
    baselines = _suvmax_first(name for trivial, name in kinds if trivial)
    return {
        **{name: _model_stroke(name, number) for number, name in enumerate(models)},
        **{
            name: Stroke(name, TRIVIAL, _pick(_TRIVIAL_DASHES, number), 1.2)
            for number, name in enumerate(baselines)
        },
    }


def drawn_baselines(identities: Iterable[RunIdentity]) -> tuple[str, ...]:
    """The trivial baselines whose curves are drawn: SUVmax and the best others, by name.

    All have a row in the table; in a square of curves more than these would hide the models'.

    Args:
        identities: best first.
    """
    names = _suvmax_first(item.model for item in identities if item.trivial)
    return tuple(names[: len(_TRIVIAL_DASHES)])


def _suvmax_first(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: name != SUVMAX.name)


def curve_groups(
    runs: Sequence[RunResults], bands: Mapping[str, Bands], lines: Mapping[str, Stroke]
) -> tuple[CurveGroup, ...]:
    """The ROC, precision-recall and FROC curves by modality, beside trivial baselines with such.

    Args:
        runs: best first.
        bands: of every run, by its name.
        lines: of every model, by its name.
    """
    groups = []
    baselines = drawn_baselines(run.metrics.identity for run in runs)
    trivial = [run for run in runs if run.metrics.identity.model in baselines]
    for modality, title in MODALITIES.items():
        models = [run for run in runs if sees(run.metrics.identity, modality)]
        if models:
            squares = _Squares(title, [*trivial, *models], bands, lines)
            groups.append(CurveGroup(title, squares.roc(), squares.pr(), squares.froc()))
    return tuple(groups)


def sees(identity: RunIdentity, modality: str) -> bool:
    """Is it a model that has this modality, or both where it is petct?"""
    return not identity.trivial and identity.modality == modality


def _model_stroke(model: str, number: int) -> Stroke:
    return Stroke(model, _pick(HUES, number), _pick(_DASHES, number // _HUES_PER_DASH), 1.7)


@dataclass(frozen=True)
class _Squares:
    """Models that see the same modalities, and the trivial baselines, to be drawn.

    Attributes:
        title: which modalities they see.
        runs: in the order in which they are drawn.
        bands: of every run, by its name.
        lines: of every model, by its name.
    """

    title: str
    runs: Sequence[RunResults]
    bands: Mapping[str, Bands]
    lines: Mapping[str, Stroke]

    def roc(self) -> Markup:
        """ROC curves, above a diagonal."""
        with mpl.rc_context(STYLE):
            figure, axes = _square("1 - specificity", "sensitivity")
            axes.plot([0, 1], [0, 1], color=RULE, linewidth=1)
            for run in self.runs:
                band = self.bands[run.metrics.identity.run].roc
                points = [(row.fpr, row.tpr) for row in run.roc]
                self._draw(axes, run, band, points)
            return as_svg(figure, f"ROC curves on {self.title}")

    def pr(self) -> Markup:
        """Precision-recall curves, above the share of abnormal slices."""
        with mpl.rc_context(STYLE):
            figure, axes = _square("recall", "precision")
            metrics = self.runs[0].metrics
            share = metrics.n_test_abnormal / (metrics.n_test_abnormal + metrics.n_test_normal)
            axes.axhline(share, color=RULE, linewidth=1)
            for run in self.runs:
                band = self.bands[run.metrics.identity.run].pr
                points = [(row.recall, row.precision) for row in run.pr]
                self._draw(axes, run, band, points)
            return as_svg(figure, f"Precision-recall curves on {self.title}")

    def froc(self) -> Markup | None:
        """FROC curves of the models; None without lesion masks."""
        runs = [run for run in self.runs if run.froc and not run.metrics.identity.trivial]
        if not runs:
            return None
        with mpl.rc_context(STYLE):
            figure, axes = _square("false findings per study", "lesions found")
            axes.set_xscale("log", base=2)
            axes.set(xlim=(RATES[0], RATES[-1]), xticks=RATES, xticklabels=_RATE_WORDS)
            for run in runs:
                x, y, low, high = np.array([astuple(point) for point in run.froc]).T
                self._draw(axes, run, Band(x, low, high), list(zip(x, y, strict=True)))
            return as_svg(figure, f"FROC curves on {self.title}")

    def _draw(
        self, axes: Axes, run: RunResults, band: Band, points: Sequence[tuple[float, float]]
    ) -> None:
        line = self.lines[run.metrics.identity.model]
        _band(axes, band, line)
        _curve(axes, points, line)


def _square(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.5, 3.35), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x_label, ylabel=y_label)
    axes.set_box_aspect(1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.2))
    axes.grid()
    return figure, axes


def _band(axes: Axes, band: Band, line: Stroke) -> None:
    """Hidden until a reader, or the page, picks the model."""
    drawn = axes.fill_between(band.x, band.low, band.high, color=line.colour, alpha=0.22, lw=0)
    drawn.set_gid(f"{BAND}{line.model}")


def _curve(axes: Axes, points: Sequence[tuple[float, float]], line: Stroke) -> None:
    dashes = tuple(map(float, line.dashes.split()))
    # In points rather than in line widths, so that the legend's dashes are the same.
    style = (0, tuple(part / line.width for part in dashes)) if dashes else "solid"
    x, y = zip(*points, strict=True)
    (drawn,) = axes.plot(x, y, color=line.colour, linewidth=line.width, linestyle=style)
    drawn.set_gid(f"{CURVE}{line.model}")


def _pick(styles: Sequence[str], index: int) -> str:
    return styles[index % len(styles)]
