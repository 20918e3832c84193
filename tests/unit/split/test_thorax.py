"""The thorax is where the lungs are, and no slice beyond it is assigned to a split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.core.errors import SplitError
from petct_uad.core.files import read_table, write_table
from petct_uad.ingest.tables import StudyRow
from petct_uad.slices.tables import RegionRow, SliceRow
from petct_uad.split.run import split_dataset
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import write_transform
from tests.samples import study_row
from tests.unit.split.test_labels import split_params

# A trunk of 600 mm whose lungs reach from 200 to 440 mm: (x, y, z) in mm, soft tissue at 40 HU.
SPACING_MM = (4.0, 4.0, 5.0)
SIZE = (80, 60, 120)
BASE_MM, APEX_MM = 200.0, 440.0
MARGIN_MM, TOLERANCE_MM = 10.0, 10.0
RECESS_HU = (-840.0 + 2 * 50.0) / 3  # lung beside liver
PATIENTS = ("P1", "P2", "P3")
PARAMS = split_params(train_fraction=0.34, val_fraction=0.33)


@dataclass(frozen=True)
class Trunk:
    """What is in a synthetic CT."""

    lungs: bool = True
    airway: bool = True  # from the middle of the lungs to the top of the stack, open to both
    bowel_ml: float = 500.0  # of gas, below the lungs
    feet_first: bool = True
    open_mm: float = 0.0  # how far up from the base the body of register lacks a piece of wall
    recess_mm: float = 0.0  # how far a rim of lung, a third of each pixel, reaches below the rest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interim folder of a data set, below the working directory as in a repository."""
    monkeypatch.chdir(tmp_path)
    return Path("interim")


def _ct(trunk: Trunk) -> np.ndarray:
    """HU (z, y, x), with noise, and nothing of a scanner else."""
    axes = [np.arange(count) * step for count, step in zip(SIZE, SPACING_MM, strict=True)]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    x, y = x - 158.0, y - 118.0
    hu = np.where((x / 150) ** 2 + (y / 105) ** 2 < 1, 40.0, -1000.0)
    if trunk.lungs:
        middle, half = (BASE_MM + APEX_MM) / 2, (APEX_MM - BASE_MM) / 2
        for side in (-75.0, 75.0):
            inside = ((x - side) / 55) ** 2 + (y / 75) ** 2 + ((z - middle) / half) ** 2 < 1
            hu[inside] = -840.0
    if trunk.airway:
        hu[(x**2 + (y - 5) ** 2 < 9**2) & (z > 330)] = -1000.0
        hu[((y - 5) ** 2 + (z - 330) ** 2 < 7**2) & (np.abs(x) < 60)] = -1000.0
    radius = (trunk.bowel_ml * 1000 * 3 / 4 / np.pi) ** (1 / 3)
    hu[x**2 + y**2 + (z - 80) ** 2 < radius**2] = -1000.0
    if trunk.recess_mm:
        rim = (np.abs(np.abs(x) - 75) < 12) & (np.abs(y - 40) < 5) & (z < BASE_MM + 30)
        hu[rim & (z >= BASE_MM - trunk.recess_mm)] = RECESS_HU
    noise = np.random.default_rng(0).normal(0, 12, hu.shape)
    return np.asarray(hu + noise)


def _write(folder: Path, patient: str, trunk: Trunk, lesion_at: int | None = None) -> StudyRow:
    row = study_row(
        study_id=f"{patient}_x",
        patient=patient,
        label_kind="seg",
        label_series_instance_uid="3",
        ct_slices=SIZE[2],
    )
    hu = _ct(trunk)
    tissue = hu > -300
    wall = slice(round(BASE_MM / SPACING_MM[2]), round((BASE_MM + trunk.open_mm) / SPACING_MM[2]))
    for side in (18, 58):  # columns in front of either lung
        tissue[wall, 30:, side : side + 5] = False
    body = np.asarray(sitk.GetArrayFromImage(_filled(tissue)))
    lesion = np.zeros(hu.shape, np.uint8)
    if lesion_at is not None:
        lesion[lesion_at, 30:34, 40:44] = 1
    native = folder / "ingest/volumes" / row.study_id
    registered = folder / "register/volumes" / row.study_id
    for path, array in (
        (native / "ct.nii.gz", np.clip(hu, -1024, 3071).astype(np.int16)),
        (native / "label.nii.gz", lesion),
        (registered / "body.nii.gz", body.astype(np.uint8)),
    ):
        image = sitk.GetImageFromArray(array if trunk.feet_first else array[::-1])
        image.SetSpacing(SPACING_MM)
        if not trunk.feet_first:
            image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, -1))
            image.SetOrigin((0, 0, SPACING_MM[2] * (SIZE[2] - 1)))
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, path)
    write_transform(registered / "transform.json", RigidTransform())
    return row


