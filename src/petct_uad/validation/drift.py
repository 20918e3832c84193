"""Do the normals of validation and test come from where training's come from?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy.stats import ks_2samp

from petct_uad.core.holm import holm
from petct_uad.slices.tables import ImageRow
from petct_uad.validation.plain import plain_frame
from petct_uad.validation.tables import DriftRow, ShardRow

STATISTICS = (
    "body_area_mm2",
    "body_fraction",
    "ct_mean",
    "ct_mean_hu",
    "ct_std",
    "pet_mean",
    "pet_std",
    "suv_max",
    "suv_mean",
)
_FEWEST = 3  # patients of a split


def measure_drift(images: Sequence[ImageRow], shards: Sequence[ShardRow]) -> list[DriftRow]:
    """Two-sample Kolmogorov-Smirnov tests of each statistic, val and test against train.

    A sample is a patient: the mean over their normal slices. Slices of one patient are no
    independent samples, and a test on them would find drift wherever patients differ. P-values are
    exact where samples are small, and corrected after Holm over the whole table. With a dozen
    patients a side only distributions that hardly overlap differ significantly.
    """
    means = _patients(images, shards)
    found = []
    for statistic in STATISTICS:
        by_split = {split: part[statistic].dropna() for split, part in means.groupby("split")}
        reference = by_split.get("train", ())
        for split in ("val", "test"):
            sample = by_split.get(split, ())
            if min(len(reference), len(sample)) >= _FEWEST:
                test = ks_2samp(reference, sample)
                counts = (len(reference), len(sample))
                found.append((statistic, split, *counts, float(test.statistic), float(test.pvalue)))
    corrected = holm([p for *_, p in found])
    return sorted(DriftRow(*row, p) for row, p in zip(found, corrected, strict=True))


def _patients(images: Sequence[ImageRow], shards: Sequence[ShardRow]) -> pd.DataFrame:
    """One row per split and patient: means over the normal slices."""
    rows = plain_frame(images, ImageRow).merge(
        plain_frame(shards, ShardRow), on="slice_id", suffixes=("_indexed", ""), how="inner"
    )
    normal = rows[rows["label"] == 0]
    means = normal.groupby(["split", "patient"], sort=True)[list(STATISTICS)].mean()
    return means.reset_index()
