"""The tables that are validated: those of the stages before, and those that validation measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from petct_uad.core.files import read_table, write_table
from petct_uad.ingest.tables import INSTANCES, SERIES, STUDIES, InstanceRow, SeriesRow, StudyRow
from petct_uad.registration.tables import REGISTRATION, RegistrationRow
from petct_uad.slices.tables import INDEX, REGIONS, SLICES, ImageRow, RegionRow, SliceRow

if TYPE_CHECKING:  # the stage has no rows in clear, and need not rerun with them
    from petct_uad.ingest.found import FoundInstance, FoundSeries, FoundStudy

VERDICT = Path("metrics/validation.json")  # every check, and what fails it


@dataclass(frozen=True, order=True)
class VolumeRow:
    """One volume of ingest: ``volumes.csv``, sorted by study and kind."""

    study_id: str
    kind: str  # ct, pet or label
    columns: int
    rows: int
    slices: int
    spacing_x_mm: float
    spacing_y_mm: float
    spacing_z_mm: float
    finite: bool  # has no voxel that is NaN or infinite
    minimum: float  # HU, SUV, or 0 and 1
    maximum: float
    mean: float
    std: float
    air_hu: float | None  # the lowest percentile of a CT: air; None for others


@dataclass(frozen=True, order=True)
class ScanRow:
    """PET, CT and label of one study beside each other: ``scans.csv``, sorted by study."""

    study_id: str
    body_ml: float  # of the body on the CT, as far as the PET goes, lesions apart
    body_suv_mean: float  # of that; 0 where there is none
    pet_in_ct: float  # part of the PET's slices whose middle lies in the CT
    ct_in_pet: float
    label_gaps: int  # slices without label between two whose labels lie over each other


@dataclass(frozen=True, order=True)
class LesionRow:
    """One connected part of a label: ``lesions.csv``, sorted by study, the largest part first."""

    study_id: str
    lesion: int  # from 1
    volume_ml: float
    length_mm: float  # the longest side of its box along the label's axes
    in_pet: float  # part of its voxels
    at_the_end: bool  # reaches the first or the last slice, so that it may continue outside
    suv_max: float  # 0 where no voxel lies in the PET
    suv_mean: float
    background_suv: (
        float  # median of the body around it, other lesions apart; 0 where there is none
    )


@dataclass(frozen=True, order=True)
class LiverRow:
    """Uptake of one liver whose place is known: ``livers.csv``, sorted by study."""

    study_id: str
    voxels: int
    suv_mean: float  # SUVbw in a sphere of 30 mm (PERCIST 1.0)
    suv_std: float


@dataclass(frozen=True, order=True)
class ShardRow:
    """One slice of a shard, from its bytes: ``shards.csv``, sorted by slice_id."""

    slice_id: str
    finite: bool  # has no voxel that is NaN or infinite
    ct_minimum: float
    ct_maximum: float
    ct_mean: float  # inside the body
    ct_std: float  # of the whole image, 0 for a constant one
    pet_minimum: float
    pet_maximum: float
    pet_mean: float
    pet_std: float
    body_fraction: float  # of the image
    lesion_px: int
    sha256: str  # of the slice's bytes: ct, pet, lesion, body
    image_sha256: str  # of ct and pet


@dataclass(frozen=True, order=True)
class DuplicateRow:
    """Two images of different splits that are alike: ``duplicates.csv``, sorted by both."""

    first: str  # slice_id
    second: str
    first_split: str
    second_split: str
    same_patient: bool
    kind: str  # exact: the same bytes; near: above validate.near_duplicate_correlation
    correlation: float


@dataclass(frozen=True, order=True)
class DriftRow:
    """One statistic of one split against training: ``drift.csv``."""

    statistic: str
    split: str  # val or test
    reference_patients: int
    patients: int
    ks: float  # the largest distance of the two distribution functions
    p: float
    p_holm: float  # over the whole table


@dataclass(frozen=True, order=True)
class FailingRow:
    """One row that an expectation found wanting: ``failing_rows.csv``."""

    table: str
    name: str
    severity: str
    row: str


@dataclass(frozen=True)
class Measured:
    """What validation itself measures."""

    volumes: tuple[VolumeRow, ...] = ()
    scans: tuple[ScanRow, ...] = ()
    lesions: tuple[LesionRow, ...] = ()
    livers: tuple[LiverRow, ...] = ()
    shards: tuple[ShardRow, ...] = ()
    duplicates: tuple[DuplicateRow, ...] = ()
    drift: tuple[DriftRow, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what :meth:`write` wrote.

        Raises:
            FileNotFoundError: the stage ``validate`` has not run.
        """
        return cls(
            volumes=tuple(read_table(folder / "volumes.csv", VolumeRow)),
            scans=tuple(read_table(folder / "scans.csv", ScanRow)),
            lesions=tuple(read_table(folder / "lesions.csv", LesionRow)),
            livers=tuple(read_table(folder / "livers.csv", LiverRow)),
            shards=tuple(read_table(folder / "shards.csv", ShardRow)),
            duplicates=tuple(read_table(folder / "duplicates.csv", DuplicateRow)),
            drift=tuple(read_table(folder / "drift.csv", DriftRow)),
        )

    def write(self, folder: Path) -> None:
        """Write one CSV per table to ``folder``."""
        write_table(folder / "volumes.csv", VolumeRow, self.volumes)
        write_table(folder / "scans.csv", ScanRow, self.scans)
        write_table(folder / "lesions.csv", LesionRow, self.lesions)
        write_table(folder / "livers.csv", LiverRow, self.livers)
        write_table(folder / "shards.csv", ShardRow, self.shards)
        write_table(folder / "duplicates.csv", DuplicateRow, self.duplicates)
        write_table(folder / "drift.csv", DriftRow, self.drift)