def _filled(mask: np.ndarray) -> sitk.Image:
    planes = [sitk.BinaryFillhole(sitk.GetImageFromArray(p.astype(np.uint8))) for p in mask]
    return sitk.JoinSeries(planes)


def _split(folder: Path, rows: list[StudyRow]) -> tuple[list[SliceRow], list[RegionRow]]:
    write_table(folder / "ingest/studies.csv", StudyRow, rows)
    split_dataset(folder, PARAMS, "thorax")
    return (
        read_table(folder / "split/slices.csv", SliceRow),
        read_table(folder / "split/regions.csv", RegionRow),
    )


@pytest.mark.parametrize(
    "trunk",
    [
        Trunk(),
        Trunk(airway=False),
        Trunk(bowel_ml=1800.0),
        Trunk(feet_first=False),
    ],
    ids=["airway", "no airway", "much gas", "head first"],
)
def test_range_is_the_lungs_whatever_else_holds_gas(home: Path, trunk: Trunk) -> None:
    rows = [_write(home, patient, trunk) for patient in PATIENTS]
    slices, regions = _split(home, rows)
    for region in regions:
        assert region.found
        assert region.base_mm == pytest.approx(BASE_MM, abs=TOLERANCE_MM)
        assert region.apex_mm == pytest.approx(APEX_MM, abs=TOLERANCE_MM)
    for row in slices:
        inside = BASE_MM < row.z_mm < APEX_MM
        beyond = not BASE_MM - 20 < row.z_mm < APEX_MM + 20
        assert not (inside and "thorax" in row.reason)
        assert not (beyond and row.split != "excluded")


def test_thin_rim_of_lung_beside_the_liver_is_followed_to_its_end(home: Path) -> None:
    rows = [_write(home, patient, Trunk(recess_mm=30.0)) for patient in PATIENTS]
    _, regions = _split(home, rows)
    for region in regions:
        assert region.base_mm == pytest.approx(BASE_MM - 30.0, abs=TOLERANCE_MM)


def test_lung_behind_a_chest_wall_that_the_body_lacks_is_lung(home: Path) -> None:
    rows = [_write(home, patient, Trunk(open_mm=60.0)) for patient in PATIENTS]
    _, regions = _split(home, rows)
    for region in regions:
        assert region.base_mm == pytest.approx(BASE_MM, abs=TOLERANCE_MM)


def test_no_slice_is_lost_without_its_reason(home: Path) -> None:
    rows = [_write(home, patient, Trunk(), lesion_at=10) for patient in PATIENTS]
    slices, regions = _split(home, rows)
    assert len(slices) == len(PATIENTS) * SIZE[2]
    reasons = {row.reason for row in slices if row.split == "excluded"}
    assert reasons == {
        "outside the thorax, below the lungs",
        "outside the thorax, above the lungs",
    }
    for region in regions:
        assert region.slices + region.slices_outside == SIZE[2]
        assert region.lesion_slices_outside == 1  # is said, since it goes no further


def test_a_study_without_lungs_is_left_out_and_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [_write(home, patient, Trunk()) for patient in PATIENTS]
    rows.append(_write(home, "P4", Trunk(lungs=False, airway=False, bowel_ml=900.0)))
    slices, regions = _split(home, rows)
    lost = [row for row in slices if row.study_id == "P4_x"]
    assert {(row.split, row.reason) for row in lost} == {("excluded", "no lungs found in the CT")}
    assert [region.study_id for region in regions if not region.found] == ["P4_x"]
    assert "P4_x" in "".join(capsys.readouterr())
    # The others are assigned as if it were not there.
    assert {row.split for row in slices if row.study_id != "P4_x"} >= {"train", "val", "test"}


def test_where_no_ct_shows_lungs_the_stage_stops_and_says_which(home: Path) -> None:
    trunk = Trunk(lungs=False, airway=False)
    rows = [_write(home, patient, trunk) for patient in PATIENTS]
    with pytest.raises(SplitError, match=r"no CT shows lungs \(P1_x, P2_x, P3_x\)"):
        _split(home, rows)


def test_every_study_has_a_figure_and_two_runs_give_the_same_bytes(home: Path) -> None:
    rows = [_write(home, patient, Trunk()) for patient in PATIENTS]
    runs = []
    for _ in range(2):
        _split(home, rows)
        files = sorted(path for path in (home / "split").rglob("*") if path.is_file())
        runs.append({path.name: path.read_bytes() for path in files})
    assert runs[0] == runs[1]
    assert {f"{row.study_id}.png" for row in rows} <= set(runs[0])


def test_all_slices_count_by_default_and_no_region_is_written(home: Path) -> None:
    rows = [_write(home, patient, Trunk()) for patient in PATIENTS]
    write_table(home / "ingest/studies.csv", StudyRow, rows)
    split_dataset(home, PARAMS)
    assert [path.name for path in (home / "split").iterdir()] == ["slices.csv"]
    assert not any(
        "thorax" in row.reason for row in read_table(home / "split/slices.csv", SliceRow)
    )
