"""Figures as inline SVG whose colours and font are the page's own, so that dark mode works."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.tables import RunIdentity

# matplotlib knows no CSS variables: it draws with these stand-ins, which are replaced in the SVG.
_INK, _RULE = "#010101", "#020202"
_NORMAL, _ABNORMAL = "#030303", "#040404"
_CURVES = {"pet": "#050505", "ct": "#060606", "petct": "#070707"}
_TRIVIAL = "#080808"
_CSS = {
    _INK: "var(--ink)",
    _RULE: "var(--rule)",
    _NORMAL: "var(--normal)",
    _ABNORMAL: "var(--abnormal)",
    _CURVES["pet"]: "var(--pet)",
    _CURVES["ct"]: "var(--ct)",
    _CURVES["petct"]: "var(--petct)",
    _TRIVIAL: "var(--trivial)",
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "petct",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _RULE,
    "grid.linewidth": 0.5,
}
_DASHES = ("", "6 3", "2 2", "8 3 2 3")
_TRIVIAL_DASHES = ("1 2", "4 2 1 2", "3 3")
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Stroke:
    """How one run is drawn: hue by modality, dashes by model, grey for trivial baselines."""

    run: str
    colour: str
    dashes: str  # as in SVG's stroke-dasharray
    width: float

    @property
    def css(self) -> str:
        """The colour as the page knows it."""
        return _CSS[self.colour]


def strokes(identities: Sequence[RunIdentity]) -> tuple[Stroke, ...]:
    """One stroke per run, in their order."""
    models = list(dict.fromkeys(item.model for item in identities if not item.trivial))
    trivial = [item.model for item in identities if item.trivial]
    return tuple(
        Stroke(item.run, _TRIVIAL, _pick(_TRIVIAL_DASHES, trivial.index(item.model)), 1.2)
        if item.trivial
        else Stroke(item.run, _CURVES[item.modality], _pick(_DASHES, models.index(item.model)), 1.8)
        for item in identities
    )


def roc_figure(runs: Sequence[RunResults], lines: Sequence[Stroke]) -> str:
    """Every run's ROC curve in one square."""
    with mpl.rc_context(_STYLE):
        figure, axes = _square("1 - specificity", "sensitivity")
        axes.plot([0, 1], [0, 1], color=_RULE, linewidth=1)
        for run, line in zip(runs, lines, strict=True):
            x = [row.fpr for row in run.roc]
            _curve(axes, x, [row.tpr for row in run.roc], line)
        return _svg(figure, "ROC curves of all runs")


def pr_figure(runs: Sequence[RunResults], lines: Sequence[Stroke]) -> str:
    """Every run's precision-recall curve in one square, over the prevalence."""
    with mpl.rc_context(_STYLE):
        figure, axes = _square("recall", "precision")
        metrics = runs[0].metrics
        share = metrics.n_test_abnormal / (metrics.n_test_abnormal + metrics.n_test_normal)
        axes.axhline(share, color=_RULE, linewidth=1)
        for run, line in zip(runs, lines, strict=True):
            recall, precision = [row.recall for row in run.pr], [row.precision for row in run.pr]
            _curve(axes, recall, precision, line)
        return _svg(figure, "Precision-recall curves of all runs")


def histogram_figure(run: RunResults) -> str:
    """Normal and abnormal test slices by score, and the threshold from validation normals."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(2.9, 1.75), layout="constrained")
        axes = figure.subplots()
        edges = [run.histogram[0].score_low, *(row.score_high for row in run.histogram)]
        for counts, colour in (
            ([row.normal for row in run.histogram], _NORMAL),
            ([row.abnormal for row in run.histogram], _ABNORMAL),
        ):
            axes.stairs(counts, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(counts, edges, color=colour, linewidth=1)
        axes.axvline(run.metrics.threshold, color=_INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylabel("slices")
        return _svg(figure, f"Score histogram of {run.metrics.identity.run}")


def _square(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.3, 4.1), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x_label, ylabel=y_label)
    axes.set_box_aspect(1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.2))
    axes.grid()
    return figure, axes


def _curve(axes: Axes, x: Sequence[float], y: Sequence[float], line: Stroke) -> None:
    dashes = tuple(map(float, line.dashes.split()))
    # In points rather than in line widths, so that the legend's dashes are the same.
    style = (0, tuple(part / line.width for part in dashes)) if dashes else "solid"
    axes.plot(x, y, color=line.colour, linewidth=line.width, linestyle=style)


def _svg(figure: Figure, label: str) -> str:
    """The bare ``<svg>`` element: transparent, without prolog, metadata or ids nobody uses."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=_NO_METADATA)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'width="[^"]*pt" height="[^"]*pt" ', "", text, count=1)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--sans)", text)
    for stand_in, variable in _CSS.items():
        text = text.replace(stand_in, variable)
    return text.strip()


def _pick(styles: Sequence[str], index: int) -> str:
    return styles[index % len(styles)]
