"""What makes each section's content: one function each, for the template of the same name."""

from __future__ import annotations

from collections.abc import Sequence

from petct_uad.comparison.hypotheses import by_paper
from petct_uad.comparison.markdown import (
    inputs_in_words,
    mixed_inputs,
    shown_figures,
    thresholds_in_words,
)
from petct_uad.comparison.tables import BEATS, LOSES, SummaryRow
from petct_uad.core.provenance.record import ACTIVITY
from petct_uad.evaluation.results import RunResults
from petct_uad.evaluation.tables import FindingRow
from petct_uad.evaluation.trivial import SUVMAX, TRIVIAL_BASELINES
from petct_uad.report.bands import curve_bands
from petct_uad.report.benchmark import MOST_PICTURES, Benchmark
from petct_uad.report.content import (
    Card,
    Chart,
    Classes,
    Cohort,
    Comparisons,
    Costs,
    Curves,
    DataFlow,
    FindingGroup,
    HeadlineTable,
    Histograms,
    LesionClass,
    Masthead,
    Number,
    RegistrationQuality,
    RunClasses,
    RunCost,
    RunFindings,
    RunPanels,
    StageRecords,
    Strip,
)
from petct_uad.report.curves import Stroke, curve_groups, drawn_baselines
from petct_uad.report.derivation import Origin, trace_origin
from petct_uad.report.figures import (
    box_groups,
    cost_figure,
    displacement_figure,
    forest_figure,
    histogram_figure,
    overlap_figure,
)
from petct_uad.report.flow import flow_steps, split_counts
from petct_uad.report.pictures import qc_pictures, read_layers
from petct_uad.report.quality import pictures_flagged_first, read_stage_runs
from petct_uad.slices.tables import ImageRow

_MOST_DRAWN = 12
_MOST_REFUSED = 100
_MOST_HISTOGRAMS = 8
_MOST_CLASSES = 12
_MOST_FINDINGS = 60


def masthead(benchmark: Benchmark) -> Masthead:
    """The findings in a paragraph."""
    rows, models = benchmark.summary.rows, _models(benchmark)
    both = [row for row in models if row.modality == "petct"]
    drawn = (both or models)[:_MOST_DRAWN]
    best = f"The best {_MOST_DRAWN} rows" if len(both or models) > _MOST_DRAWN else "Rows"
    return Masthead(
        metrics=benchmark.ranked[0].metrics,
        best=models[0] if models else None,
        suvmax=_suvmax(rows),
        models=len(models),
        seeds=max(row.seeds for row in rows),
        beating=sum(row.verdict == BEATS for row in models),
        losing=sum(row.verdict == LOSES for row in models),
        checks_passed=benchmark.validation.passed,
        cohort=_cohort(benchmark.tables.images),
        figure=forest_figure(drawn, _suvmax(rows)),
        drawn=f"{best} on PET and CT" if both else best,
    )


def _cohort(images: Sequence[ImageRow]) -> Cohort:
    train, val, test = split_counts(images)
    tested = {row.patient for row in images if row.split == "test"}
    abnormal = {row.patient for row in images if row.split == "test" and row.label}
    return Cohort(
        patients=len({row.patient for row in images}),
        studies=len({row.study_id for row in images}),
        train=train,
        val=val,
        test=test,
        all_normal=len(tested - abnormal),
    )


def headline_table(benchmark: Benchmark) -> HeadlineTable:
    """Every run with its intervals."""
    rows = benchmark.summary.rows
    low = int(10 * min(_interval(row)[0] for row in rows)) / 10
    suvmax = _suvmax(rows)

    def place(value: float) -> float:
        return round(100 * (value - low) / (1 - low), 2)

    strips = {row.run: Strip(*map(place, (*_interval(row), suvmax.auroc.value))) for row in rows}
    mixed = {run for runs in mixed_inputs(rows).values() for run in runs}
    return HeadlineTable(
        rows=rows,
        figures=shown_figures(),
        thresholds=thresholds_in_words(),
        inputs={row.run: inputs_in_words(row) for row in rows if row.run in mixed},
        strips=strips,
        axis=(low, 1.0),
        suvmax=suvmax.run,
        baselines=tuple(x for x in TRIVIAL_BASELINES if x.name in strips),
        level=_level(benchmark),
    )


