"""Model input keeps shapes, scales and lesions, and says what it lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import read_table, sha256_file
from petct_uad.models.common.batch import Batch
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.preprocess.shards import write_shards
from petct_uad.registration.masks import body_mask
from petct_uad.slices.store import SliceStore, lesions_of, read_shard, write_index
from petct_uad.slices.tables import TRAINING, ImageRow, PinnedImageRow, SliceRow, shard_path
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import write_transform
from petct_uad.volumes.study import VolumeFolders

SPACING_MM = (2.0, 2.0, 5.0)
SLICES = 4


def preprocess_params(**changes: object) -> PreprocessParams:
    values = {
        "image_size_px": 64,
        "roi_margin_mm": 4.0,
        "neighbours_mm": 0.0,
        "ct_low_hu": -1000.0,
        "ct_high_hu": 1000.0,
        "suv_high": 10.0,
        "bilateral_ct": False,
        "bilateral_pet": False,
        "bilateral_sigma_mm": 2.0,
        "bilateral_range_fraction": 0.1,
        "pictures": "stretch",
    }
    return PreprocessParams.model_validate(values | changes)


def ellipse(semi_x_mm: float, semi_y_mm: float) -> np.ndarray:
    y, x = np.mgrid[-99:100:2, -149:150:2]
    return np.asarray((x / semi_x_mm) ** 2 + (y / semi_y_mm) ** 2 <= 1)


def write_volumes(folder: Path, study_id: str, *, couch: bool = True, noise_hu: float = 0) -> None:
    """A water ellipse of 240 x 120 mm on a couch, a lung, and a hot lesion of 20 mm."""
    body, lung, lesion = ellipse(120, 60), ellipse(30, 30), ellipse(10, 10)
    ct = np.where(body, 0.0, -1000.0)
    ct[lung & ~lesion] = -800
    if couch:
        ct[-6:-4, 20:130] = 200
    stack = np.repeat(ct[None], SLICES, axis=0)
    stack += np.random.default_rng(0).normal(0, noise_hu, stack.shape)
    pet = np.where(body, 1.0, 0.0) + np.where(lesion, 5.0, 0.0)
    label = np.repeat(lesion[None].astype(np.uint8), SLICES, axis=0)
    label[0] = 0
    arrays = {
        "ct": stack.astype(np.int16),
        "pet": np.repeat(pet[None], SLICES, axis=0).astype(np.float32),
        "label": label,
    }
    native, registered = folder / "ingest" / study_id, folder / "register" / study_id
    native.mkdir(parents=True, exist_ok=True)
    registered.mkdir(parents=True, exist_ok=True)
    write_transform(registered / "transform.json", RigidTransform())
    for name, array in arrays.items():
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(SPACING_MM)
        sitk.WriteImage(image, native / f"{name}.nii.gz")
        if name == "ct":
            sitk.WriteImage(body_mask(image, -300.0), registered / "body.nii.gz")


def folders(folder: Path) -> VolumeFolders:
    return VolumeFolders(folder / "ingest", folder / "register")


def slice_rows(study_id: str) -> list[SliceRow]:
    return [
        SliceRow(f"{study_id}_{i:04d}", study_id, study_id, "GE", i, 5.0 * i, i / 3,
                 316.0 * (i > 0), int(i > 0), "test", "stated")
        for i in range(SLICES)
    ]  # fmt: skip


def run(tmp_path: Path, **changes: object) -> tuple[list[ImageRow], Path]:
    write_volumes(tmp_path, "S")
    out = tmp_path / "out"
    rows = write_shards(
        slice_rows("S"), folders(tmp_path), out, preprocess_params(**changes)
    ).images
    return rows, out


def test_body_fills_the_square_with_its_aspect_kept(tmp_path: Path) -> None:
    _, out = run(tmp_path)
    body = read_shard(shard_path(out, "S")).body[1] > 0
    width, height = np.ptp(np.where(body)[1]) + 1, np.ptp(np.where(body)[0]) + 1
    assert width / height == pytest.approx(2.0, abs=0.1)
    assert width == pytest.approx(64 * 240 / 248, abs=2)


def test_couch_and_air_are_gone_and_windows_map_to_unit_range(tmp_path: Path) -> None:
    _, out = run(tmp_path)
    shard = read_shard(shard_path(out, "S"))
    assert shard.ct.min() == 0
    assert shard.ct[shard.body > 0].max() == pytest.approx(0.5, abs=0.01)
    assert not shard.ct[:, -5:].any()
    assert shard.pet[0].max() == pytest.approx(0.6, abs=0.02)


def test_lesion_lands_where_the_uptake_is(tmp_path: Path) -> None:
    _, out = run(tmp_path)
    shard = read_shard(shard_path(out, "S"))
    inside, outside = shard.lesion[1] > 0, (shard.lesion[1] == 0) & (shard.body[1] > 0)
    assert shard.pet[1][inside].mean() > 4 * shard.pet[1][outside].mean()
    assert not shard.lesion[0].any()


def test_index_measures_the_slice_at_full_resolution(tmp_path: Path) -> None:
    rows, _ = run(tmp_path)
    assert rows[1].suv_max == pytest.approx(6.0)
    assert rows[1].body_area_mm2 == pytest.approx(np.pi * 120 * 60, rel=0.02)
    assert rows[1].lesion_kept_fraction == 1.0
    assert rows[1].ct_std > 0


def test_index_gives_means_over_the_body_and_not_over_the_square(tmp_path: Path) -> None:
    rows, _ = run(tmp_path)
    body, lung, lesion = 120 * 60, 30 * 30, 10 * 10  # semi-axes: areas over pi
    assert rows[1].suv_mean == pytest.approx(1 + 5 * lesion / body, rel=0.01)
    assert rows[1].ct_mean_hu == pytest.approx(-800 * (lung - lesion) / body, rel=0.02)


@pytest.mark.parametrize(("low_hu", "high_hu"), [(-1000.0, 1000.0), (-900.0, 100.0), (-500.0, 0.0)])
def test_the_ct_window_is_the_one_that_was_asked_for(
    tmp_path: Path, low_hu: float, high_hu: float
) -> None:
    _, out = run(tmp_path, ct_low_hu=low_hu, ct_high_hu=high_hu)
    ct = read_shard(shard_path(out, "S")).ct[1]
    lung, water = ct[32, 36], ct[32, 50]
    assert lung == pytest.approx(max(0.0, (-800 - low_hu) / (high_hu - low_hu)), abs=0.005)
    assert water == pytest.approx((0 - low_hu) / (high_hu - low_hu), abs=0.005)


def test_the_body_lies_in_the_middle_of_the_square(tmp_path: Path) -> None:
    """What is symmetrical stays so: the square is not off by a part of a pixel."""
    _, out = run(tmp_path)
    pet = read_shard(shard_path(out, "S")).pet[1].astype(float)
    assert pet[:, ::-1] == pytest.approx(pet, abs=0.005)
    assert pet[::-1] == pytest.approx(pet, abs=0.005)


def test_activity_in_the_body_is_kept(tmp_path: Path) -> None:
    rows, _ = run(tmp_path, image_size_px=128)
    assert len({row.suv_total_ratio for row in rows}) == 1
    assert rows[0].suv_total_ratio == pytest.approx(1.0, abs=0.02)


def test_a_body_that_was_not_found_over_a_lesion_shows_in_the_index(tmp_path: Path) -> None:
    write_volumes(tmp_path, "S")
    path = folders(tmp_path).study("S").body
    body = sitk.ReadImage(path)
    body[70:75, 45:55, :] = 0  # the left half of the lesion
    sitk.WriteImage(body, path)
    rows = write_shards(
        slice_rows("S"), folders(tmp_path), tmp_path / "o", preprocess_params()
    ).images
    assert rows[1].lesion_kept_fraction == pytest.approx(0.5, abs=0.1)


def test_a_study_without_label_has_no_lesion(tmp_path: Path) -> None:
    write_volumes(tmp_path, "S")
    (tmp_path / "ingest/S/label.nii.gz").unlink()
    out = tmp_path / "out"
    rows = write_shards(slice_rows("S"), folders(tmp_path), out, preprocess_params()).images
    assert not read_shard(shard_path(out, "S")).lesion.any()
    assert {row.lesion_kept_fraction for row in rows} == {1.0}


def test_what_register_did_not_make_is_refused_by_name(tmp_path: Path) -> None:
    def attempt() -> None:
        write_shards(slice_rows("S"), folders(tmp_path), tmp_path / "o", preprocess_params())

    write_volumes(tmp_path, "S")
    body = folders(tmp_path).study("S").body
    sitk.WriteImage(sitk.ReadImage(body) * 0, body)
    with pytest.raises(DatasetError, match=r"S: .* holds no body; lower register\.body_threshold"):
        attempt()
    body.unlink()
    with pytest.raises(DatasetError, match=r"body\.nii\.gz cannot be read"):
        attempt()


def test_excluded_slices_stay_out_and_rows_point_to_their_own_pixels(tmp_path: Path) -> None:
    write_volumes(tmp_path, "S")
    slices = slice_rows("S")
    slices[1] = replace(slices[1], split="excluded")
    rows = write_shards(slices, folders(tmp_path), tmp_path / "out", preprocess_params()).images
    assert [row.slice_id for row in rows] == ["S_0000", "S_0002", "S_0003"]
    write_index(tmp_path / "out", rows)
    store = SliceStore.open(tmp_path / "out", "test")
    lesions = lesions_of(tmp_path / "out", store.rows)[range(3)]
    assert [bool(mask.any()) for mask in lesions] == [False, True, True]
    assert Batch.of(store, [2, 0]).slice_ids == ("S_0003", "S_0000")


def test_index_gives_each_shard_its_hash_and_training_names_those_that_train(
    tmp_path: Path,
) -> None:
    rows, out = run(tmp_path)
    assert write_index(out, rows) == {"S": sha256_file(shard_path(out, "S"))}
    assert not read_table(out / TRAINING, PinnedImageRow)
    sha256 = write_index(out, [replace(row, split="train") for row in rows])
    pinned = read_table(out / TRAINING, PinnedImageRow)
    assert [row.shard_sha256 for row in pinned] == [sha256["S"]] * SLICES


def test_bilateral_filter_removes_noise_and_keeps_edges(tmp_path: Path) -> None:
    def flat_and_edge(**changes: object) -> tuple[float, float]:
        write_volumes(tmp_path, "S", noise_hu=20)
        out = tmp_path / "out"
        write_shards(slice_rows("S"), folders(tmp_path), out, preprocess_params(**changes))
        ct = read_shard(shard_path(out, "S")).ct[1].astype(float)
        return ct[30:34, 50:56].std(), float(np.abs(np.diff(ct[32])).max())

    noise, edge = flat_and_edge()
    filtered_noise, filtered_edge = flat_and_edge(bilateral_ct=True)
    assert filtered_noise < 0.7 * noise
    assert filtered_edge > 0.9 * edge


@pytest.mark.parametrize("filtered", ["ct", "pet"])
def test_each_modality_is_filtered_by_its_own_switch(tmp_path: Path, filtered: str) -> None:
    _, plain = run(tmp_path / "plain")
    _, smoothed = run(tmp_path / "smoothed", **{f"bilateral_{filtered}": True})
    before, after = (read_shard(shard_path(out, "S")) for out in (plain, smoothed))
    changed = {name for name in ("ct", "pet")
               if not np.array_equal(getattr(before, name), getattr(after, name))}  # fmt: skip
    assert changed == {filtered}


def test_same_input_gives_the_same_shard_bytes(tmp_path: Path) -> None:
    _, first = run(tmp_path / "1", bilateral_ct=True)
    _, second = run(tmp_path / "2", bilateral_ct=True)
    assert shard_path(first, "S").read_bytes() == shard_path(second, "S").read_bytes()
