"""Figures as inline SVG whose colours and font are the page's own, so that dark mode works."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import NDArray

from petct_uad.comparison.tables import BEATS, LEVEL, LOSES, SummaryRow
from petct_uad.evaluation.findings import RATES
from petct_uad.evaluation.metrics import Scores, auroc
from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.tables import RunIdentity
from petct_uad.evaluation.trivial import SUVMAX
from petct_uad.registration.tables import RegistrationRow
from petct_uad.report.bands import Band, Bands

# matplotlib knows no CSS variables: it draws with these stand-ins, which are replaced in the SVG.
_INK, _RULE = "#010101", "#020202"
_NORMAL, _ABNORMAL = "#030303", "#040404"
_TRIVIAL = "#050505"
_GOOD, _BAD, _SOFT = "#0c0c0c", "#0d0d0d", "#0e0e0e"
_HUES = ("#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b")
_CSS = {
    _INK: "var(--ink)",
    _RULE: "var(--rule)",
    _NORMAL: "var(--normal)",
    _ABNORMAL: "var(--abnormal)",
    _TRIVIAL: "var(--trivial)",
    _GOOD: "var(--good)",
    _BAD: "var(--bad)",
    _SOFT: "var(--soft)",
    **{hue: f"var(--hue{number})" for number, hue in enumerate(_HUES, start=1)},
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
# Each dash pattern serves three hues, so that no pair of models differs in hue alone if those
# hues are close.
_DASHES = ("", "5 2", "2 2", "8 3 2 3")
_HUES_PER_DASH = 3
_TRIVIAL_DASHES = ("1 2", "4 2 1 2", "3 3")
_RATE_WORDS = [str(Fraction(rate)) for rate in RATES]  # 1/8 to 8
_BAND, _CURVE = "band", "curve"  # what the groups of an SVG are, before the name of the model
_MARKERS = {"pet": "o", "ct": "s", "petct": "D"}
_MODALITIES = {"pet": "PET", "ct": "CT", "petct": "PET and CT"}
# Colour, marker and its inside; None: filled. The marker says the same to who sees no colours.
_VERDICTS = {BEATS: (_GOOD, "o", None), LOSES: (_BAD, "X", None), LEVEL: (_SOFT, "o", "none")}
_NO_VERDICT = (_TRIVIAL, "D", None)
Floats = NDArray[np.float64]
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


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
        return _CSS[self.colour]


@dataclass(frozen=True)
class CurveGroup:
    """The models that see the same modalities, and the trivial baselines, in squares."""

    title: str
    roc: Markup
    pr: Markup
    froc: Markup | None  # of models, in mean over their seeds; None without lesion masks


@dataclass(frozen=True)
class BoxGroup:
    """Box plots of the models that see the same modalities and of SUVmax, the best on top."""

    title: str
    scores: Markup  # of normal and abnormal slices
    aurocs: Markup  # within each patient


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
            name: Stroke(name, _TRIVIAL, _pick(_TRIVIAL_DASHES, number), 1.2)
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
    for modality, title in _MODALITIES.items():
        models = [run for run in runs if _sees(run.metrics.identity, modality)]
        if models:
            shown = [*trivial, *models]
            groups.append(
                CurveGroup(
                    title,
                    _roc_figure(title, shown, bands, lines),
                    _pr_figure(title, shown, bands, lines),
                    _froc_figure(title, [run for run in models if run.froc], lines),
                )
            )
    return tuple(groups)


def _sees(identity: RunIdentity, modality: str) -> bool:
    return not identity.trivial and identity.modality == modality


def _model_stroke(model: str, number: int) -> Stroke:
    return Stroke(model, _pick(_HUES, number), _pick(_DASHES, number // _HUES_PER_DASH), 1.7)


def _roc_figure(
    title: str,
    runs: Sequence[RunResults],
    bands: Mapping[str, Bands],
    lines: Mapping[str, Stroke],
) -> Markup:
    with mpl.rc_context(_STYLE):
        figure, axes = _square("1 - specificity", "sensitivity")
        axes.plot([0, 1], [0, 1], color=_RULE, linewidth=1)
        for run in runs:
            line = lines[run.metrics.identity.model]
            _band(axes, bands[run.metrics.identity.run].roc, line)
            _curve(axes, [row.fpr for row in run.roc], [row.tpr for row in run.roc], line)
        return _svg(figure, f"ROC curves on {title}")


def _pr_figure(
    title: str,
    runs: Sequence[RunResults],
    bands: Mapping[str, Bands],
    lines: Mapping[str, Stroke],
) -> Markup:
    with mpl.rc_context(_STYLE):
        figure, axes = _square("recall", "precision")
        metrics = runs[0].metrics
        share = metrics.n_test_abnormal / (metrics.n_test_abnormal + metrics.n_test_normal)
        axes.axhline(share, color=_RULE, linewidth=1)
        for run in runs:
            line = lines[run.metrics.identity.model]
            _band(axes, bands[run.metrics.identity.run].pr, line)
            _curve(axes, [row.recall for row in run.pr], [row.precision for row in run.pr], line)
        return _svg(figure, f"Precision-recall curves on {title}")


def _froc_figure(
    title: str, runs: Sequence[RunResults], lines: Mapping[str, Stroke]
) -> Markup | None:
    if not runs:
        return None
    with mpl.rc_context(_STYLE):
        figure, axes = _square("false findings per study", "lesions found")
        axes.set_xscale("log", base=2)
        axes.set(xlim=(RATES[0], RATES[-1]), xticks=RATES, xticklabels=_RATE_WORDS)
        for run in runs:
            line = lines[run.metrics.identity.model]
            x, y, low, high = np.array([astuple(point) for point in run.froc]).T
            _band(axes, Band(x, low, high), line)
            _curve(axes, list(x), list(y), line)
        return _svg(figure, f"FROC curves on {title}")


def box_groups(runs: Sequence[RunResults]) -> tuple[BoxGroup, ...]:
    """Box plots by modality, each model beside SUVmax.

    Args:
        runs: best first.
    """
    suvmax = [run for run in runs if run.metrics.identity.run == SUVMAX.name]
    groups = []
    for modality, title in _MODALITIES.items():
        models = [run for run in runs if _sees(run.metrics.identity, modality)]
        if models:
            shown = [*models, *suvmax]
            groups.append(BoxGroup(title, _score_boxes(title, shown), _patient_boxes(title, shown)))
    return tuple(groups)


def _score_boxes(title: str, runs: Sequence[RunResults]) -> Markup:
    """Scores of one run do not compare with another's, so each run's go from 0 to 1."""
    with mpl.rc_context(_STYLE):
        figure, axes = _rows_of(runs)
        scores = [run.scores_by_seed[0] for run in runs]
        for label, colour, beside in ((0, _NORMAL, -0.19), (1, _ABNORMAL, 0.19)):
            drawn = [_from_0_to_1(x.scores)[x.labels == label] for x in scores]
            _boxes(axes, drawn, [place + beside for place in range(len(runs))], 0.32, colour)
        axes.set(xlim=(-0.02, 1.02), xlabel="score, from the run's lowest to its highest")
        return _svg(figure, f"Scores of normal and abnormal slices on {title}")


def _patient_boxes(title: str, runs: Sequence[RunResults]) -> Markup:
    with mpl.rc_context(_STYLE):
        figure, axes = _rows_of(runs)
        drawn = [_aurocs_of_patients(run.scores_by_seed[0]) for run in runs]
        _boxes(axes, drawn, list(range(len(runs))), 0.5, _INK)
        axes.set(xlim=(-0.02, 1.02), xlabel="AUROC within a patient")
        axes.axvline(0.5, color=_RULE, linewidth=1)
        return _svg(figure, f"AUROC within each patient on {title}")


def _rows_of(runs: Sequence[RunResults]) -> tuple[Figure, Axes]:
    """A line per run, the best on top."""
    figure = Figure(figsize=(4.2, 0.7 + 0.33 * len(runs)), layout="constrained")
    axes = figure.subplots()
    names = [run.metrics.identity.run for run in runs]
    axes.set(yticks=range(len(runs)), yticklabels=names, ylim=(len(runs) - 0.5, -0.5))
    return figure, axes


def _boxes(
    axes: Axes, drawn: Sequence[Floats], places: Sequence[float], width: float, colour: str
) -> None:
    """Quartiles and median; whiskers to 1.5 times the box, what is beyond as dots."""
    line = {"color": colour, "linewidth": 1}
    axes.boxplot(
        drawn,
        positions=places,
        widths=width,
        orientation="horizontal",
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": "none", "edgecolor": colour, "linewidth": 1},
        medianprops=line | {"linewidth": 2},
        whiskerprops=line,
        capprops=line,
        flierprops={"marker": ".", "markersize": 2, "markeredgecolor": colour},
    )


def _from_0_to_1(scores: Floats) -> Floats:
    return np.asarray((scores - scores.min()) / max(np.ptp(scores), np.finfo(float).tiny))


def _aurocs_of_patients(scores: Scores) -> Floats:
    """Of each patient that has normal and abnormal slices."""
    of_each = [
        Scores(scores.labels[chosen], scores.scores[chosen], scores.patients[chosen])
        for chosen in (scores.patients == patient for patient in range(scores.n_patients))
    ]
    return np.array([auroc(x) for x in of_each if x.has_both_classes])


def histogram_figure(run: RunResults) -> Markup:
    """Test slices by score of the first seed, and its threshold from validation normals."""
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
        axes.axvline(run.metrics.thresholds[0], color=_INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylabel("slices")
        return _svg(figure, f"Score histogram of {run.metrics.identity.run}")


def _square(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.5, 3.35), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x_label, ylabel=y_label)
    axes.set_box_aspect(1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.2))
    axes.grid()
    return figure, axes


def overlap_figure(rows: Sequence[RegistrationRow]) -> Markup:
    """The body overlap of every study before and after registration."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.5, 3.35), layout="constrained")
        axes = figure.subplots()
        both = [(row.body_overlap_before, row.body_overlap_after) for row in rows]
        low = min((value for pair in both for value in pair), default=0.0) - 0.01
        axes.plot([low, 1], [low, 1], color=_RULE, linewidth=1)
        for row in rows:
            place = (row.body_overlap_before, row.body_overlap_after)
            axes.plot(*place, marker="o", markersize=4, alpha=0.6, color=_outcome(row))
        axes.set(xlabel="Dice of the bodies before", ylabel="after")
        axes.set_box_aspect(1)
        axes.grid()
        return _svg(figure, "Body overlap before and after registration")