def comparisons(benchmark: Benchmark) -> Comparisons:
    """What papers claim, and every two models."""
    summary = benchmark.summary
    return Comparisons(by_paper(summary.hypotheses), summary.pairs, _level(benchmark))


def curves(benchmark: Benchmark) -> Curves:
    """The curves of all runs, with the bands of the best model lit."""
    metrics = benchmark.ranked[0].metrics
    bands = {
        run.metrics.identity.run: curve_bands(
            run.scores_by_seed[0], metrics.bootstrap_samples, metrics.confidence
        )
        for run in benchmark.ranked
    }
    groups = curve_groups(benchmark.ranked, bands, benchmark.lines)
    best = next(iter(_models(benchmark)), benchmark.summary.rows[0])
    return Curves(_drawn_lines(benchmark), best.model, groups, metrics.confidence)


def _drawn_lines(benchmark: Benchmark) -> tuple[Stroke, ...]:
    """Of the models and of the trivial baselines that have curves."""
    identities = [run.metrics.identity for run in benchmark.ranked]
    drawn = {x.model for x in identities if not x.trivial} | {*drawn_baselines(identities)}
    return tuple(line for model, line in benchmark.lines.items() if model in drawn)


def classes(benchmark: Benchmark) -> Classes:
    """Which disease each run finds; of many classes the most frequent."""
    first = sorted(benchmark.ranked[0].classes, key=lambda x: (-x.slices, x.lesion_kind))
    shown = [LesionClass(x.lesion_kind, x.slices, x.patients) for x in first[:_MOST_CLASSES]]
    runs = []
    for row, run in _ranked(benchmark):
        of_class = {x.lesion_kind: x for x in run.classes}
        runs.append(RunClasses(row, tuple(of_class[x.name] for x in shown)))
    confidence = benchmark.ranked[0].metrics.confidence
    return Classes(tuple(shown), len(first) - len(shown), tuple(runs), confidence)


def histograms(benchmark: Benchmark) -> Histograms:
    """Scores of normal and abnormal slices."""
    drawn = [Chart(run.metrics.identity.run, histogram_figure(run)) for run in benchmark.ranked]
    boxes = box_groups(benchmark.ranked)
    return Histograms(boxes, tuple(drawn[:_MOST_HISTOGRAMS]), tuple(drawn[_MOST_HISTOGRAMS:]))


def panels(benchmark: Benchmark) -> tuple[RunPanels, ...]:
    """The pictures of every run that has some."""
    images = {row.slice_id: row for row in benchmark.tables.images}
    found = [
        RunPanels(
            row,
            read_layers(benchmark.paths.panel_folder(row.run), run, images),
            bool(_of_both(run)),
        )
        for row, run in _ranked(benchmark)
    ]
    return tuple(item for item in found if item.layers)


def findings(benchmark: Benchmark) -> tuple[RunFindings, ...]:
    """What each modality gave to the findings of each run that joins a map of both."""
    known = [(row, _of_both(run)) for row, run in _ranked(benchmark)]
    return tuple(
        RunFindings(
            row,
            FindingGroup.of([x for x in found if x.lesions]),
            FindingGroup.of([x for x in found if not x.lesions]),
            tuple(sorted(found, key=lambda x: -x.peak)[:_MOST_FINDINGS]),
        )
        for row, found in known
        if found
    )


def _of_both(run: RunResults) -> tuple[FindingRow, ...]:
    """The first seed's findings whose shares are known, where the run sees both modalities."""
    both = run.metrics.identity.modality == "petct"
    return tuple(x for x in run.first_findings if x.pet_share is not None) if both else ()


