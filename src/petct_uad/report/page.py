"""Everything that was measured, as one HTML file that needs nothing beside itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from petct_uad.evaluation.compare import (
    BEATS,
    LOSES,
    PATIENTS_UNKNOWN,
    SUMMARY_FILES,
    Claim,
    Summary,
)
from petct_uad.evaluation.results import ResultPaths, RunResults
from petct_uad.evaluation.tables import PANELS, SummaryRow
from petct_uad.evaluation.trivial import SUVMAX
from petct_uad.lineage.record import Derivation, Entity
from petct_uad.report.figures import CurveGroup, Stroke, curve_groups, histogram_figure, strokes
from petct_uad.report.flow import (
    FlowStep,
    FlowTables,
    SplitCount,
    flow_steps,
    split_counts,
    table_files,
)
from petct_uad.report.quality import (
    Registration,
    StageRun,
    Validation,
    pictures_flagged_first,
    read_registration,
    read_stage_runs,
    read_validation,
)

TEMPLATE = Path(__file__).with_name("index.html.j2")
_MOST_PICTURES = 12
_MOST_REFUSED = 100
_MOST_HISTOGRAMS = 8
_PICTURE_WIDTH_PX = 1000


@dataclass(frozen=True)
class ReportPaths:
    """Where the report reads."""

    interim: Path  # data/interim/<dataset>
    processed: Path  # data/processed/<dataset>
    results: tuple[ResultPaths, ...]  # of every run
    registration: Path  # metrics/registration.json
    validation: Path  # metrics/validation.json
    pictures: Path  # reports/registration
    panels: Path  # reports/panels, a folder per family and run
    activities: tuple[Path, ...]  # lineage/activity.json of the stages, in pipeline order

    def panel_files(self, run: str) -> tuple[Path, ...]:
        """The pictures of one run; a trivial baseline has none."""
        (folder,) = (paths.folder for paths in self.results if paths.folder.name == run)
        files = (self.panels / folder.parent.name / run / f"{name}.png" for name in PANELS)
        return tuple(file for file in files if file.is_file())

    def shown_files(self) -> tuple[Path, ...]:
        """Every file that the report shows, beside the runs' results."""
        flagged = read_registration(self.registration).flagged
        return (
            *table_files(self.interim, self.processed),
            self.registration,
            self.validation,
            *pictures_flagged_first(self.pictures, flagged, _MOST_PICTURES),
            *(file for paths in self.results for file in self.panel_files(paths.folder.name)),
            *self.activities,
        )


@dataclass(frozen=True)
class Picture:
    """An image inside the page."""

    caption: str
    uri: str
    flag: str = ""


@dataclass(frozen=True)
class RunSection:
    """One run below the headline table."""

    row: SummaryRow
    stroke: Stroke
    histogram: Markup
    panels: tuple[Picture, ...]


@dataclass(frozen=True)
class Strip:
    """An interval on the table's common AUROC axis, in per cent of its width."""

    low: float
    value: float
    high: float
    suvmax: float


@dataclass(frozen=True)
class Page:
    """What the template shows."""

    first: RunResults
    best: SummaryRow | None  # the model with the highest AUROC
    suvmax: SummaryRow
    claims: tuple[Claim, ...]
    models: int
    seeds: int
    beating: int
    losing: int
    sections: tuple[RunSection, ...]  # by falling AUROC
    strips: Mapping[str, Strip]
    axis: tuple[float, float]
    strokes: tuple[Stroke, ...]
    curves: tuple[CurveGroup, ...]
    steps: tuple[FlowStep, ...]
    splits: tuple[SplitCount, ...]
    tables: FlowTables
    most_refused: int
    most_histograms: int
    registration: Registration
    pictures: tuple[Picture, ...]
    validation: Validation
    stage_runs: tuple[StageRun, ...]
    patients_unknown: str = PATIENTS_UNKNOWN


def activity_files(
    interim: Path, processed: Path, models: Sequence[Path], results: Sequence[ResultPaths]
) -> tuple[Path, ...]:
    """The lineage records of all stages before compare that left one, in pipeline order."""
    stages = ("ingest", "register", "split")
    folders = [
        *(interim / stage for stage in stages),
        processed,
        interim / "validate",
        *models,
        *(paths.folder for paths in results),
    ]
    files = (folder / "lineage" / "activity.json" for folder in folders)
    return tuple(file for file in files if file.is_file())


