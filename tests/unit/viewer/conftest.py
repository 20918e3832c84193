"""A small study on disk: an ellipse with a hot and a warm lesion, and one scored row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.core.files import write_table
from petct_uad.evaluation.results import ResultPaths, measure, write_results
from petct_uad.evaluation.tables import RunIdentity
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.scoring.tables import RowIdentity, ScoredRow, SeedScores, StudyScores, write_study
from petct_uad.slices.tables import ImageRow, SliceRow
from petct_uad.viewer.study import ViewPaths
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import write_transform
from tests.samples import image_row
from tests.small_results import PARAMS

STUDY, SEED, SLICES, SIDE = "p-0a_1b", 7, 8, 32
SPACING_MM = (4.0, 4.0, 5.0)
SHAPE = (SLICES, 30, 50)
HOT, WARM = (2, 15, 15), (5, 12, 35)  # z, y, x
LEFT_OUT = 3  # a slice of the hot lesion that the split excludes
PREPROCESS = PreprocessParams(
    image_size_px=SIDE,
    roi_margin_mm=0.0,
    neighbours_mm=0.0,
    ct_low_hu=-1000.0,
    ct_high_hu=300.0,
    suv_high=5.0,
    bilateral_ct=False,
    bilateral_pet=False,
    bilateral_sigma_mm=2.0,
    bilateral_range_fraction=0.1,
    pictures="stretch",
)


@dataclass(frozen=True)
class Study:
    paths: ViewPaths

    def evaluate(self) -> None:
        """Write the results of its row, as the stage evaluate does when it opens the labels."""
        tested = [replace(row, patient=f"p{i % 2}") for i, row in enumerate(image_rows("test"))]
        maps = anomaly_maps()
        scores = SeedScores(
            SEED,
            val=np.linspace(0, 1, 20),
            test=maps.max((1, 2)).astype(np.float64),
            maps=maps,
            val_peaks=np.linspace(0, 1, 20, dtype=np.float32),
        )
        identity = RunIdentity(
            run="twin-petct", model="twin", modality="petct", dataset="tiny", protocol="patient"
        )
        lesions = (maps > 1) & (np.array([row.label for row in tested]) == 1)[:, None, None]
        results = measure(
            identity, seeds=[scores], test_rows=tested, params=PARAMS, lesions=lesions
        )
        write_results(ResultPaths.of(self.paths.metrics, "twin", "twin-petct"), results)


def kept() -> list[int]:
    return [z for z in range(SLICES) if z != LEFT_OUT]


def image_rows(split: str) -> list[ImageRow]:
    return [
        image_row(
            slice_id=f"{STUDY}_{z:04d}", study_id=STUDY, patient="p-0a", split=split,
            label=int(z in (1, 2, 5)), shard_row=row,
        )
        for row, z in enumerate(kept())
    ]  # fmt: skip


def slice_rows(split: str) -> list[SliceRow]:
    return [
        SliceRow(f"{STUDY}_{z:04d}", STUDY, "p-0a", "GE", z, 5.0 * z, z / 7, 0.0,
                 int(z in (1, 2, 3, 5)), split if z in kept() else "excluded", "stated")
        for z in range(SLICES)
    ]  # fmt: skip


def anomaly_maps() -> np.ndarray:
    """Of the kept slices (n, S, S): two peaks, of which only 4 and 2 exceed the normals' 1."""
    maps = np.zeros((len(kept()), SIDE, SIDE), np.float32)
    maps[kept().index(2), 7:16, 6:15] = 2.5  # around the first peak
    maps[kept().index(2), 10:13, 9:12] = 4.0
    maps[kept().index(5), 8:10, 20:23] = 2.0
    maps[kept().index(6), 20, 20] = 0.5
    return maps


def ball(centre: Sequence[int], slices: Sequence[int]) -> np.ndarray:
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    found = (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= 9
    found[[z for z in range(SLICES) if z not in slices]] = False
    return np.asarray(found)


def write_volume(path: Path, array: np.ndarray) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING_MM)
    image.SetOrigin((-98.0, -58.0, -300.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, path)


def build(root: Path, split: str) -> Study:
    interim, processed = root / "data/interim/tiny", root / "data/processed/tiny"
    paths = ViewPaths(interim, processed, root / "data/scores", root / "metrics")
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((y - 14.5) / 14) ** 2 + ((x - 24.5) / 24) ** 2 <= 1
    hot, warm = ball(HOT, (1, 2, LEFT_OUT)), ball(WARM, (5,))
    folder = paths.folder(STUDY)
    ct = np.where(y < 8, 150, 40)  # something denser in front
    write_volume(folder.ct, np.where(body, ct, -1000).astype(np.int16))
    pet = body * 1.0 + hot * 7.25 + warm * 3.0
    pet[HOT] += 1
    write_volume(folder.pet, pet.astype(np.float32))
    write_volume(folder.native / "label.nii.gz", (hot | warm).astype(np.uint8))
    write_volume(folder.body, body.astype(np.uint8))
    write_transform(folder.transform, RigidTransform())
    write_table(interim / "split/slices.csv", SliceRow, slice_rows(split))
    write_table(processed / "index.csv", ImageRow, image_rows(split))
    row = ScoredRow(
        paths.scores / "twin/twin-petct", RowIdentity(run="twin-petct", model="twin",
        modality="petct", image_size_px=SIDE), (SEED,),
    )  # fmt: skip
    row.folder.mkdir(parents=True)
    row.write()
    if split != "train":
        maps = anomaly_maps()
        scores = StudyScores(np.arange(len(maps)), maps.max((1, 2)).astype(np.float64), maps)
        row.file(SEED, STUDY).parent.mkdir()
        write_study(row.file(SEED, STUDY), scores)
    return Study(paths)


@pytest.fixture
def tested(tmp_path: Path) -> Study:
    """A study of the test split, scored and not yet evaluated."""
    return build(tmp_path, "test")


@pytest.fixture
def validating(tmp_path: Path) -> Study:
    """A study of the validation split, with its normal and its abnormal slices."""
    return build(tmp_path, "val")


@pytest.fixture
def trained(tmp_path: Path) -> Study:
    """A study of the training split."""
    return build(tmp_path, "train")
