"""The report's figures but for the curves: boxes, histograms, intervals, registration, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from petct_uad.comparison.tables import BEATS, LEVEL, LOSES, SummaryRow
from petct_uad.evaluation.metrics import Scores, auroc
from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.trivial import SUVMAX
from petct_uad.registration.tables import RegistrationRow
from petct_uad.report.curves import MODALITIES, Stroke, sees
from petct_uad.report.svg import (
    ABNORMAL,
    BAD,
    GOOD,
    INK,
    NORMAL,
    RULE,
    SOFT,
    STYLE,
    TRIVIAL,
    as_svg,
)

_MARKERS = {"pet": "o", "ct": "s", "petct": "D"}
# Colour, marker and its inside; None: filled. The marker says the same to who sees no colours.
_VERDICTS = {BEATS: (GOOD, "o", None), LOSES: (BAD, "X", None), LEVEL: (SOFT, "o", "none")}
_NO_VERDICT = (TRIVIAL, "D", None)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BoxGroup:
    """Box plots of the models that see the same modalities and of SUVmax, the best on top."""

    title: str
    scores: Markup  # of normal and abnormal slices
    aurocs: Markup  # within each patient


def box_groups(runs: Sequence[RunResults]) -> tuple[BoxGroup, ...]:
    """Box plots by modality, each model beside SUVmax.

    Args:
        runs: best first.
    """
    suvmax = [run for run in runs if run.metrics.identity.run == SUVMAX.name]
    groups = []
    for modality, title in MODALITIES.items():
        models = [run for run in runs if sees(run.metrics.identity, modality)]
        if models:
            shown = [*models, *suvmax]
            groups.append(BoxGroup(title, _score_boxes(title, shown), _patient_boxes(title, shown)))
    return tuple(groups)


def _score_boxes(title: str, runs: Sequence[RunResults]) -> Markup:
    """Scores of one run do not compare with another's, so each run's go from 0 to 1."""
    with mpl.rc_context(STYLE):
        figure, axes = _rows_of(runs)
        scores = [run.scores_by_seed[0] for run in runs]
        for label, colour, beside in ((0, NORMAL, -0.19), (1, ABNORMAL, 0.19)):
            drawn = [_from_0_to_1(x.scores)[x.labels == label] for x in scores]
            _boxes(axes, drawn, [place + beside for place in range(len(runs))], 0.32, colour)
        axes.set(xlim=(-0.02, 1.02), xlabel="score, from the run's lowest to its highest")
        return as_svg(figure, f"Scores of normal and abnormal slices on {title}")


def _patient_boxes(title: str, runs: Sequence[RunResults]) -> Markup:
    with mpl.rc_context(STYLE):
        figure, axes = _rows_of(runs)
        drawn = [_aurocs_of_patients(run.scores_by_seed[0]) for run in runs]
        _boxes(axes, drawn, list(range(len(runs))), 0.5, INK)
        axes.set(xlim=(-0.02, 1.02), xlabel="AUROC within a patient")
        axes.axvline(0.5, color=RULE, linewidth=1)
        return as_svg(figure, f"AUROC within each patient on {title}")


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
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9, 1.75), layout="constrained")
        axes = figure.subplots()
        edges = [run.histogram[0].score_low, *(row.score_high for row in run.histogram)]
        for counts, colour in (
            ([row.normal for row in run.histogram], NORMAL),
            ([row.abnormal for row in run.histogram], ABNORMAL),
        ):
            axes.stairs(counts, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(counts, edges, color=colour, linewidth=1)
        axes.axvline(run.metrics.thresholds[0], color=INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylabel("slices")
        return as_svg(figure, f"Score histogram of {run.metrics.identity.run}")


def overlap_figure(rows: Sequence[RegistrationRow]) -> Markup:
    """The body overlap of every study before and after registration."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.5, 3.35), layout="constrained")
        axes = figure.subplots()
        both = [(row.body_overlap_before, row.body_overlap_after) for row in rows]
        low = min((value for pair in both for value in pair), default=0.0) - 0.01
        axes.plot([low, 1], [low, 1], color=RULE, linewidth=1)
        for row in rows:
            place = (row.body_overlap_before, row.body_overlap_after)
            axes.plot(*place, marker="o", markersize=4, alpha=0.6, color=_outcome(row))
        axes.set(xlabel="Dice of the bodies before", ylabel="after")
        axes.set_box_aspect(1)
        axes.grid()
        return as_svg(figure, "Body overlap before and after registration")


def displacement_figure(rows: Sequence[RegistrationRow]) -> Markup:
    """How far the body was moved, as the medians of the studies."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.5, 3.35), layout="constrained")
        axes = figure.subplots()
        axes.hist([row.displacement_median_mm for row in rows], bins=12, color=NORMAL, alpha=0.6)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set(xlabel="median displacement in mm", ylabel="studies")
        axes.set_box_aspect(1)
        return as_svg(figure, "Displacement found by registration")


def _outcome(row: RegistrationRow) -> str:
    if not row.attempted:
        return TRIVIAL
    return NORMAL if row.accepted else ABNORMAL


def forest_figure(rows: Sequence[SummaryRow], suvmax: SummaryRow) -> Markup:
    """AUROC with its interval beside SUVmax's, by what may be said of the two.

    Args:
        rows: of models, the best first.
        suvmax: of the baseline.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.55 + 0.24 * (len(rows) + 1)), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate([*rows, suvmax]):
            auroc, (colour, marker, face) = row.auroc, _VERDICTS.get(row.verdict, _NO_VERDICT)
            ends = np.array([auroc.low, auroc.high], dtype=np.float64)
            axes.plot(ends, [place, place], color=colour, linewidth=1.6)
            axes.plot(auroc.value, place, marker=marker, markersize=6, color=colour,
                      markerfacecolor=face or colour)  # fmt: skip
        axes.axvline(suvmax.auroc.value, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.set_yticks(range(len(rows) + 1), [*(row.run for row in rows), suvmax.run])
        axes.invert_yaxis()
        axes.set_xlabel("AUROC")
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        return as_svg(figure, "AUROC of models, with intervals, beside SUVmax")


def cost_figure(
    rows: Sequence[SummaryRow], gflops: Mapping[str, float], lines: Mapping[str, Stroke]
) -> Markup:
    """AUROC with its interval by floating-point operations per pair, models only."""
    with mpl.rc_context(STYLE):
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
        return as_svg(figure, "AUROC by GFLOPs per pair")