def report_derivations(report: Path, summary: Path, paths: ReportPaths) -> tuple[Derivation, ...]:
    """The summary from every run's results, the report from those and all that it shows."""
    measured = tuple(Entity.of_file(file) for run in paths.results for file in run.files)
    shown = tuple(map(Entity.of_file, paths.shown_files()))
    summaries = (Entity.of_file(summary / name) for name in SUMMARY_FILES)
    return (
        *(Derivation(summary, measured) for summary in summaries),
        Derivation(Entity.of_file(report), (*measured, *shown)),
    )


def render_report(summary: Summary, runs: Sequence[RunResults], paths: ReportPaths) -> str:
    """The page; the same inputs give the same bytes.

    Args:
        summary: what :func:`petct_uad.evaluation.compare.summarise` made of the runs.
        runs: the results of the same runs, in any order.

    Raises:
        EvaluationError: a file that the report shows is missing.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = _collect(summary, runs, paths)
    return environment.get_template(TEMPLATE.name).render(page=page) + "\n"


def _collect(summary: Summary, runs: Sequence[RunResults], paths: ReportPaths) -> Page:
    rows = summary.rows
    by_name = {run.metrics.identity.run: run for run in runs}
    ranked = [by_name[row.run] for row in rows]
    lines = strokes(run.metrics.identity for run in ranked)
    models = [row for row in rows if not by_name[row.run].metrics.identity.trivial]
    tables = FlowTables.read(paths.interim, paths.processed)
    registration = read_registration(paths.registration)
    low, strips = _strips(rows)
    return Page(
        first=ranked[0],
        best=models[0] if models else None,
        suvmax=next(row for row in rows if row.run == SUVMAX.name),
        claims=summary.claims,
        models=len(models),
        seeds=max(row.seeds for row in rows),
        beating=sum(row.verdict == BEATS for row in models),
        losing=sum(row.verdict == LOSES for row in models),
        sections=tuple(
            _section(row, run, lines[row.model], paths.panel_files(row.run))
            for row, run in zip(rows, ranked, strict=True)
        ),
        strips=strips,
        axis=(low, 1.0),
        strokes=tuple(lines.values()),
        curves=curve_groups(ranked, lines),
        steps=flow_steps(tables),
        splits=split_counts(tables.images),
        tables=tables,
        most_refused=_MOST_REFUSED,
        most_histograms=_MOST_HISTOGRAMS,
        registration=registration,
        pictures=_registration_pictures(paths.pictures, registration),
        validation=read_validation(paths.validation),
        stage_runs=read_stage_runs(paths.activities),
    )


def _section(row: SummaryRow, run: RunResults, line: Stroke, panels: Sequence[Path]) -> RunSection:
    pictures = tuple(Picture(f"{row.run}: {x.stem}", _small_jpeg_uri(x)) for x in panels)
    return RunSection(row, line, histogram_figure(run), pictures)


def _strips(rows: Sequence[SummaryRow]) -> tuple[float, dict[str, Strip]]:
    """Where the axis begins, and each run's interval on it."""
    low = int(10 * min(row.auroc_low for row in rows)) / 10
    suvmax = next(row.auroc for row in rows if row.run == SUVMAX.name)

    def place(value: float) -> float:
        return round(100 * (value - low) / (1 - low), 2)

    return low, {
        row.run: Strip(*map(place, (row.auroc_low, row.auroc, row.auroc_high, suvmax)))
        for row in rows
    }


def _registration_pictures(folder: Path, registration: Registration) -> tuple[Picture, ...]:
    flags = {flag.study_id: flag.reason for flag in registration.flagged}
    files = pictures_flagged_first(folder, registration.flagged, _MOST_PICTURES)
    return tuple(Picture(f.stem, _small_jpeg_uri(f), flags.get(f.stem, "")) for f in files)


def _small_jpeg_uri(path: Path) -> str:
    """A picture at report size: a fraction of the PNG's bytes."""
    out = io.BytesIO()
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((_PICTURE_WIDTH_PX, _PICTURE_WIDTH_PX))
        small.save(out, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
