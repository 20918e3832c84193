"""Drift is a difference between patients' normals that chance does not explain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from petct_uad.slices.tables import ImageRow
from petct_uad.validation.drift import STATISTICS, measure_drift
from petct_uad.validation.tables import DriftRow, ShardRow
from tests.samples import image_row

SHARES = {"train": 24, "val": 8, "test": 16}


def cohort(seed: int, test_suv: float = 1.0) -> tuple[list[ImageRow], list[ShardRow]]:
    """Patients with two slices each; those of the test split have ``test_suv`` times the uptake."""
    generator = np.random.default_rng(seed)
    images, shards = [], []
    for split, count in SHARES.items():
        for patient in range(count):
            values = generator.normal(1.0, 0.1, len(STATISTICS))
            factor = test_suv if split == "test" else 1.0
            for i in range(2):
                slice_id = f"{split}{patient:02d}_{i}"
                images.append(
                    image_row(slice_id=slice_id, patient=f"{split}{patient}", split=split,
                              suv_mean=factor * values[0], suv_max=values[1],
                              body_area_mm2=values[2], ct_mean_hu=values[3])
                )  # fmt: skip
                shards.append(
                    ShardRow(slice_id, True, 0, 1, values[4], values[5], 0, 1, values[6],
                             values[7], values[8], 0, "", "")
                )  # fmt: skip
    return images, shards


def drifted(rows: list[DriftRow]) -> list[tuple[str, str]]:
    return [(row.statistic, row.split) for row in rows if row.p_holm < 0.05]


def test_every_statistic_of_val_and_test_is_tested_on_patients() -> None:
    rows = measure_drift(*cohort(0))
    assert {(row.statistic, row.split) for row in rows} == {
        (statistic, split) for statistic in STATISTICS for split in ("val", "test")
    }
    assert {(row.reference_patients, row.patients) for row in rows} == {(24, 8), (24, 16)}


def test_splits_of_one_population_rarely_alarm() -> None:
    assert sum(bool(drifted(measure_drift(*cohort(seed)))) for seed in range(10)) <= 1


def test_planted_shift_is_found_and_nothing_else() -> None:
    assert drifted(measure_drift(*cohort(0, test_suv=1.4))) == [("suv_mean", "test")]


def test_abnormal_slices_are_no_part_of_it() -> None:
    images, shards = cohort(0)
    hot = [replace(row, label=1, suv_mean=50.0) if row.split == "test" and row.slice_id[-1] == "1"
           else row for row in images]  # fmt: skip
    assert measure_drift(hot, shards) == measure_drift(images, shards)


def test_split_of_two_patients_is_not_tested() -> None:
    images, shards = cohort(0)
    few = [row for row in images if row.split != "val" or row.patient in {"val0", "val1"}]
    assert {row.split for row in measure_drift(few, shards)} == {"test"}
