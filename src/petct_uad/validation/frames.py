"""The tables as pandas frames, with the columns that join two of them or count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from petct_uad.ingest.tables import (
    ASSIGNED_LABELS,
    IMAGE_MODALITIES,
    LESION,
    NEGATIVE,
    PET_IS,
    SERIES_ROLES,
    UNLABELLED,
    InstanceRow,
    SeriesRow,
    StudyRow,
)
from petct_uad.registration.tables import RegistrationRow
from petct_uad.slices.tables import ImageRow, RegionRow, SliceRow
from petct_uad.validation.plain import plain_frame
from petct_uad.validation.suites.check import Promises
from petct_uad.validation.tables import (
    DriftRow,
    IngestTables,
    LesionRow,
    LiverRow,
    ScanRow,
    ShardRow,
    Tables,
    VolumeRow,
)

_TOLERANCE = 1e-6  # tables hold six decimals
SPLITS = ("train", "val", "test")
_HOUR, _DAY = 60.0, 24 * 60.0
# Minutes from injection to scan between which images are made of a nuclide: from first passes and
# early images to the latest that procedures name (EANM and SNMMI guidelines; antibodies for 89Zr).
_UPTAKE_MIN = {
    "11C": (0.0, 2 * _HOUR), "13N": (0.0, _HOUR), "15O": (0.0, 15.0), "18F": (20.0, 6 * _HOUR),
    "44Sc": (20.0, _DAY), "52Mn": (20.0, 21 * _DAY), "61Cu": (20.0, _DAY), "62Cu": (0.0, _HOUR),
    "64Cu": (20.0, 3 * _DAY), "68Ga": (20.0, 4 * _HOUR), "82Rb": (0.0, 10.0),
    "86Y": (20.0, 3 * _DAY), "89Zr": (_HOUR, 10 * _DAY), "124I": (20.0, 10 * _DAY),
}  # fmt: skip


def frames_of(tables: Tables, promises: Promises) -> dict[str, pd.DataFrame]:
    """One frame per table name of :data:`petct_uad.validation.checks.IDENTITY`."""
    images, slices = _images(tables), _slices(tables, promises)
    return {
        **frames_of_ingest(tables.ingested),
        "benchmark": _benchmark(tables),
        "livers": frame(tables.measured.livers, LiverRow),
        "registration": _registration(tables),
        "regions": _regions(tables),
        "slices": slices,
        "patients": _patients(slices),
        "splits": _splits(images),
        "scanners": _scanners(images),
        "images": images,
        "shards": _shards(tables),
        "duplicates": _duplicates(tables),
        "drift": _drift(tables),
    }


def frames_of_ingest(tables: IngestTables) -> dict[str, pd.DataFrame]:
    """The frames of :data:`petct_uad.validation.checks.OF_INGEST`."""
    return {
        "cohort": _cohort(tables),
        "instances": _instances(tables),
        "series": _series(tables),
        "studies": _studies(tables),
        "volumes": _volumes(tables),
        "scans": _scans(tables),
        "lesions": _lesions(tables),
    }


def frame(rows: Sequence[Any], row_type: type[Any]) -> pd.DataFrame:
    """Rows as a frame, with a column that names those of its numbers that are NaN or infinite.

    Great Expectations passes over NaN, as over what a table need not say.
    """
    return with_finiteness(plain_frame(rows, row_type))


def with_finiteness(table: pd.DataFrame) -> pd.DataFrame:
    """Add ``not_finite``: the names of the columns of floats that are none, joined by spaces."""
    numbers = table.select_dtypes("float")
    bad = ~np.isfinite(numbers.to_numpy())
    names = [" ".join(numbers.columns[row]) if row.any() else "" for row in bad]
    return table.assign(not_finite=pd.Series(names, index=table.index, dtype=str))


def _instances(tables: IngestTables) -> pd.DataFrame:
    known = {row.study_id for row in tables.studies}
    listed = {row.series_instance_uid for row in tables.series}
    table = frame(tables.instances, InstanceRow)
    return table.assign(
        study_known=table["study_id"].isin(known),
        series_known=table["series_instance_uid"].isin(listed),
    )


def _series(tables: IngestTables) -> pd.DataFrame:
    table = frame(tables.series, SeriesRow)
    spacing = ["spacing_x_mm", "spacing_y_mm", "spacing_z_mm"]
    fits = [row.role == "unused" or row.modality in SERIES_ROLES.get(row.role, ())
            for row in tables.series]  # fmt: skip
    return table.assign(
        modality_fits=fits,
        uptake_fits=[_uptake_fits(row.nuclide, row.uptake_min) for row in tables.series],
        spacing_stated=table[spacing].notna().all(axis=1),
        width_mm=table["columns"] * table["spacing_x_mm"].astype(float),
        height_mm=table["rows"] * table["spacing_y_mm"].astype(float),
    )


def _uptake_fits(nuclide: str, uptake_min: float | None) -> bool:
    """Could it be; a nuclide or a time that is not told is not doubted."""
    shortest, longest = _UPTAKE_MIN.get(nuclide, (0.0, np.inf))
    return uptake_min is None or shortest <= uptake_min <= longest


def _studies(tables: IngestTables) -> pd.DataFrame:
    table = frame(tables.studies, StudyRow)
    names_one = (
        (table["label_kind"] == "none")
        | (table["lesion_kind"] != "none")
        | (table["finding"] == NEGATIVE)
    )
    whole = ~table["notes"].astype(str).str.contains(PET_IS, regex=False)
    return table.assign(label_names_a_lesion=names_one, pet_is_whole=whole)


def _volumes(tables: IngestTables) -> pd.DataFrame:
    rows = tables.volumes
    table = frame(rows, VolumeRow).drop(columns="not_finite")
    kinds = {kind: {row.study_id for row in rows if row.kind == kind} for kind in ("ct", "pet")}
    # A study without one of its volumes would have no row to fail: it gets one.
    missing = [study.study_id for study in tables.studies if study.has_volumes
               and not all(study.study_id in there for there in kinds.values())]  # fmt: skip
    listed: dict[tuple[str, str], int]
    listed = {("ct", row.study_id): row.ct_slices for row in tables.studies}
    listed |= {("pet", row.study_id): row.pet_slices for row in tables.studies}
    as_listed = [listed.get((row.kind, row.study_id), row.slices) == row.slices for row in rows]
    finding: dict[str, str] = {row.study_id: row.finding for row in tables.studies}
    as_found = [
        row.kind != "label" or (finding.get(row.study_id) == LESION) == (row.maximum > 0)
        for row in rows
    ]
    table = with_finiteness(table.astype({"air_hu": float}).fillna({"air_hu": -1000.0}))
    table = table.assign(
        volume=table["study_id"] + "/" + table["kind"],
        paired=True,
        slices_as_listed=as_listed,
        label_as_found=as_found,
        extent_z_mm=table["slices"] * table["spacing_z_mm"],
    )
    absent = pd.DataFrame({"volume": missing, "study_id": missing, "kind": "none", "paired": False})
    return table if absent.empty else _extended(table, absent)


def _scans(tables: IngestTables) -> pd.DataFrame:
    table = frame(tables.scans, ScanRow)
    by_weight = {row.study_id for row in tables.studies if row.suv_kind == "bw"}
    weighed = table["study_id"].isin(by_weight)
    return table.assign(body_suv_bw=table["body_suv_mean"].where(weighed).astype(float))


def _lesions(tables: IngestTables) -> pd.DataFrame:
    table = frame(tables.lesions, LesionRow)
    compared = table["background_suv"].gt(0) & table["in_pet"].gt(0)
    contrast = table["suv_mean"] / table["background_suv"].where(compared)
    names = [f"{row.study_id} lesion {row.lesion}" for row in tables.lesions]
    return table.assign(name=names, contrast=contrast.fillna(np.inf).astype(float))


def _extended(table: pd.DataFrame, absent: pd.DataFrame) -> pd.DataFrame:
    filled = absent.assign(not_finite="", finite=True, slices_as_listed=True, label_as_found=True)
    return pd.concat([table, filled], ignore_index=True)


def _registration(tables: Tables) -> pd.DataFrame:
    table = frame(tables.registration, RegistrationRow)
    gain = table["mutual_information_after"] - table["mutual_information_before"]
    return table.assign(
        study_known=table["study_id"].isin({row.study_id for row in tables.studies}),
        overlap_gain=table["body_overlap_after"] - table["body_overlap_before"],
        mutual_information_gain=gain,
    )


def _slices(tables: Tables, promises: Promises) -> pd.DataFrame:
    table = frame(tables.slices, SliceRow)
    kept = table["split"] != "excluded"
    area, least_mm2 = table["lesion_area_mm2"], max(promises.min_lesion_area_mm2, _TOLERANCE)
    fits = np.where(table["label"] == 1, area >= least_mm2 - _TOLERANCE, area <= 0)
    assigned = {row.study_id for row in tables.studies if row.label_kind in ASSIGNED_LABELS}
    given = table["study_id"].isin(assigned)  # their labels are their publisher's, not an area's
    near = (table["label"] == 0) & (_distance_mm(table) <= promises.guard_mm)
    return table.assign(
        study_known=table["study_id"].isin({row.study_id for row in tables.studies}),
        label_fits_area=~kept | fits | given,
        beyond_guard=~(kept & near),
        has_image=~kept | table["slice_id"].isin({row.slice_id for row in tables.images}),
    )


def _regions(tables: Tables) -> pd.DataFrame:
    table = frame(tables.regions, RegionRow)
    used: dict[str, list[float]] = {}
    for row in tables.slices:
        if row.split != "excluded":
            used.setdefault(row.study_id, []).append(row.z_mm)
    return table.assign(
        study_known=table["study_id"].isin({row.study_id for row in tables.studies}),
        # Where no lungs are found there are no heights.
        not_finite=table["not_finite"].where(table["found"].astype(bool), ""),
        length_mm=table["apex_mm"].astype(float) - table["base_mm"].astype(float),
        seen_whole=~(table["at_low_end"].astype(bool) | table["at_high_end"].astype(bool)),
        all_inside=[_holds(row, used.get(row.study_id, [])) for row in tables.regions],
    )


def _holds(region: RegionRow, heights_mm: Sequence[float]) -> bool:
    """Do all slices that are used lie in the region? Where there is none, none may be used."""
    if region.low_mm is None or region.high_mm is None:
        return not heights_mm
    low, high = region.low_mm - _TOLERANCE, region.high_mm + _TOLERANCE
    return all(low <= z <= high for z in heights_mm)


def _distance_mm(slices: pd.DataFrame) -> pd.Series[float]:
    """From each slice to the nearest abnormal one of its study; infinite where there is none."""
    distance = pd.Series(np.inf, index=slices.index)
    for _, study in slices.groupby("study_id"):
        abnormal = study.loc[study["label"] == 1, "z_mm"].to_numpy()
        gaps = np.abs(study["z_mm"].to_numpy()[:, None] - abnormal)
        distance[study.index] = gaps.min(axis=1, initial=np.inf)
    return distance


def _patients(slices: pd.DataFrame) -> pd.DataFrame:
    used = slices[slices["split"] != "excluded"]
    counts = used.groupby("patient", sort=True)["split"].nunique()
    return counts.rename("splits").reset_index()


def _splits(images: pd.DataFrame) -> pd.DataFrame:
    people = images.drop_duplicates(["split", "patient"])
    mix = pd.crosstab(people["split"], people["scanner"], normalize="index")
    shares = images.groupby("split")["label"].mean()
    rows = [
        {
            "split": split,
            "abnormal_share": float(shares[split]),
            "scanner_distance": _total_variation(mix, split),
        }
        for split in SPLITS
        if split in shares.index
    ]
    return pd.DataFrame(rows, columns=["split", "abnormal_share", "scanner_distance"])


def _total_variation(mix: pd.DataFrame, split: str) -> float:
    """Which part of the patients would have to change scanner to match training: 0 to 1."""
    if "train" not in mix.index:
        return 0.0
    return float(np.abs(mix.loc[split].to_numpy() - mix.loc["train"].to_numpy()).sum() / 2)


def _scanners(images: pd.DataFrame) -> pd.DataFrame:
    test = images[images["split"] == "test"]
    overall = test["label"].mean()
    rows = []
    for scanner, part in images.groupby("scanner", sort=True):
        tested = part[part["split"] == "test"]
        gap = tested["label"].mean() - overall if len(tested) else 0.0
        counts = {f"{name}_slices": int((part["split"] == name).sum()) for name in SPLITS}
        rows.append({"scanner": scanner, **counts, "share_gap": float(gap)})
    columns = ["scanner", *(f"{name}_slices" for name in SPLITS), "share_gap"]
    return pd.DataFrame(rows, columns=columns)


def _images(tables: Tables) -> pd.DataFrame:
    key = ["slice_id", "split", "label", "patient"]
    table = frame(tables.images, ImageRow)
    expected = {(row.slice_id, row.split, row.label, row.patient) for row in tables.slices}
    found = table[key].itertuples(index=False, name=None)
    return table.assign(agrees_with_slices=[row in expected for row in found])


def _shards(tables: Tables) -> pd.DataFrame:
    table = frame(tables.measured.shards, ShardRow)
    known = {row.slice_id: row for row in tables.images}
    abnormal = {row.slice_id for row in tables.images if row.label and row.lesion_area_mm2 > 0}
    return table.assign(
        agrees_with_index=[
            row.slice_id in known and known[row.slice_id].sha256 == row.sha256
            for row in tables.measured.shards
        ],
        ct_in_range=table["ct_minimum"].ge(0) & table["ct_maximum"].le(1),
        pet_in_range=table["pet_minimum"].ge(0) & table["pet_maximum"].le(1),
        lesion_kept=~table["slice_id"].isin(abnormal) | table["lesion_px"].gt(0),
    )


def _duplicates(tables: Tables) -> pd.DataFrame:
    """One row per pair, and one per image that is in none."""
    pairs = tables.measured.duplicates
    paired = {slice_id for row in pairs for slice_id in (row.first, row.second)}
    alone = [row.slice_id for row in tables.images if row.slice_id not in paired]
    names = [f"{row.first} ({row.first_split}) = {row.second} ({row.second_split})"
             for row in pairs]  # fmt: skip
    kinds = [row.kind for row in pairs]
    return pd.DataFrame({"pair": [*names, *alone], "kind": [*kinds, *["none"] * len(alone)]})


def _drift(tables: Tables) -> pd.DataFrame:
    table = frame(tables.measured.drift, DriftRow)
    names = [f"{row.statistic} in {row.split}" for row in tables.measured.drift]
    return table.assign(comparison=names)


def _cohort(tables: IngestTables) -> pd.DataFrame:
    imaged = {row.study_instance_uid for row in tables.series if row.modality in IMAGE_MODALITIES}
    row = {
        "dataset": tables.dataset,
        "lost_study_fraction": max(0.0, 1 - len(tables.studies) / max(len(imaged), 1)),
        "suv_kinds": len({row.suv_kind for row in tables.studies}),
        "unlabelled_studies": sum(row.finding == UNLABELLED for row in tables.studies),
    }
    return pd.DataFrame([row])


def _benchmark(tables: Tables) -> pd.DataFrame:
    counts = {split: sum(row.split == split for row in tables.images) for split in SPLITS}
    abnormal = sum(row.label for row in tables.images if row.split == "test")
    row = {
        "dataset": tables.dataset,
        "train_slices": counts["train"],
        "val_slices": counts["val"],
        "test_smaller_class": min(counts["test"] - abnormal, abnormal),
    }
    return pd.DataFrame([row])
