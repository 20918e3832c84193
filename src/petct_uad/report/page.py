"""Everything that was measured, as one HTML file that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from petct_uad.comparison.compare import SUMMARY_FILES, Summary
from petct_uad.comparison.markdown import PATIENTS_UNKNOWN, TEST_PATIENTS
from petct_uad.core.provenance.record import Derivation, Entity
from petct_uad.evaluation.results import RunResults
from petct_uad.report import sections
from petct_uad.report.benchmark import Benchmark, ReportPaths
from petct_uad.report.regions import Regions

_TEMPLATES = Path(__file__).parent
_TEMPLATE = "index.html.j2"


@dataclass(frozen=True)
class Section:
    """A part of the page: ``parts/<id>.html.j2`` shows ``content``."""

    id: str
    title: str
    content: object


def render_report(summary: Summary, runs: Sequence[RunResults], paths: ReportPaths) -> str:
    """The page; the same inputs give the same bytes.

    Args:
        summary: what :func:`petct_uad.comparison.compare.summarise` made of the runs.
        runs: the results of the same runs, in any order.

    Raises:
        EvaluationError: a file that the report shows is missing.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    benchmark = Benchmark.read(summary, runs, paths)
    page = environment.get_template(_TEMPLATE).render(
        head=sections.masthead(benchmark),
        sections=_sections(benchmark),
        patients_unknown=PATIENTS_UNKNOWN,
        test_patients=TEST_PATIENTS[summary.rows[0].test_patients],
        style=_asset("style.css"),
        script=_asset("script.js"),
    )
    return page + "\n"


def _sections(benchmark: Benchmark) -> tuple[Section, ...]:
    """The page from top to bottom. A new section is a line here, a function and a template."""
    every = (
        Section("table", "Results", sections.headline_table(benchmark)),
        Section("comparisons", "Comparisons", sections.comparisons(benchmark)),
        Section("curves", "Curves", sections.curves(benchmark)),
        Section("classes", "By class of lesion", sections.classes(benchmark)),
        Section("histograms", "Scores", sections.histograms(benchmark)),
        Section("panels", "Pictures", sections.panels(benchmark)),
        Section("findings", "Findings", sections.findings(benchmark)),
        Section("registration", "Registration", sections.registration(benchmark)),
        Section("region", "Region", Regions.read(benchmark.paths.interim)),
        Section("flow", "Data flow", sections.data_flow(benchmark)),
        Section("validation", "Data checks", benchmark.validation),
        Section("models", "Models", sections.cards(benchmark)),
        Section("lineage", "Lineage", sections.lineage(benchmark)),
        Section("cost", "Cost", sections.cost(benchmark)),
        Section("environment", "Params and code", sections.environment(benchmark)),
    )
    return tuple(section for section in every if section.id != "region" or section.content)


def _asset(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


def report_derivations(report: Path, summary: Path, paths: ReportPaths) -> tuple[Derivation, ...]:
    """The summary from every run's results, the report from those and all that it shows."""
    measured = tuple(Entity.of_file(file) for run in paths.results for file in run.files)
    shown = tuple(map(Entity.of_file, paths.shown_files()))
    summaries = (Entity.of_file(summary / name) for name in SUMMARY_FILES)
    return (
        *(Derivation(summary, measured) for summary in summaries),
        Derivation(Entity.of_file(report), (*measured, *shown)),
    )
