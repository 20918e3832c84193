"""The tables that are validated, as pandas frames, with the few columns that join two of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from petct_uad.dicom.tables import InstanceRow, SeriesRow, StudyRow
from petct_uad.files import read_table
from petct_uad.pictures.tables import PICTURE
from petct_uad.registration.tables import RegistrationRow
from petct_uad.slices.tables import ImageRow, SliceRow


@dataclass(frozen=True)
class TableFiles:
    """Where the tables lie."""

    dataset: str
    ingest: Path
    registration: Path
    slices: Path
    images: Path

    def paths(self) -> list[Path]:
        """Every file that is read."""
        names = ("instances", "series", "studies")
        ingest = [self.ingest / f"{name}.csv" for name in names]
        return [*ingest, self.registration, self.slices, self.images]


def load_frames(files: TableFiles) -> dict[str, pd.DataFrame]:
    """One frame per table name of :data:`petct_uad.validation.suites.IDENTITY`."""
    frames = {
        "instances": _frame(files.ingest / "instances.csv", InstanceRow),
        "series": _frame(files.ingest / "series.csv", SeriesRow),
        "studies": _frame(files.ingest / "studies.csv", StudyRow),
        "registration": _frame(files.registration, RegistrationRow),
        "slices": _frame(files.slices, SliceRow),
        "images": _frame(files.images, ImageRow),
    }
    studies = frames["studies"]
    studies["label_names_a_lesion"] = (studies["label_kind"] == "none") | (
        studies["lesion_kind"] != "none"
    )
    registration = frames["registration"]
    registration["overlap_gain"] = (
        registration["body_overlap_after"] - registration["body_overlap_before"]
    )
    frames["patients"] = _patients(frames["slices"])
    frames["images"]["agrees_with_slices"] = _agreement(frames["images"], frames["slices"])
    frames["cohort"] = _cohort(files.dataset, frames)
    return frames


def _frame(path: Path, row_type: type[Any]) -> pd.DataFrame:
    columns = [field.name for field in fields(row_type)]
    return pd.DataFrame(read_table(path, row_type), columns=columns)


def _patients(slices: pd.DataFrame) -> pd.DataFrame:
    used = slices[slices["split"] != "excluded"]
    counts = used.groupby("patient", sort=True)["split"].nunique()
    return counts.rename("splits").reset_index()


def _agreement(images: pd.DataFrame, slices: pd.DataFrame) -> pd.Series[bool]:
    key = ["slice_id", "split", "label", "patient"]
    expected = set(slices[key].itertuples(index=False, name=None))
    found = images[key].itertuples(index=False, name=None)
    return pd.Series([row in expected for row in found], index=images.index, dtype=bool)


def _cohort(dataset: str, frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    images = frames["images"]
    test = images[images["split"] == "test"]["label"]
    imaged = frames["series"][frames["series"]["modality"].isin(["CT", "PT", PICTURE])]
    seen = imaged["study_instance_uid"].nunique()
    row = {
        "dataset": dataset,
        "lost_study_fraction": max(0.0, 1 - len(frames["studies"]) / max(seen, 1)),
        "train_slices": int((images["split"] == "train").sum()),
        "val_slices": int((images["split"] == "val").sum()),
        "test_smaller_class": int(min((test == 0).sum(), (test == 1).sum())),
        "unlabelled_studies": int((frames["studies"]["label_kind"] == "none").sum()),
    }
    return pd.DataFrame([row])