def displacement_figure(rows: Sequence[RegistrationRow]) -> Markup:
    """How far the body was moved, as the medians of the studies."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.5, 3.35), layout="constrained")
        axes = figure.subplots()
        axes.hist([row.displacement_median_mm for row in rows], bins=12, color=_NORMAL, alpha=0.6)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set(xlabel="median displacement in mm", ylabel="studies")
        axes.set_box_aspect(1)
        return _svg(figure, "Displacement found by registration")


def _outcome(row: RegistrationRow) -> str:
    if not row.attempted:
        return _TRIVIAL
    return _NORMAL if row.accepted else _ABNORMAL


def forest_figure(rows: Sequence[SummaryRow], suvmax: SummaryRow) -> Markup:
    """AUROC with its interval beside SUVmax's, by what may be said of the two.

    Args:
        rows: of models, the best first.
        suvmax: of the baseline.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 0.55 + 0.24 * (len(rows) + 1)), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate([*rows, suvmax]):
            auroc, (colour, marker, face) = row.auroc, _VERDICTS.get(row.verdict, _NO_VERDICT)
            ends = np.array([auroc.low, auroc.high], dtype=np.float64)
            axes.plot(ends, [place, place], color=colour, linewidth=1.6)
            axes.plot(auroc.value, place, marker=marker, markersize=6, color=colour,
                      markerfacecolor=face or colour)  # fmt: skip
        axes.axvline(suvmax.auroc.value, color=_INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.set_yticks(range(len(rows) + 1), [*(row.run for row in rows), suvmax.run])
        axes.invert_yaxis()
        axes.set_xlabel("AUROC")
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        return _svg(figure, "AUROC of models, with intervals, beside SUVmax")


def cost_figure(
    rows: Sequence[SummaryRow], gflops: Mapping[str, float], lines: Mapping[str, Stroke]
) -> Markup:
    """AUROC with its interval by floating-point operations per pair, models only."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 3.1), layout="constrained")
        axes = figure.subplots()
        for row in rows:
            auroc = row.auroc
            error = [[auroc.value - (auroc.low or 0)], [(auroc.high or 0) - auroc.value]]
            axes.errorbar(
                gflops[row.run],
                auroc.value,
                yerr=error,
                marker=_MARKERS[row.modality],
                markersize=5,
                linewidth=1,
                color=lines[row.model].colour,
            )
        axes.set(xlabel="GFLOPs per pair", ylabel="AUROC", xlim=(0, None))
        axes.grid()
        return _svg(figure, "AUROC by GFLOPs per pair")


def _band(axes: Axes, band: Band, line: Stroke) -> None:
    """Hidden until a reader, or the page, picks the model."""
    drawn = axes.fill_between(band.x, band.low, band.high, color=line.colour, alpha=0.22, lw=0)
    drawn.set_gid(f"{_BAND}{line.model}")


def _curve(axes: Axes, x: Sequence[float], y: Sequence[float], line: Stroke) -> None:
    dashes = tuple(map(float, line.dashes.split()))
    # In points rather than in line widths, so that the legend's dashes are the same.
    style = (0, tuple(part / line.width for part in dashes)) if dashes else "solid"
    (drawn,) = axes.plot(x, y, color=line.colour, linewidth=line.width, linestyle=style)
    drawn.set_gid(f"{_CURVE}{line.model}")


def _svg(figure: Figure, label: str) -> Markup:
    """The bare ``<svg>`` element: transparent, without prolog, metadata or ids nobody uses."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=_NO_METADATA)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(rf'<g id="({_BAND}|{_CURVE})([^"]*)">', r'<g class="\1" data-model="\2">', text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'width="[^"]*pt" height="[^"]*pt" ', "", text, count=1)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--sans)", text)
    for stand_in, variable in _CSS.items():
        text = text.replace(stand_in, variable)
    return Markup(text.strip())


def _pick(styles: Sequence[str], index: int) -> str:
    return styles[index % len(styles)]