def registration(benchmark: Benchmark) -> RegistrationQuality:
    """Where each PET was found on its CT."""
    summary = benchmark.registration
    flags = {flag.study_id: flag.reason for flag in summary.flagged}
    files = pictures_flagged_first(benchmark.paths.pictures, summary.flagged, MOST_PICTURES)
    return RegistrationQuality(summary, _charts(benchmark), qc_pictures(files, flags))


def data_flow(benchmark: Benchmark) -> DataFlow:
    """What went in, what came out, and why the rest was left out."""
    tables = benchmark.tables
    return DataFlow(
        flow_steps(tables),
        split_counts(tables.images),
        tables.rejected[:_MOST_REFUSED],
        len(tables.rejected),
    )


def lineage(benchmark: Benchmark) -> Origin | None:
    """The way from DICOM files to the figures of the best run; None without records."""
    paths, row = benchmark.paths, next(iter(_models(benchmark)), benchmark.summary.rows[0])
    origin = trace_origin(row.run, paths.of_run(row.run).metrics, paths.lineage)
    return origin if origin.nodes else None


def cards(benchmark: Benchmark) -> tuple[Card, ...]:
    """Every row of the table, in its order."""
    baselines = {baseline.name: baseline.how for baseline in TRIVIAL_BASELINES}
    return tuple(
        Card(
            row,
            run.metrics.identity,
            benchmark.paths.model_of(row.run),
            baselines.get(row.run, ""),
            benchmark.paths.of_run(row.run).metrics.as_posix(),
            _numbers(row),
        )
        for row, run in _ranked(benchmark)
    )


def _numbers(row: SummaryRow) -> tuple[Number, ...]:
    """AUROC, and what stands beside it in the table."""
    shown = [(x, row.figures[x.name].value) for x in shown_figures() if x.name in row.figures]
    return (
        Number("auroc", "AUROC", f"{row.auroc.value:.3f}"),
        *(Number(x.name, x.title, x.number(value)) for x, value in shown),
    )


def cost(benchmark: Benchmark) -> Costs:
    """What no machine changes; seconds and memory are in metrics/cost, which no stage reads."""
    runs = [
        RunCost(row, run.metrics.identity.gflops_per_pair, run.metrics.identity.scan)
        for row, run in _ranked(benchmark)
        if not run.metrics.identity.trivial
    ]
    gflops = {item.row.run: item.gflops for item in runs}
    figure = cost_figure([item.row for item in runs], gflops, benchmark.lines)
    return Costs(figure, tuple(runs))


def environment(benchmark: Benchmark) -> StageRecords:
    """What each stage was asked, by which code and packages."""
    runs = read_stage_runs(folder / ACTIVITY for folder in benchmark.paths.lineage)
    return StageRecords(
        tuple(run for run in runs if not run.of_one_row),
        tuple(run for run in runs if run.of_one_row),
    )


def _charts(benchmark: Benchmark) -> tuple[Chart, ...]:
    rows = benchmark.registered
    if not rows:
        return ()
    overlap, displacement = overlap_figure(rows), displacement_figure(rows)
    return Chart("Body overlap", overlap), Chart("Displacement", displacement)


def _ranked(benchmark: Benchmark) -> zip[tuple[SummaryRow, RunResults]]:
    return zip(benchmark.summary.rows, benchmark.ranked, strict=True)


def _models(benchmark: Benchmark) -> list[SummaryRow]:
    return [row for row, run in _ranked(benchmark) if not run.metrics.identity.trivial]


def _interval(row: SummaryRow) -> tuple[float, float, float]:
    """The AUROC between the ends of its interval."""
    auroc = row.auroc
    assert auroc.low is not None and auroc.high is not None, "AUROC is drawn"  # noqa: PT018
    return auroc.low, auroc.value, auroc.high


def _level(benchmark: Benchmark) -> float:
    return round(1 - benchmark.ranked[0].metrics.confidence, 6)


def _suvmax(rows: Sequence[SummaryRow]) -> SummaryRow:
    return next(row for row in rows if row.run == SUVMAX.name)
