"""A cohort from its archive to ``data/raw``: study by study, each whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from petct_uad.cohorts.index import IndexedSeries
from petct_uad.cohorts.recipe import Recipe
from petct_uad.cohorts.selection import SelectedStudy
from petct_uad.cohorts.transfer import Buckets, Instance, series_hash
from petct_uad.core.archives import SUFFIX, read_members, write_archive
from petct_uad.core.console import track
from petct_uad.core.errors import ArchiveError, CohortError
from petct_uad.core.patient_split import write_patient_split
from petct_uad.core.sources import SOURCES_CSV, SourceRow, read_sources, write_sources
from petct_uad.ingest.reader import is_uid

RAW = Path("data/raw")
WORK = Path(".cache/fetch")  # objects of studies that are not whole yet

_MB = 1e6


@dataclass(frozen=True)
class Fetched:
    """What came of it.

    Attributes:
        new: how many studies were fetched.
        known: how many were there already, whole.
        by_size: instances that the server has no MD5 of: their size and identity alone agree.
    """

    new: int
    known: int
    by_size: int


@dataclass(frozen=True)
class Cohort:
    """Where a cohort comes from, and where it goes.

    Attributes:
        recipe: its recipe.
        index: the version of the index that its series were looked up in.
        buckets: where they are fetched from.
        target: the data set.
        work: for what is not whole yet.
    """

    recipe: Recipe
    index: str
    buckets: Buckets
    target: Path
    work: Path = WORK

    def fetch(self, studies: Sequence[SelectedStudy]) -> Fetched:
        """Fetch what the data set lacks. Stopped at any point, it resumes from there.

        Raises:
            CohortError: the data set is another's, the disk is too small, or a series is not what
                the index and its server say; studies that were whole before are kept.
        """
        self._check_target()
        rows = {row.series_instance_uid: row for row in read_sources(self.target)}
        missing = [study for study in studies if not self._has(study, rows)]
        self._check_room(missing)
        by_size = 0
        for study in track(missing, "fetching studies"):
            fetched = list(self._of_study(study))
            self._pack(study, [x for _, instances in fetched for x in instances])
            gone = {row.series_instance_uid for row in rows.values() if self._is_of(row, study)}
            rows = {uid: row for uid, row in rows.items() if uid not in gone}
            rows |= {x.series: self._row(x, instances) for x, instances in fetched}
            write_sources(self.target, rows.values())
            self._write_split({row.patient for row in rows.values()})
            shutil.rmtree(self.work / study.study)
            by_size += sum(not x.has_md5 for _, instances in fetched for x in instances)
        return Fetched(len(missing), len(studies) - len(missing), by_size)

    def _write_split(self, patients: Collection[str]) -> None:
        """Only where each part has somebody: a few patients may have none for validation."""
        if all(self.recipe.split.count(patients).values()):
            split = {patient: self.recipe.split.of(patient) for patient in patients}
            write_patient_split(self.target, split)

    def _check_target(self) -> None:
        target = self.target
        if os.path.lexists(f"{target}.dvc") and not target.is_dir():
            raise CohortError(
                f"{target}: DVC has files of it that are not here. Get them with "
                f"`dvc pull {target}`, then fetch the rest."
            )
        if target.is_dir() and any(target.iterdir()) and not (target / SOURCES_CSV).is_file():
            raise CohortError(
                f"{target}: holds files, and no {SOURCES_CSV} says that they were fetched. Move it "
                "away, or remove it."
            )

    def _check_room(self, missing: Sequence[SelectedStudy]) -> None:
        self.target.mkdir(parents=True, exist_ok=True)
        needed_mb = sum(x.size_mb for x in missing)
        free_mb = shutil.disk_usage(self.target).free / _MB
        if needed_mb > free_mb:
            raise CohortError(
                f"{self.target}: found {free_mb:,.0f} MB free; expected {needed_mb:,.0f} MB for "
                f"{len(missing):,} studies. Make room, or ask for fewer with --patients."
            )

    def _has(self, study: SelectedStudy, rows: dict[str, SourceRow]) -> bool:
        """Is a study there, in this version, in an archive that is not cut?"""
        mine = [rows.get(x.series) for x in study.series]
        there = {row.version for row in mine if row is not None}
        archive = self._archive(study)
        if there != {x.version for x in study.series} or not archive.is_file():
            return False
        try:
            members = read_members(archive)
        except (OSError, ArchiveError):
            return False
        size = sum(x.size for x in members.values())
        return (len(members), size) == (
            sum(row.instances for row in mine if row is not None),
            sum(row.size_bytes for row in mine if row is not None),
        )

    def _of_study(
        self, study: SelectedStudy
    ) -> Iterator[tuple[IndexedSeries, tuple[Instance, ...]]]:
        for series in study.series:
            if not (is_uid(series.study) and is_uid(series.series) and is_uid(study.study)):
                raise CohortError(
                    f"{series.series!r}: the index has it for a UID. Install another."
                )
            folder = self.work / study.study / series.series
            yield series, self.buckets.fetch_series(series, folder)

    def _pack(self, study: SelectedStudy, instances: Sequence[Instance]) -> None:
        """The same instances give the same archive, wherever they came from."""
        members = [(f"{x.file.parent.name}/{x.sop_instance_uid}.dcm", x.file) for x in instances]
        with tempfile.TemporaryDirectory(dir=self.target.parent, prefix=".tmp-") as name:
            archive = Path(name, study.study + SUFFIX)
            write_archive(archive, members)
            archive.replace(self._archive(study))

    def _archive(self, study: SelectedStudy) -> Path:
        return self.target / f"{study.study}{SUFFIX}"

    @staticmethod
    def _is_of(row: SourceRow, study: SelectedStudy) -> bool:
        return row.study_instance_uid == study.study

    def _row(self, series: IndexedSeries, instances: Sequence[Instance]) -> SourceRow:
        return SourceRow(
            patient=series.patient,
            study_instance_uid=series.study,
            series_instance_uid=series.series,
            modality=series.modality,
            collection=self.recipe.collection,
            analysis=series.analysis,
            index=self.index,
            version=series.version,
            url=series.url,
            licence=series.licence,
            doi=series.doi,
            instances=len(instances),
            size_bytes=sum(x.size_bytes for x in instances),
            sha256=series_hash(instances),
        )