@dataclass(frozen=True)
class IngestTables:
    """What the suites of ingest look at; in clear where they are made for a screen only."""

    dataset: str
    instances: tuple[InstanceRow, ...] | tuple[FoundInstance, ...]
    series: tuple[SeriesRow, ...] | tuple[FoundSeries, ...]
    studies: tuple[StudyRow, ...] | tuple[FoundStudy, ...]
    volumes: tuple[VolumeRow, ...]
    scans: tuple[ScanRow, ...]
    lesions: tuple[LesionRow, ...]


@dataclass(frozen=True)
class Tables:
    """Every row that the suites look at."""

    dataset: str
    instances: tuple[InstanceRow, ...]
    series: tuple[SeriesRow, ...]
    studies: tuple[StudyRow, ...]
    registration: tuple[RegistrationRow, ...] = ()
    slices: tuple[SliceRow, ...] = ()
    regions: tuple[RegionRow, ...] = ()  # none where all slices count
    images: tuple[ImageRow, ...] = ()
    measured: Measured = Measured()

    @property
    def ingested(self) -> IngestTables:
        """Those of ingest, and their volumes."""
        return IngestTables(
            self.dataset,
            self.instances,
            self.series,
            self.studies,
            self.measured.volumes,
            self.measured.scans,
            self.measured.lesions,
        )


Written = Literal["instances", "series", "studies", "registration", "slices", "images", "regions"]


@dataclass(frozen=True)
class Folders:
    """Where the stages before left what is validated, and where validation leaves its tables.

    Attributes:
        data: the folder ``data``.
        dataset: its name.
    """

    data: Path
    dataset: str

    @property
    def interim(self) -> Path:
        """Of ingest, register and split."""
        return self.data / "interim" / self.dataset

    @property
    def processed(self) -> Path:
        """The index and the shards."""
        return self.data / "processed" / self.dataset

    @property
    def raw(self) -> Path:
        """The data set as it came in, whose ``livers.csv`` is read if there is one."""
        return self.data / "raw" / self.dataset

    @property
    def validated(self) -> Path:
        """What validation writes."""
        return self.interim / "validate"

    @property
    def failing_rows(self) -> Path:
        """Every failing row of every check."""
        return self.validated / "failing_rows.csv"

    @property
    def tables(self) -> dict[Written, Path]:
        """Every table that is read; that of regions is there only where they are measured."""
        ingest = self.interim / "ingest"
        regions = self.interim / "split" / REGIONS
        measured: dict[Written, Path] = {"regions": regions} if regions.is_file() else {}
        return {
            **measured,
            "instances": ingest / INSTANCES,
            "series": ingest / SERIES,
            "studies": ingest / STUDIES,
            "registration": self.interim / "register" / REGISTRATION,
            "slices": self.interim / "split" / SLICES,
            "images": self.processed / INDEX,
        }


def read_tables(folders: Folders) -> Tables:
    """Read what the stages before have written; nothing is measured yet.

    Raises:
        ValueError: a table has other columns than its rows.
    """
    files = folders.tables
    return Tables(
        dataset=folders.dataset,
        instances=tuple(read_table(files["instances"], InstanceRow)),
        series=tuple(read_table(files["series"], SeriesRow)),
        studies=tuple(read_table(files["studies"], StudyRow)),
        registration=tuple(read_table(files["registration"], RegistrationRow)),
        slices=tuple(read_table(files["slices"], SliceRow)),
        images=tuple(read_table(files["images"], ImageRow)),
        regions=tuple(read_table(files["regions"], RegionRow)) if "regions" in files else (),
    )
