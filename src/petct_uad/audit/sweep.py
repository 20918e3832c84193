"""A row's figures by the value of one param, over experiments that differ in nothing else.

Of ``model.cmpt`` it is Fig. 6 of CMAD: AUROC, AP and F1 by the number of prior tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from matplotlib.figure import Figure

from petct_uad.comparison.markdown import markdown_table
from petct_uad.core.errors import LineageError, did_you_mean
from petct_uad.core.files import atomic_path
from petct_uad.evaluation.tables import Estimate
from petct_uad.lineage.names import family_of
from petct_uad.lineage.revision import WORKSPACE, Revision, experiments, find_revision

FIGURES = ("AUROC", "AP", "F1")
Value = bool | int | float | str
_DPI = 150


@dataclass(frozen=True)
class SweepPoint:
    """One value of the param: the first revision that has it, and a figure each of FIGURES."""

    value: Value
    revision: str
    figures: tuple[Estimate, ...]


def sweep(row: str, param: str, names: Sequence[str] = ()) -> tuple[SweepPoint, ...]:
    """Figures of a row, by rising value of a param.

    Args:
        row: of the benchmark, e.g. ``cmad-petct``.
        param: its dotted key in params.yaml.
        names: commits, branches, tags, experiments or ``workspace``; by default the workspace and
            every experiment that differs from it in this param alone.

    Raises:
        LineageError: a revision is unknown, lacks the row or the param, or differs from the first
            in another param as well; or there are fewer than two values.
    """
    named = [find_revision(name) for name in names]
    first, *others = named or [find_revision(WORKSPACE), *experiments()]
    base = _Setting.of(first, param)
    found = [base, *(_Setting.of(x, param) for x in others if names or param in x.params)]
    for setting in found:
        if names and setting.others != base.others:
            raise LineageError(_differing(setting, base))
    points: dict[Value, SweepPoint] = {}
    for setting in found:
        if setting.others == base.others and (names or _evaluated(setting.revision, row)):
            points.setdefault(setting.value, _point(row, setting))
    known = {name.partition(":")[0] for setting in found for name in setting.revision.figures}
    if row not in known:
        raise LineageError(
            f"{row}: no row that was evaluated.{did_you_mean(row, known)} There are: "
            f"{', '.join(sorted(known)) or 'none; run `dvc repro`'}."
        )
    if len(points) < 2:
        values = ", ".join(map(str, points)) or "no value"
        raise LineageError(
            f"{param}: {values} of {row} was evaluated with all else alike, expected at least two "
            f"values. Queue others: `dvc exp run --queue -S {param}=...`, then `dvc queue start`."
        )
    return tuple(points[value] for value in sorted(points, key=_order))


def sweep_markdown(param: str, points: Sequence[SweepPoint]) -> str:
    """The points as a table."""
    header = (param, *FIGURES, "revision")
    lines = [
        (
            str(point.value),
            *(f"{x.value:.3f} ({x.low:.3f} to {x.high:.3f})" for x in point.figures),
            point.revision,
        )
        for point in points
    ]
    return markdown_table(header, lines) + "\n"


def draw_sweep(path: Path, row: str, param: str, points: Sequence[SweepPoint]) -> None:
    """Write a PNG: a line per figure, with its intervals; the same points, the same bytes.

    Values stand at even steps, as in the paper.
    """
    figure = Figure(figsize=(4.5, 3.2), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(FIGURES):
        drawn = [point.figures[place] for point in points]
        error = [[x.value - x.low for x in drawn], [x.high - x.value for x in drawn]]
        # Beside each other, so that no interval hides another.
        at = [step + 0.06 * (place - 1) for step in range(len(points))]
        axes.errorbar(at, [x.value for x in drawn], yerr=error, marker="o", capsize=2, label=name)
    axes.set_xticks(range(len(points)), [str(point.value) for point in points])
    axes.set(xlabel=param, title=row)
    axes.legend()
    axes.grid(axis="y")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


@dataclass(frozen=True)
class _Setting:
    """A revision's value of the param, and every other key of its params.yaml."""

    revision: Revision
    value: Value
    others: dict[str, object]

    @classmethod
    def of(cls, revision: Revision, param: str) -> Self:
        params = dict(revision.params)
        if param not in params:
            raise LineageError(f"{param}: no key of params.yaml at {revision.name}")
        value = params.pop(param)
        if not isinstance(value, Value):
            raise LineageError(f"{param}: {value!r} is no number, word, true or false")
        return cls(revision, value, params)


def _evaluated(revision: Revision, row: str) -> bool:
    stage = f"evaluate@{family_of(row)}"
    return f"{row}:auroc" in revision.figures and revision.is_current(stage)


def _point(row: str, setting: _Setting) -> SweepPoint:
    revision = setting.revision
    if not _evaluated(revision, row):
        raise LineageError(
            f"{row}: was not evaluated on the data and params of {revision.name}. "
            "`dvc exp run` there."
        )
    figures = [
        Estimate(*(revision.figures[f"{row}:{name.lower()}{end}"] for end in ("", "_low", "_high")))
        for name in FIGURES
    ]
    return SweepPoint(setting.value, revision.name, tuple(figures))


def _differing(setting: _Setting, base: _Setting) -> str:
    keys = sorted(setting.others.keys() | base.others.keys())
    key = next(x for x in keys if setting.others.get(x) != base.others.get(x))
    values = (repr(x.others.get(key)) for x in (setting, base))
    return (
        f"{setting.revision.name}: has {key} {' where '.join(values)} at {base.revision.name}; "
        "expected revisions that differ in the swept param alone. Name others, or none."
    )


def _order(value: Value) -> tuple[bool, float, str]:
    """Numbers by size, then words."""
    is_word = isinstance(value, str)
    return is_word, 0.0 if isinstance(value, str) else float(value), str(value)
