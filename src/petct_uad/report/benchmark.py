"""What every section of the report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from petct_uad.comparison.compare import Summary
from petct_uad.comparison.judged_scores import OUTCOMES
from petct_uad.core.files import read_table
from petct_uad.core.provenance.record import ACTIVITY
from petct_uad.core.provenance.table import TABLE
from petct_uad.evaluation.results import ResultPaths, RunResults
from petct_uad.registration.tables import REGISTRATION, REGISTRATION_METRICS, RegistrationRow
from petct_uad.report.curves import Stroke, strokes
from petct_uad.report.flow import FlowTables, table_files
from petct_uad.report.pictures import panel_files
from petct_uad.report.quality import Registration, pictures_flagged_first, read_registration
from petct_uad.report.regions import region_files
from petct_uad.report.validation import DataChecks, measured_files, read_checks
from petct_uad.scoring.tables import LINEAGE
from petct_uad.validation.tables import VERDICT

MOST_PICTURES = 12


@dataclass(frozen=True)
class Entry:
    """Rows of the benchmark that are trained together."""

    key: str  # in params.yaml
    model: str  # whose folder in src/petct_uad/models it is


@dataclass(frozen=True)
class ReportPaths:
    """Where the report reads."""

    interim: Path  # data/interim/<dataset>
    processed: Path  # data/processed/<dataset>
    results: tuple[ResultPaths, ...]  # of every run
    registration: Path  # metrics/registration.json
    validation: Path  # metrics/validation.json
    pictures: Path  # reports/registration
    panels: Path  # reports/panels, a folder per entry and run
    lineage: tuple[Path, ...]  # the lineage folders of the stages, in pipeline order
    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(
        cls, dataset: str, results: tuple[ResultPaths, ...], entries: tuple[Entry, ...] = ()
    ) -> Self:
        """Those of a data set, below the repository's root."""
        interim, processed = (Path("data", kind, dataset) for kind in ("interim", "processed"))
        return cls(
            interim=interim,
            processed=processed,
            results=results,
            registration=REGISTRATION_METRICS,
            validation=VERDICT,
            pictures=Path("reports/registration"),
            panels=Path("reports/panels"),
            lineage=_lineage_folders(interim, processed, results),
            entries=entries,
        )

    def of_run(self, run: str) -> ResultPaths:
        """The results of one run."""
        (found,) = (paths for paths in self.results if paths.folder.name == run)
        return found

    def model_of(self, run: str) -> str | None:
        """Whose folder in ``models`` a run is of; None for a trivial baseline."""
        key = self.of_run(run).folder.parent.name
        return next((entry.model for entry in self.entries if entry.key == key), None)

    def panel_folder(self, run: str) -> Path:
        """The pictures of one run; a trivial baseline has none."""
        return self.panels / self.of_run(run).folder.parent.name / run

    @property
    def registered(self) -> Path:
        """One row per study."""
        return self.interim / "register" / REGISTRATION

    @property
    def outcomes(self) -> tuple[Path, ...]:
        """Every expectation: on the tables before training, and on the scores."""
        return self.validation, self.validation.with_name(OUTCOMES)

    def shown_files(self) -> tuple[Path, ...]:
        """Every file that the report shows, beside the runs' results."""
        flagged = read_registration(self.registration).flagged
        return (
            *table_files(self.interim, self.processed),
            self.registration,
            self.registered,
            *self.outcomes,
            *measured_files(self.interim),
            *region_files(self.interim),
            *pictures_flagged_first(self.pictures, flagged, MOST_PICTURES),
            *(
                file
                for run in self.results
                for file in panel_files(self.panel_folder(run.folder.name))
            ),
            *(folder / name for folder in self.lineage for name in (ACTIVITY, TABLE)),
        )


@dataclass(frozen=True)
class Benchmark:
    """Everything that was measured, read once."""

    summary: Summary
    ranked: tuple[RunResults, ...]  # as the summary's rows: by falling AUROC
    lines: Mapping[str, Stroke]  # by model
    tables: FlowTables
    registration: Registration
    registered: tuple[RegistrationRow, ...]
    validation: DataChecks
    paths: ReportPaths

    @classmethod
    def read(cls, summary: Summary, runs: Sequence[RunResults], paths: ReportPaths) -> Benchmark:
        """Read what the summary and the runs do not hold.

        Raises:
            EvaluationError: a file that the report shows is missing.
        """
        by_name = {run.metrics.identity.run: run for run in runs}
        ranked = tuple(by_name[row.run] for row in summary.rows)
        return cls(
            summary,
            ranked,
            strokes(run.metrics.identity for run in ranked),
            FlowTables.read(paths.interim, paths.processed),
            read_registration(paths.registration),
            tuple(read_table(paths.registered, RegistrationRow)),
            read_checks(paths.outcomes, paths.interim),
            paths,
        )


def _lineage_folders(
    interim: Path, processed: Path, results: Sequence[ResultPaths]
) -> tuple[Path, ...]:
    """The lineage folders of all stages before compare that left one, in pipeline order."""
    models = Path("models")
    entries = dict.fromkeys(paths.folder.parent.name for paths in results)
    folders = [
        *(interim / stage for stage in ("ingest", "register", "split")),
        processed,
        interim / "validate",
        models / "distil",
        *(models / paths.folder.parent.name / paths.folder.name for paths in results),
        *(LINEAGE / entry for entry in entries),
        *(paths.folder for paths in results),
    ]
    lineage = (folder / "lineage" for folder in folders)
    return tuple(folder for folder in lineage if (folder / ACTIVITY).is_file())
