"""What went in, what came out of each step, and why the rest was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from petct_uad.core.files import read_table
from petct_uad.ingest.tables import (
    INSTANCES,
    REJECTED,
    SERIES,
    STUDIES,
    InstanceRow,
    RejectedRow,
    SeriesRow,
    StudyRow,
)
from petct_uad.registration.tables import CUT_SLICES, CutSliceRow
from petct_uad.slices.tables import INDEX, SLICES, ImageRow, SliceRow


def table_files(interim: Path, processed: Path) -> tuple[Path, ...]:
    """The tables of the stages before, in the order of :class:`FlowTables`."""
    ingest = (interim / "ingest" / name for name in (INSTANCES, SERIES, STUDIES, REJECTED))
    cut = interim / "register" / CUT_SLICES
    return (*ingest, cut, interim / "split" / SLICES, processed / INDEX)


@dataclass(frozen=True)
class FlowTables:
    """The tables of ingest, register, split and preprocess."""

    instances: tuple[InstanceRow, ...]
    series: tuple[SeriesRow, ...]
    studies: tuple[StudyRow, ...]
    rejected: tuple[RejectedRow, ...]
    cut: tuple[CutSliceRow, ...]
    slices: tuple[SliceRow, ...]
    images: tuple[ImageRow, ...]

    @classmethod
    def read(cls, interim: Path, processed: Path) -> FlowTables:
        """Read them from ``data/interim/<dataset>`` and ``data/processed/<dataset>``."""
        files = table_files(interim, processed)
        return cls(
            tuple(read_table(files[0], InstanceRow)),
            tuple(read_table(files[1], SeriesRow)),
            tuple(read_table(files[2], StudyRow)),
            tuple(read_table(files[3], RejectedRow)),
            tuple(read_table(files[4], CutSliceRow)),
            tuple(read_table(files[5], SliceRow)),
            tuple(read_table(files[6], ImageRow)),
        )


@dataclass(frozen=True)
class Loss:
    """Items that were left out for one reason."""

    reason: str
    count: int


@dataclass(frozen=True)
class FlowStep:
    """One line of the flow: ``kept`` of ``entered`` items are left."""

    name: str
    entered: int
    kept: int
    losses: tuple[Loss, ...]


@dataclass(frozen=True)
class SplitCount:
    """One split's share of the images."""

    split: str
    patients: int
    studies: int
    normal: int
    abnormal: int


def flow_steps(tables: FlowTables) -> tuple[FlowStep, ...]:
    """From files to model input."""
    reasons = [row.reason for row in tables.slices if row.split == "excluded"]
    used = len(tables.slices) - len(reasons)
    return (
        *_ingested(tables),
        *_covered(tables),
        FlowStep("Slices", len(tables.slices), used, _losses(reasons)),
        FlowStep("Images in shards", used, len(tables.images), ()),
    )


def split_counts(images: Sequence[ImageRow]) -> tuple[SplitCount, ...]:
    """Patients, studies and slices of train, val and test."""
    counts = []
    for split in ("train", "val", "test"):
        rows = [row for row in images if row.split == split]
        abnormal = sum(row.label for row in rows)
        patients, studies = {row.patient for row in rows}, {row.study_id for row in rows}
        normal = len(rows) - abnormal
        counts.append(SplitCount(split, len(patients), len(studies), normal, abnormal))
    return tuple(counts)


def _names(studies: Sequence[StudyRow]) -> tuple[str, str]:
    """What the files and studies of a data set are called."""
    if all(study.has_volumes for study in studies):
        return "DICOM files read", "Studies with one CT and one PET"
    return "Picture files read", "Studies of one picture"


def _ingested(tables: FlowTables) -> tuple[FlowStep, ...]:
    """Files, series and studies of which ingest made volumes or pictures."""
    unused = [row for row in tables.instances if row.role == "unused"]
    unused_files = _losses("in a series that no study uses" for _ in unused)
    reasons = [row.reason for row in tables.series if row.role == "unused"]
    read, usable = len({row.study_instance_uid for row in tables.series}), len(tables.studies)
    refused = _losses(row.code for row in tables.rejected) if read > usable else ()
    files, studies = _names(tables.studies)
    n_files, n_series = len(tables.instances), len(tables.series)
    return (
        FlowStep(files, n_files, n_files - len(unused), unused_files),
        FlowStep("Series", n_series, n_series - len(reasons), _losses(reasons)),
        FlowStep(studies, max(read, usable), usable, refused),
    )


def _covered(tables: FlowTables) -> tuple[FlowStep, ...]:
    """The CT slices that register kept; pictures have no PET to be covered by."""
    if not any(study.has_volumes for study in tables.studies):
        return ()
    kept, losses = len(tables.slices), _losses(_cut_reason(row) for row in tables.cut)
    return (FlowStep("CT slices that the PET covers", kept + len(tables.cut), kept, losses),)


def _cut_reason(row: CutSliceRow) -> str:
    return f"{row.reason}, with lesion" if row.lesion_area_mm2 > 0 else row.reason


def _losses(reasons: Iterable[str]) -> tuple[Loss, ...]:
    """Reasons by falling count, then by name."""
    ranked = sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0]))
    return tuple(Loss(reason, count) for reason, count in ranked)
